"""
What follows from a pass: whether to try again soon, what counts as ours, what to say.  Pure.
"""

import math
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from reconciler.controller import requeue
from reconciler.controller.requeue import QueueState
from reconciler.controller.status import Health, ServerStatus, Sync
from reconciler.errors import Exit
from reconciler.model.actions import RebootServer, RestartRobots, WriteExchange, told
from reconciler.model.conditions import Code
from reconciler.model.desired import DesiredServer, RequestKind
from reconciler.model.observed import Robot
from reconciler.model.outcomes import Outcome, Report, Result
from reconciler.model.plan import Category, Line, Standing, Status
from reconciler.model.recorded import Recorded, Stage
from reconciler.model.references import FrozenRef
from reconciler.model.values import replace
from reconciler.plan.requests import stopped_since
from reconciler.plan.windows import standing
from reconciler.system.timeouts import Timeouts

_FAILS: Final = (Exit.ERROR, Exit.SECRETS, Exit.SERVER)  # worth another try soon
_OVER: Final = (Standing.DONE, Standing.SATISFIED, Standing.SUPERSEDED, Standing.BASELINED)
_SENT: Final = (Result.DONE, Result.NOT_VERIFIABLE, Result.UNKNOWN, Result.HARM)


def kept(report: Report) -> Report:
    """
    Return *report* as people may ask for it later.

    Without its errors: they hold on to the frames that raised them, and these to secrets.
    """
    return Report(replace(report.plan, failure=None), report.outcomes)


def sooner(
    desired: DesiredServer, report: Report, now: float, timeouts: Timeouts, *, settled_in: float
) -> list[float]:
    """
    Return the moments at which something is due that the interval would miss.

    *settled_in*: seconds until a secret has settled; 0 where none has to.
    """
    found = []
    if settled_in:
        found.append(now + settled_in)
    if any(line.code == Code.OTHERS_UNSEEN for line in report.plan.disruptions):
        found.append(now + timeouts.connect / 10)
    moments = (wish.instant.timestamp() for wish in desired.one_shots)
    return found + [moment for moment in moments if moment > now]


def at_rest(
    desired: DesiredServer, report: Report, recorded: Recorded, status: ServerStatus
) -> bool:
    """
    Whether nothing is open: the next pass would conclude the same as long as nothing moves.

    Nothing waits for a date or another server then; what windows change in it, `steady` tells.  A
    debt is paid by a robot's stop or by a boot, and both are seen.
    """
    plan, requests = report.plan, recorded.requests
    return (
        status.health is Health.HEALTHY
        and status.sync is Sync.SYNCED
        and not (status.stopped_robots or status.contested)
        and not (report.outcomes or report.failure or plan.failure)
        and not (plan.new_recipient or desired.suspend)
        and requests.open is None
        and requests.halt is None
        and all(line.standing in _OVER for line in plan.disruptions)
    )


def steady(desired: DesiredServer, now: datetime) -> float:
    """Return how many seconds a status stays true by the clock: until a window opens or ends."""
    opening = standing(desired.windows, now) if desired.windows else None
    change = None if opening is None else opening.until or opening.opens
    return math.inf if change is None else max(0.0, (change - now).total_seconds())


def pushed(report: Report) -> bool:
    return any(
        isinstance(outcome.action, WriteExchange) and outcome.result in _SENT
        for outcome in report.outcomes
    )


def healed(timing: QueueState, report: Report, now: float, timeouts: Timeouts) -> QueueState:
    """Count the corrections of drift, and forget those that were long ago."""
    drifting = {line.exchange: line for line in report.plan.select(Category.DRIFT)}
    sent = {one.action for one in report.outcomes if one.sent or one.result in _SENT}
    for code, line in drifting.items():
        if line.action in sent:
            timing = timing.with_healing(code, requeue.corrected(timing.healed(code), now))
    for code, healing in timing.healing.items():
        if _changed(code, report.plan.select(Category.CHANGE), sent):
            timing = timing.with_healing(code, None)  # another value: another story
        else:
            known = requeue.looked(healing, now, timeouts, drifts=code in drifting)
            timing = timing.with_healing(code, known)
    return timing


def fields(name: str, outcome: Outcome) -> dict[str, Any]:
    """Return what a log line says of an action besides its message."""
    found = {"server": name, "action": told(outcome.action), "result": str(outcome.result)}
    if outcome.detail:
        found["detail"] = outcome.detail
    return found


def fails(report: Report) -> bool:
    """Whether another try may help soon; what a person has to decide waits for the interval."""
    if report.plan.failure is not None or report.failure is not None:
        return True
    if any(outcome.code in _FAILS for outcome in report.outcomes):
        return True
    return any(line.status is Status.FAILED for line in report.plan.lines)


def longest(report: Report, timeouts: Timeouts) -> float:
    """
    Return how many seconds the next try after a pass that failed may wait.

    Longer than the interval only to spare a server that fails: one for which something else was
    away, Vault or the ledger, is looked at within an interval after that is back.
    """
    failures = [one for one in (report.plan.failure, report.failure) if one is not None]
    codes = {one.exit_code for one in failures}
    codes |= {one.code for one in report.outcomes} | {line.error for line in report.plan.lines}
    most = timeouts.backoff_most
    return most if Exit.SERVER in codes else min(most, timeouts.interval)


def _changed(code: str, lines: Sequence[Line], sent: set[Any]) -> bool:
    return any(
        line.exchange == code and line.action in sent and isinstance(line.action, WriteExchange)
        for line in lines
    )


def stops(outcome: Outcome) -> str:
    """Return what an action stops, in the words of the metric; empty for the others."""
    match outcome.action:
        case RestartRobots():
            return "robots"
        case RebootServer():
            return "reboot"
        case _:
            return ""


def undisturbed(report: Report, recorded: Recorded) -> bool:
    """Whether a server on which something disruptive failed is in order again."""
    requests = recorded.requests
    return not (
        report.plan.failure
        or report.failure
        or requests.open is not None
        or requests.halt is not None
        # What was not attempted says nothing; the disruption budget may be shut.
        or any(o.code and o.result is not Result.NOT_ATTEMPTED for o in report.outcomes)
    )


def left(desired: DesiredServer, recorded: Recorded, robots: Sequence[Robot]) -> str:
    """
    Say what a disruption left at a server for a person; empty for nothing.

    By the ledger and the *robots* that were seen last: so a process that begins knows it, too.
    """
    requests, wish = recorded.requests, desired.asked(RequestKind.REBOOT)
    if requests.open is not None:
        return f"a {requests.open.kind} is in doubt"
    if requests.halt is not None and requests.halt.finding:
        return "its robots have to be looked at"
    reboots = [one for one in requests.past if one.kind is RequestKind.REBOOT]
    if wish is not None and reboots and reboots[-1].instant == wish.instant:
        failed = reboots[-1].stage is Stage.NOT_DONE
        if failed and stopped_since(reboots[-1], robots):
            return "robots that a failed reboot stopped do not run"
    return ""


def ours(recorded: Recorded, since: str) -> set[int]:
    """Return the robots that we stopped since they were seen last."""
    requests = recorded.requests
    mine: set[int] = set()
    if requests.halt is not None:
        mine |= {robot.id for robot in requests.halt.robots}
    for request in (*requests.past, *((requests.open,) if requests.open else ())):
        lately = not request.closed_at or request.closed_at >= since
        acted = request.stage in (Stage.DONE, Stage.OPEN)
        if request.kind is RequestKind.REBOOT and lately and acted:
            mine |= {robot.id for robot in request.ran}
    return mine


def ages(sources: Mapping[str, Mapping[str, FrozenRef]], now: datetime) -> dict[str, float] | None:
    """Return how old the version in use is, by exchange; None when Vault did not tell."""
    if not sources:
        return None
    found = {}
    for code, fields_of in sources.items():
        written = [moment for ref in fields_of.values() if (moment := _moment(ref.created))]
        if written:
            found[code] = max(0.0, (now - min(written)).total_seconds())
    return found


def _moment(text: str) -> datetime | None:
    whole, _, rest = text.partition(".")
    digits = rest.rstrip("Z")[:6]
    try:
        return datetime.fromisoformat(f"{whole.rstrip('Z')}.{digits or '0'}+00:00")
    except ValueError:
        return None
