"""Why a reboot or an invalidation is done, waits, or never comes."""

from collections.abc import Iterator
from typing import Final

from reconciler.model.actions import ResumeRobots
from reconciler.model.conditions import Code, Condition
from reconciler.model.desired import (
    OneShot,
    RequestKind,
)
from reconciler.model.explanation import Check, Explanation, Holds, Source, together
from reconciler.model.plan import Disruption, Standing
from reconciler.model.policy import PolicyAction
from reconciler.model.recorded import Request, Stage
from reconciler.model.timestamps import spelled
from reconciler.model.values import replace
from reconciler.plan.explain.inputs import Known, no, observed, unknown, unplanned, with_own, yes
from reconciler.plan.explain.server import server_checks
from reconciler.plan.inputs import DENIED, Facts
from reconciler.plan.requests import LOOK, account_suspended, how_to_ask, named
from reconciler.plan.windows import standing


def explain_request(known: Known, kind: RequestKind) -> Explanation:
    """Say why a reboot or an invalidation is done, waits, or never comes."""
    wish = known.desired.asked(kind)
    line = _request_line(known, kind, wish)
    checks = [together("the server may be changed", server_checks(known))]
    if wish is None:
        checks.append(_unasked(kind))
    else:
        checks.append(together("it is still to be done", _wanted(known, wish)))
        checks.append(together("it may be done now", _allowed(known, wish)))
    if line is not None:
        condition = line.condition
    else:
        condition = unplanned(known) if wish is not None else _NOT_ASKED
    return Explanation(
        subject=f"{known.desired.name}/{'cache' if kind is RequestKind.CACHE else kind}",
        stands=str(line.standing) if line is not None else "not planned",
        does=line is not None and line.ready is not None and line.ready in known.plan.actions,
        condition=condition,
        held=known.plan.hold,
        checks=with_own(checks, condition, acts=line is not None and line.ready is not None),
        sources=tuple(_request_sources(known, kind, wish)),
        at=known.now.isoformat(),
    )


_NOT_ASKED: Final = Condition(Code.NOT_ASKED, "no document asks for one")


def _request_line(known: Known, kind: RequestKind, wish: OneShot | None) -> Disruption | None:
    lines = [one for one in known.plan.disruptions if one.kind is kind]
    mine = [one for one in lines if wish is not None and one.instant == wish.instant]
    return next(iter((*mine, *lines)), None)


def _unasked(kind: RequestKind) -> Check:
    return no("a document asks for it", replace(_NOT_ASKED, remedy=how_to_ask(kind)))


def _wanted(known: Known, wish: OneShot) -> Iterator[Check]:
    yield yes("a document asks for it", f"{named(wish.kind, wish.instant)}, {wish.source}")
    requests, terms = known.recorded.requests, None if known.facts is None else known.facts.terms
    claim = "it was not handled yet"
    past = requests.closed(wish.kind, wish.instant)
    handled = requests.handled.get(wish.kind)
    if past is not None:
        why = Condition(_HANDLED[past.stage], past.evidence or str(past.stage))
        yield no(claim, why, past.closed_at)
    elif handled is not None and wish.instant <= handled:
        later = f"one of {spelled(handled)} was handled already"
        yield no(claim, Condition(Code.SUPERSEDED, later), spelled(handled))
    else:
        yield yes(claim)
    mine, line = requests.open, _request_line(known, wish.kind, wish)
    if mine is not None and (mine.kind, mine.instant) == (wish.kind, wish.instant):
        if line is not None and line.ready is not None:
            yield yes("it was not done yet", "that is proved; this is the second and last try")
            return
        why = Condition(Code.IN_DOUBT, f"it was sent, or about to be, by {_by(mine)}")
        yield Check("it was not sent yet", Holds.UNKNOWN, why.what, why.code, since=mine.asked_at)
    if terms is None:
        yield unknown("its time has come", Condition(Code.NEVER_SEEN, "it was not judged"))
        return
    yield from _in_time(known, wish)


_HANDLED: Final = {
    Stage.DONE: Code.DONE,
    Stage.NOT_DONE: Code.NOT_DONE,
    Stage.SATISFIED: Code.SATISFIED,
    Stage.BASELINED: Code.BASELINED,
    Stage.OPEN: Code.IN_DOUBT,
}


def _by(request: Request) -> str:
    return request.attempts[-1].by if request.attempts else "nobody knows whom"


def _in_time(known: Known, wish: OneShot) -> Iterator[Check]:
    if known.facts is None:
        return
    terms, claim = known.facts.terms, "it is younger than what this ledger knows"
    ledger_since = terms.baseline
    if ledger_since is not None and wish.instant < ledger_since:
        older = f"the ledger knows nothing from before {spelled(ledger_since)}"
        yield no(claim, Condition(Code.BASELINED, older))
    else:
        yield yes(claim, spelled(ledger_since) if ledger_since else "")
    claim = "our clock can be trusted"
    if terms.unsteady:
        yield no(claim, Condition(Code.CLOCK_UNSTEADY, terms.unsteady))
    else:
        yield yes(claim)
    claim = "its time has come"
    if terms.now < wish.instant:
        yield no(claim, Condition(Code.SCHEDULED, f"it comes {spelled(wish.instant)}"))
    else:
        yield yes(claim, since=spelled(wish.instant))
    claim, until = "it has not expired", wish.instant + wish.expires_after
    if terms.now > until:
        yield no(claim, Condition(Code.EXPIRED, f"{spelled(until)} is over"), spelled(until))
    else:
        yield yes(claim, f"until {spelled(until)}")


def _allowed(known: Known, wish: OneShot) -> Iterator[Check]:
    facts, line = known.facts, _request_line(known, wish.kind, wish)
    if facts is None:
        yield unknown("it may be done", Condition(Code.NEVER_SEEN, "it was not judged"))
        return
    action = PolicyAction.REBOOT if wish.kind is RequestKind.REBOOT else PolicyAction.INVALIDATE
    claim = f"the policy allows to {action}"
    denied = facts.denied(action)
    yield (
        yes(claim)
        if denied is None
        else no(claim, Condition(DENIED.code, denied.what, denied.remedy))
    )
    yield _earlier(known, wish, line)
    claim = "the ledger can tell what was done"
    refused = facts.terms.refused
    yield yes(claim) if refused is None else no(claim, refused)
    if wish.kind is RequestKind.REBOOT:
        yield _provable(facts)
    claim = "its windows are open"
    if not known.desired.windows:
        yield yes(claim, "it has none")
    else:
        opening = standing(known.desired.windows, max(facts.terms.now, wish.instant))
        closed = Condition(Code.WINDOW_CLOSED, opening.why, "wait, or change its windows")
        yield yes(claim) if opening.open else no(claim, closed)
    claim, quiet = "robots may be disturbed by this run", known.consents.quiet
    yield yes(claim) if quiet is None else no(claim, quiet)
    claim, pause = (
        "no other account of its process is paused",
        account_suspended(known.desired, facts.terms.over_by),
    )
    yield yes(claim) if pause is None else no(claim, pause)
    if line is not None and line.code in (Code.TWIN, Code.POLICY_LIMIT):
        yield no("nothing else in this pass stands against it", line.condition)


def _earlier(known: Known, wish: OneShot, line: Disruption | None) -> Check:
    claim = "nothing of an earlier request is open"
    open_ = list(_open_ends(known, wish))
    for why, since, settled in open_:
        if not settled:
            return no(claim, why, since)
    if line is not None and line.code in (Code.EARLIER_OPEN, Code.ROBOTS_OWED):
        return no(claim, line.condition)  # it is settled first, and leaves something for people
    return yes(claim, "what is open is settled first, in the same pass" if open_ else "")


def _open_ends(known: Known, wish: OneShot) -> Iterator[tuple[Condition, str, bool]]:
    """Yield what is open of other requests: what, since when, whether this pass settles it."""
    other, halt = known.recorded.requests.open, known.recorded.requests.halt
    lines = known.plan.disruptions
    if other is not None and (other.kind, other.instant) != (wish.kind, wish.instant):
        own = [one for one in lines if (one.kind, one.instant) == (other.kind, other.instant)]
        why = f"{named(other.kind, other.instant)} is not settled"
        settled = any(one.standing in (Standing.FOUND_OUT, Standing.DUE) for one in own)
        yield Condition(Code.EARLIER_OPEN, why, LOOK), other.asked_at, settled
    if halt is not None:
        robots = ", ".join(robot.name for robot in halt.robots)
        why = f"robots are owed a start: {robots}"
        # Of what belongs to no request only they are started or found out; the rest are restarts.
        settled = any(
            one.standing is Standing.FOUND_OUT or isinstance(one.ready, ResumeRobots)
            for one in lines
            if one.kind is None
        )
        yield Condition(Code.ROBOTS_OWED, why, LOOK), halt.at, settled


def _provable(facts: Facts) -> Check:
    claim, log = "its log can prove a reboot", facts.terms.log
    if log is None:
        return unknown(claim, Condition(Code.LOG_UNREADABLE, "only a visit tells"))
    if not log.readable:
        return no(claim, Condition(Code.LOG_UNREADABLE, "its system log cannot be read"))
    if log.strangers:
        return no(claim, Condition(Code.LOG_OF_SEVERAL, "several processes write into its log"))
    return yes(claim)


def _request_sources(known: Known, kind: RequestKind, wish: OneShot | None) -> Iterator[Source]:
    if wish is not None:
        yield Source("document", str(wish.source))
    yield from observed(known)
    requests = known.recorded.requests
    for one in (requests.open, requests.closed(kind, wish.instant) if wish else None):
        if one is not None and one.kind is kind:
            when = f", {one.closed_at} by {one.closed_by}" if one.closed_at else ""
            yield Source("ledger", f"{named(one.kind, one.instant)}: {one.stage}{when}")
    handled = requests.handled.get(kind)
    if handled is not None:
        yield Source("ledger", f"newest {kind} that was handled: {spelled(handled)}")
