"""
The real command in a process of its own, at a terminal or where signals reach it; and a shell.
"""

import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from tests.support.leaks import Watch
from tests.support.processes import until
from tests.support.rig import Rig

PATIENCE = 60.0  # seconds; generous, for a machine that others use, too
COLUMNS: Final = 100
PROMPT: Final = re.compile(r"on-call \[(\d+)\]> $")
CODES: Final = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
ASKED: Final = re.compile(r"(\[y/N\]|\[yes/no\]|hidden\)|[Pp]assword): ?$")
"""What waits for somebody's answer."""


class _Watched:
    """
    A process of which we read what it prints, and at a terminal type what it reads.

    Everything that it prints is searched for secrets when it is left.
    """

    process: subprocess.Popen[bytes]
    _ours: int

    def __init__(self, watch: Watch, name: str) -> None:
        self._watch = watch
        self._name = name
        self._seen = bytearray()

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
        self._watch.search(self._name, bytes(self._seen))
        self._watch.search(self._name, CODES.sub("", self.text))

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
        self._type(reply)

    def ended(self, patience: float = PATIENCE) -> int:
        """Wait for its end, reading on; returns its exit code."""
        deadline = time.monotonic() + patience
        while self._read(max(deadline - time.monotonic(), 0.0)):
            pass
        return self.process.wait(max(deadline - time.monotonic(), 0.1))

    def _type(self, line: str) -> None:
        os.write(self._ours, f"{line}\n".encode())

    def _read(self, patience: float) -> bool:
        """Read once; False at the end or when nothing came."""
        ready, _, _ = select.select([self._ours], [], [], max(patience, 0.0))
        if not ready:
            return False
        try:
            data = os.read(self._ours, 65536)
        except OSError:  # how a terminal says that nobody is at its other end any more
            return False
        self._seen += data
        return bool(data)


class Command(_Watched):
    """
    A running `jtr`; with *terminal* its three streams are a terminal of 200 columns.

    *before* are words of a command that starts it.
    """

    def __init__(
        self,
        rig: Rig,
        *args: str,
        terminal: bool = False,
        environment: Mapping[str, str] | None = None,
        before: Sequence[str] = (),
    ) -> None:
        super().__init__(rig.watch, "a command of its own")
        if terminal:
            self._ours, theirs = pty.openpty()
        else:
            self._ours, theirs = os.pipe()
        with open(os.devnull, "rb") as nothing:  # noqa: PTH123  - a device
            self.process = subprocess.Popen(
                [*before, sys.executable, "-m", "reconciler", *args],
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

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal, and wait until it was taken: two that wait are one."""
        self.process.send_signal(number)
        until(lambda: self.process.poll() is not None or not _waits(self.process.pid, number))

    def lose_terminal(self) -> None:
        """Close its terminal, and let nobody tell it so: as one that its shell disowned."""
        nothing = os.open(os.devnull, os.O_RDONLY)
        os.dup2(nothing, self._ours)
        os.close(nothing)

    def hang_up(self) -> None:
        """Close its terminal, as a connection that breaks: the shell says so, and the system."""
        self.lose_terminal()
        for _ in range(2):
            self.signal(signal.SIGHUP)


@dataclass(frozen=True, slots=True)
class Hidden:
    """What is typed only once the terminal shows nothing of it."""

    text: str


@dataclass(frozen=True, slots=True)
class Seen:
    """What a command left on the terminal, and its exit code."""

    code: int
    text: str

    @property
    def words(self) -> str:
        """The same in one line: where a terminal breaks it is nobody's promise."""
        return " ".join(self.text.split())


class Shell(_Watched):
    """
    A person at a terminal: one bash from first to last, without anybody's rc files.

    It is the terminal's session leader, as after a login.  Its prompt shows the exit code of what
    was typed last.  It keeps a history in HOME, where a secret in a command line would be found.
    """

    def __init__(
        self,
        watch: Watch,
        folder: Path,
        environment: Mapping[str, str],
        *,
        name: str = "a shell",
        columns: int = COLUMNS,
    ) -> None:
        super().__init__(watch, name)
        self._ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 50, columns, 0, 0))
        variables = {"PATH": os.defpath, "TERM": "xterm", "PS1": "on-call [$?]> ", **environment}
        self.process = subprocess.Popen(
            ["setsid", "--ctty", "/bin/bash", "--norc", "--noprofile", "--noediting", "-i"],
            env=variables,
            cwd=folder,
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
        )
        os.close(theirs)

    def __enter__(self) -> Self:
        self._until_prompt(0)
        return self

    def types(self, line: str, *answers: tuple[str, str | Hidden], code: int | None = 0) -> Seen:
        """
        Type a line and wait for the prompt; what is asked meanwhile is answered, in this order.

        A question that is not foreseen, one that is not asked, and another exit code than *code*
        are failures; None is for any.
        """
        start = len(self._seen)
        self._type(line)
        for question, reply in answers:
            start = self._until_asked(start, question, line)
            if isinstance(reply, Hidden):
                until(lambda: not termios.tcgetattr(self._ours)[3] & termios.ECHO)
                self._type(reply.text)
            else:
                self._type(reply)
        seen = self._until_prompt(start)
        assert code is None or seen.code == code, f"{line}: exit code {seen.code}\n{seen.text}"
        return seen

    def starts(self, line: str, until: str) -> None:
        """Type a line of something that stays, and wait until it says *until*."""
        start = len(self._seen)
        self._type(line)
        deadline = time.monotonic() + PATIENCE
        while until not in (text := self._shown(start)).partition(f"{line}\n")[2]:
            assert not PROMPT.search(text), f"{line}: it ended\n{text}"
            assert self._read(deadline - time.monotonic()), f"{line}: never {until!r}\n{text}"

    def interrupts(self) -> Seen:
        """Press Ctrl-C, once the terminal is the program's, and wait for the prompt."""
        until(lambda: os.tcgetpgrp(self._ours) != self.process.pid)
        start = len(self._seen)
        os.write(self._ours, b"\x03")
        return self._until_prompt(start)

    @contextmanager
    def left_alone(self) -> Iterator[None]:
        """Read on while nobody types here: who prints to a terminal that is full stands still."""
        typed = threading.Event()

        def read() -> None:
            while not typed.is_set():
                if not self._read(0.1):
                    typed.wait(0.01)

        thread = threading.Thread(target=read)
        thread.start()
        try:
            yield
        finally:
            typed.set()
            thread.join()

    def leaves(self) -> None:
        """Type `exit`; whoever stays behind in the session has not been ended."""
        self._type("exit")
        self.ended()

    def _until_asked(self, start: int, question: str, line: str) -> int:
        """Wait for a question; returns where it ends."""
        deadline = time.monotonic() + PATIENCE
        while not _asks(text := self._shown(start), question):
            assert not PROMPT.search(text), f"{line}: never asked {question!r}\n{text}"
            assert not ASKED.search(text), f"{line}: another question than {question!r}\n{text}"
            assert self._read(deadline - time.monotonic()), f"{line}: it hangs\n{text}"
        return len(self._seen)

    def _until_prompt(self, start: int) -> Seen:
        deadline = time.monotonic() + PATIENCE
        while not (prompt := PROMPT.search(text := self._shown(start))):
            assert not ASKED.search(text), f"a question that nobody answers:\n{text}"
            assert self._read(deadline - time.monotonic()), f"no prompt:\n{text}"
        return Seen(int(prompt[1]), text[: prompt.start()])

    def _shown(self, start: int) -> str:
        """What can be read since then: codes are no text, progress is written over."""
        text = self._seen[start:].decode("utf-8", "replace").replace("\r\n", "\n")
        return "\n".join(CODES.sub("", row).rpartition("\r")[2] for row in text.split("\n"))


def _asks(text: str, question: str) -> bool:
    """Whether the question stands there to its end."""
    return text.endswith(question) or (question in text and bool(ASKED.search(text)))


def _waits(pid: int, number: int) -> bool:
    """Whether the system has not handed a signal over to the process yet."""
    with suppress(FileNotFoundError, ProcessLookupError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith(("SigPnd:", "ShdPnd:")) and int(line[7:], 16) >> (number - 1) & 1:
                return True
    return False
