"""Reads the files of locks/, as pip does and without pip."""

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
NAMES = ("build", "run", "sandbox", "dev")  # what `make dev` installs; `make docs` one more


@dataclass(frozen=True, slots=True)
class Entry:
    """One package of a lock; `hashes` are the SHA-256 of its files."""

    name: str
    version: str
    hashes: frozenset[str]


def entries(*locks: str) -> set[Entry]:
    """The packages of these locks, or of all."""
    found = set()
    for lock in locks or NAMES:
        text = (ROOT / "locks" / f"{lock}.txt").read_text("utf-8")
        lines = re.sub(r"\\\n", " ", text).splitlines()
        for line in lines:
            if line.strip() and not line.lstrip().startswith("#"):
                name, _, rest = line.partition("==")
                version, *words = rest.split()
                hashes = [word.removeprefix("--hash=sha256:") for word in words]
                found.add(Entry(name, version, frozenset(h for h in hashes if len(h) == 64)))
    return found
