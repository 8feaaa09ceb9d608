"""
The secrets of one test, and the search for their traces in everything that the test produced.
"""

import random
import secrets
from collections.abc import Iterable
from pathlib import Path

from tests.support.canaries import Canary, Search, canary

PRIVATE = "private"  # a folder of this name may hold secrets: a token file, a server's own secret


class Watch:
    """Hands out made-up secrets and looks for them afterwards; `found` holds one line a trace."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.seed = secrets.randbits(48)
        self.found: list[str] = []
        self._random = random.Random(self.seed)
        self._search = Search()

    def secret(self, shape: str = "base62") -> str:
        """Return a new secret of this shape; see `tests.support.canaries`."""
        return self.guard(canary(shape, self._random).value, shape)

    def guard(self, value: str, shape: str = "given") -> str:
        """Look for traces of *value*, too."""
        self._search.add(Canary(shape, value))
        return value

    def search(self, where: str, text: str | bytes) -> None:
        """Note traces of this test's secrets in *text*."""
        data = text if isinstance(text, bytes) else text.encode("utf-8", "surrogatepass")
        self.found += [f"{where}: {leak}" for leak in self._search.leaks(data)]

    def search_folder(self, folder: Path) -> None:
        """Note traces in all files below *folder*, except in folders called `private`."""
        for path in self._files(folder):
            name = str(path.relative_to(folder))
            self.search("the name of a file", name)
            self.search(name, path.read_bytes())

    @staticmethod
    def _files(folder: Path) -> Iterable[Path]:
        for path in sorted(folder.rglob("*")):
            if path.is_file() and PRIVATE not in path.relative_to(folder).parts:
                yield path
