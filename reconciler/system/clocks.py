"""
Whether our own clock on the wall can be believed.

A clock that jumps could begin a scheduled reboot a day early, or let a request expire too soon.
"""

import time
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final, Protocol

from msgspec import Struct


def elapsed() -> float:
    """Return seconds on a clock that never jumps and, where there is one, counts suspension."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


def this_boot() -> str:
    """Return what names this boot of this machine; empty where nothing does."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
    except OSError:
        return ""


MOST: Final = 60.0  # seconds; a clock that is set right again jumps by less
CALM: Final = 600.0  # seconds without another jump after which a clock is believed again


class _Known(Struct, frozen=True):
    """The offset that is believed; after a jump the new one, and since when it holds."""

    offset: float
    jumped: float = 0.0
    since: float | None = None


class SteadyClock:
    """
    Compares the wall clock with one that never jumps, since this was made.

    With *forgiving* a clock that jumped is believed again once it went on steadily for `CALM`
    seconds: for processes that live for months, and see machines sleep and clocks set right.
    Several threads may ask at once: what is known is read once and replaced as a whole, so each
    answer follows from one state, and what one of them covers the next one finds anew.
    """

    def __init__(
        self,
        now: Callable[[], datetime],
        seconds: Callable[[], float] = elapsed,
        *,
        forgiving: bool = False,
    ) -> None:
        self._now: Final = now
        self._seconds: Final = seconds
        self._forgiving: Final = forgiving
        self._known = _Known(self._present())

    def _present(self) -> float:
        return self._now().timestamp() - self._seconds()

    def jumped(self) -> timedelta:
        """Return by how much the clock on the wall is off what is believed; 0 where it is not."""
        known, present, now = self._known, self._present(), self._seconds()
        jump = present - known.offset
        if abs(jump) <= MOST:
            self._known = _Known(known.offset)
            return timedelta()
        if known.since is None or abs(present - known.jumped) > MOST:
            known = _Known(known.offset, present, now)
        calm = known.since is not None and now - known.since >= CALM
        forgiven = self._forgiving and calm
        self._known = _Known(present) if forgiven else known
        return timedelta() if forgiven else timedelta(seconds=jump)


class Mark(Protocol):
    """A remembered moment: our clock on the wall, our machine's boot and its seconds since."""

    @property
    def at(self) -> str: ...

    @property
    def host_boot(self) -> str: ...

    @property
    def elapsed(self) -> float: ...


def here() -> tuple[str, float]:
    """Return our machine's boot id (empty where there is none) and its seconds since that boot."""
    return this_boot(), elapsed()


def passed(mark: Mark, now: datetime) -> float | None:
    """Return the seconds since *mark*; None when the clocks contradict one another."""
    boot, seconds = here()
    if mark.host_boot and mark.host_boot == boot:
        since = seconds - mark.elapsed
    else:
        since = (now - datetime.fromisoformat(mark.at)).total_seconds()
    return since if since >= 0 else None
