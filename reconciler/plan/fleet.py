"""
What holds for the servers of a fleet together: how many are written unverified, who is a twin.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Final

from reconciler.errors import Exit
from reconciler.model.actions import Action, InvalidateCache, RebootServer, WriteExchange
from reconciler.model.observed import BootLine
from reconciler.model.plan import Disruption, Line, ServerPlan, Standing, Status
from reconciler.model.target import Target

UNSEEN: Final = "other servers were not looked at yet"
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


def twins(boots: Iterable[tuple[Target, Sequence[BootLine]]]) -> frozenset[Target]:
    """
    Return the targets whose boot lines are those of one process at different addresses.

    Oldest line first; none where a log does not tell.  One of them may have been seen before the
    last boot: then its newest line stands among the other one's, after the same lines.  Several
    accounts at one address are meant to be one process.
    """
    seen = [(target, tuple(lines)[-LINES:]) for target, lines in boots if lines]
    holding: dict[BootLine, list[tuple[Target, tuple[BootLine, ...]]]] = {}
    for target, lines in seen:
        for line in dict.fromkeys(lines):
            holding.setdefault(line, []).append((target, lines))
    found: set[Target] = set()
    for target, lines in seen:
        for other, others in holding[lines[-1]]:
            if other.url != target.url and _goes_on(lines, others):
                found |= {target, other}
    return frozenset(found)


def _goes_on(older: tuple[BootLine, ...], newer: tuple[BootLine, ...]) -> bool:
    """Whether *newer* may be *older* at a later moment, as far back as both reach."""
    until = len(newer) - newer[::-1].index(older[-1])
    both = min(len(older), until)
    return older[-both:] == newer[until - both : until]


def hold_twins(
    plans: Iterable[ServerPlan], boots: Iterable[tuple[Target, Sequence[BootLine]]]
) -> tuple[ServerPlan, ...]:
    """Hold back the one-shots of plans that are `twins` by *boots*: they are one server."""
    two = twins(boots)
    return tuple(
        replace(plan, disruptions=tuple(_without_one_shots(plan.disruptions)))
        if plan.target in two
        else plan
        for plan in plans
    )


def _without_one_shots(lines: Iterable[Disruption]) -> Iterator[Disruption]:
    for line in lines:
        if isinstance(line.ready, InvalidateCache | RebootServer):
            yield replace(
                line,
                standing=Standing.BLOCKED,
                why="another document names the same server: their boot lines are equal",
                remedy="keep one document of it, or see what answers at the two addresses",
                error=Exit.BLOCKED,
            )
        else:
            yield line


def _unverified(action: Action | None) -> bool:
    return isinstance(action, WriteExchange) and action.unverified


def _held_back(lines: Iterable[Line], most: int) -> Iterator[Line]:
    for line in lines:
        if _unverified(line.ready):
            yield replace(
                line,
                status=Status.BLOCKED,
                action=None,
                error=Exit.BLOCKED,
                why=f"{line.why}; more than {most} servers have such writes in this pass",
                remedy="apply again for the next ones, or raise maxUnknownWrites in the settings",
            )
        else:
            yield line
