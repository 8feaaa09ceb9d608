"""
People on loopback who are told things: a receiver that answers as a test says, and a clock.
"""

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from aiohttp import web

from reconciler.notifications.notifier import Clock
from reconciler.notifications.senders import sender
from reconciler.settings.notifications import NotificationSettings
from tests.support.leaks import PRIVATE, Watch

BEGIN = 1_795_000_000.0
PATIENCE = 30.0


@dataclass(frozen=True)
class Request:
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


class ManualClock(Clock):
    """Stands still until a test moves it; knows who waits on it."""

    def __init__(self) -> None:
        self.at = BEGIN
        self.waits: list[float] = []
        self._waiting: dict[asyncio.Event, float | None] = {}
        self._moved = asyncio.Event()
        self._parked = asyncio.Event()

    def now(self) -> float:
        return self.at

    async def wait(self, woken: asyncio.Event, seconds: float | None) -> None:
        until = None if seconds is None else self.at + seconds
        if seconds is not None:
            self.waits.append(seconds)
        self._waiting[woken] = until
        self._parked.set()
        try:
            while not woken.is_set() and (until is None or self.at < until):
                moved = asyncio.ensure_future(self._moved.wait())
                called = asyncio.ensure_future(woken.wait())
                try:
                    await asyncio.wait({moved, called}, return_when=asyncio.FIRST_COMPLETED)
                finally:
                    moved.cancel()
                    called.cancel()
        finally:
            del self._waiting[woken]

    async def idle(self, tasks: int) -> None:
        """Return when so many tasks wait for the clock or a call, and nothing else goes on."""
        async with asyncio.timeout(PATIENCE):
            while len(self._waiting) < tasks or any(self._due(*one) for one in self._all()):
                self._parked.clear()
                await self._parked.wait()

    def _all(self) -> list[tuple[asyncio.Event, float | None]]:
        return list(self._waiting.items())

    def _due(self, woken: asyncio.Event, until: float | None) -> bool:
        return woken.is_set() or (until is not None and self.at >= until)

    async def advance(self, seconds: float, tasks: int) -> None:
        """Let time pass, then let everybody do what they waited for."""
        await self.idle(tasks)
        self.at += seconds
        self._moved.set()
        self._moved = asyncio.Event()
        await self.idle(tasks)


class Files:
    """Writes the secrets of targets into files that may hold secrets."""

    def __init__(self, tmp_path: Path, watch: Watch) -> None:
        self.folder = tmp_path / PRIVATE
        self.folder.mkdir()
        self.key = watch.secret("base62")
        self.hook = watch.secret("base62")
        self.token = f"{watch.guard('12345678901', 'bot')}:{watch.secret('base62')}"

    def write(self, name: str, text: str) -> str:
        """Write one file; returns its path."""
        path = self.folder / name
        path.write_text(f"{text}\n", "utf-8")
        return str(path)

    def of(self, kind: str, url: str, name: str = "one") -> NotificationSettings:
        """A target of any kind at a URL; a key that nobody knows here is taught here."""
        hook = f"{url}/services/T0/B0/{self.hook}"
        content = {"secretFile": self.key, "tokenFile": self.token, "urlFile": hook}
        clear = {"chatId": "-100", "apiUrl": url}
        keys = {*sender(kind).needs, *sender(kind).takes} - {"url"}  # a file keeps it secret
        own = {
            key: self.write(f"{name}-{key}", content[key]) if key in content else clear[key]
            for key in keys
        }
        return NotificationSettings(kind, name, own, severity="info")

    def webhook(self, url: str, name: str = "pager") -> NotificationSettings:
        """A webhook at a URL that is no secret."""
        own = {"url": f"{url}/jtr", "secretFile": self.write("key", self.key)}
        return NotificationSettings("webhook", name, own, severity="info")

    def slack(self, url: str, name: str = "desk") -> NotificationSettings:
        """A hook with a secret URL."""
        return self.of("slack", url, name)

    def telegram(self, url: str, name: str = "bot") -> NotificationSettings:
        """A bot whose API is at a URL."""
        return self.of("telegram", url, name)
