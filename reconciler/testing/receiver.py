"""
Somebody on loopback who is told things over HTTP, and answers as a test says.
"""

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Final

from aiohttp import web
from msgspec import Struct

PATIENCE: Final = 30.0  # seconds


class Request(Struct, frozen=True):
    """What arrived."""

    path: str
    headers: Mapping[str, str]
    body: bytes


Reply = web.Response | Callable[[web.Request], Awaitable[web.Response]]


class Receiver:
    """Answers with `replies` one after the other, then with 200; remembers what arrived."""

    def __init__(self) -> None:
        self.replies: list[Reply] = []
        self.requests: list[Request] = []
        self.url = ""
        self._arrived: asyncio.Queue[Request] = asyncio.Queue()

    async def next(self) -> Request:
        """Return the next request; fails when none comes."""
        async with asyncio.timeout(PATIENCE):
            return await self._arrived.get()

    async def handle(self, request: web.Request) -> web.StreamResponse:
        arrived = Request(request.path_qs, request.headers, await request.read())
        self.requests.append(arrived)
        self._arrived.put_nowait(arrived)
        reply = self.replies.pop(0) if self.replies else web.Response(text="ok")
        return reply if isinstance(reply, web.Response) else await reply(request)


@contextlib.asynccontextmanager
async def receiving(context: ssl.SSLContext | None = None) -> AsyncIterator[Receiver]:
    """Run a receiver while the block runs."""
    receiver = Receiver()
    application = web.Application()
    application.router.add_route("*", "/{rest:.*}", receiver.handle)
    runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.01)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context)
    await site.start()
    port = runner.addresses[0][1]
    receiver.url = f"{'https' if context else 'http'}://127.0.0.1:{port}"
    try:
        yield receiver
    finally:
        await runner.cleanup()
