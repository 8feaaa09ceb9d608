"""
Listens for requests of HTTP: so many connections at once, each cut at its deadline.

One request a connection.  Who asks nothing makes room, slow senders and slow readers end; only an
answer that lasts on purpose says so.
"""

import asyncio
import errno
import logging
import os
import socket
import ssl
from collections.abc import Callable
from http import HTTPStatus
from typing import Any, Final

from aiohttp import web

from reconciler.errors import UsageError

LOG: Final = logging.getLogger("reconciler.controller.web")
LINE: Final = 2048  # bytes of a request's first line
FIELD: Final = 4096  # bytes of one header
GRACE: Final = 0.3  # seconds that requests in flight get at the end

Refused = Callable[[HTTPStatus], web.Response]
"""What is answered to what is no request; the library's own answer repeats parts of it."""


class Listener:
    """
    One application on one address.  `start` and `stop` it on one event loop.

    *patience* is how many seconds a connection may last, *most* how many there may be at once.
    """

    def __init__(
        self, app: web.Application, *, patience: float, most: int, refused: Refused
    ) -> None:
        self._patience: Final = patience
        self._most: Final = most
        self._refused: Final = refused
        self.url = ""
        self._runner: Final = web.AppRunner(
            app,
            handle_signals=False,
            handler_cancellation=True,  # a page that nobody waits for any more
            access_log=None,
            shutdown_timeout=GRACE,
        )
        self._server: asyncio.Server | None = None

    @property
    def inside(self) -> web.Server | None:
        """The library's server, which knows its connections."""
        return self._runner.server

    async def start(
        self, host: str, port: int, name: str, tls: ssl.SSLContext | None = None
    ) -> int:
        """Listen, and return the port.  Raises UsageError; *name* is where another one is said."""
        await self._runner.setup()
        server = self._runner.server
        if server is None:
            raise AssertionError
        loop = asyncio.get_running_loop()

        def accepted() -> asyncio.Protocol:
            # Who asks nothing makes room: a crowd must not keep a health check from its answer.
            if len(server.connections) >= self._most and not _make_room(server):
                return _Unheard()
            return _Connection(server, loop, self._patience, self._refused)

        try:
            self._server = await loop.create_server(accepted, host, port, ssl=tls)
        except OSError as error:
            await self.stop()
            raise UsageError(
                f"cannot listen on {host}:{port}: {_why(error)}",
                f"stop what listens there, or name another address with {name}",
            ) from None
        found: int = self._server.sockets[0].getsockname()[1]
        scheme = "http" if tls is None else "https"
        self.url = f"{scheme}://[{host}]:{found}" if ":" in host else f"{scheme}://{host}:{found}"
        return found

    async def stop(self) -> None:
        """Stop listening; requests in flight get a moment.  Calling twice is allowed."""
        server, self._server = self._server, None
        if server is not None:
            server.close()
        await self._runner.cleanup()


def heard(request: web.Request) -> None:
    """Note that something was asked on this connection: it makes room for nobody any more."""
    if isinstance(request.protocol, _Connection):
        request.protocol.heard = True


def lasts(request: web.Request) -> None:
    """Let the answer to *request* take longer than any deadline."""
    if isinstance(request.protocol, _Connection):
        request.protocol.spare()


class _Connection(web.RequestHandler):
    """One connection, which is cut at its deadline: slow senders and slow readers end, too."""

    __slots__ = ("_cut", "_patience", "_refused", "heard")

    def __init__(
        self, server: Any, loop: asyncio.AbstractEventLoop, patience: float, refused: Refused
    ) -> None:
        super().__init__(
            server,
            loop=loop,
            access_log=None,  # type: ignore[arg-type]  # aiohttp's own way to say none
            keepalive_timeout=patience,
            lingering_time=0.0,
            max_line_size=LINE,
            max_field_size=FIELD,
            logger=LOG,
        )
        self._patience = patience
        self._refused = refused
        self._cut: asyncio.TimerHandle | None = None
        self.heard = False  # whether a request came

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        if isinstance(transport, asyncio.Transport):
            loop = asyncio.get_running_loop()
            self._cut = loop.call_later(self._patience, transport.abort)

    def connection_lost(self, exc: BaseException | None) -> None:
        self.spare()
        super().connection_lost(exc)

    def spare(self) -> None:
        """Take the deadline away."""
        if self._cut is not None:
            self._cut.cancel()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Answer what is no request; the library's own answer repeats parts of it."""
        del request, exc, message
        response = self._refused(HTTPStatus(status))
        response.force_close()
        return response


def _make_room(server: web.Server) -> bool:
    """End the oldest connection on which nothing was asked yet; False when there is none."""
    for one in server.connections:
        transport = one.transport
        if isinstance(one, _Connection) and not one.heard and transport is not None:
            one.heard = True  # it counts until the loop has closed it
            transport.abort()
            return True
    return False


class _Unheard(asyncio.Protocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        if isinstance(transport, asyncio.Transport):
            transport.abort()


def _why(error: OSError) -> str:
    """Say why there is no listening, in the system's own words and none of a library's."""
    if isinstance(error, socket.gaierror):
        return "this host does not know that name"
    known = {
        errno.EADDRINUSE: "something else listens there",
        errno.EADDRNOTAVAIL: "this host does not have that address",
        errno.EACCES: "this needs a right that the controller does not have",
    }
    return known.get(error.errno or 0, os.strerror(error.errno or 0))
