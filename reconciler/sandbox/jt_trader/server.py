"""
A stand-in JT-Trader 0.24.19 on loopback, faithful also where the real one is dangerous.

It is for tests, the sandbox and the demo, and for nothing else.  What it does is checked against
transcripts of the real server (`tests/conformance`).

Left out, because nothing of ours meets it: types other than text, several registered sockets per
site account, and dropping long-polling clients.
"""

import argparse
import asyncio
import contextlib
import json
import random
import signal
import socket
import ssl
import sys
import threading
import time
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Self, TypeVar
from urllib.parse import urlsplit

from reconciler.sandbox.jt_trader import record as records
from reconciler.sandbox.jt_trader.faults import Behaviour
from reconciler.sandbox.jt_trader.loopback import Loopback
from reconciler.sandbox.jt_trader.process import Network, Process
from reconciler.sandbox.jt_trader.record import Record
from reconciler.sandbox.jt_trader.robots import Robot
from reconciler.sandbox.jt_trader.state import ServerState
from reconciler.sandbox.jt_trader.system_log import SYSTEM, SystemLog

__all__ = ["Behaviour", "Record", "Robot", "StandIn", "StandInThread"]

on_created: "Callable[[StandIn], None] | None" = None
"""Called with every new stand-in, from the thread that makes it: the test suite keeps count."""

_T = TypeVar("_T")


class StandIn:
    """
    One trading server; rows, robots, log and record survive `stop` and `start`.

    *tokens* maps site tokens to account ids.  *seed* decides every random pause and message.
    `values`, `set_value`, `robots_running` and the log may be used from any thread.
    """

    def __init__(
        self,
        *,
        access_secret: str,
        account: str = "0",
        robots: Sequence[Robot] = (),
        additional: Sequence[str] = ("mexc", "kucoin", "kucoinfutures"),
        behaviour: Behaviour | None = None,
        seed: int = 0,
        tls: ssl.SSLContext | None = None,
        tokens: Mapping[str, str] | None = None,
        pid: int | None = None,
        record: Record | None = None,
        now: Callable[[], float] = time.time,
    ) -> None:
        """Make one; *pid* is the process id in its log, else that of this process."""
        self.behaviour = behaviour or Behaviour()
        self._now = now
        self._state = ServerState(
            access_secret=access_secret,
            account=account,
            robots=list(robots),
            additional=additional,
            behaviour=self.behaviour,
            tokens=dict(tokens or {}),
            random=random.Random(seed),  # noqa: S311  - reproducible faults, no secret
            log=SystemLog(self._clock, pid, lambda: self._state.drawn(self.behaviour.log_lag)),
            record=record or Record(),
        )
        self._state.marks = {robot.id for robot in robots if robot.running}  # as if started before
        self.record = self._state.record
        self.robots = self._state.robots
        self.log = self._state.log
        self.url = ""
        self._tls = tls
        self._held: socket.socket | None = None
        self._process: Process | None = None
        self._booted = False
        self._ends: set[asyncio.Task[None]] = set()
        if on_created is not None:
            on_created(self)

    async def start(self, port: int = 0) -> str:
        """
        Listen on 127.0.0.1 and return the URL; port 0 means the last one, at first any.

        Robots that run at the first start take the keys that are stored then.  The lines of that
        boot can be read at once, those of the next ones as late as all others.
        """
        if self._process is not None:
            raise RuntimeError("already started")
        if self._booted and self.behaviour.pid_changes:
            self._state.log.pid += 1
        if self._booted:
            self._state.log.serve(asyncio.get_running_loop().time)
        process = self._process = Process(
            self._state, self._new_network(), rebooted=self._rebooted, crashed=self._crashed
        )
        try:
            port = port or urlsplit(self.url).port or 0
            self.url = await process.start(port, first=not self._booted)
        except OSError:
            await self._end_process()
            raise
        self._let_go()
        self._booted = True
        self._state.log.serve(asyncio.get_running_loop().time)
        return self.url

    async def stop(self, *, for_good: bool = True) -> None:
        """
        Drop every connection and free the port; no task, socket or thread is left.

        With *for_good* false the port stays ours until the next `start`.  Like a crash, except that
        nothing is recorded and `robots_running` tells who ran last.
        """
        ends = list(self._ends)
        for task in ends:
            task.cancel()
        outcomes = await asyncio.gather(*ends, return_exceptions=True)
        self._ends.clear()
        await self._end_process()
        if for_good:
            self._let_go()
        failures = [outcome for outcome in outcomes if isinstance(outcome, Exception)]
        if failures:
            raise ExceptionGroup("the stand-in itself failed to come back", failures)

    async def crash(self, down: float | None = None) -> None:
        """
        Die as by kill -9 and come back *down* seconds later, with None not before `come_back`.

        Robots write nothing; those with marks are started again before the port opens.
        """
        if not await self._die():
            raise RuntimeError("not running")
        if down is not None:
            coming = self._in_background(self._return(down))
            try:
                await coming
            finally:
                self._ends.discard(coming)

    async def come_back(self) -> None:
        """Start the process of a server that stayed away; waits for one that is still ending."""
        if self._ends:
            await asyncio.wait(self._ends)
        await self.start()

    async def _die(self) -> bool:
        """Let the process die, and tell whether there was one."""
        process = self._process
        if process is None or process.killed:
            return False
        self.record.crashes += 1
        self.record.add_done("crash")
        process.runtime.kill()
        await self._end_process()
        return True

    def _crashed(self) -> None:
        self._in_background(self._crash())

    async def _crash(self) -> None:
        if await self._die():
            await self._return(self._state.drawn(self.behaviour.reboot_down))

    def _rebooted(self) -> None:
        self._in_background(self._reboot())

    async def _reboot(self) -> None:
        if self._process is None or self._process.killed:
            return  # a crash was quicker
        self.record.reboots += 1
        self.record.add_done("reboot")
        stays_away = self.behaviour.reboot == "never comes back"
        await self._end_process()
        if not stays_away:
            await self._return(self._state.drawn(self.behaviour.reboot_down))

    async def _return(self, down: float) -> None:
        await asyncio.sleep(down)
        await self.start()

    def _in_background(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Do what outlives a process; `stop` ends it, and raises its failure."""
        task = asyncio.ensure_future(work)
        self._ends.add(task)
        task.add_done_callback(self._returned)
        return task

    def _returned(self, task: asyncio.Task[None]) -> None:
        if task.cancelled() or task.exception() is None:
            self._ends.discard(task)

    async def _end_process(self) -> None:
        """End the process; its port stays ours until another one listens, or `stop`."""
        if self._process is not None:
            self._held = self._held or self._process.network.hold()
            await self._process.kill()
            self._process = None

    def _let_go(self) -> None:
        if self._held is not None:
            self._held.close()
            self._held = None

    async def force_stop(self, robot_id: int) -> None:
        """Let a running robot stop itself; with nobody registered this stops all the others."""
        if self._process is not None:
            await self._process.force_stop(robot_id)

    def values(self, account: str = "0") -> dict[str, str]:
        """Return what is really stored: the oldest row of each name."""
        return self._state.rows.values(account)

    def rows(self, account: str = "0") -> list[tuple[str, str, str]]:
        """Return (name, type, value) of every row, duplicates too, oldest first."""
        return self._state.rows.listing(account)

    def set_value(self, name: str, value: str, account: str = "0") -> None:
        """Store a value as somebody does who types it into the web page; nothing is recorded."""
        found = self._state.rows.find_first(account, name)
        if found is None:
            self._state.rows.insert(account, name, "string", value)
        else:
            self._state.rows.update(found, value)

    def remove_value(self, name: str, account: str = "0") -> None:
        """Remove the oldest row of this name, as somebody does on the web page."""
        found = self._state.rows.find_first(account, name)
        if found is not None:
            self._state.rows.delete(found)

    def robots_running(self) -> set[int]:
        return {robot.id for robot in self._state.robots if robot.running}

    def set_running(self, robot_id: int, running: bool) -> None:  # noqa: FBT001  - it is the value
        """
        Start or stop a robot as a person on the web page does; nothing is recorded.

        A start always succeeds and takes the keys that are stored now.
        """
        for robot in self._state.robots:
            if robot.id != robot_id:
                continue
            if self._process is None:
                robot.running = running
                (self._state.marks.add if running else self._state.marks.discard)(robot_id)
            elif running:
                self._process.runtime.begin(robot)
            else:
                self._process.runtime.end(robot)

    def robot_credentials(self, robot_id: int) -> dict[str, str]:
        """Return the field names and values with which a robot really trades now."""
        return self._process.runtime.keys(robot_id) if self._process is not None else {}

    def saved_state(self, robot_id: int) -> str | None:
        return self._state.saved.get(robot_id)

    def marked(self) -> set[int]:
        """Return the ids of the robots that the next process would start again."""
        return set(self._state.marks)

    def log_entries(self) -> list[dict[str, Any]]:
        """Return the entries of the system log, empty if one line is no JSON."""
        return self._state.log.entries() or []

    def append_log(self, level: str, class_: str, msg: str, **keys: Any) -> None:
        """Let the system log have one more entry, which can be read at once."""
        self._state.log.append(level, class_, msg, late=False, **keys)

    def script_error(self, what: str, *, named: bool = True) -> None:
        """
        Note an error of a robot's own script, as its tick may throw one at any moment.

        It can be read at once.
        """
        self._state.log.script_error(what, named=named, late=False)

    def append_log_line(self, line: str, name: str = SYSTEM) -> None:
        """Append a raw line to a log file; no JSON makes every answer lose its `data`."""
        self._state.log.append_line(name, line)

    def rotate_log(self) -> None:
        """Make the older lines of the system log, boot lines included, unreachable."""
        self._state.log.rotate()

    def restore_log(self, entries: Iterable[Mapping[str, Any]]) -> None:
        """Let the system log be what `log_entries` once returned."""
        self._state.log.restore(entries)

    def connections(self) -> list[str]:
        return self._process.network.connections() if self._process is not None else []

    def drop_connections(self) -> None:
        """End every websocket without a goodbye; call it on the stand-in's own loop."""
        self.drop(None)

    async def send(self, connection: str | None, message: Mapping[str, object]) -> None:
        """Send any `message` to one connection, or to all: what another client caused."""
        if self._process is not None:
            await self._process.network.send(connection, message)

    def drop(self, connection: str | None) -> None:
        if self._process is not None:
            self._process.network.drop(connection)

    def _clock(self) -> float:
        return self._now() + self.behaviour.clock_offset

    def _new_network(self) -> Network:
        return Loopback(self.behaviour, tls=self._tls, clock=self._clock)


class StandInThread:
    """
    The same server on a thread and loop of its own, for tests that have no loop.

    Enter it, or call `start` and `stop`; every method may be called from any thread.
    """

    def __init__(self, **options: Any) -> None:
        self.server = StandIn(**options)
        self.record = self.server.record
        self.behaviour = self.server.behaviour
        self.values = self.server.values
        self.rows = self.server.rows
        self.set_value = self.server.set_value
        self.remove_value = self.server.remove_value
        self.robots_running = self.server.robots_running
        self.set_running = self.server.set_running
        self.robot_credentials = self.server.robot_credentials
        self.saved_state = self.server.saved_state
        self.marked = self.server.marked
        self.rotate_log = self.server.rotate_log
        self.connections = self.server.connections
        self.log_entries = self.server.log_entries
        self.append_log = self.server.append_log
        self.script_error = self.server.script_error
        self.append_log_line = self.server.append_log_line
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None

    @property
    def url(self) -> str:
        return self.server.url

    def start(self, port: int = 0) -> str:
        if self._thread is not None:
            raise RuntimeError("already started")
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        try:
            return self._run(self.server.start(port))
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Free the port and end the thread; does nothing if it was not started."""
        loop, thread = self._loop, self._thread
        if loop is None or thread is None:
            return
        try:
            self._run(self.server.stop())
        finally:
            self._loop = self._thread = None
            loop.call_soon_threadsafe(loop.stop)
            thread.join(timeout=10)
            loop.close()

    def restart(self, down: float = 0.05, *, shown: bool = True) -> None:
        """Be away for *down* seconds, and come back with the same rows; its log has *shown* it."""
        self._run(self._restart(down))
        if shown:
            self.show_log()

    def crash(self, down: float | None = None) -> None:
        self._run(self.server.crash(down))

    def come_back(self) -> None:
        self._run(self.server.come_back())
        self.show_log()

    def show_log(self) -> None:  # all that happened
        self._run(asyncio.sleep(self.server.log.rest()))

    def force_stop(self, robot_id: int) -> None:
        self._run(self.server.force_stop(robot_id))

    def drop_connections(self) -> None:
        self._run(self._dropped())

    def send(self, connection: str | None, message: Mapping[str, object]) -> None:
        self._run(self.server.send(connection, message))

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    async def _restart(self, down: float) -> None:
        await self.server.stop(for_good=False)
        await asyncio.sleep(down)
        await self.server.start()

    async def _dropped(self) -> None:
        self.server.drop_connections()

    def _run(self, work: Coroutine[Any, Any, _T]) -> _T:
        if self._loop is None:
            work.close()
            raise RuntimeError("not started")
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(timeout=30)


async def _serve(options: argparse.Namespace) -> None:
    robots = [Robot(**robot) for robot in json.loads(options.robots)]
    secret = options.secret_file.read_text().strip()
    server = StandIn(access_secret=secret, robots=robots, behaviour=_behaviour(options.behaviour))
    stopped = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    url = await server.start(options.port)
    sys.stdout.write(f"listening on {url}\n")
    sys.stdout.flush()
    await stopped.wait()
    await server.stop()


def _behaviour(text: str) -> Behaviour:
    """Read a behaviour from JSON: lists stand for what is no list in Python."""
    options = json.loads(text)
    for name in ("silent", "unknown"):
        options[name] = frozenset(options.get(name, ()))
    for name in ("row_delay", "proxy", "reboot_drop", "reboot_down", "log_lag"):
        if name in options:
            options[name] = _tuples(options[name])
    return Behaviour(**options)


def _tuples(value: Any) -> Any:
    return tuple(map(_tuples, value)) if isinstance(value, list) else value


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m reconciler.sandbox.jt_trader.server")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--secret-file", type=Path, required=True)
    parser.add_argument("--record", type=Path, help="append a JSON line per received event")
    parser.add_argument("--robots", default="[]", help='JSON: [{"id": 1, "name": ..., ...}]')
    parser.add_argument("--behaviour", default="{}", help='JSON: {"reboot_down": 2.0, ...}')
    options = parser.parse_args(arguments)
    with contextlib.ExitStack() as stack:
        if options.record is not None:
            file = stack.enter_context(options.record.open("a", buffering=1))
            records.SINK = lambda command, event: print(
                json.dumps({"command": command, "event": event}), file=file
            )
        asyncio.run(_serve(options))


if __name__ == "__main__":
    main()
