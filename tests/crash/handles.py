"""
Servers as their owners see them: a memory server, or a stand-in on loopback.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final, Protocol

from reconciler.drivers.memory import Fault, MemoryServer
from reconciler.model.observed import Robot
from reconciler.sandbox.jt_trader.faults import Write as Kind
from reconciler.sandbox.jt_trader.server import StandIn


class Handle(Protocol):
    """A server as its owner sees it."""

    url: str

    def values(self) -> dict[str, str]: ...
    def set_value(self, name: str, value: str) -> None: ...
    def remove_value(self, name: str) -> None: ...
    def set_running(self, robot_id: int, running: bool) -> None: ...  # noqa: FBT001  - the value
    def running(self) -> set[int]: ...
    def boot(self) -> None: ...
    def misbehave(self, faults: Sequence[Fault]) -> None: ...
    def writes(self) -> int: ...
    def deletes(self) -> int: ...
    def fatal_paths(self) -> int: ...


@dataclass(slots=True)
class InMemory:
    """A memory server."""

    url: str
    server: MemoryServer

    def values(self) -> dict[str, str]:
        return dict(self.server.values)

    def set_value(self, name: str, value: str) -> None:
        self.server.values[name] = value

    def remove_value(self, name: str) -> None:
        self.server.values.pop(name, None)

    def set_running(self, robot_id: int, running: bool) -> None:  # noqa: FBT001  - the value
        self.server.robots = [
            replace(robot, running=running) if robot.id == robot_id else robot
            for robot in self.server.robots
        ]

    def running(self) -> set[int]:
        return {robot.id for robot in self.server.robots if robot.running}

    def boot(self) -> None:
        self.server.reboot()

    def misbehave(self, faults: Sequence[Fault]) -> None:
        self.server.faults = list(faults)

    def writes(self) -> int:
        return self.server.done["saved"] + self.server.done["deleted"]

    def deletes(self) -> int:
        return self.server.done["deleted"]

    def fatal_paths(self) -> int:
        return self.server.done["fatal"]


@dataclass(slots=True)
class OnLoopback:
    """A stand-in."""

    url: str
    server: StandIn

    def values(self) -> dict[str, str]:
        return self.server.values()

    def set_value(self, name: str, value: str) -> None:
        self.server.set_value(name, value)

    def remove_value(self, name: str) -> None:
        while name in self.server.values():
            self.server.remove_value(name)

    def set_running(self, robot_id: int, running: bool) -> None:  # noqa: FBT001  - the value
        self.server.set_running(robot_id, running)

    def running(self) -> set[int]:
        return self.server.robots_running()

    def boot(self) -> None:
        """Start anew as the log and the robots see it; connections stay."""
        for number in self.running():
            self.server.set_running(number, running=False)
        self.server._state.log.boot()

    def misbehave(self, faults: Sequence[Fault]) -> None:
        """Do the first of *faults* at every write, or none any more."""
        behaviour = self.server.behaviour
        behaviour.save, behaviour.delete = FAULTS[faults[0] if faults else None]

    def writes(self) -> int:
        return self.server.record.saves + self.server.record.deletes

    def deletes(self) -> int:
        return self.server.record.deletes

    def fatal_paths(self) -> int:
        return self.server.record.fatal_paths


FAULTS: Final[Mapping[Fault | None, tuple[Kind, Kind]]] = {
    None: ("answer", "answer"),
    Fault.SILENT: ("drop-midway", "drop-after"),  # silence costs time: something else instead
    Fault.LOST_BEFORE: ("drop-before", "drop-before"),
    Fault.LOST_AFTER: ("drop-after", "drop-after"),
    Fault.ODD_ANSWER: ("unknown-answer", "unknown-answer"),
}
"""What a stand-in does to saves and to deletes."""


def in_memory_robots() -> list[Robot]:
    """Two robots that run on bybit and okx, one that rests on mexc."""
    return [
        Robot(1, "grid", "bybit", running=True),
        Robot(2, "arb", "okx", running=True),
        Robot(3, "old", "mexc", running=False),
    ]
