"""
The log files of a stand-in JT-Trader, as `logs-list-request` shows them.

One line that is no JSON makes the whole answer lose its `data`.  Asking for a file that does not
exist creates it.  Source: the protocol reference, section 9.
"""

import json
import os
import threading
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

SYSTEM: Final = "system"
_ADDRESS_SERVICES: Final = ("https://icanhazip.com", "https://ipinfo.io/ip")
_LEVELS: Final = {20: "debug", 30: "info", 40: "warn", 50: "error"}


class MissingFolder(Exception):
    """The name points into a folder that does not exist; the real server's fatal path."""


class SystemLog:
    """Log files by name; safe from any thread.  *clock* gives the server's time in seconds."""

    def __init__(self, clock: Callable[[], float], pid: int | None = None) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._files: defaultdict[str, list[dict[str, Any] | None]] = defaultdict(list)
        self.pid = os.getpid() if pid is None else pid
        self.lag = 0.0  # seconds until an entry can be read

    def append(self, level: str, class_: str, msg: str, **keys: object) -> None:
        entry = {"time": round(self._clock() * 1000), "pid": self.pid, "class": class_}
        known = level if level in _LEVELS.values() else "info"
        with self._lock:
            self._files[SYSTEM].append({"level": known, **entry, **keys, "msg": msg})

    def script_error(self, what: str, *, ago: float = 0.0, named: bool = True) -> None:
        """Note an exception of a robot's own script; some entries do not name their cause."""
        stack = [f"Error: {what}", "    at Robot.run (vm.js:12:7)"]
        cause = {"cause": "user-script"} if named else {}
        time = round((self._clock() - ago) * 1000)
        self.append(
            "error",
            "MainProcessExceptionHandler",
            f"Error: {what}",
            stack=stack,
            time=time,
            **cause,
        )

    def append_line(self, name: str, line: str) -> None:
        try:
            entry = json.loads(line)
            entry["level"] = _LEVELS.get(entry.get("level"), "info")
        except ValueError:
            entry = None
        with self._lock:
            self._files[name].append(entry)

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
            self._files[SYSTEM] = [dict(entry) for entry in entries]

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

    def entries(self, name: str = SYSTEM) -> list[dict[str, Any]] | None:
        """Return the entries as answered, None if one line is no JSON; create a missing file."""
        parts = name.split("/")
        if len(parts) > 1 and set(parts[:-1]) != {".."}:
            raise MissingFolder(name)
        latest = (self._clock() - self.lag) * 1000
        with self._lock:
            file = self._files[name]
            if self.lag:  # what was written just now is not in the file yet
                file = [e for e in file if e is None or e.get("time", 0) <= latest]
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
        entries = self.entries(name)
        answer = {"artifacts": payload} if "payload" in message else {}
        return answer if entries is None else {**answer, "data": entries}
