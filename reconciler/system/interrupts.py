"""
Run the asynchronous part of a command, and stop it well when a person or the system asks.
"""

import asyncio
import atexit
import errno
import os
import signal
import termios
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, TypeVar

from reconciler.errors import Exit, Interrupted

T = TypeVar("T")


class Stopped(Interrupted):
    """SIGTERM came."""

    exit_code = Exit.TERMINATED


class HungUp(Interrupted):
    """SIGHUP came."""

    exit_code = Exit.HUNG_UP


class Interruption:
    """
    What signals do: the first one calls `on_first`, the second one cancels at once.

    A hang-up is never a second one: both the shell and the system tell of a terminal that closed.
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
            case signal.SIGHUP:
                return HungUp("stopped by SIGHUP: the terminal was closed")
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
            if again and number is signal.SIGHUP:
                return
            interruption.signal = interruption.signal or number
            if again or interruption.on_first is None:
                task.cancel()
            else:
                first.append(asyncio.ensure_future(_call(interruption.on_first)))

        def arrived(number: int, frame: FrameType | None) -> None:
            del frame
            if number == signal.SIGHUP:
                _leave_closed_terminals()
            loop.call_soon_threadsafe(act, signal.Signals(number))

        with _heeded(arrived, interruption):
            return await task

    try:
        return asyncio.run(main())
    except asyncio.CancelledError:
        raise interruption.error() or Interrupted("interrupted") from None


@contextmanager
def _heeded(
    arrived: Callable[[int, FrameType | None], None], interruption: Interruption
) -> Iterator[None]:
    """Let signals call *arrived*; afterwards, if one came, a command only tells what it did."""
    signals = [signal.SIGINT, signal.SIGTERM]
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # as under nohup
        signals.append(signal.SIGHUP)
    # Not the loop's own handlers: when those are removed, the next signal kills the process, and
    # who sent two of them would see another exit code than who sent one.
    before = {one: signal.signal(one, arrived) for one in signals}
    try:
        yield
    finally:
        if interruption.signal is not None:
            before |= {signal.SIGTERM: _leave_at_once, signal.SIGHUP: _go_on}
            # At its very end Python lets signals kill again: that would be another exit code.
            for one in before:
                atexit.register(signal.signal, one, signal.SIG_IGN)
        for one, handler in before.items():
            signal.signal(one, handler)


def _leave_at_once(number: int, frame: FrameType | None) -> None:
    """End a process that is only telling what it did, and is asked to end once more."""
    del frame
    os._exit(128 + number)


def _go_on(number: int, frame: FrameType | None) -> None:
    """Hear a hang-up, and do nothing; to ignore it would be inherited by what is started."""
    del number, frame


def _leave_closed_terminals() -> None:
    """Let words go nowhere that were for a terminal which is gone: to write there is an error."""
    for stream in (1, 2):
        try:
            termios.tcgetattr(stream)
        except termios.error as error:
            if error.args[0] == errno.EIO:
                nowhere = os.open(os.devnull, os.O_WRONLY)
                os.dup2(nowhere, stream)
                os.close(nowhere)


async def _call(action: Callable[[], Awaitable[None]]) -> None:
    await action()
