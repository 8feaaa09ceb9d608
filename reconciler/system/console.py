"""
Words for people that are not the result, on standard error.

Where that is systemd's journal, each line begins with its priority in angle brackets, which the
journal takes off: sd-daemon(3).  So `journalctl -p warning` shows what somebody should read.
"""

import enum
import os
import sys
from collections.abc import Mapping
from typing import TextIO

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


def write(text: str, priority: Priority) -> None:
    """Write lines to standard error, in the journal with their priority."""
    click.echo(prioritised(text, priority) if reaches_journal(sys.stderr) else text, err=True)


def say(text: str) -> None:
    """Tell people something that is not the result."""
    write(f"jtr: {text}", Priority.NOTICE)
