"""
Run the asynchronous part of a command, and stop it well when a person or the system asks.
"""

import asyncio
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

        def arrived(number: signal.Signals) -> None:
            again = interruption.signal is not None
            interruption.signal = interruption.signal or number
            if again or interruption.on_first is None:
                task.cancel()
            else:
                first.append(asyncio.ensure_future(_call(interruption.on_first)))

        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, arrived, number)
        try:
            return await task
        finally:
            for number in (signal.SIGINT, signal.SIGTERM):
                loop.remove_signal_handler(number)

    try:
        return asyncio.run(main())
    except asyncio.CancelledError:
        raise interruption.error() or Interrupted("interrupted") from None


async def _call(action: Callable[[], Awaitable[None]]) -> None:
    await action()
