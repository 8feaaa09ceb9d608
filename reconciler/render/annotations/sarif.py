"""
SARIF 2.1.0: what code scanning takes.  https://docs.oasis-open.org/sarif/sarif/v2.1.0/
"""

import json
from collections.abc import Sequence
from typing import Any, Final
from urllib.parse import quote

from reconciler import __version__
from reconciler.model.annotations import RULES, Annotation, Weight
from reconciler.render.annotations.gitlab import fingerprint
from reconciler.render.escape import plain

_SCHEMA: Final = "https://json.schemastore.org/sarif-2.1.0.json"
_LEVEL: Final = {Weight.ERROR: "error", Weight.WARNING: "warning", Weight.NOTICE: "note"}
_MOST: Final = 5000  # results of a run that GitHub takes, the worst of which we keep


def log(found: Sequence[Annotation]) -> str:
    ordered = sorted(found, key=lambda one: one.order)
    driver: dict[str, Any] = {
        "name": "jtr",
        "fullName": "jt-reconciler",
        "version": __version__,
        "rules": [{"id": rule, "shortDescription": {"text": text}} for rule, text in RULES.items()],
    }
    run: dict[str, Any] = {
        "tool": {"driver": driver},
        "columnKind": "unicodeCodePoints",
        "results": [_result(one) for one in ordered[:_MOST]],
    }
    if len(ordered) > _MOST:
        run["properties"] = {"leftOut": len(ordered) - _MOST}
    document = {"$schema": _SCHEMA, "version": "2.1.0", "runs": [run]}
    return json.dumps(document, indent=2, ensure_ascii=True) + "\n"


def _result(one: Annotation) -> dict[str, Any]:
    row: dict[str, Any] = {
        "ruleId": one.rule,
        "ruleIndex": list(RULES).index(one.rule),
        "level": _LEVEL[one.weight],
        "message": {"text": plain(one.words, 2000)},
        "partialFingerprints": {"jtr/v1": fingerprint(one)},
    }
    if one.source.line:
        path = one.source.file.removeprefix("./")
        region = {"startLine": one.source.line, "startColumn": max(1, one.source.column)}
        place = {"artifactLocation": {"uri": quote(path, errors="replace")}, "region": region}
        row["locations"] = [{"physicalLocation": place}]
    return row


RENDERER: Final = log
