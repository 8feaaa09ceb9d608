"""
A trading server in a dictionary, behind the same contract as the real drivers.

For tests of everything above the drivers: it behaves like JT-Trader (masks, `main` and
`additional`, silence when a request fails inside the server), can be told to misbehave, and counts
what was done to it.  It refuses what the real driver refuses, by the same rules, and opens no
sockets.
"""

import enum
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from reconciler.drivers import Login, Trust, WriteAnswer, jt_masks
from reconciler.drivers.jt_answers import read_exchanges
from reconciler.drivers.jt_requests import (
    DELETE,
    MAY_SEND,
    SAVE,
    TESTED,
    Request,
    accepts,
    delete_names,
    save_rows,
)
from reconciler.errors import (
    ConnectionLost,
    DriverError,
    LoginSilent,
    NoAnswer,
    ServerRefused,
    ServerUnreachable,
    Unauthorized,
    UnknownAnswer,
    WrongAccount,
)
from reconciler.model import Target
from reconciler.observed import Logbook, Mask, ObservedExchange, ObservedServer, Robot
from reconciler.secrets import Secret

MAIN: Final[Mapping[str, Mapping[str, str]]] = {
    "gateio": {
        "gateio_api_key": "API Key",
        "gateio_api_secret": "API Secret",
        "gateio_user_id": "User ID",
    },
    "bybit": {"bybit_api_key": "API Key", "bybit_api_secret": "API Secret"},
    "okx": {
        "okx_api_key": "API Key",
        "okx_api_secret": "API Secret",
        "okx_password": "Password",
    },
    "bybit-testnet": {
        "bybit_testnet_api_key": "API Key",
        "bybit_testnet_api_secret": "API Secret",
    },
    "gateio-mock": {},
}
"""What every server of version 0.24.19 lists: exchange code, field name, label."""

ADDITIONAL: Final[Mapping[str, Mapping[str, str]]] = {
    "kucoin": {
        "kucoin_api_key": "apiKey",
        "kucoin_secret": "secret",
        "kucoin_password": "password",
    },
    "kucoinfutures": {
        "kucoinfutures_api_key": "apiKey",
        "kucoinfutures_secret": "secret",
        "kucoinfutures_password": "password",
    },
    "mexc": {"mexc_api_key": "apiKey", "mexc_secret": "secret"},
}
"""What the default `exchanges.conf` adds."""


class Fault(enum.Enum):
    """One way in which the next write goes wrong."""

    FATAL = enum.auto()  # fails inside the server: silence, all robots stop, an alarm in the log
    SILENT = enum.auto()  # took effect, but no answer came
    LOST_BEFORE = enum.auto()  # the connection ended before the server had acted
    LOST_AFTER = enum.auto()  # it ended after the server had acted
    ODD_ANSWER = enum.auto()  # took effect; what came back has an unknown shape
    STOPS_ROBOTS = enum.auto()  # took effect and answered; all robots stop, no alarm
    STOPS_ONE_ROBOT = enum.auto()  # took effect and answered; one running robot stops


class Door(enum.Enum):
    """How the server receives whoever comes."""

    OPEN = enum.auto()
    UNREACHABLE = enum.auto()
    SILENT = enum.auto()


@dataclass(slots=True)
class MemoryServer:
    """
    One server's whole state, changeable by a test at any time.

    `values` goes from field name to what is stored; `faults` are used up one per write, oldest
    first; `lose_field` is a field that every save forgets.  `done` counts what was done to the
    server: opened, refused, closed, read, saved, deleted, fatal.
    """

    account: str = "0"
    access_secret: str | None = None
    version: str = "0.24.19"
    main: Mapping[str, Mapping[str, str]] = field(default_factory=lambda: MAIN)
    additional: Mapping[str, Mapping[str, str]] = field(default_factory=lambda: ADDITIONAL)
    values: dict[str, str] = field(default_factory=dict)
    robots: list[Robot] = field(default_factory=list)
    boot: int | None = 1_000
    alarm: int | None = None
    clock: int = 2_000  # the server's own, in ms; moves on by one with each write
    log_readable: bool = True
    door: Door = Door.OPEN
    faults: list[Fault] = field(default_factory=list)
    lose_field: str | None = None
    lose_connection_on_read: bool = False
    done: Counter[str] = field(default_factory=Counter)

    def listing(self) -> tuple[ObservedExchange, ...]:
        """Return the exchange list as the server shows it now."""
        added = {c: f for c, f in self.additional.items() if f.keys() <= self.values.keys()}
        rest = {c: f for c, f in self.additional.items() if c not in added}
        return read_exchanges(
            {
                "main": [self._entry(*item) for item in (*self.main.items(), *added.items())],
                "additional": [self._entry(*item) for item in rest.items()],
            }
        )

    def reboot(self) -> None:
        """Start anew: a newer boot line, all robots stopped."""
        self.clock += 1
        self.boot = self.clock
        self.stop_robots()

    def stop_robots(self) -> None:
        """Stop all robots."""
        self.robots = [replace(robot, running=False) for robot in self.robots]

    def save(self, rows: list[dict[str, str]]) -> None:
        """Store *rows* as the server does: one by one."""
        self.done["saved"] += 1
        for row in rows:
            if row["name"] != self.lose_field:
                self.values[row["name"]] = row["value"]

    def delete(self, names: list[str]) -> bool:
        """Delete *names* one by one; False when one is not stored, which is fatal there."""
        self.done["deleted"] += 1
        return all(self.values.pop(name, None) is not None for name in names)

    def fatal(self) -> None:
        """Do what a request that fails inside the server does."""
        self.done["fatal"] += 1
        self.alarm = self.clock
        self.stop_robots()

    def _entry(self, code: str, fields: Mapping[str, str]) -> dict[str, object]:
        return {
            "code": code,
            "fields": [
                {
                    "name": name,
                    "type": "string",
                    "label": label,
                    "value": jt_masks.mask_text(self.values.get(name, "")),
                }
                for name, label in fields.items()
            ],
        }


class MemorySession:
    """A conversation with one `MemoryServer`; see `reconciler.drivers.Session`."""

    def __init__(self, server: MemoryServer, may_send: frozenset[str]) -> None:
        self._server: Final = server
        self._may_send: Final = may_send
        self._listed: tuple[ObservedExchange, ...] | None = None
        self._dead = False
        self._closed = False

    async def observe(self) -> ObservedServer:
        """Read everything."""
        exchanges, robots, log = await self.exchanges(), await self.robots(), await self.log()
        return ObservedServer(self._server.account, self._server.version, exchanges, robots, log)

    async def exchanges(self) -> tuple[ObservedExchange, ...]:
        """Read the exchange list anew."""
        self._read()
        self._listed = self._server.listing()
        return self._listed

    async def robots(self) -> tuple[Robot, ...]:
        """Read the robot list anew."""
        self._read()
        return tuple(self._server.robots)

    async def log(self) -> Logbook:
        """Read what the system log proves."""
        self._read()
        if not self._server.log_readable:
            return Logbook(readable=False)
        return Logbook(readable=True, boot=self._server.boot, alarm=self._server.alarm)

    async def save(self, exchange: str, values: Mapping[str, Secret]) -> WriteAnswer:
        """Write all fields of *exchange*."""
        self._refuse_dead()
        rows = save_rows(self._listed, exchange, values)
        self._refuse_forbidden(SAVE)
        fault = self._next_fault()
        if fault not in {Fault.FATAL, Fault.LOST_BEFORE}:
            self._server.save(rows)
        self._misbehave(fault)
        return self._answer(exchange)

    async def delete(self, exchange: str, name: str) -> WriteAnswer:
        """Delete one field, after reading once more that it is stored as it was last shown."""
        self._refuse_dead()
        known = self._listed
        delete_names(known, known or (), exchange, name)
        names = delete_names(known, await self.exchanges(), exchange, name)
        self._refuse_forbidden(DELETE)
        fault = self._next_fault()
        if fault not in {Fault.FATAL, Fault.LOST_BEFORE} and not self._server.delete(names):
            fault = Fault.FATAL
        self._misbehave(fault)
        return self._answer(exchange)

    async def close(self) -> None:
        """Leave; never raises."""
        if not self._closed:
            self._server.done["closed"] += 1
        self._dead = self._closed = True

    def _answer(self, exchange: str) -> WriteAnswer:
        self._listed = self._server.listing()
        return WriteAnswer(next((e for e in self._listed if e.code == exchange), None))

    def _next_fault(self) -> Fault | None:
        self._server.clock += 1
        return self._server.faults.pop(0) if self._server.faults else None

    def _misbehave(self, fault: Fault | None) -> None:
        """Do what *fault* says beyond storing or not; raises what the real driver would."""
        match fault:
            case Fault.FATAL:
                self._server.fatal()
                self._end(NoAnswer("the server did not answer; outcome unknown"))
            case Fault.SILENT:
                self._end(NoAnswer("the server did not answer; outcome unknown"))
            case Fault.LOST_BEFORE | Fault.LOST_AFTER:
                self._end(NoAnswer("the connection was lost; outcome unknown"))
            case Fault.ODD_ANSWER:
                self._end(UnknownAnswer("the answer has a shape that jtr does not know"))
            case Fault.STOPS_ROBOTS:
                self._server.stop_robots()
            case Fault.STOPS_ONE_ROBOT:
                running = [robot for robot in self._server.robots if robot.running]
                for robot in running[:1]:
                    place = self._server.robots.index(robot)
                    self._server.robots[place] = replace(robot, running=False)

    def _read(self) -> None:
        self._refuse_dead()
        self._server.done["read"] += 1
        if self._server.lose_connection_on_read:
            self._end(ConnectionLost("the connection was lost"))

    def _refuse_forbidden(self, request: Request) -> None:
        if request.event not in self._may_send:
            raise ServerRefused(f"this command must not send {request.event}; nothing was sent")

    def _refuse_dead(self) -> None:
        if self._dead:
            raise ConnectionLost("this connection is over; nothing was sent")
        if self._server.door is Door.UNREACHABLE:
            self._end(ConnectionLost("the connection was lost"))

    def _end(self, error: DriverError) -> None:
        self._dead = True
        raise error


class MemoryDriver:
    """
    Opens sessions with servers in memory, found by their normalised URL.

    *command* and *accept_versions* work as for JT-Trader: who may write, and what is tested.
    """

    def __init__(
        self,
        servers: Mapping[str, MemoryServer],
        *,
        command: str = "apply",
        accept_versions: Collection[str] = (),
    ) -> None:
        self.servers: Final = servers
        self._may_send: Final = MAY_SEND[command]
        self._accepted: Final = TESTED.union(accept_versions)

    async def open(self, target: Target, login: Login, trust: Trust) -> MemorySession:  # noqa: ARG002  - no TLS here
        """Be let in as the expected account."""
        server = self.servers.get(target.url)
        if server is None or server.door is Door.UNREACHABLE:
            raise ServerUnreachable(f"no connection to {target.url}: nothing listens at that port")
        if server.door is Door.SILENT:
            raise LoginSilent(f"{target.url} did not say whether it accepts us")
        shown = None if login.access_secret is None else login.access_secret.reveal()
        if server.access_secret is not None and shown != server.access_secret:
            server.done["refused"] += 1
            raise Unauthorized(f"{target.url}: the server did not accept the access secret")
        if server.account != target.account:
            server.done["refused"] += 1
            raise WrongAccount(f"{target.url} reports another account than {target.account!a}")
        server.done["opened"] += 1
        return MemorySession(server, self._may_send)

    def mask(self, value: Secret) -> Mask:
        """Return what the server would show of *value*."""
        return Mask(jt_masks.mask_text(value.reveal()))

    def refusal(self, value: Secret) -> str:
        """Say why *value* must not be sent; empty when it may."""
        return jt_masks.refusal(value.reveal())

    def mask_bits(self, value: Secret) -> float:
        """Return how many bits of *value* its mask proves."""
        return jt_masks.mask_bits(value.reveal())

    def tested(self, version: str) -> bool:
        """Whether writes were tested against *version*, or the operator accepts it."""
        return accepts(self._accepted, version)
