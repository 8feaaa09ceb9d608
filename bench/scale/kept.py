"""
Rows of the controller: a process that holds a connection to every server.

What it did is read from the servers' own counters, and when from the times of what they were asked.
"""

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final, Self

from bench.scale.bench import Bench, Row, Unfinished, say
from bench.scale.cold import unharmed
from bench.scale.fleet import Fleet
from bench.scale.measure import median, resident, used

_CALM: Final = 1.0  # seconds, for what is still under way
_SAVES: Final = 5  # documents that are saved, one after the other
PINNED: Final = "bybit"
ROTATED: Final = "okx"


class Controller:
    """A controller over a whole fleet while it is entered."""

    def __init__(self, fleet: Fleet, parallelism: int) -> None:
        self.fleet: Final = fleet
        self._parallelism: Final = parallelism
        self._log = Path()
        self.process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self._log = self.fleet.home / "controller.log"
        command = self.fleet.command(
            *("controller", str(self.fleet.docs), "--listen", "127.0.0.1:0"),
            *("--parallelism", str(self._parallelism)),
        )
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(
                command,
                env={"PATH": os.defpath, **self.fleet.environment},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        return self

    def __exit__(self, *_: object) -> None:
        process, self.process = self.process, None
        if process is not None:
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    @property
    def pid(self) -> int:
        """Its process.  Raises Unfinished when it has ended."""
        if self.process is None or self.process.poll() is not None:
            raise Unfinished(f"the controller ended: {self._log.read_text()[-600:]}")
        return self.process.pid

    def look_again(self) -> None:
        """Let it look at everything now."""
        os.kill(self.pid, signal.SIGHUP)

    def until(self, done: Callable[[], bool], bound: float, what: Callable[[], str]) -> None:
        """Wait.  Raises Unfinished after *bound* seconds, saying *what* there is then."""
        end = time.monotonic() + bound
        while not done():
            if time.monotonic() > end:
                raise Unfinished(f"not done after {bound:.0f} s: {what()}")
            _ = self.pid
            time.sleep(0.05)

    def looked(self, bound: float) -> float:
        """Wait until every server was looked at since the last reset; return when that was."""
        standins, count = self.fleet.standins, self.fleet.count

        def missing() -> int:
            if standins.totals()["lists"] < count:  # cheaper to ask
                return count - standins.totals()["lists"]
            return sum(not one["firstList"] for one in standins.each())

        self.until(
            lambda: not missing(), bound, lambda: f"{missing():,} of {count:,} not looked at"
        )
        return max(one["firstList"] for one in standins.each())


def controller(bench: Bench) -> Iterator[Row]:
    """All rows of one controller over one fleet."""
    yield from _kept(bench, (_round, _rest, _save, _rotation))


def controller_round(bench: Bench) -> Iterator[Row]:
    """Its converged round alone."""
    yield from _kept(bench, (_round,))


def _kept(
    bench: Bench, parts: Sequence[Callable[[Bench, Fleet, Controller], Row]]
) -> Iterator[Row]:
    fleet = bench.converged(bench.servers, written=True)
    count = fleet.count
    saved = range(min(_SAVES, count))
    for number in saved:
        fleet.document(number, **{PINNED: fleet.versions[fleet.names[number], PINNED]})
    fleet.rotate(PINNED, saved)
    fleet.settled()
    fleet.standins.reset()
    try:
        with Controller(fleet, bench.parallelism) as running:
            try:
                running.looked(bench.bound)
            except Unfinished as why:
                yield Row(f"controller, first round of {count:,}", None, None, more=str(why))
                return
            for part in parts:
                try:
                    yield part(bench, fleet, running)
                except Unfinished as why:
                    yield Row(str(part.__doc__), None, None, more=str(why))
    finally:
        for number in saved:
            fleet.document(number)
        if fleet.stale():
            bench.changed(count)
    unharmed(fleet.standins.totals())


def _round(bench: Bench, fleet: Fleet, running: Controller) -> Row:
    """controller, converged round, connections held"""
    job = fleet.job()
    ratios, rounds, busy, limits = [], [], [], []
    for _ in range(bench.rounds):
        limits.append(fleet.limit(job).wall)
        time.sleep(_CALM)
        fleet.standins.reset()
        before, began = used(running.pid), time.time()
        running.look_again()
        rounds.append(running.looked(bench.bound) - began)
        busy.append(used(running.pid) - before)
        ratios.append(rounds[-1] / limits[-1])
        say(f"limit {limits[-1]:.2f} s, round {rounds[-1]:.2f} s")
    requests = fleet.standins.totals()["requests"] / fleet.count
    more = (
        f"{median(rounds):.2f} s, processor {median(busy):.2f} s, {requests:.1f} requests a server;"
        f" cold limit {median(limits):.2f} s"
    )
    what = f"controller, converged round of {fleet.count:,}, connections held"
    cost = median(busy)
    return Row(what, median(ratios), 0.3, "x cold limit", more, grows="controller round", cost=cost)


def _rest(bench: Bench, fleet: Fleet, running: Controller) -> Row:
    """controller at rest"""
    time.sleep(_CALM)
    fleet.standins.reset()
    before, began = used(running.pid), time.monotonic()
    time.sleep(bench.rest)
    share = (used(running.pid) - before) / (time.monotonic() - began)
    totals = fleet.standins.totals()
    more = (
        f"{totals['lists'] / fleet.count:.2f} looks and {totals['requests'] / fleet.count:.1f}"
        f" requests a server in {bench.rest:.0f} s, {resident(running.pid):.0f} MiB,"
        f" {totals['open']:,} connections"
    )
    what = f"controller at rest, {fleet.count:,} servers"
    return Row(what, 100 * share, 1.0 * max(fleet.count / 1000, 0.1), "% of a core", more)


def _save(bench: Bench, fleet: Fleet, running: Controller) -> Row:
    """save a document -> the server has it"""
    took = []
    for number in range(min(_SAVES, fleet.count)):
        time.sleep(_CALM)
        fleet.standins.reset()
        version = fleet.versions[fleet.names[number], PINNED]
        began = time.time()
        fleet.document(number, **{PINNED: version})
        running.until(
            lambda number=number: bool(fleet.standins.each()[number]["saves"]),  # type: ignore[misc]
            bench.bound,
            lambda: "it is not there",
        )
        took.append(fleet.standins.each()[number]["lastSave"] - began)
        say(f"saved after {took[-1]:.2f} s")
    what = f"save a document -> the server has it, {fleet.count:,} servers"
    return Row(what, median(took), 1.0, "s", f"{min(took):.2f} to {max(took):.2f} s")


def _rotation(bench: Bench, fleet: Fleet, running: Controller) -> Row:
    """rotated secrets reach their servers"""
    time.sleep(_CALM)
    fleet.standins.reset()
    fleet.rotate(ROTATED, range(fleet.count))
    before, began = used(running.pid), time.time()
    running.look_again()

    def saved() -> int:
        return fleet.standins.totals()["saves"]

    running.until(
        lambda: saved() >= fleet.count,
        2 * bench.bound,
        lambda: f"{saved():,} of {fleet.count:,} written",
    )
    running.until(lambda: not fleet.stale([ROTATED]), 5, lambda: "some are not there")
    took = max(one["lastSave"] for one in fleet.standins.each()) - began
    more = f"processor {used(running.pid) - before:.1f} s, the first 10 s are settling"
    what = f"{fleet.count:,} rotated secrets reach {fleet.count:,} servers"
    return Row(what, took, 20, "s", more)
