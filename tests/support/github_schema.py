"""
GitHub's published description of what we ask, as far as we ask it: names, types and choices.

`github_api.json` is made by `python -m tests.support.github_schema .../api.github.com.json` from
the file of that name in npm's `@octokit/openapi`, which is too large to be installed for every run.
The stand-in refuses what does not fit it, and may answer nothing else.
"""

import json
import re
import sys
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, Final

from jsonschema import Draft202012Validator

FILE: Final = Path(__file__).with_name("github_api.json")
REPO: Final = "/repos/{owner}/{repo}"
COMMENTS: Final = f"{REPO}/issues/{{issue_number}}/comments"
ASKED: Final = (
    ("get", "/user"),
    ("get", COMMENTS),
    ("post", COMMENTS),
    ("patch", f"{REPO}/issues/comments/{{comment_id}}"),
    ("post", f"{REPO}/statuses/{{sha}}"),
    ("get", f"{REPO}/pulls"),
    ("post", f"{REPO}/pulls"),
)
_BELOW: Final = ("", "user", "head", "base", "repo")  # what else is an object is no more than that


class Misused(AssertionError):
    """Somebody asked, or answered, what GitHub does not."""


def check(
    method: str, path: str, query: Mapping[str, str], body: Any, status: int, answer: Any
) -> None:
    """Raise Misused unless question and answer are as GitHub describes them."""
    for one in _operations():
        if one["method"] == method.lower() and re.fullmatch(one["pattern"], path):
            break
    else:
        raise Misused(f"GitHub has no {method} {path}")
    if strange := set(query) - set(one["query"]):
        raise Misused(f"{method} {path} knows no {strange}")
    if status not in (401, 403, 503):  # else nobody looked at it
        wrong = _wrong(one["request"], body) if one["request"] else []
        if wrong and status != 422:
            raise Misused(f"{method} {path}: {wrong}")
    if str(status) in one["answers"] and (wrong := _wrong(one["answers"][str(status)], answer)):
        raise Misused(f"{method} {path} is not answered so: {wrong}")


def _wrong(schema: Any, found: Any) -> list[str]:
    return [
        f"{'/'.join(map(str, error.absolute_path))}: {error.validator}"
        for error in Draft202012Validator(schema).iter_errors(found)
    ]


@cache
def _operations() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(FILE.read_text("utf-8"))["operations"]
    for one in found:
        one["pattern"] = re.sub(r"\\{[a-z_]+\\}", "[^/]+", re.escape(one["path"]))
    return found


# ── making it ────────────────────────────────────────────────────────────────────────────────


def made(document: dict[str, Any]) -> dict[str, Any]:
    """Return what is kept of the whole description."""
    return {
        "from": f"@octokit/openapi {document['info']['version']}, api.github.com.json",
        "operations": [_operation(document, method, path) for method, path in ASKED],
    }


def _operation(document: dict[str, Any], method: str, path: str) -> dict[str, Any]:
    found = document["paths"][path][method]
    parameters = [_at(document, one) for one in found.get("parameters", ())]
    content = found.get("requestBody", {}).get("content", {})
    answers = {code: _at(document, one) for code, one in found["responses"].items()}
    return {
        "method": method,
        "path": path,
        "query": sorted(one["name"] for one in parameters if one["in"] == "query"),
        "request": _kept(document, _json(content), asked=True) if content else None,
        "answers": {
            code: _kept(document, _json(one["content"]))
            for code, one in answers.items()
            if code in ("200", "201") and "content" in one
        },
    }


def _json(content: dict[str, Any]) -> dict[str, Any]:
    schema: dict[str, Any] = content["application/json"]["schema"]
    return schema


def _kept(
    document: dict[str, Any], schema: dict[str, Any], name: str = "", *, asked: bool = False
) -> dict[str, Any]:
    """Return names, types and choices of *schema*; an answer may leave out what it likes."""
    schema = _at(document, schema)
    if choices := schema.get("oneOf") or schema.get("anyOf"):
        return {"anyOf": [_kept(document, one, name, asked=asked) for one in choices]}
    kept: dict[str, Any] = {key: schema[key] for key in ("type", "enum") if key in schema}
    if schema.get("nullable"):
        kept = {"anyOf": [kept, {"type": "null"}]} if kept else {}
    if schema.get("type") == "array" and name in _BELOW:
        kept["items"] = _kept(document, schema["items"], name, asked=asked)
    if "properties" in schema and name in _BELOW and "type" in kept:
        below = sorted(schema["properties"].items())
        kept["properties"] = {name: _kept(document, one, name, asked=asked) for name, one in below}
        kept["additionalProperties"] = False
        if asked and "required" in schema:
            kept["required"] = schema["required"]
    return kept


def _at(document: dict[str, Any], found: dict[str, Any]) -> dict[str, Any]:
    while "$ref" in found:
        place, found = found["$ref"].removeprefix("#/").split("/"), document
        for name in place:
            found = found[name]
    return found


if __name__ == "__main__":
    whole = json.loads(Path(sys.argv[1]).read_text("utf-8"))
    FILE.write_text(json.dumps(made(whole), separators=(",", ":"), sort_keys=True) + "\n", "utf-8")
