"""
Whole processes: seconds, processor seconds, peak memory; and what a row of the table is.
"""

import contextlib
import os
import signal
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

# A process begins with the peak memory of whoever started it, so somebody small has to; and who
# starts that one takes as long as a bare Python.
ROOT: Final = Path(__file__).parents[2]
_LARGE: Final = 100  # numbers from here on are shown whole
_WEIGH: Final = """
import os, sys, time
began = time.perf_counter()
child = os.posix_spawn(sys.argv[2], sys.argv[2:], os.environ)
_, status, usage = os.wait4(child, 0)
wall = time.perf_counter() - began
with open(sys.argv[1], "w") as file:
    print(wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss, file=file)
sys.exit(os.waitstatus_to_exitcode(status) & 255)
"""


class Unfinished(Exception):
    """Something did not end, or did not happen, in its time."""


@dataclass(frozen=True, slots=True)
class Ran:
    """How a process ended; seconds and MiB."""

    wall: float
    processor: float
    memory: float
    code: int
    out: str
    err: str


def run(
    command: Sequence[str],
    environment: Mapping[str, str],
    *,
    bound: float,
    codes: Sequence[int] = (0,),
) -> Ran:
    """Run *command* to its end.  Raises Unfinished after *bound* seconds or for another code."""
    with tempfile.TemporaryDirectory(prefix="jtr-bench-") as folder:
        note = Path(folder) / "usage"
        process = subprocess.Popen(
            [sys.executable, "-S", "-I", "-c", _WEIGH, str(note), *command],
            env={"PATH": os.defpath, **environment},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        try:
            out, err = process.communicate(timeout=bound)
        except BaseException as error:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
            if isinstance(error, subprocess.TimeoutExpired):
                raise Unfinished(f"not done after {bound:.0f} s") from None
            raise
        if process.returncode not in codes:
            raise Unfinished(f"exit code {process.returncode}: {(err or out)[-600:].strip()}")
        wall, seconds, kibibytes = map(float, note.read_text().split())
    return Ran(wall, seconds, kibibytes / 1024, process.returncode, out, err)


def child(name: str, *args: str, bound: float, environment: Mapping[str, str] | None = None) -> Ran:
    """Run one of `bench/scale/children`."""
    command = [sys.executable, "-m", f"bench.scale.children.{name}", *args]
    return run(command, {**(environment or {}), "PYTHONPATH": str(ROOT)}, bound=bound)


def median(values: Sequence[float]) -> float:
    """Return the median."""
    return statistics.median(values)


def used(pid: int) -> float:
    """Return the processor seconds that a living process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def resident(pid: int) -> float:
    """Return the MiB of memory that a living process holds."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    raise Unfinished("the process has ended")


@dataclass(frozen=True, slots=True)
class Row:
    """
    One line of the table: what was measured, against what it must be.

    *value* is None when it was not done in its time; *more* then says why.  With *least* the target
    is what it must reach, else what it must not exceed.  *grows* names what `bench.growth` follows
    from size to size: *cost* is its processor seconds.
    """

    what: str
    value: float | None
    target: float | None
    unit: str = ""
    more: str = ""
    least: bool = False
    grows: str = ""
    cost: float = 0.0

    @property
    def over(self) -> bool:
        """Past its target, or not done."""
        if self.value is None or self.target is None:
            return self.value is None
        return self.value < self.target if self.least else self.value > self.target

    def cells(self) -> tuple[str, str, str, str, str]:
        """What, value, target, mark, and more."""
        value = "not done" if self.value is None else shown(self.value, self.unit)
        sign = ">=" if self.least else "<="
        target = "" if self.target is None else f"{sign} {shown(self.target, self.unit)}"
        mark = "over" if self.over else "ok" if self.target is not None else ""
        return self.what, value, target, mark, self.more


def shown(value: float, unit: str) -> str:
    """Return a number that people can compare, with its unit."""
    text = f"{value:,.0f}" if abs(value) >= _LARGE else f"{value:.3g}"
    return f"{text} {unit}".rstrip()
