"""
The brake: after harm, or an outcome that stays unknown, the server gets no further write.

How far it reaches beyond that server is for the ledger to say (`ledger/brakes.py`): a version that
has not proven itself is stopped as a whole.  One breaker per process.  It also lets the first write
to each version go alone, so that a version on which writing is fatal stops the robots of one
server, not of a fleet.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Collection
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from typing import Final

from msgspec import Struct

from reconciler.errors import Exit


class CircuitOpen(Exception):
    """
    No write may start; not an error of its own, only a reason not to go on.

    Told as an error of ours is: `what`, `remedy` and `exit_code`.
    """

    remedy: Final = ""
    exit_code: Final = Exit.BLOCKED

    def __init__(self, why: str) -> None:
        super().__init__(why)
        self.why = why
        self.what = f"stopped: {why}"


class Place(Struct, frozen=True):
    """Where a write goes: the server's JT-Trader version, and the address of its process."""

    version: str
    url: str


@dataclass(slots=True)
class _Engaged:
    why: str
    version: str
    seen: bool = False  # in the ledger


class CircuitBreaker:
    """
    Stops further writes of this process, and sends scouts ahead.

    A turn is taken around each write.  As long as no write to a version came back well, a turn on
    that version waits until no other write to it runs, and none starts beside it.  While somebody
    finds out what became of a write, all others of that version wait.
    """

    def __init__(self) -> None:
        self._engaged: dict[str, _Engaged] = {}  # by version or address; no word is both
        self._ending = ""
        self._ended = ""
        self._doubts: Counter[str] = Counter()
        self._proven: set[str] = set()
        self._running: Counter[str] = Counter()
        self._alone: set[str] = set()
        self._processes: dict[str, asyncio.Lock] = {}  # by address
        self._moved = asyncio.Condition()

    def at(self, version: str, url: str) -> "ServerBrake":
        """Return what the deeds on one server see of this."""
        return ServerBrake(self, Place(version, url))

    def why(self, place: Place) -> str:
        """Why nothing may be written there; empty while the brake is off."""
        found = (self._engaged.get(place.version), self._engaged.get(place.url))
        return next((one.why for one in found if one is not None), "")

    async def engage(self, place: Place, why: str, *, whole: bool) -> None:
        """
        Stop all further writes to this server; the first reason stays.

        With *whole* to every server of its version.
        """
        for scope in (place.url, place.version) if whole else (place.url,):
            self._engaged.setdefault(scope, _Engaged(why, place.version))
        await self._wake()

    async def follow(self, scopes: Collection[str]) -> None:
        """
        Let go of what people released: it was among the ledger's brakes, *scopes*, and is no more.

        One that was never seen there stays until this process ends: its row may be on its way, or
        it never reached the ledger, and nobody can release it.
        """
        for scope, engaged in list(self._engaged.items()):
            if scope in scopes:
                engaged.seen = True
            elif engaged.seen:
                del self._engaged[scope]
                self._proven.discard(engaged.version)  # a scout goes ahead once more
        await self._wake()

    async def stop(self, why: str, *, starts: bool = False) -> None:
        """
        Let nothing begin any more, because the process ends; what was begun may be finished.

        Robots that we stopped are started again still, unless with *starts*: nobody else would do
        it for a while.
        """
        self._ending = self._ending or why
        if starts:
            self._ended = self._ended or why
        await self._wake()

    def process(self, place: Place) -> asyncio.Lock:
        """
        Return what is held while anything is done to a server's process.

        Several accounts may be documents of their own: the reboot that one asked for would be the
        harm that the other's write did.
        """
        return self._processes.setdefault(place.url, asyncio.Lock())

    @asynccontextmanager
    async def doubt(self, version: str) -> AsyncIterator[None]:
        """Hold all other writes to *version* while the outcome of one is found out."""
        self._doubts[version] += 1
        try:
            yield
        finally:
            self._doubts[version] -= 1
            await self._wake()

    def proven(self, version: str) -> bool:
        """Whether a write of this process to *version* was read back and its robots counted."""
        return version in self._proven

    def prove(self, version: str) -> None:
        self._proven.add(version)

    async def steady(self, place: Place, *, finishing: bool = False) -> None:
        """
        Wait until nothing is in doubt; raise CircuitOpen when the brake is on, or the process ends.

        What is *finishing* something that was begun goes on while the process ends.
        """
        async with self._moved:
            await self._moved.wait_for(lambda: bool(self.why(place)) or not self.doubtful(place))
        self.check(place, finishing=finishing)

    def doubtful(self, place: Place) -> bool:
        """Whether it is being found out what became of a write to a server of this version."""
        return bool(self._doubts[place.version])

    def check(self, place: Place, *, finishing: bool = False) -> None:
        """
        Raise CircuitOpen unless a write may be sent at this moment.

        What is *finishing* something is a start and no write: a doubt that came up while we
        registered would leave robots stopped, and protect nobody.
        """
        if why := self.why(place) or (self._ended if finishing else self._ending):
            raise CircuitOpen(why)
        if not finishing and self.doubtful(place):
            raise CircuitOpen("a write to another server is not answered yet")

    @asynccontextmanager
    async def turn(self, place: Place) -> AsyncIterator[None]:
        """Wait for this write's turn.  Raises CircuitOpen when the brake is on."""
        version = place.version
        async with self._moved:
            await self._moved.wait_for(lambda: self._may_start(place))
            if why := self.why(place) or self._ending:
                raise CircuitOpen(why)
            alone = version not in self._proven
            if alone:
                self._alone.add(version)
            self._running[version] += 1
        try:
            yield
        finally:
            # Counted down before anything is awaited: a cancelled write must give its turn back.
            self._running[version] -= 1
            if alone:
                self._alone.discard(version)
            await self._wake()

    def _may_start(self, place: Place) -> bool:
        version = place.version
        if self.why(place) or self._ending:
            return True  # to be told so
        if version in self._alone or self.doubtful(place):
            return False
        return version in self._proven or not self._running[version]

    async def _wake(self) -> None:
        async with self._moved:
            self._moved.notify_all()


class ServerBrake:
    """The breaker as the deeds on one server see it."""

    def __init__(self, breaker: CircuitBreaker, place: Place) -> None:
        self._breaker: Final = breaker
        self.place: Final = place

    def turn(self) -> AbstractAsyncContextManager[None]:
        return self._breaker.turn(self.place)

    def process(self) -> asyncio.Lock:
        return self._breaker.process(self.place)

    async def steady(self, *, finishing: bool = False) -> None:
        await self._breaker.steady(self.place, finishing=finishing)

    def check(self, *, finishing: bool = False) -> None:
        self._breaker.check(self.place, finishing=finishing)

    @property
    def doubtful(self) -> bool:
        return self._breaker.doubtful(self.place)

    def doubt(self) -> AbstractAsyncContextManager[None]:
        return self._breaker.doubt(self.place.version)

    async def engage(self, why: str, *, whole: bool) -> None:
        await self._breaker.engage(self.place, why, whole=whole)

    @property
    def proven(self) -> bool:
        return self._breaker.proven(self.place.version)

    def prove(self) -> None:
        self._breaker.prove(self.place.version)
