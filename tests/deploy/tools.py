"""
Programs that check the files of deploy/; `make dev` and `make tools` install them.

Where one is missing its test is skipped, and the end of the run says so; with JTR_TOOLS_REQUIRED=1,
as in CI, it fails.
"""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import pytest

_MISSING = re.compile(r"(\S+) is not installed: run make tools")
ROOT = Path(__file__).parent.parent.parent
DEPLOY = ROOT / "deploy"
FOLDERS = (Path(sys.executable).parent, ROOT / ".venv" / "tools" / "usr" / "bin")


def missing(what: str) -> None:
    """Skip the test, or fail it where everything has to be there."""
    if os.environ.get("JTR_TOOLS_REQUIRED") == "1":
        pytest.fail(what)
    pytest.skip(what)


def tool(name: str) -> str:
    """The path of a program."""
    path = os.pathsep.join([*map(str, FOLDERS), os.environ.get("PATH", os.defpath)])
    found = shutil.which(name, path=path)
    if found is None:
        missing(f"{name} is not installed: run make tools, as root where there is apt")
    assert found is not None
    return found


def not_run(reasons: Iterable[str]) -> str:
    """Say which programs tests were skipped for, as *reasons* have it; empty when for none."""
    found = [match[1] for reason in reasons if (match := _MISSING.search(reason))]
    return f"NOT RUN: {len(found)} tests, for lack of {', '.join(sorted(set(found)))}" * bool(found)


def ran(name: str, *args: object, code: int = 0, environment: dict[str, str] | None = None) -> str:
    """Run a program to its end; returns what it printed."""
    done = subprocess.run(
        [tool(name), *map(str, args)],
        cwd=ROOT,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    printed = done.stdout + done.stderr
    assert done.returncode == code, f"{name} {args}: {done.returncode}\n{printed}"
    return printed
