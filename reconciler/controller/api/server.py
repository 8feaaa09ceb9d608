"""
The controller's pages: health and metrics for machines, status, observations and logs for `jtr`.

Read only but for a forge's webhook, which only wakes.  On the controller's own event loop, and
without keep-alive: one request a connection, and each connection ends by a deadline.  `/v1` asks
for the bearer token if there is one; without a token nothing but this host is listened to, and a
foreign `Host` is refused, because a web page can make a name of its own lead here.
"""

import asyncio
import hmac
import logging
import re
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from functools import partial
from http import HTTPStatus
from typing import Any, Final, TypeVar
from urllib.parse import urlsplit

from aiohttp import web

from reconciler.controller.api import responses
from reconciler.controller.api.listener import Listener, heard
from reconciler.controller.api.webhook import BadDelivery, Webhook
from reconciler.controller.metrics import CONTENT_TYPE, exposition
from reconciler.controller.status_store import StatusStore
from reconciler.documents.formats import NAME
from reconciler.errors import DriverError, JtrError, UsageError
from reconciler.model.observed import LogEntry
from reconciler.model.secret import Secret
from reconciler.model.values import replace
from reconciler.system.network import loopback

LOG: Final = logging.getLogger("reconciler.controller.web")
HOOK: Final = "/hooks/git"
PERIOD: Final = 5.0  # seconds within which the controller's loop gives a sign of life
PATIENCE: Final = 60.0  # seconds that a connection may last, whatever happens on it
CONNECTIONS: Final = 64  # at once; beyond that those that ask nothing make room
_HIGHEST_PORT: Final = 65535
_HEADERS: Final = {
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Server": "jtr",
}

Observations = Callable[[], Awaitable[Mapping[str, str]]]
T = TypeVar("T")
Rows = tuple[datetime, Mapping[str, str]]  # of the ledger, and when they were read
Entries = Callable[[str], Awaitable[tuple[LogEntry, ...] | None]]
Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]


def checked_listen(listen: str, token_present: bool) -> tuple[str, int]:  # noqa: FBT001  - one fact
    """Return host and port of `HOST:PORT`.  Raises UsageError, also for others without a token."""
    bare, port = checked_address(listen)
    if not token_present and not loopback(bare):
        raise UsageError(
            f"listening on {listen} would show servers, robots and logs to anybody",
            "write controller.tokenFile into the settings, or listen on 127.0.0.1",
        )
    return bare, port


def checked_address(listen: str) -> tuple[str, int]:
    """Return host and port of `HOST:PORT`.  Raises UsageError."""
    host, colon, port = listen.rpartition(":")
    bracketed = host.startswith("[") and host.endswith("]")
    bare = host[1:-1] if bracketed else host
    if not colon or not bare or not re.fullmatch(r"[0-9]{1,5}", port) or int(port) > _HIGHEST_PORT:
        raise UsageError(
            f"{listen!a} is no address to listen on", "write HOST:PORT, such as 127.0.0.1:9797"
        )
    if (":" in bare) != bracketed or "[" in bare or "]" in bare:
        raise UsageError(f"{listen!a} is no address to listen on", "write IPv6 as [ADDRESS]:PORT")
    return bare, int(port)


class Web:
    """
    Serves one status store.  `start` and `stop` it on the event loop that writes the status store.

    *observations* returns the rows of the ledger, *entries* a server's system log: None when that
    cannot be read, UsageError for an unknown server.  *only* says that no other ledger knows these
    servers.  A *webhook* is accepted if there is one, and *moved* called then.  *period* and
    *patience* are seconds, see `PERIOD` and `PATIENCE`.
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
        webhook: Webhook | None = None,
        moved: Callable[[], None] = lambda: None,
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
        self._webhook: Final = webhook
        self._moved: Final = moved
        self._period: Final = period
        self._patience: Final = patience
        self._readings: Final[dict[str, asyncio.Future[Any]]] = {}
        self._writer: Final = ThreadPoolExecutor(1, thread_name_prefix="jtr-metrics")
        self._listener: Listener | None = None

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
        self._listener = Listener(
            app, patience=self._patience, most=CONNECTIONS, refused=_plain_error
        )
        self.port = await self._listener.start(
            self.host, self.port, "--listen or controller.listen"
        )
        LOG.info("listening", extra={"fields": {"url": self._listener.url}})

    async def stop(self) -> None:
        """Stop listening; requests in flight get a moment.  Calling twice is allowed."""
        if self._listener is not None:
            await self._listener.stop()
        self._writer.shutdown(wait=False, cancel_futures=True)

    # ── who may ask what ─────────────────────────────────────────────────────────────────────

    @web.middleware
    async def _guarded(self, request: web.Request, handler: Answer) -> web.StreamResponse:
        heard(request)
        response = await self._answered(request, handler)
        response.headers.update(_HEADERS)
        response.force_close()
        return response

    async def _answered(self, request: web.Request, answer: Answer) -> web.StreamResponse:
        if not self._expected(request):
            return _error(HTTPStatus.MISDIRECTED_REQUEST, "this name does not lead here")
        if request.path == HOOK and self._webhook is not None:
            return await self._delivery(request, self._webhook)
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

    async def _delivery(self, request: web.Request, webhook: Webhook) -> web.Response:
        """Wake the controller, whatever the forge says that happened; it looks for itself."""
        if request.method != "POST":
            refused = _error(HTTPStatus.METHOD_NOT_ALLOWED, "a webhook is sent with POST")
            refused.headers["Allow"] = "POST"
            return refused
        try:
            await webhook.check(request.headers, request.content.iter_any())
        except BadDelivery as error:
            LOG.warning("a webhook was refused: %s", error)
            return _error(HTTPStatus.FORBIDDEN, f"this delivery is refused: {error}")
        self._moved()
        return web.json_response({"awake": True}, status=HTTPStatus.ACCEPTED)

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
            replace(self._status_store.still(), tasks=len(asyncio.all_tasks())),
            datetime.now(UTC).timestamp(),
            _clock(),
        )
        return web.Response(body=body, headers={"Content-Type": CONTENT_TYPE})

    async def _status(self, _: web.Request) -> web.Response:
        return web.json_response(
            responses.status_document(self._status_store, datetime.now(UTC), _clock())
        )

    async def _documents(self, _: web.Request) -> web.Response:
        # A ledger in Vault costs a request for every row.
        at, documents = await self._once("", self._rows)
        label = self._status_store.controller.label
        return web.json_response(
            responses.observations_document(
                documents, at=at, by=label, only=self._only, believed=self._status_store.believed
            )
        )

    async def _rows(self) -> Rows:
        return datetime.now(UTC), await self._observations()

    async def _logs(self, request: web.Request) -> web.Response:
        name = request.query.get("server", "")
        if not NAME.fullmatch(name):
            return _error(
                HTTPStatus.BAD_REQUEST, "no server was named", "ask for /v1/logs?server=NAME"
            )
        try:
            entries = await self._once(name, partial(self._entries, name))
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

    async def _once(self, what: str, read: Callable[[], Awaitable[T]]) -> T:
        """Read once for all who ask at the same time, and to its end if they hang up."""
        task = self._readings.get(what)
        if task is None:
            task = asyncio.ensure_future(read())
            self._readings[what] = task
            task.add_done_callback(lambda done: self._read(what, done))
        result: T = await asyncio.shield(task)
        return result

    def _read(self, what: str, task: "asyncio.Future[Any]") -> None:
        del self._readings[what]
        if not task.cancelled():
            task.exception()  # perhaps nobody waits for it any more


# ── below ────────────────────────────────────────────────────────────────────────────────────


def _clock() -> float:
    return asyncio.get_running_loop().time()


def _sound(what: str, why: str) -> web.Response:
    if not why:
        return web.json_response({what: True})
    return web.json_response({what: False, "reason": why}, status=HTTPStatus.SERVICE_UNAVAILABLE)


def _plain_error(status: HTTPStatus) -> web.Response:
    response = _error(status, status.phrase)
    response.headers.update(_HEADERS)
    return response


def _error(
    status: HTTPStatus, what: str, remedy: str = "", *, transient: bool = False
) -> web.Response:
    document = {"error": {"what": what, "remedy": remedy, "transient": transient}}
    return web.json_response(document, status=status)


def _refusal(error: JtrError, status: HTTPStatus | None = None) -> web.Response:
    code = status or HTTPStatus.SERVICE_UNAVAILABLE
    return web.json_response(responses.error_document(error), status=code)
