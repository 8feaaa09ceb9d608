"""
Servers that hang, in fleets of up to fifty: everybody else is kept as if they were not there.

Tests of order and counts: every deadline of the hung ones is so far away that nothing that happens
here can have waited for it.  `bench/fleet.py` measures the times.
"""

from collections.abc import Callable

import pytest

from reconciler.controller.status import Sync
from reconciler.sandbox.jt_trader.faults import Behaviour, Write
from tests.controller.controller_harness import PATIENCE, Harness
from tests.controller.test_controller import begin, play, synced
from tests.support.durations import BRISK
from tests.support.fault_proxy import Door, Faults
from tests.support.fleet import Fleet
from tests.support.rig import Rig

FAR = f"{PATIENCE * 10:.0f}s"
PATIENT = BRISK | {"connect": FAR, "authenticate": FAR, "request": FAR, "stop": FAR}
# A connection is given up when its pings stay away, too; more than two minutes are not believed.
UNHURRIED = Behaviour(ping_interval=PATIENCE * 1.6)
LIST = "exchange-config-request"
HUNG = "desk-07"
WAYS: dict[str, Callable[[Fleet, str], None]] = {
    "at the door": lambda fleet, name: fleet.proxies[name].switch(Faults(door=Door.SILENT)),
    "at the login": lambda fleet, name: setattr(fleet.behaviours[name], "login", "silent"),
    "at the first question": lambda fleet, name: setattr(fleet.behaviours[name], "read", "silent"),
}


def cure(fleet: Fleet, *names: str) -> None:
    """Let hung servers answer again; who waits for an answer that never comes is told so."""
    for name in names:
        fleet.servers[name].recover()
        fleet.behaviours[name].save = "answer"
        if name in fleet.proxies:
            fleet.proxies[name].heal()
        fleet.servers[name].drop_connections()


def saves(fleet: Fleet) -> dict[str, int]:
    """Return how often each server was asked to save."""
    return {name: record.saves for name, record in fleet.records.items()}


async def converged(harness: Harness, fleet: Fleet, *hung: str, writes: int = 1) -> None:
    """Wait until all but *hung* have their newest keys and were looked at once more."""
    others = [name for name in fleet.names if name not in hung]
    await harness.until(lambda: not fleet.stale(others), "the others have their keys")
    ended = dict(harness.ended)
    await harness.until(
        lambda: all(harness.ended[name] > ended.get(name, 0) for name in others),
        "one more pass each",
    )
    await synced(harness, *others)
    assert {name: saves(fleet)[name] for name in others} == dict.fromkeys(others, writes)


@pytest.mark.parametrize("way", WAYS)
def test_all_others_converge_while_one_hangs_from_the_start(rig: Rig, way: str) -> None:
    with Fleet(rig, 20, behaviour=UNHURRIED) as fleet:
        fleet.proxy(HUNG)
        fleet.document(HUNG)
        begin(rig, durations=PATIENT)
        WAYS[way](fleet, HUNG)

        async def story(harness: Harness) -> None:
            await converged(harness, fleet, HUNG)
            assert harness.ended[HUNG] == 0
            assert fleet.stale() == [f"{HUNG}/bybit"]
            cure(fleet, HUNG)
            await synced(harness, HUNG)

        play(Harness(rig), story)
        assert saves(fleet) == dict.fromkeys(fleet.names, 1)


def test_five_of_fifty_hang_each_in_its_way(rig: Rig) -> None:
    with Fleet(rig, 50, behaviour=UNHURRIED) as fleet:
        ways = [*WAYS.values(), WAYS["at the login"], WAYS["at the first question"]]
        hung = dict(zip(fleet.names[::10], ways, strict=True))
        fleet.proxy(fleet.names[0])
        fleet.document(fleet.names[0])
        begin(rig, durations=PATIENT)
        for name, way in hung.items():
            way(fleet, name)

        async def story(harness: Harness) -> None:
            await converged(harness, fleet, *hung)
            assert {name: harness.ended[name] for name in hung} == dict.fromkeys(hung, 0)
            cure(fleet, *hung)
            await synced(harness, *hung)

        play(Harness(rig), story)
        assert saves(fleet) == dict.fromkeys(fleet.names, 1)


@pytest.mark.parametrize(("count", "of"), [(1, 20), (5, 20)])
def test_servers_that_begin_to_hang_on_a_held_connection(rig: Rig, count: int, of: int) -> None:
    with Fleet(rig, of, behaviour=UNHURRIED) as fleet:
        begin(rig, durations=PATIENT)
        hung = fleet.names[:count]

        async def story(harness: Harness) -> None:
            await converged(harness, fleet)
            assert all(len(server.connections()) == 1 for server in fleet.servers.values())
            for name in hung:
                fleet.servers[name].hang()
            # Of all questions only this one is not answered: these passes are the ones that hang.
            asked = {name: fleet.records[name].events(LIST) for name in hung}
            await harness.until(
                lambda: all(fleet.records[n].events(LIST) > asked[n] for n in hung), "asked"
            )
            ended = {name: harness.ended[name] for name in hung}
            for name in fleet.names:
                fleet.rotate(name)
            await converged(harness, fleet, *hung, writes=2)
            assert {name: harness.ended[name] for name in hung} == ended
            assert fleet.stale() == [f"{name}/bybit" for name in hung]
            cure(fleet, *hung)
            await synced(harness, *hung)
            await harness.until(lambda: not fleet.stale(), "the hung ones, too")

        play(Harness(rig), story)
        assert saves(fleet) == dict.fromkeys(fleet.names, 2)


@pytest.mark.parametrize("save", ["silent-before", "silent-after"])
def test_one_that_hangs_in_the_middle_of_a_save_holds_all_writes_until_it_is_known(
    rig: Rig, save: Write
) -> None:
    """As it has to: if it stopped its robots, the next write would stop those of another."""
    with Fleet(rig, 20, behaviour=UNHURRIED) as fleet:
        begin(rig, durations=PATIENT | {"request": "4s", "ready": FAR})
        others = [name for name in fleet.names if name != HUNG]

        async def story(harness: Harness) -> None:
            await converged(harness, fleet)
            fleet.behaviours[HUNG].save = save
            fleet.behaviours[HUNG].login = "silent"
            shakes = len(fleet.records[HUNG].handshakes)
            fleet.rotate(HUNG)
            # The answer does not come, and the worker goes to see: it is let in, and not greeted.
            await harness.until(lambda: len(fleet.records[HUNG].handshakes) > shakes, "doubt")
            eager, idle = others[::2], others[1::2]
            for name in eager:
                fleet.rotate(name)
            await harness.until(lambda: all(held_up(harness, name) for name in eager), "all wait")
            ended = dict(harness.ended)
            # Who is only looked at does not wait: a whole pass each, and one that was under way.
            await harness.until(
                lambda: all(harness.ended[n] > ended[n] + 1 for n in idle), "looked at"
            )
            assert all(held_up(harness, name) for name in eager)
            assert saves(fleet) == dict.fromkeys(others, 1) | {HUNG: 2}
            cure(fleet, HUNG)
            await converged(harness, fleet, HUNG, *idle, writes=2)
            await harness.until(lambda: not fleet.stale(), "the hung one, too")
            assert not harness.status_store.controller.brakes

        play(Harness(rig), story)
    assert fleet.fatal_paths() == 0


def held_up(harness: Harness, name: str) -> bool:
    """Whether a server was looked at, and the pass does not end."""
    assert harness.controller is not None
    assert harness.controller._workers is not None
    workers = harness.controller._workers._workers.values()
    worker = next(worker for worker in workers if worker.desired.name == name)
    return worker._visit is not None and bool(worker._visit.plan.actions)


def test_the_hung_one_is_said_to_be_unknown(rig: Rig) -> None:
    with Fleet(rig, 2, behaviour=UNHURRIED) as fleet:
        begin(rig, durations=PATIENT)
        WAYS["at the login"](fleet, "desk-02")

        async def story(harness: Harness) -> None:
            await converged(harness, fleet, "desk-02")
            assert harness.status("desk-02").sync is Sync.UNKNOWN
            cure(fleet, "desk-02")
            await synced(harness, "desk-02")

        play(Harness(rig), story)
