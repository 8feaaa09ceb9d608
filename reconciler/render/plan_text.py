"""
Plans and reports as text for people: what, why, what it means for the robots, what to do.

Every line begins with a sign, so that colour only repeats what the sign says:
`+` written for the first time, `~` written again, `-` deleted, `≠` drift, `!` stopped, `=` in sync,
`»` a new recipient, `↻` robots restarted, `⏻` rebooted, `∅` invalidated, `▶` started again,
`…` later, `?` in doubt.
"""

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from typing import Final

from reconciler.errors import Exit, JtrError
from reconciler.model.actions import (
    DeleteExchange,
    InvalidateCache,
    Need,
    Reason,
    RebootServer,
    RestartRobots,
    WriteExchange,
    told,
)
from reconciler.model.desired import RequestKind
from reconciler.model.observed import Robot
from reconciler.model.outcomes import Outcome, Report, Result
from reconciler.model.plan import Category, Disruption, Line, Plan, ServerPlan, Standing, Status
from reconciler.model.policy import PolicyAction
from reconciler.model.recipients import NewRecipient, Novelty
from reconciler.model.recorded import Owed, due
from reconciler.model.wording import counted
from reconciler.render.escape import plain
from reconciler.render.phrases import INDENT, age_text, below, debt_text, robot_names, server_line
from reconciler.render.registry import AuditPart, PlanRenderer


def plan_text(plan: Plan, *, recorded: bool = False) -> str:
    """Return the whole plan; the last line is its blast radius."""
    parts: list[str] = []
    parts.extend(f"! not visited: {plain(name, 400)}\n" for name in plan.not_visited)
    parts.extend(server_text(server) for server in plan)
    parts.append(_summary(plan, recorded=recorded))
    return "\n".join(parts)


def server_text(plan: ServerPlan) -> str:
    """Return all that is to be said of one server."""
    rows = [server_line(plan.server, plan.target, plan.version, plan.owner)]
    if plan.age is not None:
        rows.append(f"  seen {age_text(plan.age)} ago")
    rows.extend(recipient_rows(plan.new_recipient))
    rows.extend(_policy(plan))
    if plan.failure is not None:
        rows.extend(_failure(plan.failure))
        if plan.disruptions:
            rows.append("  By the ledger")
            rows.extend(row for line in plan.disruptions for row in _disruption(line, plan.server))
        return "\n".join(rows) + "\n"
    if plan.held:
        rows.append(f"  ! nothing is applied: {plain(plan.held, 400)}")
        rows.extend(below(plan.held_remedy))
    held = " (held back)" if plan.held else ""
    for title, lines in (
        (f"Changes{held}", plan.select(Category.CHANGE)),
        (f"Drift{held}", plan.select(Category.DRIFT)),
        ("Failed", _having(plan, Status.FAILED)),
        ("Blocked", _having(plan, Status.BLOCKED)),
    ):
        if lines:
            rows.append(f"  {title}")
            rows.extend(row for line in lines for row in _line(line, held=bool(plan.held)))
    if plan.disruptions:
        rows.append(f"  Robots and requests{held}")
        rows.extend(row for line in plan.disruptions for row in _disruption(line, plan.server))
    rows.extend(_quiet(plan))
    rows.extend(_owed(plan))
    rows.extend(f"  note: {plain(note, 400)}" for note in plan.notes)
    return "\n".join(rows) + "\n"


def cost_of_look(looked: int) -> str:
    where = "this server" if looked == 1 else "these servers"
    return (
        f"This look has a cost: when it ends, nobody is registered at {where}, and a robot "
        "whose start fails there then stops all others (docs/concepts.md)."
    )


def recipient_rows(news: Sequence[NewRecipient]) -> Iterator[str]:
    if news:
        yield "  NEW RECIPIENT"
    for one in news:
        yield f"    » {plain(recipient_text(one), 2000)}"


def recipient_text(one: NewRecipient) -> str:
    """Return what is new, unescaped."""
    return f"{_NEWS[one.kind]}{one.what}"


def _policy(plan: ServerPlan) -> Iterator[str]:
    """Yield what the document may not ask for; what keeps the server from being seen is told."""
    if plan.failure is not None or not plan.violations:
        return
    yield "  POLICY"
    for one in plan.violations:
        yield f"    ! {plain(one.what, 600)}"
    for remedy in dict.fromkeys(one.remedy for one in plan.violations):
        yield from below(remedy)


_NEWS = {
    Novelty.CONTACT: "first contact: ",
    Novelty.ADDRESS: "another address: ",
    Novelty.LOGIN: "gets as its login: ",
    Novelty.VALUES: "gets values of: ",
}


def _failure(error: JtrError) -> Iterator[str]:
    yield f"  ! {plain(error.what, 400)}"
    yield from below(error.remedy)


def _having(plan: ServerPlan, *statuses: Status) -> tuple[Line, ...]:
    return tuple(line for line in plan.lines if line.status in statuses)


def sign(line: Line) -> str:
    if line.status in (Status.BLOCKED, Status.FAILED):
        return "!"
    if line.category is Category.DRIFT:
        return "≠"
    if isinstance(line.action, DeleteExchange):
        return "-"
    if isinstance(line.action, WriteExchange):
        return "+" if line.reason is Reason.ABSENT else "~"
    return "="


def _line(line: Line, *, held: bool) -> Iterator[str]:
    said = [plain(line.exchange)] if line.exchange else []
    if line.status in (Status.BLOCKED, Status.FAILED):
        said.append(f"{line.status}: {plain(line.why, 400)}")
    elif isinstance(line.action, DeleteExchange):
        said.append(f"delete {', '.join(map(plain, line.action.fields))}")
        said.append(f"({plain(line.why, 400)})")
    elif isinstance(line.action, WriteExchange):
        said.append(f"write {', '.join(plain(name) for name, _ in line.action.fields)}")
        said.append(f"from {', '.join(plain(ref, 2000) for ref in line.sources)}")
        said.append(f"({plain(_why(line), 400)})")
    yield f"    {sign(line)} {'  '.join(said)}"
    if line.asks and line.status is Status.LEFT_ALONE:
        # What holds the whole server back comes first: no other command would help now.
        yield f"{INDENT}left alone" + ("" if held else f": {plain(line.remedy, 600)}")
    elif line.remedy:
        yield from below(line.remedy, 600)
    if line.ready is not None:
        yield from _meaning(line)
    yield from below(line.note)


def _disruption(line: Disruption, server: str) -> Iterator[str]:
    yield f"    {mark(line)} {plain(line.what)}  {line.standing}"
    yield from below(line.why, 600)
    yield from below(line.remedy.replace("SERVER", server))


def mark(line: Disruption) -> str:
    if line.standing is Standing.DUE:
        return _DUE.get(type(line.action), "▶")
    return _MARKS.get(line.standing, "=")


_DUE = {RestartRobots: "↻", InvalidateCache: "∅", RebootServer: "⏻"}
_MARKS = {
    **dict.fromkeys((Standing.SCHEDULED, Standing.WAITING, Standing.HELD), "…"),
    **dict.fromkeys((Standing.BLOCKED, Standing.EXPIRED, Standing.NOT_DONE), "!"),
    Standing.IN_DOUBT: "?",
}


def _why(line: Line) -> str:
    both = line.reason and line.why and line.reason is not Reason.DIFFERS
    return f"{line.reason}: {line.why}" if both else (line.why or line.reason)


def _meaning(line: Line) -> Iterator[str]:
    if line.consequence is None:
        return
    robots, need = line.consequence.robots, line.consequence.need
    if robots:
        one = len(robots) == 1
        if line.reason is Reason.ABSENT:
            does = "runs without a key" if one else "run without a key"
        else:
            does = "keeps the old key" if one else "keep the old key"
        yield f"{INDENT}{_robots(robots)} {does} until {_UNTIL[need]}"
    elif need is Need.REBOOT:
        yield f"{INDENT}robots that are started there use the old key until {_UNTIL[need]}"


_UNTIL = {
    Need.RESTART: "restarted",
    Need.REBOOT: "JT-Trader is rebooted: it caches what belongs to the same API key",
    Need.EITHER: "restarted, or until JT-Trader is rebooted if the API key is the same",
    Need.NOTHING: "",
}


def _robots(robots: Sequence[Robot]) -> str:
    return f"{'robot' if len(robots) == 1 else 'robots'} {robot_names(robots)}"


def _quiet(plan: ServerPlan) -> Iterator[str]:
    in_sync = [plain(line.exchange) for line in _having(plan, Status.IN_SYNC)]
    if in_sync:
        yield f"  = in sync: {', '.join(in_sync)}"
    for status in (Status.FOUND, Status.NOT_COMPARED):
        for line in _having(plan, status):
            yield f"  = {status}: {plain(line.exchange)} ({plain(line.why, 400)})"
    for line in _having(plan, Status.LEFT_ON_SERVER):
        yield f"  = left on the server: {plain(line.exchange)}; {plain(line.remedy, 600)}"
    foreign = [plain(line.exchange) for line in _having(plan, Status.NOT_MANAGED)]
    if foreign:
        yield f"  = not managed, untouched: {', '.join(foreign)}"


def _owed(plan: ServerPlan) -> Iterator[str]:
    reboots = due(plan.debts, Owed.REBOOT)
    for debt in (*due(plan.debts, Owed.RESTART), *reboots):
        yield f"  owed: {debt_text(debt)}"
    if reboots and not any(
        line.kind is RequestKind.REBOOT and line.action for line in plan.disruptions
    ):
        yield f"{INDENT}jtr request reboot {plain(plan.server)} --robots resume --reason TEXT"


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


def not_compared(server: ServerPlan) -> int:
    """
    Return of how many exchanges, or servers, it is not known whether they differ.

    One that was never looked at counts as one: nothing to write is then no good news.
    """
    if server.failure is not None or server.held_code:
        return 0  # failed, or blocked
    if not (server.observed_at or server.lines):
        return 1
    return len(_having(server, Status.NOT_COMPARED))


def radius_text(plan: Plan) -> str:
    writes = sum(isinstance(act, WriteExchange | DeleteExchange) for _, act in plan.actions)
    radius = (
        counted(len({server.server for server, _ in plan.actions}), "server"),
        counted(writes, "exchange"),
        counted(len(plan.robots_concerned()), "robot"),
    )
    return f"Blast radius: {', '.join(radius)}."


def _summary(plan: Plan, *, recorded: bool) -> str:
    rows = [counts_text(plan)]
    if plan.skipped:
        rows.append(f"{counted(plan.skipped, 'document')} of another apiVersion skipped.")
    if plan.actions or any(server.new_recipient for server in plan):
        rows.append(f"Plan id: {plan.id}")
    # A server that was refused before its handshake (a changed address) was not looked at.
    looked = sum(server.failure is None and bool(server.observed_at) for server in plan)
    if looked and not recorded:
        rows.append(cost_of_look(looked))
    rows.append(radius_text(plan))
    return "\n".join(rows) + "\n"


# ── what was done ────────────────────────────────────────────────────────────────────────────


def report_text(reports: Iterable[Report]) -> str:
    reports = tuple(reports)
    rows = [row for report in reports for row in _report(report)]
    return "\n".join([*rows, outcomes_text(reports)]) + "\n"


def outcomes_text(reports: Sequence[Report]) -> str:
    """Return how much was done, and how much was not."""
    results = [outcome.result for report in reports for outcome in report.outcomes]
    done = sum(result in _GOOD for result in results)
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


_GOOD = (Result.DONE, Result.NOT_VERIFIABLE)
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
    if not report.outcomes and report.failure is None:
        return
    yield plain(report.plan.server)
    for outcome in report.outcomes:
        yield from _outcome(outcome)
    if report.failure is not None:
        yield from _failure(report.failure)


def _outcome(outcome: Outcome) -> Iterator[str]:
    good = outcome.result in _GOOD
    detail = f": {plain(outcome.detail, 400)}" if outcome.detail else ""
    mark = "✓" if good else ("·" if outcome.result is Result.NOT_ATTEMPTED else "!")
    yield f"  {mark} {plain(told(outcome.action))}: {outcome.result}{detail}"
    yield from below(outcome.remedy)
    if outcome.stopped and outcome.code is not Exit.HARM:
        yield f"{INDENT}warning: stopped meanwhile: {_robots(outcome.stopped)}"


class PlanText(PlanRenderer):
    live = True

    def plan(
        self, plan: Plan, code: Exit, *, recorded: bool = False, audit: AuditPart | None = None
    ) -> str:
        del code
        return plan_text(plan, recorded=recorded) + (audit.text if audit is not None else "")

    def already(self, plan: Plan, code: Exit, *, at: datetime | None = None) -> str:
        del plan, code, at
        return "already applied\n"

    def done(
        self, plan: Plan, reports: Sequence[Report], code: Exit, *, at: datetime | None = None
    ) -> str:
        del plan, at
        if any(report.outcomes or report.failure for report in reports):
            return report_text(reports)
        if code is Exit.DONE:
            return "Nothing to do.\n"
        return "Nothing was done; the lines above say why.\n"


RENDERER: Final = PlanText()
