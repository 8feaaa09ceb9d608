"""The real command in a process of its own: at a terminal, or where signals reach it."""

import os
import pty
import select
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.support.processes import until
from tests.support.rig import Rig

PATIENCE = 60.0  # seconds; generous, for a machine that others use, too


class Command:
    """
    A running `jtr`; with *terminal* its three streams are a terminal of 200 columns.

    Everything that it prints is searched for secrets when it is left.
    """

    def __init__(
        self,
        rig: Rig,
        *args: str,
        terminal: bool = False,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self._rig = rig
        self._seen = bytearray()
        if terminal:
            self._ours, theirs = pty.openpty()
        else:
            self._ours, theirs = os.pipe()
        with open(os.devnull, "rb") as nothing:  # noqa: PTH123  - a device
            self.process = subprocess.Popen(
                [sys.executable, "-m", "reconciler", *args],
                env={
                    "PATH": os.defpath,
                    "TERM": "xterm",
                    "NO_COLOR": "1",
                    "COLUMNS": "200",
                    **rig.environment,
                    **(environment or {}),
                },
                cwd=Path(__file__).parent.parent.parent,
                stdin=theirs if terminal else nothing,
                stdout=theirs,
                stderr=theirs,
                start_new_session=True,
            )
        os.close(theirs)

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
        self.process.wait()
        while self._read(0.0):
            pass
        os.close(self._ours)
        self._rig.watch.search("a command of its own", bytes(self._seen))

    @property
    def text(self) -> str:
        """All that it printed until now."""
        return self._seen.decode("utf-8", "replace").replace("\r\n", "\n")

    def expect(self, text: str, patience: float = PATIENCE) -> None:
        """Read until *text* was printed."""
        deadline = time.monotonic() + patience
        while text not in self.text:
            rest = deadline - time.monotonic()
            assert rest > 0, f"waited in vain for {text!r}:\n{self.text}"
            if not self._read(rest):
                assert text in self.text, f"it ended without {text!r}:\n{self.text}"

    def answer(self, question: str, reply: str) -> None:
        """Wait for *question* and type *reply*."""
        self.expect(question)
        os.write(self._ours, f"{reply}\n".encode())

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal, and wait until it was taken: two that wait are one."""
        self.process.send_signal(number)
        until(lambda: self.process.poll() is not None or not _waits(self.process.pid, number))

    def ended(self, patience: float = PATIENCE) -> int:
        """Wait for its end, reading on; returns its exit code."""
        deadline = time.monotonic() + patience
        while self._read(max(deadline - time.monotonic(), 0.0)):
            pass
        return self.process.wait(max(deadline - time.monotonic(), 0.1))

    def _read(self, patience: float) -> bool:
        """Read once; False at the end or when nothing came."""
        ready, _, _ = select.select([self._ours], [], [], patience)
        if not ready:
            return False
        try:
            data = os.read(self._ours, 65536)
        except OSError:  # how a terminal says that nobody is at its other end any more
            return False
        self._seen += data
        return bool(data)


def _waits(pid: int, number: int) -> bool:
    """Whether the system has not handed a signal over to the process yet."""
    with suppress(FileNotFoundError, ProcessLookupError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith(("SigPnd:", "ShdPnd:")) and int(line[7:], 16) >> (number - 1) & 1:
                return True
    return False
