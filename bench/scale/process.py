"""
Rows about one process: what a held connection weighs, what a log line costs.
"""

import json
from collections.abc import Iterator
from typing import Final

from bench.scale.bench import Bench, Row
from bench.scale.measure import child, median

FEW: Final = 100


def held_connection(bench: Bench) -> Iterator[Row]:
    """Hold a connection to every server in a process that does nothing else."""
    fleet = bench.fleet(bench.servers)
    job = fleet.home / "places.json"
    pairs = zip(fleet.standins.places, fleet.secrets, strict=True)
    job.write_text(json.dumps([[*place, secret] for place, secret in pairs]))
    weighed = [
        float(child("hold", str(job), bound=bench.bound).out) for _ in range(min(bench.rounds, 3))
    ]
    yield Row(f"a held connection, of {bench.servers:,}", median(weighed), 45, "KiB")


def log_line(bench: Bench) -> Iterator[Row]:
    """Log with the secrets of few and of many servers alive."""
    many = 10 * bench.servers
    each = 1 + 2 * bench.exchanges + 3
    took = {}
    for servers in (FEW, many):
        said = child("log_line", str(servers * each), bound=bench.bound).out
        took[servers] = float(said)
    more = f"{took[many]:.3f} ms; with those of {FEW} servers {took[FEW]:.3f} ms"
    what = f"a log line with the secrets of {many:,} servers"
    yield Row(what, took[many] / took[FEW], 1.5, f"x that of {FEW}", more)
