"""Between two whole passes over a server where nothing moves: a glance, and never one too many."""

import asyncio
import threading
from collections import Counter
from collections.abc import Callable, Collection, Mapping

import pytest

from reconciler.controller.status import Health
from reconciler.drivers.jt_trader.requests import EXCHANGES, LOG, ROBOTS
from reconciler.errors import SecretsError
from reconciler.model.references import SecretPath
from reconciler.model.secret import VersionInfo
from reconciler.model.values import replace
from reconciler.sandbox.jt_trader.server import StandInThread
from tests.controller.controller_harness import Harness
from tests.controller.test_controller import KEY, begin, converged, play, synced
from tests.e2e.meanwhile import when_asked
from tests.support.durations import BRISK
from tests.support.rig import Rig

LONG = BRISK | {"resync": "900s"}


def asked(server: StandInThread, since: int) -> Counter[str]:
    """What a stand-in was asked for, by event."""
    return Counter(one.event or "" for one in server.record.received[since:])


async def resting(harness: Harness, server: StandInThread) -> int:
    """Wait until passes are glances; return how much the server was asked by then."""
    await synced(harness)
    while True:
        since = len(server.record.received)
        await harness.passed(times=2)
        if not asked(server, since)[LOG.event]:
            return len(server.record.received)


async def look_again(harness: Harness, server: StandInThread) -> Counter[str]:
    """Send the signal, and return what the look that follows asked for."""
    assert harness.controller is not None
    before, since = harness.ended["tokyo-1"], len(server.record.received)
    harness.controller.look_again()
    await harness.until(lambda: harness.ended["tokyo-1"] > before, "a look")
    return asked(server, since)


def test_a_server_where_nothing_moves_is_glanced_at(rig: Rig) -> None:
    server = converged(rig, calm=True)
    begin(rig, durations=LONG)

    async def story(harness: Harness) -> None:
        since = await resting(harness, server)
        seen = harness.status()
        await harness.passed(times=3)
        found = asked(server, since)
        assert found.keys() == {EXCHANGES.event, ROBOTS.event}
        assert min(found.values()) >= 3
        now = harness.status()
        assert (
            replace(
                now,
                seen_at=seen.seen_at,
                last_pass=seen.last_pass,
                last_success=seen.last_success,
                next_pass=seen.next_pass,
                pass_seconds=seen.pass_seconds,
            )
            == seen
        )
        assert now.seen_at > seen.seen_at

    play(Harness(rig), story)


def by_another_hand(rig: Rig, server: StandInThread, _: Harness) -> None:
    del rig
    server.set_value(KEY, "another-key-of-another-hand")


def a_robot_stops(rig: Rig, server: StandInThread, _: Harness) -> None:
    del rig
    server.set_running(1, False)


def another_document(rig: Rig, server: StandInThread, _: Harness) -> None:
    del server
    rig.document("tokyo-1", "bybit", rotate=False, robots={"onCredentialChange": "restart"})


def a_rotated_secret(rig: Rig, server: StandInThread, _: Harness) -> None:
    del server
    rig.rotate("tokyo-1", "bybit")


def an_operator(rig: Rig, server: StandInThread, harness: Harness) -> None:
    del rig, server
    assert harness.controller is not None
    harness.controller.look("tokyo-1")


def a_lost_connection(rig: Rig, server: StandInThread, _: Harness) -> None:
    del rig
    server.drop_connections()


MOVES: dict[str, Callable[[Rig, StandInThread, Harness], None]] = {
    "another hand": by_another_hand,
    "a robot": a_robot_stops,
    "a document": another_document,
    "a secret": a_rotated_secret,
    "an operator": an_operator,
    "a connection": a_lost_connection,
}


@pytest.mark.parametrize("move", MOVES)
def test_whatever_moves_gets_a_whole_pass(rig: Rig, move: str) -> None:
    server = converged(rig, calm=True)
    begin(rig, durations=LONG)

    async def story(harness: Harness) -> None:
        since = await resting(harness, server)
        MOVES[move](rig, server, harness)
        await harness.until(lambda: asked(server, since)[LOG.event] > 0, "a whole pass")

    play(Harness(rig), story)


def test_the_versions_that_glances_go_by_are_asked_for_at_the_start(rig: Rig) -> None:
    """Not an interval later, until when every look would be a whole pass."""
    converged(rig, calm=True)
    begin(rig, durations=LONG | {"interval": "10m"})

    async def story(harness: Harness) -> None:
        await synced(harness)
        await harness.until(lambda: harness.sweeps > 0, "a sweep")

    play(Harness(rig), story)


def test_who_takes_the_place_asks_for_them_at_once(rig: Rig) -> None:
    converged(rig, calm=True)
    begin(rig, durations=LONG | {"interval": "10m", "lease": "1s"})

    async def story() -> None:
        one, two = Harness(rig), Harness(rig)
        async with one.running():
            await synced(one)
            async with two.running():
                await two.until(lambda: bool(two.status_store.controller.rival), "it waits")
                assert two.sweeps == 0
                assert one.controller is not None
                one.controller.stop()
                await two.until(lambda: two.sweeps > 0, "a sweep")

    asyncio.run(story())


class Late(Harness):
    """Vault tells no versions until the gate opens."""

    def __init__(self, rig: Rig) -> None:
        super().__init__(rig)
        self.gate = asyncio.Event()

    async def _sweep(
        self, paths: Collection[SecretPath]
    ) -> Mapping[SecretPath, VersionInfo | SecretsError]:
        await self.gate.wait()
        return await super()._sweep(paths)


def test_a_version_that_came_between_the_pass_and_the_first_sweep_is_seen(rig: Rig) -> None:
    """No sweep sees it change: the first one knows nothing older."""
    server = converged(rig, calm=True)
    begin(rig, durations=LONG)
    late, saves = Late(rig), server.record.saves

    async def story(harness: Harness) -> None:
        await synced(harness)
        rig.rotate("tokyo-1", "bybit")
        late.gate.set()
        await harness.until(lambda: server.record.saves > saves, "the new key is saved")

    play(late, story)


def test_a_signal_brings_glances_forward_and_passes_where_something_is_open(rig: Rig) -> None:
    server = converged(rig, calm=True)
    begin(rig, durations=LONG | {"interval": "10m"})

    async def story(harness: Harness) -> None:
        await synced(harness)
        while LOG.event in await look_again(harness, server):
            pass  # what woke it during its first passes
        for _ in range(3):
            assert await look_again(harness, server) == {EXCHANGES.event: 1, ROBOTS.event: 1}
        server.set_value(KEY, "another-key-of-another-hand")
        for _ in range(3):
            assert LOG.event in await look_again(harness, server)
        assert harness.status().drift == 1

    play(Harness(rig), story)


def test_a_signal_during_a_glance_is_followed_by_another(rig: Rig) -> None:
    """That one may have asked already for what the signal wants to be looked at."""
    server = converged(rig, calm=True)
    begin(rig, durations=LONG | {"interval": "10m"})

    async def story(harness: Harness) -> None:
        await synced(harness)
        while LOG.event in await look_again(harness, server):
            pass  # what woke it during its first passes
        controller, loop = harness.controller, asyncio.get_running_loop()
        assert controller is not None
        signalled = threading.Event()

        def signal() -> None:
            controller.look_again()
            signalled.set()

        def during() -> None:
            loop.call_soon_threadsafe(signal)
            signalled.wait()

        before, since = harness.ended["tokyo-1"], len(server.record.received)
        with when_asked(server, EXCHANGES.event, during):
            controller.look_again()
            await harness.until(lambda: harness.ended["tokyo-1"] >= before + 2, "two looks")
        assert asked(server, since) == {EXCHANGES.event: 2, ROBOTS.event: 2}

    play(Harness(rig), story)


def test_what_is_open_is_looked_at_whole_each_time(rig: Rig) -> None:
    """Drift that is left alone: its line, its age and the next correction follow from passes."""
    server = converged(rig, calm=True)
    begin(rig, durations=LONG)

    async def story(harness: Harness) -> None:
        await resting(harness, server)
        server.set_value(KEY, "another-key-of-another-hand")
        await harness.until(lambda: harness.status().drift == 1, "drift")
        since = len(server.record.received)
        await harness.passed(times=3)
        assert asked(server, since)[LOG.event] >= 3

    play(Harness(rig), story)


def test_after_a_while_a_whole_pass_comes_anyway(rig: Rig) -> None:
    server = converged(rig, calm=True)
    begin(rig, durations=BRISK | {"resync": "1s"})

    async def story(harness: Harness) -> None:
        since = await resting(harness, server)
        await harness.until(lambda: asked(server, since)[LOG.event] >= 2, "two whole passes")
        assert harness.status().health is Health.HEALTHY

    play(Harness(rig), story)
