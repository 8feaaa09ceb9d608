"""Where in a file something stands, and what is wrong there."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True, order=True)
class SourceLine:
    """A place in a file that a person can jump to; lines and columns count from 1."""

    file: str
    line: int
    column: int = 1

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}"


NOWHERE: Final = SourceLine("", 0, 0)


@dataclass(frozen=True, slots=True, order=True)
class Problem:
    """One mistake in a document: where, what, and what to do about it."""

    source: SourceLine
    what: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.source}: {self.what}; {self.remedy}"


def with_limit(problems: Iterable[Problem], limit: int = 50) -> tuple[object, ...]:
    """Return the problems once each, sorted by place; at most *limit* and then how many more."""
    ordered = sorted(set(problems))
    rest = len(ordered) - limit
    return (*ordered[:limit], f"... and {rest} more") if rest > 0 else tuple(ordered)
