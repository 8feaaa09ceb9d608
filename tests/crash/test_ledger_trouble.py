"""
The ledger fails at its n-th write, for every n: nothing is sent that was not recorded before, what
was done is not forgotten, and a ledger that may have forgotten replays nothing.
"""

import asyncio
import copy
import stat
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from reconciler.errors import LedgerError
from reconciler.ledger import Put, Store, Stored
from reconciler.ledger.stores.memory import MemoryStore
from reconciler.ledger.unrecorded import UnrecordedOutcomes
from reconciler.model.desired import RequestKind
from reconciler.model.plan import Standing
from reconciler.model.recorded import Stage
from reconciler.testing.virtual_time import VirtualClock, virtual_time
from tests.crash.harness import Passed
from tests.crash.request_scenarios import (
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

Wishes = Callable[[Trading], None]
PAUSE = 31.0  # longer than a lease that could not be given back


class FailingStore:
    """Fails at its write number *number*, counted from 0: once, or from then on."""

    created = False
    at_hand = False

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

    def put_all(self, puts: Sequence[Put]) -> None:
        for one in puts:  # whoever can die does so between any two
            self.put(one.key, one.text, expect=one.expect)

    def keys(self, prefix: str) -> list[str]:
        return self._store.keys(prefix)

    def rows(self, prefix: str) -> dict[str, Stored]:
        return self._store.rows(prefix)

    def sequence(self) -> int:
        return self._store.sequence()

    def close(self) -> None:
        """Keep it."""


async def troubled(
    harness: Trading, wishes: Wishes, number: int, *, written: bool, for_good: bool
) -> tuple[Passed, list[str]]:
    """One pass on a ledger that fails; then the ledger is well again."""
    wishes(harness)
    whole = harness.store
    failing = FailingStore(whole, number, written=written, for_good=for_good)
    harness.store = failing
    passed = await harness.apply()
    harness.store = whole
    return passed, failing.failed


HOW = [(False, False), (False, True), (True, False), (True, True)]


@pytest.mark.parametrize(("written", "for_good"), HOW)
@pytest.mark.parametrize("wishes", [everything, restarts, a_reboot])
def test_every_write_fails_once(
    wishes: Wishes, tmp_path: Path, *, written: bool, for_good: bool
) -> None:
    async def story(clock: VirtualClock, number: int) -> tuple[list[str], int, bool]:
        harness = await settled(clock)
        folder = tmp_path / f"{number}"
        harness.unrecorded = UnrecordedOutcomes(folder)
        passed, failed = await troubled(harness, wishes, number, written=written, for_good=for_good)
        passes = [passed]
        if failed and not harness.trader.acts:
            counts["nothing was sent"] += 1
        files = list(folder.glob("*")) if folder.exists() else []
        counts["emergency files"] += len(files)
        for file in files:
            assert stat.S_IMODE(file.stat().st_mode) == 0o600
            for values in harness.versions.values():
                assert not any(v in file.read_text() for fields in values for v in fields.values())
        for _ in range(4):
            await asyncio.sleep(PAUSE)
            passes.append(await harness.apply())
        if files:
            # Its answer is known: it went to nobody.
            assert harness.requests().open is None, failed
            assert not list(folder.glob("*")), "a file was not picked up"
        verdict = await judged(harness, passes)
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
        harness = await settled(clock)
        harness.unrecorded = UnrecordedOutcomes(tmp_path / "emergency")

        def wishes(harness: Trading) -> None:
            harness.wish(cache=cache(harness))

        # pin needs no write; then the lease, the intent, and the result
        passed, failed = await troubled(harness, wishes, 2, written=False, for_good=True)
        assert failed[0] == "requests"
        assert harness.trader.count("invalidated") == 1
        (file,) = (tmp_path / "emergency").iterdir()
        assert str(file) in passed.reports[0].outcomes[0].remedy
        plan = await harness.plan()
        (line,) = plan.servers[0].disruptions
        assert line.standing is Standing.DONE, told(plan)

        await asyncio.sleep(PAUSE)
        later = await harness.apply()

        assert later.reports[0].failure is None
        assert not file.exists()
        (request,) = harness.requests().past
        assert (request.kind, request.stage) == (RequestKind.CACHE, Stage.DONE)
        assert harness.requests().open is None
        assert harness.trader.count("invalidate") == 1

    clock = VirtualClock()
    with virtual_time(clock) as runner:
        runner.run(story(clock))


# ── a ledger that forgot ─────────────────────────────────────────────────────────────────────


async def rebooted(harness: Trading) -> None:
    """Invalidate and reboot, once."""
    harness.wish(cache=cache(harness), reboot=reboot(harness))
    passed = await harness.apply()
    assert all(outcome.code == 0 for outcome in passed.reports[0].outcomes)
    assert (harness.trader.count("rebooted"), harness.trader.count("invalidated")) == (1, 1)


def test_a_new_ledger_replays_nothing() -> None:
    async def story(clock: VirtualClock) -> None:
        harness = await settled(clock)
        await rebooted(harness)
        acts = len(harness.trader.acts)
        await asyncio.sleep(PAUSE)
        harness.store = MemoryStore()
        harness.begin()
        for _ in range(3):
            passed = await harness.apply()
            await asyncio.sleep(PAUSE)
        assert passed.plan is not None
        standings = {line.kind: line.standing for line in passed.plan.servers[0].disruptions}
        assert set(standings.values()) <= {Standing.BASELINED, Standing.SATISFIED}, standings
        assert len(harness.trader.acts) == acts

    clock = VirtualClock()
    with virtual_time(clock) as runner:
        runner.run(story(clock))


def test_a_ledger_from_yesterday_replays_nothing_once_it_is_suspected() -> None:
    async def story(clock: VirtualClock) -> None:
        harness = await settled(clock)
        yesterday = backup(harness)
        await rebooted(harness)
        acts = len(harness.trader.acts)
        harness.store = yesterday
        harness.suspect = "this ledger is older than the one this host saw last: it was restored"
        for _ in range(3):
            await asyncio.sleep(PAUSE)
            passed = await harness.apply()
        assert passed.plan is not None
        for line in passed.plan.servers[0].disruptions:
            assert line.standing in (Standing.BLOCKED, Standing.SATISFIED), told(passed.plan)
        assert len(harness.trader.acts) == acts

        harness.ledger().accept_restore("I looked at what was done")
        harness.suspect = ""
        for _ in range(2):
            await asyncio.sleep(PAUSE)
            await harness.apply()
        assert len(harness.trader.acts) == acts
        # What is asked from now on is done again.
        await asyncio.sleep(3600)
        harness.wish(cache=cache(harness, 5), reboot=reboot(harness, 5))
        await harness.apply()
        assert (harness.trader.count("rebooted"), harness.trader.count("invalidated")) == (2, 2)

    clock = VirtualClock()
    with virtual_time(clock) as runner:
        runner.run(story(clock))


def test_a_ledger_that_was_just_born_does_nothing() -> None:
    async def story(clock: VirtualClock) -> None:
        harness = await settled(clock)
        await asyncio.sleep(PAUSE)
        harness.store = MemoryStore()
        harness.newborn = True
        clock.at -= 0.5  # even for an instant that is later than its birth
        harness.wish(reboot=reboot(harness, 0), cache=cache(harness, 0))
        clock.at += 0.5
        passed = await harness.apply()
        assert harness.trader.acts == []
        assert passed.plan is not None
        for line in passed.plan.servers[0].disruptions:
            assert line.standing in (Standing.BLOCKED, Standing.BASELINED), told(passed.plan)

    clock = VirtualClock()
    with virtual_time(clock) as runner:
        runner.run(story(clock))


def backup(harness: Trading) -> MemoryStore:
    """Copy the ledger as somebody does who keeps backups."""
    copied = MemoryStore()
    for key in harness.store.keys(""):
        stored = harness.store.get(key)
        assert stored is not None
        copied._documents[key] = copy.copy(stored)
    return copied
