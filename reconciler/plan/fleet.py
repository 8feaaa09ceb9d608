"""
What holds for the servers of a fleet together: how many are written unverified, who is a twin.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final

from reconciler.model.actions import (
    Action,
    DeleteExchange,
    InvalidateCache,
    RebootServer,
    RestartRobots,
    ResumeRobots,
    WriteExchange,
)
from reconciler.model.conditions import Code, Condition, blocked
from reconciler.model.observed import BootLine
from reconciler.model.plan import Disruption, Line, ServerPlan, Standing, Status
from reconciler.model.target import Target
from reconciler.model.values import replace
from reconciler.model.wording import counted
from reconciler.policy.model import NO_LIMITS, Limits

Kinds = type[Action] | tuple[type[Action], ...]
SERVERS: Final = "servers"
ANY_CHANGE: Final = (WriteExchange, DeleteExchange, RestartRobots, InvalidateCache, RebootServer)
LIMITED: Final[Mapping[str, tuple[type[Action], str]]] = {
    "deletes": (DeleteExchange, "deletes"),
    "restarts": (RestartRobots, "robots to restart"),
    "reboots": (RebootServer, "reboots"),
    "invalidations": (InvalidateCache, "invalidations"),
}
"""What a policy limits, by the name of its limit."""

UNSEEN: Final = Condition(Code.OTHERS_UNSEEN, "other servers were not looked at yet")
LINES: Final = 20  # boot lines of a server that are compared; a hostile log may have any number


def limit_unverified(
    plans: Sequence[ServerPlan], most: int, *, before: int = 0
) -> tuple[ServerPlan, ...]:
    """
    Hold back the writes of unknown verdicts on all servers after the first *most*.

    *before* servers had such writes already.
    """
    limited, counted = [], before
    for plan in plans:
        if any(_unverified(action) for action in plan.actions):
            counted += 1
        if counted > most:
            limited.append(replace(plan, lines=tuple(_held_back(plan.lines, most))))
        else:
            limited.append(plan)
    return tuple(limited)


class BootLines:
    """
    The newest boot lines of many servers, and who is a twin by them: one process, two addresses.

    Oldest line first; none where a log does not tell.  One of them may have been seen before the
    last boot: then its newest line stands among the other one's, after the same lines.  Several
    accounts at one address are meant to be one process.
    """

    def __init__(self) -> None:
        self._lines: Final[dict[Target, tuple[BootLine, ...]]] = {}
        self._holding: Final[dict[BootLine, set[Target]]] = {}

    def targets(self) -> frozenset[Target]:
        """Return those whose lines are known."""
        return frozenset(self._lines)

    def see(self, target: Target, lines: Sequence[BootLine]) -> None:
        """Take the newest lines of a server in place of earlier ones."""
        newest = tuple(lines)[-LINES:]
        if newest == self._lines.get(target, ()):
            return
        self.drop(target)
        if newest:
            self._lines[target] = newest
        for line in newest:
            self._holding.setdefault(line, set()).add(target)

    def drop(self, target: Target) -> None:
        for line in set(self._lines.pop(target, ())):
            self._holding[line].discard(target)
            if not self._holding[line]:
                del self._holding[line]

    def twin(self, target: Target) -> bool:
        """Whether another address seems to lead to the same process; looks at no others."""
        lines = self._lines.get(target, ())
        others = {other for line in lines for other in self._holding[line]}
        return any(
            _goes_on(lines, self._lines[other]) or _goes_on(self._lines[other], lines)
            for other in others
            if other.url != target.url
        )


def twins(boots: Iterable[tuple[Target, Sequence[BootLine]]]) -> frozenset[Target]:
    """Return the targets whose boot lines are those of one process at different addresses."""
    seen = BootLines()
    for target, lines in boots:
        seen.see(target, lines)
    return frozenset(filter(seen.twin, seen.targets()))


def _goes_on(older: tuple[BootLine, ...], newer: tuple[BootLine, ...]) -> bool:
    """Whether *newer* may be *older* at a later moment, as far back as both reach."""
    if older[-1] not in newer:
        return False
    until = len(newer) - newer[::-1].index(older[-1])
    both = min(len(older), until)
    return older[-both:] == newer[until - both : until]


def hold_twins(
    plans: Iterable[ServerPlan], boots: Iterable[tuple[Target, Sequence[BootLine]]]
) -> tuple[ServerPlan, ...]:
    """Hold back the one-shots of plans that are `twins` by *boots*: they are one server."""
    two = twins(boots)
    return tuple(hold_twin(plan) if plan.target in two else plan for plan in plans)


def hold_twin(plan: ServerPlan) -> ServerPlan:
    """Hold back the one-shots of a plan: another document names the same server."""
    return replace(plan, disruptions=tuple(_without_one_shots(plan.disruptions)))


def _without_one_shots(lines: Iterable[Disruption]) -> Iterator[Disruption]:
    for line in lines:
        if isinstance(line.ready, InvalidateCache | RebootServer):
            why = blocked(
                Code.TWIN,
                "another document names the same server: their boot lines are equal",
                "keep one document of it, or see what answers at the two addresses",
            )
            yield replace(line, standing=Standing.BLOCKED, condition=why)
        else:
            yield line


def counts(plan: ServerPlan) -> Counter[str]:
    """
    Count what a policy limits: the actions of each kind, robots in place of restarts.

    `SERVERS` is there where anything is done but starts of robots that we stopped: these come,
    whatever else is too much.
    """
    found: Counter[str] = Counter()
    for action in plan.actions:
        for name, (kind, _) in LIMITED.items():
            if isinstance(action, kind):
                found[name] += len(action.robots) if isinstance(action, RestartRobots) else 1
    if any(not isinstance(action, ResumeRobots) for action in plan.actions):
        found[SERVERS] = 1
    return found


def limit_actions(
    plans: Sequence[ServerPlan], limits: Limits, fleet: int, *, before: Counter[str] | None = None
) -> tuple[ServerPlan, ...]:
    """
    Hold back everything of a kind of which the plans together would do more than *limits* allow.

    Not all but the first few: a plan that deletes fifty exchanges where two are allowed is a
    mistake.  *fleet* is the number of servers that the documents name, *before* what other plans
    did already.
    """
    if limits == NO_LIMITS:
        return tuple(plans)
    total = sum(map(counts, plans), before or Counter())
    for name, (kind, what) in LIMITED.items():
        limit = getattr(limits, name)
        if limit is not None and total[name] > limit:
            why = f"{total[name]} {what} in this pass, and limits.{name} of the policy is {limit}"
            plans = [_without(plan, kind, why) for plan in plans]
    share = limits.servers_changed
    if share is not None and total[SERVERS] > max(1, fleet * share // 100):
        why = (
            f"{total[SERVERS]} of {counted(fleet, 'server')} would change in this pass, and "
            f"limits.serversChanged of the policy is {share} %"
        )
        plans = [_without(plan, ANY_CHANGE, why) for plan in plans]
    return tuple(plans)


def _without(plan: ServerPlan, kinds: Kinds, why: str) -> ServerPlan:
    """Return *plan* with its actions of some kinds blocked."""
    remedy = "see whether so much is meant; then fewer at a time (--server), or a higher limit"
    limit = blocked(Code.POLICY_LIMIT, why, remedy)

    def line(one: Line) -> Line:
        if not isinstance(one.ready, kinds):
            return one
        return replace(one, status=Status.BLOCKED, action=None, condition=limit)

    def disruption(one: Disruption) -> Disruption:
        if not isinstance(one.ready, kinds):
            return one
        return replace(one, standing=Standing.BLOCKED, action=None, condition=limit)

    return replace(
        plan,
        lines=tuple(map(line, plan.lines)),
        disruptions=tuple(map(disruption, plan.disruptions)),
    )


def _unverified(action: Action | None) -> bool:
    return isinstance(action, WriteExchange) and action.unverified


def _held_back(lines: Iterable[Line], most: int) -> Iterator[Line]:
    for line in lines:
        if _unverified(line.ready):
            limit = blocked(
                Code.UNVERIFIED_LIMIT,
                f"{line.why}; more than {most} servers have such writes in this pass",
                "apply again for the next ones, or raise maxUnknownWrites in the settings",
            )
            yield replace(line, status=Status.BLOCKED, action=None, condition=limit)
        else:
            yield line
