"""
What the `.jtrignore` files of a whole tree leave out, where no file system holds it.
"""

from collections.abc import Mapping, Sequence
from typing import Final

from reconciler.documents.ignore import BadLine, Ignored


class IgnoreFiles:
    """
    The files of a tree, by the directory that holds them, "" for its top.

    `problems`, also by directory, are those of which nobody can tell what they leave out.
    """

    def __init__(self, files: Mapping[str, str]) -> None:
        self._files: Final = files
        self._known: Final[dict[tuple[str, ...], Ignored]] = {}
        self.problems: Final[dict[str, BadLine]] = {}
        for folder in sorted(files):
            self._in(tuple(folder.split("/")) if folder else ())

    def leave_out(self, place: str, *, directory: bool = False) -> bool:
        """Whether a file, or with *directory* one of these, or one above it, is left out."""
        names = place.split("/")
        return any(
            self._in(tuple(names[: depth - 1])).leaves_out(
                names[:depth], directory=directory or depth < len(names)
            )
            for depth in range(1, len(names) + 1)
        )

    def _in(self, folder: Sequence[str]) -> Ignored:
        """Return what is left out in a directory, by its own file and by those above it."""
        key = tuple(folder)
        if key not in self._known:
            found = self._in(key[:-1]).below() if key else Ignored()
            name = "/".join(key)
            if name in self._files:
                try:
                    found = found.with_file(self._files[name])
                except BadLine as problem:
                    self.problems[name] = problem
            self._known[key] = found
        return self._known[key]
