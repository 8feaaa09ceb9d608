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


def twins(boots: Iterable[tuple[Target, BootLine | None]]) -> frozenset[Target]:
    """
    Return the targets whose newest boot lines are equal at different addresses: one server.

    None where a log does not tell.  Several accounts at one address are meant to be one process.
    """
    found: dict[BootLine, set[Target]] = {}
    for target, boot in boots:
        if boot is not None:
            found.setdefault(boot, set()).add(target)
    several = (group for group in found.values() if len({target.url for target in group}) > 1)
    return frozenset(target for group in several for target in group)


def hold_twins(
    plans: Iterable[ServerPlan], boots: Iterable[tuple[Target, BootLine | None]]
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
                why="another document names the same server: their newest boot lines are equal",
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
