"""
The Engine.IO and Socket.IO server under a stand-in JT-Trader.

A subclass of python-socketio's server that differs where the real server does: it never calls an
acknowledgement, announces fractions of a second as ping interval, sends non-ASCII text as such and
lone surrogates escaped, drops a silent peer without a goodbye, and leaves no task behind.
"""

import asyncio
import json
import logging
import re
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from typing import Any, Final

import engineio
import socketio
from aiohttp import web
from engineio.async_drivers.aiohttp import WebSocket

from reconciler.sandbox.jt_trader.faults import Behaviour
from reconciler.sandbox.jt_trader.gateway import Gateway

# At INFO both libraries print every packet, secrets and keys included.
_QUIET: Final = logging.getLogger("reconciler.sandbox.packets")
_QUIET.setLevel(logging.CRITICAL)
_QUIET.propagate = False


class _Text:
    """JSON as JavaScript writes it: only what cannot be UTF-8 is escaped."""

    JSONDecodeError = json.JSONDecodeError

    @staticmethod
    def dumps(value: object, **options: Any) -> str:
        text = json.dumps(value, **{**options, "ensure_ascii": False})
        return re.sub("[\ud800-\udfff]", lambda unit: f"\\u{ord(unit[0]):04x}", text)

    @staticmethod
    def loads(text: str) -> Any:
        return json.loads(text)


class _WebSocket(WebSocket):  # type: ignore[misc]  # the library has no types
    async def wait(self) -> str | bytes:
        """Wait for a frame; a peer that misses its pong loses the connection, no close frame."""
        try:
            async with asyncio.timeout(self.server.ping_interval + self.server.pong_time):
                data: str | bytes = await super().wait()
                return data
        except TimeoutError:
            request = self.environ["aiohttp.request"]
            if request.transport is not None:
                request.transport.abort()
            raise


class _Engine(engineio.AsyncServer):  # type: ignore[misc]  # the library has no types
    """Keeps hold of every task that it starts: a ping task outlives its connection by 25 s."""

    _async: dict[str, Any]

    def __init__(self, *, ping_timeout: float, **options: Any) -> None:
        # The library says goodbye to a silent peer; with twice the time it comes too late for that.
        super().__init__(ping_timeout=2 * ping_timeout, **options)
        self._async = {**self._async, "websocket": _WebSocket}
        self.pong_time = ping_timeout
        self.started: set[asyncio.Task[Any]] = set()

    def start_background_task(
        self, target: Callable[..., Coroutine[Any, Any, Any]], *args: Any, **kwargs: Any
    ) -> asyncio.Task[Any]:
        task = asyncio.ensure_future(target(*args, **kwargs))
        self.started.add(task)
        task.add_done_callback(self.started.discard)
        return task


class _Server(socketio.AsyncServer):  # type: ignore[misc]  # the library has no types
    def _engineio_server_class(self) -> type[_Engine]:
        return _Engine

    async def _handle_eio_connect(self, eio_sid: str, environ: dict[str, Any]) -> Any:
        """Correct the open packet, which the library rounds to whole seconds."""
        queue = self.eio.sockets[eio_sid].queue
        opening = queue.get_nowait()
        queue.task_done()
        opening.data["pingInterval"] = round(self.eio.ping_interval * 1000)
        opening.data["pingTimeout"] = round(self.eio.pong_time * 1000)
        queue.put_nowait(opening)
        return await super()._handle_eio_connect(eio_sid, environ)

    async def _handle_eio_disconnect(self, eio_sid: str, reason: str) -> None:
        """Let a waiting long poll go, which the library would keep until its time is over."""
        await super()._handle_eio_disconnect(eio_sid, reason)
        connection = self.eio.sockets.get(eio_sid)
        if connection is not None and not connection.upgraded:
            connection.queue.put_nowait(None)


class Transport:
    """One server process as the network sees it; whoever serves it sets *gateway* first."""

    gateway: Gateway

    def __init__(self, behaviour: Behaviour) -> None:
        self._requests: dict[str, web.BaseRequest] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._failures: list[BaseException] = []
        self._server = _Server(
            async_mode="aiohttp",
            async_handlers=False,
            always_connect=True,  # the namespace is confirmed before and whatever the login says
            cors_allowed_origins=[],  # no CORS header, any origin accepted
            json=_Text,
            logger=_QUIET,
            engineio_logger=_QUIET,
            max_http_buffer_size=behaviour.max_payload,
            ping_interval=behaviour.ping_interval,
            ping_timeout=behaviour.ping_timeout,
        )
        self._server.on("connect", self._on_connect)
        self._server.on("message", self._on_message)
        self._server.on("disconnect", self._on_disconnect)

    async def handle(self, request: web.Request) -> web.StreamResponse:
        if "sid" not in request.query and request.query.get("EIO") != "4":
            body = {"code": 5, "message": "Unsupported protocol version"}
            return web.json_response(body, status=400)
        response: web.StreamResponse = await self._server.handle_request(request)
        return response

    async def send(
        self, connection: str | None, message: Mapping[str, object], event: str = "message"
    ) -> None:
        await self._server.emit(event, message, to=connection)

    def connections(self) -> list[str]:
        return list(self._requests)

    def drop(self, connection: str | None) -> None:
        for request in [
            request
            for name, request in list(self._requests.items())
            if connection is None or connection == name
        ]:
            if request.transport is not None:
                request.transport.abort()

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Run *work* until `close`; an unexpected error is kept and raised there."""
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._finished)

    async def close(self) -> None:
        """End all connections and tasks; raise what failed unexpectedly in between."""
        self.drop(None)
        await self.let_go()
        if self._failures:
            raise BaseExceptionGroup("the stand-in itself failed", self._failures)

    async def let_go(self) -> None:
        """End what still runs; once more when nobody is served any more, for who came last."""
        while leftover := [*self._tasks, *self._server.eio.started]:
            for task in leftover:
                task.cancel()
            await asyncio.gather(*leftover, return_exceptions=True)
            await asyncio.sleep(0)  # their callbacks leave the sets; since 3.12 gather may not wait

    def _finished(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (failure := task.exception()) is not None:
            self._failures.append(failure)

    async def _on_connect(self, sid: str, environ: dict[str, Any], auth: object) -> None:
        self._requests[sid] = environ["aiohttp.request"]
        agent = environ.get("HTTP_USER_AGENT", "")
        self.spawn(_called(self.gateway.connected, sid, auth, agent))

    async def _on_message(self, sid: str, *bodies: object) -> object:
        self.spawn(_called(self.gateway.received, sid, bodies))
        return self._server.not_handled  # else the library would call the acknowledgement

    async def _on_disconnect(self, sid: str, _reason: str) -> None:
        self.gateway.disconnected(sid)
        self._requests.pop(sid, None)


async def _called(work: Callable[..., Awaitable[None]], *arguments: object) -> None:
    # Called in here: a task that is cancelled before its first step would leave it unawaited.
    await work(*arguments)
