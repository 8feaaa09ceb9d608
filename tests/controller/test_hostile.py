"""One broken or hostile server beside good ones: it never stops them."""

import asyncio
from collections.abc import Callable

import pytest

from reconciler.apply.circuit_breaker import Place
from reconciler.controller.status import Sync
from reconciler.sandbox.jt_trader.record import Received
from reconciler.sandbox.jt_trader.server import StandInThread
from tests.controller.controller_harness import Harness
from tests.controller.test_controller import begin, play, synced
from tests.e2e.meanwhile import SAVE
from tests.support.rig import Rig

GOOD = ("osaka-1", "osaka-2", "osaka-3")
EVIL = "tokyo-1"
VERSION = "0.24.19"


def forge_entries(evil: StandInThread) -> None:
    evil.append_log("error", "MainProcessExceptionHandler", "Error: made up")


def show_robots_stopped(evil: StandInThread) -> None:
    for number in (1, 2):
        evil.set_running(number, running=False)


def after_each_save(server: StandInThread, trick: Callable[[StandInThread], None]) -> None:
    note = server.record.add_received

    def noted(received: Received) -> None:
        note(received)
        if received.event == SAVE:
            trick(server)

    server.record.add_received = noted  # type: ignore[method-assign]


def braked(harness: Harness, url: str) -> str:
    """Why this process writes nothing to a server."""
    shared = harness.controller._shared if harness.controller is not None else None
    assert shared is not None
    return shared.brake.why(Place(VERSION, url))


def fleet(rig: Rig, *, heals: bool) -> StandInThread:
    """Four servers as their documents say, by a ledger that has seen all of them written well."""
    for name in (EVIL, *GOOD):
        rig.server(name)
        rig.document(name, selfHeal=heals)
    begin(rig)
    assert rig.apply().code == 0
    return rig.servers[EVIL]


@pytest.mark.parametrize("trick", [forge_entries, show_robots_stopped])
def test_a_hostile_server_stops_nobody_else(
    rig: Rig, trick: Callable[[StandInThread], None]
) -> None:
    """After each write it pretends harm, changes its keys back, and people release it each time."""
    evil = fleet(rig, heals=True)
    after_each_save(evil, trick)

    async def story(harness: Harness) -> None:
        await synced(harness, *GOOD)
        for number in (1, 2, 3):
            saves = evil.record.saves
            for robot in (1, 2):
                evil.set_running(robot, running=True)
            evil.set_value("bybit_api_key", rig.watch.secret())  # drift
            await harness.until(
                lambda saves=saves: evil.record.saves > saves,  # type: ignore[misc]  # bound now
                f"correction {number}",
            )
            await harness.until(
                lambda: [held.over for held in harness.status_store.controller.brakes] == [EVIL],
                "the brake is on for it alone",
            )
            for name in GOOD:
                rig.rotate(name)
            await harness.until(
                lambda number=number: all(  # type: ignore[misc]
                    rig.servers[name].record.saves == 1 + number for name in GOOD
                ),
                f"good servers get their writes, {number}",
            )
            await synced(harness, *GOOD)
            assert evil.record.saves == saves + 1
            args = ("ledger", "release-brake", EVIL, "--because", "it looks well")
            assert (await asyncio.to_thread(rig.process, *args)).code == 0
            await harness.until(
                lambda: not (harness.status_store.controller.brakes or braked(harness, evil.url)),
                "released",
            )

    play(Harness(rig), story)
    assert all(rig.servers[name].robots_running() == {1, 2} for name in GOOD)


def test_a_second_one_stops_the_version_until_people_release_it(rig: Rig) -> None:
    fleet(rig, heals=False)
    for name in (EVIL, "osaka-1"):
        after_each_save(rig.servers[name], forge_entries)

    def over(harness: Harness) -> set[str]:
        return {held.over for held in harness.status_store.controller.brakes}

    async def story(harness: Harness) -> None:
        await synced(harness, EVIL, *GOOD)
        rig.rotate(EVIL)
        await harness.until(lambda: over(harness) == {EVIL}, "one")
        rig.rotate("osaka-1")
        await harness.until(lambda: over(harness) == {VERSION, EVIL, "osaka-1"}, "two")
        rig.rotate("osaka-2")
        await harness.passed("osaka-2", times=2)
        assert rig.servers["osaka-2"].record.saves == 1
        assert harness.status("osaka-2").sync is Sync.OUT_OF_SYNC
        args = ("ledger", "release-brake", VERSION, "--because", "two bad disks")
        assert (await asyncio.to_thread(rig.process, *args)).code == 0
        await harness.until(lambda: rig.servers["osaka-2"].record.saves == 2, "writes go on")

    play(Harness(rig), story)
