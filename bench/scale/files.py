"""
Rows of documents: checking ten thousand files, and one that changed among them.
"""

import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from bench.scale.bench import Bench, Row, middle, pairs, told
from bench.scale.fleet import FIELDS
from bench.scale.measure import child, run

PER_SERVER: Final = 10  # files for each server of a run
DOCUMENT: Final = """\
apiVersion: jtr/v1
kind: TradingServer
metadata: {{name: {name}, labels: {{env: bench}}}}
spec:
  url: https://{name}.internal:8443
  accessSecret: vault:secret/jt/{name}#access_secret
  exchanges:
"""
EXCHANGE: Final = '    {code}: {{"credentials": "vault:secret/jt/{name}/{code}"}}\n'


def write(folder: Path, count: int, exchanges: int) -> None:
    """Write one file a server."""
    for number in range(count):
        name = f"server-{number:05}"
        codes = [EXCHANGE.format(code=code, name=name) for code in tuple(FIELDS)[:exchanges]]
        (folder / f"{name}.yaml").write_text(DOCUMENT.format(name=name) + "".join(codes))


def validate(bench: Bench) -> Iterator[Row]:
    """Check many files of one server, against loading them with PyYAML's C loader."""
    count = bench.servers * PER_SERVER
    with tempfile.TemporaryDirectory(prefix="jtr-bench-") as name:
        write(Path(name), count, bench.exchanges)
        fleetless = {"HOME": "/nonexistent"}
        jtr = [str(Path(sys.executable).parent / "jtr"), "validate", name]
        loads, runs, _ = pairs(
            lambda: child("load_yaml", name, bound=bench.bound),
            lambda: run(jtr, fleetless, bound=bench.bound),
            min(bench.rounds, 3),
        )
        ratio = middle(runs).processor / middle(loads).processor
        more = f"{told(middle(runs))}; CSafeLoader {middle(loads).processor:.2f} s of processor"
        what = f"validate, {count:,} files of one server: processor"
        cost = middle(runs).processor
        yield Row(what, ratio, 2.5, "x CSafeLoader", more, grows="validate", cost=cost)
        said = child("reread", name, bound=bench.bound).out.split()
        whole, one = map(float, said)
        what = f"controller: one changed file of {count:,}, processor"
        more = f"{one * 1000:.0f} ms after {whole * 1000:.0f} ms for all of them"
        yield Row(what, one / whole, 0.1, "x reading all", more)
