"""
Death at every moment of a pass, and at every pair of moments of two, in memory: no chance involved.

A moment is just before or just after a write to the ledger or a request that changes the server.
"""

import asyncio
import itertools
import random
from collections.abc import Coroutine, Iterator

import pytest

from reconciler.model.plan import Status
from reconciler.model.recorded import Owed
from reconciler.plan.inputs import Consents
from reconciler.testing.virtual_time import Clock, VirtualLoop
from tests.crash.forkserver import VOLUME
from tests.crash.harness import Harness
from tests.crash.scenarios import converges, desk_in_memory
from tests.support.strategies import TUNINGS

SERVER = "tokyo-1"
SHARES = [
    16,
    pytest.param(4, marks=pytest.mark.volume),
    pytest.param(1, marks=pytest.mark.long),
]
"""Of all pairs of moments one in so many."""


@pytest.fixture(scope="module")
def loop() -> Iterator[asyncio.Runner]:
    """One loop for all deaths; in memory nothing needs a thread, or time."""
    with asyncio.Runner(loop_factory=lambda: VirtualLoop(Clock())) as runner:
        yield runner


async def settled_desk() -> Harness:
    """A server on which bybit, where a robot runs, and kucoin are written."""
    harness = await desk_in_memory(1)
    for code in ("bybit", "kucoin"):
        harness.rotate(SERVER, code)
        harness.declare(SERVER, code)
    await harness.apply()
    return harness


def change(harness: Harness, number: int) -> None:
    """Rotate one exchange; let another one go and come back."""
    harness.rotate(SERVER, "bybit", "rest" if number % 2 else "all")
    if number % 2:
        harness.declare(SERVER, "kucoin", "absent")
    else:
        harness.rotate(SERVER, "kucoin")
        harness.declare(SERVER, "kucoin")


async def ends_well(harness: Harness) -> None:
    """Nothing is left to do, and nobody has to be asked: no other hand was here."""
    await converges(harness, Consents())
    after = await harness.plan()
    assert [one for one in after for line in one.lines if line.status is Status.BLOCKED] == []


async def moments(number: int) -> int:
    """How many moments the pass after that many changes has."""
    harness = await settled_desk()
    for earlier in range(1, number + 1):
        change(harness, earlier)
        passed = await harness.apply()
        assert all(o.code == 0 for report in passed.reports for o in report.outcomes)
    return passed.life.moments


def test_after_one_death_at_any_moment_a_plain_apply_is_enough(
    loop: asyncio.Runner,
) -> None:
    async def story(number: int, death: int) -> None:
        harness = await settled_desk()
        for earlier in range(1, number):
            change(harness, earlier)
            await harness.apply()
        change(harness, number)
        passed = await harness.apply(dies_at=death)
        assert passed.life.dead
        await ends_well(harness)

    deaths = [(number, death) for number in (1, 2) for death in range(loop.run(moments(number)))]
    failed = [f"{told}: {why}" for told in deaths if (why := failure(loop, story(*told)))]
    print(f"FIGURES: {len(deaths)} deaths")  # noqa: T201  - shown with -rP
    assert not failed, f"{len(failed)} of {len(deaths)}: {failed[:5]}"


def test_what_was_written_before_a_death_is_known_to_be_ours(loop: asyncio.Runner) -> None:
    """Of each of several writes: rotated once more, nothing on the server is a foreign hand's."""

    def rotate(harness: Harness) -> None:
        for code in ("bybit", "kucoin"):
            harness.rotate(SERVER, code)
            harness.declare(SERVER, code)

    async def story(death: int) -> bool:
        harness = await settled_desk()
        rotate(harness)
        passed = await harness.apply(dies_at=death)
        rotate(harness)
        await ends_well(harness)
        return passed.life.dead

    deaths = 0
    while loop.run(story(deaths)):
        deaths += 1
    assert deaths > 4  # both writes, their intents, and what became of them


@pytest.mark.timeout(VOLUME)
@pytest.mark.parametrize("share", SHARES)
def test_after_two_deaths_at_any_moments_a_plain_apply_is_enough(
    loop: asyncio.Runner, share: int
) -> None:
    async def story(first: int, second: int) -> None:
        harness = await settled_desk()
        for number, death in ((1, first), (2, second)):
            change(harness, number)
            await harness.apply(dies_at=death)
        await ends_well(harness)

    last = loop.run(moments(1))
    deaths = list(itertools.product(range(last), repeat=2))
    deaths = random.sample(deaths, len(deaths) // share)  # a failure names them
    failed = [f"{told}: {why}" for told in deaths if (why := failure(loop, story(*told)))]
    print(f"FIGURES: {len(deaths)} pairs of deaths")  # noqa: T201  - shown with -rP
    assert not failed, f"{len(failed)} of {len(deaths)}: {failed[:5]}"


def failure(loop: asyncio.Runner, story: Coroutine[object, object, None]) -> str:
    """Say how a story ended that should have ended well."""
    try:
        loop.run(story)
    except AssertionError as error:
        return str(error) or "an assertion"
    return ""


@pytest.mark.timeout(VOLUME)
@pytest.mark.parametrize("share", SHARES)
def test_no_debt_is_lost_by_two_deaths(loop: asyncio.Runner, share: int) -> None:
    # A key is written, then its companions change: the server may have cached the first pair, so
    # only a reboot helps, whichever of the processes died and wherever.
    async def story(first: int, second: int) -> None:
        harness = await desk_in_memory(1)
        harness.rotate(SERVER, "bybit")
        harness.declare(SERVER, "bybit")
        await harness.apply()
        handle = harness.handles[SERVER]
        harness.rotate(SERVER, "bybit", "all")
        new_key = harness.desired(SERVER, "bybit")
        await harness.apply(dies_at=first)
        arrived = harness.stored(SERVER, "bybit") == new_key
        # The robot is restarted by hand and holds what is there now.
        handle.set_running(1, running=False)
        await harness.plan()
        handle.set_running(1, running=True)
        harness.rotate(SERVER, "bybit", "rest")
        await harness.apply(dies_at=second)
        await ends_well(harness)
        server = (await harness.plan()).servers[0]
        owed = {(debt.owed, debt.robot_id) for debt in server.debts}
        assert (Owed.RESTART, 1) in owed, owed
        if arrived:
            assert (Owed.REBOOT, None) in owed, owed

    deaths = list(itertools.product(range(14), repeat=2))
    deaths = random.sample(deaths, len(deaths) // share)  # a failure names them
    failed = [f"{told}: {why}" for told in deaths if (why := failure(loop, story(*told)))]
    assert not failed, f"{len(failed)} of {len(deaths)}: {failed[:5]}"


def test_going_back_to_the_old_values_after_a_death_still_owes_a_restart(
    loop: asyncio.Runner,
) -> None:
    async def story(first: int) -> None:
        harness = await desk_in_memory(1)
        harness.rotate(SERVER, "bybit")
        harness.declare(SERVER, "bybit")
        await harness.apply()
        old = harness.stored(SERVER, "bybit")
        handle = harness.handles[SERVER]
        harness.rotate(SERVER, "bybit", "all")
        await harness.apply(dies_at=first)
        arrived = harness.stored(SERVER, "bybit") != old
        handle.set_running(1, running=False)
        harness.changes[SERVER] = dict(TUNINGS["observe"])
        await harness.apply()  # sees the robot stopped, writes nothing
        harness.changes[SERVER] = {}
        handle.set_running(1, running=True)  # with the new values, if they had arrived
        harness.rotate(SERVER, "bybit", "back")
        await ends_well(harness)
        assert harness.stored(SERVER, "bybit") == old
        server = (await harness.plan()).servers[0]
        if arrived:
            assert (Owed.RESTART, 1) in {(debt.owed, debt.robot_id) for debt in server.debts}

    failed = [f"{told}: {why}" for told in range(14) if (why := failure(loop, story(told)))]
    assert not failed, failed
