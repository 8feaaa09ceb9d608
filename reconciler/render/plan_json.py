"""
Plans and reports for programs: the JSON of `-o json`, described by `schemas/plan.schema.json`.

Holds references, versions and words; never a value, a mask or a fingerprint.  What is printed is
sealed: `jtr apply --expect FILE` takes a file only as it was written.
"""

import hashlib
import json
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Final

from reconciler.errors import Exit
from reconciler.model.actions import DeleteExchange, WriteExchange
from reconciler.model.codec import Malformed, newer, parsed
from reconciler.model.outcomes import Report
from reconciler.model.plan import Plan
from reconciler.model.timestamps import spelled
from reconciler.render.json_values import Document, to_json
from reconciler.render.registry import AuditPart, PlanRenderer
from reconciler.render.verdicts import not_compared

FORMAT_VERSION: Final = 1
FILE_LIMIT: Final = 32 * 2**20
"""Bytes of a plan's file; one of five hundred servers is a twentieth of it."""
_SEAL: Final = "digest"


def plan_document(plan: Plan, code: Exit, *, recorded: bool = False) -> Document:
    """Return a plan as JSON-able data; *code* is what the command ends with."""
    writes = sum(isinstance(action, WriteExchange) for _, action in plan.actions)
    deletes = sum(isinstance(action, DeleteExchange) for _, action in plan.actions)
    return {
        "formatVersion": FORMAT_VERSION,
        "planId": plan.id,
        "exitCode": int(code),
        "recorded": recorded,
        "recipients": to_json(plan.recipients),
        "servers": [to_json(server) for server in plan],
        "notVisited": list(plan.not_visited),
        "summary": {
            "servers": len({server.server for server, _ in plan.actions}),
            "writes": writes,
            "deletes": deletes,
            "disruptions": len(plan.actions) - writes - deletes,
            "robots": len(plan.robots_concerned()),
            "notCompared": sum(map(not_compared, plan)),
            "skippedDocuments": plan.skipped,
        },
    }


def reports_document(plan: Plan, reports: Iterable[Report], code: Exit) -> Document:
    """Return what `apply` did: the plan, each server's outcomes beside it, and its own *code*."""
    document = plan_document(plan, code)
    by_name = {report.plan.server: report for report in reports}
    for server in document["servers"]:
        report = by_name.get(server["server"])
        if report is not None:
            server["exitCode"] = int(report.exit_code)
            server["outcomes"] = to_json(report.outcomes)
            if report.failure is not None:
                server["failure"] = to_json(report.failure)
    return document


def sealed(document: Document) -> Document:
    """Return a document with a digest over all else that it says, whatever digest it had."""
    said = _said(document)
    return said | {_SEAL: _digest(said)}


def read_sealed(data: bytes) -> Document:
    """
    Return a document that was printed, if it still says what it said.

    Blanks, the order of names and the spelling of escapes mean nothing; any other difference is
    Malformed.  Whoever writes a file anew can seal it anew: it proves no author.
    """
    if len(data) > FILE_LIMIT:
        raise Malformed("it is too long")
    document = parsed(data)
    if (number := newer(document, "formatVersion", FORMAT_VERSION)) is not None:
        known = f"this one knows {FORMAT_VERSION}"
        raise Malformed(f"a newer jtr wrote it (format {number}, {known}); use that one")
    if not isinstance(document, dict) or document.get("formatVersion") != FORMAT_VERSION:
        raise Malformed("it is no plan of this version of jtr")
    if document.get(_SEAL) != _digest(_said(document)):
        raise Malformed("it was changed since it was written")
    return document


def _said(document: Document) -> Document:
    return {name: value for name, value in document.items() if name != _SEAL}


def _digest(document: Document) -> str:
    text = json.dumps(document, sort_keys=True, ensure_ascii=True, separators=(",", ":"))
    return f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"


class PlanJson(PlanRenderer):
    live = False

    def plan(
        self, plan: Plan, code: Exit, *, recorded: bool = False, audit: AuditPart | None = None
    ) -> str:
        document = plan_document(plan, code, recorded=recorded)
        return printed(document if audit is None else document | {"audit": audit.document})

    def already(self, plan: Plan, code: Exit, *, at: datetime | None = None) -> str:
        del at
        return self.plan(plan, code)

    def done(
        self, plan: Plan, reports: Sequence[Report], code: Exit, *, at: datetime | None = None
    ) -> str:
        document = reports_document(plan, reports, code)
        when = {} if at is None else {"appliedAt": spelled(at.replace(microsecond=0))}
        return printed(document | when)


def printed(document: Document) -> str:
    """Return a document as a file has it, sealed."""
    return json.dumps(sealed(document), indent=2, ensure_ascii=True) + "\n"


RENDERER: Final = PlanJson()
