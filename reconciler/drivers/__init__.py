"""
The contract of a driver: how jt-reconciler speaks to a trading server.

A driver knows one kind of server.  It reports facts; the planner decides.  The same contract tests
hold for every driver (`tests/contract/test_drivers.py`).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from reconciler.model import Target
from reconciler.observed import Logbook, Mask, ObservedExchange, ObservedServer, Robot
from reconciler.secrets import Secret


@dataclass(frozen=True, slots=True)
class Login:
    """What to show a server at the door; a missing secret is one that the server does not ask."""

    access_secret: Secret | None = None
    access_token: Secret | None = None


@dataclass(frozen=True, slots=True)
class Trust:
    """Which certificates to believe for a server: a CA file instead of the system's, a client's."""

    ca_file: str | None = None
    client_cert: str | None = None
    client_key: str | None = None


@dataclass(frozen=True, slots=True)
class WriteAnswer:
    """What the server listed in its answer to a write; only a fresh read proves anything."""

    exchange: ObservedExchange | None


class Session(Protocol):
    """
    One authenticated conversation with one server.

    `observe`, `exchanges`, `robots` and `log` change nothing.  `save` and `delete` change the
    server once and leave it the same whether called once or twice with the same arguments; they
    raise `ServerRefused` when nothing was sent because it could fail, and `NoAnswer` or
    `UnknownAnswer` when it cannot be told whether the server acted.  After any of the latter, and
    after `ConnectionLost` or `AnswerTooLong`, the session is dead.
    """

    async def observe(self) -> ObservedServer:
        """Read everything: exchanges, version, robots, log."""
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

    async def save(self, exchange: str, values: Mapping[str, Secret]) -> WriteAnswer:
        """
        Write all fields of *exchange* in one message; keys are the server's field names.

        The names and types come from the newest read on this connection.
        """
        ...

    async def delete(self, exchange: str, name: str) -> WriteAnswer:
        """Delete one field that the newest read on this connection showed as not empty."""
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

    def mask(self, value: Secret) -> Mask:
        """Return what the server would show of *value*."""
        ...

    def refusal(self, value: Secret) -> str:
        """Say why *value* must not be sent; empty when it may."""
        ...

    def mask_bits(self, value: Secret) -> float:
        """Return how many bits of *value* its mask proves; see docs/concepts.md."""
        ...

    def tested(self, version: str) -> bool:
        """Whether this driver's writes were tested against that server version."""
        ...
