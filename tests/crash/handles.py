"""
Servers as their owners see them: stand-ins in memory, or on loopback.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from reconciler.sandbox.jt_trader.faults import Write
from reconciler.sandbox.jt_trader.robots import Robot
from reconciler.sandbox.jt_trader.server import StandIn


@dataclass(slots=True)
class Handle:
    """A server as its owner sees it."""

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

    async def boot(self) -> None:
        """Let somebody else reboot it."""
        for number in self.running():
            self.server.set_running(number, running=False)
        await self.server.stop(for_good=False)
        await self.server.start()

    def misbehave(self, faults: Sequence[Write]) -> None:
        """Do these things at the next writes, one each."""
        self.server.behaviour.next_writes = list(faults)

    def writes(self) -> int:
        return self.server.record.saves + self.server.record.deletes

    def deletes(self) -> int:
        return self.server.record.deletes

    def fatal_paths(self) -> int:
        return self.server.record.fatal_paths


class OnLoopback(Handle):
    """On sockets some things cost time, so others stand for them."""

    async def boot(self) -> None:
        """Start anew as the log and the robots see it; connections stay."""
        for number in self.running():
            self.server.set_running(number, running=False)
        self.server._state.log.boot()

    def misbehave(self, faults: Sequence[Write]) -> None:
        """Do the first of *faults* at every write, or none any more."""
        fault = faults[0] if faults else "answer"
        behaviour = self.server.behaviour
        # Silence costs time: something else instead.
        behaviour.save, behaviour.delete = (
            ("drop-midway", "drop-after") if fault == "silent-after" else (fault, fault)
        )


def three_robots() -> list[Robot]:
    """Two robots that run on bybit and okx, one that rests on mexc."""
    return [
        Robot(1, "grid", "bybit"),
        Robot(2, "arb", "okx"),
        Robot(3, "old", "mexc", running=False),
    ]
