"""
The controller of `jtr demo`: a real one keeps the server while people do things.

Its work is awaited by what the server counted and by the passes that it counts, never by a time.
"""

import json
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from reconciler.sandbox.demo.steps import Ran, started
from reconciler.sandbox.parent_watch import Watchdog
from reconciler.sandbox.playground import Playground

_PATIENCE: Final = 60.0  # seconds for what takes less than one, also on a busy machine
_EXIT: Final = 60.0  # seconds; a controller ends itself within 10
_POLL: Final = 0.02  # seconds between two looks at log and server
_FULL: Final = 2  # of two passes that end from now on, one also begins from now on


class Beside:
    """
    A controller that runs beside the story; `close` kills it by its id if it still runs.

    `jtr status` asks it while it runs: the settings of *ground* name it.
    """

    def __init__(self, ground: Playground) -> None:
        self._ground: Final = ground
        self._log: Final[Path] = ground.folder / "controller.log"
        self._process: subprocess.Popen[bytes] | None = None
        self._watchdog: Watchdog | None = None

    def start(self, args: tuple[str, ...]) -> Ran:
        """Start it, and wait until it looked at the server; the first time is a whole pass."""
        with self._log.open("wb") as output:
            self._process = started(self._ground, args, output)
        self._watchdog = Watchdog(self._process.pid)
        self.until(lambda: any(self._logged("pass ", "server")))
        self.look()
        for url in self._logged("listening", "url"):
            self._ground.write_settings(f"controller: {{url: {url}}}")
        return Ran(args, self._process.poll(), self._log.read_text("utf-8"))

    def until(self, condition: Callable[[], bool]) -> None:
        """Wait for it while the controller runs, in bounded time; the step judges what became."""
        deadline = time.monotonic() + _PATIENCE
        while not condition() and self._runs() and time.monotonic() < deadline:
            time.sleep(_POLL)

    def look(self) -> None:
        """Let it look now, and wait until a pass ended that began after this was called."""
        for _ in range(_FULL):
            self._pass()

    def _pass(self) -> None:
        enough = self._passes() + 1
        if self._process is not None and self._runs():
            self._process.send_signal(signal.SIGHUP)
        self.until(lambda: self._passes() >= enough)

    def stop(self, args: tuple[str, ...]) -> Ran:
        """Send SIGTERM and wait for the end."""
        code = None
        if self._process is not None:
            self._process.terminate()
            with suppress(subprocess.TimeoutExpired):
                code = self._process.wait(_EXIT)
        self.close()
        self._ground.write_settings()
        return Ran(args, code, self._log.read_text("utf-8"))

    def close(self) -> None:
        process, self._process = self._process, None
        watchdog, self._watchdog = self._watchdog, None
        if process is not None:
            process.kill()  # does nothing to one that was waited for
            process.wait()
        if watchdog is not None:
            watchdog.close()

    def _runs(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def _passes(self) -> int:
        """Ask how many it made; at rest it only glances, and logs nothing of that."""
        with suppress(OSError, HTTPException):  # it ended
            for url in self._logged("listening", "url"):
                with closing(HTTPConnection(urlsplit(url).netloc, timeout=_PATIENCE)) as it:
                    it.request("GET", "/metrics")
                    told = it.getresponse().read().decode().splitlines()
                passes = (line for line in told if line.startswith("jtr_passes_total{"))
                return round(sum(float(line.rpartition(" ")[2]) for line in passes))
        return 0

    def _logged(self, message: str, key: str) -> Iterator[Any]:
        """Yield what stands under *key* in the lines of its log that begin with *message*."""
        for line in self._log.read_text("utf-8").splitlines():
            try:
                entry = json.loads(line)
            except ValueError:  # a line that is just being written
                continue
            if entry["message"].startswith(message):
                yield entry[key]
