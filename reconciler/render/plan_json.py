"""
Plans and reports for programs: the JSON of `-o json`, described by `schemas/plan.schema.json`.

Holds references, versions and words; never a value, a mask or a fingerprint.
"""

from collections.abc import Iterable
from typing import Any

from reconciler.errors import Exit, JtrError
from reconciler.model.actions import (
    Action,
    DeleteExchange,
    InvalidateCache,
    RebootServer,
    RestartRobots,
    ResumeRobots,
    WriteExchange,
)
from reconciler.model.observed import Robot
from reconciler.model.outcomes import Outcome, Report
from reconciler.model.plan import Disruption, Line, Plan, ServerPlan
from reconciler.model.recorded import Debt
from reconciler.model.timestamps import spelled

FORMAT_VERSION = 1

Document = dict[str, Any]

_CREDENTIALS = (WriteExchange, DeleteExchange)


def plan_document(plan: Plan, code: Exit) -> Document:
    """Return a plan as JSON-able data; *code* is what the command ends with."""
    return {
        "formatVersion": FORMAT_VERSION,
        "planId": plan.id,
        "exitCode": int(code),
        "servers": [server_document(server) for server in plan],
        "notVisited": list(plan.not_visited),
        "summary": {
            "servers": len({server.server for server, _ in plan.actions}),
            "writes": sum(isinstance(action, WriteExchange) for _, action in plan.actions),
            "deletes": sum(isinstance(action, DeleteExchange) for _, action in plan.actions),
            "disruptions": sum(not isinstance(a, _CREDENTIALS) for _, a in plan.actions),
            "robots": len(plan.robots_concerned()),
            "skippedDocuments": plan.skipped,
        },
    }


def server_document(plan: ServerPlan) -> Document:
    """Return one server's plan."""
    return {
        "server": plan.server,
        "url": plan.target.url,
        "account": plan.target.account,
        "owner": plan.owner,
        "version": plan.version,
        "observedAt": plan.observed_at,
        "ageSeconds": plan.age,
        "exitCode": int(plan.exit_code),
        "held": plan.held,
        "remedy": plan.held_remedy,
        "failure": None if plan.failure is None else _error(plan.failure),
        "lines": [_line(line) for line in plan.lines],
        "disruptions": [disruption_document(line) for line in plan.disruptions],
        "actions": [_action(action) for action in plan.actions],
        "debts": [debt_document(debt) for debt in plan.debts],
        "robots": [robot_document(robot) for robot in plan.robots],
        "notes": list(plan.notes),
    }


def reports_document(plan: Plan, reports: Iterable[Report], code: Exit) -> Document:
    """Return what `apply` did: the plan, each server's outcomes beside it, and its own *code*."""
    document = plan_document(plan, code)
    by_name = {report.plan.server: report for report in reports}
    for server in document["servers"]:
        report = by_name.get(server["server"])
        if report is not None:
            server["exitCode"] = int(report.exit_code)
            server["outcomes"] = [_outcome(outcome) for outcome in report.outcomes]
            if report.failure is not None:
                server["failure"] = _error(report.failure)
    return document


def _line(line: Line) -> Document:
    consequence = line.consequence
    return {
        "exchange": line.exchange,
        "status": str(line.status),
        "verdict": str(line.verdict),
        "category": str(line.category),
        "reason": str(line.reason),
        "why": line.why,
        "remedy": line.remedy,
        "asks": line.asks,
        "action": None if line.action is None else _action(line.action),
        "sources": list(line.sources),
        "consequence": None
        if consequence is None
        else {
            "need": str(consequence.need),
            "robots": [robot_document(robot) for robot in consequence.robots],
        },
        "source": None if line.source is None else str(line.source),
        "note": line.note,
        "exitCode": int(line.error),
    }


def disruption_document(line: Disruption) -> Document:
    """Return one line about stopping robots or losing what they stored."""
    return {
        "what": line.what,
        "standing": str(line.standing),
        "why": line.why,
        "remedy": line.remedy,
        "kind": None if line.kind is None else str(line.kind),
        "instant": None if line.instant is None else spelled(line.instant),
        "robots": [robot_document(robot) for robot in line.robots],
        "source": None if line.source is None else str(line.source),
        "exitCode": int(line.error),
    }


def _action(action: Action) -> Document:
    match action:
        case WriteExchange():
            return {
                "kind": "write",
                "exchange": action.exchange,
                "fields": [name for name, _ in action.fields],
                "sources": [str(ref) for _, ref in action.sources],
                "purpose": str(action.purpose),
            }
        case DeleteExchange():
            return {
                "kind": "delete",
                "exchange": action.exchange,
                "fields": list(action.fields),
            }
        case ResumeRobots():
            return {"kind": "resume", "robots": [robot_document(r) for r in action.robots]}
        case RestartRobots():
            return {
                "kind": "restart",
                "exchange": action.exchange,
                "robots": [robot_document(robot) for robot in action.robots],
            }
        case InvalidateCache():
            return {
                "kind": "invalidate-cache",
                "instant": spelled(action.instant),
                "reason": action.reason,
            }
        case RebootServer():
            return {
                "kind": "reboot",
                "instant": spelled(action.instant),
                "reason": action.reason,
                "robots": str(action.robots),
                "again": action.again,
            }


def _outcome(outcome: Outcome) -> Document:
    return {
        "action": _action(outcome.action),
        "result": str(outcome.result),
        "detail": outcome.detail,
        "remedy": outcome.remedy,
        "exitCode": int(outcome.code),
        "robotsStopped": [robot_document(robot) for robot in outcome.stopped],
    }


def debt_document(debt: Debt) -> Document:
    """Return one debt."""
    return {
        "owed": str(debt.owed),
        "exchange": debt.exchange,
        "since": debt.since,
        "robotId": debt.robot_id,
        "robotName": debt.robot_name,
    }


def robot_document(robot: Robot) -> Document:
    """Return one robot."""
    return {
        "id": robot.id,
        "name": robot.name,
        "exchange": robot.exchange,
        "running": robot.running,
    }


def _error(error: JtrError) -> Document:
    return {
        "kind": type(error).__name__,
        "what": error.what,
        "remedy": error.remedy,
        "transient": error.transient,
    }
