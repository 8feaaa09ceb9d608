"""
The ledger fails at its n-th write, for every n: nothing is sent that was not recorded before, what
was done is not forgotten, and a ledger that may have forgotten replays nothing.
"""

import asyncio
import copy
import stat
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from reconciler.errors import LedgerError
from reconciler.ledger import Store, Stored
from reconciler.ledger.stores.memory import MemoryStore
from reconciler.ledger.unrecorded import UnrecordedOutcomes
from reconciler.model.desired import Kind
from reconciler.model.plan import Standing
from reconciler.model.recorded import Stage
from tests.crash.desk import Passed
from tests.crash.one_shots import (
    Trading,
    a_reboot,
    cache,
    everything,
    judged,
    reboot,
    restarts,
    settled,
    told,
)
from tests.crash.virtual import VirtualClock, virtual_time

Wishes = Callable[[Trading], None]
PAUSE = 31.0  # longer than a lease that could not be given back


class FailingStore:
    """Fails at its write number *number*, counted from 0: once, or from then on."""

    created = False

    def __init__(self, store: Store, number: int, *, written: bool, for_good: bool) -> None:
        self._store = store
        self._left = number
        self._written = written
        self._for_good = for_good
        self.failed: list[str] = []

    def get(self, key: str) -> Stored | None:
        return self._store.get(key)

    def put(self, key: str, text: str, *, expect: int) -> int:
        fails = self._left == 0 or (self._left < 0 and self._for_good)
        self._left -= 1
        if not fails:
            return self._store.put(key, text, expect=expect)
        self.failed.append(key.rpartition("/")[2])
        if self._written:
            self._store.put(key, text, expect=expect)
        raise LedgerError("the ledger could not be written: made up", "try again")

    def keys(self, prefix: str) -> list[str]:
        return self._store.keys(prefix)

    def sequence(self) -> int:
        return self._store.sequence()

    def close(self) -> None:
        """Keep it."""


async def troubled(
    desk: Trading, wishes: Wishes, number: int, *, written: bool, for_good: bool
) -> tuple[Passed, list[str]]:
    """One pass on a ledger that fails; then the ledger is well again."""
    wishes(desk)
    whole = desk.store
    failing = FailingStore(whole, number, written=written, for_good=for_good)
    desk.store = failing
    passed = await desk.apply()
    desk.store = whole
    return passed, failing.failed


HOW = [(False, False), (False, True), (True, False), (True, True)]


@pytest.mark.parametrize(("written", "for_good"), HOW)
@pytest.mark.parametrize("wishes", [everything, restarts, a_reboot])
def test_every_write_fails_once(
    wishes: Wishes, tmp_path: Path, *, written: bool, for_good: bool
) -> None:
    async def story(clock: VirtualClock, number: int) -> tuple[list[str], int, bool]:
        desk = await settled(clock)
        folder = tmp_path / f"{number}"
        desk.unrecorded = UnrecordedOutcomes(folder)
        passed, failed = await troubled(desk, wishes, number, written=written, for_good=for_good)
        passes = [passed]
        if failed and not desk.trader.acts:
            counts["nothing was sent"] += 1
        files = list(folder.glob("*")) if folder.exists() else []
        counts["emergency files"] += len(files)
        for file in files:
            assert stat.S_IMODE(file.stat().st_mode) == 0o600
            for values in desk.versions.values():
                assert not any(v in file.read_text() for fields in values for v in fields.values())
        for _ in range(4):
            await asyncio.sleep(PAUSE)
            passes.append(await desk.apply())
        if files:
            # Its answer is known: it went to nobody.
            assert desk.requests().open is None, failed
            assert not list(folder.glob("*")), "a file was not picked up"
        verdict = await judged(desk, passes)
        counts.update(verdict.counts)
        return [f"{number} {failed[:1]}: {wrong}" for wrong in verdict.wrong], number, not failed

    counts: Counter[str] = Counter()
    wrong: list[str] = []
    number, clean = 0, False
    while not clean:
        clock = VirtualClock()
        with virtual_time(clock) as runner:
            found, _, clean = runner.run(story(clock, number))
        wrong += found
        number += 1
        assert number < 100
    print(f"FIGURES: {number - 1} failing writes, {dict(sorted(counts.items()))}")  # noqa: T201  - shown with -rP
    assert number > 11
    assert counts["emergency files"] > 0 or (wishes is restarts and not counts)
    assert not wrong, f"{len(wrong)} wrong: " + "\n".join(wrong[:8])
    # What was not sent is known not to have been sent, unless the ledger failed for good.
    assert for_good or not counts["invalidate-cache went to a person"]


def test_what_the_ledger_could_not_take_is_picked_up_with_nothing_else_to_do(
    tmp_path: Path,
) -> None:
    async def story(clock: VirtualClock) -> None:
        desk = await settled(clock)
        desk.unrecorded = UnrecordedOutcomes(tmp_path / "emergency")

        def wishes(desk: Trading) -> None:
            desk.wish(cache=cache(desk))

        # pin needs no write; then the lease, the intent, and the result
        passed, failed = await troubled(desk, wishes, 2, written=False, for_good=True)
        assert failed[0] == "requests"
        assert desk.trader.count("invalidated") == 1
        (file,) = (tmp_path / "emergency").iterdir()
        assert str(file) in passed.reports[0].outcomes[0].remedy
        plan = await desk.plan()
        (line,) = plan.servers[0].disruptions
        assert line.standing is Standing.DONE, told(plan)

        await asyncio.sleep(PAUSE)
        later = await desk.apply()

        assert later.reports[0].failure is None
        assert not file.exists()
        (request,) = desk.requests().past
        assert (request.kind, request.stage) == (Kind.CACHE, Stage.DONE)
        assert desk.requests().open is None
        assert desk.trader.count("invalidate") == 1

    clock = VirtualClock()
    with virtual_time(clock) as runner:
        runner.run(story(clock))


# ── a ledger that forgot ─────────────────────────────────────────────────────────────────────


async def rebooted(desk: Trading) -> None:
    """Invalidate and reboot, once."""
    desk.wish(cache=cache(desk), reboot=reboot(desk))
    passed = await desk.apply()
    assert all(outcome.code == 0 for outcome in passed.reports[0].outcomes)
    assert (desk.trader.count("rebooted"), desk.trader.count("invalidated")) == (1, 1)


def test_a_new_ledger_replays_nothing() -> None:
    async def story(clock: VirtualClock) -> None:
        desk = await settled(clock)
        await rebooted(desk)
        acts = len(desk.trader.acts)
        await asyncio.sleep(PAUSE)
        desk.store = MemoryStore()
        desk.begin()
        for _ in range(3):
            passed = await desk.apply()
            await asyncio.sleep(PAUSE)
        assert passed.plan is not None
        standings = {line.kind: line.standing for line in passed.plan.servers[0].disruptions}
        assert set(standings.values()) <= {Standing.BASELINED, Standing.SATISFIED}, standings
        assert len(desk.trader.acts) == acts

    clock = VirtualClock()
    with virtual_time(clock) as runner:
        runner.run(story(clock))


def test_a_ledger_from_yesterday_replays_nothing_once_it_is_suspected() -> None:
    async def story(clock: VirtualClock) -> None:
        desk = await settled(clock)
        yesterday = backup(desk)
        await rebooted(desk)
        acts = len(desk.trader.acts)
        desk.store = yesterday
        desk.suspect = "this ledger is older than the one this host saw last: it was restored"
        for _ in range(3):
            await asyncio.sleep(PAUSE)
            passed = await desk.apply()
        assert passed.plan is not None
        for line in passed.plan.servers[0].disruptions:
            assert line.standing in (Standing.BLOCKED, Standing.SATISFIED), told(passed.plan)
        assert len(desk.trader.acts) == acts

        desk.ledger().accept_restore("I looked at what was done")
        desk.suspect = ""
        for _ in range(2):
            await asyncio.sleep(PAUSE)
            await desk.apply()
        assert len(desk.trader.acts) == acts
        # What is asked from now on is done again.
        await asyncio.sleep(3600)
        desk.wish(cache=cache(desk, 5), reboot=reboot(desk, 5))
        await desk.apply()
        assert (desk.trader.count("rebooted"), desk.trader.count("invalidated")) == (2, 2)

    clock = VirtualClock()
    with virtual_time(clock) as runner:
        runner.run(story(clock))


def test_a_ledger_that_was_just_born_does_nothing() -> None:
    async def story(clock: VirtualClock) -> None:
        desk = await settled(clock)
        await asyncio.sleep(PAUSE)
        desk.store = MemoryStore()
        desk.newborn = True
        clock.at -= 0.5  # even for an instant that is later than its birth
        desk.wish(reboot=reboot(desk, 0), cache=cache(desk, 0))
        clock.at += 0.5
        passed = await desk.apply()
        assert desk.trader.acts == []
        assert passed.plan is not None
        for line in passed.plan.servers[0].disruptions:
            assert line.standing in (Standing.BLOCKED, Standing.BASELINED), told(passed.plan)

    clock = VirtualClock()
    with virtual_time(clock) as runner:
        runner.run(story(clock))


def backup(desk: Trading) -> MemoryStore:
    """Copy the ledger as somebody does who keeps backups."""
    copied = MemoryStore()
    for key in desk.store.keys(""):
        stored = desk.store.get(key)
        assert stored is not None
        copied._documents[key] = copy.copy(stored)
    return copied
