"""
Time for loops with real sockets: it passes only while none of them has anything to do.

Deadlines are then met or missed by what was sent and what was not, never by how long this machine
took over it; and nobody waits for a deadline that has to be missed.
"""

import asyncio
import selectors
import threading
import time
from collections.abc import Callable, Coroutine
from typing import Any, Final

from reconciler.testing.virtual_time import Inline

_LOOK: Final = 0.002  # real seconds between two looks whether everything is quiet
_CALM: Final = 0.006  # real seconds that it was; the kernel may be about to deliver something


class QuietTime:
    """The clock of several loops, each of which may run on a thread of its own."""

    def __init__(self) -> None:
        self.at = 0.0
        self._lock: Final = threading.Lock()
        self._idle: Final[dict[_Patient, float]] = {}  # until when each of them waits
        self._loops = 0
        self._calm_since = 0.0

    def loop(self) -> "QuietLoop":
        """Return a new loop on this clock; time stands still until it waits, too."""
        with self._lock:
            self._loops += 1
        return QuietLoop(self)

    def told(self, story: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Run *story* on a new loop."""
        with asyncio.Runner(loop_factory=self.loop) as runner:
            runner.run(story())

    def leave(self, who: "_Patient") -> None:
        """Go on without a loop that was closed."""
        with self._lock:
            self._idle.pop(who, None)
            self._loops -= 1

    def rest(self, who: "_Patient", until: float) -> None:
        """Note that a loop has nothing to do before that time."""
        with self._lock:
            self._idle[who] = until
            self._calm_since = time.monotonic()

    def rise(self, who: "_Patient") -> None:
        """Note that a loop has something to do."""
        with self._lock:
            del self._idle[who]

    def has_come(self, until: float) -> bool:
        """Say whether it is that late; move the clock to the next moment if everything is quiet."""
        with self._lock:
            if self.at < until and self._quiet():
                self.at = max(self.at, min(self._idle.values()))
                self._calm_since = time.monotonic()
            return self.at >= until

    def _quiet(self) -> bool:
        if len(self._idle) < self._loops or min(self._idle.values()) == float("inf"):
            return False
        if any(one.has_something() for one in self._idle):  # and did not get the processor yet
            self._calm_since = time.monotonic()
        return time.monotonic() - self._calm_since >= _CALM


class _Patient(selectors.DefaultSelector):
    """Waits for sockets, or for the clock."""

    def __init__(self, clock: QuietTime) -> None:
        super().__init__()
        self._clock = clock

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if ready or (timeout is not None and timeout <= 0):
            return ready
        until = float("inf") if timeout is None else self._clock.at + timeout
        self._clock.rest(self, until)
        try:
            while not ready and not self._clock.has_come(until):
                # The clock wakes nobody who waits for no time.
                ready = super().select(_LOOK if until < float("inf") else None)
        finally:
            self._clock.rise(self)
        return ready

    def has_something(self) -> bool:
        """Say whether a socket is ready; called from any thread."""
        return bool(super().select(0))

    def close(self) -> None:
        self._clock.leave(self)
        super().close()


class QuietLoop(asyncio.SelectorEventLoop):
    """A loop on such a clock; what would run in threads runs at once."""

    def __init__(self, clock: QuietTime) -> None:
        self._quiet_time = clock
        super().__init__(_Patient(clock))
        self.set_default_executor(Inline())

    async def shutdown_default_executor(self, _timeout: float | None = None) -> None:
        """Do nothing: there are no threads, and waiting for a real one has no time here."""

    def time(self) -> float:
        return self._quiet_time.at


def told(story: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Run *story* on a loop and a clock of its own."""
    QuietTime().told(story)
