"""
What the rows of the table share: the options, and fleets that are made once.
"""

import statistics
import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Self

from bench.scale.fleet import Fleet
from bench.scale.measure import Ran, Row, Unfinished


@dataclass(slots=True)
class Bench:
    """Options of a run; *bound* are the seconds that one process may take."""

    servers: int = 1000
    exchanges: int = 5
    rounds: int = 5
    bound: float = 120.0
    parallelism: int = 64
    _fleets: dict[int, Fleet] = field(default_factory=dict)
    _converged: set[int] = field(default_factory=set)
    _stack: ExitStack = field(default_factory=ExitStack)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    @property
    def many(self) -> list[str]:
        """The option for many servers at once."""
        return ["--parallelism", str(self.parallelism)]

    def fleet(self, count: int) -> Fleet:
        """Return the fleet of *count* servers, in whatever state it is; only one is kept."""
        if count not in self._fleets:
            self._fleets.clear()
            self._converged.clear()
            self._stack.close()
            say(f"making {count:,} servers and their secrets")
            self._fleets[count] = self._stack.enter_context(Fleet(count, self.exchanges))
        return self._fleets[count]

    def converged(self, count: int) -> Fleet:
        """Return the fleet with everything as its documents say, and known to the ledger."""
        fleet = self.fleet(count)
        if count not in self._converged:
            say("converging them")
            fleet.fill()
            fleet.settled()
            apply = ["apply", str(fleet.docs), "--auto-approve", *self.many]
            fleet.jtr(*apply, bound=self.bound)
            self._converged.add(count)
        return fleet

    def applied(self, count: int) -> None:
        """Note that the fleet was just converged by an apply."""
        self._converged.add(count)


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
