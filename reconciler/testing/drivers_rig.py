"""
What the suites of drivers are told with: a server, the driver that reaches it, and its faults.
"""

import asyncio
import secrets
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any, Final, Protocol

import pytest

from reconciler.drivers import Driver, Login, Session, Trust, WriteAnswer
from reconciler.errors import ServerUnreachable
from reconciler.model.observed import ObservedExchange, Robot
from reconciler.model.secret import Secret
from reconciler.model.target import Target
from reconciler.system.timeouts import Timeouts

PATIENCE: Final = 25.0
"""Seconds that any story may take."""

QUICK: Final = Timeouts(connect=2, authenticate=2, request=2, close=1, robot=2, invalidate=2)
"""For stories in which nothing has to time out."""

HASTY: Final = Timeouts(
    connect=3, authenticate=3, request=0.4, close=0.3, robot=0.4, invalidate=0.4
)
"""For stories in which a request has to time out."""

NO_PATIENCE: Final = Timeouts(connect=0.4, authenticate=0.4, request=0.4, close=0.3)
"""For stories in which opening has to time out."""

NOWHERE: Final = Target("http://127.0.0.1:9", "0")
"""Where no server is."""

FAULTS: Final = {
    "silent": "a save is stored and not answered",
    "lost before": "the connection is lost before a save is stored",
    "lost after": "the connection is lost after a save was stored",
    "odd answer": "a save is stored and answered in a shape that nobody knows",
    "lose": "a save is answered as ever and leaves out the exchange's last field",
    "silent door": "whoever logs in is not answered",
    "lost in a read": "the connection is lost when the exchanges are read",
    "cache silent": "the cache is emptied and nothing answered",
    "cache lost before": "the connection is lost before the cache is emptied",
    "cache lost after": "the connection is lost after the cache was emptied",
    "start silent": "a robot is started and nothing answered",
    "start lost before": "the connection is lost before a robot is started",
    "stop silent": "a robot is stopped and nothing answered",
    "stop lost before": "the connection is lost before a robot is stopped",
    "3 fails to start": "a start of robot 3 is answered and leaves it stopped",
    "3 hangs in its start": "a start of robot 3 has no end and no answer",
    "1 hangs in its stop": "robot 1 counts as stopped, but its stop has no end and no answer",
    "reboot ignored": "the server takes a request to reboot and goes on",
    "reboot late": "it reboots, but not at once",
    "log unreadable": "the system log cannot be read",
    "clock ahead": "the server's clock is two hours ahead",
}
"""What `DriverRig.misbehave` is asked for: how the server goes wrong from then on."""


@dataclass
class DriverRig:
    """
    One new server and the driver that reaches it, whatever they are made of.

    The server has three robots: 1 and 2 run, 3 does not, nor does any after a reboot.  No exchange
    has a value.
    """

    driver: Driver
    target: Target
    secret: Secret
    """What lets a client in as the target's account."""
    version: str
    """One that the driver's writes were tested against."""
    exchanges: tuple[str, ...]
    """The codes of all exchanges, in order."""
    exchange: ObservedExchange
    """One of them, which the stories write: with two fields or more."""
    elsewhere: str
    """A field of another one."""
    robots: tuple[Robot, ...]
    boot_message: str
    """How the message of a boot in the system log ends."""
    set_value: Callable[[str, str], None]
    """Put a value into a field behind the driver's back."""
    values: Callable[[], dict[str, str]]
    running: Callable[[], set[int]]
    done: Callable[[], tuple[int, int, int]]
    """Saves, deletes and requests that failed inside the server so far."""
    acted: Callable[[], tuple[int, int, int, int]]
    """Robots started and stopped, caches emptied, reboots so far: what really took effect."""
    misbehave: Callable[[str], None]
    """Do one of `FAULTS`; `pytest.skip` where such a server cannot go wrong like this."""

    async def session(self, secret: Secret | None = None, account: str | None = None) -> Session:
        """Be let in."""
        target = self.target if account is None else Target(self.target.url, account)
        shown = self.secret if secret is None else secret
        return await self.driver.open(target, Login(shown), Trust())

    async def fresh(self) -> Session:
        """Be let in and read the robots: a start needs a connection that did nothing else."""
        session = await self.session()
        await session.robots()
        return session

    async def returned(self) -> Session:
        """Be let in by a server that may still be away."""
        async with asyncio.timeout(5):
            while True:
                try:
                    return await self.session()
                except ServerUnreachable:
                    await asyncio.sleep(0.01)

    @property
    def first(self) -> str:
        """The first field of the exchange."""
        return self.exchange.fields[0].name

    def full(self) -> dict[str, Secret]:
        """Return a new value for every field of the exchange."""
        return {field.name: made_up() for field in self.exchange.fields}

    async def save(self, session: Session) -> WriteAnswer:
        """Write the whole exchange with new values."""
        return await session.save(self.exchange.code, self.full())

    async def listed(self, session: Session) -> ObservedExchange:
        """Read the exchange anew."""
        return next(e for e in await session.exchanges() if e.code == self.exchange.code)


def made_up() -> Secret:
    """Return a value that occurs nowhere else."""
    return Secret(secrets.token_hex(16))


class Opened(Protocol):
    """Starts a server with the driver that one command of jtr uses; ends both at the end."""

    def __call__(
        self, *, timeouts: Timeouts = QUICK, command: str = "apply"
    ) -> AbstractAsyncContextManager[DriverRig]: ...


Action = Callable[[Session, DriverRig], Awaitable[object]]
"""What a story does on a session."""
Story = Callable[[], Coroutine[Any, Any, None]]


class DriverStories:
    """What a suite of drivers is given, and how its stories are run."""

    @pytest.fixture
    def opened(self) -> Opened:
        """Return what makes a rig."""
        raise NotImplementedError

    def tell(self, story: Story) -> None:
        """Run a story in bounded time; a subclass may do so on a clock of its own."""

        async def bounded() -> None:
            async with asyncio.timeout(PATIENCE):
                await story()

        asyncio.run(bounded())
