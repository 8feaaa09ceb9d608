"""
Where each wish for a reboot or an invalidation stands.  Pure.

A reboot stops trading and an invalidation destroys what robots stored, so each is done at most once
for its instant; what is unknown goes to people.  Log lines of a server are compared with log lines
only; a server's time is compared with an instant only through a measured offset.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import datetime

from reconciler.errors import Exit
from reconciler.ledger.request_state import owed
from reconciler.model.actions import InvalidateCache, RebootServer
from reconciler.model.desired import Afterwards, DesiredServer, OneShot, RequestKind
from reconciler.model.observed import Robot
from reconciler.model.plan import Disruption, Standing
from reconciler.model.recorded import MOST_ATTEMPTS, PendingStarts, Request, Requests, Stage
from reconciler.model.timestamps import spelled
from reconciler.plan.boot_proof import Proof, new_boots, proof, satisfies
from reconciler.plan.inputs import Terms
from reconciler.plan.windows import standing

ASK_AGAIN = "ask with a new instant: jtr request"
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
    quiet: str,
    refuses: tuple[str, str],
) -> Iterator[Disruption]:
    """
    Say where every request stands: those of the documents, and one that is open in the ledger.

    *quiet* says why none is done now; *refuses* why nothing may be written to this server, and
    what to do about it.
    """
    wished = {(wish.kind, wish.instant) for wish in desired.one_shots}
    doubt, settled = requests.open, requests
    if doubt is not None:
        line = unsettled(doubt, terms)
        if line.standing is Standing.FOUND_OUT and _booted(doubt, terms):
            settled = replace(requests, open=None)  # noted by the time that the next one begins
        if (doubt.kind, doubt.instant) not in wished:
            yield line
    for wish in desired.one_shots:
        line = _standing(wish, requests, terms)
        if terms.unsteady and line.standing in TIMELY:
            later = line.standing is Standing.SCHEDULED
            held = Exit.DONE if later else Exit.BLOCKED
            line = replace(_held(line, terms.unsteady), error=held)
        if line.standing is Standing.DUE:
            line = _with_limits(line, settled, terms, refuses)
        if line.standing is Standing.DUE and quiet:
            line = _held(line, quiet)
        if line.standing in (Standing.DUE, Standing.SCHEDULED):
            line = _in_window(line, wish, desired, terms)
            line = _with_meaning(line, wish, desired, robots)
        yield line


def _standing(wish: OneShot, requests: Requests, terms: Terms) -> Disruption:
    base = Disruption(
        named(wish.kind, wish.instant),
        Standing.DUE,
        wish.reason,
        kind=wish.kind,
        instant=wish.instant,
        source=wish.source,
        action=_action(wish),
    )
    nothing = replace(base, action=None)
    doubt = requests.open
    if doubt is not None and (doubt.kind, doubt.instant) == (wish.kind, wish.instant):
        return unsettled(doubt, terms, wish)
    if (past := requests.closed(wish.kind, wish.instant)) is not None:
        return _past(nothing, past)
    handled = requests.handled.get(wish.kind)
    if handled is not None and wish.instant <= handled:
        return replace(
            nothing,
            standing=Standing.SUPERSEDED,
            why=f"one of {spelled(handled)} was handled already; an earlier one is never done",
        )
    if terms.baseline is not None and wish.instant < terms.baseline:
        return replace(
            nothing,
            standing=Standing.BASELINED,
            why=f"older than what this ledger knows ({spelled(terms.baseline)}); never run",
            remedy=f"{ASK_AGAIN} {wish.kind}",
        )
    if terms.now < wish.instant:
        return replace(base, standing=Standing.SCHEDULED)
    if wish.kind is RequestKind.REBOOT and _satisfied(wish.instant, terms):
        return replace(
            nothing,
            standing=Standing.SATISFIED,
            why="the server booted after that instant without us",
        )
    if terms.now - wish.instant > wish.expires_after:
        return replace(
            nothing,
            standing=Standing.EXPIRED,
            why=f"it was to be done until {spelled(wish.instant + wish.expires_after)}",
            remedy=f"{ASK_AGAIN} {wish.kind}; or remove it",
            error=Exit.BLOCKED,
        )
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
            return replace(base, standing=Standing.DONE, why=past.evidence)
        case Stage.SATISFIED:
            return replace(base, standing=Standing.SATISFIED, why=past.evidence)
        case Stage.BASELINED:
            return replace(base, standing=Standing.BASELINED, why="never run: " + past.evidence)
        case _:
            return replace(
                base,
                standing=Standing.NOT_DONE,
                why=past.evidence,
                remedy=f"{ASK_AGAIN} {past.kind}; or remove it",
                error=Exit.BLOCKED,
            )


def unsettled(request: Request, terms: Terms, wish: OneShot | None = None) -> Disruption:
    """Say what is known of a request that was, or may have been, sent."""
    base = Disruption(
        named(request.kind, request.instant),
        Standing.IN_DOUBT,
        kind=request.kind,
        instant=request.instant,
        source=wish.source if wish else None,
        robots=request.ran,
        error=Exit.IN_DOUBT,
        remedy=(
            f"find out on the server, then jtr request resolve SERVER {request.kind} "
            f"{spelled(request.instant)} --done|--not-done --because TEXT"
        ),
    )
    asked = f"asked {request.asked_at} by {request.attempts[-1].by if request.attempts else '?'}"
    if request.kind is RequestKind.CACHE:
        return replace(
            base,
            why=f"{asked}, no answer was noted; an invalidation leaves no evidence, and is never "
            "repeated",
        )
    if not request.attempts:
        return replace(base, why="nothing is known of it")
    found_out = replace(base, standing=Standing.FOUND_OUT, remedy="", error=Exit.DONE)
    match proof(request.attempts[-1], terms.log):
        case Proof.BOOTED:
            return replace(found_out, why=f"{asked}; the server booted since: done")
        case Proof.ALIVE if _may_try_again(request, wish, terms):
            action = _action(wish, again=True) if wish is not None else None
            why = (
                f"{asked}, and provably not done: the process from before still runs; "
                "second and last try"
            )
            return replace(found_out, standing=Standing.DUE, why=why, action=action)
        case Proof.ALIVE:
            why = f"{asked}; provably not done: the process from before still runs"
            return replace(found_out, why=why)
    if terms.log is None:
        return replace(base, why=f"{asked}, outcome not noted; only a visit can tell")
    return replace(base, why=f"{asked}; the system log cannot tell whether the server booted")


def left_owed(request: Request, terms: Terms) -> PendingStarts | None:
    """Return the robots that an open reboot leaves owed, once the log proves that it is done."""
    if terms.log is None or not _booted(request, terms):
        return None
    lines = new_boots(request.attempts[-1], terms.log)
    halt = owed(replace(request, boot=lines[-1]))
    return replace(halt, finding=BOOTED_TWICE) if halt is not None and len(lines) > 1 else halt


def _booted(request: Request, terms: Terms) -> bool:
    return bool(request.attempts) and proof(request.attempts[-1], terms.log) is Proof.BOOTED


def _may_try_again(request: Request, wish: OneShot | None, terms: Terms) -> bool:
    if wish is None or len(request.attempts) >= MOST_ATTEMPTS:
        return False
    return terms.now - wish.instant <= wish.expires_after


def _with_limits(
    line: Disruption, requests: Requests, terms: Terms, refuses: tuple[str, str]
) -> Disruption:
    mine, doubt = (line.kind, line.instant), requests.open
    if doubt is not None and (doubt.kind, doubt.instant) != mine:
        if unsettled(doubt, terms).standing is Standing.FOUND_OUT:
            # It may have stopped robots that the next one would not know of.
            why = "the one before it was not done: people look first; the next apply does it"
            return _held(line, why)
        return _held(line, "another request of this server is in doubt", LOOK)
    if requests.halt is not None:
        return _held(line, "robots of an earlier restart or reboot are owed a start", LOOK)
    if terms.refused:
        return _blocked(line, terms.refused, terms.remedy)
    if refuses[0]:
        return _blocked(line, *refuses)
    if terms.log is not None and line.kind is RequestKind.REBOOT:
        if not terms.log.readable:
            return _blocked(
                line,
                "its system log cannot be read, so nobody could tell whether it rebooted",
                "see why on its Config page (System logs); or reboot it by hand",
            )
        if terms.log.strangers:
            return _blocked(
                line,
                "its system log holds entries of several processes at once, so it proves nothing",
                "see whether two processes of JT-Trader share one log",
            )
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
        return replace(line, why=f"{line.why}; then {why}", remedy=remedy)
    return replace(line, standing=Standing.WAITING, why=f"{why}; {line.why}", remedy=remedy)


def _with_meaning(
    line: Disruption, wish: OneShot, desired: DesiredServer, robots: Sequence[Robot]
) -> Disruption:
    running = tuple(robot for robot in robots if robot.running)
    if wish.kind is RequestKind.CACHE:
        asleep = [robot.name for robot in robots if not robot.running]
        lost = f"; what stopped robots saved is lost: {', '.join(asleep)}" if asleep else ""
        return replace(line, robots=(), why=f"{line.why}; robots store data in the cache{lost}")
    after = "are started again" if wish.robots is Afterwards.RESUME else "stay stopped"
    names = ", ".join(robot.name for robot in running) or "none of this account"
    others = (
        ""
        if desired.sole_account
        else "; robots of other accounts, which we cannot see, stop too and stay stopped"
    )
    why = f"{line.why}; robots that stop and {after}: {names}{others}"
    return replace(line, robots=running, why=why)


def _action(wish: OneShot, *, again: bool = False) -> InvalidateCache | RebootServer:
    if wish.kind is RequestKind.CACHE:
        return InvalidateCache(wish.instant, wish.reason)
    within = wish.resume_within.total_seconds()
    return RebootServer(wish.instant, wish.reason, wish.robots, within, again)


def _held(line: Disruption, why: str, remedy: str = "") -> Disruption:
    return replace(line, standing=Standing.HELD, why=why, remedy=remedy)


def _blocked(line: Disruption, why: str, remedy: str) -> Disruption:
    return replace(line, standing=Standing.BLOCKED, why=why, remedy=remedy, error=Exit.BLOCKED)


def named(kind: RequestKind, instant: datetime) -> str:
    return f"{kind} {spelled(instant)}"
