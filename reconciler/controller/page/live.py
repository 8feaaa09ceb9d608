"""
What changed, to everybody who looks: one channel for each view, one short queue for each viewer.

A view is a set of fragments of HTML with names.  One task looks what changed, makes a view's
fragments anew once for all its viewers, and never waits for any of them: who does not take what is
there is let go, comes back by itself, and gets what it missed, or the whole.
"""

import asyncio
import json
import secrets
from collections import deque
from collections.abc import Awaitable, Callable, Hashable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Final

Fragments = Mapping[str, str]
"""Fragments by the `id` of their element, in the order in which they are shown."""

PERIOD: Final = 2.0  # seconds between two looks, while anybody looks
PULSE: Final = 15.0  # seconds between two signs of life
KEPT: Final = 32  # events of a channel for who comes back
QUEUE: Final = 16  # events that a viewer may leave lying
CHANNELS: Final = 64
VIEWERS: Final = 256


class Full(Exception):
    """As many look already as there may be."""


class View:
    """
    What one channel shows.  `make` returns all fragments, `edition` changes whenever they may.
    """

    def __init__(
        self, edition: Callable[[], Hashable], make: Callable[[], Awaitable[Fragments]]
    ) -> None:
        self.edition: Final = edition
        self.make: Final = make


class Viewer:
    """One page that somebody looks at while it *may*; `left` is set once it is let go."""

    def __init__(self, may: Callable[[], bool] = lambda: True) -> None:
        self.may: Final = may
        self.queue: Final[asyncio.Queue[bytes]] = asyncio.Queue(QUEUE)
        self.left: Final = asyncio.Event()

    def give(self, event: bytes) -> None:
        """Lay an event down for it, or let it go: it left too many lying."""
        try:
            self.queue.put_nowait(event)
        except asyncio.QueueFull:
            self.left.set()

    async def unless_left(self, sending: Awaitable[None]) -> None:
        """Wait for *sending*, but no longer than until it is let go."""
        task, left = asyncio.ensure_future(sending), asyncio.ensure_future(self.left.wait())
        try:
            await asyncio.wait({task, left}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            left.cancel()
            if not task.done():
                task.cancel()
        if task.done():
            task.result()


class Channel:
    """One view, and who looks at it."""

    def __init__(self, view: View) -> None:
        self._view: Final = view
        self._name: Final = secrets.token_hex(6)
        self._number = 0
        self._edition: Hashable = None
        self._events: Final[deque[tuple[int, bytes]]] = deque(maxlen=KEPT)
        self._lock: Final = asyncio.Lock()
        self.parts: Fragments = {}
        self.viewers: Final[set[Viewer]] = set()

    @property
    def id(self) -> str:
        """Names what `parts` are now."""
        return f"{self._name}-{self._number}"

    async def update(self) -> None:
        """Make the fragments anew where they may have changed, and tell what did."""
        async with self._lock:
            edition = self._view.edition()
            if edition == self._edition:
                return
            made = await self._view.make()
            before, self.parts = self.parts, made
            first, self._edition = self._edition is None, edition
            changed = {name: text for name, text in made.items() if before.get(name) != text}
            moved = list(before) != list(made)
            if first or not (changed or moved):
                return
            self._number += 1
            event = self._event("change", changed, list(made) if moved else None)
            self._events.append((self._number, event))
            for viewer in self.viewers:
                viewer.give(event)

    def since(self, known: str) -> Iterator[bytes]:
        """Yield what somebody missed who knows `known`: the events since then, else the whole."""
        name, _, number = known.rpartition("-")
        missed = [(n, event) for n, event in self._events if number.isdigit() and n > int(number)]
        whole = name != self._name or not number.isdigit() or int(number) > self._number
        if not whole and self._number - int(number) == len(missed):
            yield from (event for _, event in missed)
        else:
            yield self._event("reset", self.parts, list(self.parts))

    def _event(self, kind: str, parts: Fragments, order: list[str] | None) -> bytes:
        data = json.dumps({"parts": parts, "order": order}, separators=(",", ":"))
        return f"id: {self.id}\nevent: {kind}\ndata: {data}\n\n".encode()


class Hub:
    """
    All channels.  Event loop only; *look* takes over what changed, *pulse* says how it stands.
    """

    def __init__(
        self,
        look: Callable[[], Awaitable[None]],
        pulse: Callable[[], Mapping[str, object]],
        *,
        period: float = PERIOD,
    ) -> None:
        self._look: Final = look
        self._pulse: Final = pulse
        self._period: Final = period
        self._channels: Final[dict[Hashable, Channel]] = {}
        self._watched: Final = asyncio.Event()
        self._said: tuple[float, bytes] = (float("-inf"), b"")
        self.dropped = 0  # viewers that were let go, since the start
        self.viewers = 0

    async def channel(self, key: Hashable, view: Callable[[], View]) -> Channel:
        """Return the channel of a view, up to date.  Raises Full."""
        found = self._channels.pop(key, None)
        if found is None:
            self._make_room()
            found = Channel(view())
        self._channels[key] = found  # the one that was asked for last is the last
        await self._look()
        await found.update()
        return found

    def _make_room(self) -> None:
        if len(self._channels) < CHANNELS:
            return
        idle = next((key for key, one in self._channels.items() if not one.viewers), None)
        if idle is None:
            raise Full
        del self._channels[idle]

    @contextmanager
    def viewer(self, channel: Channel, may: Callable[[], bool] = lambda: True) -> Iterator[Viewer]:
        """Be one who looks at a channel while that *may* be.  Raises Full."""
        if self.viewers >= VIEWERS:
            raise Full
        one = Viewer(may)
        channel.viewers.add(one)
        self.viewers += 1
        self._watched.set()
        try:
            yield one
        finally:
            channel.viewers.discard(one)
            self.viewers -= 1
            self.dropped += one.left.is_set()
            if not self.viewers:
                self._watched.clear()

    def let_go(self) -> None:
        """Let go of everybody."""
        self._let_go(lambda _: True)

    def look_who_may(self) -> None:
        """Let go of who may not look any more."""
        self._let_go(lambda one: not one.may())

    def _let_go(self, whom: Callable[[Viewer], bool]) -> None:
        for channel in self._channels.values():
            for one in channel.viewers:
                if whom(one):
                    one.left.set()
                    one.give(b"")

    def sign_of_life(self) -> bytes:
        """Return the event that says how things stand; made once for all viewers."""
        now = asyncio.get_running_loop().time()
        if now - self._said[0] >= PULSE / 2:
            data = json.dumps(self._pulse(), separators=(",", ":"))
            self._said = now, f"event: pulse\ndata: {data}\n\n".encode()
        return self._said[1]

    async def run(self) -> None:
        """Look whenever it is time, for as long as anybody looks at all."""
        while True:
            await self._watched.wait()
            await self._look()
            for channel in list(self._channels.values()):
                if channel.viewers:
                    await channel.update()
            await asyncio.sleep(self._period)


async def next_event(viewer: Viewer, patience: float) -> bytes | None:
    """Return the next event for a viewer; None where there is none in time."""
    with suppress(TimeoutError):
        async with asyncio.timeout(patience):
            return await viewer.queue.get()
    return None
