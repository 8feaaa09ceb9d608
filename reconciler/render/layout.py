"""
Text on a terminal of some width, and many servers in few words.  Pure.
"""

import re
import unicodedata
from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import Final, NamedTuple

from reconciler.model.wording import counted
from reconciler.render.escape import plain

NARROWEST: Final = 40
"""Columns; what is narrower is told as if it had these."""

_BEHIND_SIGN: Final = 4  # columns by which the rest of a line stands behind its sign
_AT_A_GLANCE: Final = 3
_COMMAND: Final = re.compile(r" *(?:jtr|bao kv) [a-z]")
_PARTS: Final = re.compile(r"( *)([^ ]+)")
_NUMBERED: Final = re.compile(r"(.*?)([0-9]+)")


class View(NamedTuple):
    """
    How a plan or a status is looked at; the default shows everything, on lines of any length.

    *width* are the columns of a terminal; None where nothing is to be folded.
    """

    width: int | None = None
    wide: bool = True  # every server by itself
    changes_only: bool = False
    quiet: bool = False
    cost: bool = True  # say what a look costs


def folded(text: str, width: int | None) -> str:
    """
    Return *text* with longer lines folded between words.

    A word that fits into no line stays whole, at the end of the line where it was met.  So does a
    command that stands alone: copied from a terminal it is to run.
    """
    if width is None:
        return text
    return "\n".join(row for line in text.split("\n") for row in _fold(line, max(width, NARROWEST)))


def _fold(line: str, width: int) -> Iterator[str]:
    if columns(line) <= width or _COMMAND.match(line):
        yield line
        return
    bare = line.lstrip(" ")
    indent = len(line) - len(bare)
    signed = bare[1:2] == " "
    behind = " " * (indent + (_BEHIND_SIGN if signed else 2))
    row, begun, full = " " * indent, False, False
    for gap, word in _PARTS.findall(bare):
        fits = columns(row) + len(gap) + columns(word) <= width
        if begun and not fits and (full or len(behind) + columns(word) <= width):
            yield row
            row, full = behind + word, False
        else:
            row += gap + word
            full = not fits
        begun = begun or not (signed and word == bare[0])  # a sign never stands alone
    yield row


def columns(text: str) -> int:
    """Return how many columns of a terminal *text* takes."""
    return sum(
        0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1
        for c in text
    )


# ── many servers ─────────────────────────────────────────────────────────────────────────────


def name_order(name: str) -> tuple[str, int, str]:
    """Sort by this, and server 10 comes after server 9."""
    found = _NUMBERED.fullmatch(name)
    return (name, -1, "") if found is None else (found[1], int(found[2]), name)


def ranges(names: Iterable[str]) -> list[str]:
    """Return names in order, three and more that follow on one another as one: `a-1 .. a-48`."""
    runs: list[list[str]] = []
    for name in sorted(set(names), key=name_order):
        if runs and _next(runs[-1][-1]) == name:
            runs[-1].append(name)
        else:
            runs.append([name])
    found: list[str] = []
    for run in runs:
        shown = [plain(name) for name in run]
        found += [f"{shown[0]} .. {shown[-1]}"] if len(run) > 2 else shown  # noqa: PLR2004
    return found


def _next(name: str) -> str | None:
    found = _NUMBERED.fullmatch(name)
    if found is None:
        return None
    return f"{found[1]}{str(int(found[2]) + 1).zfill(len(found[2]))}"


def servers_text(names: Collection[str]) -> str:
    """Return the servers, all of them; more than people count at a glance with their number."""
    listed = ", ".join(ranges(names))
    return listed if len(names) <= _AT_A_GLANCE else f"{listed} ({len(names)} servers)"


def servers_short(names: Collection[str], most: int = _AT_A_GLANCE) -> str:
    """Return the servers, or their number where naming them would take too much room."""
    listed = ranges(names)
    return ", ".join(listed) if len(listed) <= most else counted(len(names), "server")


def some_of(parts: Sequence[str], most: int, what: str, between: str = ", ") -> str:
    """Return the first of *parts*, and how many more of *what* there are."""
    left = len(parts) - most
    listed = between.join(parts[:most])
    return f"{listed} and {left} more {what}" if left > 0 else listed
