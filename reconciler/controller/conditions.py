"""
From what a pass saw and did to what people are shown and told.  Pure.
"""

from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from itertools import chain
from typing import Final

from msgspec import Struct

from reconciler.controller.status import Health, ServerStatus, Sync
from reconciler.errors import DriverError, JtrError
from reconciler.model.actions import Action
from reconciler.model.desired import DesiredServer, Mode
from reconciler.model.observed import Robot
from reconciler.model.outcomes import Outcome, Report, Result
from reconciler.model.plan import (
    AS_DESIRED,
    Category,
    Disruption,
    Line,
    ServerPlan,
    Standing,
    Status,
)
from reconciler.model.recorded import Observation, Recorded
from reconciler.model.timestamps import spelled
from reconciler.model.values import replace
from reconciler.plan.consequences import open_debts
from reconciler.plan.windows import standing

DAILY: Final = 86_400.0
_LATER: Final = (Standing.SCHEDULED, Standing.WAITING, Standing.HELD)


class Pass(Struct, frozen=True):
    """
    One pass over one server, as far as people care.

    `report` holds its plan and what was done, `remembered` what the ledger knows afterwards, `seen`
    what was observed (None: nothing).  A suspension that ended by `over_by` is over.
    `contested` are the exchanges that somebody keeps changing.
    `unasked` are robots that ran and stopped without our asking, and still do not run.  `outgoing`
    are the addresses that the server's log says it leaves from, as far as they stand there.
    """

    desired: DesiredServer
    report: Report
    recorded: Recorded
    seen: Observation | None
    now: datetime
    over_by: datetime
    contested: tuple[str, ...] = ()
    unasked: tuple[Robot, ...] = ()
    connected: bool = False
    secret_ages: Mapping[str, float] | None = None
    outgoing: tuple[str, ...] = ()

    @property
    def plan(self) -> ServerPlan:
        return self.report.plan


def before_first(
    desired: DesiredServer, known: ServerStatus | None, *, changed: bool = False
) -> ServerStatus:
    """Return the status of a server of which another document came; `changed`: says otherwise."""
    if known is not None and (known.url, known.account) == (desired.url, desired.account):
        declared = (desired.name, desired.owner, desired.labels, str(desired.mode))
        if (known.server, known.owner, known.labels, known.mode) == declared and not changed:
            return known  # as nearly always: a fleet at rest asks once for each look
        return replace(
            known,
            server=desired.name,
            owner=desired.owner,
            labels=desired.labels,
            mode=str(desired.mode),
            judged=known.judged and not changed,
        )
    return ServerStatus(
        desired.name,
        desired.url,
        desired.account,
        desired.owner,
        desired.labels,
        reason="not looked at yet",
        mode=str(desired.mode),
    )


def after(one: Pass, known: ServerStatus) -> ServerStatus:
    """Return the status of a server after a pass; what was not seen anew stays as it was."""
    desired, plan, requests = one.desired, one.plan, one.recorded.requests
    open_lines = _left(one)
    suspension = desired.suspend
    suspended = suspension is not None and suspension.holds(one.over_by)
    opening = standing(desired.windows, one.now) if desired.windows else None
    changes = sum(line.category is Category.CHANGE for line in open_lines)
    drifting = tuple(line.exchange for line in open_lines if line.category is Category.DRIFT)
    status = replace(
        known,
        url=desired.url,
        account=desired.account,
        owner=desired.owner,
        labels=desired.labels,
        mode=str(desired.mode),
        suspended=suspension.reason if suspension is not None and suspended else "",
        suspended_by=suspension.by if suspension is not None and suspended else "",
        suspended_until=(
            spelled(suspension.until) if suspended and suspension and suspension.until else ""
        ),
        window_open=None if opening is None else opening.open,
        window="" if opening is None else opening.why,
        contested=one.contested,
        in_doubt=int(requests.open is not None),
        owed_robots=requests.halt.robots if requests.halt is not None else (),
        stopped_robots=one.unasked,
        connected=one.connected,
        secret_ages=known.secret_ages if one.secret_ages is None else one.secret_ages,
        keys={code: key for code, key in known.keys.items() if code in _audited(desired)},
        outgoing=one.outgoing or known.outgoing,
    )
    if one.seen is not None:
        status = replace(
            status,
            version=one.seen.version,
            robots=one.seen.robots,
            seen_at=one.seen.at,
            changes=changes,
            drifting=drifting,
            blocked=sum(bool(line.error) for line in plan.lines)
            + sum(bool(line.error) for line in plan.disruptions),
            debts=open_debts(one.recorded, one.seen),
            deferred=tuple(_deferred(plan.disruptions)),
            lines=tuple(_lines(one)),
        )
    sync = _sync(one, changes + len(drifting))
    health, reason = _health(one, status)
    awaited = _awaited(one) if health is Health.HEALTHY else ""
    if awaited:
        health, reason = Health.PROGRESSING, awaited
    return replace(status, sync=sync, health=health, reason=reason, waits=bool(awaited))


def _audited(desired: DesiredServer) -> set[str]:
    return {one.code for one in desired.exchanges if one.security.declared}


def _done(one: Pass) -> set[Action]:
    return {
        outcome.action
        for outcome in one.report.outcomes
        if outcome.result in (Result.DONE, Result.NOT_VERIFIABLE)
    }


def _lines(one: Pass) -> Iterator[Line]:
    """Yield the lines of the plan, those that were done as what they are now."""
    done = _done(one)
    for line in one.plan.lines:
        if line.action is not None and line.action in done:
            written = AS_DESIRED.says("written in the last pass")
            yield replace(line, status=Status.IN_SYNC, action=None, condition=written)
        else:
            yield line


def _left(one: Pass) -> list[Line]:
    """Return the lines of the plan that still differ after what was done."""
    done = _done(one)
    lines = (*one.plan.select(Category.CHANGE), *one.plan.select(Category.DRIFT))
    blocked = [
        line
        for line in one.plan.lines
        if line.status is Status.BLOCKED and line.verdict.value != "same" and line not in lines
    ]
    return [line for line in (*lines, *blocked) if line.action is None or line.action not in done]


def _sync(one: Pass, differences: int) -> Sync:
    failed = any(line.status in (Status.FAILED, Status.SETTLING) for line in one.plan.lines)
    if one.seen is None or one.plan.failure is not None or failed:
        return Sync.UNKNOWN
    return Sync.OUT_OF_SYNC if differences else Sync.SYNCED


def _deferred(lines: Iterable[Disruption]) -> Iterator[str]:
    for line in lines:
        if line.standing in _LATER:
            yield f"{line.what}: {line.standing}" + (f", {line.why}" if line.why else "")


def _health(one: Pass, status: ServerStatus) -> tuple[Health, str]:
    """Return the worst that is to be said, and what to do about it."""
    return next(chain(_acute(one, status), _lasting(one, status)), (Health.HEALTHY, ""))


Complaint = tuple[Health, str]


def _acute(one: Pass, status: ServerStatus) -> Iterator[Complaint]:
    """Yield what went wrong in this pass, the worst first."""
    plan, report = one.plan, one.report
    worst = _worst(report.outcomes)
    if worst is not None and worst.result is Result.HARM:
        yield Health.DEGRADED, words(worst.detail, worst.remedy)
    if plan.failure is not None:
        yield _failure(plan.failure)
    if status.suspended:
        until = f" until {status.suspended_until}" if status.suspended_until else ""
        yield Health.SUSPENDED, f"by {status.suspended_by}{until}: {status.suspended}"
    if plan.held and plan.held_code:
        yield Health.DEGRADED, words(plan.held, plan.held_remedy)
    if report.failure is not None:
        yield _failure(report.failure)
    if worst is not None:
        yield Health.DEGRADED, words(worst.detail, worst.remedy)


def _lasting(one: Pass, status: ServerStatus) -> Iterator[Complaint]:
    """Yield what stays until somebody does something, then what passes by itself."""
    plan = one.plan
    for request in plan.disruptions:
        if request.error:
            yield Health.DEGRADED, f"{request.what}: {words(request.why, request.remedy)}"
    for line in plan.lines:
        if line.error:
            yield Health.DEGRADED, f"{line.exchange}: {words(line.why, line.remedy)}"
    if status.contested:
        yield Health.DEGRADED, _fight(status.contested)
    yield from _keys_amiss(status)
    if status.stopped_robots:
        yield Health.DEGRADED, robot_names(status.stopped_robots)
    for line in plan.lines:
        if line.status is Status.SETTLING:
            yield Health.PROGRESSING, f"{line.exchange}: {line.why}"
    if status.changes and one.desired.mode is Mode.ENFORCE:
        yield Health.PROGRESSING, "what differs is written in the next pass"


def _awaited(one: Pass) -> str:
    """Return what of the plan will still be done to robots, or to what they stored."""
    if one.desired.mode is not Mode.ENFORCE:
        return ""  # nobody does it here
    done = _done(one)
    to_come = (line for line in one.plan.disruptions if line.to_come)
    coming = next((line for line in to_come if line.action not in done), None)
    return f"{coming.what}: {coming.standing}" if coming is not None else ""


def _keys_amiss(status: ServerStatus) -> Iterator[Complaint]:
    for exchange, key in sorted(status.keys.items()):
        for finding in key.findings:
            if finding.stops:
                yield Health.DEGRADED, f"{exchange}: {words(finding.what, finding.remedy)}"


def _fight(exchanges: Iterable[str]) -> str:
    return (
        f"somebody keeps changing {', '.join(exchanges)} back; nothing more is corrected there "
        "until `jtr apply --correct-drift`"
    )


def _failure(error: JtrError) -> tuple[Health, str]:
    if isinstance(error, DriverError) and error.transient:
        return Health.UNREACHABLE, str(error)
    return Health.DEGRADED, str(error)


def _worst(outcomes: Iterable[Outcome]) -> Outcome | None:
    bad = [outcome for outcome in outcomes if outcome.code]
    return max(bad, key=lambda outcome: outcome.result is Result.HARM, default=None)


def words(what: str, remedy: str) -> str:
    return f"{what}; {remedy}" if remedy else what


def robot_names(robots: Iterable[Robot]) -> str:
    where = "look at the server, nobody restarts them"
    return f"robots stopped without our asking: {named(robots)}; {where}"


def named(robots: Iterable[Robot]) -> str:
    return ", ".join(f"{robot.name} ({robot.exchange})" for robot in robots)


def unasked(
    known: Iterable[int], before: Iterable[Robot], now: Iterable[Robot], ours: Iterable[int]
) -> tuple[Robot, ...]:
    """
    Return the robots that ran and stopped without our asking, as far as they do not run again.

    *known* are those that were counted already, *before* what was seen last, *ours* the robots
    that we stopped.
    """
    present = {robot.id: robot for robot in now}
    mine = set(ours)
    ran = {robot.id for robot in before if robot.running} | set(known)
    return tuple(
        present[number]
        for number in sorted(ran - mine)
        if number in present and not present[number].running
    )
