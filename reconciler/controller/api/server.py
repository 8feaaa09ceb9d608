"""
The controller's pages: health and metrics for machines, status, observations and logs for `jtr`.

Read only, on the controller's own event loop, and without keep-alive: one request a connection,
and each connection ends by a deadline.  `/v1` asks for the bearer token if there is one; without a
token nothing but this host is listened to, and a foreign `Host` is refused, because a web page can
make a name of its own lead here.
"""

import asyncio
import errno
import hmac
import logging
import os
import re
import socket
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any, Final
from urllib.parse import urlsplit

from aiohttp import web

from reconciler.controller.api import responses
from reconciler.controller.metrics import CONTENT_TYPE, exposition
from reconciler.controller.status_store import StatusStore
from reconciler.documents.formats import NAME
from reconciler.errors import DriverError, JtrError, UsageError
from reconciler.model.observed import LogEntry
from reconciler.model.secret import Secret
from reconciler.system.network import loopback

LOG: Final = logging.getLogger("reconciler.controller.web")
PERIOD: Final = 5.0  # seconds within which the controller's loop gives a sign of life
PATIENCE: Final = 60.0  # seconds that a connection may last, whatever happens on it
CONNECTIONS: Final = 64  # at once; beyond that those that ask nothing make room
LINE: Final = 2048  # bytes of a request's first line
FIELD: Final = 4096  # bytes of one header
GRACE: Final = 0.3  # seconds that requests in flight get at the end
_HIGHEST_PORT: Final = 65535
_HEADERS: Final = {
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Server": "jtr",
}

Observations = Callable[[], Awaitable[Mapping[str, str]]]
Entries = Callable[[str], Awaitable[tuple[LogEntry, ...] | None]]
Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]


def checked_listen(listen: str, token_present: bool) -> tuple[str, int]:  # noqa: FBT001  - one fact
    """Return host and port of `HOST:PORT`.  Raises UsageError, also for others without a token."""
    host, colon, port = listen.rpartition(":")
    bracketed = host.startswith("[") and host.endswith("]")
    bare = host[1:-1] if bracketed else host
    if not colon or not bare or not re.fullmatch(r"[0-9]{1,5}", port) or int(port) > _HIGHEST_PORT:
        raise UsageError(
            f"{listen!a} is no address to listen on", "write HOST:PORT, such as 127.0.0.1:9797"
        )
    if (":" in bare) != bracketed or "[" in bare or "]" in bare:
        raise UsageError(f"{listen!a} is no address to listen on", "write IPv6 as [ADDRESS]:PORT")
    if not token_present and not loopback(bare):
        raise UsageError(
            f"listening on {listen} would show servers, robots and logs to anybody",
            "write controller.tokenFile into the settings, or listen on 127.0.0.1",
        )
    return bare, int(port)


class Web:
    """
    Serves one status store.  `start` and `stop` it on the event loop that writes the status store.

    *observations* returns the rows of the ledger, *entries* a server's system log: None when that
    cannot be read, UsageError for an unknown server.  *only* says that no other ledger knows these
    servers.  *period* and *patience* are seconds, see `PERIOD` and `PATIENCE`.
    """

    def __init__(
        self,
        status_store: StatusStore,
        *,
        listen: str,
        token: Secret | None,
        observations: Observations,
        entries: Entries,
        only: bool = False,
        period: float = PERIOD,
        patience: float = PATIENCE,
    ) -> None:
        """Raise UsageError for an address that is none, or that needs a token."""
        self.host, self.port = checked_listen(listen, token is not None)
        self._status_store: Final = status_store
        self._token: Final = token
        self._observations: Final = observations
        self._entries: Final = entries
        self._only: Final = only
        self._period: Final = period
        self._patience: Final = patience
        self._reading: Final = asyncio.Lock()
        self._logs_read: Final[dict[str, asyncio.Future[tuple[LogEntry, ...] | None]]] = {}
        self._writer: Final = ThreadPoolExecutor(1, thread_name_prefix="jtr-metrics")
        self._runner: web.AppRunner | None = None
        self._server: asyncio.Server | None = None

    # ── listening ────────────────────────────────────────────────────────────────────────────

    async def start(self) -> None:
        """Listen; `port` is the real one afterwards.  Raises UsageError."""
        app = web.Application(middlewares=[self._guarded], client_max_size=1024)
        for path, answer in (
            ("/healthz", self._healthz),
            ("/readyz", self._readyz),
            ("/metrics", self._metrics),
            ("/v1/status", self._status),
            ("/v1/observations", self._documents),
            ("/v1/logs", self._logs),
        ):
            app.router.add_get(path, answer)
        runner = web.AppRunner(
            app,
            handle_signals=False,
            handler_cancellation=True,  # a page that nobody waits for any more
            access_log=None,
            shutdown_timeout=GRACE,
        )
        await runner.setup()
        server = runner.server
        if server is None:
            raise AssertionError
        loop = asyncio.get_running_loop()

        def accepted() -> asyncio.Protocol:
            # Who asks nothing makes room: a crowd must not keep a health check from its answer.
            if len(server.connections) >= CONNECTIONS and not _make_room(server):
                return _Unheard()
            return _Connection(server, loop, self._patience)

        self._runner = runner
        try:
            self._server = await loop.create_server(accepted, self.host, self.port)
        except OSError as error:
            await self.stop()
            raise UsageError(
                f"cannot listen on {self.host}:{self.port}: {_why(error)}",
                "stop what listens there, or name another address with --listen or "
                "controller.listen",
            ) from None
        self.port = self._server.sockets[0].getsockname()[1]
        host = f"[{self.host}]" if ":" in self.host else self.host
        LOG.info("listening", extra={"fields": {"url": f"http://{host}:{self.port}"}})

    async def stop(self) -> None:
        """Stop listening; requests in flight get a moment.  Calling twice is allowed."""
        server, self._server = self._server, None
        runner, self._runner = self._runner, None
        if server is not None:
            server.close()
        if runner is not None:
            await runner.cleanup()
        self._writer.shutdown(wait=False, cancel_futures=True)

    # ── who may ask what ─────────────────────────────────────────────────────────────────────

    @web.middleware
    async def _guarded(self, request: web.Request, handler: Answer) -> web.StreamResponse:
        if isinstance(request.protocol, _Connection):
            request.protocol.heard = True
        response = await self._answered(request, handler)
        response.headers.update(_HEADERS)
        response.force_close()
        return response

    async def _answered(self, request: web.Request, answer: Answer) -> web.StreamResponse:
        if not self._expected(request):
            return _error(HTTPStatus.MISDIRECTED_REQUEST, "this name does not lead here")
        if request.method not in ("GET", "HEAD"):
            refused = _error(HTTPStatus.METHOD_NOT_ALLOWED, "these pages are read only")
            refused.headers["Allow"] = "GET, HEAD"
            return refused
        if request.path.startswith("/v1") and not self._allowed(request):
            refused = _error(HTTPStatus.UNAUTHORIZED, "the bearer token is missing or wrong")
            refused.headers["WWW-Authenticate"] = 'Bearer realm="jtr"'
            return refused
        try:
            return await answer(request)
        except web.HTTPException as error:
            return _error(HTTPStatus(error.status), HTTPStatus(error.status).phrase)
        except JtrError as error:
            return _refusal(error)
        except TimeoutError:
            return _error(HTTPStatus.SERVICE_UNAVAILABLE, "no answer in time", transient=True)
        except Exception as error:
            LOG.exception("a page failed: %s", type(error).__name__)
            return _error(
                HTTPStatus.INTERNAL_SERVER_ERROR, "a mistake in jt-reconciler; see its log"
            )

    def _expected(self, request: web.Request) -> bool:
        """Whether the client named us: a page of the internet may name itself, and lead here."""
        if not loopback(self.host):
            return True
        try:
            host = urlsplit(f"//{request.headers.get('Host', '')}").hostname
        except ValueError:
            return False
        return host is not None and loopback(host)

    def _allowed(self, request: web.Request) -> bool:
        if self._token is None:
            return True
        given = request.headers.getall("Authorization", [])
        scheme, _, word = given[0].partition(" ") if len(given) == 1 else ("", "", "")
        if scheme.lower() != "bearer":
            return False
        wanted = self._token.reveal().encode()
        return hmac.compare_digest(word.strip().encode("utf-8", "surrogateescape"), wanted)

    # ── pages ────────────────────────────────────────────────────────────────────────────────

    async def _healthz(self, _: web.Request) -> web.Response:
        return _sound("alive", responses.trouble(self._status_store, _clock(), self._period))

    async def _readyz(self, _: web.Request) -> web.Response:
        return _sound("ready", responses.missing(self._status_store))

    async def _metrics(self, _: web.Request) -> web.Response:
        # 0.1 s for 500 servers: in a thread of its own, which no hanging Vault keeps busy.
        body = await asyncio.get_running_loop().run_in_executor(
            self._writer,
            exposition,
            self._status_store.still(),
            datetime.now(UTC).timestamp(),
            _clock(),
        )
        return web.Response(body=body, headers={"Content-Type": CONTENT_TYPE})

    async def _status(self, _: web.Request) -> web.Response:
        return web.json_response(
            responses.status_document(self._status_store, datetime.now(UTC), _clock())
        )

    async def _documents(self, _: web.Request) -> web.Response:
        async with self._reading:  # a ledger in Vault costs a request for every row
            at = datetime.now(UTC)
            documents = await self._observations()
        label = self._status_store.controller.label
        return web.json_response(
            responses.observations_document(documents, at=at, by=label, only=self._only)
        )

    async def _logs(self, request: web.Request) -> web.Response:
        name = request.query.get("server", "")
        if not NAME.fullmatch(name):
            return _error(
                HTTPStatus.BAD_REQUEST, "no server was named", "ask for /v1/logs?server=NAME"
            )
        try:
            entries = await self._log_of(name)
        except UsageError as error:
            return _refusal(error, HTTPStatus.NOT_FOUND)
        except DriverError as error:
            return _refusal(error, None if error.transient else HTTPStatus.BAD_GATEWAY)
        if entries is None:
            return _error(
                HTTPStatus.SERVICE_UNAVAILABLE,
                f"{name} does not show its system log: a line of the file is not JSON",
                "look at the file on the server's own machine; the next rotation heals it",
                transient=True,
            )
        return web.json_response(responses.log_document(name, entries))

    async def _log_of(self, name: str) -> tuple[LogEntry, ...] | None:
        """Read a log once for all who ask at the same time, and to its end if they hang up."""
        task = self._logs_read.get(name)
        if task is None:
            task = asyncio.ensure_future(self._entries(name))
            self._logs_read[name] = task
            task.add_done_callback(lambda done: self._read(name, done))
        return await asyncio.shield(task)

    def _read(self, name: str, task: "asyncio.Future[Any]") -> None:
        del self._logs_read[name]
        if not task.cancelled():
            task.exception()  # perhaps nobody waits for it any more


# ── below ────────────────────────────────────────────────────────────────────────────────────


class _Connection(web.RequestHandler):
    """One connection, which is cut at its deadline: slow senders and slow readers end, too."""

    __slots__ = ("_cut", "_patience", "heard")

    def __init__(self, server: Any, loop: asyncio.AbstractEventLoop, patience: float) -> None:
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
        self._cut: asyncio.TimerHandle | None = None
        self.heard = False  # whether a request came

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        if isinstance(transport, asyncio.Transport):
            loop = asyncio.get_running_loop()
            self._cut = loop.call_later(self._patience, transport.abort)

    def connection_lost(self, exc: BaseException | None) -> None:
        if self._cut is not None:
            self._cut.cancel()
        super().connection_lost(exc)

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Answer what is no request; the library's own answer repeats parts of it."""
        del request, exc, message
        response = _error(HTTPStatus(status), HTTPStatus(status).phrase)
        response.headers.update(_HEADERS)
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


def _clock() -> float:
    return asyncio.get_running_loop().time()


def _sound(what: str, why: str) -> web.Response:
    if not why:
        return web.json_response({what: True})
    return web.json_response({what: False, "reason": why}, status=HTTPStatus.SERVICE_UNAVAILABLE)


def _error(
    status: HTTPStatus, what: str, remedy: str = "", *, transient: bool = False
) -> web.Response:
    document = {"error": {"what": what, "remedy": remedy, "transient": transient}}
    return web.json_response(document, status=status)


def _refusal(error: JtrError, status: HTTPStatus | None = None) -> web.Response:
    code = status or HTTPStatus.SERVICE_UNAVAILABLE
    return web.json_response(responses.error_document(error), status=code)


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
