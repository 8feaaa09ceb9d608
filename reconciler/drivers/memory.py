"""
A trading server in a dictionary, behind the same contract as the real drivers.

For tests of everything above the drivers: it behaves like JT-Trader (masks, `main` and
`additional`, silence when a request fails inside the server), can be told to misbehave, and counts
what was done to it.  It refuses what the real driver refuses, by the same rules, and opens no
sockets.
"""

import asyncio
from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Final, NoReturn

from reconciler.drivers import Login, Trust, WriteAnswer
from reconciler.drivers.jt_trader import masks
from reconciler.drivers.jt_trader.requests import (
    DELETE,
    INVALIDATE,
    MAY_SEND,
    REBOOT,
    SAVE,
    START,
    STOP,
    TESTED,
    Request,
    accepts,
    delete_names,
    save_rows,
    start_id,
    stop_id,
)
from reconciler.drivers.jt_trader.responses import SYSTEM_LOG, read_entries, read_log
from reconciler.drivers.jt_trader.session_limits import SessionLimits
from reconciler.drivers.memory_server import (
    ADDITIONAL,
    MAIN,
    Door,
    Fault,
    MemoryServer,
    Reboot,
    Trouble,
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

__all__ = [
    "ADDITIONAL",
    "MAIN",
    "Door",
    "Fault",
    "MemoryDriver",
    "MemoryServer",
    "MemorySession",
    "Reboot",
    "Trouble",
]

_UNTAKEN: Final = frozenset({Fault.FATAL, Fault.LOST_BEFORE})


class MemorySession:
    """A conversation with one `MemoryServer`; see `reconciler.drivers.Session`."""

    def __init__(self, server: MemoryServer, may_send: frozenset[str]) -> None:
        self._server: Final = server
        self._may_send: Final = may_send
        self._process: Final = server.process
        self._session_limits: Final = SessionLimits()
        self._listed: tuple[ObservedExchange, ...] | None = None
        self._robots: tuple[Robot, ...] | None = None
        self._dead = False
        self._closed = False

    @property
    def patience(self) -> float:
        """Seconds after which nothing that was sent here can still be under way."""
        return self._server.patience

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
        self._robots = tuple(self._server.robots)
        return self._robots

    async def log(self) -> Logbook:
        """Read what the system log proves."""
        self._read()
        return read_log(self._log())

    async def entries(self) -> tuple[LogEntry, ...] | None:
        """Read the system log for people."""
        self._read()
        return read_entries(self._log())

    async def save(self, exchange: str, values: Mapping[str, Secret]) -> WriteAnswer:
        """Write all fields of *exchange*."""
        self._refuse_dead()
        rows = save_rows(self._listed, exchange, values)
        self._session_limits.take(SAVE)
        self._refuse_forbidden(SAVE)
        fault = self._next_fault(self._server.faults)
        if fault not in _UNTAKEN:
            self._server.save(rows)
        self._misbehave(fault)
        return self._answer(exchange)

    async def delete(self, exchange: str, name: str) -> WriteAnswer:
        """Delete one field, after reading once more that it is stored as it was last shown."""
        self._refuse_dead()
        known = self._listed
        delete_names(known, known or (), exchange, name)
        names = delete_names(known, await self.exchanges(), exchange, name)
        self._session_limits.take(DELETE)
        self._refuse_forbidden(DELETE)
        fault = self._next_fault(self._server.faults)
        if fault not in _UNTAKEN and not self._server.delete(names):
            fault = Fault.FATAL
        self._misbehave(fault)
        return self._answer(exchange)

    async def stop(self, robot: int) -> tuple[Robot, ...]:
        """Stop one robot that the newest read on this connection showed running."""
        number = stop_id(self._robots, robot)
        self._begin(STOP)
        fault = self._next_fault(self._server.robot_faults)
        listed = None if fault in _UNTAKEN else self._server.stop(number)
        return self._robot_answer(fault, listed)

    async def start(self, robot: int) -> tuple[Robot, ...]:
        """Start one robot that the newest read showed stopped, on a connection made for it."""
        number = start_id(self._robots, robot)
        self._begin(START)
        fault = self._next_fault(self._server.robot_faults)
        listed = None if fault in _UNTAKEN else self._server.start(number)
        return self._robot_answer(fault, listed)

    async def invalidate(self) -> None:
        """Invalidate the cache."""
        self._begin(INVALIDATE)
        fault = self._next_fault(self._server.cache_faults)
        if fault not in _UNTAKEN:
            self._server.done["invalidated"] += 1
        self._misbehave(fault)

    async def reboot(self) -> None:
        """Ask the server's process to end; afterwards this session only reads."""
        self._begin(REBOOT)
        match self._server.asked_to_reboot():
            case Reboot.UNTOLD_DONE | Reboot.UNTOLD_NOT_DONE:
                self._end(NoAnswer("the connection was lost; outcome unknown"))
            case Reboot.LOST:
                self._leave()

    async def ended(self, within: float) -> bool:  # noqa: ARG002  - nothing happens by waiting here
        """Say whether the connection has ended."""
        await asyncio.sleep(0)
        return self._over

    async def close(self) -> None:
        """Leave; never raises."""
        if not self._closed:
            self._server.done["closed"] += 1
            self._leave()
        self._closed = True

    @property
    def _over(self) -> bool:
        return self._dead or self._process != self._server.process

    def _leave(self) -> None:
        """End the connection: whoever leaves takes the registration of all along."""
        if not self._over:
            self._server.registered = False
        self._dead = True

    def _log(self) -> dict[str, object]:
        data = {"data": list(self._server.log)} if self._server.log_readable else {}
        return {"artifacts": SYSTEM_LOG, **data}

    def _begin(self, request: Request) -> None:
        self._session_limits.take(request)
        self._refuse_forbidden(request)
        self._refuse_dead()
        self._server.done[request.event] += 1

    def _robot_answer(
        self, fault: Fault | None, listed: tuple[Robot, ...] | None
    ) -> tuple[Robot, ...]:
        self._misbehave(fault)
        if listed is None:
            self._end(NoAnswer("the server did not answer; outcome unknown"))
        self._robots = listed
        return self._robots

    def _answer(self, exchange: str) -> WriteAnswer:
        self._listed = self._server.listing()
        return WriteAnswer(next((e for e in self._listed if e.code == exchange), None))

    def _next_fault(self, faults: list[Fault]) -> Fault | None:
        self._server.clock += 1
        return faults.pop(0) if faults else None

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
        self._server.looked_at()
        self._refuse_dead()  # a reboot that came late takes the connection along
        if self._server.lose_connection_on_read:
            self._end(ConnectionLost("the connection was lost"))

    def _refuse_forbidden(self, request: Request) -> None:
        if request.event not in self._may_send:
            raise ServerRefused(f"this command must not send {request.event}; nothing was sent")

    def _refuse_dead(self) -> None:
        if self._over:
            raise ConnectionLost("this connection is over; nothing was sent")
        if self._server.door is Door.UNREACHABLE:
            self._end(ConnectionLost("the connection was lost"))

    def _end(self, error: DriverError) -> NoReturn:
        self._leave()
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
        if server.process and server.missed < server.away:
            server.missed += 1
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
        server.registered = True
        return MemorySession(server, self._may_send)

    async def clock(self, target: Target, trust: Trust) -> ClockReading | None:  # noqa: ARG002  - no TLS here
        """Read the server's clock; None when it does not tell, or is not there."""
        server = self.servers.get(target.url)
        if server is None or server.ahead is None or server.door is Door.UNREACHABLE:
            return None
        return ClockReading(server.ahead, 0.5)

    def mask(self, value: Secret) -> Mask:
        """Return what the server would show of *value*."""
        return Mask(masks.mask_text(value.reveal()))

    def refusal(self, value: Secret) -> str:
        """Say why *value* must not be sent; empty when it may."""
        return masks.refusal(value.reveal())

    def mask_bits(self, value: Secret) -> float:
        """Return how many bits of *value* its mask proves."""
        return masks.mask_bits(value.reveal())

    def tested(self, version: str) -> bool:
        """Whether writes were tested against *version*, or the operator accepts it."""
        return accepts(self._accepted, version)
