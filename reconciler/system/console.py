"""
Words for people that are not the result, on standard error.

They help whoever reads them, and nothing depends on them: where they cannot be written, on a full
disk or a terminal that is gone, they are lost, and the work goes on.

Where that is systemd's journal, each line begins with its priority in angle brackets, which the
journal takes off: sd-daemon(3).  So `journalctl -p warning` shows what somebody should read.
"""

import enum
import os
import sys
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Final, TextIO

import click


class Priority(enum.IntEnum):
    """Those of syslog(3)."""

    ERROR = 3
    WARNING = 4
    NOTICE = 5
    INFO = 6
    DEBUG = 7


def reaches_journal(stream: TextIO, environ: Mapping[str, str] = os.environ) -> bool:
    """Whether what is written there goes to the journal: JOURNAL_STREAM names device and inode."""
    named = environ.get("JOURNAL_STREAM", "")
    if not named:
        return False
    try:
        found = os.fstat(stream.fileno())
    except (OSError, ValueError):  # a stream of a test has no descriptor
        return False
    return named == f"{found.st_dev}:{found.st_ino}"


def prioritised(text: str, priority: Priority) -> str:
    return "\n".join(f"<{priority}>{line}" for line in text.split("\n"))


class Lossy:
    """A stream, to write to; what it does not take is lost."""

    def __init__(self, stream: TextIO) -> None:
        self._stream: Final = stream

    def write(self, text: str) -> int:
        with suppress(OSError):
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        with suppress(OSError):
            self._stream.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def write(text: str, priority: Priority) -> None:
    """Write lines to standard error, in the journal with their priority."""
    with suppress(OSError):
        click.echo(prioritised(text, priority) if reaches_journal(sys.stderr) else text, err=True)


def say(text: str) -> None:
    """Tell people something that is not the result."""
    write(f"jtr: {text}", Priority.NOTICE)
