"""
The table of what jtr costs at scale, as medians and as ratios to a limit measured in the same run.

Run it from the repository's root: `python -m bench.scale`, or for one row
`python -m bench.scale --only cold-plan --servers 200`.
"""

import argparse
import os
import platform
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Final

from bench.scale import cold, files, kept, process, vault
from bench.scale.bench import Bench, Row, Unfinished, say
from bench.scale.standin import Unavailable

ROWS: Final[Mapping[str, Callable[[Bench], Iterator[Row]]]] = {
    "held-connection": process.held_connection,
    "vault-reads": vault.vault_reads,
    "validate": files.validate,
    "log-line": process.log_line,
    "commits": cold.commits,
    "first-apply": cold.first_apply,
    "cold-plan": cold.cold_plan,
    "libraries": cold.libraries,
    "recorded": cold.recorded,
    "one-plan": cold.one_plan,
    "controller": kept.controller,
    "big-plan": cold.big_plan,
}


def main() -> int:
    """Measure, print the table, return 1 when a row is past its target."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.scale", description="Measure what jtr costs at scale."
    )
    rows = f"of {', '.join(ROWS)}"
    parser.add_argument("--only", action="append", choices=ROWS, metavar="ROW", help=rows)
    parser.add_argument("--skip", action="append", choices=ROWS, metavar="ROW", default=[])
    parser.add_argument("--servers", type=int, default=1000)
    parser.add_argument("--exchanges", type=int, default=5, help="of each server (5)")
    parser.add_argument("--rounds", type=int, default=5, help="of each pair; slow rows make 3")
    parser.add_argument("--parallelism", type=int, default=64, help="what jtr is told (64)")
    parser.add_argument("--bound", type=float, default=120, help="seconds of one process (120)")
    parser.add_argument("--within", type=float, default=900, help="seconds of all (900)")
    parser.add_argument("--rest", type=float, default=60, help="seconds of watched rest (60)")
    parser.add_argument("--no-limit", action="store_true", help="exit 0 whatever the rows are")
    options = parser.parse_args()
    load = os.getloadavg()[0]
    found: list[Row] = []
    with Bench(
        *(options.servers, options.exchanges, options.rounds, options.bound),
        *(options.parallelism, options.within, options.rest),
    ) as bench:
        for name, measure in ROWS.items():
            if name in options.skip or (options.only and name not in options.only):
                continue
            if bench.left <= 0:
                found.append(Row(name, None, None, more=f"the {options.within:.0f} s were over"))
                continue
            began = time.perf_counter()
            say(name)
            try:
                found.extend(measure(bench))
            except Unavailable as missing:
                print(f"bench: {missing}", file=sys.stderr)
                return 69
            except Unfinished as why:
                found.append(Row(name, None, None, more=str(why)))
            say(f"{name}: {time.perf_counter() - began:.0f} s")
    show(found, options.servers, load)
    return int(not options.no_limit and any(row.over for row in found))


def show(rows: list[Row], servers: int, load: float) -> None:
    """Print the table."""
    print("| | measured | must be | | |")
    print("| --- | --- | --- | --- | --- |")
    for row in rows:
        print("| " + " | ".join(cell.replace("|", "/") for cell in row.cells()) + " |")
    python = platform.python_version()
    print(f"\n{servers:,} servers, Python {python}, {os.cpu_count()} cores, load {load:.1f} before")


if __name__ == "__main__":
    sys.exit(main())
