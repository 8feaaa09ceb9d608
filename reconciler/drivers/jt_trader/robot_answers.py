"""
Which list of robots is the answer to our start or stop.

Pure but for what it remembers.  After a robot's failed start JT-Trader sends the list to all
clients, and no list says what it answers (docs/protocol.md, 3 and 8b).  Taken for ours while our
robot is still on its way up, it would have the next start sent into the lock, where it is dropped.
"""

from collections.abc import Iterable
from typing import Final

from reconciler.drivers.jt_trader.requests import ROBOTS
from reconciler.drivers.jt_trader.responses import read_robots
from reconciler.errors import UnknownAnswer
from reconciler.model.observed import Robot

NOTICE: Final = "client-notification"
"""What tells the client that connected last that a start failed; the list comes after it."""

SCRIPT_LOG: Final = "user-script-log"
"""What a robot says; why its start failed comes after the list, whoever is registered."""


class Turned:
    """Says of each message whether the newest list ends the wait for *robot* to run, or not to."""

    def __init__(self, before: Iterable[Robot], robot: int, *, running: bool) -> None:
        self._ran: Final = {one.id for one in before if one.running} - {robot}
        self._robot: Final = robot
        self._running: Final = running
        self._failed = self._listed = False

    def __call__(self, event: str, payload: object) -> bool:
        if event == ROBOTS.answer:
            self._listed = True
            return self._ends(payload)
        said = payload if isinstance(payload, dict) else {}
        if event == NOTICE and said.get("type") == "error":
            self._failed = True
        log = said.get("log")
        return (
            self._running
            and self._listed
            and event == SCRIPT_LOG
            and said.get("processId") == str(self._robot)
            and isinstance(log, dict)
            and log.get("level") == "error"
        )

    def _ends(self, payload: object) -> bool:
        try:
            runs = {one.id for one in read_robots(payload) if one.running}
        except UnknownAnswer:
            return True  # whoever asked says so
        if (self._robot in runs) is self._running:
            return True
        # Others that stopped are harm, and to be seen at once.
        return (self._running and self._failed) or not self._ran <= runs
