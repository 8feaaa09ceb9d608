"""
The only place that sends what changes a server, each time after a last look.

Time passes between a decision and its deed: queues, prompts, the ledger, doubts about other
servers.  So `may_still` is called directly before every send and nowhere else, and nothing is
awaited between the two.  What takes time comes before: `Execution.last_look`.
"""

from collections.abc import Awaitable
from functools import partial
from typing import assert_never

from reconciler.apply.execution import Execution
from reconciler.errors import (
    Blocked,
    ConnectionLost,
    DriverError,
    ServerRefused,
    WindowClosed,
)
from reconciler.model.actions import (
    Action,
    DeleteExchange,
    InvalidateCache,
    RebootServer,
    RestartRobots,
    ResumeRobots,
    WriteExchange,
)
from reconciler.model.desired import (
    DesiredServer,
    Mode,
    OnCredentialChange,
    OneShot,
    Presence,
    RequestKind,
)
from reconciler.model.observed import Robot
from reconciler.model.outcomes import face
from reconciler.model.pauses import heeded
from reconciler.model.policy import PolicyAction
from reconciler.model.values import replace
from reconciler.plan.requests import account_suspended
from reconciler.plan.robots import names
from reconciler.plan.windows import standing


async def save(execution: Execution, action: WriteExchange) -> None:
    may_still(execution, action)
    await _once(
        execution,
        execution.session.save(action.exchange, execution.visit.values[action.exchange].fields),
    )


async def delete(execution: Execution, action: DeleteExchange, name: str, *, again: bool) -> None:
    """
    With *again* one row of the field was deleted already, and another one may have come up.

    The session reads once more what it is to delete: the last look comes again after that.
    """
    still = partial(may_still, execution, action, uncovered=name if again else "")
    may_still(execution, action, uncovered=name if again else "")
    await _once(execution, execution.session.delete(action.exchange, name, still))


async def stop(execution: Execution, action: RestartRobots, robot: Robot) -> None:
    may_still(execution, action, robot=robot)
    await _once(execution, execution.session.stop(robot.id))


async def start(execution: Execution, robot: Robot, action: ResumeRobots | None) -> None:
    """Without an action it was stopped by us in this very pass: no document has to ask for it."""
    may_still(execution, action, robot=robot)
    await _once(execution, execution.session.start(robot.id))


async def invalidate(execution: Execution, action: InvalidateCache) -> None:
    may_still(execution, action)
    await _once(execution, execution.session.invalidate())


async def reboot(execution: Execution, action: RebootServer) -> None:
    may_still(execution, action)
    await _once(execution, execution.session.reboot())


class Unanswered(Exception):
    """It was sent, and whether the server did it is not known; `what` says how that came."""

    def __init__(self, what: str) -> None:
        super().__init__(what)
        self.what = what


async def _once(execution: Execution, asking: Awaitable[object]) -> None:
    """Send; raise Unanswered when the server may have got it, and what it was else."""
    execution.sends += 1
    execution.read_back = False
    try:
        await asking
    except (ServerRefused, ConnectionLost):
        execution.sends -= 1
        raise
    except DriverError as error:
        raise Unanswered(error.what) from error


def may_still(
    execution: Execution, action: Action | None, *, uncovered: str = "", robot: Robot | None = None
) -> None:
    """
    Raise unless *action* may be sent at this moment; nothing was sent then.

    *uncovered* is a field that may show another row than was planned on, because the first one was
    deleted; *robot* is the one to be stopped or started.  Without an action a robot that this pass
    stopped gets its start.  Raises Blocked, WindowClosed, CircuitOpen and LeaseHeld.
    """
    _right_server(execution, action)
    execution.brake.check(finishing=action is None or isinstance(action, ResumeRobots))
    execution.check_lease()
    if action is None or isinstance(action, ResumeRobots):
        if action is not None:
            still_asked(execution, action)
        if robot is None or robot.id in _running(execution):
            raise Blocked("it runs already", "look at a new plan")
        return
    if execution.seen.version != execution.planned.version:
        raise Blocked("its version changed since it was planned", "look at a new plan")
    server = still_asked(execution, action)
    if not isinstance(action, WriteExchange | DeleteExchange):
        _in_window(execution, server)
    _as_planned(execution, action, uncovered, robot)


def _right_server(execution: Execution, action: Action | None) -> None:
    """Raise Blocked unless it is the server that was planned, and may be asked this."""
    desired = execution.desired
    if execution.session.target != desired.target:
        raise Blocked(
            f"this connection leads to {execution.session.target}, not to {desired.target}",
            "plan again",
        )
    execution.context.policy.check(desired, *_permission(action))
    withheld = execution.visit.withheld
    sources = action.sources if isinstance(action, WriteExchange) else ()
    if withheld is None or withheld.hides or any(ref.at in withheld.paths for _, ref in sources):
        raise Blocked("nobody agreed that this server gets it", "look at a new plan")


def _permission(action: Action | None) -> tuple[PolicyAction | None, str]:
    """Return what a policy must allow for an action; the start of what we stopped needs nothing."""
    match action:
        case WriteExchange(exchange):
            return PolicyAction.WRITE, exchange
        case DeleteExchange(exchange):
            return PolicyAction.DELETE, exchange
        case RestartRobots():
            return PolicyAction.RESTART, ""
        case InvalidateCache():
            return PolicyAction.INVALIDATE, ""
        case RebootServer():
            return PolicyAction.REBOOT, ""
        case ResumeRobots() | None:
            return None, ""
    assert_never(action)


def still_asked(execution: Execution, action: Action) -> DesiredServer:
    """
    Return the newest document; raise Blocked when it does not ask for *action* any more.

    What operators paused, and what was applied since, counts as it was read last: see
    `Execution.heed_pauses`.
    """
    context, over_by = execution.context, execution.context.over_by()
    server = context.in_force(execution.desired)
    if server is None:
        raise Blocked("its document was removed meanwhile", "it is not done")
    if execution.outrun is not None and not isinstance(action, ResumeRobots):
        raise execution.outrun  # robots that were stopped get their start all the same
    server = heeded(server, execution.pauses, over_by)
    suspension = server.suspend
    if suspension is not None and suspension.holds(over_by):
        raise Blocked(f"suspended meanwhile by {suspension.by}", "it is not done")
    if server.mode is Mode.OBSERVE:
        raise Blocked("mode: observe since it was planned", "it is not done")
    if not _asks(server, execution.desired, action):
        raise Blocked("its document changed meanwhile", "plan again")
    if isinstance(action, InvalidateCache | RebootServer):
        if (why := account_suspended(server, over_by)) is not None:
            raise Blocked(why.what, "it is not done; it touches the robots of all accounts")
        wish = server.asked(_kind(action))
        if wish is not None and context.now() - wish.instant > wish.expires_after:
            raise Blocked("expired while it waited, NOT done", "ask again with a new instant")
    return server


def _asks(server: DesiredServer, planned: DesiredServer, action: Action) -> bool:
    match action:
        case WriteExchange(exchange):
            wanted, before = server.exchange(exchange), planned.exchange(exchange)
            # Its line in the file may be another one.
            return wanted is not None and replace(wanted, source=planned.source) == (
                before and replace(before, source=planned.source)
            )
        case DeleteExchange(exchange):
            wanted = server.exchange(exchange)
            return wanted is not None and wanted.presence is Presence.ABSENT
        case RestartRobots():
            return server.on_credential_change is OnCredentialChange.RESTART
        case InvalidateCache() | RebootServer():
            wish = server.asked(_kind(action))
            return wish is not None and _asks_for(wish, action)
        case ResumeRobots():
            return True
    assert_never(action)


def _asks_for(wish: OneShot, action: InvalidateCache | RebootServer) -> bool:
    """Whether *action* is what *wish* asks for, with all that becomes of the robots."""
    if isinstance(action, InvalidateCache):
        return wish.instant == action.instant
    asked = wish.instant, wish.robots, wish.resume_within.total_seconds()
    return asked == (action.instant, action.robots, action.resume_within)


def _kind(action: InvalidateCache | RebootServer) -> RequestKind:
    return RequestKind.CACHE if isinstance(action, InvalidateCache) else RequestKind.REBOOT


def _in_window(execution: Execution, server: DesiredServer) -> None:
    if not server.windows:
        return
    if why := execution.context.unsteady():
        raise WindowClosed(f"it cannot be told whether its window is open: {why}", "plan again")
    opening = standing(server.windows, execution.context.now())
    if not opening.open:
        raise WindowClosed(
            f"its window closed: {opening.why}", "what is left waits for the next one"
        )


def _as_planned(execution: Execution, action: Action, uncovered: str, robot: Robot | None) -> None:
    """Raise Blocked when the server shows something else than what was planned on."""
    seen, planned = execution.seen, execution.planned
    match action:
        case WriteExchange(exchange):
            if face(seen, exchange) != face(planned, exchange):
                raise _changed(exchange)
        case DeleteExchange(exchange):
            before = face(planned, exchange)
            now = {name: shown for name, shown in face(seen, exchange).items() if shown[1]}
            if any(before.get(name) != shown for name, shown in now.items() if name != uncovered):
                raise _changed(exchange)
            if robots := seen.running(exchange):
                raise Blocked(
                    f"robots run on it since the plan: {names(robots)}", "stop them, apply again"
                )
        case RestartRobots(exchange):
            if robot is None or robot.id not in {one.id for one in seen.running(exchange)}:
                raise Blocked("it does not run any more", "look at a new plan")
        case RebootServer():
            _robots_as_told(execution, action)


def _robots_as_told(execution: Execution, action: RebootServer) -> None:
    """Raise Blocked when a reboot would stop other robots than were told of."""
    # Those that ran, and those that this pass starts before it.
    plan = execution.visit.plan.disruptions
    told = [robot for line in plan if line.ready == action for robot in line.robots]
    named = {one.id for one in (*execution.planned.running(), *told)}
    if fresh := [one.name for one in execution.seen.running() if one.id not in named]:
        raise Blocked(
            f"robots run that the plan did not name: {', '.join(fresh)}",
            "look at a new plan",
        )
    # Else one that a person stopped just now would be started again afterwards, and one that he
    # started would be stopped, and owed to nobody.
    moved = {one.id for one in execution.to_stop} ^ _running(execution)
    if moved:
        both = (*execution.to_stop, *execution.seen.running())
        changed = names(one for one in both if one.id in moved)
        raise Blocked(
            f"robots started or stopped while it was prepared: {changed}",
            "look at a new plan",
        )


def _changed(exchange: str) -> Blocked:
    return Blocked(f"{exchange} changed on the server since it was planned", "look at a new plan")


def _running(execution: Execution) -> set[int]:
    return {robot.id for robot in execution.seen.running()}
