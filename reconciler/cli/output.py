"""
What commands print: results on standard output, everything else on standard error.
"""

import json
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final

import click

_COLOURS: Final = {
    "+": "green",
    "~": "yellow",
    "≠": "magenta",
    "!": "red",
    "-": "red",
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


def _painted(line: str) -> str:
    bare = line.lstrip()
    if bare[:2] != f"{bare[:1]} " or bare[:1] not in _COLOURS:
        return line
    return click.style(line, fg=_COLOURS[bare[:1]])


def show_json(document: Mapping[str, Any]) -> None:
    click.echo(json.dumps(document, indent=2, ensure_ascii=True))


@contextmanager
def progress(text: str) -> Iterator[None]:
    """Show that something is going on, on a terminal only."""
    if not sys.stderr.isatty():
        yield
        return
    from rich.console import Console  # noqa: PLC0415  - only for people on a terminal

    with Console(stderr=True).status(text):
        yield
