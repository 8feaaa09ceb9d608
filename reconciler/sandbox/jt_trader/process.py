"""
One process of a stand-in JT-Trader: from the boot lines in the log to the end of all connections.

It listens on loopback and joins the gateway, which knows no transport, to the transport.
"""

import asyncio
import socket
import ssl
from collections.abc import Callable, Coroutine, Mapping
from email.utils import formatdate
from typing import Any, Final

from aiohttp import web

from reconciler.sandbox.jt_trader.gateway import Gateway
from reconciler.sandbox.jt_trader.runtime import Runtime
from reconciler.sandbox.jt_trader.state import ServerState
from reconciler.sandbox.jt_trader.system_log import SYSTEM
from reconciler.sandbox.jt_trader.transport import Transport

_ROUNDS: Final = 5  # of the loop, from accepting a connection to its handler


class Process:
    """
    Started once, killed for good; implements the gateway's `Link`.

    *rebooted* is called when the process ends itself; its owner then kills it and starts another.
    *clock* gives the server's time in seconds.
    """

    def __init__(
        self,
        state: ServerState,
        *,
        tls: ssl.SSLContext | None,
        clock: Callable[[], float],
        rebooted: Callable[[], None],
    ) -> None:
        self._state = state
        self._tls = tls
        self._clock = clock
        self._rebooted = rebooted
        self.runtime = Runtime(state)
        self._gateway = Gateway(state, self.runtime, self, self._spawn)
        self._transport = Transport(
            state.behaviour,
            connected=self._gateway.connected,
            received=self._gateway.received,
            disconnected=self._gateway.disconnected,
        )
        self._runner: web.AppRunner | None = None
        self._door: socket.socket | None = None
        self.killed = False

    async def start(self, port: int, *, first: bool) -> int:
        """
        Boot, listen on 127.0.0.1, and return the port; 0 means any.

        The *first* process takes over the robots as they are; a later one starts those whose marks
        outlived the one before, and listens only then.
        """
        self._state.log.boot_begins()
        if first:
            self.runtime.take_over()
        else:
            for robot in await self.runtime.restore():
                self._state.record.add_done("restore", robot.id)
        app = web.Application()
        app.router.add_route("*", "/socket.io", self._transport.handle)
        app.router.add_route("*", "/socket.io/", self._transport.handle)
        app.router.add_route("*", "/{page:.*}", self._page)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
        await self._runner.setup()
        # Written before the port opens: the first log that anybody reads shows this boot.
        self._state.log.boot_ends()
        self._door = socket.create_server(("127.0.0.1", port))
        await web.SockSite(self._runner, self._door, ssl_context=self._tls).start()
        self._spawn(self._status())
        taken: int = self._door.getsockname()[1]
        return taken

    async def kill(self) -> None:
        """
        Drop every connection and free the port; no task, socket or thread is left.

        Done again where it was interrupted.
        """
        self.killed = self._gateway.one_shots.ending = True
        if self._door is not None and self._door.fileno() >= 0:
            # Accept nobody any more, and let those through who were accepted a moment ago: asyncio
            # would forget their sockets once the port is closed.
            asyncio.get_running_loop().remove_reader(self._door.fileno())
            for _ in range(_ROUNDS):
                await asyncio.sleep(0)
        if self._runner is not None:
            # First, or a client that was dropped would be let in again.
            for site in list(self._runner.sites):
                await site.stop()
        try:
            await self._transport.close()
        finally:
            if self._runner is not None:
                await self._runner.cleanup()
            await self._transport.let_go()

    async def force_stop(self, robot_id: int) -> None:
        """Let a running robot stop itself."""
        for robot in self.runtime.running():
            if robot.id == robot_id:
                await self._gateway.robots.force_stop(robot)

    @property
    def door(self) -> socket.socket | None:
        """The socket that listens; None before it does."""
        return self._door

    def connections(self) -> list[str]:
        """Return the ids of the open connections, oldest first."""
        return self._transport.connections()

    async def send(
        self, connection: str | None, message: Mapping[str, object], event: str = "message"
    ) -> None:
        """Send a Socket.IO *event* to one connection, or to all where *connection* is None."""
        await self._transport.send(connection, message, event)

    def drop(self, connection: str | None) -> None:
        """End the websocket of one connection, or of all, without any goodbye."""
        self._transport.drop(connection)

    def end(self) -> None:
        """End this process by a reboot."""
        self._rebooted()

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        self._transport.spawn(work)

    async def _page(self, _request: web.Request) -> web.Response:
        """Answer every unknown path with the web page, as the real server does."""
        headers = {"Date": formatdate(self._clock(), usegmt=True)}
        return web.Response(
            text="<!doctype html><title>stand-in</title>", content_type="text/html", headers=headers
        )

    async def _status(self) -> None:
        while True:
            proxy = [{"url": url, "ip": ip} for url, ip in self._state.behaviour.proxy]
            self._state.log.status(proxy)
            await asyncio.sleep(self._state.behaviour.status_interval)
            await self._gateway.clients.update_report(SYSTEM)
