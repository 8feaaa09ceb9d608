"""
The connection to a server that a worker holds between its passes.
"""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from reconciler.drivers import Session
from reconciler.model.desired import DesiredServer

FAREWELL: Final = 1.0  # seconds for a polite goodbye when the controller stops
FOR_EVER: Final = 86_400.0  # seconds


class HeldSession:
    """At most one session; whoever takes it gives it back, or another one."""

    def __init__(self, ended: Callable[[], None]) -> None:
        """Call *ended* when the server hangs up while nobody uses the session."""
        self._ended: Final = ended
        self._session: Session | None = None
        self._login: tuple[object, ...] = ()  # what it was opened with
        self._listener: asyncio.Task[None] | None = None
        self.opened_at = 0.0  # as `Visit.opened_at`

    @property
    def session(self) -> Session | None:
        """The one that is held, for who only reads and leaves it here."""
        return self._session

    @property
    def connected(self) -> bool:
        """Whether one is held that has not ended."""
        return self._listener is not None and not self._listener.done()

    async def take(self, desired: DesiredServer) -> Session | None:
        """Return the session while it lives and leads where *desired* says; it is not held then."""
        session, self._session = self._session, None
        if session is None:
            return None
        if self._listener is not None:
            self._listener.cancel()
            self._listener = None
        fits = session.target == desired.target and self._login == _login(desired)
        if not fits or await session.ended(0):
            await session.close()
            return None
        return session

    async def keep(self, session: Session, desired: DesiredServer) -> bool:
        """Hold a session that was opened as *desired* says; False when it has ended."""
        if await session.ended(0):
            await session.close()
            return False
        self._session, self._login = session, _login(desired)
        self._listener = asyncio.create_task(self._listen(session))
        return True

    async def _listen(self, session: Session) -> None:
        while not await session.ended(FOR_EVER):
            pass
        self._ended()

    async def leave(self) -> None:
        """Say goodbye, in bounded time."""
        if self._listener is not None:
            self._listener.cancel()
        session, self._session = self._session, None
        if session is not None:
            await farewell(session)


async def farewell(session: Session) -> None:
    """Close a session, in bounded time."""
    with suppress(TimeoutError):
        async with asyncio.timeout(FAREWELL):
            await session.close()


def _login(desired: DesiredServer) -> tuple[object, ...]:
    return desired.access_secret, desired.access_token
