"""Texts that mean something."""

from datetime import UTC, datetime

import pytest

from reconciler.documents.formats import duration, instant, is_cron, looks_secret, url_problem
from reconciler.errors import Blocked
from reconciler.model.references import SecretRef
from reconciler.secrets.vault.client import checked_address
from tests.support.canaries import canaries


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        *(("10s", 10.0), ("1m30s", 90.0), ("250ms", 0.25), ("24h", 86400.0), ("1d12h", 129600.0)),
        *(("5m", 300.0), ("5ms", 0.005), ("0s", 0.0), ("1h1ms", 3600.001)),
        *((bad, None) for bad in ("", "10", "s", "1s1m", "1.5h", "-1s", "1 s", "1S", "1s\n", "1w")),
        ("9999999s", None),
    ],
)
def test_durations(text: str, seconds: float | None) -> None:
    assert duration(text) == seconds


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("2026-11-22T09:30:00Z", datetime(2026, 11, 22, 9, 30, tzinfo=UTC)),
        ("2026-11-22T18:30:00+09:00", datetime(2026, 11, 22, 9, 30, tzinfo=UTC)),
        ("2026-11-22T09:30:00.25Z", datetime(2026, 11, 22, 9, 30, 0, 250000, tzinfo=UTC)),
        ("2024-02-29T00:00:00Z", datetime(2024, 2, 29, tzinfo=UTC)),
        *((bad, None) for bad in ("2026-11-22", "2026-11-22T09:30:00", "2026-11-22 09:30:00Z")),
        *((bad, None) for bad in ("2026-02-29T00:00:00Z", "2026-11-22T24:00:00Z", "now", "")),
        *((bad, None) for bad in ("2026-11-22T09:30:00+25:00", "2026-11-22T09:30:00Z\n")),
        ("1026-11-22T09:30:00Z", None),
    ],
)
def test_instants(text: str, meant: datetime | None) -> None:
    assert instant(text) == meant


@pytest.mark.parametrize("text", ["* * * * *", "0 9 * * 1-5", "*/5 0,12 1-31/2 JAN sun"])
def test_schedules(text: str) -> None:
    assert is_cron(text)


@pytest.mark.parametrize(
    "text",
    [
        *("", "* * * *", "* * * * * *", "60 * * * *", "* 24 * * *", "* * 0 * *", "* * * 13 *"),
        *(
            "* * * * 8",
            "*/0 * * * *",
            "5-1 * * * *",
            "a * * * *",
            "*  * * * *",
            "@daily",
            "1/5 * * * *",
        ),
        *("*-5 * * * *", ", * * * *", "1, * * * *", "* * * * *\n"),
    ],
)
def test_no_schedules(text: str) -> None:
    assert not is_cron(text)


def test_a_url_problem_never_repeats_the_url() -> None:
    for text in (
        "https://alice:QwErTy12@a.test",
        "https://a.test?QwErTy12",
        "QwErTy12",
        "http://[Q",
    ):
        problem = url_problem(text)
        assert problem is not None
        assert "QwErTy12" not in " ".join(problem)


@pytest.mark.parametrize(
    "text",
    [
        *("http://127.0.0.1[::1]:18066", "https://a.test[::1]", "https://[::1]b.test"),
        *("https://a.test:0443", "https://a.test:+443", "https://a.test:4_43", "https:/a.test"),
        *("https:///a.test", "https://[::1", "https://a.test:+1"),
    ],
)
def test_a_url_that_leads_elsewhere_than_it_reads_is_refused(text: str) -> None:
    assert url_problem(text) is not None
    with pytest.raises(Blocked):
        checked_address(text)


@pytest.mark.parametrize("text", ["https://a.test", "https://A.test:8443/x", "https://[::1]:1/"])
def test_a_url_that_reads_as_it_leads_is_taken(text: str) -> None:
    assert url_problem(text) is None


def test_a_secret_has_one_spelling() -> None:
    assert SecretRef.parse("vault:secret//jt/tokyo-1") is None
    assert SecretRef.parse("vault:secret/jt/tokyo-1") is not None
    assert str(SecretRef.parse("vault:team/kv//jt/tokyo-1")) == "vault:team/kv//jt/tokyo-1"


@pytest.mark.parametrize("seed", range(30))
def test_random_keys_look_like_secrets(seed: int) -> None:
    random = {"hex", "hex-upper", "base62", "base62-long", "base64-64", "pem", "long", "uuid"}
    for canary in canaries(seed):
        if canary.shape in random:
            assert looks_secret(canary.value), canary.shape


@pytest.mark.parametrize(
    "text",
    [
        *(
            "new okx secret under the same API key",
            "CHG-2026-11-22/42",
            "desk-asia",
            "bybit-testnet",
        ),
        "revert 3f2a9c0d4b5e6f708192a3b4c5d6e7f801234567",
        "MainProcessExceptionHandler2 stopped invalidatedAfterRestartOfRobots2026",
        "https://wiki.example.test/pages/Trading2026/How-To-Rotate-Keys",
        "Donaudampfschifffahrtsgesellschaft",
    ],
)
def test_words_of_people_do_not(text: str) -> None:
    assert not looks_secret(text)
