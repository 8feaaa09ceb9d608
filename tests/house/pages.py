"""
Blocks of the documentation that are run by tests, and how they are run.

Blocks are marked `<!-- run: WHAT -->`; files to write `<!-- run: file PATH -->`.  A block in a list
is indented, and so is its mark.  A page with a mark `<!-- situation: NAME -->` is walked from its
first block to its last, see tests/newcomer; the blocks of others are run by tests that name them.
"""

import os
import re
import subprocess
import sys
import textwrap
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
BLOCK = re.compile(
    r"^(?:(?P<in>[ ]*)<!-- run: (?P<run>[^>]*?) -->\n)?"
    r"(?P<indent>[ ]*)```(?P<kind>\w+)\n(?P<body>.*?)^(?P=indent)```",
    re.DOTALL | re.MULTILINE,
)
SITUATION = re.compile(r"<!-- situation: ([^>]*?) -->")
BIN = Path(sys.executable).parent


def page(name: str) -> str:
    """The text of a page."""
    return (ROOT / name).read_text("utf-8")


def blocks(text: str, what: str) -> list[str]:
    """The bodies of the blocks of a page that are marked so."""
    return [textwrap.dedent(m["body"]) for m in BLOCK.finditer(text) if m["run"] == what]


def shell(script: str, cwd: Path, environment: dict[str, str]) -> str:
    """Run a block as its reader would; returns what it printed."""
    done = subprocess.run(
        ["/bin/bash", "-euo", "pipefail", "-c", script],
        cwd=cwd,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    assert done.returncode == 0, f"{script}\n{done.stdout}\n{done.stderr}"
    return done.stdout + done.stderr


def commands(home: Path) -> dict[str, str]:
    """This checkout's commands below *home*; returns the variables of somebody who has them."""
    folder = home / "bin"
    folder.mkdir(parents=True)
    for name, target in (("jtr", BIN / "jtr"), ("vault", BIN / "bao"), ("bao", BIN / "bao")):
        (folder / name).symlink_to(target)
    return {"HOME": str(home), "PATH": f"{folder}:{os.defpath}", "LANG": "C.UTF-8"}
