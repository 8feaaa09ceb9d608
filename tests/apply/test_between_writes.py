"""The look after one write is the last look before the next; what changed since is seen."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from reconciler.apply.circuit_breaker import CircuitBreaker
from reconciler.drivers.jt_trader.requests import TESTED
from reconciler.errors import Exit
from reconciler.ledger.stores.memory import MemoryStore
from reconciler.model.outcomes import Outcome, Result
from reconciler.model.recorded import Owed, Pause
from reconciler.model.timestamps import stamp
from reconciler.model.values import replace
from reconciler.sandbox.jt_trader.memory import MemoryServer
from reconciler.testing.virtual_time import VirtualClock, virtual_time
from tests.crash.harness import Harness
from tests.crash.scenarios import desk_in_memory

SERVER = "tokyo-1"
(VERSION,) = TESTED
CODES = ("bybit", "kucoin")


class Meanwhile(MemoryStore):
    """Lets something happen once, just before a row is written whose key holds *part*."""

    def __init__(self, part: str, happens: Callable[[], None]) -> None:
        super().__init__()
        self.part, self.skip = part, 0
        self._happens = happens

    def put(self, key: str, text: str, *, expect: int) -> int:
        if self.part and self.part in key:
            self.skip -= 1
            if self.skip < 0:
                self.part = ""
                self._happens()
        return super().put(key, text, expect=expect)


AT_THE_INTENTS = "/exchange/kucoin"
INTENT, OUTCOME = 0, 1
AFTER_THE_FIRST = "brake/"  # was read back, watched, and proved the version


async def prepared() -> tuple[Harness, MemoryServer]:
    harness: Harness = await desk_in_memory(1)
    server = harness.handles[SERVER].server
    assert isinstance(server, MemoryServer)
    for code in CODES:
        harness.rotate(SERVER, code)
        harness.declare(SERVER, code)
    return harness, server


async def two_writes(
    clock: VirtualClock, happens: str, moment: str
) -> tuple[list[Outcome], MemoryServer]:
    harness, server = await prepared()

    def lost() -> None:
        assert server.open is not None
        server.open.drop(None)

    def another_server() -> None:
        for robot in server.robots:
            robot.id += 100
        lost()

    def long_ago() -> None:
        for robot in server.robots_running():
            server.set_running(robot, running=False)
        clock.sleep(60.0)

    deeds = {
        "nothing": lambda: None,
        "lost": lost,
        "another server": another_server,
        "a hand": lambda: harness.edit(SERVER, "kucoin", "all"),
        "robots stopped": long_ago,
    }
    harness.store = Meanwhile(moment, deeds[happens])
    harness.begin()
    passed = await harness.apply()
    return [outcome for report in passed.reports for outcome in report.outcomes], server


@pytest.mark.parametrize(
    ("happens", "moment", "codes", "saves"),
    [
        ("nothing", AT_THE_INTENTS, [Exit.DONE, Exit.DONE], 2),
        ("lost", AT_THE_INTENTS, [Exit.DONE, Exit.DONE], 2),
        ("another server", AT_THE_INTENTS, [Exit.BLOCKED, Exit.DONE], 0),
        ("another server", AFTER_THE_FIRST, [Exit.DONE, Exit.BLOCKED], 1),
        ("a hand", AT_THE_INTENTS, [Exit.DONE, Exit.BLOCKED], 1),
        ("a hand", AFTER_THE_FIRST, [Exit.DONE, Exit.BLOCKED], 1),
        ("robots stopped", AT_THE_INTENTS, [Exit.DONE, Exit.DONE], 2),
        ("robots stopped", AFTER_THE_FIRST, [Exit.DONE, Exit.DONE], 2),
    ],
)
def test_a_write_sees_what_came_before_it(
    happens: str, moment: str, codes: list[Exit], saves: int
) -> None:
    clock = VirtualClock()
    with virtual_time(clock) as runner:
        outcomes, server = runner.run(two_writes(clock, happens, moment))

    assert [outcome.code for outcome in outcomes] == codes
    assert server.record.saves == saves


@pytest.mark.parametrize("by_hand_too", [False, True])
def test_no_look_at_the_ledger_makes_an_old_decision_a_new_one(*, by_hand_too: bool) -> None:
    """Another process wrote a newer version, whose masks are the same; ours is not put over it."""

    async def story() -> tuple[list[Outcome], int, set[int]]:
        harness, server = await prepared()
        (desired,) = harness.state().servers

        def another_process() -> None:
            ledger = harness.ledger()
            known = ledger.load(desired.target, SERVER)
            assert known.identity is not None
            written = known.exchanges["bybit"].written
            assert written is not None
            sources = {name: replace(ref, version=99) for name, ref in written.sources.items()}
            ledger.intend(known.identity.uid, "bybit", replace(written, sources=sources), ())
            ledger.commit(known.identity.uid, "bybit", boot=None)
            if by_hand_too:  # so it is asked whether that process wrote this one as well
                harness.edit(SERVER, "kucoin", "all")

        harness.store = Meanwhile("", another_process)
        harness.begin()
        await harness.apply()
        for code in CODES:
            harness.rotate(SERVER, code)
        saves = server.record.saves
        harness.store.part = "/lease"
        passed = await harness.apply()
        written = harness.ledger().look(desired.target, SERVER).exchanges["bybit"].written
        assert written is not None
        outcomes = [outcome for report in passed.reports for outcome in report.outcomes]
        versions = {ref.version for ref in written.sources.values()}
        return outcomes, server.record.saves - saves, versions

    with virtual_time(VirtualClock()) as runner:
        outcomes, saves, versions = runner.run(story())

    assert (outcomes[0].result, outcomes[0].code) == (Result.FAILED, Exit.BLOCKED)
    assert "another process worked on bybit" in outcomes[0].detail
    assert (saves, versions) == (0, {99})


async def after_a_save(
    happens: Callable[[Harness, MemoryServer], None],
) -> tuple[list[Exit], list[str], Harness]:
    """Write to a server of a proven version; *happens* as soon as the first save is done."""
    harness, server = await prepared()
    breaker, note = CircuitBreaker(), server.record.add_done
    breaker.prove(VERSION)

    def noted(*what: Any) -> None:
        note(*what)
        if what[0] == "save" and server.record.saves == 1:
            happens(harness, server)

    server.record.add_done = noted  # type: ignore[method-assign]
    passed = await harness.apply(brake=breaker)
    codes = [outcome.code for report in passed.reports for outcome in report.outcomes]
    return codes, [str(received.event) for received in server.record.received], harness


def run(
    happens: Callable[[Harness, MemoryServer], None],
) -> tuple[list[Exit], list[str], Harness]:
    with virtual_time(VirtualClock()) as runner:
        return runner.run(after_a_save(happens))


def test_between_two_writes_there_is_one_look() -> None:
    codes, events, _ = run(lambda _harness, _server: None)

    assert codes == [Exit.DONE, Exit.DONE]
    first, second = (n for n, event in enumerate(events) if event == "exchange-config-save")
    assert events[first + 1 : second] == ["exchange-config-request", "background-jobs-list-request"]


def test_the_look_after_a_write_is_compared_with_the_plan_before_the_next() -> None:
    codes, events, harness = run(lambda harness, _: harness.edit(SERVER, "kucoin", "all"))

    assert codes == [Exit.DONE, Exit.BLOCKED]
    assert events.count("exchange-config-save") == 1
    assert harness.whole(SERVER, "bybit")


def test_robots_that_stop_after_a_write_end_the_writes_of_this_server() -> None:
    def stop_all(_: Harness, server: MemoryServer) -> None:
        for robot in server.robots_running():
            server.set_running(robot, running=False)

    codes, events, _ = run(stop_all)

    assert codes == [Exit.HARM, Exit.DONE]  # not attempted
    assert events.count("exchange-config-save") == 1


def test_a_brake_that_another_process_puts_on_between_two_writes_is_seen() -> None:
    def brake(harness: Harness, _: MemoryServer) -> None:
        (server,) = harness.ledger().servers()
        harness.ledger().engage_brake(VERSION, server, "made up")

    codes, events, _ = run(brake)

    assert codes == [Exit.DONE, Exit.BLOCKED]
    assert events.count("exchange-config-save") == 1


def test_a_pause_between_two_writes_is_seen() -> None:
    def pause(harness: Harness, _: MemoryServer) -> None:
        ledger, now = harness.ledger(), datetime.now(UTC)
        (server,) = ledger.servers()
        until = now + timedelta(days=3650)
        ledger.pauses.begin(Pause(server.target, "maintenance", "ann", stamp(now), until), now)

    codes, events, _ = run(pause)

    assert codes == [Exit.DONE, Exit.BLOCKED]
    assert events.count("exchange-config-save") == 1


async def second_pass(
    prepare: Callable[[Harness], None],
    number: int,
    happens: Callable[[Harness, MemoryServer], None],
    *,
    stopped: int = 0,
) -> tuple[list[Exit], Harness, MemoryServer]:
    """Write both; in another pass something *happens* at that change of bybit's row."""
    harness, server = await prepared()
    harness.store = store = Meanwhile("", lambda: happens(harness, server))
    harness.begin()
    if stopped:  # or the first write would leave it owed
        server.set_running(stopped, running=False)
    await harness.apply()
    prepare(harness)
    store.part, store.skip = "/exchange/bybit", number
    passed = await harness.apply()
    codes = [outcome.code for report in passed.reports for outcome in report.outcomes]
    return codes, harness, server


def test_a_robot_that_started_since_the_plan_is_owed_a_restart() -> None:
    def prepare(harness: Harness) -> None:
        harness.rotate(SERVER, "bybit")

    def start(harness: Harness, _: MemoryServer) -> None:
        harness.handles[SERVER].set_running(1, running=True)

    with virtual_time(VirtualClock()) as runner:
        codes, harness, _ = runner.run(second_pass(prepare, INTENT, start, stopped=1))
        (server,) = runner.run(harness.plan()).servers

    assert codes == [Exit.DONE]
    assert (Owed.RESTART, 1) in {(debt.owed, debt.robot_id) for debt in server.debts}


def test_a_delete_is_not_blamed_for_robots_that_stopped_long_after_the_write_before_it() -> None:
    clock = VirtualClock()

    def prepare(harness: Harness) -> None:
        harness.rotate(SERVER, "bybit")
        harness.declare(SERVER, "kucoin", "absent")

    def at_the_outcome(_: Harness, server: MemoryServer) -> None:
        for robot in server.robots_running():
            server.set_running(robot, running=False)
        clock.sleep(20.0)

    with virtual_time(clock) as runner:
        codes, _, server = runner.run(second_pass(prepare, OUTCOME, at_the_outcome))

    assert codes == [Exit.DONE, Exit.DONE]
    assert not any(name.startswith("kucoin") for name in server.values())


class Remembering(MemoryStore):
    """Remembers under which keys rows were written, in order."""

    def __init__(self) -> None:
        super().__init__()
        self.written: list[str] = []

    def put(self, key: str, text: str, *, expect: int) -> int:
        self.written.append(key)
        return super().put(key, text, expect=expect)


def test_the_lease_is_given_back_when_everything_else_is_written() -> None:
    """Where each row is a write of its own, another process may come as soon as it is free."""

    async def a_pass() -> list[str]:
        harness, _ = await prepared()
        harness.store = store = Remembering()
        harness.begin()
        await harness.apply()
        return [key for key in store.written if key.startswith("server/")]

    with virtual_time(VirtualClock()) as runner:
        written = runner.run(a_pass())

    assert any(key.endswith("/history") for key in written)
    assert written[-1].endswith("/lease")
