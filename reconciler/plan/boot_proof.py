"""
What the boot lines of a system log prove about a reboot.
"""

import enum
from datetime import UTC, datetime, timedelta

from reconciler.model.observed import BootLine, ClockReading, Logbook
from reconciler.model.recorded import Attempt

MARGIN = timedelta(seconds=60)  # two clocks that were measured still differ by a little


class Proof(enum.Enum):
    """What a server's log proves about a reboot that may have been sent."""

    BOOTED = enum.auto()
    ALIVE = enum.auto()  # the process from before is still the one that runs
    NOTHING = enum.auto()


def proof(attempt: Attempt, log: Logbook | None) -> Proof:
    """
    Compare the log with what it was before *attempt*.

    A boot line that was not there is a boot since.  The same last line, with nothing of another
    process behind it, is the same process: the log is only ever appended to, or cut at its start.
    """
    if log is None or not log.readable or not log.boots:
        return Proof.NOTHING
    last = log.boots[-1]
    if last not in attempt.boots:
        later = not attempt.boots or last.time > attempt.boots[-1].time
        return Proof.BOOTED if later else Proof.NOTHING
    alive = last == attempt.boots[-1] and not log.strangers
    return Proof.ALIVE if alive else Proof.NOTHING


def new_boots(attempt: Attempt, log: Logbook) -> tuple[BootLine, ...]:
    """Return the boot lines that were not there before *attempt*, in the order of the log."""
    return tuple(line for line in log.boots if line not in attempt.boots)


def satisfies(log: Logbook | None, clock: ClockReading | None, instant: datetime) -> bool:
    """
    Whether somebody else's boot is later than *instant*, whatever the two clocks may hide.

    The offset is believed only if the newest log entry does not lie in that clock's future: a
    proxy in front of the server may have answered with a clock of its own.
    """
    if log is None or clock is None or not log.readable or not log.boots:
        return False
    booted = datetime.fromtimestamp(log.boots[-1].time / 1000 - clock.ahead, UTC)
    return booted > instant + timedelta(seconds=clock.uncertainty) + MARGIN


def plausible(clock: ClockReading, log: Logbook, now: datetime) -> bool:
    """Whether the newest log entry is not later than the server's own time as it was measured."""
    if log.newest is None:
        return True
    return log.newest / 1000 <= now.timestamp() + clock.ahead + clock.uncertainty
