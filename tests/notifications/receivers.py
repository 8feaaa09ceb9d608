"""
A clock that people are told things by, and the targets of our own kinds.
"""

import asyncio
from pathlib import Path

from reconciler.notifications.notifier import Clock
from reconciler.settings.notifications import NotificationSettings
from reconciler.testing import senders
from reconciler.testing.receiver import PATIENCE
from reconciler.testing.senders import BEGIN
from tests.support.leaks import PRIVATE, Watch


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


class Files(senders.Files):
    """With secrets that are looked for, in a folder that may hold them."""

    def __init__(self, tmp_path: Path, watch: Watch) -> None:
        token = f"{watch.guard('12345678901', 'bot')}:{watch.secret('base62')}"
        key, hook = watch.secret("base62"), watch.secret("base62")
        super().__init__(tmp_path / PRIVATE, key, hook, token)

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
