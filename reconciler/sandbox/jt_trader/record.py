"""
What was really done to a stand-in JT-Trader: the oracle of the tests.

A record never keeps a value, a mask or a secret: only who sent which event, and what it did.  It
is written by the stand-in's loop and may be read from any thread.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from msgspec import Struct

_COMMAND: Final = re.compile(r"jt-reconciler/\S+ \(([^)]*)\)")

SINK: Callable[[str, str], None] | None = None
"""Called with (command, event) for every received event of every stand-in; from any thread."""


def command_of(agent: str) -> str:
    """Return the command of a jt-reconciler's `User-Agent`; empty for every other client's."""
    found = _COMMAND.fullmatch(agent)
    return found[1] if found else ""


class Handshake(Struct, frozen=True):
    """
    One Socket.IO connection; *at* is monotonic seconds, *command* as in `Received`.

    *overlapping*: another connection of a jt-reconciler was still open when this one came.
    """

    at: float
    connection: str
    command: str
    authorised: bool
    overlapping: bool = False


class Received(Struct, frozen=True):
    """
    One `message` event.

    *command* is what stands in brackets in the handshake's `User-Agent: jt-reconciler/1.2 (plan)`,
    empty for every other client.  *event* is None where the message had none.
    """

    at: float
    connection: str
    command: str
    event: str | None
    authorised: bool


@dataclass(slots=True)
class Start:
    """
    One request to start a robot; *robot* is the payload, which may be no id at all.

    *registered*: the asking connection was the one that is told of failures; else a failed start
    stops all robots.  *overlapping* as in its `Handshake`.  *outcome* is one of "asked" (not yet
    decided, or lost with the process), "started", "failed", "running" (it ran already),
    "unknown" (no such robot), "dropped" (another start was in progress), "bad id".
    """

    at: float
    robot: Any
    command: str
    registered: bool
    overlapping: bool
    outcome: str = "asked"


class Record:
    """
    Counters and lists since the stand-in was made; restarts do not clear them.

    Lists are copies, and grow by single appends, which no other thread sees half done.
    """

    def __init__(self) -> None:
        self._handshakes: list[Handshake] = []
        self._received: list[Received] = []
        self._history: list[tuple[Any, ...]] = []
        self._starts: list[Start] = []
        self._stops_asked: list[tuple[Any, str]] = []
        self.saves = 0
        """Requests to save, answered or not, also of unauthorised sockets."""
        self.deletes = 0
        """Requests to delete, likewise."""
        self.rows_written = 0
        self.rows_deleted = 0
        self.fatal_paths = 0
        """How often a request failed inside the server, which stops every robot."""
        self.robot_stops = 0
        """Robots that ran and were stopped by a fatal path or a reboot."""
        self.invalidations = 0
        """Caches that were really emptied."""
        self.reboots = 0
        """Processes that really ended by a reboot."""
        self.crashes = 0

    @property
    def handshakes(self) -> list[Handshake]:
        return list(self._handshakes)

    @property
    def received(self) -> list[Received]:
        return list(self._received)

    @property
    def history(self) -> list[tuple[Any, ...]]:
        """
        What was done, in its order (a copy).

        ("save" | "delete", account, *names) for each that finished, ("start" | "stop", robot id) on
        request, ("force-stop", robot id) by the robot itself, ("restore", robot id) at a boot,
        ("invalidate",), ("reboot",) when the process ended, ("crash",), ("fatal",).
        """
        return list(self._history)

    @property
    def starts(self) -> list[Start]:
        return list(self._starts)

    @property
    def robot_starts(self) -> list[tuple[Any, str]]:
        """(robot id, command) of each robot that really started on request, as they were asked."""
        return [(start.robot, start.command) for start in self.starts if start.outcome == "started"]

    @property
    def robot_starts_asked(self) -> list[tuple[Any, str]]:
        """(payload, command) of each request to start a robot."""
        return [(start.robot, start.command) for start in self.starts]

    @property
    def robot_stops_asked(self) -> list[tuple[Any, str]]:
        """(payload, command) of each request to stop a robot (a copy)."""
        return list(self._stops_asked)

    @property
    def reboot_requests(self) -> int:
        """Count the requests to reboot, also of unauthorised sockets and without any effect."""
        return self.events("reboot-system-request")

    @property
    def invalidation_requests(self) -> int:
        """Count the requests to empty the cache, likewise."""
        return self.events("invalidate-cache-request")

    def events(self, event: str) -> int:
        return sum(received.event == event for received in self.received)

    def add_handshake(self, handshake: Handshake) -> None:
        self._handshakes.append(handshake)

    def add_received(self, received: Received) -> None:
        """Remember a message and tell the suite's collector."""
        self._received.append(received)
        if SINK is not None:
            SINK(received.command, received.event or "")

    def add_start(self, start: Start) -> None:
        self._starts.append(start)

    def add_stop(self, robot: object, command: str) -> None:
        self._stops_asked.append((robot, command))

    def add_finished(self, kind: str, account: str, names: tuple[str, ...]) -> None:
        """Remember that a save or delete went through all of its rows."""
        self.add_done(kind, account, *names)

    def add_done(self, *what: object) -> None:
        self._history.append(what)
