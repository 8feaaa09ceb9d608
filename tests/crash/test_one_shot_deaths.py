"""
Death at every moment of a pass that restarts robots, invalidates and reboots, in memory.

A moment is just before or just after a write to the ledger, a request that changes the server, or
its answer.  No chance is involved, and all durations are the real ones, on virtual time.  The
server does what it is asked, or not, or late, or nobody can read what it did.
"""

import asyncio
import itertools
import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import pytest

from reconciler.drivers import Session
from reconciler.drivers.jt_trader.requests import ALL
from reconciler.ledger import Store
from reconciler.model.desired import RequestKind
from reconciler.testing.virtual_time import VirtualClock, virtual_time
from tests.crash.forkserver import VOLUME
from tests.crash.request_scenarios import (
    RUNNING,
    Judgement,
    Trading,
    a_reboot,
    everything,
    judged,
    restarts,
    settled,
    whereabouts,
)
from tests.crash.server_models import Way

Wishes = Callable[[Trading], None]

READING: Final = {
    *("target", "patience", "observe", "unchanged", "exchanges", "robots", "log", "entries"),
    *("ended", "close"),
}
CHANGING: Final = {"save", "delete", "stop", "start", "invalidate", "reboot"}
UNREADABLE: Final = (Way.UNREADABLE, Way.UNREADABLE_LOST)
SOON: Final = 20.0  # seconds from a death to the next pass
TOO_LATE: Final = 700.0  # robots are started again within ten minutes only


async def begun(clock: VirtualClock, wishes: Wishes, way: Way) -> Trading:
    """A settled server on which something is wished."""
    harness = await settled(clock)
    harness.trader.way = way
    wishes(harness)
    return harness


@dataclass(frozen=True, slots=True)
class Story:
    """Who dies when, and what happens until the next pass, which comes after *pause* seconds."""

    wishes: Wishes
    way: Way
    deaths: tuple[int, ...]
    meddling: str = ""
    pause: float = SOON

    def __str__(self) -> str:
        more = f" {self.meddling}" if self.meddling else ""
        return f"{self.wishes.__name__} {self.way.name}{more} {self.deaths}"


async def told(clock: VirtualClock, story: Story) -> Judgement:
    """Tell a story to its end and judge it."""
    harness = await begun(clock, story.wishes, story.way)
    passes = []
    for death in story.deaths:
        passes.append(await harness.apply(dies_at=death))
        await asyncio.sleep(story.pause)
    found_open = harness.requests().open is not None
    down = whereabouts(harness.trader.acts).down
    await meddle(harness, story.meddling)
    before = len(harness.trader.acts)
    for _ in range(3):
        passes.append(await harness.apply())
        await asyncio.sleep(SOON)
    verdict = await judged(harness, passes, readable=story.way not in UNREADABLE)
    verdict.counts["left open by the dead"] += found_open
    if story.pause > SOON:
        later = {act.robot for act in harness.trader.acts[before:] if act.what == "start"}
        verdict.holds(not later & down, f"started too late: {later & down}")
    died_at = passes[0].life.trace[-1]
    verdict.wrong = [f"{story} ({died_at}): {wrong}" for wrong in verdict.wrong]
    return verdict


async def meddle(harness: Trading, how: str) -> None:
    """Let somebody else do something."""
    match how:
        case "boots":
            doubt = harness.requests().open
            ours = doubt is not None and doubt.kind is RequestKind.REBOOT
            if ours and not harness.trader.count("rebooted"):
                # Nobody can tell it from ours, which may have been sent: the wish is fulfilled.
                await harness.trader.reboot_by_hand("boot taken for ours")
            else:
                await harness.trader.reboot_by_hand()
        case "starts":
            harness.trader.turn_by_hand(3, running=True)


def moments(wishes: Wishes, way: Way) -> int:
    """How many moments the pass of these wishes has."""
    clock = VirtualClock()
    with virtual_time(clock) as runner:
        harness = runner.run(begun(clock, wishes, way))
        return runner.run(harness.apply()).life.moments


def judge_all(stories: Sequence[Story]) -> Counter[str]:
    """Tell all stories; nothing may be wrong with any."""
    counts: Counter[str] = Counter()
    wrong: list[str] = []
    for story in stories:
        clock = VirtualClock()
        with virtual_time(clock) as runner:
            verdict = runner.run(told(clock, story))
        counts += verdict.counts
        wrong += verdict.wrong
    print(f"FIGURES: {len(stories)} histories, {dict(sorted(counts.items()))}")  # noqa: T201  - shown with -rP
    assert not wrong, f"{len(wrong)} wrong: " + "\n".join(wrong[:8])
    return counts


WAYS: Final[dict[Wishes, tuple[Way, ...]]] = {
    everything: (Way.DID, Way.DID_SILENTLY, Way.LOST, Way.LATE, Way.UNREADABLE),
    restarts: (
        Way.DID,
        Way.STOP_LOST,
        Way.STOP_UNTOLD,
        Way.START_LOST,
        Way.START_UNTOLD,
        Way.START_FAILS,
        Way.GIVES_UP,
    ),
    a_reboot: (
        Way.DID,
        Way.DID_SILENTLY,
        Way.LOST,
        Way.IGNORED,
        Way.LATE,
        Way.UNREADABLE,
        Way.UNREADABLE_LOST,
        Way.HANGS,
        Way.START_LOST,
        Way.START_FAILS,
        Way.GIVES_UP,
    ),
}
CASES: Final = [(wishes, way) for wishes, ways in WAYS.items() for way in ways]


def named(case: object) -> str:
    return case.name if isinstance(case, Way) else getattr(case, "__name__", str(case))


@pytest.mark.timeout(VOLUME)
@pytest.mark.parametrize(("wishes", "way"), CASES, ids=named)
def test_one_death_at_any_moment(wishes: Wishes, way: Way) -> None:
    counts = judge_all([Story(wishes, way, (at,)) for at in range(moments(wishes, way))])

    if way is Way.DID and wishes is a_reboot:
        assert counts["left open by the dead"] >= 4
        assert counts["reboot went to a person"] == 0


@pytest.mark.parametrize("meddling", ["boots", "starts"])
@pytest.mark.parametrize("wishes", [restarts, a_reboot], ids=named)
def test_one_death_and_then_somebody_else(wishes: Wishes, meddling: str) -> None:
    last = moments(wishes, Way.DID)
    judge_all([Story(wishes, Way.DID, (at,), meddling) for at in range(last)])


@pytest.mark.parametrize("wishes", [restarts, a_reboot], ids=named)
def test_one_death_and_nobody_comes_for_a_long_time(wishes: Wishes) -> None:
    last = moments(wishes, Way.DID)
    judge_all([Story(wishes, Way.DID, (at,), pause=TOO_LATE) for at in range(last)])


@pytest.mark.timeout(VOLUME)
@pytest.mark.parametrize("wishes", WAYS, ids=named)
def test_two_deaths(wishes: Wishes) -> None:
    chance = random.Random(f"two deaths {wishes.__name__}")
    pairs = []
    for way in WAYS[wishes]:
        last = range(moments(wishes, way))
        pairs += [Story(wishes, way, pair) for pair in itertools.product(last, repeat=2)]
    judge_all(chance.sample(pairs, 30))


@pytest.mark.long
@pytest.mark.timeout(3600)
@pytest.mark.parametrize(("wishes", "way"), CASES, ids=named)
def test_every_two_deaths(wishes: Wishes, way: Way) -> None:
    last = range(moments(wishes, way))
    judge_all([Story(wishes, way, pair) for pair in itertools.product(last, repeat=2)])


# ── the moments themselves ───────────────────────────────────────────────────────────────────


def test_every_request_that_changes_a_server_has_its_moments() -> None:
    methods = {name for name in vars(Session) if not name.startswith("_")}
    assert methods == READING | CHANGING

    traced: set[str] = set()
    for wishes in WAYS:
        clock = VirtualClock()
        with virtual_time(clock) as runner:
            harness = runner.run(begun(clock, wishes, Way.DID))
            before = arrived(harness)
            noted = harness.store.sequence()
            passed = runner.run(harness.apply())
        requests, notes = arrived(harness) - before, harness.store.sequence() - noted
        # Counted by the server and by the store, which know nothing of moments.
        assert passed.life.moments == 2 * (requests + notes)
        traced |= {what.removeprefix("before ") for what in passed.life.trace}
        assert harness.trader.running() == RUNNING
    assert traced >= CHANGING


def test_a_store_writes_in_no_way_at_which_nobody_dies() -> None:
    """Of `MortalStore` here, and of the processes that `tests/crash/forkserver.py` kills."""
    methods = {name for name in vars(Store) if not name.startswith("_")}

    assert methods == {
        "created",
        "at_hand",
        "get",
        "put",
        "put_all",
        "keys",
        "rows",
        "sequence",
        "close",
    }


def arrived(harness: Trading) -> int:
    """How many requests that change it the server itself has received."""
    received = [received.event for received in harness.trader.server.record.received]
    return sum(received.count(request.event) for request in ALL if request.writes)
