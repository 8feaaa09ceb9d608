"""Why a server as a whole may be changed, or may not."""

from collections.abc import Iterator

from reconciler.model.conditions import Code, Condition
from reconciler.model.desired import (
    Mode,
)
from reconciler.model.explanation import Check
from reconciler.model.timestamps import spelled
from reconciler.model.values import replace
from reconciler.plan.explain.inputs import Known, no, unknown, yes
from reconciler.plan.server import OBSERVED_ONLY, STALE, another_server


def server_checks(known: Known) -> Iterator[Check]:
    desired, plan, facts = known.desired, known.plan, known.facts
    hold = plan.hold
    yield _address(known)
    yield _agreed(known)
    yield _seen(known)
    if known.observation is not None:
        claim = "it is the server that we know"
        swapped = hold is not None and hold.code == Code.ANOTHER_SERVER
        if swapped and hold is not None:
            yield no(claim, hold)
        elif another_server(known.observation, known.recorded):
            yield yes(claim, "somebody agreed that it is another one")
        else:
            yield yes(claim, "keys that we wrote and robots that we knew are there, or were none")
    claim = "nobody suspended it"
    suspended = desired.suspend
    if hold is not None and hold.code == Code.SUSPENDED:
        yield no(claim, hold)
    elif suspended is not None and suspended.until is not None:
        yield yes(claim, f"its suspension ended {spelled(suspended.until)}")
    else:
        yield yes(claim)
    claim = "its document lets changes be applied"
    if desired.mode is Mode.OBSERVE:
        yield no(claim, OBSERVED_ONLY)
    else:
        yield yes(claim, "mode: enforce")
    claim = "no brake is on, and its version of JT-Trader was tested"
    if facts is None:
        yield unknown(claim, Condition(Code.NEVER_SEEN, "it was not looked at"))
    elif facts.refuses is not None:
        yield no(claim, facts.refuses)
    else:
        yield yes(claim)


def _address(known: Known) -> Check:
    claim, hold = "its address is the one that we know", known.plan.hold
    identity, target = known.recorded.identity, known.desired.target
    if hold is not None and hold.code == Code.ADDRESS_CHANGED:
        return no(claim, hold)
    if identity is None:
        return yes(claim, f"{target}, of which this ledger knows nothing yet")
    if identity.target != target:
        return yes(claim, f"{target}; somebody agreed that it changed")
    return yes(claim, str(target))


def _agreed(known: Known) -> Check:
    claim, plan = "it had before what it gets, or somebody agreed", known.plan
    if plan.hold is not None and plan.hold.code == Code.NEW_RECIPIENT:
        return no(claim, plan.hold)
    if not plan.new_recipient:
        return yes(claim, "it gets nothing new")
    told = "; ".join(one.what for one in plan.new_recipient)
    if known.facts is not None and known.facts.live:
        return yes(claim, f"new: {told}")
    return unknown(claim, Condition(Code.NEW_RECIPIENT, f"new, and asked about at a visit: {told}"))


def _seen(known: Known) -> Check:
    claim, seen, failure = "it was seen", known.observation, known.plan.failure
    if failure is not None:
        since = f"; last seen {seen.at} by {seen.by}" if seen is not None else ""
        why = Condition.of(failure)
        return no(claim, why.says(f"{why.what}{since}"))
    if seen is None:
        if known.plan.hold is not None:
            return unknown(claim, Condition(Code.NEVER_SEEN, "it was not contacted"))
        return unknown(claim, Condition(Code.NEVER_SEEN, "this ledger holds no observation of it"))
    age = known.plan.age
    if age is not None and age > known.believed:
        stale = Condition(
            Code.STALE,
            f"by {seen.by}, JT-Trader {seen.version}, longer ago than durations.stale",
            STALE.remedy,
        )
        return replace(unknown(claim, stale), since=seen.at)
    return yes(claim, f"by {seen.by}, JT-Trader {seen.version}", since=seen.at)
