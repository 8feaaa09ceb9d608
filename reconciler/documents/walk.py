"""
Which places below a PATH hold documents, for the loader and for the controller's content hash.

Links are followed, but never out of the directory that was named: whoever writes a tree may not
read the whole host.  Each directory is looked into once, whatever links lead to it.  What a
`.jtrignore` leaves out is not looked at.
"""

import enum
import os
from collections.abc import Iterable, Iterator
from operator import attrgetter
from typing import Final

from msgspec import Struct

from reconciler.documents.ignore import NAME, SIZE_LIMIT, BadLine, Ignored
from reconciler.model.values import replace
from reconciler.system.files import read_regular

SUFFIXES: Final = (".yaml", ".yml")
_NAME: Final = attrgetter("name")


class Kind(enum.Enum):
    """What stands at a place; with any but the first three the loader refuses the whole tree."""

    FILE = b"f"
    IGNORED = b"i"  # a file or a directory that a `.jtrignore` leaves out
    OUTSIDE = b"o"  # a link out of the tree: a problem of the document, never followed
    MISSING = b"m"
    UNREADABLE = b"u"
    UNLISTED = b"l"
    UNIGNORING = b"b"  # a `.jtrignore` of which nobody can tell what it leaves out

    # Asked several times for every file: that of an Enum goes by its name, in Python.
    __hash__ = object.__hash__


class Entry(Struct, frozen=True):
    """
    One place that the loader looks at.

    `name` begins with that of its PATH and goes on below it, `real` is the path without links.
    What was no link when it was listed is not `linked`, and must not be opened as one.  `trouble`
    is what is wrong with a `.jtrignore`, and in which line.
    """

    name: str
    path: str
    real: str
    kind: Kind = Kind.FILE
    linked: bool = True
    trouble: tuple[int, str] = (0, "")


def lies_in(real: str, folder: str) -> bool:
    """Whether a path without links is *folder*, another one, or lies below it."""
    return real == folder or real.startswith(folder if folder.endswith("/") else f"{folder}/")


def below(top: str, name: str = "") -> Iterator[Entry]:
    """
    Yield the YAML files below a directory: its own by name, then those of its directories.

    Only for links is the system asked where they lead: that costs as much as reading a file.
    """
    root = os.path.realpath(top)
    visited: set[str] = set()
    waiting: list[tuple[Entry, tuple[str, ...], Ignored]] = [
        (Entry(name, top, root), (), Ignored())
    ]
    while waiting:
        here, names, ignored = waiting.pop()
        if here.real in visited:
            continue
        if not lies_in(here.real, root):
            yield Entry(here.name, here.path, here.real, Kind.OUTSIDE)
            continue
        visited.add(here.real)
        try:
            with os.scandir(here.path) as found:
                listed = sorted(found, key=_NAME)
        except OSError:
            yield Entry(here.name, here.path, here.real, Kind.UNLISTED)
            continue
        # Its own file first: it says what is left out of the rest.
        if (own := next((child for child in listed if child.name == NAME), None)) is not None:
            file = _entry(here, own, root, directory=False)
            try:
                ignored = _with_file(ignored, file)
            except _Unignoring as problem:
                yield replace(file, kind=Kind.UNIGNORING, trouble=problem.trouble)
        deeper = []
        for child, directory in _visible(listed):
            entry = _entry(here, child, root, directory=directory)
            if ignored.rules and ignored.leaves_out((*names, child.name), directory=directory):
                yield replace(entry, kind=Kind.IGNORED)
            elif directory:
                deeper.append((entry, (*names, child.name), ignored.below()))
            else:
                yield entry
        waiting += reversed(deeper)


def _visible(listed: Iterable[os.DirEntry[str]]) -> Iterator[tuple[os.DirEntry[str], bool]]:
    """Yield YAML files and directories, each with whether it is one."""
    for child in listed:
        if not child.name.startswith("."):
            directory = _is_directory(child)
            if directory or child.name.endswith(SUFFIXES):
                yield child, directory


def _entry(here: Entry, child: os.DirEntry[str], root: str, *, directory: bool) -> Entry:
    linked = child.is_symlink()
    real = os.path.realpath(child.path) if linked else f"{here.real.rstrip('/')}/{child.name}"
    kind = Kind.FILE if directory or not linked or lies_in(real, root) else Kind.OUTSIDE
    return Entry(f"{here.name}/{child.name}", child.path, real, kind, linked)


class _Unignoring(Exception):
    def __init__(self, line: int, what: str) -> None:
        super().__init__(what)
        self.trouble: Final = (line, what)


def _with_file(ignored: Ignored, entry: Entry) -> Ignored:
    """Add what a `.jtrignore` leaves out.  Raises _Unignoring."""
    if entry.kind is Kind.OUTSIDE:
        raise _Unignoring(0, "it leads out of the directory")
    try:
        data = read_regular(entry.path, SIZE_LIMIT, follow=entry.linked)
        if len(data) > SIZE_LIMIT:
            raise _Unignoring(0, f"it is longer than {SIZE_LIMIT:,} bytes")
        return ignored.with_file(data.decode("utf-8"))
    except BadLine as problem:
        raise _Unignoring(problem.number, str(problem)) from None
    except UnicodeDecodeError:
        raise _Unignoring(0, "it is no UTF-8 text") from None
    except (OSError, ValueError):
        raise _Unignoring(0, "it cannot be read") from None


def _is_directory(child: os.DirEntry[str]) -> bool:
    try:
        return child.is_dir()
    except OSError:  # a link that leads back to itself
        return False
