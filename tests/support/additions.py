"""
The files that docs/extending.md shows, put where somebody would put them who adds one.

Nothing here starts a process, so that quick tests can use it.
"""

import importlib
import re
import sys
from pathlib import Path
from types import ModuleType
from typing import Final

import pytest

PAGE: Final = Path(__file__).parents[2] / "docs" / "extending.md"
_BLOCK: Final = re.compile(r"^```python\n# (\S+\.py)\n(.*?)^```$", re.DOTALL | re.MULTILINE)


def files_of(text: str) -> dict[str, str]:
    """The Python blocks of a page, by the path in their first line, a comment `# PATH`."""
    return dict(_BLOCK.findall(text))


def shown(path: str) -> str:
    """The file *path* as the page shows it."""
    return files_of(PAGE.read_text("utf-8"))[path]


def spoilt(text: str, right: str, wrong: str) -> str:
    """*text* with a mistake in the one place where it says *right*."""
    assert text.count(right) == 1, right
    return text.replace(right, wrong)


def put(path: str, text: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """
    Write the module *path* to *folder* and let its package find it there; return that package.

    If the module has a folder of its own, its package is the one above.  It is gone at the end of
    the test.
    """
    top = Path(path).parent
    while not (PAGE.parents[1] / top).is_dir():
        top = top.parent
    room = importlib.import_module(".".join(top.parts))
    file = folder / Path(path).relative_to(top)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text, "utf-8")
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    monkeypatch.setattr(room, "__path__", [*room.__path__, str(folder)])
    monkeypatch.setattr(
        room, file.relative_to(folder).parts[0].removesuffix(".py"), None, raising=False
    )
    parts = Path(path).with_suffix("").parts
    for length in range(len(top.parts) + 1, len(parts) + 1):
        name = ".".join(parts[:length])
        monkeypatch.setitem(sys.modules, name, sys)  # the import sets this, too
        del sys.modules[name]
    importlib.invalidate_caches()
    return room
