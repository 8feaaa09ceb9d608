"""
Which tests are quick: those whose module can start neither a server nor a process.

What a module imports tells, so nobody keeps a list; `make test-quick` runs them.
"""

import ast
import functools
import sys
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[2]
_STARTERS: Final = {
    *("aiohttp", "multiprocessing", "pty", "select", "socket", "subprocess"),
    *("reconciler.__main__", "reconciler.sandbox"),
}
_OURS: Final = ("tests.", "reconciler.testing.")
_EVENTS: Final = {"os.exec", "os.fork", "os.posix_spawn", "socket.bind", "subprocess.Popen"}


def is_quick(path: Path) -> bool:
    """Return whether nothing that a file of tests imports, itself or from tests, starts any."""
    rest, seen = [path], {path}
    while rest:
        for name in _imported(rest.pop()):
            parents = name.split(".")
            if _STARTERS & {".".join(parents[:end]) for end in range(1, len(parents) + 1)}:
                return False
            ours = ROOT.joinpath(*parents).with_suffix(".py")
            if name.startswith(_OURS) and ours.is_file() and ours not in seen:
                seen.add(ours)
                rest.append(ours)
    return True


@functools.cache
def _imported(path: Path) -> frozenset[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return frozenset(names)


def forbid_starts() -> None:
    """From now on let every test fail that starts a server or a process all the same."""

    def refuse(event: str, _: object) -> None:
        if event in _EVENTS:
            raise RuntimeError(f"a quick test must start no server and no process: {event}")

    sys.addaudithook(refuse)
