"""
`.jtrignore`: what of a directory is not ours, in the lines of a `.gitignore`.

Not a library: who writes a tree must not be able to hold everybody up, and pathspec needs minutes
for a line such as `*a*a*a*a*a*b`.  Here `fnmatch` alone matches each name, and never looks back.
"""

import fnmatch
import re
from collections.abc import Sequence
from typing import Final, NamedTuple

from msgspec import Struct

NAME: Final = ".jtrignore"
SIZE_LIMIT: Final = 64 * 1024
LINES_LIMIT: Final = 200
"""Lines in force at one place: every name is held against each of them."""

_ANY: Final = None  # any number of directories: `**`
_SPECIAL: Final = "*?["
_NOT_IN: Final = re.compile(r"(?<!\\)\[\^")


class BadLine(ValueError):
    """A line says nothing; `number` is its own, 0 where there are too many."""

    def __init__(self, number: int, what: str) -> None:
        super().__init__(what)
        self.number: Final = number


class _Rule(NamedTuple):
    """One line; `parts` match the names from the directory of its file on, one each."""

    parts: tuple[re.Pattern[str] | None, ...]
    directories: bool
    back: bool  # it takes back what an earlier one left out


class Ignored(Struct, frozen=True):
    """What is left out at one place: the rules of its directory, and of those above it."""

    rules: tuple[tuple[int, _Rule], ...] = ()  # each with how deep its file lies
    depth: int = 0

    def below(self) -> "Ignored":
        """Return what is left out one directory deeper, before that one's own file was read."""
        return Ignored(self.rules, self.depth + 1)

    def with_file(self, text: str) -> "Ignored":
        """Add the lines of this directory's file.  Raises BadLine."""
        added = tuple((self.depth, rule) for rule in _rules(text))
        if len(self.rules) + len(added) > LINES_LIMIT:
            raise BadLine(0, f"more than {LINES_LIMIT} lines hold there")
        return Ignored((*self.rules, *added), self.depth)

    def leaves_out(self, names: Sequence[str], *, directory: bool) -> bool:
        """Whether the place *names*, from the PATH on, is left out; the last line decides."""
        for depth, rule in reversed(self.rules):
            if (directory or not rule.directories) and _matches(rule.parts, names[depth:]):
                return not rule.back
        return False


def _rules(text: str) -> list[_Rule]:
    rules = []
    for number, line in enumerate(text.removeprefix("\ufeff").split("\n"), 1):
        rule = _rule(number, line.removesuffix("\r"))
        if rule is not None:
            rules.append(rule)
    return rules


def _rule(number: int, line: str) -> _Rule | None:
    while line.endswith(" ") and not line.endswith("\\ "):
        line = line[:-1]
    if not line or line.startswith("#"):
        return None
    back = line.startswith("!")
    line = line.removeprefix("!") if back else line
    directories = line.endswith("/")
    line = line.removesuffix("/")
    anchored = "/" in line
    names = line.removeprefix("/").split("/")
    if not all(names):
        raise BadLine(number, "it names nothing")
    parts = [_ANY if name == "**" else _compiled(number, name) for name in names]
    return _Rule(tuple(parts if anchored else [_ANY, *parts]), directories, back)


def _compiled(number: int, name: str) -> re.Pattern[str]:
    """Return what matches one name; a backslash takes the meaning of the next character away."""
    pattern, rest = "", iter(_NOT_IN.sub("[!", name))
    for char in rest:
        if char != "\\":
            pattern += char
            continue
        kept = next(rest, "")
        if not kept:
            raise BadLine(number, "it ends with a backslash, which means nothing")
        pattern += f"[{kept}]" if kept in _SPECIAL else kept
    try:
        return re.compile(fnmatch.translate(pattern))
    except re.error:
        raise BadLine(number, "it is no pattern") from None


def _matches(parts: Sequence[re.Pattern[str] | None], names: Sequence[str]) -> bool:
    """Whether *parts* match all of *names*; takes at most the product of both in steps."""
    open_ = {0}  # how many of the names are matched already, in every way there is
    for index, part in enumerate(parts):
        if part is _ANY:
            # At the end it is what lies below, and never the directory itself.
            first = min(open_, default=len(names)) + (index == len(parts) - 1)
            open_ = set(range(first, len(names) + 1))
        else:
            open_ = {at + 1 for at in open_ if at < len(names) and part.match(names[at])}
        if not open_:
            return False
    return len(names) in open_
