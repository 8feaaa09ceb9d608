"""A plain Socket.IO client without any of our driver's care: it sends what it is told to."""

import asyncio
import contextlib
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Final, Self

import aiohttp
import socketio

WAIT: Final = 3.0
"""Seconds for what must come."""
NOTHING: Final = object()
"""A message without a payload; a payload of null is None."""


class NaiveClient:
    """
    One connection; `received` holds all messages, `ended` is set when the connection is gone.

    The one other Socket.IO event, `exception`, is received as if it were a message of that name.
    """

    def __init__(
        self,
        url: str,
        auth: Mapping[str, object] | None,
        *,
        transport: str = "websocket",
        read_limit: int = 0,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        self.received: list[Any] = []
        self.news = asyncio.Event()
        self.ended = asyncio.Event()
        self.reason = ""
        self.acknowledged = False
        self._opening = {"url": url, "auth": auth, "transports": [transport]}
        self._headers = dict(headers or {})
        self._http: aiohttp.ClientSession | None = None
        self._read_limit = read_limit
        self._socket = socketio.AsyncClient(
            reconnection=False,
            handle_sigint=False,
            websocket_extra_options={"max_msg_size": read_limit},
        )
        self._socket.on("message", self._on_message)
        self._socket.on("exception", self._on_exception)
        self._socket.on("disconnect", self._on_disconnect)

    async def open(self) -> None:
        """Connect, which says nothing about the login."""
        self._http = aiohttp.ClientSession(trust_env=False)
        self._socket.eio.http = self._http
        self._socket.eio.external_http = True
        await self._socket.connect(**self._opening, headers=self._headers, wait_timeout=WAIT)

    async def send(self, message: object, *, acknowledge: bool = False) -> None:
        """Send one `message` with any body; None is no body at all."""

        def acknowledged(*_arguments: object) -> None:
            self.acknowledged = True

        callback = acknowledged if acknowledge else None
        await self._socket.emit("message", message, callback=callback)

    async def request(self, event: str, payload: object = NOTHING) -> None:
        """Send a request and wait for nothing."""
        await self.send({"event": event} | ({} if payload is NOTHING else {"payload": payload}))

    async def ask(
        self, event: str, payload: object = NOTHING, *, answer: str, patience: float = WAIT
    ) -> dict[str, Any] | None:
        """Forget what came, send, and return the answer; None if it does not come."""
        self.received.clear()
        await self.request(event, payload)
        return await self.wait_for(answer, patience=patience)

    async def wait_for(self, event: str, *, patience: float = WAIT) -> dict[str, Any] | None:
        """Return the first message of this event; None if it does not come."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(patience):
                while not self.ended.is_set():
                    for message in self.received:
                        if message["event"] == event:
                            found: dict[str, Any] = message
                            return found
                    self.news.clear()
                    await self.news.wait()
        return None

    async def close(self) -> None:
        """Leave, and free what the connection held."""
        try:
            await asyncio.wait_for(self._socket.disconnect(), WAIT)
        finally:
            if self._http is not None:
                await self._http.close()

    async def __aenter__(self) -> Self:
        try:
            await self.open()
        except BaseException:
            await self.close()
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    async def _on_message(self, message: object = None) -> None:
        self.received.append(message)
        self.news.set()

    async def _on_exception(self, body: object = None) -> None:
        await self._on_message({"event": "exception", "payload": body})

    async def _on_disconnect(self, reason: str) -> None:
        self.reason = reason
        self.ended.set()
        self.news.set()
