"""
Write docs/config.md: every key of every document, from the schemas' own words.

Run it after a schema changed (`.venv/bin/python docs/make.py`); a test says when the page is old.
"""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from reconciler.documents.schema import CONFIG, POLICY, SETTINGS, TYPES, document, resolved


def reference_page() -> str:
    """Return docs/config.md."""
    lines = [
        "# Configuration reference",
        "",
        "Generated from `schemas/*.json` by `docs/make.py`; do not edit.",
        "`CODE`, `LABEL` stand for keys of your choice, `[]` for each item of a list.",
    ]
    kinds = document(CONFIG)["$defs"]
    for about, name in (
        (kinds["server"], CONFIG),
        (kinds["defaults"], CONFIG),
        (document(SETTINGS), SETTINGS),
        (document(POLICY), POLICY),
    ):
        lines += ["", f"## {about['title']}", "", about["description"], ""]
        lines += ["| key | type | default | meaning |", "| --- | --- | --- | --- |"]
        lines += _key_rows(about, name, "")
    return "\n".join(lines) + "\n"


def _key_rows(about: Mapping[str, Any], name: str, path: str) -> Iterator[str]:
    def row(child: Mapping[str, Any], where: str, *, must: bool) -> Iterator[str]:
        child = {**resolved(child, name), **child}
        kinds = child["type"] if isinstance(child["type"], list) else [child["type"]]
        choice = ", ".join(f"`{option}`" for option in child.get("enum", ()))
        kind = choice or " or ".join(TYPES[kind] for kind in kinds)
        default = f"`{json.dumps(child['default'])}`" if "default" in child else ""
        need = "**required**" if must else default
        meaning = child["description"].replace("|", "\\|")
        yield f"| `{where}` | {kind} | {need} | {meaning} |"
        yield from _key_rows(child, name, where)

    for key, child in about.get("properties", {}).items():
        yield from row(child, f"{path}.{key}".lstrip("."), must=key in about.get("required", ()))
    if isinstance(about.get("additionalProperties"), Mapping):
        word = "CODE" if path.endswith("exchanges") else "LABEL"
        yield from row(about["additionalProperties"], f"{path}.{word}", must=False)
    items = resolved(about.get("items", {}), name)
    if "properties" in items:
        yield from _key_rows(items, name, f"{path}[]")


if __name__ == "__main__":
    Path(__file__).with_name("config.md").write_text(reference_page(), "utf-8")
