"""
What people at this terminal were told today: the cost of a look, once for each server and day.

A cache and no state: without it they are told again.  Only who watches a terminal has one: in CI
`jtr plan` writes nothing anywhere.
"""

import json
import os
import sys
from collections.abc import Collection
from contextlib import suppress
from datetime import date
from pathlib import Path
from typing import Final

from reconciler.errors import UsageError
from reconciler.model.plan import Plan
from reconciler.render.layout import View
from reconciler.settings.paths import xdg
from reconciler.system.files import make_private_directory, read_private, write_atomically

_LIMIT: Final = 2**20  # bytes


def said_once(view: View, plan: Plan, today: date) -> View:
    """Return *view* without the cost of a look where each server of *plan* was looked at today."""
    if view.quiet:
        return view
    looked = {str(one.target) for one in plan if one.failure is None and one.observed_at}
    return view._replace(cost=_is_new(looked, today))


def _is_new(looked: Collection[str], today: date) -> bool:
    """Whether one of the servers was not named here today; from now on all of them were."""
    if not (looked and sys.stdout.isatty()):
        return True
    with suppress(OSError, UsageError):
        path = _file()
        known = _read(path, str(today))
        if known.issuperset(looked):
            return False
        make_private_directory(path.parent)
        rows = {"day": str(today), "targets": sorted(known.union(looked))}
        write_atomically(path, json.dumps(rows).encode("ascii"))
    return True


def _file() -> Path:
    return xdg(os.environ, "XDG_CACHE_HOME", ".cache") / "jtr" / "told.json"


def _read(path: Path, today: str) -> set[str]:
    """Return what was told today; nothing where the file is damaged, or of another day."""
    try:
        data = read_private(path, _LIMIT)
        rows = json.loads(data) if len(data) <= _LIMIT else {}
        return set(map(str, rows["targets"])) if rows.get("day") == today else set()
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return set()
