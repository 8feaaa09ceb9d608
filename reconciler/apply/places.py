"""
How many servers are worked on at once.
"""

import asyncio
from typing import Final, Self


class Place:
    """One of a gate's places, from `async with` to its end; it may be left before that."""

    def __init__(self, gate: asyncio.Semaphore | None) -> None:
        """Without a gate nobody waits."""
        self._gate: Final = gate
        self._held = False

    async def __aenter__(self) -> Self:
        if self._gate is not None:
            await self._gate.acquire()
            self._held = True
        return self

    def leave(self) -> None:
        """Let the next server begin; what follows only waits and looks."""
        if self._held and self._gate is not None:
            self._held = False
            self._gate.release()

    async def __aexit__(self, *_: object) -> None:
        self.leave()
