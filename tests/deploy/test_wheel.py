"""Whoever builds a wheel of one commit gets the same bytes, wherever and whenever."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

from tests.deploy.tools import ROOT

PARTS = ("pyproject.toml", "README.md", "LICENSE", "reconciler", "schemas", "examples")


def built(folder: Path, mode: int) -> bytes:
    """Build a wheel of a copy of the tree, written just now by somebody with another umask."""
    tree = folder / "tree"
    tree.mkdir(parents=True)
    for part in PARTS:
        if (ROOT / part).is_dir():
            ignored = shutil.ignore_patterns("__pycache__")
            shutil.copytree(ROOT / part, tree / part, ignore=ignored, copy_function=shutil.copy)
        else:
            shutil.copy(ROOT / part, tree / part)
    for number, path in enumerate(sorted(tree.rglob("*.py"))):
        path.chmod(mode)
        os.utime(path, (1_700_000_000 + number, 1_700_000_000 + number))
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)],
        cwd=tree,
        env={"PATH": os.defpath, "HOME": str(folder)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=100,
        check=True,
    )
    (wheel,) = folder.glob("*.whl")
    return wheel.read_bytes()


def test_a_wheel_is_the_same_bytes_whoever_builds_it(tmp_path: Path) -> None:
    ours, theirs = built(tmp_path / "ours", 0o644), built(tmp_path / "deep" / "theirs", 0o664)

    assert len(ours) > 100_000
    assert ours == theirs
