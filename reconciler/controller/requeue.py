"""
When to look at a server again, and how often to correct what somebody changes back.  Pure.

Times are seconds since the epoch, because they must survive a restart.  A clock that was set back
cannot make anything wait for longer than the longest backoff: whoever reads clamps.
"""

import math
from collections.abc import Callable, Mapping
from typing import Final

from msgspec import Struct, field

from reconciler.model.values import replace
from reconciler.system.timeouts import Timeouts

JITTER: Final = 0.1  # of the interval, at most, each way: five hundred servers must not march
BEATS: Final = 60  # of an interval: moments at which looks begin
CAP: Final = 3  # corrections of one exchange, then people are asked
FORGET: Final = 6.0  # cooldowns without drift after which corrections count no more
SOONEST: Final = 0.1  # of the first backoff: full jitter must not mean at once


class Corrections(Struct, frozen=True):
    """Corrections of one exchange's drift: how many, and when the last one was (or drift seen)."""

    count: int = 0
    corrected: float = 0.0
    drifted: float = 0.0


class QueueState(Struct, frozen=True):
    """
    What is remembered of one server between passes and over restarts.

    `due` is when the next pass may begin, `failures` how many failed in a row, `revision` the
    documents of the last pass that succeeded.  `healing` goes by exchange.  `stopped` are robots
    that ran and stopped without our asking, and did not run again when they were seen last.
    """

    due: float = 0.0
    failures: int = 0
    revision: str = ""
    healing: Mapping[str, Corrections] = field(default_factory=dict)
    stopped: tuple[int, ...] = ()

    def healed(self, exchange: str) -> Corrections:
        return self.healing.get(exchange, Corrections())

    def with_healing(self, exchange: str, healing: Corrections | None) -> "QueueState":
        """Return the same with other corrections of one exchange; None forgets them."""
        rest = {code: one for code, one in self.healing.items() if code != exchange}
        if healing is not None:
            rest[exchange] = healing
        return replace(self, healing=dict(sorted(rest.items())))


def succeeded(
    timing: QueueState, now: float, timeouts: Timeouts, luck: Callable[[], float]
) -> QueueState:
    """
    Return when to look again after a pass without failure; *luck* is uniform in [0, 1).

    A few servers at the same moment: each by itself wakes this host, and theirs, for one message.
    """
    wait = timeouts.interval * (1 + JITTER * (2 * luck() - 1))
    beat = timeouts.interval / BEATS
    return replace(timing, due=math.ceil((now + wait) / beat) * beat, failures=0)


def failed(
    timing: QueueState, now: float, most: float, timeouts: Timeouts, luck: Callable[[], float]
) -> QueueState:
    """
    Return when to try again after a failed pass: exponential backoff with full jitter.

    *most* are the seconds that it may take, see `pass_result.longest`.
    """
    failures = timing.failures + 1
    first = min(most, timeouts.backoff)
    ceiling = min(most, first * 2 ** min(failures - 1, 32))
    wait = max(first * SOONEST, ceiling * luck())
    return replace(timing, due=now + wait, failures=failures)


def resumed(
    timing: QueueState, now: float, timeouts: Timeouts, luck: Callable[[], float]
) -> QueueState:
    """
    Return what to do after a restart of the controller.

    A server that was well is looked at within one interval at the latest; one that failed keeps
    its backoff, so that a controller that restarts in a loop does not storm it.
    """
    if timing.failures:
        return replace(timing, due=min(timing.due, now + timeouts.backoff_most))
    return replace(timing, due=min(timing.due, now + timeouts.interval * luck()))


def rests(healing: Corrections, now: float, timeouts: Timeouts) -> str:
    """Say why an exchange's drift is not corrected now; empty when it may be."""
    if healing.count >= CAP:
        return (
            f"contested: it was corrected {healing.count} times and changed again each time; "
            "find out who changes it"
        )
    wait = healing.corrected + timeouts.heal_cooldown - now
    if healing.count and wait > 0:
        return f"corrected a moment ago; the next correction is at least {_length(wait)} away"
    return ""


def _length(seconds: float) -> str:
    whole = max(1, round(seconds))
    return f"{-(-whole // 60)} min" if whole >= 60 else f"{whole} s"  # noqa: PLR2004  - a minute


def contested(healing: Corrections) -> bool:
    """Whether an exchange was corrected as often as it may be without a person."""
    return healing.count >= CAP


def corrected(healing: Corrections, now: float) -> Corrections:
    return Corrections(healing.count + 1, now, now)


def looked(
    healing: Corrections, now: float, timeouts: Timeouts, *, drifts: bool
) -> Corrections | None:
    """Return what stays known after a look; None once there was no drift for long enough."""
    if drifts:
        return replace(healing, drifted=now)
    quiet = now - max(healing.corrected, healing.drifted)
    return None if quiet >= FORGET * timeouts.heal_cooldown else healing
