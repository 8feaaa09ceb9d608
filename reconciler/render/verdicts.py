"""
One verdict for each server of a plan: the worst that is to be said of it, for who has ten seconds.
"""

import enum
from collections.abc import Iterable
from typing import Final

from msgspec import Struct

from reconciler.errors import Exit
from reconciler.model.actions import RebootServer, RestartRobots
from reconciler.model.desired import RequestKind
from reconciler.model.observed import Robot
from reconciler.model.outcomes import Report, Result
from reconciler.model.plan import BOUND, Disruption, ServerPlan, Standing, Status


class Level(enum.Enum):
    """What a server stands for, worst first: its sign, its words, and those after a number."""

    HARM = "🛑", "harm", "harmed"
    IN_DOUBT = "❓", "in doubt", "in doubt"
    FAILED = "❌", "failed", "failed"
    NOT_VISITED = "❌", "not visited", "not visited"
    BLOCKED = "⛔", "blocked", "blocked"
    NEW_RECIPIENT = "🔑", "new recipient", "with new recipients"
    STOPS_ROBOTS = "🔁", "robots stop", "where robots stop"
    NOT_COMPARED = "⚠", "not compared", "not compared"
    DRIFT = "⚠", "drift left alone", "with drift left alone"
    CHANGE = "✏", "changes", "with changes"
    LATER = "🕒", "later", "with something later"
    HELD = "⏸", "held back", "held back"
    OWED = "⚠", "owed", "with something owed"
    APPLIED = "✅", "applied", "applied"
    NOTHING = "✅", "nothing to do", "with nothing to do"

    @property
    def sign(self) -> str:
        return self.value[0]

    @property
    def words(self) -> str:
        return self.value[1]

    @property
    def counted(self) -> str:
        return self.value[2]


WORST_FIRST: Final = tuple(Level)
CALM: Final = (Level.APPLIED, Level.NOTHING)

_OF_RESULTS: Final = (
    (Level.HARM, (Result.HARM,)),
    (Level.IN_DOUBT, (Result.IN_DOUBT, Result.UNKNOWN)),
    (Level.FAILED, (Result.FAILED, Result.NOT_DONE, Result.LEFT_STOPPED)),
    (Level.BLOCKED, (Result.NOT_ATTEMPTED,)),
)
_TO_COME: Final = (Standing.DUE, *BOUND)


class Stops(Struct, frozen=True):
    """What stops robots: why, when, and whom; which robots, nobody may know yet."""

    what: str
    standing: Standing
    robots: tuple[Robot, ...]


def not_compared(server: ServerPlan) -> int:
    """
    Return of how many exchanges, or servers, it is not known whether they differ.

    One that was never looked at counts as one: nothing to write is then no good news.
    """
    if server.failure is not None or server.held_code:
        return 0  # failed, or blocked
    if not (server.observed_at or server.lines):
        return 1
    unknown = (Status.NOT_COMPARED, Status.SETTLING, Status.STALE)
    return len([line for line in server.lines if line.status in unknown])


def level(server: ServerPlan, report: Report | None = None) -> Level:
    found = [_planned(server)]
    if report is not None:
        found = [_reported(report, found[0])]
    return min(found, key=WORST_FIRST.index)


def _reported(report: Report, planned: Level) -> Level:
    """Return what became of a plan; what it could not even try is said as before."""
    results = {outcome.result for outcome in report.outcomes}
    for one, bad in _OF_RESULTS:
        if results.intersection(bad):
            return one
        if one is Level.FAILED and report.failure is not None:
            return Level.BLOCKED if report.failure.exit_code is Exit.BLOCKED else one
    if planned in _SETTLED and results:
        return Level.APPLIED
    return planned


_SETTLED: Final = (
    Level.NEW_RECIPIENT,
    Level.STOPS_ROBOTS,
    Level.CHANGE,
    Level.OWED,
    Level.NOTHING,
)


def _planned(server: ServerPlan) -> Level:
    statuses = {line.status for line in server.lines}
    standings = {line.standing for line in server.disruptions}
    now = any(stop.standing is Standing.DUE for stop in stops(server))
    blocked = Status.BLOCKED in statuses or Standing.BLOCKED in standings
    too_late = bool(standings & {Standing.NOT_DONE, Standing.EXPIRED})
    code = server.exit_code
    found = (
        (Level.IN_DOUBT, Standing.IN_DOUBT in standings),
        (Level.FAILED, server.failure is not None or Status.FAILED in statuses),
        (Level.BLOCKED, blocked or code is Exit.BLOCKED),
        (Level.FAILED, too_late or code is not Exit.DONE),
        (Level.NEW_RECIPIENT, bool(server.new_recipient)),
        (Level.STOPS_ROBOTS, now),
        (Level.NOT_COMPARED, bool(not_compared(server))),
        (Level.HELD, bool(server.held)),
        (Level.DRIFT, Status.LEFT_ALONE in statuses),
        (Level.CHANGE, bool(server.actions)),
        (Level.LATER, bool(standings.intersection(BOUND))),
        (Level.HELD, bool(standings & {Standing.HELD, Standing.BASELINED})),
        (Level.OWED, bool(server.debts) or Standing.FOUND_OUT in standings),
        (Level.CHANGE, server.differs),
    )
    return next((one for one, holds in found if holds), Level.NOTHING)


def stops(server: ServerPlan) -> tuple[Stops, ...]:
    """Return what stops robots now, later or in a window, as far as nothing holds it."""
    if server.held or server.failure is not None:
        return ()
    return tuple(
        Stops(line.what, line.standing, line.robots)
        for line in server.disruptions
        if line.standing in _TO_COME and _stopping(line)
    )


def _stopping(line: Disruption) -> bool:
    return isinstance(line.action, RestartRobots | RebootServer) or line.kind is RequestKind.REBOOT


def keeping(server: ServerPlan) -> tuple[Robot, ...]:
    """Return the robots that run with an old key, or none, after the writes."""
    if server.held:
        return ()
    found = {
        robot.id: robot
        for line in server.lines
        if line.ready is not None and line.consequence is not None
        for robot in line.consequence.robots
    }
    return tuple(found[number] for number in sorted(found))


def tally(levels: Iterable[Level]) -> str:
    """Return how many servers have which verdict, worst first."""
    found = list(levels)
    counts = ((one, found.count(one)) for one in WORST_FIRST)
    return ", ".join(f"{number} {one.counted}" for one, number in counts if number)


def worst_level(levels: Iterable[Level]) -> Level:
    return min(levels, key=WORST_FIRST.index, default=Level.NOT_COMPARED)
