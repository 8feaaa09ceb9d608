"""
Plans and reports as text for people: the plan of a fleet, and what became of it.
"""

from collections.abc import Iterable, Iterator, Sequence
from copy import copy
from datetime import datetime
from typing import Final

from reconciler.errors import Exit
from reconciler.model.actions import (
    DeleteExchange,
    WriteExchange,
    told,
)
from reconciler.model.outcomes import Outcome, Report, Result
from reconciler.model.plan import Plan, ServerPlan, Standing, Status
from reconciler.model.policy import PolicyAction
from reconciler.model.wording import counted
from reconciler.render.escape import plain
from reconciler.render.fleet import FEW, fleet_text
from reconciler.render.layout import View, folded
from reconciler.render.phrases import INDENT, below, robots_text
from reconciler.render.registry import AuditPart, PlanRenderer
from reconciler.render.report_fleet import GOOD, report_fleet
from reconciler.render.server_text import failure_rows, server_text
from reconciler.render.verdicts import Level, level, not_compared

EVERYTHING: Final = View()


def plan_text(plan: Plan, *, recorded: bool = False, view: View = EVERYTHING) -> str:
    """Return the whole plan; the last line is its blast radius."""
    if view.quiet and not _is_worth_telling(plan):
        return ""
    parts: list[str] = []
    if view.wide:
        parts.extend(f"! not visited: {plain(name, 400)}\n" for name in plan.not_visited)
        parts.extend(server_text(server) for server in plan)
    elif found := fleet_text(plan, view):
        parts.append(found)
    parts.append(_summary(plan, recorded=recorded, view=view))
    return folded("\n".join(parts), view.width)


def _is_worth_telling(plan: Plan) -> bool:
    return bool(plan.not_visited) or any(level(server) is not Level.NOTHING for server in plan)


def cost_of_look(looked: int) -> str:
    where = "this server" if looked == 1 else "these servers"
    return (
        f"This look has a cost: when it ends, nobody is registered at {where}, and a robot "
        "whose start fails there then stops all others (docs/concepts.md)."
    )


# What is against a policy and has no other line.
ALONE: Final = (
    PolicyAction.TAKE_OVER,
    PolicyAction.RESTART,
    PolicyAction.SELF_HEAL,
    PolicyAction.SUSPEND,
)


def counts_text(plan: Plan) -> str:
    """Return how much there is to do, and how much of it is not done."""
    writes = sum(isinstance(action, WriteExchange) for _, action in plan.actions)
    deletes = sum(isinstance(action, DeleteExchange) for _, action in plan.actions)
    later = [line for server in plan for line in server.disruptions if not server.held]
    standings = [line.standing for line in later]
    lines = [line for server in plan for line in server.lines if not server.held]
    drift = sum(line.status is Status.LEFT_ALONE for line in lines)
    blocked = sum(line.status is Status.BLOCKED for line in lines)
    blocked += standings.count(Standing.BLOCKED)
    blocked += sum(one.action in ALONE for server in plan for one in server.violations)
    blocked += sum(bool(server.held_code) for server in plan)
    held = sum(line.ready is not None for server in plan if server.held for line in server.lines)
    failed = sum(line.status is Status.FAILED for line in lines)
    failed += sum(server.failure is not None for server in plan)
    counts = [f"{writes} to write", f"{deletes} to delete"]
    for number, what in (
        (len(plan.actions) - writes - deletes, "to do with robots and requests"),
        (standings.count(Standing.SCHEDULED), "scheduled"),
        (standings.count(Standing.WAITING), "waiting for a window"),
        (standings.count(Standing.IN_DOUBT), "in doubt"),
        (standings.count(Standing.EXPIRED) + standings.count(Standing.NOT_DONE), "NOT done"),
        (held + standings.count(Standing.HELD), "held back"),
        (drift, "drifted, left alone"),
        (blocked, "blocked"),
        (failed, "failed"),
        (len(plan.not_visited), "not visited"),
        (sum(map(not_compared, plan)), "not compared"),
    ):
        if number:
            counts.append(f"{number} {what}")
    return f"Plan: {', '.join(counts)}."


def radius_text(plan: Plan) -> str:
    writes = sum(isinstance(act, WriteExchange | DeleteExchange) for _, act in plan.actions)
    radius = (
        counted(len({server.server for server, _ in plan.actions}), "server"),
        counted(writes, "exchange"),
        counted(len(plan.robots_concerned()), "robot"),
    )
    return f"Blast radius: {', '.join(radius)}."


def _summary(plan: Plan, *, recorded: bool, view: View) -> str:
    rows = [counts_text(plan)]
    if plan.skipped:
        rows.append(f"{counted(plan.skipped, 'document')} of another apiVersion skipped.")
    if plan.actions or any(server.new_recipient for server in plan):
        rows.append(f"Plan id: {plan.id}")
    # A server that was refused before its handshake (a changed address) was not looked at.
    looked = sum(server.failure is None and bool(server.observed_at) for server in plan)
    if looked and view.cost and not (recorded or view.quiet):
        rows.append(cost_of_look(looked))
    rows.append(radius_text(plan))
    return "\n".join(rows) + "\n"


# ── what was done ────────────────────────────────────────────────────────────────────────────


def report_text(reports: Iterable[Report], view: View = EVERYTHING) -> str:
    """Return what became of each server, or with a brief *view* of many what is alike together."""
    reports = tuple(reports)
    told = [report for report in reports if report.outcomes or report.failure is not None]
    if view.wide or len(told) <= FEW:
        rows = [row for report in told for row in _report(report)]
    else:
        rows = [report_fleet(told, view.width)]
    return folded("\n".join([*rows, outcomes_text(reports)]) + "\n", view.width)


def outcomes_text(reports: Sequence[Report]) -> str:
    """Return how much was done, and how much was not."""
    results = [outcome.result for report in reports for outcome in report.outcomes]
    done = sum(result in GOOD for result in results)
    counts = [
        f"{done} done",
        f"{results.count(Result.FAILED)} failed",
        f"{results.count(Result.NOT_ATTEMPTED)} not attempted",
    ]
    counts += [f"{n} {what}" for what in _GRAVE if (n := results.count(what))]
    if servers := sum(report.failure is not None for report in reports):
        counts.append(f"{counted(servers, 'server')} failed")
    if unplanned := sum(_unplanned(report.plan) for report in reports):
        counts.append(f"{unplanned} blocked or failed in the plan")
    return f"Applied: {', '.join(counts)}."


_GRAVE = (
    Result.UNKNOWN,
    Result.IN_DOUBT,
    Result.NOT_DONE,
    Result.LEFT_STOPPED,
    Result.HARM,
)


def _unplanned(plan: ServerPlan) -> int:
    """Return how many things of a plan could not even be tried."""
    whole = plan.failure is not None or bool(plan.held_code)
    return (
        1
        if whole
        else sum(bool(line.error) for line in plan.lines)
        + sum(bool(line.error) for line in plan.disruptions)
    )


def _report(report: Report) -> Iterator[str]:
    yield plain(report.plan.server)
    for outcome in report.outcomes:
        yield from _outcome(outcome)
    if report.failure is not None:
        yield from failure_rows(report.failure)


def _outcome(outcome: Outcome) -> Iterator[str]:
    good = outcome.result in GOOD
    detail = f": {plain(outcome.detail, 400)}" if outcome.detail else ""
    mark = "✓" if good else ("·" if outcome.result is Result.NOT_ATTEMPTED else "!")
    yield f"  {mark} {plain(told(outcome.action))}: {outcome.result}{detail}"
    yield from below(outcome.remedy)
    if outcome.stopped and outcome.code is not Exit.HARM:
        yield f"{INDENT}warning: stopped meanwhile: {robots_text(outcome.stopped)}"


class PlanText(PlanRenderer):
    live = True
    view: View = EVERYTHING

    def seen(self, view: View) -> PlanRenderer:
        found = copy(self)
        found.view = view
        return found

    def plan(
        self, plan: Plan, code: Exit, *, recorded: bool = False, audit: AuditPart | None = None
    ) -> str:
        del code
        more = ""
        if audit is not None:
            line = f"\n{audit.line}\n" if audit.line else ""
            more = folded(f"{line}{audit.text}", self.view.width)
        return plan_text(plan, recorded=recorded, view=self.view) + more

    def already(self, plan: Plan, code: Exit, *, at: datetime | None = None) -> str:
        del plan, code, at
        return "already applied\n"

    def done(
        self, plan: Plan, reports: Sequence[Report], code: Exit, *, at: datetime | None = None
    ) -> str:
        del plan, at
        if any(report.outcomes or report.failure for report in reports):
            return report_text(reports, self.view)
        if code is Exit.DONE:
            return "" if self.view.quiet else "Nothing to do.\n"
        return "Nothing was done; the lines above say why.\n"


RENDERER: Final = PlanText()
