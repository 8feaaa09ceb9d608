"""
An event loop on a thread of its own, for callers that have none.
"""

import asyncio
import threading
from collections.abc import Coroutine
from concurrent.futures import CancelledError
from typing import Any, Final, TypeVar

T = TypeVar("T")
_GOODBYE: Final = 2.0  # seconds that the end of what is still running may take


class Closed(Exception):
    """The loop ended before the work did."""


class BackgroundLoop:
    """Starts with the first work.  May be used from every thread, and from every other loop."""

    def __init__(self, name: str) -> None:
        self._name: Final = name
        self._lock: Final = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """
        Run *work* there and wait for it; blocking, so never on the loop itself.

        Raises Closed when the loop was ended meanwhile.
        """
        if threading.current_thread() is self._thread:
            work.close()
            raise RuntimeError("would wait for itself")
        try:
            return asyncio.run_coroutine_threadsafe(work, self._started()).result()
        except CancelledError:
            raise Closed from None

    async def over(self, work: Coroutine[Any, Any, T]) -> T:
        """
        Run *work* there and wait for it without blocking the loop of the caller.

        Raises Closed when the loop was ended meanwhile; who is cancelled cancels the work, too.
        """
        loop = self._started()
        if asyncio.get_running_loop() is loop:
            return await work
        there = asyncio.run_coroutine_threadsafe(work, loop)
        try:
            return await asyncio.wrap_future(there)
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            raise Closed from None

    def close(self) -> None:
        """End the loop; what still runs on it is cancelled.  The next work starts it anew."""
        with self._lock:
            loop, thread = self._loop, self._thread
            self._loop = self._thread = None
        if loop is None or thread is None:
            return
        loop.call_soon_threadsafe(loop.stop)
        if thread is not threading.current_thread():
            thread.join(_GOODBYE)

    def _started(self) -> asyncio.AbstractEventLoop:
        with self._lock:
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                self._thread = threading.Thread(
                    target=_live, args=(self._loop,), name=self._name, daemon=True
                )
                self._thread.start()
            return self._loop


def _live(loop: asyncio.AbstractEventLoop) -> None:
    asyncio.set_event_loop(loop)
    try:
        loop.run_forever()
        tasks = asyncio.all_tasks(loop)
        for task in tasks:
            task.cancel()
        if tasks:
            loop.run_until_complete(asyncio.wait(tasks, timeout=_GOODBYE))
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.run_until_complete(loop.shutdown_default_executor())
    finally:
        loop.close()
