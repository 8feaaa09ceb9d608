"""What an explanation is made of, and how its conditions are put together."""

from collections.abc import Iterator
from datetime import datetime
from typing import Final

from msgspec import Struct

from reconciler.model.conditions import Code, Condition
from reconciler.model.desired import DesiredServer
from reconciler.model.explanation import Check, Holds, Source
from reconciler.model.plan import ServerPlan
from reconciler.model.recorded import Observation, Recorded
from reconciler.plan.inputs import Consents, Facts

SEEN_LATELY: Final = 86_400.0


class Known(Struct, frozen=True):
    """What a plan of one server was made of, and the plan; facts are None where it was not made."""

    desired: DesiredServer
    observation: Observation | None
    recorded: Recorded
    facts: Facts | None
    consents: Consents
    plan: ServerPlan
    now: datetime
    believed: float = SEEN_LATELY


def unplanned(known: Known) -> Condition:
    """Say why there is no line: the server as a whole is why."""
    if known.plan.failure is not None:
        return Condition.of(known.plan.failure)
    if known.plan.hold is not None:
        return known.plan.hold
    return Condition(Code.NEVER_SEEN, "it was not compared")


def with_own(checks: list[Check], condition: Condition | None, *, acts: bool) -> tuple[Check, ...]:
    """Return the checks, and what the plan says against it where no check says so itself."""
    if condition is None or acts:
        return tuple(checks)
    if any(_against(check, condition.code) for check in checks):
        return tuple(checks)
    return (*checks, no("nothing else stands against it", condition))


def _against(check: Check, code: str) -> bool:
    return check.code == code or any(_against(one, code) for one in check.below)


def yes(claim: str, what: str = "", since: str = "") -> Check:
    return Check(claim, Holds.YES, what, since=since)


def no(claim: str, why: Condition, since: str = "") -> Check:
    return Check(claim, Holds.NO, why.what, why.code, why.remedy, since)


def unknown(claim: str, why: Condition) -> Check:
    return Check(claim, Holds.UNKNOWN, why.what, why.code, why.remedy)


def observed(known: Known) -> Iterator[Source]:
    seen = known.observation
    if seen is not None:
        yield Source("observation", f"{seen.at} by {seen.by}, JT-Trader {seen.version}")
