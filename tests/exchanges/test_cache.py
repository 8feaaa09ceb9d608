"""What is remembered of exchanges' answers: facts, for as long as they are worth it, in private."""

import json
import os
import stat
from datetime import UTC, datetime, timedelta
from ipaddress import ip_network
from pathlib import Path

import pytest

from reconciler.exchanges.cache import AuditCache, Slot, good_until
from reconciler.model.key_facts import (
    TRANSIENT,
    Access,
    Answered,
    Cap,
    Environment,
    Grant,
    GrantEvidence,
    IpRule,
    KeyFacts,
    Status,
)
from reconciler.model.values import replace

NOW = datetime(2026, 11, 22, 9, 0, tzinfo=UTC)
SLOT = Slot("f" * 64, Environment.LIVE, "here", "bybit", 1)
FACTS = KeyFacts(
    grants=(
        Grant("Spot.SpotTrade", frozenset({Cap.SPOT})),
        Grant("trade", frozenset({Cap.OPTION, Cap.SPOT}), Access.READ, False, GrantEvidence.PROBED),
    ),
    ip=IpRule(
        True,
        (ip_network("203.0.113.10/32"), ip_network("2001:db8::/64")),
        listed=True,
        offered=False,
    ),
    unproven=frozenset({Cap.WITHDRAW, Cap.EARN}),
    read_only=False,
    created_at=NOW - timedelta(days=10),
    expires_at=NOW + timedelta(days=80, microseconds=5),
    never_expires=False,
    environment=Environment.LIVE,
    master=True,
    owner=None,
    same_key=True,
    frozen="",
    traits={"tier": "2"},
)


def answered(
    status: Status = Status.VALID, facts: KeyFacts | None = None, at: datetime = NOW, code: str = ""
) -> Answered:
    return Answered(status, at, facts, code, adapter="bybit", adapter_version=1, egress="here")


def kept(path: Path, *entries: tuple[Slot, Answered, bool], now: datetime = NOW) -> AuditCache:
    """Remember *entries* through the file, and return what another process sees of it."""
    writer = AuditCache(str(path))
    for slot, one, at_server in entries:
        writer.put(slot, one, at_server=at_server)
    writer.save(now)
    assert writer.trouble == ""
    return AuditCache(str(path))


@pytest.mark.parametrize("facts", [FACTS, KeyFacts(), None], ids=["all", "nothing told", "none"])
def test_what_was_answered_comes_back_whole(tmp_path: Path, facts: KeyFacts | None) -> None:
    given = answered(facts=facts)

    assert kept(tmp_path / "deep" / "audit.json", (SLOT, given, False)).find(SLOT, NOW) == given


def test_a_file_of_an_earlier_version_is_read_and_still_written_byte_for_byte(
    tmp_path: Path,
) -> None:
    stored = Path(__file__).with_name("stored_cache.json").read_bytes()
    path = tmp_path / "a.json"
    path.touch(0o600)
    path.write_bytes(stored)
    there = Slot("e" * 64, Environment.TEST, "socks5h://127.0.0.1:1080", "okx", 2)
    refused = Answered(Status.REJECTED, NOW, None, "50113", "okx", 2, there.egress)
    silent = replace(SLOT, fingerprint="d" * 64)
    cache = AuditCache(str(path))

    assert cache.trouble == ""
    assert cache.find(SLOT, NOW) == cache.from_server(SLOT, NOW) == answered(facts=FACTS)
    assert cache.find(there, NOW) == refused
    assert cache.find(silent, NOW) == answered(facts=KeyFacts())
    assert cache.from_server(silent, NOW) is None
    path.unlink()
    kept(
        path,
        (SLOT, answered(facts=FACTS), True),
        (there, refused, False),
        (silent, answered(facts=KeyFacts()), False),
    )
    assert path.read_bytes() == stored


def test_the_file_is_private_and_holds_no_verdict(tmp_path: Path) -> None:
    path = tmp_path / "audit.json"
    kept(path, (SLOT, answered(facts=FACTS), True))

    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert list(tmp_path.iterdir()) == [path]
    (entry,) = json.loads(path.read_text())["entries"]
    assert set(entry) == {
        *("fingerprint", "environment", "egress", "adapter", "version"),
        *("fromServer", "at", "status", "code", "facts"),
    }


@pytest.mark.parametrize(
    ("given", "lifetime"),
    [
        (answered(facts=KeyFacts()), timedelta(hours=24)),
        (answered(facts=FACTS), timedelta(hours=24)),
        (
            answered(facts=KeyFacts(expires_at=NOW + timedelta(days=30, hours=5))),
            timedelta(hours=5),
        ),
        (answered(facts=KeyFacts(expires_at=NOW + timedelta(days=29))), None),
        (answered(facts=KeyFacts(expires_at=NOW - timedelta(days=1))), None),
        (answered(facts=KeyFacts(expires_at=datetime(1, 1, 1, tzinfo=UTC))), None),
        (answered(Status.REJECTED, code="10003"), timedelta(hours=1)),
        (answered(Status.IP_REFUSED, code="10010"), timedelta(hours=1)),
        (answered(Status.DENIED), timedelta(hours=1)),
        *((answered(status), None) for status in sorted(TRANSIENT)),
        (answered(Status.UNSUPPORTED), None),
    ],
    ids=lambda value: value.status if isinstance(value, Answered) else "",
)
def test_how_long_an_answer_stands(
    tmp_path: Path, given: Answered, lifetime: timedelta | None
) -> None:
    cache = kept(tmp_path / "a.json", (SLOT, given, False))

    assert good_until(given) == (None if lifetime is None else NOW + lifetime)
    if lifetime is None:
        assert cache.find(SLOT, NOW) is None
    else:
        assert cache.find(SLOT, NOW + lifetime - timedelta(seconds=1)) == given
        assert cache.find(SLOT, NOW + lifetime) is None


@pytest.mark.parametrize(
    "other",
    [
        Slot("e" * 64, Environment.LIVE, "here", "bybit", 1),
        Slot("f" * 64, Environment.TEST, "here", "bybit", 1),
        Slot("f" * 64, Environment.LIVE, "socks5h://127.0.0.1:1080", "bybit", 1),
        Slot("f" * 64, Environment.LIVE, "here", "okx", 1),
        Slot("f" * 64, Environment.LIVE, "here", "bybit", 2),
    ],
    ids=["key", "environment", "egress", "adapter", "version"],
)
def test_an_answer_is_for_its_own_slot_only(tmp_path: Path, other: Slot) -> None:
    cache = kept(tmp_path / "a.json", (SLOT, answered(facts=FACTS), False))

    assert cache.find(SLOT, NOW) is not None
    assert cache.find(other, NOW) is None


def test_trouble_on_the_way_leaves_alone_what_was_known(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    known = answered(facts=FACTS)
    kept(path, (SLOT, known, False))
    later = kept(path, (SLOT, answered(Status.UNREACHABLE, at=NOW), False))

    assert later.find(SLOT, NOW) == known


def test_facts_from_the_servers_own_address_last_for_a_week(tmp_path: Path) -> None:
    there = Slot(SLOT.fingerprint, SLOT.environment, "socks5h://127.0.0.1:1080", "bybit", 1)
    facts = answered(facts=FACTS)
    refused = answered(Status.IP_REFUSED, at=NOW + timedelta(days=6))
    path = tmp_path / "a.json"
    kept(path, (there, facts, True))
    cache = kept(path, (SLOT, refused, False), now=NOW + timedelta(days=6))

    found = cache.from_server(SLOT, NOW + timedelta(days=7) - timedelta(seconds=1))
    assert found is not None
    assert found.facts == FACTS
    assert cache.from_server(SLOT, NOW + timedelta(days=7)) is None


@pytest.mark.parametrize(
    ("given", "at_server", "slot"),
    [
        (answered(facts=FACTS), False, SLOT),
        (answered(Status.REJECTED), True, SLOT),
        (answered(facts=FACTS), True, Slot("e" * 64, Environment.LIVE, "x", "bybit", 1)),
        (answered(facts=FACTS), True, Slot("f" * 64, Environment.TEST, "x", "bybit", 1)),
        (answered(facts=FACTS), True, Slot("f" * 64, Environment.LIVE, "x", "bybit", 2)),
        (answered(facts=FACTS, at=NOW + timedelta(hours=1)), True, SLOT),
    ],
    ids=["asked elsewhere", "no facts", "another key", "environment", "version", "future"],
)
def test_what_are_no_facts_from_the_servers_address(
    tmp_path: Path, given: Answered, slot: Slot, *, at_server: bool
) -> None:
    cache = kept(tmp_path / "a.json", (slot, given, at_server))

    assert cache.from_server(SLOT, NOW) is None


def test_the_newest_facts_count(tmp_path: Path) -> None:
    def through(proxy: str) -> Slot:
        return Slot(SLOT.fingerprint, SLOT.environment, proxy, "bybit", 1)

    older = answered(facts=KeyFacts(), at=NOW - timedelta(days=2))
    newer = answered(facts=FACTS, at=NOW - timedelta(days=1))
    cache = kept(tmp_path / "a.json", (through("b"), newer, True), (through("a"), older, True))

    found = cache.from_server(SLOT, NOW)
    assert found is not None
    assert found.at == newer.at


def test_what_nobody_would_use_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    other = Slot("e" * 64, Environment.LIVE, "here", "bybit", 1)
    kept(path, (other, answered(at=NOW - timedelta(days=8)), True))
    kept(path, (SLOT, answered(), False))

    assert len(json.loads(path.read_text())["entries"]) == 1


def test_two_processes_do_not_lose_each_others_answers(tmp_path: Path) -> None:
    path = str(tmp_path / "a.json")
    other = Slot("e" * 64, Environment.LIVE, "here", "bybit", 1)
    first, second = AuditCache(path), AuditCache(path)
    first.put(SLOT, answered(), at_server=False)
    second.put(other, answered(), at_server=False)
    first.save(NOW)
    second.save(NOW)

    third = AuditCache(path)
    assert third.find(SLOT, NOW) is not None
    assert third.find(other, NOW) is not None


@pytest.mark.parametrize("mode", [0o644, 0o620, 0o602])
def test_a_file_that_others_could_have_written_is_not_believed(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "a.json"
    kept(path, (SLOT, answered(), False))
    path.chmod(mode)
    cache = AuditCache(str(path))

    assert cache.find(SLOT, NOW) is None
    assert "others could have written it" in cache.trouble


def test_a_link_and_a_pipe_are_not_followed(tmp_path: Path) -> None:
    kept(tmp_path / "real.json", (SLOT, answered(), False))
    (tmp_path / "link.json").symlink_to(tmp_path / "real.json")
    os.mkfifo(tmp_path / "pipe.json", 0o600)

    for name in ("link.json", "pipe.json"):
        cache = AuditCache(str(tmp_path / name))
        assert cache.find(SLOT, NOW) is None
        assert name in cache.trouble


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", '{"formatVersion": 2, "entries": []}', '{"formatVersion": 1}', "[" * 100_000],
    ids=["empty", "cut", "list", "another version", "no entries", "deep"],
)
def test_anything_else_is_begun_anew(tmp_path: Path, text: str) -> None:
    path = tmp_path / "a.json"
    path.touch(0o600)
    path.write_text(text)
    cache = AuditCache(str(path))

    assert "begun anew" in cache.trouble
    assert kept_again(cache, path).find(SLOT, NOW) == answered()


def kept_again(cache: AuditCache, path: Path) -> AuditCache:
    cache.put(SLOT, answered(), at_server=False)
    cache.save(NOW)
    return AuditCache(str(path))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("at", "2026-11-22T09:00:00"),
        ("at", 5),
        ("status", "excellent"),
        ("environment", None),
        ("version", None),
        ("facts", []),
        ("facts", {}),
        ("fingerprint", ["x"]),
    ],
)
def test_an_entry_that_nobody_understands_costs_one_question(
    tmp_path: Path, key: str, value: object
) -> None:
    path = tmp_path / "a.json"
    other = Slot("e" * 64, Environment.LIVE, "here", "bybit", 1)
    kept(path, (SLOT, answered(facts=FACTS), False), (other, answered(facts=FACTS), False))
    document = json.loads(path.read_text())
    document["entries"][0][key] = value
    path.write_text(json.dumps(document))
    cache = AuditCache(str(path))

    assert cache.find(SLOT, NOW) is None
    assert cache.find(other, NOW) is not None


def test_where_nothing_can_be_written_that_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    cache = AuditCache(str(tmp_path / "file" / "a.json"))
    cache.put(SLOT, answered(), at_server=False)
    cache.save(NOW)

    assert "cannot be" in cache.trouble
