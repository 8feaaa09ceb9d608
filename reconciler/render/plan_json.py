"""
Plans and reports for programs: the JSON of `-o json`, described by `schemas/plan.schema.json`.

Holds references, versions and words; never a value, a mask or a fingerprint.
"""

import json
from collections.abc import Iterable, Sequence
from typing import Final

from reconciler.errors import Exit
from reconciler.model.actions import DeleteExchange, WriteExchange
from reconciler.model.outcomes import Report
from reconciler.model.plan import Plan
from reconciler.render.json_values import Document, to_json
from reconciler.render.registry import AuditPart, PlanRenderer

FORMAT_VERSION: Final = 1


def plan_document(plan: Plan, code: Exit) -> Document:
    """Return a plan as JSON-able data; *code* is what the command ends with."""
    writes = sum(isinstance(action, WriteExchange) for _, action in plan.actions)
    deletes = sum(isinstance(action, DeleteExchange) for _, action in plan.actions)
    return {
        "formatVersion": FORMAT_VERSION,
        "planId": plan.id,
        "exitCode": int(code),
        "recipients": to_json(plan.recipients),
        "servers": [to_json(server) for server in plan],
        "notVisited": list(plan.not_visited),
        "summary": {
            "servers": len({server.server for server, _ in plan.actions}),
            "writes": writes,
            "deletes": deletes,
            "disruptions": len(plan.actions) - writes - deletes,
            "robots": len(plan.robots_concerned()),
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


class PlanJson(PlanRenderer):
    live = False

    def plan(
        self, plan: Plan, code: Exit, *, recorded: bool = False, audit: AuditPart | None = None
    ) -> str:
        del recorded
        document = plan_document(plan, code)
        return _printed(document if audit is None else document | {"audit": audit.document})

    def already(self, plan: Plan, code: Exit) -> str:
        return self.plan(plan, code)

    def done(self, plan: Plan, reports: Sequence[Report], code: Exit) -> str:
        return _printed(reports_document(plan, reports, code))


def _printed(document: Document) -> str:
    return json.dumps(document, indent=2, ensure_ascii=True) + "\n"


RENDERER: Final = PlanJson()
