"""The way to a stand-in JT-Trader over loopback: its port, its web page, its sockets."""

import asyncio
import socket
import ssl
from collections.abc import Callable
from email.utils import formatdate
from typing import Final

from aiohttp import web

from reconciler.sandbox.jt_trader.faults import Behaviour
from reconciler.sandbox.jt_trader.gateway import Gateway
from reconciler.sandbox.jt_trader.transport import Transport

_ROUNDS: Final = 5  # of the loop, from accepting a connection to its handler


class Loopback:
    """The network of one process on 127.0.0.1; *clock* gives the server's time in seconds."""

    def __init__(
        self, behaviour: Behaviour, *, tls: ssl.SSLContext | None, clock: Callable[[], float]
    ) -> None:
        self._tls = tls
        self._clock = clock
        self._transport = Transport(behaviour)
        self.connections = self._transport.connections
        self.send = self._transport.send
        self.drop = self._transport.drop
        self.spawn = self._transport.spawn
        self._runner: web.AppRunner | None = None
        self._door: socket.socket | None = None

    async def open(self, gateway: Gateway, port: int) -> str:
        self._transport.gateway = gateway
        app = web.Application()
        app.router.add_route("*", "/socket.io", self._transport.handle)
        app.router.add_route("*", "/socket.io/", self._transport.handle)
        app.router.add_route("*", "/{page:.*}", self._page)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
        await self._runner.setup()
        self._door = socket.create_server(("127.0.0.1", port))
        await web.SockSite(self._runner, self._door, ssl_context=self._tls).start()
        scheme = "https" if self._tls else "http"
        return f"{scheme}://127.0.0.1:{self._door.getsockname()[1]}"

    async def close(self) -> None:
        """
        Drop every connection and free the port; no task, socket or thread is left.

        Done again where it was interrupted.
        """
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

    def hold(self) -> socket.socket | None:
        """
        Return a socket that keeps the port once it is closed; None when it is already.

        Nobody else gets the port then, and whoever connects is refused.  Without it another server
        of this machine can take the port of one that reboots, and is asked in its place.
        """
        if self._door is None or self._door.fileno() < 0:
            return None
        holder = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        for one in (self._door, holder):  # the door listens still: only so may both have the port
            one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        try:
            holder.bind(self._door.getsockname())
        except OSError:
            holder.close()
            raise
        return holder

    async def _page(self, _request: web.Request) -> web.Response:
        """Answer every unknown path with the web page, as the real server does."""
        headers = {"Date": formatdate(self._clock(), usegmt=True)}
        return web.Response(
            text="<!doctype html><title>stand-in</title>", content_type="text/html", headers=headers
        )
