"""
Break the code on purpose, one way at a time, and see the tests turn red.

`make mutants` runs this: each mutant of `table.py` is made in a copy of the tree and must turn the
tests named beside it red.  A mutant that survives is a promise that nobody keeps watch over.
"""

import argparse
import itertools
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue

sys.path.insert(0, str(Path(__file__).parent.parent.parent))
from tests.mutants.table import MUTANTS, Mutant

ROOT = Path(__file__).parent.parent.parent
PARTS = (
    *("reconciler", "tests", "schemas", "examples", "deploy", "docs", "locks"),
    *("pyproject.toml", "Makefile"),
)
PATIENCE = 600.0  # seconds for the tests of one mutant
WHOLE_PATIENCE = 3600.0  # seconds for the tests of all of them, before anything is broken
FAILED = 1  # pytest's code when tests failed; anything else is no verdict
_MOMENTS = itertools.count(1)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the chosen mutants, two at a time; 0 when all were noticed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", help="only mutants whose names contain one of these")
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args(arguments)
    chosen = [m for m in MUTANTS if not options.names or any(n in m.name for n in options.names)]
    with tempfile.TemporaryDirectory(prefix="jtr-mutants-") as folder:
        copies: SimpleQueue[Path] = SimpleQueue()
        for number in range(options.workers):
            copies.put(_copied(Path(folder) / str(number)))
        if not _healthy(copies, chosen):
            return 1

        def judged(mutant: Mutant) -> bool:
            copy = copies.get()
            try:
                return _noticed(mutant, copy)
            finally:
                copies.put(copy)

        with ThreadPoolExecutor(options.workers) as pool:
            noticed = list(pool.map(judged, chosen))
    print(f"{sum(noticed)} of {len(noticed)} mutants were noticed")
    return 0 if all(noticed) else 1


def _copied(target: Path) -> Path:
    for part in PARTS:
        source = ROOT / part
        if source.is_dir():
            ignored = shutil.ignore_patterns("__pycache__")
            shutil.copytree(source, target / part, ignore=ignored)
        else:
            shutil.copy2(source, target / part)
    return target


def _healthy(copies: "SimpleQueue[Path]", chosen: Iterable[Mutant]) -> bool:
    """Whether the tests are green as long as nothing is broken: else red would mean nothing."""
    copy = copies.get()
    tests = sorted({test for mutant in chosen for test in mutant.tests})
    try:
        code, said = _tested(copy, ["-n", "2", *tests], WHOLE_PATIENCE)
    finally:
        copies.put(copy)
    print("not green to begin with:\n" + said if code else "green to begin with", flush=True)
    return code == 0


def _noticed(mutant: Mutant, copy: Path) -> bool:
    path = copy / mutant.file
    text = path.read_text("utf-8")
    _write(path, mutant.applied(text))
    began = time.monotonic()
    try:
        code, said = _tested(copy, mutant.tests, PATIENCE)
    finally:
        _write(path, text)
    took = time.monotonic() - began
    if code == FAILED:
        print(f"noticed    {mutant.name} ({took:.0f} s)", flush=True)
        return True
    print(f"SURVIVED   {mutant.name} (pytest ended with {code})\n{said}", flush=True)
    return False


def _write(path: Path, text: str) -> None:
    path.write_text(text, "utf-8")
    # A time of its own: Python knows by size and time what it has compiled, in whole seconds.
    moment = next(_MOMENTS)
    os.utime(path, (moment, moment))


def _tested(copy: Path, tests: Sequence[str], patience: float) -> tuple[int, str]:
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PYTEST")}
    # Compiling all of jtr and the tests anew would take longer than most of them.
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    options = ["-q", "-x", "-m", "not long", "-p", "no:cacheprovider"]
    command = [sys.executable, "-m", "pytest", *options, *tests]
    try:
        done = subprocess.run(
            command,
            cwd=copy,
            env=environment,
            capture_output=True,
            text=True,
            timeout=patience,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return -1, f"not over after {patience:g} s"
    return done.returncode, done.stdout[-2000:]


if __name__ == "__main__":
    sys.exit(main())
