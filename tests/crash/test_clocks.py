"""
Clocks that are wrong: the server's by hours, ours that jumps, and the night when summer time ends.

Nothing expires early, nothing is done twice or too early, and no boot counts that was before.
"""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from typing import Final

import pytest

from reconciler.documents.formats import instant
from reconciler.model.desired import OnCredentialChange, RequestKind, Suspension
from reconciler.model.plan import Disruption, Standing
from reconciler.model.recorded import Pause
from reconciler.model.target import Target
from reconciler.model.timestamps import stamp
from reconciler.model.values import replace
from reconciler.system.clocks import SteadyClock
from reconciler.testing.virtual_time import VirtualClock, virtual_time
from tests.crash.harness import Passed
from tests.crash.request_scenarios import (
    RUNNING,
    SERVER,
    URL,
    Trading,
    cache,
    everything,
    judged,
    reboot,
    settled,
    told,
    whereabouts,
)

HOUR: Final = timedelta(hours=1)
YEAR: Final = timedelta(days=365)
JUMPS: Final = (HOUR, -HOUR, YEAR, -YEAR)
PAUSE: Final = 60.0


def run(story: Callable[[VirtualClock], Awaitable[None]]) -> None:
    async def whole(clock: VirtualClock) -> None:
        await story(clock)

    clock = VirtualClock()
    with virtual_time(clock) as runner:
        runner.run(whole(clock))


def line(passed: Passed, kind: RequestKind) -> Disruption:
    assert passed.plan is not None
    (found,) = (d for d in passed.plan.servers[0].disruptions if d.kind is kind)
    return found


def steady(harness: Trading) -> None:
    """Watch our clock as a command does, from its beginning."""
    harness.jumped = SteadyClock(harness.time.wall, harness.time.since_boot).jumped


# ── the server's clock ───────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("hours", [-26, -3, -1, 0, 1, 3, 26])
@pytest.mark.parametrize(("minutes", "met"), [(-30, False), (30, True)])
def test_a_boot_by_others_is_judged_by_the_servers_own_clock(
    hours: int, minutes: int, *, met: bool
) -> None:
    # The boot is half an hour before or after the instant, whatever the server's clock shows.
    async def story(clock: VirtualClock) -> None:
        harness = await settled(clock)
        harness.trader.server.behaviour.clock_offset = hours * 3600.0
        # What this clock wrote until now; a server's log never goes back.
        harness.trader.server.rotate_log()
        await harness.trader.reboot_by_hand()
        for robot in RUNNING:
            harness.trader.turn_by_hand(robot, running=True)
        harness.trader.acts.clear()
        await asyncio.sleep(7200)
        harness.wish(reboot=reboot(harness, 120 + minutes))

        passed = await harness.apply()

        assert (line(passed, RequestKind.REBOOT).standing is Standing.SATISFIED) == met, told(
            passed.plan
        )
        assert harness.trader.count("rebooted") == (not met)
        for _ in range(2):
            await asyncio.sleep(PAUSE)
            await harness.apply()
        assert harness.trader.count("rebooted") == (not met)

    run(story)


@pytest.mark.parametrize("hours", [-26, -1, 1, 26])
def test_our_own_reboot_is_proved_whatever_the_servers_clock_shows(hours: int) -> None:
    async def story(clock: VirtualClock) -> None:
        harness = await settled(clock)
        harness.trader.server.behaviour.clock_offset = hours * 3600.0
        everything(harness)

        passes = [await harness.apply()]
        for _ in range(2):
            await asyncio.sleep(PAUSE)
            passes.append(await harness.apply())

        verdict = await judged(harness, passes)
        assert not verdict.wrong
        assert (harness.trader.count("rebooted"), harness.trader.count("invalidated")) == (1, 1)
        assert harness.trader.running() == RUNNING

    run(story)


@pytest.mark.parametrize("seconds", [-90.0, 30.0, 59.0])
def test_a_boot_too_close_to_the_instant_does_not_count(seconds: float) -> None:
    async def story(clock: VirtualClock) -> None:
        harness = await settled(clock)
        harness.wish(
            reboot=replace(reboot(harness), instant=clock.truth() - timedelta(seconds=seconds))
        )
        await harness.trader.reboot_by_hand()
        await asyncio.sleep(PAUSE)

        passed = await harness.apply()

        assert line(passed, RequestKind.REBOOT).standing is not Standing.SATISFIED

    run(story)


@pytest.mark.parametrize("ahead", [None, -86_400.0])
def test_a_clock_that_does_not_tell_or_contradicts_the_log_satisfies_nothing(
    ahead: float | None,
) -> None:
    # None: the web page has no `Date`.  A day behind: a proxy answers with a clock of its own.
    async def story(clock: VirtualClock) -> None:
        harness = await settled(clock)
        await harness.trader.reboot_by_hand()
        await asyncio.sleep(3600)
        harness.wish(reboot=reboot(harness, 120))
        harness.trader.server.ahead = lambda: ahead

        passed = await harness.apply()

        assert line(passed, RequestKind.REBOOT).standing is not Standing.SATISFIED

    run(story)


# ── our clock ────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("jump", JUMPS)
def test_our_clock_jumps_within_a_pass(jump: timedelta) -> None:
    # Before it is planned: nothing is begun and nothing expires while the clock is not believed.
    async def story(clock: VirtualClock) -> None:
        harness = await settled(clock)
        harness.wish(cache=cache(harness, expires_after=2 * HOUR), reboot=reboot(harness))
        steady(harness)
        clock.set_by += jump

        passed = await harness.apply()

        for kind in RequestKind:
            assert line(passed, kind).standing is Standing.HELD, told(passed.plan)
            assert "clock" in line(passed, kind).why
        assert harness.trader.acts == []
        clock.set_by -= jump
        for _ in range(2):  # what the ledger noted may lie in the future, which is noticed first
            await asyncio.sleep(PAUSE)
            steady(harness)
            await harness.apply()
        assert (harness.trader.count("rebooted"), harness.trader.count("invalidated")) == (1, 1)

    run(story)


@pytest.mark.parametrize("jump", JUMPS)
def test_our_clock_jumps_while_robots_are_stopped(jump: timedelta) -> None:
    # What was begun goes on: how long ago it was is told by a clock that never jumps.
    async def story(clock: VirtualClock, death: int) -> bool:
        harness = await settled(clock)
        everything(harness)
        passes = [await harness.apply(dies_at=death)]
        # What the ledger noted last lies in the past of neither jump.
        clock.set_by += jump
        for _ in range(3):
            await asyncio.sleep(20)
            passes.append(await harness.apply())
        clock.set_by -= jump
        for _ in range(3):
            await asyncio.sleep(20)
            passes.append(await harness.apply())
        verdict = await judged(harness, passes)
        assert not verdict.wrong, f"{death}: {verdict.wrong}"
        return passes[0].life.dead

    death, died = 0, True
    while died:
        clock = VirtualClock()
        with virtual_time(clock) as runner:
            died = runner.run(story(clock, death))
        death += 1
    assert death > 30


@pytest.mark.parametrize("jump", JUMPS)
def test_our_clock_is_wrong_between_two_passes(jump: timedelta) -> None:
    # A later process cannot see that it jumped, but in no case is anything done twice.
    async def story(clock: VirtualClock) -> None:
        harness = await settled(clock)
        everything(harness)
        await harness.apply()
        acts = list(harness.trader.acts)
        for _ in range(2):
            clock.set_by += jump
            steady(harness)
            for _ in range(2):
                await asyncio.sleep(PAUSE)
                passed = await harness.apply()
            for kind in RequestKind:
                assert line(passed, kind).standing is Standing.DONE
        assert harness.trader.acts == acts

    run(story)


@pytest.mark.parametrize("back", [HOUR, YEAR])
def test_a_clock_behind_what_the_ledger_noted_begins_and_ends_nothing(back: timedelta) -> None:
    async def story(clock: VirtualClock) -> None:
        harness = await settled(clock)
        await asyncio.sleep(7200)
        await harness.apply()
        clock.set_by -= back
        steady(harness)
        harness.wish(
            cache=cache(harness, 5),
            reboot=replace(reboot(harness), instant=clock.truth() + timedelta(minutes=1)),
        )

        passed = await harness.apply()

        assert harness.trader.acts == []
        for kind in RequestKind:
            assert line(passed, kind).standing in (Standing.HELD, Standing.BASELINED)
        clock.set_by += back
        steady(harness)
        await asyncio.sleep(120)
        await harness.apply()
        assert (harness.trader.count("rebooted"), harness.trader.count("invalidated")) == (1, 1)

    run(story)


def test_robots_are_not_started_late_because_our_clock_went_back() -> None:
    async def story(clock: VirtualClock, death: int) -> tuple[bool, bool]:
        harness = await settled(clock)
        harness.wish(reboot=reboot(harness))
        passed = await harness.apply(dies_at=death)
        down = whereabouts(harness.trader.acts).down
        before = len(harness.trader.acts)
        await asyncio.sleep(3 * 3600)
        clock.set_by -= 3 * HOUR
        for _ in range(2):
            await asyncio.sleep(20)
            await harness.apply()
        started = {act.robot for act in harness.trader.acts[before:] if act.what == "start"}
        assert not started & down, death
        return passed.life.dead, bool(down)

    death, died, downs = 0, True, 0
    while died:
        clock = VirtualClock()
        with virtual_time(clock) as runner:
            died, down = runner.run(story(clock, death))
        downs += down
        death += 1
    assert downs > 5


# ── what ends by our clock ───────────────────────────────────────────────────────────────────


def suspended(harness: Trading, ends: timedelta) -> None:
    """Suspend the server in its document."""
    until = harness.time.truth() + ends
    harness.wish(suspend=Suspension("maintenance", "ann", until))


def paused(harness: Trading, ends: timedelta) -> None:
    """Pause the server as an operator does."""
    now = harness.time.truth()
    pause = Pause(Target(URL, "0"), "maintenance", "ann", stamp(now), now + ends)
    harness.ledger().pauses.begin(pause, now)


HELD: Final = {"suspension": suspended, "pause": paused}


@pytest.mark.parametrize("jump", JUMPS)
@pytest.mark.parametrize("kind", HELD)
def test_what_holds_a_server_back_ends_by_both_clocks(kind: str, jump: timedelta) -> None:
    """A year ahead nothing is over that was not before; a year behind it ends when it is right."""

    async def story(clock: VirtualClock) -> None:
        harness = await settled(clock)
        HELD[kind](harness, HOUR / 2)
        harness.rotate(SERVER, "bybit")
        before = harness.trader.values()
        steady(harness)
        clock.set_by += jump

        held = await harness.apply()

        assert held.plan is not None
        assert "suspended by ann" in held.plan.servers[0].held, told(held.plan)
        assert harness.trader.values() == before
        clock.set_by -= jump
        await asyncio.sleep(1900)
        steady(harness)
        await harness.apply()
        assert harness.trader.values() != before

    run(story)


def test_what_was_over_before_our_clock_jumped_holds_nothing_back() -> None:
    async def story(clock: VirtualClock) -> None:
        harness = await settled(clock)
        suspended(harness, HOUR / 2)
        paused(harness, HOUR / 2)
        harness.rotate(SERVER, "bybit")
        before = harness.trader.values()
        await asyncio.sleep(1900)
        steady(harness)
        clock.set_by += YEAR

        await harness.apply()

        assert harness.trader.values() != before

    run(story)


def test_no_robot_is_restarted_by_a_clock_that_jumped() -> None:
    async def story(clock: VirtualClock) -> None:
        harness = await settled(clock)
        harness.rotate(SERVER, "bybit")
        harness.wish(on_credential_change=OnCredentialChange.RESTART)
        before = harness.trader.values()
        steady(harness)
        clock.set_by += HOUR

        await harness.apply()

        assert harness.trader.values() != before, "keys are written as usual"
        assert harness.trader.acts == []
        clock.set_by -= HOUR
        steady(harness)
        await asyncio.sleep(HOUR.total_seconds())
        await harness.apply()
        assert harness.trader.count("started") == 2

    run(story)


# ── schedules ────────────────────────────────────────────────────────────────────────────────

NIGHTS: Final = (
    # The same moment in three spellings, in the hour that comes twice and in the one that is not.
    ("2026-10-25T02:30:00+02:00", "2026-10-25T00:30:00Z"),
    ("2026-10-25T02:30:00+01:00", "2026-10-25T01:30:00Z"),
    ("2027-03-28T01:59:59+01:00", "2027-03-28T00:59:59Z"),
    ("2027-03-28T03:00:00+02:00", "2027-03-28T01:00:00Z"),
    ("2026-11-22T23:30:00-05:00", "2026-11-23T04:30:00Z"),
)


@pytest.mark.parametrize(("written", "meant"), NIGHTS)
def test_a_schedule_begins_at_its_instant_and_not_before(written: str, meant: str) -> None:
    async def story(clock: VirtualClock) -> None:
        at = instant(written)
        assert at is not None
        assert at == datetime.fromisoformat(meant)
        # The world of this test begins two hours before.
        clock.shift(at - 2 * HOUR)
        harness = await settled(clock)
        harness.wish(
            reboot=replace(reboot(harness), instant=at), cache=replace(cache(harness), instant=at)
        )
        while clock.truth() < at - timedelta(seconds=90):
            passed = await harness.apply()
            assert line(passed, RequestKind.REBOOT).standing is Standing.SCHEDULED
            await asyncio.sleep(600)
            if clock.truth() > at - timedelta(seconds=600):
                break
        await asyncio.sleep((at - clock.truth()).total_seconds() - 1)
        await harness.apply()
        assert harness.trader.acts == []
        await asyncio.sleep(2)
        await harness.apply()
        assert (harness.trader.count("rebooted"), harness.trader.count("invalidated")) == (1, 1)
        for _ in range(3):  # and in the hour that comes again
            await asyncio.sleep(1800)
            await harness.apply()
        assert (harness.trader.count("rebooted"), harness.trader.count("invalidated")) == (1, 1)

    run(story)


@pytest.mark.parametrize(("late", "done"), [(-10.0, True), (2.0, False)])
def test_a_request_expires_at_its_time(late: float, *, done: bool) -> None:
    async def story(clock: VirtualClock) -> None:
        harness = await settled(clock)
        harness.wish(reboot=reboot(harness, 0), cache=cache(harness, 0))
        await asyncio.sleep(24 * 3600 + late)

        passed = await harness.apply()

        for kind in RequestKind:
            expired = line(passed, kind).standing is Standing.EXPIRED
            assert expired != done
        assert (harness.trader.count("rebooted"), harness.trader.count("invalidated")) == (
            done,
            done,
        )

    run(story)
