"""
A stand-in JT-Trader 0.24.19 on loopback, faithful also where the real one is dangerous.

It is for tests, the sandbox and the demo, and for nothing else.  What it does is checked against
transcripts of the real server (`tests/conformance`).

Not there yet: starting and stopping robots (recorded, not answered), what invalidation does to
robots' marks and state, a reboot that takes time, fails or deletes a robot (it stops the robots,
drops every connection and is up again at once), crashes, notifications of failed starts.  Types
other than text, several registered sockets per site account, and dropping long-polling clients are
left out: nothing of ours meets them.
"""

import argparse
import asyncio
import contextlib
import json
import random
import signal
import ssl
import sys
import threading
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from email.utils import formatdate
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

from aiohttp import web

from reconciler.sandbox import record as records
from reconciler.sandbox.behaviour import Behaviour
from reconciler.sandbox.gateway import Gateway
from reconciler.sandbox.record import Record
from reconciler.sandbox.robots import Robot
from reconciler.sandbox.state import ServerState
from reconciler.sandbox.system_log import SYSTEM, SystemLog
from reconciler.sandbox.transport import Transport

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
    ) -> None:
        self.behaviour = behaviour or Behaviour()
        self._state = ServerState(
            access_secret=access_secret,
            account=account,
            robots=list(robots),
            additional=additional,
            behaviour=self.behaviour,
            tokens=dict(tokens or {}),
            random=random.Random(seed),  # noqa: S311  - reproducible faults, no secret
            log=SystemLog(self._clock),
        )
        self.record = self._state.record
        self.url = ""
        self._tls = tls
        self._port = 0
        self._transport: Transport | None = None
        self._runner: web.AppRunner | None = None
        if on_created is not None:
            on_created(self)

    async def start(self, port: int = 0) -> str:
        """Listen on 127.0.0.1 and return the URL; port 0 means the last one, at first any."""
        if self._runner is not None:
            raise RuntimeError("already started")
        gateway = Gateway(self._state, self)
        self._transport = Transport(
            self.behaviour,
            connected=gateway.connected,
            received=gateway.received,
            disconnected=gateway.disconnected,
        )
        app = web.Application()
        app.router.add_route("*", "/socket.io", self._transport.handle)
        app.router.add_route("*", "/socket.io/", self._transport.handle)
        app.router.add_route("*", "/{page:.*}", self._page)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", port or self._port, ssl_context=self._tls)
        try:
            await site.start()
        except OSError:
            await self.stop()
            raise
        self._port = self._runner.addresses[0][1]
        self.url = f"{'https' if self._tls else 'http'}://127.0.0.1:{self._port}"
        self._state.log.boot()
        self._transport.spawn(self._status(gateway))
        return self.url

    async def stop(self) -> None:
        """Drop every connection and free the port; no task, socket or thread is left."""
        transport, self._transport = self._transport, None
        runner, self._runner = self._runner, None
        try:
            if transport is not None:
                await transport.close()
        finally:
            if runner is not None:
                await runner.cleanup()

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
        """Return the ids of the running robots of all accounts."""
        return {robot.id for robot in self._state.robots if robot.running}

    def set_running(self, robot_id: int, running: bool) -> None:  # noqa: FBT001  - it is the value
        """Start or stop a robot as a person on the web page does."""
        for robot in self._state.robots:
            if robot.id == robot_id:
                robot.running = running

    def log_entries(self) -> list[dict[str, Any]]:
        """Return the entries of the system log, empty if one line is no JSON."""
        return self._state.log.entries() or []

    def append_log(self, level: str, class_: str, msg: str, **keys: object) -> None:
        """Append an entry to the system log."""
        self._state.log.append(level, class_, msg, **keys)

    def append_log_line(self, line: str, name: str = SYSTEM) -> None:
        """Append a raw line to a log file; no JSON makes every answer lose its `data`."""
        self._state.log.append_line(name, line)

    def connections(self) -> list[str]:
        """Return the ids of the open connections, oldest first."""
        return self._transport.connections() if self._transport is not None else []

    def drop_connections(self) -> None:
        """End every websocket without a goodbye; call it on the stand-in's own loop."""
        self.drop(None)

    async def send(self, connection: str | None, message: Mapping[str, object]) -> None:
        """Send any `message` to one connection, or to all: what another client caused."""
        if self._transport is not None:
            await self._transport.send(connection, message)

    def drop(self, connection: str | None) -> None:
        """End one connection without a goodbye, or all."""
        if self._transport is not None:
            self._transport.drop(connection)

    def _clock(self) -> float:
        return time.time() + self.behaviour.clock_offset

    async def _page(self, _request: web.Request) -> web.Response:
        """Answer every unknown path with the web page, as the real server does."""
        headers = {"Date": formatdate(self._clock(), usegmt=True)}
        return web.Response(
            text="<!doctype html><title>stand-in</title>", content_type="text/html", headers=headers
        )

    async def _status(self, gateway: Gateway) -> None:
        while True:
            proxy = [{"url": url, "ip": ip} for url, ip in self.behaviour.proxy]
            self._state.log.status(proxy)
            await asyncio.sleep(self.behaviour.status_interval)
            await gateway.update_report(SYSTEM)


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
        self.connections = self.server.connections
        self.log_entries = self.server.log_entries
        self.append_log = self.server.append_log
        self.append_log_line = self.server.append_log_line
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None

    @property
    def url(self) -> str:
        """Where it listens, or listened last."""
        return self.server.url

    def start(self, port: int = 0) -> str:
        """Start the thread and listen; see `StandIn.start`."""
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

    def restart(self, down: float = 0.05) -> None:
        """Be away for *down* seconds and come back on the same port with the same rows."""
        self._run(self._restart(down))

    def drop_connections(self) -> None:
        """End every websocket without a goodbye."""
        self._run(self._dropped())

    def send(self, connection: str | None, message: Mapping[str, object]) -> None:
        """Send any `message` to one connection, or to all: what another client caused."""
        self._run(self.server.send(connection, message))

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    async def _restart(self, down: float) -> None:
        await self.server.stop()
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
    server = StandIn(access_secret=secret, robots=robots)
    stopped = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    url = await server.start(options.port)
    sys.stdout.write(f"listening on {url}\n")
    sys.stdout.flush()
    await stopped.wait()
    await server.stop()


def main(arguments: Sequence[str] | None = None) -> None:
    """Serve in the foreground until SIGINT or SIGTERM."""
    parser = argparse.ArgumentParser(prog="python -m reconciler.sandbox.jt_trader")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--secret-file", type=Path, required=True)
    parser.add_argument("--record", type=Path, help="append a JSON line per received event")
    parser.add_argument("--robots", default="[]", help='JSON: [{"id": 1, "name": ..., ...}]')
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
