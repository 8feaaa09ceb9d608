"""
The brake: when one write does harm, or its outcome stays unknown, nothing more is written.

One brake per process.  It also lets the first write to each server version go alone, so that a
version on which writing is fatal stops the robots of one server, not of a fleet.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class CircuitOpen(Exception):
    """No write may start; not an error of its own, only a reason not to go on."""

    def __init__(self, why: str) -> None:
        super().__init__(why)
        self.why = why


class CircuitBreaker:
    """
    Stops every further write of this process, and sends scouts ahead.

    A turn is taken around each write.  As long as no write to a version came back well, a turn on
    that version waits until no other write runs, and none starts beside it.  While somebody finds
    out what became of a write without answer, all others wait.
    """

    def __init__(self) -> None:
        self._why = ""
        self._ending = ""
        self._doubts = 0
        self._proven: set[str] = set()
        self._running = 0
        self._alone = False
        self._moved = asyncio.Condition()

    @property
    def why(self) -> str:
        """Why nothing may be written; empty while the brake is off."""
        return self._why

    async def engage(self, why: str) -> None:
        """Stop all further writes of this process; the first reason stays."""
        self._why = self._why or why
        await self._wake()

    async def stop(self, why: str) -> None:
        """
        Let nothing begin any more, because the process ends; what was begun may be finished.

        Robots that we stopped are started again still: nobody else would do it for a while.
        """
        self._ending = self._ending or why
        await self._wake()

    async def release(self) -> None:
        """Allow writes again, because a person released every brake in the ledger."""
        self._why = ""
        self._proven.clear()  # a scout goes ahead once more
        await self._wake()

    @asynccontextmanager
    async def doubt(self) -> AsyncIterator[None]:
        """Hold all other writes while the outcome of one is found out."""
        self._doubts += 1
        try:
            yield
        finally:
            self._doubts -= 1
            await self._wake()

    def prove(self, version: str) -> None:
        """Note that a write to this version was read back and its robots counted."""
        self._proven.add(version)

    async def steady(self, *, finishing: bool = False) -> None:
        """
        Wait until nothing is in doubt; raise CircuitOpen when the brake is on, or the process ends.

        What is *finishing* something that was begun goes on while the process ends.
        """
        async with self._moved:
            await self._moved.wait_for(lambda: bool(self._why) or not self._doubts)
        self.check(finishing=finishing)

    @property
    def doubtful(self) -> bool:
        """Whether it is being found out what became of a write without answer."""
        return bool(self._doubts)

    def check(self, *, finishing: bool = False) -> None:
        """
        Raise CircuitOpen unless a write may be sent at this moment.

        What is *finishing* something is a start and no write: a doubt that came up while we
        registered would leave robots stopped, and protect nobody.
        """
        if why := self._why or ("" if finishing else self._ending):
            raise CircuitOpen(why)
        if self._doubts and not finishing:
            raise CircuitOpen("a write to another server is not answered yet")

    @asynccontextmanager
    async def turn(self, version: str) -> AsyncIterator[None]:
        """Wait for this write's turn.  Raises CircuitOpen when the brake is on."""
        async with self._moved:
            await self._moved.wait_for(lambda: self._may_start(version))
            if why := self._why or self._ending:
                raise CircuitOpen(why)
            alone = version not in self._proven
            self._alone = self._alone or alone
            self._running += 1
        try:
            yield
        finally:
            # Counted down before anything is awaited: a cancelled write must give its turn back.
            self._running -= 1
            if alone:
                self._alone = False
            await self._wake()

    def _may_start(self, version: str) -> bool:
        if self._why or self._ending:
            return True  # to be told so
        if self._alone or self._doubts:
            return False
        return version in self._proven or self._running == 0

    async def _wake(self) -> None:
        async with self._moved:
            self._moved.notify_all()
