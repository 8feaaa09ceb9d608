"""
How long after the last file event a change of the documents is reported.

A change is reported after a quiet time (100 ms) without events; what counts is how much later than
that.  Every round makes one change in each way, in turn, so that a busy moment hits all alike.
"""

import argparse
import asyncio
import contextlib
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from reconciler.controller.document_source import Source
from reconciler.controller.file_watcher import Watcher
from reconciler.system.timeouts import Timeouts

LIMIT = 1.5  # of the quiet time, from the last event to the report, for 95 of 100 changes
SERVER = """\
apiVersion: jtr/v1
kind: TradingServer
metadata: {{name: server-{number}, labels: {{env: prod}}, owner: desk}}
spec:
  url: https://server-{number}.internal:8443
  exchanges:
    bybit: {{credentials: "vault:secret/jt/server-{number}/bybit@{version}"}}
    okx: {{credentials: "vault:secret/jt/server-{number}/okx@3"}}
"""


@dataclass(frozen=True, slots=True)
class Case:
    """A way to change documents; `change` gets the directory and a number that grows."""

    name: str
    servers: int
    change: Callable[[Path, int], None]
    late: list[float] = field(default_factory=list)  # seconds after the last event
    read: list[float] = field(default_factory=list)  # seconds to read all documents after that


def save(folder: Path, version: int) -> None:
    """Write a file in place."""
    (folder / "server-0.yaml").write_text(SERVER.format(number=0, version=version), "utf-8")


def rename(folder: Path, version: int) -> None:
    """Write another file and rename it over the first, as editors do."""
    fresh = folder / ".server-0.yaml.tmp"
    fresh.write_text(SERVER.format(number=0, version=version), "utf-8")
    fresh.rename(folder / "server-0.yaml")


def swap(folder: Path, version: int) -> None:
    """Swap the content of a volume as Kubernetes does."""
    fresh = folder / f"..{version}"
    fresh.mkdir()
    for name in (path.name for path in folder.iterdir() if path.suffix == ".yaml"):
        number = name.removeprefix("server-").removesuffix(".yaml")
        (fresh / name).write_text(SERVER.format(number=number, version=version), "utf-8")
    (folder / "..data_tmp").symlink_to(fresh.name)
    (folder / "..data_tmp").rename(folder / "..data")


def prepared(case: Case, folder: Path) -> Path:
    """Fill a directory with the documents of a case."""
    folder.mkdir()
    for number in range(case.servers):
        path = folder / f"server-{number}.yaml"
        if case.change is swap:
            path.symlink_to(f"..data/{path.name}")
        else:
            path.write_text(SERVER.format(number=number, version=1), "utf-8")
    case.change(folder, 1)
    return folder


async def measure(cases: Sequence[Case], rounds: int, top: Path) -> None:
    """Make changes and note how late each was reported."""
    async with contextlib.AsyncExitStack() as stack:
        watched = []
        for number, case in enumerate(cases):
            folder = prepared(case, top / str(number))
            watcher = await stack.enter_async_context(Watcher([str(folder)], Timeouts()))
            await watcher.changed()
            watched.append((case, folder, watcher, Source([str(folder)])))
        for version in range(2, rounds + 2):
            for case, folder, watcher, source in watched:
                waiting = asyncio.create_task(watcher.changed())
                await asyncio.sleep(0)
                await asyncio.to_thread(case.change, folder, version)
                last = time.perf_counter()
                async with asyncio.timeout(10):
                    found = await waiting
                reported = time.perf_counter()
                reading = await asyncio.to_thread(source.read, found)
                if reading.trouble or reading.revision != found.revision:
                    sys.exit(f"{case.name}: reported early or wrongly; {reading.trouble}")
                case.late.append(reported - last)
                case.read.append(time.perf_counter() - reported)


def main() -> int:
    """Measure, print a table, and return 1 when a ratio is over its limit."""
    parser = argparse.ArgumentParser(description="Measure how soon a change is reported.")
    parser.add_argument("--rounds", type=int, default=50, help="changes of each kind (50)")
    parser.add_argument("--no-limit", action="store_true", help="exit 0 whatever the ratios are")
    options = parser.parse_args()
    cases = (
        Case("plain save, 1 server", 1, save),
        Case("plain save, 100 servers", 100, save),
        Case("atomic rename, 100 servers", 100, rename),
        Case("ConfigMap swap, 100 servers", 100, swap),
    )
    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(measure(cases, options.rounds, Path(folder)))
    quiet, slow = Timeouts().quiet, False
    print(f"{'':<30}{'median':>10}{'p95':>11}{'p95/quiet':>11}{'limit':>7}{'then read':>12}")
    for case in cases:
        p95 = statistics.quantiles(case.late, n=20)[-1]
        over = p95 / quiet > LIMIT
        slow = slow or over
        print(
            f"{case.name:<30}{statistics.median(case.late) * 1000:>7.1f} ms{p95 * 1000:>8.1f} ms"
            f"{p95 / quiet:>11.2f}{LIMIT:>7}{statistics.median(case.read) * 1000:>9.1f} ms"
            f"{'  TOO LATE' if over else ''}"
        )
    python = sys.version.split()[0]
    print(f"{options.rounds} changes each, Python {python}, {os.cpu_count()} cores")
    return int(slow and not options.no_limit)


if __name__ == "__main__":
    sys.exit(main())
