"""
GitLab's code quality report: what merge requests show beside the changed lines.

Documented at docs.gitlab.com/ci/testing/code_quality, "Code Quality report format".
"""

import hashlib
import json
from collections.abc import Sequence
from typing import Any, Final

from reconciler.model.annotations import Annotation, Weight
from reconciler.render.escape import plain

_SEVERITY: Final = {Weight.ERROR: "critical", Weight.WARNING: "major", Weight.NOTICE: "info"}


def report(found: Sequence[Annotation]) -> str:
    ordered = sorted(found, key=lambda one: one.order)
    return json.dumps([_row(one) for one in ordered], indent=2, ensure_ascii=True) + "\n"


def _row(one: Annotation) -> dict[str, Any]:
    words, path = plain(one.words, 2000), plain(one.source.file.removeprefix("./"), 400)
    return {
        "description": words,
        "check_name": f"jtr/{one.rule}",
        "fingerprint": fingerprint(one),
        "severity": _SEVERITY[one.weight],
        "location": {"path": path or ".", "lines": {"begin": max(1, one.source.line)}},
    }


def fingerprint(one: Annotation) -> str:
    """Return what tells it from others, and stays the same when its line moves."""
    parts = json.dumps([one.rule, one.source.file.removeprefix("./"), one.server, one.what])
    return hashlib.sha256(parts.encode()).hexdigest()


RENDERER: Final = report
