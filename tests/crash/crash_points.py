"""
Processes that may die around each of their deeds, in this process and without a signal.
"""

from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import TypeVar

from reconciler.drivers import Driver, Login, Session, Trust, WriteAnswer
from reconciler.errors import DriverError
from reconciler.ledger import Put, Store, Stored
from reconciler.model.observed import (
    ClockReading,
    Logbook,
    LogEntry,
    Mask,
    ObservedExchange,
    ObservedServer,
    Robot,
)
from reconciler.model.secret import Secret
from reconciler.model.target import Target

T = TypeVar("T")


class Killed(BaseException):
    """The process is gone; nothing of it goes on."""


class Life:
    """
    One process: counts its moments and ends at the one with the number *last*.

    `trace` names those that it lived through, and at the end the one that it died at.
    """

    def __init__(self, last: int | None = None) -> None:
        self.moments = 0
        self.dead = False
        self.trace: list[str] = []
        self._last = last

    def moment(self, what: str) -> None:
        """Live on, or die here."""
        if self.dead:
            raise Killed
        self.trace.append(what)
        if self.moments == self._last:
            self.dead = True
            raise Killed
        self.moments += 1


class MortalStore:
    """A ledger's store in the hands of a process that may die around every write."""

    def __init__(self, store: Store, life: Life) -> None:
        self._store = store
        self._life = life
        self.created = self.at_hand = False

    def get(self, key: str) -> Stored | None:
        return self._store.get(key)

    def put(self, key: str, text: str, *, expect: int) -> int:
        what = key.rpartition("/")[2]
        self._life.moment(f"before noting {what}")
        revision = self._store.put(key, text, expect=expect)
        self._life.moment(f"after noting {what}")
        return revision

    def put_all(self, puts: Sequence[Put]) -> None:
        for one in puts:  # whoever can die does so between any two
            self.put(one.key, one.text, expect=one.expect)

    def keys(self, prefix: str) -> list[str]:
        return self._store.keys(prefix)

    def rows(self, prefix: str) -> dict[str, Stored]:
        return self._store.rows(prefix)

    def sequence(self) -> int:
        return self._store.sequence()

    def close(self) -> None:
        """Keep it: the next process needs it."""


class MortalSession:
    """A session of a process that may die around every request that changes the server."""

    def __init__(self, session: Session, life: Life) -> None:
        self._session = session
        self._life = life

    @property
    def target(self) -> Target:
        return self._session.target

    @property
    def patience(self) -> float:
        return self._session.patience

    async def observe(self) -> ObservedServer:
        return await self._session.observe()

    async def unchanged(self) -> bool:
        return await self._session.unchanged()

    async def exchanges(self) -> tuple[ObservedExchange, ...]:
        return await self._session.exchanges()

    async def robots(self) -> tuple[Robot, ...]:
        return await self._session.robots()

    async def log(self) -> Logbook:
        return await self._session.log()

    async def entries(self) -> tuple[LogEntry, ...] | None:
        return await self._session.entries()

    async def save(self, exchange: str, values: Mapping[str, Secret]) -> WriteAnswer:
        return await self._around("save", self._session.save(exchange, values))

    async def delete(
        self, exchange: str, name: str, still: Callable[[], None] = lambda: None
    ) -> WriteAnswer:
        return await self._around("delete", self._session.delete(exchange, name, still))

    async def stop(self, robot: int) -> tuple[Robot, ...]:
        return await self._around("stop", self._session.stop(robot))

    async def start(self, robot: int) -> tuple[Robot, ...]:
        return await self._around("start", self._session.start(robot))

    async def invalidate(self) -> None:
        await self._around("invalidate", self._session.invalidate())

    async def reboot(self) -> None:
        await self._around("reboot", self._session.reboot())

    async def ended(self, within: float) -> bool:
        return await self._session.ended(within)

    async def close(self) -> None:
        await self._session.close()

    async def _around(self, what: str, request: Coroutine[object, object, T]) -> T:
        """Die before it is sent, or once its answer, or the lack of one, is known."""
        try:
            self._life.moment(f"before {what}")
        except Killed:
            request.close()  # nobody will make it any more
            raise
        try:
            answer = await request
        except DriverError:
            self._life.moment(f"after {what}")
            raise
        self._life.moment(f"after {what}")
        return answer


class MortalDriver:
    """A driver whose sessions belong to one process."""

    def __init__(self, driver: Driver, life: Life) -> None:
        self._driver = driver
        self._life = life

    async def open(self, target: Target, login: Login, trust: Trust) -> Session:
        return MortalSession(await self._driver.open(target, login, trust), self._life)

    async def clock(self, target: Target, trust: Trust) -> ClockReading | None:
        return await self._driver.clock(target, trust)

    def mask(self, value: Secret) -> Mask:
        return self._driver.mask(value)

    def refusal(self, value: Secret) -> str:
        return self._driver.refusal(value)

    def mask_bits(self, value: Secret) -> float:
        return self._driver.mask_bits(value)

    def tested(self, version: str) -> bool:
        return self._driver.tested(version)
