"""Where in a file something stands, and what is wrong there."""

from typing import Final, NamedTuple

from msgspec import Struct


class SourceLine(NamedTuple):  # each value of a document has one, and a dataclass costs thrice
    """A place in a file that a person can jump to; lines and columns count from 1."""

    file: str
    line: int
    column: int = 1

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}"


NOWHERE: Final = SourceLine("", 0, 0)


class Problem(Struct, frozen=True, order=True):
    """One mistake in a document: where, what, and what to do about it."""

    source: SourceLine
    what: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.source}: {self.what}; {self.remedy}"
