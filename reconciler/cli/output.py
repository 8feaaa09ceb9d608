"""
What commands print: results on standard output, everything else on standard error.
"""

import json
import os
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final

import click

from reconciler.errors import Exit
from reconciler.render.layout import folded, servers_short
from reconciler.system.console import say

GRAVE: Final = (Exit.HARM, Exit.IN_DOUBT)
"""A server may be waiting for somebody."""
_COLOURS: Final = {
    "+": "green",
    "~": "yellow",
    "≠": "magenta",
    "!": "red",
    "-": "red",
    "✗": "red",
    "✓": "green",
}


def coloured() -> bool:
    """Whether standard output is a terminal of somebody who likes colour, or must be coloured."""
    if os.environ.get("NO_COLOR"):
        return False
    if os.environ.get("FORCE_COLOR", "0") not in ("", "0"):
        return True
    return sys.stdout.isatty() and os.environ.get("TERM") != "dumb"


def show(text: str) -> None:
    """Print *text*; on a terminal a line takes the colour of its sign."""
    colour = coloured()
    if colour:
        text = "\n".join(_painted(line) for line in text.split("\n"))
    click.echo(text, nl=False, color=colour)


def show_folded(text: str) -> None:
    """Print *text* as `show` does, folded where somebody watches; no line of it is for programs."""
    show(folded(text, width()))


@contextmanager
def concluding(code: Exit) -> Iterator[None]:
    """Let a failure to print not hide that robots stopped or that a request is in doubt: *code*."""
    try:
        yield
    except OSError:
        if code not in GRAVE:
            raise
        say("what was done could not be printed; it is told by: jtr history")


def _painted(line: str) -> str:
    bare = line.lstrip()
    if bare[:2] != f"{bare[:1]} " or bare[:1] not in _COLOURS:
        return line
    return click.style(line, fg=_COLOURS[bare[:1]])


def show_json(document: Mapping[str, Any]) -> None:
    click.echo(json.dumps(document, indent=2, ensure_ascii=True))


def width() -> int | None:
    """Return the columns of who watches standard output; None where nobody does."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


Watch = Callable[[str, bool], None]


@contextmanager
def progress(text: str, number: int = 0, *, quiet: bool = False) -> Iterator[Watch]:
    """
    Show on a terminal that something is going on.

    Yields whom to tell of each of *number* servers, when it is begun and when it is done.
    """
    if quiet or not sys.stderr.isatty():
        yield lambda _name, _begins: None
        return
    from rich.console import Console  # noqa: PLC0415  - only for people on a terminal

    with Console(stderr=True).status(escaped(text)) as status:
        yield Steps(text, number, lambda told: status.update(escaped(told)))


def escaped(text: str) -> str:
    """Return *text* so that rich takes nothing in it for markup."""
    return text.replace("[", "\\[")


class Steps:
    """How far many servers are, and which are waited for: `looking: 12/50, waiting for a, b`."""

    def __init__(self, text: str, number: int, show: Callable[[str], None]) -> None:
        self._text: Final = text
        self._number: Final = number
        self._show: Final = show
        self._done = 0
        self._begun: dict[str, None] = {}

    def __call__(self, name: str, begins: bool, /) -> None:
        if begins:
            self._begun[name] = None
        else:
            self._begun.pop(name, None)
            self._done += 1
        waits = f", waiting for {servers_short(self._begun, 2)}" if self._begun else ""
        self._show(f"{self._text}: {self._done}/{self._number}{waits}")
