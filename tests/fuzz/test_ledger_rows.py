"""
Ledger rows with anything in them: the pass says which row it does not understand, or goes on.

Whoever can write to the ledger cannot make a pass crash, nor one that reads it by the way.
"""

import json
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any, Final

import pytest
from hypothesis import strategies as st

from reconciler.errors import Exit, InternalError, JtrError
from reconciler.ledger import Stored
from reconciler.ledger.ledger import Ledger
from reconciler.ledger.stores.memory import MemoryStore
from reconciler.model.observed import Robot
from reconciler.model.plan import Plan
from reconciler.model.target import Target
from reconciler.render.ledger import Moment, recorded_rows
from reconciler.render.plan_json import RENDERER as AS_JSON
from reconciler.render.plan_text import RENDERER as AS_TEXT
from reconciler.render.requests import (
    Listed,
    deed_row,
    history,
    requests_document,
    requests_text,
)
from reconciler.system.timeouts import Timeouts
from reconciler.testing.state import ServerState, State, apply, plan
from tests.fuzz.bounds import assert_silent, attack, examples
from tests.fuzz.damage import as_json, damaged, torn
from tests.ledger.codec.test_stored import STORED, text_of

NOW: Final = datetime(2026, 11, 22, 9, tzinfo=UTC)
URL: Final = "https://a.test"
DOCUMENT: Final = f"""
apiVersion: jtr/v1
kind: TradingServer
metadata: {{name: tokyo-1}}
spec:
  url: {URL}
  accessSecret: vault:secret/jt/a#access_secret
  supervised: true
  robots: {{onCredentialChange: restart}}
  exchanges:
    bybit: {{credentials: vault:secret/jt/a/bybit}}
    okx: {{credentials: vault:secret/jt/a/okx}}
  cache: {{invalidatedAfter: "2026-11-22T08:50:00Z", reason: stale}}
  reboot: {{bootedAfter: "2026-11-22T08:55:00Z", robots: resume, reason: new keys}}
"""
NOT_THOSE: Final = {
    "moved",
    "brake",
    "brake-released",
    "forgotten",
    "observation-bare",
    "requests-none",
    "lease-released",
}
ROWS: Final[Mapping[str, Any]] = {
    STORED[name][0]: json.loads(text_of(name)) for name in STORED if name not in NOT_THOSE
}


def state_with(rows: Mapping[str, str]) -> State:
    return State(
        documents={"tokyo-1.yaml": DOCUMENT},
        servers={
            URL: ServerState("made-up", robots=(Robot(7, "grid", "bybit", True),), stored={}),
        },
        secrets={
            "secret/jt/a": [{"access_secret": "made-up"}],
            "secret/jt/a/bybit": [{"apiKey": "made-up-key", "secret": "made-up-secret"}],
            "secret/jt/a/okx": [{"apiKey": "k" * 20, "secret": "s" * 20, "password": "p" * 20}],
        },
        ledger={key: Stored(1, text) for key, text in rows.items()},
        now=NOW,
    )


def a_pass(rows: Mapping[str, str]) -> Plan:
    """Plan and apply with such a ledger, and print all that comes of it."""
    state = state_with(rows)
    found = plan(state)
    said(found)
    after = apply(state, found)
    for report in after.reports:
        assert not isinstance(report.failure, InternalError), report.failure
        assert all("InternalError" not in one.detail for one in report.outcomes)
    AS_TEXT.done(found, after.reports, Exit.DONE).encode()
    AS_JSON.done(found, after.reports, Exit.DONE).encode("ascii")
    return found


def said(found: Plan) -> None:
    for server in found:
        if isinstance(server.failure, InternalError):
            raise server.failure
        if server.failure is not None:
            assert_silent(str(server.failure))
    AS_TEXT.plan(found, Exit.DONE).encode()
    AS_JSON.plan(found, Exit.DONE).encode("ascii")


def a_look(rows: Mapping[str, str]) -> None:
    """Read by the way what `jtr history`, `status`, `request list` and `doctor` read."""
    ledger = Ledger(
        MemoryStore({key: Stored(1, text) for key, text in rows.items()}),
        now=lambda: NOW,
        timeouts=Timeouts(),
        writer="fuzz",
    )
    for reads in (ledger.baseline, ledger.servers, ledger.brakes, ledger.applied):
        with suppress(JtrError):
            reads()
    with suppress(JtrError):
        for server in ledger.servers():
            recorded = ledger.load(server.target, server.name)
            "\n".join(recorded_rows(server, recorded, Moment(NOW))).encode()
            for deed in history(ledger.history(server.uid), recorded.requests):
                deed_row(deed).encode()
            listed = Listed(server.name, server.target, recorded.requests)
            requests_text([listed]).encode()
            as_json(requests_document([listed], listed.exit_code)).encode("ascii")


def test_control_the_rows_are_understood() -> None:
    found = a_pass({key: as_json(row) for key, row in ROWS.items()})

    assert [server.failure for server in found] == [None]
    assert next(iter(found)).disruptions


@examples(120, 8_000)
def test_no_row_of_a_ledger_ends_a_pass(most: int) -> None:
    texts = {key: as_json(row) for key, row in ROWS.items()}

    def one(spoilt: tuple[str, str]) -> None:
        rows = texts | dict([spoilt])
        a_look(rows)
        a_pass(rows)

    attack(spoilt_rows(), one, most)


def spoilt_rows() -> st.SearchStrategy[tuple[str, str]]:
    """One key of the ledger with another text."""

    def of(key: str) -> st.SearchStrategy[tuple[str, str]]:
        texts = damaged([ROWS[key]]).map(as_json)
        bytes_ = torn([as_json(ROWS[key]).encode()]).map(
            lambda data: data.decode("utf-8", "replace")
        )
        return st.tuples(st.just(key), texts | bytes_)

    return st.sampled_from(sorted(ROWS)).flatmap(of)


# ── what was found ───────────────────────────────────────────────────────────────────────────


def with_one(key: str, **fields: Any) -> dict[str, str]:
    """Return the rows, of which one has other fields."""
    return {k: as_json(row | fields if k == key else row) for k, row in ROWS.items()}


@pytest.mark.parametrize("at", ["", "soon", "2026-11-22T12:00:00", "0001-01-01T00:00:00+14:00"])
def test_a_row_with_a_time_that_is_none_is_named(at: str) -> None:
    """It ended in an internal error: times that are kept as texts were believed."""
    halt = ROWS["server/u1/requests"]["halt"] | {"at": at}
    found = plan(state_with(with_one("server/u1/requests", halt=halt)))

    assert "the ledger's row server/u1/requests is not understood" in str(found.servers[0].failure)


def test_a_closed_request_without_its_time_is_listed_without_it() -> None:
    requests = Ledger(
        MemoryStore({key: Stored(1, text) for key, text in with_one("").items()}),
        now=lambda: NOW,
        timeouts=Timeouts(),
        writer="fuzz",
    ).load(Target(URL, "0"), "tokyo-1")

    assert any(not one.closed_at for one in requests.requests.past)
    assert history((), requests.requests)


def test_a_debt_drives_no_terminal() -> None:
    debts = [ROWS["server/u1/exchange/bybit"]["debts"][1] | {"exchange": "\x1b]0;x\x07\ud800"}]
    found = a_pass(with_one("server/u1/exchange/bybit", debts=debts))
    shown = AS_TEXT.plan(found, Exit.DONE)

    assert "\\u001b" in shown
    assert "\x1b" not in shown


def test_an_address_that_cannot_be_encoded_is_one_like_any_other() -> None:
    target = {"url": "https://\ud800", "account": "0"}

    a_look(with_one("server/u1/identity", target=target))
