"""
What `jtr adopt` found out, for people: never a value and never a mask.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from reconciler.errors import Exit
from reconciler.model.values import replace
from reconciler.model.wording import counted
from reconciler.reconcile.adopt import AdoptedKey, Adoption
from reconciler.render.escape import plain
from reconciler.render.json_values import Document, shown, to_json
from reconciler.render.phrases import INDENT, below, server_line
from reconciler.render.plan_text import cost_of_look
from reconciler.render.server_text import recipient_rows

_WORD: Final = re.compile(r"[A-Za-z0-9_]{1,60}")


def adopt_text(adoptions: Sequence[Adoption], files: Mapping[str, str], *, recording: bool) -> str:
    """Return what became of each server; *files* are the documents written, by server."""
    parts = ["\n".join(_server(one, files.get(one.visit.desired.name))) for one in adoptions]
    keys = [key for one in adoptions for key in one.keys]
    known = sum(key.recognised for key in keys)
    text = (
        f"Adopted: {counted(len(files), 'document')} written, "
        f"{counted(known, 'exchange')} recognised, {len(keys) - known} not"
    )
    if recording:
        text += f", {sum(len(one.recorded) for one in adoptions)} recorded as ours"
    text += ".\n"
    if known and not recording:
        text += (
            "Nothing was recorded: a rotation of what was recognised is blocked until it is taken "
            "over.\nWith --record it counts as ours, and rotates like any other key.\n"
        )
    if looked := sum(one.visit.observed is not None for one in adoptions):
        text += f"{cost_of_look(looked)}\n"
    return "\n\n".join([*parts, text])


def _server(adoption: Adoption, file: str | None) -> Iterator[str]:
    visit = adoption.visit
    plan = visit.plan
    yield server_line(plan.server, plan.target, plan.version, plan.owner)
    if plan.held_code:
        yield from recipient_rows(plan.new_recipient)
        yield f"  ! {plain(plan.held, 400)}"
        yield from below(plan.held_remedy)
    if adoption.stopped is not None:
        yield f"  ! {plain(adoption.stopped.what, 400)}"
        yield from below(adoption.stopped.remedy)
    for key in adoption.keys:
        yield from _key(adoption, key)
    if adoption.settled and not adoption.keys:
        yield "  no exchange has a key there"
    if file is not None:
        yield f"  wrote {plain(file, 1000)}"
        if any(key.secret is not None and not key.recognised for key in adoption.keys):
            yield f"{INDENT}what was not recognised stands in it as comments: uncomment it first"


def _key(adoption: Adoption, key: AdoptedKey) -> Iterator[str]:
    version = adoption.recorded.get(key.code, key.version)
    place = str(replace(key.secret, version=version or None)) if key.secret else ""
    code = plain(key.code)
    if key.recognised:
        ours = "  recorded as ours" if key.code in adoption.recorded else ""
        yield f"  ✓ {code}  {place}{ours}"
        if key.code in adoption.refused:
            yield f"{INDENT}not recorded: {plain(adoption.refused[key.code], 600)}"
        yield from _declare(adoption, key)
        return
    yield f"  ? {code}  {plain(key.why, 400)}"
    yield from _declare(adoption, key)
    if key.version or not key.fill:
        yield from below(key.remedy)
    if key.fill and key.secret is not None:
        yield f"{INDENT}to fill it with the key that the server has:"
        yield f"{INDENT}{fill_command(key)}"
        if all(map(_WORD.fullmatch, key.asks)):
            fields = json.dumps(dict.fromkeys(key.asks, "..."))
            yield f"{INDENT}  (then type {fields} and Ctrl-D)"


def adopt_document(adoptions: Sequence[Adoption], files: Mapping[str, str], code: Exit) -> Document:
    """Return the same as JSON-able data; *code* is what the command ends with."""
    return {
        "formatVersion": 1,
        "exitCode": int(code),
        "servers": [
            {
                **shown(one.visit.plan, "server url=target.url account=target.account version"),
                "exitCode": int(one.exit_code),
                "document": files.get(one.visit.desired.name, ""),
                **shown(one.visit.plan, "newRecipient held remedy=held_remedy"),
                "failure": to_json(one.stopped),
                "exchanges": [_key_document(one, key) for key in one.keys],
            }
            for one in adoptions
        ],
    }


def _key_document(adoption: Adoption, key: AdoptedKey) -> Document:
    fills = key.fill and key.secret is not None
    return {
        **shown(key, "exchange=code recognised secret version why remedy credentials=asks"),
        "declared": key.code in adoption.declared,
        "recordedVersion": adoption.recorded.get(key.code),
        "notRecorded": adoption.refused.get(key.code, ""),
        "fillCommand": fill_command(key) if fills else "",
    }


def _declare(adoption: Adoption, key: AdoptedKey) -> Iterator[str]:
    """Say what to add to a document that is there already: it is a person's, and stays as it is."""
    if key.secret is not None and not adoption.drafted and key.code not in adoption.declared:
        line = f"{plain(key.code)}: {{credentials: {key.secret}}}"
        yield f"{INDENT}below `exchanges` of its document: {line}"


def fill_command(key: AdoptedKey) -> str:
    """
    Return the command that puts a key into Vault, from standard input: no history keeps it.

    It replaces only the version that was compared, or none at all.
    """
    if key.secret is None:
        raise AssertionError
    at = key.secret.at
    return f"bao kv put -mount={at.mount} -cas={key.version} {at.path} -"
