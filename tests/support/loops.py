"""
An event loop on a thread of its own, for servers that tests without a loop talk to.
"""

import asyncio
import threading
from collections.abc import Coroutine
from types import TracebackType
from typing import Any, Self, TypeVar

_PATIENCE = 30.0  # seconds that anything handed to the loop may take

_T = TypeVar("_T")


class LoopThread:
    """Enter it; `run` may be called from every thread but its own."""

    def __init__(self, name: str, loop: asyncio.AbstractEventLoop | None = None) -> None:
        self.loop = loop or asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._live, name=name, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(_PATIENCE)
        assert not self._thread.is_alive(), f"the loop {self._thread.name} hangs"
        left = asyncio.all_tasks(self.loop)
        self.loop.close()
        assert not left, f"the loop {self._thread.name} was stopped under {left}"

    def run(self, work: Coroutine[Any, Any, _T]) -> _T:
        """Run *work* on the loop and return its result, in bounded time."""
        if threading.current_thread() is self._thread:
            work.close()
            raise RuntimeError("would wait for itself")
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(_PATIENCE)

    def _live(self) -> None:
        asyncio.set_event_loop(self.loop)
        self.loop.run_forever()
