"""
How long `jtr` takes to start, as ratios to a bare Python: a machine's speed cancels out.

Every round runs all cases once, in turn, so that a busy moment hits all of them alike; medians are
compared.  Start-up is paid at every call, in every job of CI, and by people who wait.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent
SERVERS = 100
SERVER = """\
apiVersion: jtr/v1
kind: TradingServer
metadata: {{name: server-{number}, labels: {{env: prod}}, owner: desk}}
spec:
  url: https://server-{number}.internal:8443
  exchanges:
    bybit: {{credentials: "vault:secret/jt/server-{number}/bybit"}}
    okx: {{credentials: "vault:secret/jt/server-{number}/okx@3"}}
"""


@dataclass(frozen=True, slots=True)
class Case:
    """A command to time; over `limit` times the bare interpreter is too slow, None is for show."""

    name: str
    command: tuple[str, ...]
    limit: float | None = None


def cases(servers: Path) -> tuple[Case, ...]:
    """Return what is timed; the first is what the others are compared with."""
    beside = Path(sys.executable).parent / "jtr"
    jtr = (str(beside),) if beside.exists() else (sys.executable, "-m", "reconciler")
    example = str(ROOT / "examples" / "config.yaml")
    return (
        Case("python -c pass", (sys.executable, "-c", "pass")),
        Case("jtr --version", (*jtr, "--version"), 5.0),
        Case("jtr validate examples/config.yaml", (*jtr, "validate", example), 8.0),
        Case("jtr --help", (*jtr, "--help")),
        Case(f"jtr validate, {SERVERS} servers", (*jtr, "validate", str(servers))),
    )


def measure(timed: Sequence[Case], rounds: int) -> list[float]:
    """Return the median seconds of each case, over rounds that run each of them once."""
    environment = {"PATH": os.defpath, "HOME": "/nonexistent"}
    for case in timed:  # once for the caches of the disk and for compiled modules
        run(case, environment)
    taken: list[list[float]] = [[] for _ in timed]
    for _ in range(rounds):
        for case, seconds in zip(timed, taken, strict=True):
            seconds.append(run(case, environment))
    return [statistics.median(seconds) for seconds in taken]


def run(case: Case, environment: Mapping[str, str]) -> float:
    """Run a case once and return its seconds; one that fails would be fast for a bad reason."""
    began = time.perf_counter()
    done = subprocess.run(
        case.command,
        cwd=ROOT,
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        check=False,
        timeout=60,
    )
    seconds = time.perf_counter() - began
    if done.returncode:
        sys.exit(f"{case.name} ended with {done.returncode}:\n{done.stderr.decode()}")
    return seconds


def main() -> int:
    """Measure, print a table, and return 1 when a ratio is over its limit."""
    parser = argparse.ArgumentParser(description="Measure how long jtr takes to start.")
    parser.add_argument("--rounds", type=int, default=11, help="how often each case runs (11)")
    parser.add_argument("--no-limit", action="store_true", help="exit 0 whatever the ratios are")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        servers = Path(folder)
        for number in range(SERVERS):
            (servers / f"server-{number}.yaml").write_text(SERVER.format(number=number), "utf-8")
        timed = cases(servers)
        medians = measure(timed, options.rounds)
    slow = False
    print(f"{'':<36}{'median':>10}{'ratio':>8}{'limit':>8}")
    for case, seconds in zip(timed, medians, strict=True):
        ratio = seconds / medians[0]
        over = case.limit is not None and ratio > case.limit
        slow = slow or over
        limit = "" if case.limit is None else f"{case.limit:.0f}"
        verdict = "  TOO SLOW" if over else ""
        print(f"{case.name:<36}{seconds * 1000:>7.1f} ms{ratio:>8.1f}{limit:>8}{verdict}")
    print(f"{options.rounds} rounds, Python {sys.version.split()[0]}, {os.cpu_count()} cores")
    return int(slow and not options.no_limit)


if __name__ == "__main__":
    sys.exit(main())
