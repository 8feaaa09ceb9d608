"""
The part of `jtr demo` about the controller: a real one keeps the server while people do things.

Its work is awaited by what the server counted and by the passes that it logged, never by a time.
"""

import json
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from reconciler.sandbox.demo.steps import (
    CREDENTIALS,
    RESTART,
    RESTARTS,
    Hands,
    Ran,
    Step,
    invocation,
)
from reconciler.sandbox.parent_watch import Watchdog
from reconciler.sandbox.playground import DECLARED, DOCUMENTS, Playground

_PATIENCE: Final = 20.0  # seconds for what takes less than one
_EXIT: Final = 12.0  # seconds; a controller ends within 10
_POLL: Final = 0.02  # seconds between two looks at log and server
_FULL: Final = 2  # of two passes that end from now on, one also begins from now on
_CONTROLLER: Final = ("controller", DOCUMENTS, "--listen", "127.0.0.1:0")
_STATUS: Final = ("status",)
_READS_ONLY: Final = frozenset[str]()


class Beside:
    """
    A controller that runs beside the story; leaving this kills it by its id if it still runs.

    `jtr status` asks it while it runs: the settings of *ground* name it.
    """

    def __init__(self, ground: Playground) -> None:
        self._ground: Final = ground
        self._log: Final[Path] = ground.folder / "controller.log"
        self._process: subprocess.Popen[bytes] | None = None
        self._watchdog: Watchdog | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._end()

    def start(self, args: tuple[str, ...]) -> Ran:
        """Start it, and wait until it looked at the server three times."""
        command, environment = invocation(self._ground, args)
        with self._log.open("wb") as output:
            self._process = subprocess.Popen(  # noqa: S603  - our own interpreter and package
                command,
                env=environment,
                cwd=self._ground.folder,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C is for us to handle
            )
        self._watchdog = Watchdog(self._process.pid)
        self.until(lambda: self._passes() > _FULL)
        for url in self._logged("listening", "url"):
            self._ground.write_settings(f"controller: {{url: {url}}}")
        return Ran(args, self._process.poll(), self._log.read_text("utf-8"))

    def until(self, condition: Callable[[], bool]) -> None:
        """Wait for it while the controller runs, in bounded time; the step judges what became."""
        deadline = time.monotonic() + _PATIENCE
        while not condition() and self._runs() and time.monotonic() < deadline:
            time.sleep(_POLL)

    def look(self) -> None:
        """Wait until a pass ended that began after this was called."""
        enough = self._passes() + _FULL
        self.until(lambda: self._passes() >= enough)

    def stop(self, args: tuple[str, ...]) -> Ran:
        """Send SIGTERM and wait for the end."""
        code = None
        if self._process is not None:
            self._process.terminate()
            with suppress(subprocess.TimeoutExpired):
                code = self._process.wait(_EXIT)
        self._end()
        self._ground.write_settings()
        return Ran(args, code, self._log.read_text("utf-8"))

    def _end(self) -> None:
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
        return sum(1 for _ in self._logged("pass ", "server"))

    def _logged(self, message: str, key: str) -> Iterator[Any]:
        """Yield what stands under *key* in the lines of its log that begin with *message*."""
        for line in self._log.read_text("utf-8").splitlines():
            try:
                entry = json.loads(line)
            except ValueError:  # a line that is just being written
                continue
            if entry["message"].startswith(message):
                yield entry[key]


def controller_steps(hands: Hands, beside: Beside) -> tuple[Step, ...]:
    """Return the steps from the controller's start to its end."""

    def start_robot() -> None:
        hands.ground.server.set_running(1, running=True)
        beside.look()

    return (
        Step(
            "requests removed from the document; a controller takes over",
            _CONTROLLER,
            "one connection, which it keeps, and only reads",
            prepare=lambda: hands.ground.declare(*DECLARED, more=(RESTART,)),
            runs=beside.start,
            code=None,
            says=("listening", "(pass healthy(.|\n)*){3}"),
            held=1,
            sends=_READS_ONLY,
        ),
        *_meanwhile(hands, beside),
        Step(
            "somebody starts it again; SIGTERM to the controller",
            _CONTROLLER,
            "ended with 0, no connection left",
            prepare=start_robot,
            runs=beside.stop,
            says=(r'stopped without our asking(.|\n)*pass healthy(.|\n)*"message": "stopped"',),
            connections=0,
            watched=True,
            sends=_READS_ONLY,
            trades=frozenset({"bybit", "okx"}),
        ),
    )


def _meanwhile(hands: Hands, beside: Beside) -> tuple[Step, ...]:
    ground = hands.ground
    server = ground.server

    def rotate() -> None:
        ground.rotate("bybit")
        beside.until(lambda: server.robot_credentials(1) == ground.in_vault["bybit"])
        beside.look()

    def change() -> None:
        hands.type("okx_api_secret")
        beside.look()

    def stop_robot() -> None:
        server.force_stop(1)
        beside.look()

    return (
        Step(
            "bybit rotated in Vault, nobody asks; status",
            _STATUS,
            "written, its robot restarted",
            prepare=rotate,
            says=("^  synced, healthy",),
            connections=1,  # a new one before the start
            held=1,
            watched=True,
            sends=CREDENTIALS | RESTARTS,
            stores=("bybit",),
            did=(("stop", 1), ("start", 1)),
        ),
        Step(
            "okx changed by hand; status",
            _STATUS,
            "reported as drift, left alone",
            prepare=change,
            says=("drift on 1 exchange",),
            connections=0,
            held=1,
            watched=True,
            sends=_READS_ONLY,
        ),
        Step(
            "robot grid-btc stops by itself; status",
            _STATUS,
            "named; arb runs on, for somebody is connected",
            prepare=stop_robot,
            says=(r"robots stopped without our asking: grid-btc \(bybit\)",),
            connections=0,
            held=1,
            watched=True,
            sends=_READS_ONLY,
            did=(("force-stop", 1),),
            running=frozenset({2}),
            trades=frozenset({"okx"}),
        ),
    )
