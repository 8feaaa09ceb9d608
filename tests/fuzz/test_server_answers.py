"""
Trading servers that answer with anything: frames, envelopes, and every field of every answer.

A compromised server gets a driver's error on its own line of the plan, and nothing else of us.
Threat T5 in docs/security.md.
"""

import copy
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

import pytest
from hypothesis import strategies as st

from reconciler.drivers.connection.socket_io import decode
from reconciler.drivers.jt_trader.responses import (
    read_entries,
    read_exchanges,
    read_log,
    read_robots,
    read_version,
)
from reconciler.errors import DriverError, Exit, InternalError
from reconciler.model.observed import Robot
from reconciler.render.plan_json import RENDERER as AS_JSON
from reconciler.render.plan_text import RENDERER as AS_TEXT
from reconciler.sandbox.jt_trader.memory import MemoryConversation
from reconciler.testing.state import ServerState, State, apply, plan
from tests.drivers.scripted import Peer, opened, scripted, told
from tests.fuzz.bounds import CANARIES, KEY, assert_silent, attack, examples, outcome
from tests.fuzz.damage import damaged, places, replaced, sweep, torn
from tests.fuzz.test_ledger_rows import said
from tests.support.canaries import find_leaks

URL: Final = "https://a.test"
SECRET: Final = next(canary.value for canary in CANARIES if canary.shape == "hex")
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
    kucoin: {{state: absent, takeOver: true}}
  reboot: {{bootedAfter: "2026-11-22T08:55:00Z", robots: resume, reason: new keys}}
"""
STATE: Final = State(
    documents={"tokyo-1.yaml": DOCUMENT},
    servers={
        URL: ServerState(
            "made-up-access",
            stored={"kucoin_api_key": "k" * 20, "kucoin_secret_key": "s" * 20},
            robots=(Robot(7, "grid", "bybit", True), Robot(8, "arb", "okx", True)),
        )
    },
    secrets={
        "secret/jt/a": [{"access_secret": "made-up-access"}],
        "secret/jt/a/bybit": [{"apiKey": KEY, "secret": SECRET}],
    },
    now=datetime(2026, 11, 22, 9, tzinfo=UTC),
)
Spoil = Mapping[tuple[str, int], Any]


def a_pass(spoil: Spoil, patch: pytest.MonkeyPatch) -> list[tuple[tuple[str, int], Any]]:
    """
    Plan, apply and print, on a server of which some messages say something else.

    Returns what it said, each with the number that it has among messages of its kind.
    """
    heard: list[tuple[tuple[str, int], Any]] = []
    counts: dict[str, int] = {}

    def hear(self: MemoryConversation, event: str, message: Mapping[str, object]) -> None:
        kind = str(message.get("event"))
        counts[kind] = counts.get(kind, 0) + 1
        place = (kind, counts[kind])
        heard.append((place, copy.deepcopy(message)))
        self._on_message(spoil.get(place, message)) if event == "message" else self._on_exception()

    with patch.context() as patched:
        patched.setattr(MemoryConversation, "hear", hear)
        found = plan(STATE)
        said(found)
        counts.clear()
        after = apply(STATE, found)
    shown = [AS_JSON.done(found, after.reports, Exit.DONE)]
    shown += [AS_TEXT.done(found, after.reports, Exit.DONE), AS_TEXT.plan(found, Exit.DONE)]
    for report in after.reports:
        if isinstance(report.failure, InternalError):
            raise report.failure
    for text in shown:
        text.encode()
        assert not find_leaks(text.encode(), CANARIES)
        assert "internal error" not in text, text
    return heard


@pytest.fixture(scope="module")
def answers() -> list[tuple[tuple[str, int], Any]]:
    """What the server says in a whole pass that goes well."""
    with pytest.MonkeyPatch.context() as patch:
        heard = a_pass({}, patch)
    known = dict(heard)
    assert {kind for kind, _ in known} >= {
        *("authenticated", "exchange-config-response", "background-jobs-list-response"),
        *("logs-list-response", "engine-config-response"),
    }
    return sorted(known.items(), key=lambda one: one[0])


@examples(120, 10_000)
def test_no_answer_of_a_server_ends_a_pass(
    most: int,
    answers: list[tuple[tuple[str, int], Any]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    spoilt = st.sampled_from(answers).flatmap(
        lambda one: st.tuples(st.just(one[0]), damaged([one[1]]))
    )
    attack(spoilt, lambda one: a_pass(dict([one]), monkeypatch), most)


def test_every_field_may_be_of_any_type(answers: list[tuple[tuple[str, int], Any]]) -> None:
    """Each value of each answer becomes one of everything; the readers alone are asked."""
    readers = {
        "engine-config-response": (read_version,),
        "exchange-config-response": (read_exchanges,),
        "background-jobs-list-response": (read_robots,),
        "logs-list-response": (read_log, read_entries),
    }
    tried = 0
    for (kind, number), message in answers:
        if number > 1 or kind not in readers:
            continue
        payload = small(message.get("payload"))
        for _, changed in sweep(payload):
            for read in readers[kind]:
                assert not isinstance(outcome(lambda r=read, c=changed: r(c)), InternalError)  # type: ignore[misc]
                tried += 1

    assert tried > 5000


def small(payload: Any) -> Any:
    """Keep the first entries of every list: all have the same fields."""
    for path in list(places(payload)):
        value = payload
        try:
            for step in path:
                value = value[step]
        except (LookupError, TypeError):
            continue
        if isinstance(value, list) and len(value) > 2:
            payload = replaced(payload, path, value[:2])
    return payload


# ── frames ───────────────────────────────────────────────────────────────────────────────────

FRAMES: Final = (
    b'42["message",{"event":"authenticated","payload":{"id":"0","email":"x"}}]',
    b'42/admin,["message",{"event":"update-report"}]',
    b'43/a,7["x"]',
    b'451-["message",{"_placeholder":true,"num":0}]',
    b'44{"message":"no"}',
    b'40{"sid":"b"}',
    b"41",
    b'42["message",' + b"[" * 200 + b"]" * 200 + b"]",
)


@examples(3000, 300_000)
def test_no_packet_raises_while_it_is_read(most: int) -> None:
    texts = torn(FRAMES).map(lambda data: data.decode("utf-8", "replace"))
    attack(texts, decode, most)


@examples(25, 2_000)
def test_no_frame_of_a_server_ends_more_than_its_connection(most: int) -> None:
    async def story(frame: str) -> None:
        async def script(peer: Peer) -> None:
            await peer.admit()
            await peer.send(frame)
            while (asked := await peer.request()) is not None:
                await peer.message(asked["event"].replace("request", "response"), {})

        async with scripted(script) as (url, _):
            try:
                session = await opened(url)
            except DriverError as error:
                assert_silent(str(error))
                return
            with pytest.raises(DriverError):
                await session.observe()
            await session.close()

    def one(frame: bytes) -> None:
        told(lambda: story(frame.decode("utf-8", "replace")))

    attack(torn(FRAMES), one, most)
