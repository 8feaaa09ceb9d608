"""
What is read for whoever looks: shared, in few threads of its own, and never twice at a time.

A thread that reads cannot be called back.  Who hangs up and asks again must not fill the threads
that passes and leases need: a reading that runs is there for who asks next, one that nobody waits
for any more never begins.
"""

import asyncio
from collections.abc import Callable, Hashable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Final, TypeVar

T = TypeVar("T")


@dataclass(slots=True)
class _Reading:
    work: Future[Any]
    done: asyncio.Future[Any]
    waiting: int = 0


class Readings:
    """Readings by what they are for, one after the other.  Event loop only."""

    def __init__(self, name: str, *, threads: int = 1) -> None:
        self._threads: Final = ThreadPoolExecutor(threads, thread_name_prefix=f"jtr-{name}")
        self._now: Final[dict[Hashable, _Reading]] = {}

    async def read(self, key: Hashable, work: Callable[[], T]) -> T:
        """Return what *work* returns, perhaps from a call for the same *key* that runs already."""
        one = self._now.get(key)
        if one is None:
            begun = self._threads.submit(work)
            one = _Reading(begun, asyncio.wrap_future(begun))
            self._now[key] = one
            one.done.add_done_callback(lambda _: self._ended(key, one))
        one.waiting += 1
        try:
            result: T = await asyncio.shield(one.done)
            return result
        finally:
            one.waiting -= 1
            if not one.waiting and one.work.cancel():
                self._forget(key, one)

    def _ended(self, key: Hashable, one: _Reading) -> None:
        self._forget(key, one)
        if not one.done.cancelled():
            one.done.exception()  # perhaps nobody waits for it any more

    def _forget(self, key: Hashable, one: _Reading) -> None:
        if self._now.get(key) is one:
            del self._now[key]
