"""The controller asks exchanges about keys on a schedule; judged by what the exchanges count."""

import asyncio
import logging
import signal
from collections.abc import Iterator
from contextlib import ExitStack, closing
from typing import Any

import pytest

from reconciler.bootstrap import load_settings, open_ledger
from reconciler.controller.status import Health, KeyStatus
from reconciler.exchanges import registry
from reconciler.model.key_audits import Light
from reconciler.model.values import replace
from reconciler.notifications.events import Topic
from reconciler.sandbox.jt_trader.faults import Behaviour
from reconciler.sandbox.jt_trader.server import StandInThread
from reconciler.testing.exchange_server import HangUp, Silence
from tests.controller.controller_harness import Harness
from tests.controller.test_controller import play, synced
from tests.e2e.test_audit import SECURITY, Market, answers, bybit
from tests.e2e.test_controller import controller
from tests.exchanges.counting_exchange import BYBIT
from tests.support.durations import BRISK
from tests.support.processes import PATIENCE
from tests.support.rig import Rig

OFTEN = "400ms"
SELDOM = "1h"


@pytest.fixture
def market(rig: Rig) -> Iterator[Market]:
    with ExitStack() as stack:
        yield Market(rig, stack)


def opened(
    market: Market, *, every: str, security: Any = SECURITY, behaviour: Behaviour | None = None
) -> tuple[StandInThread, dict[str, str]]:
    """A converged server, and the key that it uses."""
    rig = market.rig
    server = rig.server(behaviour=behaviour)
    spec = {} if security is None else {"security": security}
    rig.document("tokyo-1", "bybit", rotate=False, **spec)
    key = market.key(BYBIT)
    settings(market, every)
    rig.begin()
    assert rig.apply().code == 0
    return server, key


def settings(market: Market, every: str, settle: str = "1ms") -> None:
    timeouts = BRISK | {"settle": settle, "interval": "100ms", "auditEvery": every}
    timeouts |= {"auditRequest": "10m", "auditTotal": "10m", "resync": "500ms"}
    bases = {crowd.kind.ccxt_id: crowd.url for crowd in market.exchanges.values()}
    market.rig.settings(soleWriter=True, durations=timeouts, audit={"bases": bases})


def key_of(harness: Harness) -> KeyStatus:
    return harness.status().keys["bybit"]


def codes(harness: Harness) -> set[str]:
    return {finding.code for finding in key_of(harness).findings}


async def audited(harness: Harness, audits: list[Any], times: int) -> None:
    """Wait until so many audits are over."""
    await harness.until(lambda: len(audits) >= times, f"{times} audits")


@pytest.fixture
def audits() -> Iterator[list[Any]]:
    """The log lines of audits that are over."""
    log, lines = logging.getLogger("reconciler.controller"), []

    def keep(record: logging.LogRecord) -> bool:
        if record.msg == "keys audited":
            lines.append(record.fields)  # type: ignore[attr-defined]
        return True

    log.addFilter(keep)
    yield lines
    log.removeFilter(keep)


def test_a_permission_added_at_the_exchange_is_found_and_told(market: Market) -> None:
    server, key = opened(market, every=OFTEN)

    async def story(harness: Harness) -> None:
        await synced(harness)
        await harness.until(lambda: key_of(harness).light is Light.OK, "a good key")
        await harness.until(lambda: harness.status().health is Health.HEALTHY, "healthy")
        answers(market, BYBIT, key, bybit(key, permissions={"Wallet": ["Withdraw"]}))
        await harness.heard(Topic.AUDIT)
        assert key_of(harness).light is Light.BLOCKED
        await harness.until(lambda: harness.status().health is Health.DEGRADED, "degraded")
        assert "withdraw" in harness.status().reason
        (news, *_) = [one for one in harness.ear.heard if one.topic is Topic.AUDIT]
        assert "bybit:PERM_WITHDRAW" in news.state
        assert "tokyo-1: bybit: it may withdraw funds" in news.text
        answers(market, BYBIT, key, bybit(key))
        await harness.until(lambda: harness.status().health is Health.HEALTHY, "healthy again")

    play(Harness(market.rig), story)
    assert server.record.saves == 1  # by `apply`, before


def test_the_ledger_has_what_was_answered_for_who_may_read_no_key(market: Market) -> None:
    opened(market, every=SELDOM)

    async def story(harness: Harness) -> None:
        # Not the first audit alone: the key may be too young for it by Vault's whole seconds.
        await harness.until(lambda: key_of(harness).light is Light.OK, "a good key")

    play(Harness(market.rig), story)

    settings = load_settings(None, market.rig.environment, [])
    with closing(open_ledger(settings, "a person")) as ledger:
        (server,) = ledger.servers()
        noted = ledger.audits(server.uid)["bybit"]
    assert noted.answered.facts is not None
    assert [str(one.at) for one in noted.sources.values()] == [
        market.rig.reference("tokyo-1/bybit")
    ]


def test_a_rejected_key_is_not_tried_on_the_schedule(market: Market, audits: list[Any]) -> None:
    _, key = opened(market, every=OFTEN)
    exchange = market.exchanges["bybit"]
    other = market.rig.watch.secret()
    exchange.keys[key["apiKey"]] = {**key, "secret": other}

    async def story(harness: Harness) -> None:
        await harness.until(lambda: codes(harness) == {"KEY_REJECTED"}, "a rejected key")
        calls, over = market.calls(), len(audits)
        await audited(harness, audits, over + 1)
        # The next audit is due at once when somebody moves a document, else after an hour.
        market.rig.document(
            "tokyo-1", "bybit", rotate=False, security={**SECURITY, "maxKeyAge": "1d"}
        )
        await audited(harness, audits, over + 2)
        assert market.calls() == calls

    play(Harness(market.rig), story)


def test_between_two_times_nobody_is_asked_whatever_else_happens(
    market: Market, audits: list[Any]
) -> None:
    _, key = opened(market, every=SELDOM)
    asked = market.calls()  # by the gate, before the push
    assert asked == 1

    async def story(harness: Harness) -> None:
        await audited(harness, audits, 1)
        await harness.passed(times=3)
        # A stricter document is held against what is remembered.
        strict = SECURITY | {"permissions": {"allow": ["spot"]}}
        market.rig.document("tokyo-1", "bybit", rotate=False, security=strict)
        await harness.until(lambda: key_of(harness).light is Light.BLOCKED, "blocked")
        assert "PERM_FORBIDDEN" in codes(harness)

    play(Harness(market.rig), story)
    assert market.calls() == asked
    assert key["apiKey"] not in str(audits)


def test_a_restart_does_not_ask_again(market: Market, audits: list[Any]) -> None:
    opened(market, every=SELDOM)

    async def story(harness: Harness) -> None:
        before = len(audits)
        await audited(harness, audits, before + 1)
        await harness.until(lambda: key_of(harness).light is Light.OK, "a good key")

    for _ in range(2):
        play(Harness(market.rig), story)
    assert market.calls() == 1


def test_without_security_nobody_is_asked(market: Market) -> None:
    opened(market, every=OFTEN, security=None)

    async def story(harness: Harness) -> None:
        await harness.passed(times=8)
        assert harness.status().keys == {}

    play(Harness(market.rig), story)
    assert market.calls() == 0


def test_a_server_that_leaves_from_another_address_is_noticed_without_asking(
    market: Market,
) -> None:
    seen = (("https://one.test", "203.0.113.10"),)
    behaviour = Behaviour(proxy=seen, status_interval=0.05)
    server, _ = opened(market, every=SELDOM, behaviour=behaviour)

    async def story(harness: Harness) -> None:
        await harness.until(lambda: harness.status().outgoing == ("203.0.113.10",), "its address")
        await harness.until(lambda: key_of(harness).light is Light.OK, "a good key")
        server.behaviour.proxy = (("https://one.test", "198.51.100.99"),)
        await harness.until(lambda: "IP_NOT_DECLARED" in codes(harness), "the new address")
        # The exchange listed the addresses of the key: the new one is not among them.
        assert "IP_MISSING_SERVER" in codes(harness)
        assert key_of(harness).light is Light.BLOCKED

    play(Harness(market.rig), story)
    assert market.calls() == 1


def test_an_exchange_that_is_away_changes_nothing_and_is_asked_again(market: Market) -> None:
    opened(market, every=OFTEN)

    async def story(harness: Harness) -> None:
        await harness.until(lambda: key_of(harness).light is Light.OK, "a good key")
        market.exchanges["bybit"].script.extend([HangUp()] * 2)  # one question, twice
        await harness.until(lambda: "UNREACHABLE" in codes(harness), "away")
        assert harness.status().health is Health.HEALTHY
        await harness.until(lambda: key_of(harness).light is Light.OK, "back")

    play(Harness(market.rig), story)


def test_vault_that_is_away_leaves_what_was_known_and_is_said(
    market: Market, audits: list[Any], caplog: pytest.LogCaptureFixture
) -> None:
    opened(market, every=OFTEN)

    async def story(harness: Harness) -> None:
        await harness.until(lambda: key_of(harness).light is Light.OK, "a good key")
        market.rig.bao.seal()
        try:
            await audited(harness, audits, len(audits) + 2)
            assert key_of(harness).light is Light.OK
        finally:
            market.rig.bao.unseal()

    play(Harness(market.rig), story)
    said = [one for one in caplog.records if one.msg == "a key could not be audited"]
    assert said[0].fields["exchange"] == "bybit"  # type: ignore[attr-defined]
    assert "sealed" in said[0].fields["why"]  # type: ignore[attr-defined]


def test_a_key_that_was_just_written_is_audited_once_it_settled(
    market: Market, audits: list[Any]
) -> None:
    opened(market, every=SELDOM)
    settings(market, SELDOM, settle="2s")  # it is younger, and on the server: nothing else wakes us

    async def story(harness: Harness) -> None:
        await audited(harness, audits, 1)
        assert not harness.status().keys
        await harness.until(lambda: key_of(harness).light is Light.OK, "a good key")

    play(Harness(market.rig), story)


def test_what_moves_at_once_is_one_audit(market: Market, audits: list[Any]) -> None:
    opened(market, every=SELDOM)

    async def story(harness: Harness) -> None:
        await audited(harness, audits, 1)
        assert harness.controller is not None
        shared = harness.controller._shared
        assert shared is not None
        before = len(audits)
        for _ in range(50):
            shared.keys_moved.set()
            await asyncio.sleep(0)
        await audited(harness, audits, before + 1)
        await asyncio.sleep(0.3)  # three intervals: nothing else may come
        assert len(audits) <= before + 2

    play(Harness(market.rig), story)


def test_a_key_whose_trader_could_be_disturbed_is_asked_about_before_its_push_only(
    market: Market, monkeypatch: pytest.MonkeyPatch
) -> None:
    nonce = replace(registry.entry("bybit").adapter, disturbs_trading=True)  # type: ignore[type-var]
    monkeypatch.setattr(registry, "discovered", lambda: {"bybit": nonce})
    opened(market, every=OFTEN)
    assert market.calls() == 1

    async def story(harness: Harness) -> None:
        await harness.passed(times=8)
        assert harness.status().keys == {}

    play(Harness(market.rig), story)
    assert market.calls() == 1


def test_a_stop_does_not_wait_for_an_exchange_that_hangs(market: Market) -> None:
    opened(market, every=OFTEN)
    exchange = market.exchanges["bybit"]
    with controller(market.rig) as running:
        running.until("keys audited")
        exchange.script.extend([Silence()] * 2)
        exchange.begun.clear()
        assert exchange.begun.wait(PATIENCE)
        code = running.stop()  # which waits for less than the exchange is silent

    assert code in {0, 128 + signal.SIGTERM}
