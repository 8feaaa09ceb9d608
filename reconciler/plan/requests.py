"""
Where each wish for a reboot or an invalidation stands.  Pure.

A reboot stops trading and an invalidation destroys what robots stored, so each is done at most once
for its instant; what is unknown goes to people.  Log lines of a server are compared with log lines
only; a server's time is compared with an instant only through a measured offset.
"""

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Final

from reconciler.errors import Exit
from reconciler.ledger.request_state import owed
from reconciler.model.actions import InvalidateCache, RebootServer
from reconciler.model.conditions import Code, Condition, blocked
from reconciler.model.desired import Afterwards, DesiredServer, OneShot, RequestKind
from reconciler.model.observed import Robot
from reconciler.model.plan import Disruption, Standing
from reconciler.model.recorded import MOST_ATTEMPTS, PendingStarts, Request, Requests, Stage
from reconciler.model.timestamps import spelled
from reconciler.model.values import replace
from reconciler.plan.boot_proof import Proof, new_boots, proof, satisfies
from reconciler.plan.inputs import Terms
from reconciler.plan.windows import standing

_ASK: Final = {
    RequestKind.REBOOT: "jtr request reboot {server} --robots {robots} --reason {reason}",
    RequestKind.CACHE: "jtr request invalidate-cache {server} --reason {reason}",
}
LOOK = "see: jtr request list"
BOOTED_TWICE = "the server booted more than once"
TIMELY = (Standing.DUE, Standing.SCHEDULED, Standing.EXPIRED)  # decided by our own clock


# ── requests ─────────────────────────────────────────────────────────────────────────────────


def request_lines(
    desired: DesiredServer,
    requests: Requests,
    robots: Sequence[Robot],
    terms: Terms,
    *,
    quiet: Condition | None,
    refuses: Condition | None,
) -> Iterator[Disruption]:
    """
    Say where every request stands: those of the documents, and one that is open in the ledger.

    *quiet* says why none is done now, *refuses* why nothing may be written to this server.  While
    another account of the process is suspended, none is done either: see `account_suspended`.
    """
    wished = {(wish.kind, wish.instant) for wish in desired.one_shots}
    doubt, settled = requests.open, requests
    if doubt is not None:
        line = unsettled(doubt, terms, robots)
        if line.standing is Standing.FOUND_OUT and _booted(doubt, terms):
            settled = replace(requests, open=None)  # noted by the time that the next one begins
        if (doubt.kind, doubt.instant) not in wished:
            yield line
    for wish in desired.one_shots:
        line = _standing(wish, requests, terms, robots)
        if terms.unsteady and line.standing in TIMELY:
            later = line.standing is Standing.SCHEDULED
            exit_ = Exit.DONE if later else Exit.BLOCKED
            line = _held(line, Condition(Code.CLOCK_UNSTEADY, terms.unsteady, exit=exit_))
        if line.standing is Standing.DUE:
            line = _with_limits(line, settled, terms, robots, refuses)
        held = quiet or account_suspended(desired, terms.over_by)
        if line.standing is Standing.DUE and held is not None:
            line = _held(line, held)
        if line.standing in (Standing.DUE, Standing.SCHEDULED):
            line = _in_window(line, wish, desired, terms)
            line = _with_meaning(line, wish, desired, robots)
        yield line


def account_suspended(desired: DesiredServer, now: datetime) -> Condition | None:
    """
    Say why nothing that touches the robots of all accounts is done at *now*; None when it may be.

    The plan goes by it, and the last look before a send.
    """
    held = [(account, one) for account, one in desired.suspended_accounts if one.holds(now)]
    if not held:
        return None
    told = (
        f"account {account} of the same server is {'paused' if one.operator else 'suspended'}"
        f" by {one.by}" + (f" until {spelled(one.until)}" if one.until else "") + f": {one.reason}"
        for account, one in held
    )
    paused = any(one.operator for _, one in held)
    waits = "it waits, because it touches the robots of all accounts; or " + (
        "end that pause (Go on)" if paused else "take that suspend out of its document"
    )
    return Condition(Code.ACCOUNT_SUSPENDED, "; ".join(told), waits)


def _standing(
    wish: OneShot, requests: Requests, terms: Terms, robots: Sequence[Robot]
) -> Disruption:
    base = Disruption(
        named(wish.kind, wish.instant),
        Standing.DUE,
        Condition(Code.DUE, wish.reason),
        kind=wish.kind,
        instant=wish.instant,
        source=wish.source,
        action=_action(wish),
    )
    nothing = replace(base, action=None)
    doubt = requests.open
    if doubt is not None and (doubt.kind, doubt.instant) == (wish.kind, wish.instant):
        return unsettled(doubt, terms, robots, wish)
    if (past := requests.closed(wish.kind, wish.instant)) is not None:
        return _past(nothing, past)
    handled = requests.handled.get(wish.kind)
    if handled is not None and wish.instant <= handled:
        later = f"one of {spelled(handled)} was handled already; an earlier one is never done"
        return _stands(nothing, Standing.SUPERSEDED, Condition(Code.SUPERSEDED, later))
    if terms.baseline is not None and wish.instant < terms.baseline:
        older = f"older than what this ledger knows ({spelled(terms.baseline)}); never run"
        why = Condition(Code.BASELINED, older, _again(wish.kind))
        return _stands(nothing, Standing.BASELINED, why)
    if terms.now < wish.instant:
        return _stands(base, Standing.SCHEDULED, Condition(Code.SCHEDULED, wish.reason))
    if wish.kind is RequestKind.REBOOT and _satisfied(wish.instant, terms):
        booted = Condition(Code.SATISFIED, "the server booted after that instant without us")
        return _stands(nothing, Standing.SATISFIED, booted)
    if terms.now - wish.instant > wish.expires_after:
        why = blocked(
            Code.EXPIRED,
            f"it was to be done until {spelled(wish.instant + wish.expires_after)}",
            f"{_again(wish.kind)}; or remove it",
        )
        return _stands(nothing, Standing.EXPIRED, why)
    return base


def _satisfied(instant: datetime, terms: Terms) -> bool:
    """Whether somebody else's boot met a request; one that was seen before it never does."""
    if terms.log is None or not terms.log.boots:
        return False
    # Line with line: the server's clock may have been set meanwhile.
    known = terms.log.boots[-1].time == terms.seen_boot
    if known and terms.seen_at is not None and terms.seen_at < instant:
        return False
    return satisfies(terms.log, terms.clock, instant)


def _past(base: Disruption, past: Request) -> Disruption:
    match past.stage:
        case Stage.DONE:
            return _stands(base, Standing.DONE, Condition(Code.DONE, past.evidence))
        case Stage.SATISFIED:
            return _stands(base, Standing.SATISFIED, Condition(Code.SATISFIED, past.evidence))
        case Stage.BASELINED:
            why = Condition(Code.BASELINED, "never run: " + past.evidence)
            return _stands(base, Standing.BASELINED, why)
        case _:
            ask = f"{_again(past.kind)}; or remove it"
            return _stands(base, Standing.NOT_DONE, blocked(Code.NOT_DONE, past.evidence, ask))


def as_wished(request: Request, desired: DesiredServer | None) -> Request:
    """
    Return an open request as the newest document has it.

    That says what becomes of the robots until it was done: who does not want them started again
    after all need not be quicker than a reboot that takes minutes.
    """
    wish = desired.asked(request.kind) if desired is not None else None
    if wish is None or wish.instant != request.instant:
        return request
    within = wish.resume_within.total_seconds()
    return replace(request, robots=wish.robots, resume_within=within)


def unsettled(
    request: Request, terms: Terms, robots: Sequence[Robot], wish: OneShot | None = None
) -> Disruption:
    """Say what is known of a request that was, or may have been, sent; *robots* as they are now."""
    base = Disruption(
        named(request.kind, request.instant),
        Standing.IN_DOUBT,
        Condition(
            Code.IN_DOUBT,
            remedy=f"find out on the server, then jtr request resolve SERVER {request.kind} "
            f"{spelled(request.instant)} --done|--not-done --because TEXT",
            exit=Exit.IN_DOUBT,
        ),
        kind=request.kind,
        instant=request.instant,
        source=wish.source if wish else None,
        robots=request.ran,
    )
    asked = f"asked {request.asked_at} by {request.attempts[-1].by if request.attempts else '?'}"
    if request.kind is RequestKind.CACHE:
        return _says(
            base,
            f"{asked}, no answer was noted; an invalidation leaves no evidence, and is never "
            "repeated",
        )
    if not request.attempts:
        return _says(base, "nothing is known of it")
    found_out = _stands(base, Standing.FOUND_OUT, Condition(Code.FOUND_OUT))
    stopped = stopped_since(request, robots)
    match proof(request.attempts[-1], terms.log):
        case Proof.BOOTED:
            return _says(found_out, f"{asked}; the server booted since: done")
        case Proof.ALIVE if _may_try_again(request, wish, terms) and not stopped:
            action = _action(wish, again=True) if wish is not None else None
            why = (
                f"{asked}, and provably not done: the process from before still runs; "
                "second and last try"
            )
            again = _stands(found_out, Standing.DUE, Condition(Code.DUE, why))
            return replace(again, action=action)
        case Proof.ALIVE:
            why = f"{asked}; provably not done: the process from before still runs"
            if stopped:
                names = ", ".join(robot.name for robot in stopped)
                why = f"{why}; robots that ran then do not run any more: {names}"
            return _says(found_out, why)
    if terms.log is None:
        return _says(base, f"{asked}, outcome not noted; only a visit can tell")
    return _says(base, f"{asked}; the system log cannot tell whether the server booted")


def left_owed(request: Request, terms: Terms) -> PendingStarts | None:
    """Return the robots that an open reboot leaves owed, once the log proves that it is done."""
    if terms.log is None or not _booted(request, terms):
        return None
    lines = new_boots(request.attempts[-1], terms.log)
    halt = owed(replace(request, boot=lines[-1]))
    return replace(halt, finding=BOOTED_TWICE) if halt is not None and len(lines) > 1 else halt


def _booted(request: Request, terms: Terms) -> bool:
    return bool(request.attempts) and proof(request.attempts[-1], terms.log) is Proof.BOOTED


def stopped_since(request: Request, robots: Sequence[Robot]) -> tuple[Robot, ...]:
    """
    Return the robots that ran before *request* and do not run any more.

    A first try that did not get through may have stopped them; but nobody knows whether a process
    that died sent it at all: perhaps a person did, who would not have them started again.
    """
    running = {robot.id for robot in robots if robot.running}
    return tuple(robot for robot in request.ran if robot.id not in running)


def _may_try_again(request: Request, wish: OneShot | None, terms: Terms) -> bool:
    if wish is None or len(request.attempts) >= MOST_ATTEMPTS:
        return False
    return terms.now - wish.instant <= wish.expires_after


def _with_limits(
    line: Disruption,
    requests: Requests,
    terms: Terms,
    robots: Sequence[Robot],
    refuses: Condition | None,
) -> Disruption:
    mine, doubt = (line.kind, line.instant), requests.open
    if doubt is not None and (doubt.kind, doubt.instant) != mine:
        if unsettled(doubt, terms, robots).standing is Standing.FOUND_OUT:
            # It may have stopped robots that the next one would not know of.
            why = "the one before it was not done: people look first; the next apply does it"
            return _held(line, Condition(Code.EARLIER_OPEN, why))
        doubtful = "another request of this server is in doubt"
        return _held(line, Condition(Code.EARLIER_OPEN, doubtful, LOOK))
    if requests.halt is not None:
        owing = "robots of an earlier restart or reboot are owed a start"
        return _held(line, Condition(Code.ROBOTS_OWED, owing, LOOK))
    if (refusal := terms.refused or refuses) is not None:
        return _stands(line, Standing.BLOCKED, refusal)
    if terms.log is not None and line.kind is RequestKind.REBOOT:
        if not terms.log.readable:
            why_not = blocked(
                Code.LOG_UNREADABLE,
                "its system log cannot be read, so nobody could tell whether it rebooted",
                "see why on its Config page (System logs); or reboot it by hand",
            )
            return _stands(line, Standing.BLOCKED, why_not)
        if terms.log.strangers:
            why_not = blocked(
                Code.LOG_OF_SEVERAL,
                "its system log holds entries of several processes at once, so it proves nothing",
                "see whether two processes of JT-Trader share one log",
            )
            return _stands(line, Standing.BLOCKED, why_not)
    return line


def _in_window(line: Disruption, wish: OneShot, desired: DesiredServer, terms: Terms) -> Disruption:
    """Say when its windows allow a request that is due, or will be."""
    opening = standing(desired.windows, max(terms.now, wish.instant))
    if opening.open:
        return line
    until = wish.instant + wish.expires_after
    why, remedy = opening.why, ""
    if opening.opens is None or opening.opens > until:
        why = f"{why}; it expires before that, {spelled(until)}"
        remedy = "raise its expiresAfter, or ask within a window"
    if line.standing is Standing.SCHEDULED:
        then = Condition(Code.SCHEDULED, f"{line.why}; then {why}", remedy)
        return replace(line, condition=then)
    waits = Condition(Code.WINDOW_CLOSED, f"{why}; {line.why}", remedy)
    return _stands(line, Standing.WAITING, waits)


def _with_meaning(
    line: Disruption, wish: OneShot, desired: DesiredServer, robots: Sequence[Robot]
) -> Disruption:
    running = tuple(robot for robot in robots if robot.running)
    if wish.kind is RequestKind.CACHE:
        asleep = [robot.name for robot in robots if not robot.running]
        lost = f"; what stopped robots saved is lost: {', '.join(asleep)}" if asleep else ""
        stored = f"{line.why}; robots store data in the cache{lost}"
        return replace(_says(line, stored), robots=())
    after = "are started again" if wish.robots is Afterwards.RESUME else "stay stopped"
    names = ", ".join(robot.name for robot in running) or "none of this account"
    others = (
        ""
        if desired.sole_account
        else "; robots of other accounts, which we cannot see, stop too and stay stopped"
    )
    why = f"{line.why}; robots that stop and {after}: {names}{others}"
    return replace(_says(line, why), robots=running)


def _action(wish: OneShot, *, again: bool = False) -> InvalidateCache | RebootServer:
    if wish.kind is RequestKind.CACHE:
        return InvalidateCache(wish.instant, wish.reason)
    within = wish.resume_within.total_seconds()
    return RebootServer(wish.instant, wish.reason, wish.robots, within, again)


def _held(line: Disruption, condition: Condition) -> Disruption:
    return _stands(line, Standing.HELD, condition)


def _stands(line: Disruption, standing: Standing, condition: Condition) -> Disruption:
    return replace(line, standing=standing, condition=condition)


def _says(line: Disruption, what: str) -> Disruption:
    return replace(line, condition=line.condition.says(what))


def _again(kind: RequestKind) -> str:
    return f"ask with a new instant: {how_to_ask(kind)}"


def how_to_ask(
    kind: RequestKind, server: str = "SERVER", *, robots: str = "resume|leave", reason: str = "TEXT"
) -> str:
    """Return what a person types to ask for one; what came from outside is quoted by the caller."""
    return _ASK[kind].format(server=server, robots=robots, reason=reason)


def named(kind: RequestKind, instant: datetime) -> str:
    return f"{kind} {spelled(instant)}"
