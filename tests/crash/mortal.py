"""
Processes that may die around each of their deeds, in this process and without a signal.
"""

from collections.abc import Mapping

from reconciler.drivers import Driver, Login, Session, Trust, WriteAnswer
from reconciler.ledger import Store, Stored
from reconciler.model import Target
from reconciler.observed import Logbook, Mask, ObservedExchange, ObservedServer, Robot
from reconciler.secrets import Secret


class Killed(BaseException):
    """The process is gone; nothing of it goes on."""


class Life:
    """One process: counts its moments and ends at the one with the number *last*."""

    def __init__(self, last: int | None = None) -> None:
        self.moments = 0
        self.dead = False
        self._last = last

    def moment(self) -> None:
        """Live on, or die here."""
        if self.dead or self.moments == self._last:
            self.dead = True
            raise Killed
        self.moments += 1


class MortalStore:
    """A ledger's store in the hands of a process that may die around every write."""

    def __init__(self, store: Store, life: Life) -> None:
        self._store = store
        self._life = life
        self.created = False

    def get(self, key: str) -> Stored | None:
        return self._store.get(key)

    def put(self, key: str, text: str, *, expect: int) -> int:
        self._life.moment()
        revision = self._store.put(key, text, expect=expect)
        self._life.moment()
        return revision

    def keys(self, prefix: str) -> list[str]:
        return self._store.keys(prefix)

    def sequence(self) -> int:
        return self._store.sequence()

    def close(self) -> None:
        """Keep it: the next process needs it."""


class MortalSession:
    """A session of a process that may die around every request that changes the server."""

    def __init__(self, session: Session, life: Life) -> None:
        self._session = session
        self._life = life

    async def observe(self) -> ObservedServer:
        return await self._session.observe()

    async def exchanges(self) -> tuple[ObservedExchange, ...]:
        return await self._session.exchanges()

    async def robots(self) -> tuple[Robot, ...]:
        return await self._session.robots()

    async def log(self) -> Logbook:
        return await self._session.log()

    async def save(self, exchange: str, values: Mapping[str, Secret]) -> WriteAnswer:
        self._life.moment()
        answer = await self._session.save(exchange, values)
        self._life.moment()
        return answer

    async def delete(self, exchange: str, name: str) -> WriteAnswer:
        self._life.moment()
        answer = await self._session.delete(exchange, name)
        self._life.moment()
        return answer

    async def close(self) -> None:
        await self._session.close()


class MortalDriver:
    """A driver whose sessions belong to one process."""

    def __init__(self, driver: Driver, life: Life) -> None:
        self._driver = driver
        self._life = life

    async def open(self, target: Target, login: Login, trust: Trust) -> Session:
        return MortalSession(await self._driver.open(target, login, trust), self._life)

    def mask(self, value: Secret) -> Mask:
        return self._driver.mask(value)

    def refusal(self, value: Secret) -> str:
        return self._driver.refusal(value)

    def mask_bits(self, value: Secret) -> float:
        return self._driver.mask_bits(value)

    def tested(self, version: str) -> bool:
        return self._driver.tested(version)
