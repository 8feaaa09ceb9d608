"""
How much longer forty-nine servers take to converge while a fiftieth hangs.

The controller, fifty stand-in servers and OpenBao are real and on this machine; deadlines are the
real ones.  Every round measures each case once with the hung server and once without, in turn.
Run it from the repository's root: `python -m bench.fleet`.
"""

import argparse
import asyncio
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from reconciler.controller.status import Sync
from reconciler.sandbox.openbao import OpenBao
from tests.controller.controller_harness import Harness
from tests.controller.test_controller import begin
from tests.support.durations import BRISK
from tests.support.fleet import Fleet
from tests.support.leaks import Watch
from tests.support.rig import Rig

LIMIT = 1.1  # with the hung one, in multiples of without
SERVERS = 50
HUNG = "harness-25"
# The interval is too long to matter: what is measured begins when it is asked for.
REAL = BRISK | {"interval": "60s", "connect": "10s", "authenticate": "30s", "request": "15s"}


@dataclass(slots=True)
class Case:
    """One thing that the forty-nine do; seconds by whether the fiftieth hangs."""

    name: str
    took: dict[bool, list[float]] = field(default_factory=lambda: {False: [], True: []})

    @property
    def medians(self) -> tuple[float, float]:
        """Without and with the hung server."""
        return statistics.median(self.took[False]), statistics.median(self.took[True])

    @property
    def ratio(self) -> float:
        """With the hung server, in multiples of without."""
        without, hanging = self.medians
        return hanging / without


async def story(harness: Harness, fleet: Fleet, cases: Sequence[Case], *, hangs: bool) -> None:
    """Let the servers be made as their documents say, then rotate all keys; measure both."""
    first, second = cases
    others = [name for name in fleet.names if name != HUNG]
    server = fleet.servers[HUNG]

    def there() -> bool:
        return not fleet.stale(others) and all(
            harness.status(name).sync is Sync.SYNCED for name in others
        )

    if hangs:
        server.behaviour.login = "silent"
    began = time.perf_counter()
    async with harness.running():
        await harness.until(there, "the first keys")
        first.took[hangs].append(time.perf_counter() - began)
        server.recover()
        server.drop_connections()
        await harness.until(lambda: not fleet.stale([HUNG]), "the first keys of the fiftieth")
        await harness.until(lambda: harness.status(HUNG).connected, "the fiftieth held")
        for name in fleet.names:
            fleet.rotate(name)
        if hangs:
            server.hang()
        if harness.controller is None:
            raise AssertionError
        began = time.perf_counter()
        harness.controller.look_again()
        await harness.until(there, "the new keys")
        second.took[hangs].append(time.perf_counter() - began)
        server.recover()
        server.drop_connections()
        await harness.until(lambda: not fleet.stale(), "the new keys of the fiftieth")


def measure(bao: OpenBao, cases: Sequence[Case], *, hangs: bool) -> None:
    """Do everything once in a rig of its own."""
    with ExitStack() as stack:
        home = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="jtr-bench-")))
        patch = stack.enter_context(pytest.MonkeyPatch.context())
        rig = stack.enter_context(Rig(home, bao, Watch("bench"), patch))
        fleet = stack.enter_context(Fleet(rig, SERVERS))
        begin(rig, timeouts=REAL)
        asyncio.run(story(Harness(rig), fleet, cases, hangs=hangs))


def main() -> int:
    """Measure, print a table, return 1 when a ratio is over its limit."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--no-limit", action="store_true", help="only show the table")
    options = parser.parse_args()
    cases = Case("first keys, hung at the login"), Case("new keys, hung on a held connection")
    with OpenBao() as bao:
        for number in range(options.rounds + 1):
            for hangs in (False, True) if number % 2 else (True, False):
                measure(bao, cases, hangs=hangs)
            if not number:  # it filled caches
                for case in cases:
                    case.took = {False: [], True: []}
    print("| 49 of 50 get | without, median | with, median | ratio | limit |")
    print("| --- | --- | --- | --- | --- |")
    for case in cases:
        without, hanging = case.medians
        print(f"| {case.name} | {without:.2f} s | {hanging:.2f} s | {case.ratio:.2f} | {LIMIT} |")
    return int(not options.no_limit and any(case.ratio > LIMIT for case in cases))


if __name__ == "__main__":
    sys.exit(main())
