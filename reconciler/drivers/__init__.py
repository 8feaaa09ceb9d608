"""
The contract of a driver: how jt-reconciler speaks to a trading server.

A driver knows one kind of server.  It reports facts and never decides; the planner does.  The same
contract tests hold for every driver (`reconciler/testing/drivers.py`).  A new one is a folder
whose `driver.py` calls its class `DRIVER`.
"""

import importlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Protocol

from msgspec import Struct

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


def _anyway() -> None:
    """Object to nothing."""


class Login(Struct, frozen=True):
    """What to show a server at the door; a missing secret is one that the server does not ask."""

    access_secret: Secret | None = None
    access_token: Secret | None = None


class Trust(Struct, frozen=True):
    """Which certificates to believe for a server: a CA file instead of the system's, a client's."""

    ca_file: str | None = None
    client_cert: str | None = None
    client_key: str | None = None


class WriteAnswer(Struct, frozen=True):
    """What the server listed in its answer to a write; only a fresh read proves anything."""

    exchange: ObservedExchange | None


class Session(Protocol):
    """
    One authenticated conversation with one server.

    `observe`, `unchanged`, `exchanges`, `robots`, `log` and `entries` change nothing.  `save` and
    `delete` change the server once and leave it the same whether called once or twice with the same
    arguments.  `stop`, `start`, `invalidate` and `reboot` act on trading and are never repeated in
    here.

    What changes the server raises `ServerRefused` or `ConnectionLost` when nothing was sent, and
    `NoAnswer` or `UnknownAnswer` when it cannot be told whether the server acted.  After anything
    but `ServerRefused` the session is dead.
    """

    @property
    def target(self) -> Target:
        """The server and account that this connection was opened to; it serves no other."""
        ...

    @property
    def patience(self) -> float:
        """
        Seconds after which nothing that was sent here can still be under way.

        The server's ping interval and timeout together: by then it has dropped a dead peer.
        """
        ...

    async def observe(self) -> ObservedServer:
        """Read everything: exchanges, version, robots, log."""
        ...

    async def unchanged(self) -> bool:
        """
        Whether exchanges and robots are as they were read last on this connection.

        Reads no log and no version: a process that ended would have ended the connection.
        """
        ...

    async def exchanges(self) -> tuple[ObservedExchange, ...]:
        """Read the exchange list anew."""
        ...

    async def robots(self) -> tuple[Robot, ...]:
        """Read the robot list anew."""
        ...

    async def log(self) -> Logbook:
        """Read what the system log proves; an unreadable log is a fact, not an error."""
        ...

    async def entries(self) -> tuple[LogEntry, ...] | None:
        """Read the system log for people, oldest entry first; None when it is not readable."""
        ...

    async def save(self, exchange: str, values: Mapping[str, Secret]) -> WriteAnswer:
        """
        Write all fields of *exchange* in one message; keys are the server's field names.

        The names and types come from the newest read on this connection.
        """
        ...

    async def delete(
        self, exchange: str, name: str, still: Callable[[], None] = _anyway
    ) -> WriteAnswer:
        """
        Delete one field that the newest read on this connection showed as not empty.

        It may read once more; *still* is called after that, directly before the delete is sent, and
        what it raises leaves the server as it is.
        """
        ...

    async def stop(self, robot: int) -> tuple[Robot, ...]:
        """
        Stop one robot that the newest read on this connection showed running.

        Returns the robots as the server lists them in its answer.
        """
        ...

    async def start(self, robot: int) -> tuple[Robot, ...]:
        """
        Start one robot that the newest read on this connection showed stopped.

        Once per session: a failed start stops all robots unless we registered just before, by
        opening this connection after the last one was closed (docs/protocol.md, 6).  Returns the
        robots as listed in the answer, which comes also when the start failed.
        """
        ...

    async def invalidate(self) -> None:
        """Invalidate the cache; returns when the server answered that it did."""
        ...

    async def reboot(self) -> None:
        """
        Ask the server's process to end.  There is no answer: look at `ended` and at the boot lines.

        Returns when the request was handed to the network.
        """
        ...

    async def ended(self, within: float) -> bool:
        """Wait up to *within* seconds for the connection to end; True when it has."""
        ...

    async def close(self) -> None:
        """Leave politely, in bounded time; never raises."""
        ...


class Driver(Protocol):
    """Opens sessions, and knows what the server makes of a value."""

    async def open(self, target: Target, login: Login, trust: Trust) -> Session:
        """
        Connect and wait until the server says that it accepted us, as the expected account.

        Raises ServerUnreachable, TlsRefused, LoginSilent, Unauthorized or WrongAccount; in every
        case nothing was sent and nothing stays open.
        """
        ...

    async def clock(self, target: Target, trust: Trust) -> ClockReading | None:
        """Read the server's clock without logging in; None when it does not tell."""
        ...

    def mask(self, value: Secret) -> Mask:
        """Return what the server would show of *value*."""
        ...

    def refusal(self, value: Secret) -> str:
        """Say why *value* must not be sent; empty when it may."""
        ...

    def mask_bits(self, value: Secret) -> float:
        """Return how many bits of *value* its mask proves; see docs/concepts/verdicts.md."""
        ...

    def tested(self, version: str) -> bool:
        """Whether this driver's writes were tested against that server version."""
        ...


def drivers() -> tuple[str, ...]:
    """Return the kinds of servers that are known: the folders here that have a `driver.py`."""
    files = (file for folder in __path__ for file in Path(folder).glob("*/driver.py"))
    return tuple(sorted(file.parent.name for file in files))


def driver_of(kind: str) -> Callable[..., Driver]:
    driver: Callable[..., Driver] = importlib.import_module(f"{__name__}.{kind}.driver").DRIVER
    return driver
