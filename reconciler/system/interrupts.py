"""
Run the asynchronous part of a command, and stop it well when a person or the system asks.
"""

import asyncio
import atexit
import os
import signal
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, TypeVar

from reconciler.errors import Exit, Interrupted

T = TypeVar("T")


class Stopped(Interrupted):
    """SIGTERM came."""

    exit_code = Exit.TERMINATED


class Interruption:
    """
    What signals do: the first one calls `on_first`, the second one cancels at once.

    Intents that were recorded stay recorded, so nothing is lost when a write is cut off.
    """

    def __init__(self) -> None:
        self.signal: signal.Signals | None = None
        self.on_first: Callable[[], Awaitable[None]] | None = None

    def error(self) -> Interrupted | None:
        """Return what to raise in the end; None when no signal came."""
        match self.signal:
            case None:
                return None
            case signal.SIGTERM:
                return Stopped("stopped by SIGTERM")
            case _:
                return Interrupted("interrupted")


@contextmanager
def stopping() -> Iterator[None]:
    """Let SIGTERM end what blocks here as SIGINT does.  Raises Stopped."""

    def arrived(number: int, frame: FrameType | None) -> None:
        del number, frame
        raise Stopped("stopped by SIGTERM")

    before = signal.signal(signal.SIGTERM, arrived)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def run(work: Callable[[Interruption], Coroutine[Any, Any, T]]) -> T:
    """Run *work* to its end.  Raises Interrupted when a signal cut it off."""
    interruption = Interruption()

    async def main() -> T:
        loop = asyncio.get_running_loop()
        task = asyncio.ensure_future(work(interruption))
        first: list[asyncio.Task[None]] = []

        def act(number: signal.Signals) -> None:
            again = interruption.signal is not None
            interruption.signal = interruption.signal or number
            if again or interruption.on_first is None:
                task.cancel()
            else:
                first.append(asyncio.ensure_future(_call(interruption.on_first)))

        def arrived(number: int, frame: FrameType | None) -> None:
            del frame
            loop.call_soon_threadsafe(act, signal.Signals(number))

        # Not the loop's own handlers: when those are removed, the next signal kills the process,
        # and who sent two of them would see another exit code than who sent one.
        before = {one: signal.signal(one, arrived) for one in (signal.SIGINT, signal.SIGTERM)}
        try:
            return await task
        finally:
            if interruption.signal is not None:
                before[signal.SIGTERM] = _leave_at_once
                # At its very end Python lets signals kill again: that would be another exit code.
                for one in before:
                    atexit.register(signal.signal, one, signal.SIG_IGN)
            for one, handler in before.items():
                signal.signal(one, handler)

    try:
        return asyncio.run(main())
    except asyncio.CancelledError:
        raise interruption.error() or Interrupted("interrupted") from None


def _leave_at_once(number: int, frame: FrameType | None) -> None:
    """End a process that is only telling what it did, and is asked to end once more."""
    del frame
    os._exit(128 + number)


async def _call(action: Callable[[], Awaitable[None]]) -> None:
    await action()
