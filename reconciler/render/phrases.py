"""
Lines for people that several pages share.
"""

from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from typing import Final

from reconciler.model.observed import Robot
from reconciler.model.recorded import Debt, Owed
from reconciler.model.target import Target
from reconciler.model.timestamps import spelled
from reconciler.render.escape import plain

INDENT: Final = " " * 6


def below(text: str, limit: int = 400) -> Iterator[str]:
    """Yield *text* as a line that belongs to the one above it, when there is any."""
    if text:
        yield f"{INDENT}{plain(text, limit)}"


def server_line(name: str, target: Target, version: str = "", owner: str = "") -> str:
    line = f"{plain(name)}  {plain(target.url, 2000)}  account {plain(target.account)}"
    if version:
        line += f"  JT-Trader {plain(version)}"
    return f"{line}  owner {plain(owner)}" if owner else line


def robot_names(robots: Iterable[Robot]) -> str:
    return ", ".join(f"{plain(robot.name)} ({robot.id})" for robot in robots)


def robots_text(robots: Sequence[Robot]) -> str:
    return f"{'robot' if len(robots) == 1 else 'robots'} {robot_names(robots)}"


def running_line(robots: Iterable[Robot]) -> str:
    running = (robot for robot in robots if robot.running)
    names = ", ".join(f"{plain(robot.name)} ({plain(robot.exchange)})" for robot in running)
    return f"  robots running: {names or 'none'}"


def debt_text(debt: Debt) -> str:
    key = f"the {plain(debt.exchange)} key from before {instant_text(debt.since)}"
    if debt.owed is Owed.RESTART:
        return f"restart of robot {plain(debt.robot_name)} ({debt.robot_id}): it holds {key}"
    return f"reboot: the server caches {key}"


def since_text(since: str, now: datetime) -> str:
    """Return since when something is seen to be so; not a word where that is only since *now*."""
    seconds = (now - datetime.fromisoformat(since)).total_seconds() if since else 0.0
    if seconds <= 0:
        return ""
    ago = age_text(seconds)
    return f"since {clock_text(since)}, {ago} ago, as far as it was seen"


def clock_text(moment: str) -> str:
    """Return an instant to the minute, for people."""
    return datetime.fromisoformat(moment).astimezone(UTC).strftime("%Y-%m-%dT%H:%MZ")


def instant_text(text: str) -> str:
    """Return an instant as documents spell it, to the second; what is none as it is."""
    try:
        return spelled(datetime.fromisoformat(text).replace(microsecond=0))
    except ValueError:
        return plain(text)


def age_text(seconds: float) -> str:
    """Return an age in one unit, of which there are at least two: 90 min is not called 2 h."""
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{max(seconds, 0):.0f} s"
