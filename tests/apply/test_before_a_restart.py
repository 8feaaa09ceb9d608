"""What changes just before a robot is stopped: what could not be started again is not stopped."""

from typing import Final

import pytest

from reconciler.errors import SecretsUnreachable, ServerUnreachable
from reconciler.ledger import Stored
from reconciler.ledger.stores.memory import MemoryStore
from reconciler.model.desired import OnCredentialChange
from reconciler.model.references import SecretPath, SecretRef
from reconciler.model.target import Target
from reconciler.plan.inputs import Consents
from reconciler.sandbox.jt_trader.memory import MemoryDriver
from reconciler.secrets.memory import MemoryBackend
from reconciler.testing.virtual_time import VirtualClock, virtual_time
from tests.crash.request_scenarios import RUNNING, SERVER, Trading, settled, whereabouts

ANOTHER: Final = 2  # on an exchange whose key stays
LOGIN: Final = SecretRef(SecretPath("secret", "tokyo-1"), "token")
MANY: Final = 60  # more readings of the ledger than there are


async def rotated(clock: VirtualClock) -> Trading:
    """A server at which two robots are to be restarted for a new key."""
    harness = await settled(clock)
    harness.rotate(SERVER, "bybit")
    harness.wish(on_credential_change=OnCredentialChange.RESTART)
    return harness


async def restarted(clock: VirtualClock, nth: int, monkeypatch: pytest.MonkeyPatch) -> bool:
    """
    Restart, while a person stops another robot at the *nth* reading of the requests in the ledger.

    Return whether no robot was down by us then; then none of ours may be at the end.
    """
    harness = await rotated(clock)
    trader, real = harness.trader, MemoryStore.get
    readings, idle = 0, False

    def get(store: MemoryStore, key: str) -> Stored | None:
        nonlocal readings, idle
        if key.endswith("/requests"):
            readings += 1
            if readings == nth:
                where = whereabouts(trader.acts)
                idle = not (where.down or where.asked)
                trader.turn_by_hand(ANOTHER, running=False)
        return real(store, key)

    with monkeypatch.context() as patch:
        patch.setattr(MemoryStore, "get", get)
        await harness.apply()
    if idle:
        assert trader.running() == RUNNING - {ANOTHER}
        assert harness.requests().halt is None
    return idle


def test_where_somebody_else_is_at_work_no_robot_is_stopped(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    found = []
    for nth in range(1, MANY):
        clock = VirtualClock()
        with virtual_time(clock) as runner:
            found.append(runner.run(restarted(clock, nth, monkeypatch)))

    assert sum(found) >= 3
    assert not found[-1], "it was stopped at each reading"


def test_vault_may_be_away_while_robots_are_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    """A visit has one login: what it opened with it opens with again."""

    async def story(clock: VirtualClock) -> Trading:
        harness = await rotated(clock)
        assert isinstance(harness.backend, MemoryBackend)
        harness.backend.put(LOGIN.at, {"token": "made-up-login"})
        harness.trader.server._state.access_secret = "made-up-login"
        harness.wish(access_secret=LOGIN)
        trader, describe, read = harness.trader, MemoryBackend.describe, MemoryBackend.read

        def away() -> None:
            if trader.count("stop"):
                raise SecretsUnreachable("Vault is away", "wait")

        async def describe_(*args: object, **more: object) -> object:
            away()
            return await describe(*args, **more)  # type: ignore[arg-type]

        async def read_(*args: object, **more: object) -> object:
            away()
            return await read(*args, **more)  # type: ignore[arg-type]

        with monkeypatch.context() as patch:
            patch.setattr(MemoryBackend, "describe", describe_)
            patch.setattr(MemoryBackend, "read", read_)
            await harness.apply(Consents(recipients=frozenset({SERVER})))
        return harness

    clock = VirtualClock()
    with virtual_time(clock) as runner:
        harness = runner.run(story(clock))
    assert harness.trader.count("stop") == harness.trader.count("start") == 2
    assert harness.trader.running() == RUNNING


def test_one_connection_that_fails_leaves_no_robot_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    async def story(clock: VirtualClock) -> Trading:
        harness = await rotated(clock)
        trader, real, refused = harness.trader, MemoryDriver.open, set[int]()

        async def open_(driver: MemoryDriver, target: Target, *args: object) -> object:
            stops = trader.count("stop")
            if stops > trader.count("start") and stops not in refused:
                refused.add(stops)
                raise ServerUnreachable("it is full", "try again")
            return await real(driver, target, *args)  # type: ignore[arg-type]

        with monkeypatch.context() as patch:
            patch.setattr(MemoryDriver, "open", open_)
            await harness.apply()
        assert len(refused) == 2
        return harness

    clock = VirtualClock()
    with virtual_time(clock) as runner:
        harness = runner.run(story(clock))
    assert harness.trader.running() == RUNNING
    assert harness.requests().halt is None
