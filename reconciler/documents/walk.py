"""
Which places below a PATH hold documents, for the loader and for the controller's content hash.

Links are followed, but never out of the directory that was named: whoever writes a tree may not
read the whole host.  Each directory is looked into once, whatever links lead to it.
"""

import enum
import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

SUFFIXES: Final = (".yaml", ".yml")


class Kind(enum.Enum):
    """What stands at a place; with any but the first two the loader refuses the whole tree."""

    FILE = b"f"
    OUTSIDE = b"o"  # a link out of the tree: a problem of the document, never followed
    MISSING = b"m"
    UNREADABLE = b"u"
    UNLISTED = b"l"


@dataclass(frozen=True, slots=True)
class Entry:
    """
    One place that the loader looks at.

    `name` begins with that of its PATH and goes on below it, `real` is the path without links.
    What was no link when it was listed is not `linked`, and must not be opened as one.
    """

    name: str
    path: str
    real: str
    kind: Kind = Kind.FILE
    linked: bool = True


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
    waiting = [Entry(name, top, root)]
    while waiting:
        here = waiting.pop()
        if here.real in visited:
            continue
        if not lies_in(here.real, root):
            yield Entry(here.name, here.path, here.real, Kind.OUTSIDE)
            continue
        visited.add(here.real)
        try:
            with os.scandir(here.path) as found:
                children = sorted(
                    (child for child in found if not child.name.startswith(".")),
                    key=lambda child: child.name,
                )
        except OSError:
            yield Entry(here.name, here.path, here.real, Kind.UNLISTED)
            continue
        deeper: list[Entry] = []
        inside = here.real.rstrip("/")
        for child in children:
            directory = _is_directory(child)
            if not directory and not child.name.endswith(SUFFIXES):
                continue
            linked = child.is_symlink()
            real = os.path.realpath(child.path) if linked else f"{inside}/{child.name}"
            kind = Kind.FILE if directory or not linked or lies_in(real, root) else Kind.OUTSIDE
            entry = Entry(f"{here.name}/{child.name}", child.path, real, kind, linked)
            if directory:
                deeper.append(entry)
            else:
                yield entry
        waiting += reversed(deeper)


def _is_directory(child: os.DirEntry[str]) -> bool:
    try:
        return child.is_dir()
    except OSError:  # a link that leads back to itself
        return False
