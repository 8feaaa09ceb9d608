"""
What became of many servers in few lines: harm first and never together, then what failed, then what
was done, alike outcomes of several servers once with all their names.  Pure.
"""

from collections.abc import Iterator, Sequence
from typing import Final

from reconciler.errors import Exit
from reconciler.model.actions import WriteExchange, told
from reconciler.model.outcomes import Outcome, Report, Result
from reconciler.render.escape import plain
from reconciler.render.fleet import grouped
from reconciler.render.items import Item, Section, named_items

GOOD: Final = (Result.DONE, Result.NOT_VERIFIABLE)
_RANKS: Final = (Result.UNKNOWN, Result.IN_DOUBT, Result.LEFT_STOPPED, Result.NOT_DONE)


def report_fleet(reports: Sequence[Report], width: int | None) -> str:
    """Return all outcomes and failures of *reports*."""
    members = [
        (report.plan.server, item)
        for report in reports
        for item in named_items(report.plan.server, *_items(report))
    ]
    return "\n".join(grouped(members, width))


def _items(report: Report) -> Iterator[Item]:
    if report.failure is not None:
        what, remedy = plain(report.failure.what, 400), plain(report.failure.remedy, 400)
        yield Item(Section.PROBLEMS, "!", f"failed: {what}", (remedy,), rank=len(_RANKS))
    for outcome in report.outcomes:
        yield _outcome(outcome, report.plan.server)


def _outcome(outcome: Outcome, server: str) -> Item:
    act, detail = plain(told(outcome.action)), plain(outcome.detail, 400)
    robots = tuple(f"{plain(robot.name)} ({robot.id})" for robot in outcome.stopped)
    if outcome.code is Exit.HARM or outcome.result is Result.HARM:
        head = f"{act}: {outcome.result}{f': {detail}' if detail else ''}"
        return Item(Section.HARM, "!", head, (plain(outcome.remedy, 400),), alone=server)
    if outcome.result in GOOD and not (outcome.code or robots):
        result = "" if outcome.result is Result.DONE else str(outcome.result)
        below = (f"{result}{': ' if result and detail else ''}{detail}", plain(outcome.remedy, 400))
        return Item(Section.DONE, "✓", act, below, does=True, at=_version(outcome))
    waits = outcome.result is Result.NOT_ATTEMPTED
    ranks = {result: rank for rank, result in enumerate(_RANKS)}
    return Item(
        Section.PROBLEMS,
        "·" if waits else "!",
        f"{act}: {outcome.result}{f': {detail}' if detail else ''}",
        (plain(outcome.remedy, 400),),
        robots=robots,
        meaning="warning: stopped meanwhile",
        stops=True,
        rank=len(_RANKS) + 1 if waits else ranks.get(outcome.result, len(_RANKS)),
    )


def _version(outcome: Outcome) -> str:
    if not isinstance(outcome.action, WriteExchange):
        return ""
    versions = sorted({ref.version for _, ref in outcome.action.sources})
    return f"@{'/'.join(map(str, versions))}" if versions else ""
