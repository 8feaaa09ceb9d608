"""
How large a process is while time goes by: memory, file descriptors, threads, tasks.
"""

import re
import time
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import Final

PATIENCE: Final = 60.0  # seconds until nobody answers any more
SELDOM: Final = 2.0  # seconds between two samples
NAMES: Final = ("RSS MiB", "descriptors", "threads", "tasks")
Sample = tuple[float, ...]  # seconds since the first, then the values in the order of `NAMES`


class Meter:
    """Takes samples of a controller's process from outside."""

    def __init__(self, pid: int, url: str) -> None:
        self.samples: Final[list[Sample]] = []
        self._pid: Final = pid
        self._url: Final = url
        self._began: Final = time.monotonic()

    def sample(self) -> None:
        """Take a sample, unless the last one was a moment ago."""
        now = time.monotonic() - self._began
        if self.samples and now - self.samples[-1][0] < SELDOM:
            return
        place = Path(f"/proc/{self._pid}")
        status = dict(
            line.split(":", 1)
            for line in (place / "status").read_text().splitlines()
            if ":" in line
        )
        with urllib.request.urlopen(f"{self._url}/metrics", timeout=PATIENCE) as answer:
            tasks = re.search(rb"^jtr_tasks (\S+)$", answer.read(), re.MULTILINE)
        assert tasks is not None
        self.samples.append(
            (
                now,
                int(status["VmRSS"].split()[0]) / 1024,
                float(len(list((place / "fd").iterdir()))),
                float(status["Threads"]),
                float(tasks[1]),
            )
        )

    def column(self, name: str) -> list[float]:
        """Return one value of all samples, in their order."""
        index = NAMES.index(name) + 1
        return [sample[index] for sample in self.samples]

    def thirds(self, name: str) -> tuple[float, float, float]:
        """Return the context of one value over the first, the second and the last third."""
        values = self.column(name)
        third = len(values) // 3
        parts = values[:third], values[third : 2 * third], values[2 * third :]
        first, second, last = (sum(part) / len(part) for part in parts)
        return first, second, last

    def floors(self, name: str) -> tuple[float, float]:
        """
        Return the least of one value in the first third and in the last.

        What is only busy comes down again now and then; what leaks does not.
        """
        values = self.column(name)
        third = len(values) // 3
        return min(values[:third]), min(values[2 * third :])

    def slope(self, name: str) -> float:
        """Return the growth of one value an hour after the first third, by least squares."""
        warm = len(self.samples) // 3
        times = [sample[0] / 3600 for sample in self.samples][warm:]
        return _slope(times, self.column(name)[warm:])

    def table(self) -> str:
        """Return all of it as lines for people."""
        rows = []
        for name in NAMES:
            context = ", ".join(f"{mean:.1f}" for mean in self.thirds(name))
            low, late = self.floors(name)
            rows.append(
                f"{name}: {self.slope(name):+.1f} an hour; means of thirds {context}; "
                f"least {low:.1f}, at last {late:.1f}; at most {max(self.column(name)):.1f}"
            )
        return "\n".join(rows)


def _slope(xs: Sequence[float], ys: Sequence[float]) -> float:
    mean_x, mean_y = sum(xs) / len(xs), sum(ys) / len(ys)
    spread = sum((x - mean_x) ** 2 for x in xs)
    return sum((x - mean_x) * (y - mean_y) for x, y in zip(xs, ys, strict=True)) / spread
