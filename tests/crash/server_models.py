"""
Servers that are watched: what arrived, what it did, and to which process.

The stand-in's record is told of it, which knows neither our ledger nor our driver.  A server may
also do what it is asked some time later, when nobody waits for it any more.
"""

import enum
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from reconciler.drivers.jt_trader.requests import INVALIDATE, REBOOT
from reconciler.sandbox.jt_trader.memory import MemoryServer
from reconciler.sandbox.jt_trader.record import Received, Record, Start
from tests.crash.handles import Handle

LATE: Final = 40.0  # after everybody has stopped waiting for an answer, within ping and its timeout


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


Fault = tuple[str, Any]  # what of a `Behaviour` or of a robot is set to what
USUAL: Final[Mapping[str, Fault]] = {
    "invalidate": ("invalidate", "answer"),
    "reboot": ("reboot", "normal"),
    "stop": ("halt", "answer"),
    "start": ("run", "answer"),
}
FIRST: Final[Mapping[tuple[Way, str], Fault]] = {
    (Way.LOST, "invalidate"): ("invalidate", "lost before effect"),
    (Way.LOST, "reboot"): ("reboot", "lost"),
    (Way.UNREADABLE_LOST, "invalidate"): ("invalidate", "lost before effect"),
    (Way.STOP_LOST, "stop"): ("halt", "lost before effect"),
    (Way.STOP_UNTOLD, "stop"): ("halt", "dropped after effect"),
    (Way.START_LOST, "start"): ("run", "lost before effect"),
    (Way.START_UNTOLD, "start"): ("run", "dropped after effect"),
}
EVERY: Final[Mapping[tuple[Way, str], Fault]] = {
    (Way.DID_SILENTLY, "invalidate"): ("invalidate", "dropped after effect"),
    (Way.LATE, "invalidate"): ("invalidate", "late"),
    (Way.LATE, "reboot"): ("reboot", "late"),
    (Way.IGNORED, "reboot"): ("reboot", "ignored"),
    (Way.UNREADABLE_LOST, "reboot"): ("reboot", "lost"),
}
OF_ROBOT: Final[Mapping[tuple[Way, str], Fault]] = {
    (Way.HANGS, "reboot"): ("stop", "hangs"),
    (Way.START_FAILS, "start"): ("start", "fails"),
    (Way.GIVES_UP, "start"): ("stops_itself_after", 0.0),
}
"""What one robot does from the first such request on."""


@dataclass(frozen=True, slots=True)
class Act:
    """Something that happened to a server; *process* counts its processes from 0."""

    what: str
    process: int
    robot: int = 0


class WatchedRecord(Record):
    """Tells a `Trader` what arrives, before anything was done, and what was done."""

    def __init__(self) -> None:
        super().__init__()
        self.arrives: Callable[[str, Any], None] = lambda _what, _robot: None
        self.done: Callable[[str, Any], None] = lambda _what, _robot: None

    def add_received(self, received: Received) -> None:
        super().add_received(received)
        if received.event in (INVALIDATE.event, REBOOT.event):
            self.arrives("invalidate" if received.event == INVALIDATE.event else "reboot", 0)

    def add_start(self, start: Start) -> None:
        super().add_start(start)
        self.arrives("start", start.robot)

    def add_stop(self, robot: object, command: str) -> None:
        super().add_stop(robot, command)
        self.arrives("stop", robot)

    def add_done(self, *what: object) -> None:
        super().add_done(*what)
        called = {"start": "started", "stop": "stopped"}
        called |= {"invalidate": "invalidated", "reboot": "rebooted"}
        if what[0] in called:
            self.done(called[str(what[0])], what[1] if len(what) > 1 else 0)


@dataclass(slots=True)
class Trader(Handle):
    """See the module; `before` is called when a request arrives and nothing was done yet."""

    server: MemoryServer
    way: Way = Way.DID
    acts: list[Act] = field(default_factory=list)
    before: Callable[[Act], None] = lambda _act: None
    process: int = 0

    def __post_init__(self) -> None:
        record = self.server.record
        assert isinstance(record, WatchedRecord)
        record.arrives, record.done = self._arrives, self._done
        self.server.behaviour.effect_late = self.server.behaviour.reboot_late = LATE

    def note(self, what: str, robot: int = 0) -> None:
        self.acts.append(Act(what, self.process, robot))

    def count(self, what: str) -> int:
        return sum(act.what == what for act in self.acts)

    async def reboot_by_hand(self, called: str = "foreign boot") -> None:
        """Let somebody else reboot it."""
        await self.boot()
        self.process += 1
        self.note(called)

    def turn_by_hand(self, robot: int, *, running: bool) -> None:
        """Let somebody else start or stop a robot."""
        self.set_running(robot, running)
        self.note("foreign start" if running else "foreign stop", robot)

    def _arrives(self, what: str, robot: int) -> None:
        self._prepare(what, robot, first=not self.count(what))
        self.note(what, robot)
        self.before(self.acts[-1])

    def _done(self, what: str, robot: int) -> None:
        self.note(what, robot)
        self.process += what == "rebooted"

    def _prepare(self, what: str, robot: int, *, first: bool) -> None:
        """Set up what becomes of a request."""
        behaviour, key = self.server.behaviour, (self.way, what)
        usual = EVERY.get(key, USUAL[what])
        setattr(behaviour, *(FIRST.get(key, usual) if first else usual))
        if first and key in OF_ROBOT:
            which = robot or min(self.running())
            setattr(next(r for r in self.server.robots if r.id == which), *OF_ROBOT[key])
        if what == "reboot" and self.way in (Way.UNREADABLE, Way.UNREADABLE_LOST):
            behaviour.log = "unreadable"
        if what == "reboot" and self.way is Way.DID_SILENTLY:
            self.server.cut_off = frozenset({REBOOT.event})
