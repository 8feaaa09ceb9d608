"""
Memory servers that are watched from outside: what arrived, what it did, and to which process.

The watching is independent of our ledger and of the driver's own counts.  A server may also do
what it is asked some time later, when nobody waits for it any more.
"""

import asyncio
import enum
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final, TypeVar

from reconciler.drivers import Login, Session, Trust, WriteAnswer
from reconciler.drivers.memory import Fault, MemoryDriver, Reboot, Trouble
from reconciler.errors import ConnectionLost, ServerRefused
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
from tests.crash.handles import InMemory
from tests.support.virtual_clock import BEGIN

T = TypeVar("T")

PATIENCE: Final = 45.0  # ping interval and timeout of a real server
LATE: Final = 40.0  # within that, and after everybody here has stopped waiting for an answer


class Way(enum.Enum):
    """What the server does with a request to reboot or to invalidate, or about a robot."""

    DID = enum.auto()
    DID_SILENTLY = enum.auto()  # and every answer is lost
    LOST = enum.auto()  # the first of each kind
    IGNORED = enum.auto()  # every request to reboot, on a connection that stays
    LATE = enum.auto()
    UNREADABLE = enum.auto()  # did it, and its system log cannot be read from then on
    UNREADABLE_LOST = enum.auto()
    HANGS = enum.auto()  # a robot's stop hangs: all robots stop, the process stays
    STOP_LOST = enum.auto()
    STOP_UNTOLD = enum.auto()
    START_LOST = enum.auto()
    START_UNTOLD = enum.auto()
    START_FAILS = enum.auto()  # of one robot
    GIVES_UP = enum.auto()  # one robot starts and stops by itself


@dataclass(frozen=True, slots=True)
class Act:
    """Something that happened to a server; *process* counts its processes from 0."""

    what: str
    process: int
    robot: int = 0


@dataclass(slots=True)
class Trader(InMemory):
    """
    See the module.

    `ahead` is how many seconds its clock is ahead of the truth; with `proxy` another one's clock is
    shown to who asks for it, `server.ahead`; `before` is called when a request
    arrives and nothing was done yet.
    """

    truth: Callable[[], datetime] = lambda: BEGIN
    way: Way = Way.DID
    ahead: float = 0.0
    proxy: bool = False
    acts: list[Act] = field(default_factory=list)
    before: Callable[[Act], None] = lambda _act: None

    def note(self, what: str, robot: int = 0) -> None:
        self.acts.append(Act(what, self.server.process, robot))

    def count(self, what: str) -> int:
        return sum(act.what == what for act in self.acts)

    def tick(self) -> None:
        """Let the server's own clock go on."""
        if not self.proxy:
            self.server.ahead = self.ahead
        self.server.clock = max(self.server.clock, int(self.told() * 1000))

    def told(self) -> float:
        """Return what the server's clock shows, in seconds since the epoch."""
        return self.truth().timestamp() + self.ahead

    def reboot_by_hand(self, called: str = "foreign boot") -> None:
        """Let somebody else reboot it."""
        self.tick()
        self.server.reboot()
        self.note(called)

    def turn_by_hand(self, robot: int, *, running: bool) -> None:
        """Let somebody else start or stop a robot."""
        self.set_running(robot, running)
        self.note("foreign start" if running else "foreign stop", robot)


class WatchedSession:
    """A conversation with a `Trader`; takes as long as a real server takes."""

    def __init__(self, inner: Session, trader: Trader) -> None:
        self._inner = inner
        self._trader = trader
        self._server = trader.server

    @property
    def patience(self) -> float:
        return PATIENCE

    async def observe(self) -> ObservedServer:
        self._trader.tick()
        return await self._inner.observe()

    async def exchanges(self) -> tuple[ObservedExchange, ...]:
        return await self._inner.exchanges()

    async def robots(self) -> tuple[Robot, ...]:
        return await self._inner.robots()

    async def log(self) -> Logbook:
        self._trader.tick()
        return await self._inner.log()

    async def entries(self) -> tuple[LogEntry, ...] | None:
        return await self._inner.entries()

    async def save(self, exchange: str, values: Mapping[str, Secret]) -> WriteAnswer:
        self._trader.tick()
        return await self._inner.save(exchange, values)

    async def delete(self, exchange: str, name: str) -> WriteAnswer:
        self._trader.tick()
        return await self._inner.delete(exchange, name)

    async def stop(self, robot: int) -> tuple[Robot, ...]:
        first = not self._trader.count("stop")
        faults = {Way.STOP_LOST: Fault.LOST_BEFORE, Way.STOP_UNTOLD: Fault.LOST_AFTER}
        self._server.robot_faults = self._faults(faults, first=first)
        return await self._robot("stop", robot, self._inner.stop(robot))

    async def start(self, robot: int) -> tuple[Robot, ...]:
        first = not self._trader.count("start")
        faults = {Way.START_LOST: Fault.LOST_BEFORE, Way.START_UNTOLD: Fault.LOST_AFTER}
        self._server.robot_faults = self._faults(faults, first=first)
        troubles = {Way.START_FAILS: Trouble.FAILS_TO_START, Way.GIVES_UP: Trouble.STOPS_ITSELF}
        if first and self._trader.way in troubles:
            self._server.troubles = {robot: troubles[self._trader.way]}
        return await self._robot("start", robot, self._inner.start(robot))

    async def invalidate(self) -> None:
        trader, way = self._trader, self._trader.way
        trader.tick()
        first = not trader.count("invalidate")
        lost = first and way in (Way.LOST, Way.UNREADABLE_LOST)
        if lost or way is Way.LATE:
            self._server.cache_faults = [Fault.LOST_BEFORE]
        elif way is Way.DID_SILENTLY:
            self._server.cache_faults = [Fault.LOST_AFTER]
        before = self._server.done["invalidated"]
        try:
            await self._arrives("invalidate", 0, self._inner.invalidate())
        finally:
            if self._server.done["invalidated"] > before:
                trader.note("invalidated")
            elif way is Way.LATE and first:
                self._later(self._invalidated, self._server.process)

    async def reboot(self) -> None:
        trader, way = self._trader, self._trader.way
        trader.tick()
        first = not trader.count("reboot")
        if way is Way.IGNORED or way is Way.LATE:
            self._server.reboots = [Reboot.IGNORED]
        elif way is Way.UNREADABLE_LOST or (first and way is Way.LOST):
            self._server.reboots = [Reboot.LOST]
        elif way is Way.DID_SILENTLY:
            self._server.reboots = [Reboot.UNTOLD_DONE]
        elif way is Way.HANGS and first:
            self._server.reboots = [Reboot.STOP_HANGS]
        process = self._server.process
        try:
            await self._arrives("reboot", 0, self._inner.reboot())
        finally:
            if way in (Way.UNREADABLE, Way.UNREADABLE_LOST):
                self._server.log_readable = False
            if self._server.process != process:
                trader.acts.append(Act("rebooted", process))
            elif way is Way.LATE and first:
                self._later(self._rebooted, process)

    async def ended(self, within: float) -> bool:
        for _ in range(10):
            if await self._inner.ended(0):
                return True
            await asyncio.sleep(within / 10)
        return await self._inner.ended(0)

    async def close(self) -> None:
        await self._inner.close()

    def _faults(self, faults: Mapping[Way, Fault], *, first: bool) -> list[Fault]:
        way = self._trader.way
        return [faults[way]] if first and way in faults else []

    async def _robot(
        self, what: str, robot: int, request: Coroutine[object, object, tuple[Robot, ...]]
    ) -> tuple[Robot, ...]:
        self._trader.tick()
        ran = robot in self._trader.running()
        try:
            return await self._arrives(what, robot, request)
        finally:
            if ran and robot not in self._trader.running():
                self._trader.note("stopped", robot)
            elif not ran and robot in self._trader.running():
                self._trader.note("started", robot)

    async def _arrives(self, what: str, robot: int, request: Coroutine[object, object, T]) -> T:
        """Note that a request arrived, whatever becomes of it, unless nothing was sent."""
        place = len(self._trader.acts)
        self._trader.note(what, robot)
        self._trader.before(self._trader.acts[place])
        try:
            return await request
        except (ConnectionLost, ServerRefused):
            del self._trader.acts[place]
            raise

    def _later(self, effect: Callable[[int], None], process: int) -> None:
        asyncio.get_running_loop().call_later(LATE, effect, process)

    def _invalidated(self, process: int) -> None:
        if self._server.process == process:
            self._server.done["invalidated"] += 1
            self._trader.note("invalidated")

    def _rebooted(self, process: int) -> None:
        # What was sent to a process that has ended reaches no other one.
        if self._server.process == process:
            self._trader.tick()
            self._server.done["rebooted"] += 1
            self._server.reboot()
            self._trader.acts.append(Act("rebooted", process))


class WatchedDriver:
    """Opens watched sessions."""

    def __init__(self, traders: Mapping[str, Trader], command: str) -> None:
        servers = {url: trader.server for url, trader in traders.items()}
        self._inner = MemoryDriver(servers, command=command)
        self._traders = traders

    async def open(self, target: Target, login: Login, trust: Trust) -> Session:
        inner = await self._inner.open(target, login, trust)
        return WatchedSession(inner, self._traders[target.url])

    async def clock(self, target: Target, trust: Trust) -> ClockReading | None:
        return await self._inner.clock(target, trust)

    def mask(self, value: Secret) -> Mask:
        return self._inner.mask(value)

    def refusal(self, value: Secret) -> str:
        return self._inner.refusal(value)

    def mask_bits(self, value: Secret) -> float:
        return self._inner.mask_bits(value)

    def tested(self, version: str) -> bool:
        return self._inner.tested(version)
