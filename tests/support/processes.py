"""
Processes that a test starts and that start others: what they print, and whether all have gone.
"""

import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

PATIENCE = 60.0
ROOT = Path(__file__).parents[2]


def until(condition: Callable[[], object], patience: float = PATIENCE) -> None:
    """Look again and again until *condition* holds; fail when it never does."""
    deadline = time.monotonic() + patience
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.01)


class Running:
    """
    A process with pipes, whose descendants are remembered whenever a line is waited for.

    Leaving it kills what is left of the process itself, by its id.
    """

    def __init__(
        self,
        args: Sequence[str],
        environment: Mapping[str, str],
        *,
        typed: bool = False,
        pass_fds: tuple[int, ...] = (),
    ) -> None:
        self.process = subprocess.Popen(
            args,
            env={"PATH": os.defpath, **environment},
            cwd=ROOT,
            stdin=subprocess.PIPE if typed else subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            pass_fds=pass_fds,
            bufsize=1,
        )
        self._lines: list[str] = []
        self._more = threading.Condition()
        self._ended = False
        self._family: set[tuple[int, str]] = set()
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(PATIENCE)
        self._reader.join(PATIENCE)
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                pipe.close()

    @property
    def text(self) -> str:
        """All that it printed so far."""
        with self._more:
            return "".join(self._lines)

    def until(self, part: str) -> str:
        """Wait until it printed *part*; return all that it printed."""
        with self._more:
            came = self._more.wait_for(
                lambda: self._ended or part in "".join(self._lines), PATIENCE
            )
        self._family |= set(descendants(self.process.pid))
        text = self.text
        assert came, f"no {part!r} in:\n{text}"
        assert part in text, f"ended without {part!r}:\n{text}"
        return text

    def type(self, line: str) -> None:
        """Type a line."""
        assert self.process.stdin is not None
        self.process.stdin.write(f"{line}\n")
        self.process.stdin.flush()

    def send(self, number: signal.Signals) -> None:
        """Send a signal to the process itself."""
        self._family |= set(descendants(self.process.pid))
        self.process.send_signal(number)

    def end(self, patience: float = PATIENCE) -> int:
        """Wait for its end; return its exit code."""
        code = self.process.wait(patience)
        self._reader.join(PATIENCE)
        return code

    def survivors(self) -> list[int]:
        """Return which of its remembered descendants are still there a moment later."""
        assert self._family, "positive control: it had children"
        deadline = time.monotonic() + PATIENCE
        while (left := [p for p in self._family if _alive(p)]) and time.monotonic() < deadline:
            time.sleep(0.02)
        return [pid for pid, _ in left]

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            with self._more:
                self._lines.append(line)
                self._more.notify_all()
        with self._more:
            self._ended = True
            self._more.notify_all()


def descendants(pid: int) -> list[tuple[int, str]]:
    """Return (process id, start time) of all children of *pid*, and theirs."""
    found: list[tuple[int, str]] = []
    for task in Path(f"/proc/{pid}/task").glob("*"):
        try:
            children = (task / "children").read_text().split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        for child in map(int, children):
            if started := _started(child):
                found += [(child, started), *descendants(child)]
    return found


def _started(pid: int) -> str:
    """Return when a process began, empty when it is not there or only waits to be reaped."""
    try:
        rest = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return ""
    return "" if rest[0] in "ZX" else rest[19]


def _alive(process: tuple[int, str]) -> bool:
    return _started(process[0]) == process[1]
