"""
How many servers at once may be disturbed, and that one which was harmed shuts the way for others.
"""

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager

from reconciler.apply.circuit_breaker import CircuitOpen
from reconciler.apply.execution import Execution
from reconciler.model.outcomes import Outcome, Result
from reconciler.model.target import Target


class DisruptionBudget:
    """
    Lets a few servers at a time have their robots stopped, and nobody any more after a failure.

    A fleet that is rebooted loses one server to a bad reboot, not all.
    """

    def __init__(self, most: int = 1) -> None:
        self._shut: dict[Target, str] = {}
        self._places = asyncio.Semaphore(most)
        self._waiting: set[asyncio.Task[object] | None] = set()

    @property
    def why(self) -> str:
        """Why nobody is let through, by the first reason; empty while somebody is."""
        return next(iter(self._shut.values()), "")

    @property
    def shut_by(self) -> frozenset[Target]:
        """The servers because of which nobody is let through."""
        return frozenset(self._shut)

    def shut(self, why: str, by: Target) -> None:
        """Let nobody through any more, until each server that gave a reason is in order again."""
        self._shut.setdefault(by, why)

    def reopen(self, by: Target) -> None:
        """Forget the reason that a server gave: it was seen to be in order."""
        self._shut.pop(by, None)

    def waits(self, task: asyncio.Task[None] | None) -> bool:
        """Whether *task* waits for a place: for others, however long they take."""
        return task in self._waiting

    @contextmanager
    def judging(self, execution: Execution, outcomes: Sequence[Outcome]) -> Iterator[None]:
        """
        Shut when the block leaves a server disturbed: by *outcomes*, which it adds to.

        Also where it ended by an exception after something was sent: nobody knows what came of it.
        """
        before, ended = execution.sends, False
        try:
            yield
            ended = True
        finally:
            bad = next((one.result for one in outcomes if one.disturbed), None)
            if bad is None and not ended and execution.sends > before:
                bad = Result.UNKNOWN
            if bad is not None:
                self.shut(f"{execution.desired.name}: {bad}", execution.desired.target)

    @asynccontextmanager
    async def turn(self, server: Target) -> AsyncIterator[None]:
        """
        Wait for a place.  Raises CircuitOpen instead of yielding once it was shut by others.

        A server that shut it, too, is disturbed already, and robots may be owed a start there:
        several of them must not keep each other from that.
        """
        task = asyncio.current_task()
        self._waiting.add(task)
        try:
            await self._places.acquire()
        finally:
            self._waiting.discard(task)
        try:
            if self._shut and server not in self._shut:
                raise CircuitOpen(self.why)
            yield
        finally:
            self._places.release()
