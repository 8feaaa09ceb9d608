"""
Time that passes only when everybody waits for it: real durations in no time, and no chance.
"""

import asyncio
import selectors
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import pytest

BEGIN: Final = datetime(2026, 11, 22, 9, tzinfo=UTC)
_SINCE_BOOT: Final = 5_000.0  # our machine did not start just now


class Inline(ThreadPoolExecutor):
    """Runs what it is given at once: with everything in memory, threads are all that costs time."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except BaseException as error:  # noqa: BLE001  - a dead process counts as well
            future.set_exception(error)
        return future


class Clock:
    """Seconds that pass only while somebody sleeps."""

    def __init__(self) -> None:
        self.at = 0.0

    def __call__(self) -> float:
        return self.at

    def sleep(self, seconds: float) -> None:
        self.at += seconds


class VirtualClock(Clock):
    """Seconds of this test; `wall` is what hangs on the wall, which people and NTP may set."""

    def __init__(self) -> None:
        super().__init__()
        self.set_by = timedelta()
        self._begin = BEGIN

    def shift(self, begin: datetime) -> None:
        """Let the world begin at another time."""
        self._begin = begin

    def truth(self) -> datetime:
        """Return what the time really is."""
        return self._begin + timedelta(seconds=self.at)

    def wall(self) -> datetime:
        """Return what our clock on the wall shows."""
        return self.truth() + self.set_by

    def since_boot(self) -> float:
        """Return what a clock that never jumps shows."""
        return _SINCE_BOOT + self.at


class _Waiting(selectors.DefaultSelector):
    """Moves the clock instead of waiting."""

    def __init__(self, clock: Clock) -> None:
        super().__init__()
        self._clock = clock

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout == 0:
            return []  # there is work, and sockets, where there are any, come when there is none
        if ready := super().select(0):
            return ready
        if timeout is None:
            raise AssertionError("everybody waits for something that never comes")
        self._clock.at += timeout
        return []


class VirtualLoop(asyncio.SelectorEventLoop):
    """A loop on a clock of the test; what would run in threads runs at once."""

    def __init__(self, clock: Clock) -> None:
        super().__init__(_Waiting(clock))
        self._virtual = clock

    def run_in_executor(  # type: ignore[override]
        self, executor: object, func: Callable[..., Any], *args: Any
    ) -> asyncio.Future[Any]:
        """Call it at once; whoever waits goes on a turn later, as after a thread."""
        del executor
        future: asyncio.Future[Any] = self.create_future()
        try:
            self.call_soon(_tell, future, future.set_result, func(*args))
        except BaseException as error:  # noqa: BLE001  - a dead process counts as well
            self.call_soon(_tell, future, future.set_exception, error)
        return future

    def time(self) -> float:
        return self._virtual.at


def _tell(future: asyncio.Future[Any], how: Callable[[Any], None], what: object) -> None:
    if not future.done():  # or nobody waits any more
        how(what)


@contextmanager
def virtual_time(clock: VirtualClock) -> Iterator[asyncio.Runner]:
    """Run everything on *clock*, also what asks the machine how long it is up."""
    with (
        pytest.MonkeyPatch.context() as patch,
        asyncio.Runner(loop_factory=lambda: VirtualLoop(clock)) as runner,
    ):
        patch.setattr(time, "clock_gettime", lambda _which: clock.since_boot())
        yield runner
