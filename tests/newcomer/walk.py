"""
A newcomer who types what a page says, and keeps what he saw.

He sits at a terminal of so many columns and says yes when he is asked, or has none.  `jtr` forks
from a process that has it imported; everything else, and what only a shell understands, is bash.
"""

import fcntl
import os
import pty
import re
import select
import shlex
import struct
import subprocess
import tempfile
import termios
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.crash.forkserver import Forks
from tests.house.pages import BLOCK
from tests.newcomer.situations import MEANWHILE, USER, Situation

EVENT: Final = re.compile(r"<!-- meanwhile: ([^>]*?) -->")
PART: Final = re.compile(f"{EVENT.pattern}|{BLOCK.pattern}", re.DOTALL | re.MULTILINE)
RICH: Final = frozenset("|&;<>()$`*?~#")
"""A line with one of these outside of quotes is the shell's."""
PATIENCE: Final = 90.0
CODES: Final = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
OTHER_EACH_TIME: Final = tuple(
    (re.compile(pattern), shown)
    for pattern, shown in (
        (r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d", "2026-11-22T09:30:00"),
        (r"(?<=T09:30:00\.)\d+", "000"),
        (r"(?<=sha256:)[0-9a-f]{40}-[0-9a-f]{40}", "1f" * 20 + "-" + "2e" * 20),
        (r"(?<=\bid )[0-9a-f]{12}\b", "3d" * 6),
        (r"\b\d+@[\w.-]+\s+\(\w+\)", "4711@desk (alice)"),
        (r"\b\d+(?:\.\d+)? (?:ms|s|min)\b", "5 s"),
    )
)
"""What is another one in each run, and what transcripts have in its place."""
WHEEL: Final = re.compile("[\u2800-\u28ff] ")
QUESTION: Final = re.compile(r"\[y/N\]:? ?$|\[yes/no\]:? ?$")


@dataclass(frozen=True, slots=True)
class Seat:
    """Where the newcomer sits: at a terminal of *columns*, or at none."""

    name: str
    columns: int | None = None
    colour: bool = True

    @property
    def environment(self) -> dict[str, str]:
        """What his shell has besides."""
        if self.columns is None:
            return {}
        return {"TERM": "xterm-256color"} | ({} if self.colour else {"NO_COLOR": "1"})


SEATS: Final = (Seat("40", 40), Seat("120", 120), Seat("no-tty"))


class Walk:
    """One page in one situation; `told` is the transcript."""

    def __init__(self, situation: Situation, forks: Forks, seat: Seat) -> None:
        self.told: list[str] = []
        self.raw = ""
        self.rows: list[str] = []
        self._situation = situation
        self._forks = forks
        self._seat = seat

    def page(self, text: str) -> str:
        """Do what the page says from its first line to its last; returns the transcript."""
        for part in PART.finditer(text):
            if event := part[1]:
                MEANWHILE[event](self._situation)
                self.told.append(f"-- meanwhile: {event}\n")
            elif part["run"] and part["run"].startswith("file "):
                self._write(part["run"].removeprefix("file "), _dedented(part))
            elif part["run"] and part["kind"] == "sh":
                _, _, code = part["run"].partition(", exit ")
                self._block(_dedented(part), int(code or 0))
        return self._normal("\n".join(self.told))

    def _write(self, name: str, body: str) -> None:
        path = self._situation.home / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(self._situation.shown(body), "utf-8")

    def _block(self, body: str, last: int) -> None:
        lines = self._situation.shown(body).replace("\\\n", " ").splitlines()
        commands = [line.strip() for line in lines if line.strip()]
        for number, command in enumerate(commands):
            expected = last if number == len(commands) - 1 else 0
            code, text = self._typed(command)
            if code == 64 and "--auto-approve" in text and self._seat.columns is None:
                # What is said to who has no terminal must do.
                code, text = self._typed(f"{command} --auto-approve")
            assert code == expected, f"{command}: {code}\n{text}"

    def _typed(self, command: str) -> tuple[int, str]:
        words = shlex.split(command, comments=True)
        plain = words[0] == "jtr" and not RICH & set(re.sub(r"'[^']*'|\"[^\"$]*\"", "", command))
        environment = self._situation.environment | self._seat.environment
        if self._seat.columns is None:
            code, raw = self._piped(words if plain else command, environment)
        else:
            code, raw = self._at_terminal(words if plain else command, environment)
        self._situation.watch.search(f"what {words[0]} printed", raw)
        self.raw += raw
        seen = standing(raw)
        if plain:
            self.rows += seen.splitlines()
        shown = command.replace(str(self._situation.home), "~")
        ends = f"[exit {code}]\n" if code else ""
        self.told.append(f"$ {shown}\n{seen}{ends}")
        return code, seen

    def _piped(self, command: list[str] | str, environment: dict[str, str]) -> tuple[int, str]:
        if isinstance(command, str):
            done = subprocess.run(
                ["/bin/bash", "-c", command],
                cwd=self._situation.home,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                timeout=PATIENCE,
                check=False,
            )
            return done.returncode, done.stdout.decode()
        with tempfile.NamedTemporaryFile() as output:
            pid = self._forks.run(
                command[1:], environment, Path(output.name), folder=self._situation.home
            )
            code = self._forks.wait(pid)
            return code, Path(output.name).read_text("utf-8")

    def _at_terminal(
        self, command: list[str] | str, environment: dict[str, str]
    ) -> tuple[int, str]:
        ours, theirs = pty.openpty()
        try:
            size = struct.pack("HHHH", 50, self._seat.columns or 80, 0, 0)
            fcntl.ioctl(theirs, termios.TIOCSWINSZ, size)
            home = self._situation.home
            if isinstance(command, str):
                process = subprocess.Popen(
                    ["/bin/bash", "-c", command],
                    cwd=home,
                    env=environment,
                    stdin=theirs,
                    stdout=theirs,
                    stderr=theirs,
                    start_new_session=True,
                )
                os.close(theirs)
                theirs = -1
                text = _answered(ours)
                return process.wait(PATIENCE), text
            pid = self._forks.run(command[1:], environment, Path(os.ttyname(theirs)), folder=home)
            text = _answered(ours, theirs)
            theirs = -1
            return self._forks.wait(pid), text
        finally:
            os.close(ours)
            if theirs >= 0:
                os.close(theirs)

    def _normal(self, text: str) -> str:
        """The transcript without what is another one each time, as wide as before."""
        text = text.replace(str(self._situation.home), USER)
        ports = {self._situation.bao.address.rpartition(":")[2]: "18200"}
        for number, server in enumerate(self._situation.servers.values()):
            ports[server.url.rpartition(":")[2]] = str(18443 + number)
        for port, shown in ports.items():
            text = re.sub(rf"\b{port}\b", shown, text)
        for pattern, instead in OTHER_EACH_TIME:
            text = pattern.sub(instead, text)
        return text


def _answered(ours: int, theirs: int = -1) -> str:
    """Read a terminal until nobody is at its other end any more, and say yes when asked."""
    data, deadline, answered = bytearray(), time.monotonic() + PATIENCE, 0
    while True:
        ready, _, _ = select.select([ours], [], [], deadline - time.monotonic())
        assert ready, f"it hangs: {data.decode()}"
        if theirs >= 0:
            os.close(theirs)  # its own end is open by now: it printed something
            theirs = -1
        try:
            more = os.read(ours, 65536)
        except OSError:
            return data.decode("utf-8", "replace")
        data += more
        if QUESTION.search(CODES.sub("", data[answered:].decode("utf-8", "replace"))):
            answered = len(data)
            os.write(ours, b"y\n")


def standing(raw: str) -> str:
    """What is left standing on a terminal: progress is overwritten, colours are not text."""
    rows: list[str] = []
    text = raw.replace("\r\n", "\n")
    for row in text.split("\n"):
        up = row.count("\x1b[1A")
        bare = row.rpartition("\x1b[2K")[2] if "\x1b[2K" in row else row
        bare = CODES.sub("", bare).rpartition("\r")[2]
        if up and rows:
            del rows[-up:]
        rows.append(bare)
    # A slow machine draws a wheel where a quick one has none, and it may be cut anywhere.
    return "\n".join(row for row in rows if not WHEEL.match(row))


def _dedented(part: re.Match[str]) -> str:
    indent = part["indent"] or ""
    return "".join(line.removeprefix(indent) for line in part["body"].splitlines(keepends=True))
