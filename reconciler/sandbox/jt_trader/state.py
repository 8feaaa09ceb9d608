"""All of a stand-in JT-Trader that survives its restart."""

import asyncio
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from reconciler.sandbox.jt_trader.faults import Behaviour, Span, Write, drawn
from reconciler.sandbox.jt_trader.record import Record
from reconciler.sandbox.jt_trader.robots import Robot
from reconciler.sandbox.jt_trader.rows import Rows
from reconciler.sandbox.jt_trader.system_log import SystemLog


@dataclass(slots=True)
class ServerState:
    """
    What one server is; *tokens* maps site tokens to account ids.

    *marks* and *saved* are the cache: the robots that the next process starts again, and what
    robots wrote when they stopped.  An invalidation empties both; a reboot removes the marks of the
    robots that it stops, if it gets through.
    """

    access_secret: str = field(repr=False)
    account: str
    robots: list[Robot]
    additional: Sequence[str]
    behaviour: Behaviour
    tokens: Mapping[str, str] = field(repr=False)
    random: random.Random
    log: SystemLog
    rows: Rows = field(default_factory=Rows)
    record: Record = field(default_factory=Record)
    marks: set[int] = field(default_factory=set)
    saved: dict[int, str] = field(default_factory=dict)

    def jobs(self, account: str) -> list[dict[str, Any]]:
        return [robot.job() for robot in self.robots if robot.account == account]

    def drawn(self, span: Span) -> float:
        return drawn(span, self.random)

    async def pause(self) -> None:
        """Wait as long as one query takes."""
        if self.behaviour.row_delay[1]:
            await asyncio.sleep(self.random.uniform(*self.behaviour.row_delay))

    def fault(self, kind: str) -> Write:
        if self.behaviour.next_writes:
            return self.behaviour.next_writes.pop(0)
        return self.behaviour.save if kind == "save" else self.behaviour.delete
