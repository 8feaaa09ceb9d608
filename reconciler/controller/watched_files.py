"""
Documents in files: read when they changed, as `DocumentSource` asks.
"""

import asyncio
from collections.abc import Sequence
from typing import Final, Self

from reconciler.controller.dependencies import Revisions
from reconciler.controller.document_source import Reading, Source
from reconciler.controller.file_watcher import Watcher
from reconciler.system.timeouts import Timeouts


class WatchedFiles:
    """The documents below *paths*."""

    def __init__(self, paths: Sequence[str], timeouts: Timeouts, *, polling: bool = False) -> None:
        self._source: Final = Source(paths)
        self._watcher: Final = Watcher(paths, timeouts, polling=polling)

    async def __aenter__(self) -> Self:
        await self._watcher.__aenter__()
        return self

    async def __aexit__(self, *error: object) -> None:
        await self._watcher.__aexit__(*error)

    def poke(self) -> None:
        self._watcher.poke()

    def remember(self, revisions: Revisions) -> None:
        """Files have no history that could go back."""

    async def confirmed(self) -> None:
        """Of files each controller has its own."""

    async def changed(self) -> Reading:
        found = await self._watcher.changed()
        return await asyncio.to_thread(self._source.read, found)
