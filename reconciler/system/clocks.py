"""
Whether our own clock on the wall can be believed.

A clock that jumps could begin a scheduled reboot a day early, or let a request expire too soon.
"""

from collections.abc import Callable
from datetime import datetime
from typing import Final

from reconciler.ledger.lease import elapsed

MOST: Final = 60.0  # seconds; a clock that is set right again jumps by less
CALM: Final = 600.0  # seconds without another jump after which a clock is believed again


class SteadyClock:
    """
    Compares the wall clock with one that never jumps, since this was made.

    With *forgiving* a clock that jumped is believed again once it went on steadily for `CALM`
    seconds: for processes that live for months, and see machines sleep and clocks set right.
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
        self._offset = self._present()
        self._jumped: tuple[float, float] | None = None  # the new offset, and since when

    def _present(self) -> float:
        return self._now().timestamp() - self._seconds()

    def trouble(self) -> str:
        """Say that the clock jumped meanwhile; empty while it did not."""
        present = self._present()
        jump = present - self._offset
        if abs(jump) <= MOST:
            self._jumped = None
            return ""
        if self._jumped is None or abs(present - self._jumped[0]) > MOST:
            self._jumped = present, self._seconds()
        if self._forgiving and self._seconds() - self._jumped[1] >= CALM:
            self._offset, self._jumped = present, None
            return ""
        return f"our own clock jumped by {jump:.0f} s"
