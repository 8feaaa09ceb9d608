"""
What the rows of the table share: the options, and fleets that are made once.
"""

import math
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Self

from bench.scale.fleet import Fleet
from bench.scale.measure import Ran, Row, Unfinished


@dataclass(slots=True)
class Bench:
    """
    Options of a run.

    *most* are the seconds that one process may take, *within* those of the whole run, *rest* those
    for which a controller at rest is watched.
    """

    servers: int = 1000
    exchanges: int = 5
    rounds: int = 5
    most: float = 120.0
    parallelism: int = 64
    within: float = math.inf
    rest: float = 60.0
    _began: float = field(default_factory=time.monotonic)
    _fleets: dict[int, Fleet] = field(default_factory=dict)
    _known: dict[int, bool] = field(default_factory=dict)
    _ledgers: int = 0
    _stack: ExitStack = field(default_factory=ExitStack)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    @property
    def left(self) -> float:
        """The seconds that are left of the whole run."""
        return self.within - (time.monotonic() - self._began)

    @property
    def bound(self) -> float:
        """The seconds that what begins now may take."""
        return max(1.0, min(self.most, self.left))

    @property
    def many(self) -> list[str]:
        """The option for many servers at once."""
        return ["--parallelism", str(self.parallelism)]

    def fleet(self, count: int) -> Fleet:
        """Return the fleet of *count* servers, in whatever state it is; only one is kept."""
        if count not in self._fleets:
            self._fleets.clear()
            self._known.clear()
            self._stack.close()
            say(f"making {count:,} servers and their secrets")
            self._fleets[count] = self._stack.enter_context(Fleet(count, self.exchanges))
        return self._fleets[count]

    def converged(self, count: int, *, written: bool = False) -> Fleet:
        """
        Return the fleet with everything as its documents say, and known to the ledger.

        Unless it must have been *written* by jtr, the servers may have held it before; that costs a
        pass and no writes, and a plan asks them and Vault for just as much.
        """
        fleet = self.fleet(count)
        known = self._known.get(count)
        if known is None or (written and not known):
            say("writing to them" if written else "converging them")
            self._ledgers += 1
            fleet.begin_ledger(f"ledger-{self._ledgers}")
            fleet.fill(empty=written)
            fleet.settled()
            apply = ["apply", str(fleet.docs), "--auto-approve", *self.many]
            fleet.jtr(*apply, bound=2 * self.bound)
            self._known[count] = written
        return fleet

    def wrote(self, count: int) -> None:
        """Note that jtr has just written everything."""
        self._known[count] = True

    def changed(self, count: int) -> None:
        """Note that documents, servers and ledger may differ."""
        self._known.pop(count, None)


def say(what: str) -> None:
    """Tell how far the bench is."""
    print(f"  … {what}", file=sys.stderr, flush=True)


def pairs(
    limit: Callable[[], Ran], jtr: Callable[[], Ran], rounds: int
) -> tuple[list[Ran], list[Ran], float]:
    """Run both in turn; return all runs and the median of the ratios of each round."""
    limits, runs = [], []
    for number in range(rounds):
        limits.append(limit())
        runs.append(jtr())
        say(f"round {number + 1}: limit {limits[-1].wall:.2f} s, jtr {runs[-1].wall:.2f} s")
    ratio = statistics.median(b.wall / a.wall for a, b in zip(limits, runs, strict=True))
    return limits, runs, ratio


def middle(runs: Sequence[Ran]) -> Ran:
    """Return the medians of seconds, processor and memory."""
    wall, processor, memory = (
        statistics.median(getattr(one, name) for one in runs)
        for name in ("wall", "processor", "memory")
    )
    return Ran(wall, processor, memory, 0, "", "")


def told(jtr: Ran, limit: Ran | None = None) -> str:
    """Return what stands behind a ratio."""
    text = f"{jtr.wall:.2f} s, processor {jtr.processor:.2f} s, {jtr.memory:.0f} MiB"
    if limit is not None:
        text += f"; limit {limit.wall:.2f} s, processor {limit.processor:.2f} s"
    return text


__all__ = ["Bench", "Row", "Unfinished", "middle", "pairs", "say", "told"]
