"""
Whether our own clock on the wall can be believed.

A clock that jumps could begin a scheduled reboot a day early, or let a request expire too soon.
"""

from collections.abc import Callable
from datetime import datetime
from typing import Final

from reconciler.ledger.lease import elapsed

MOST: Final = 60.0  # seconds; a clock that is set right again jumps by less


class SteadyClock:
    """Compares the wall clock with one that never jumps, since this was made."""

    def __init__(self, now: Callable[[], datetime], seconds: Callable[[], float] = elapsed) -> None:
        self._now: Final = now
        self._seconds: Final = seconds
        self._wall: Final = now()
        self._began: Final = seconds()

    def trouble(self) -> str:
        """Say that the clock jumped meanwhile; empty while it did not."""
        wall = (self._now() - self._wall).total_seconds()
        jump = wall - (self._seconds() - self._began)
        return f"our own clock jumped by {jump:.0f} s" if abs(jump) > MOST else ""
