"""
The log files of a stand-in JT-Trader, as `logs-list-request` shows them.

One line that is no JSON makes the whole answer lose its `data`.  Asking for a file that does not
exist creates it.  Source: the protocol reference, section 9.
"""

import json
import math
import os
import threading
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from itertools import takewhile
from typing import Any, Final, NamedTuple

SYSTEM: Final = "system"
_ADDRESS_SERVICES: Final = ("https://icanhazip.com", "https://ipinfo.io/ip")
_AT_ONCE: Final = -math.inf
_LEVELS: Final = {20: "debug", 30: "info", 40: "warn", 50: "error"}


class MissingFolder(Exception):
    """The name points into a folder that does not exist; the real server's fatal path."""


class _Line(NamedTuple):
    """A line of a file: None where it is no JSON; readable from that time of the loop on."""

    readable: float
    entry: dict[str, Any] | None


class SystemLog:
    """
    Log files by name; safe from any thread.  *clock* gives the server's time in seconds.

    What the server itself writes can be read *lag* seconds later, in the order in which it was
    written; once `serve` told whose seconds these are.  Before that it is as old as any log.
    """

    def __init__(
        self,
        clock: Callable[[], float],
        pid: int | None = None,
        lag: Callable[[], float] = lambda: 0.0,
    ) -> None:
        self._clock = clock
        self._lag = lag
        self._timer: Callable[[], float] | None = None
        self._lock = threading.Lock()
        self._files: defaultdict[str, list[_Line]] = defaultdict(list)
        self._latest = _AT_ONCE
        self.pid = os.getpid() if pid is None else pid

    def serve(self, timer: Callable[[], float]) -> None:
        """Let entries be late from now on, by the *timer* of the loop that serves."""
        if timer == self._timer:
            return
        self._timer = timer
        self.show()  # another loop's seconds say nothing here

    def show(self) -> None:
        """Let everything that was written be read from now on, however late it would be."""
        with self._lock:
            self._latest = _AT_ONCE
            for lines in self._files.values():
                lines[:] = [_Line(_AT_ONCE, line.entry) for line in lines]

    def append(
        self,
        level: str,
        class_: str,
        msg: str,
        *,
        ago: float = 0.0,
        late: bool = True,
        **keys: object,
    ) -> None:
        """Write an entry as if *ago* seconds ago; one that is not *late* can be read at once."""
        entry = {"time": round((self._clock() - ago) * 1000), "pid": self.pid, "class": class_}
        known = level if level in _LEVELS.values() else "info"
        whole = {"level": known, **entry, **keys, "msg": msg}
        readable = _AT_ONCE
        if late and self._timer is not None:
            readable = self._latest = max(self._latest, self._timer() - ago + self._lag())
        with self._lock:
            self._files[SYSTEM].append(_Line(readable, whole))

    def script_error(
        self, what: str, *, ago: float = 0.0, named: bool = True, late: bool = True
    ) -> None:
        """Note an exception of a robot's own script; some entries do not name their cause."""
        stack = [f"Error: {what}", "    at Robot.run (vm.js:12:7)"]
        cause = {"cause": "user-script"} if named else {}
        self.append(
            "error",
            "MainProcessExceptionHandler",
            f"Error: {what}",
            ago=ago,
            late=late,
            stack=stack,
            **cause,
        )

    def append_line(self, name: str, line: str) -> None:
        try:
            entry = json.loads(line)
            entry["level"] = _LEVELS.get(entry.get("level"), "info")
        except ValueError:
            entry = None
        with self._lock:
            self._files[name].append(_Line(_AT_ONCE, entry))

    def rest(self) -> float:
        """Return after how many seconds all that was written can be read."""
        return 0.0 if self._timer is None else max(0.0, self._latest - self._timer())

    def now(self) -> float:
        """Return the server's time in seconds."""
        return self._clock()

    def boot(self) -> None:
        self.boot_begins()
        self.boot_ends()

    def boot_begins(self) -> None:
        """Write the lines from before the robots are restored."""
        self.append("info", "PrismaDriver", "Cache PrismaDriver selected")
        self.append("info", "NestFactory", "Starting Nest application...")
        self.append("info", "InstanceLoader", "AppModule dependencies initialized")

    def boot_ends(self) -> None:
        """Write the lines from just before the port opens."""
        self.append(
            "info", "WebSocketsController", 'EventsGateway subscribed to the "message" message'
        )
        self.append("info", "NestApplication", "Nest application successfully started")

    def restore(self, entries: Iterable[Mapping[str, Any]]) -> None:
        """Let the system log hold just these."""
        with self._lock:
            self._files[SYSTEM] = [_Line(_AT_ONCE, dict(entry)) for entry in entries]

    def rotate(self) -> None:
        """Copy and truncate the system log: no request reaches the older lines any more."""
        with self._lock:
            self._files[SYSTEM].clear()

    def status(self, proxy: list[dict[str, str]]) -> None:
        """Write the five-minute entry; *proxy* is the server's address as two services saw it."""
        if not proxy:
            for url in _ADDRESS_SERVICES:
                self.append(
                    "warn",
                    "MonitoringService",
                    "Failed Proxy check request",
                    url=url,
                    error="Error: connect ECONNREFUSED",
                    proxy="",
                )
        self.append("info", "MonitoringService", "App STATUS", DataFeedFactory=[], Proxy=proxy)

    def entries(self, name: str = SYSTEM, until: float = math.inf) -> list[dict[str, Any]] | None:
        """
        Return the entries that can be read *until* then, by default all that were written.

        None if one line is no JSON.  Creates a missing file.
        """
        parts = name.split("/")
        if len(parts) > 1 and set(parts[:-1]) != {".."}:
            raise MissingFolder(name)
        with self._lock:
            lines = self._files[name]  # a line is never readable before the one above it
            file = [line.entry for line in takewhile(lambda line: line.readable <= until, lines)]
            entries = [entry.copy() for entry in file if entry is not None]
            return entries if len(entries) == len(file) else None

    def answer(self, message: Mapping[str, object]) -> dict[str, Any]:
        """Return the payload of a `logs-list-response`; any payload is taken as a file name."""
        payload = message.get("payload")
        match payload:
            case None:
                name = "null" if "payload" in message else "undefined"
            case dict():
                name = "[object Object]"
            case _:
                name = str(payload)
        entries = self.entries(name, self._timer() if self._timer is not None else math.inf)
        answer = {"artifacts": payload} if "payload" in message else {}
        return answer if entries is None else {**answer, "data": entries}
