"""
Markdown in which foreign text is inert: it is code, and nothing in it can end the code.

GitHub, GitLab and Forgejo look for mentions, references and links in what Markdown made, so
escaping its signs does not help; what is code they leave alone.
"""

import html
import re
from collections.abc import Iterable, Sequence
from typing import Final

from reconciler.render.escape import plain

_TICKS = re.compile("`+")
_CELL: Final = str.maketrans({"`": "\\u0060", "|": "\\u007c"})


def code(text: str, limit: int = 60) -> str:
    """Return *text* as code within a sentence or a cell of a table."""
    inner = plain(text, limit).translate(_CELL)
    return f"`{inner}`" if inner.strip() else '`""`'


def codes(words: Sequence[str], most: int, limit: int = 60) -> str:
    """Return the first *most* words as code, and how many more there are."""
    shown = ", ".join(code(word, limit) for word in words[:most])
    left = len(words) - most
    return f"{shown} and {left} more" if left > 0 else shown


def fenced(text: str) -> str:
    """Return escaped lines as a block of code."""
    longest = max((len(ticks) for ticks in _TICKS.findall(text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}text\n{text.rstrip()}\n{fence}"


def collapsed(summary: str, body: str) -> str:
    """Return *body* as what opens at a click; *summary* is HTML."""
    return f"<details><summary>{summary}</summary>\n\n{body}\n\n</details>\n"


def html_code(text: str, limit: int = 120) -> str:
    """Return *text* as code within HTML."""
    return f"<code>{html.escape(plain(text, limit))}</code>"


def fitting(items: Iterable[str], room: int) -> list[str]:
    """Return the first items that fit into *room* characters; none is made that is not needed."""
    taken: list[str] = []
    for item in items:
        room -= len(item)
        if room < 0:
            break
        taken.append(item)
    return taken


def fenced_within(text: str, room: int) -> str | None:
    """Return as many lines as fit as a block of code that says what is missing; None if none do."""
    block = fenced(text)
    if len(block) <= room:
        return block
    lines = text.rstrip().split("\n")
    spare = room - 2 * max(map(len, _TICKS.findall(text)), default=3) - 80
    taken = fitting((f"{line}\n" for line in lines), spare)
    if not taken:
        return None
    left = f"... {len(lines) - len(taken)} of {len(lines)} lines are left out here"
    return fenced("".join(taken) + left)
