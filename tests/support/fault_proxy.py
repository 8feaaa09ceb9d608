"""
A TCP proxy that spoils what passes through it: what a bad network does to a connection.

It knows bytes, and of websockets just enough to find the ends of frames.  All of it runs on one
loop on a thread of its own; tests switch the faults from outside, for connections that live and
for new ones alike.
"""

import asyncio
import contextlib
import enum
import select
import socket
import struct
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import ExitStack
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Final, Self
from urllib.parse import urlsplit

from tests.support.frames import Frames
from tests.support.loops import LoopThread

_PIECE: Final = 65_536  # bytes that are read at once
_BEAT: Final = 0.05  # seconds between two pieces of a drip
_GOODBYE: Final = 0.5  # seconds that the peers get to notice a FIN before the socket goes
_MOST_MARKS: Final = 10_000
_ABANDON: Final = struct.pack("ii", 1, 0)  # struct linger: on, zero seconds: close sends RST


class Way(enum.Enum):
    """A direction."""

    UP = "to the server"
    DOWN = "to the client"


class End(enum.Enum):
    """What happens to a connection at a certain byte."""

    FIN = "fin"  # both sides are told politely that it is over
    RST = "rst"  # both sides are told rudely
    MUTE = "mute"  # nothing more is handed on in this direction; the other one works
    DEAD = "dead"  # nothing more is handed on in either: half-open, no FIN
    SWALLOW = "swallow"  # what comes is taken and never arrives; stays so after `heal`


class Door(enum.Enum):
    """What who connects finds."""

    OPEN = "open"
    SILENT = "silent"  # accepted, and then nothing until `heal`
    RESET = "reset"  # accepted and cut at once
    CLOSED = "closed"  # connection refused


class Moment(enum.Enum):
    """Where a request of HTTP is cut off, both sides rudely."""

    UNSENT = "before it arrives"
    UNHEARD = "once it was done, before a byte of its answer"
    HALF = "in mid-answer"


Watching = Callable[[str], Moment | None]
"""Gets the first line of each request, on the proxy's thread; says where to cut it, if at all."""


@dataclass(frozen=True, slots=True)
class Lane:
    """
    What happens to the bytes of one direction.

    *latency*: seconds that each piece waits; what arrives meanwhile waits with the next one.
    *rate*: bytes a second.  *after*: *end* happens when so many bytes of the connection were handed
    on, at once where more were already.  *repeat*: every text frame of a websocket with these bytes
    in it is handed on twice (b"" is in all of them), the second time *lag* seconds later.
    """

    latency: float = 0.0
    rate: float = 0.0
    after: int | None = None
    end: End = End.RST
    repeat: bytes | None = None
    lag: float = 0.0


@dataclass(frozen=True, slots=True)
class Faults:
    """
    Everything that is wrong with a network at one moment.

    *first*: only so many connections suffer, counted from the switch; those that live then are
    spared.  *tunnel*: what is held is delivered on `heal` although its sender has gone, as by the
    end of a tunnel; else a reset throws it away, as on a network of packets.
    """

    door: Door = Door.OPEN
    up: Lane = Lane()
    down: Lane = Lane()
    first: int | None = None
    tunnel: bool = False


HEALTHY: Final = Faults()
HALF_OPEN: Final = Faults(up=Lane(after=0, end=End.MUTE), down=Lane(after=0, end=End.MUTE))
"""Nothing is handed on, nobody is told; after `heal` it goes on where it was."""


@dataclass(frozen=True, slots=True)
class Counts:
    """Connections since the proxy began and those that live, bytes handed on in each direction."""

    connections: int
    living: int
    up: int
    down: int


def broken(way: Way, after: int, end: End) -> Faults:
    """Return the faults of a connection that ends so after so many bytes in one direction."""
    lane = Lane(after=after, end=end)
    return Faults(up=lane) if way is Way.UP else Faults(down=lane)


class FaultProxy:
    """
    Listens on loopback and hands everything on to one address; see the module.

    Enter it, or call `open` and `close`.  Every method may be called from any thread but that of
    *on*, the loop that several proxies may share.  *needles* are texts to be counted in what went
    to the server, see `seen`.  `watching` may be set for plain HTTP whose client waits for each
    answer.
    """

    def __init__(
        self,
        target_host: str,
        target_port: int,
        *,
        on: LoopThread | None = None,
        needles: Sequence[bytes] = (),
    ) -> None:
        self._target: Final = (target_host, target_port)
        self._given: Final = on
        self._stack: Final = ExitStack()
        self._on: LoopThread | None = None
        self.faults = HEALTHY
        self.changed = asyncio.Event()
        self._doorway: socket.socket | None = None
        self._listening = False
        self._links: Final[dict[asyncio.Task[None], _Link]] = {}
        self._failures: Final[list[BaseException]] = []
        self._accepted = 0
        self._accepted_at_switch = 0
        self.passed: Final = {Way.UP: 0, Way.DOWN: 0}
        self.needles: Final = dict.fromkeys(needles, 0)
        self.watching: Watching | None = None
        self._newest: _Link | None = None
        self.port = 0

    @classmethod
    def of(cls, url: str, *, on: LoopThread | None = None, needles: Sequence[bytes] = ()) -> Self:
        """Return a proxy in front of what answers at *url*."""
        parts = urlsplit(url)
        assert parts.hostname is not None
        assert parts.port is not None
        return cls(parts.hostname, parts.port, on=on, needles=needles)

    def __enter__(self) -> Self:
        self.open()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def url(self) -> str:
        """Where it listens, for plain HTTP."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def counts(self) -> Counts:
        """What happened so far."""
        return Counts(self._accepted, len(self._links), self.passed[Way.UP], self.passed[Way.DOWN])

    def open(self) -> None:
        """Listen on a port that the system picks."""
        if self._on is not None:
            raise RuntimeError("already open")
        self._on = self._given or self._stack.enter_context(LoopThread("fault proxy"))
        self._on.run(self._opened())

    def close(self) -> None:
        """Cut every connection and free the port; no task, socket or thread is left."""
        if self._on is None:
            return
        try:
            self._on.run(self._closed())
        finally:
            self._on = None
            self._stack.close()

    def switch(self, faults: Faults) -> None:
        """Let this be wrong from now on, with living connections and with new ones."""
        self._loop().run(self._switched(faults))

    def heal(self) -> None:
        """Let everything pass; what was held goes on where it was."""
        self.switch(HEALTHY)

    def cut(self, end: End = End.RST) -> None:
        """End all connections that live now, with FIN or RST; new ones are not concerned."""
        self._loop().run(self._cut(end))

    def cutting(self, end: End) -> Future[None]:
        """Do so without waiting for it."""
        return asyncio.run_coroutine_threadsafe(self._cut(end), self._loop().loop)

    def marks(self, way: Way) -> tuple[int, ...]:
        """Return after which bytes a frame of the newest connection ended; the HTTP head first."""
        return tuple(self._newest.frames[way].ends[:_MOST_MARKS]) if self._newest else ()

    def seen(self, needle: bytes) -> int:
        """Return how often one of the needles went to the server (in plain text)."""
        return self.needles[needle]

    # ── on the loop ──────────────────────────────────────────────────────────────────────────

    def spares(self, number: int) -> bool:
        """Whether the present faults spare the connection of this number."""
        first = self.faults.first
        return first is not None and not 0 <= number - self._accepted_at_switch < first

    def target(self) -> tuple[str, int]:
        """Return where everything goes."""
        return self._target

    def _loop(self) -> LoopThread:
        if self._on is None:
            raise RuntimeError("not open")
        return self._on

    async def _opened(self) -> None:
        self._doorway = _bound(0)
        self.port = self._doorway.getsockname()[1]
        self._let_in(self._doorway)

    async def _closed(self) -> None:
        self._shut()
        await self._cut(End.RST)
        if self._failures:
            raise BaseExceptionGroup("the fault proxy itself failed", self._failures)

    def _let_in(self, doorway: socket.socket) -> None:
        doorway.listen(512)
        # No task: one that is cancelled in the right moment loses whom it has just let in.
        asyncio.get_running_loop().add_reader(doorway, self._accept, doorway)
        self._listening = True

    def _shut(self) -> None:
        """Stop listening and free the port."""
        if self._doorway is not None:
            asyncio.get_running_loop().remove_reader(self._doorway)
            self._listening = False
            self._doorway.close()
            self._doorway = None

    async def _switched(self, faults: Faults) -> None:
        self.faults = faults
        self._accepted_at_switch = self._accepted
        if faults.door is Door.CLOSED and self._listening:
            self._shut()
            self._doorway = _bound(self.port)  # bound, not listening: nobody else takes the port
        elif faults.door is not Door.CLOSED and not self._listening and self._doorway is not None:
            self._let_in(self._doorway)
        changed, self.changed = self.changed, asyncio.Event()
        changed.set()

    async def _cut(self, end: End) -> None:
        links = dict(self._links)
        for link in links.values():
            link.last_word = end
        for task in links:
            task.cancel()
        await asyncio.gather(*links, return_exceptions=True)

    def _accept(self, doorway: socket.socket) -> None:
        try:
            client, _ = doorway.accept()
        except (BlockingIOError, ConnectionAbortedError):
            return  # gone again
        link = self._newest = _Link(self, client, self._accepted)
        self._accepted += 1
        task = asyncio.ensure_future(link.run())
        self._links[task] = link
        task.add_done_callback(self._gone)

    def _gone(self, task: asyncio.Task[None]) -> None:
        self._links.pop(task).close()
        if not task.cancelled() and (failure := task.exception()) is not None:
            self._failures.append(failure)


class _Over(Exception):
    """The connection ends so."""

    def __init__(self, end: End) -> None:
        super().__init__(end)
        self.end: Final = end


class _Link:
    """One connection through the proxy: two sockets, and a pump for each direction."""

    def __init__(self, proxy: FaultProxy, client: socket.socket, number: int) -> None:
        self._proxy = proxy
        self._number = number
        self._client = client
        self._server = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        self._passed = {Way.UP: 0, Way.DOWN: 0}
        self._swallows = {Way.UP: False, Way.DOWN: False}
        self._tail = b""
        self._request: bytes | None = b""  # what came of its first line; None once that is known
        self._cut_at: Moment | None = None
        self.frames = {Way.UP: Frames(), Way.DOWN: Frames()}
        self.last_word = End.RST
        for one in (self._client, self._server):
            one.setblocking(False)
            one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    async def run(self) -> None:
        """Live until one of the two sides, a fault, or the proxy ends it."""
        try:
            await self._live()
        except _Over as over:
            self.last_word = over.end
        except OSError:
            self.last_word = End.RST
        finally:
            if self.last_word is End.FIN:
                await self._say_goodbye()

    def close(self) -> None:
        """Give the sockets back, also of a link that was cancelled before it ran."""
        for one in (self._client, self._server):
            if self.last_word is not End.FIN:
                with contextlib.suppress(OSError):
                    one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _ABANDON)
            one.close()

    async def _live(self) -> None:
        while (door := self._faults().door) is Door.SILENT:
            await self._proxy.changed.wait()
        if door is Door.RESET:
            raise _Over(End.RST)
        await asyncio.get_running_loop().sock_connect(self._server, self._proxy.target())
        pumps = [
            asyncio.ensure_future(self._pump(Way.UP, self._client, self._server)),
            asyncio.ensure_future(self._pump(Way.DOWN, self._server, self._client)),
        ]
        try:
            done, _ = await asyncio.wait(pumps, return_when=asyncio.FIRST_EXCEPTION)
            for pump in done:
                pump.result()
            self.last_word = End.FIN
        finally:
            for pump in pumps:
                pump.cancel()
            await asyncio.gather(*pumps, return_exceptions=True)

    async def _pump(self, way: Way, source: socket.socket, sink: socket.socket) -> None:
        """Hand on what comes from *source*, and its end, as the faults have it."""
        loop = asyncio.get_running_loop()
        while True:
            await self._gate(way, source)
            try:
                data = await loop.sock_recv(source, _PIECE)
            except OSError:
                await self._gate(way, source)  # who holds everything holds a reset, too
                if self._swallows[way]:
                    return
                raise
            if not data:
                break
            if self._swallows[way]:
                continue
            await self._pass_on(way, self._watched(way, data), source, sink)
            if way is Way.DOWN and self._cut_at is not None:
                raise _Over(End.RST)
        await self._gate(way, source)
        if not self._swallows[way]:
            sink.shutdown(socket.SHUT_WR)

    async def _pass_on(
        self, way: Way, data: bytes, source: socket.socket, sink: socket.socket
    ) -> None:
        if latency := self._lane(way).latency:
            await self._pause(latency)
        for part, frame in self.frames[way].split(data):
            await self._hand_on(way, part, source, sink)
            lane = self._lane(way)
            if frame and lane.repeat is not None and lane.repeat in frame:
                await self._pause(lane.lag)
                await asyncio.get_running_loop().sock_sendall(sink, frame)

    def _watched(self, way: Way, data: bytes) -> bytes:
        """Return what of *data* is handed on, as who watches wants it.  Raises _Over."""
        if way is Way.DOWN:
            self._request = b""  # what comes up next begins another one
            if self._cut_at is Moment.UNHEARD:
                raise _Over(End.RST)
            return data[: len(data) // 2] if self._cut_at is Moment.HALF else data
        if self._proxy.watching is not None and self._request is not None:
            line, ended, _ = (self._request + data).partition(b"\r\n")
            self._request = None if ended else line
            self._cut_at = self._proxy.watching(line.decode("ascii")) if ended else None
            if self._cut_at is Moment.UNSENT:
                raise _Over(End.RST)
        return data

    async def _hand_on(
        self, way: Way, part: bytes, source: socket.socket, sink: socket.socket
    ) -> None:
        loop = asyncio.get_running_loop()
        while part:
            lane = await self._gate(way, source)
            if self._swallows[way]:
                return
            most = max(1, int(lane.rate * _BEAT)) if lane.rate else len(part)
            if lane.after is not None:
                most = min(most, lane.after - self._passed[way])  # the gate says: at least 1
            piece, part = part[:most], part[most:]
            await loop.sock_sendall(sink, piece)
            self._note(way, piece)
            if lane.rate:
                await self._pause(len(piece) / lane.rate)
        await self._gate(way, source)  # the end comes with the last byte before it, not the next

    async def _gate(self, way: Way, source: socket.socket) -> Lane:
        """Wait while nothing passes; return what happens to what does.  Raises _Over."""
        held = False
        while True:
            lane = self._lane(way)
            if (end := self._reached(way)) is not None:
                match end:
                    case End.FIN | End.RST:
                        raise _Over(end)
                    case End.SWALLOW:
                        self._swallows[way] = True
                        return lane
            elif not self._dead():
                if held and not self._faults().tunnel and _abandoned(source):
                    raise _Over(End.RST)
                return lane
            held = True
            await self._proxy.changed.wait()

    def _reached(self, way: Way) -> End | None:
        """Return what has befallen this direction; None when it is not that far."""
        lane = self._lane(way)
        return lane.end if lane.after is not None and self._passed[way] >= lane.after else None

    def _dead(self) -> bool:
        return any(self._reached(way) is End.DEAD for way in Way)

    def _note(self, way: Way, piece: bytes) -> None:
        self._passed[way] += len(piece)
        self._proxy.passed[way] += len(piece)
        if way is Way.UP and self._proxy.needles:
            text = self._tail + piece
            for needle in self._proxy.needles:
                # What stood in the tail already was counted with it.
                self._proxy.needles[needle] += text.count(needle) - self._tail.count(needle)
            longest = max(map(len, self._proxy.needles))
            self._tail = text[-(longest - 1) :] if longest > 1 else b""

    def _faults(self) -> Faults:
        return HEALTHY if self._proxy.spares(self._number) else self._proxy.faults

    def _lane(self, way: Way) -> Lane:
        return self._faults().up if way is Way.UP else self._faults().down

    async def _pause(self, seconds: float) -> None:
        """Wait, but not longer than the present faults last."""
        changed = self._proxy.changed
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await changed.wait()

    async def _say_goodbye(self) -> None:
        """Send FIN to both and read what they still say: closing on unread bytes would reset."""
        loop = asyncio.get_running_loop()
        sides = (self._client, self._server)
        for one in sides:
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_WR)
        with contextlib.suppress(TimeoutError, OSError):
            async with asyncio.timeout(_GOODBYE):
                for one in sides:
                    while await loop.sock_recv(one, _PIECE):
                        pass


def slow(rate: float) -> Faults:
    """Return a network that lets so many bytes a second pass in each direction."""
    return Faults(up=Lane(rate=rate), down=Lane(rate=rate))


def late(seconds: float) -> Faults:
    """Return a network that takes so many seconds in each direction."""
    return Faults(up=Lane(latency=seconds), down=Lane(latency=seconds))


def once(faults: Faults) -> Faults:
    """Return *faults* for the next connection only."""
    return replace(faults, first=1)


def _bound(port: int) -> socket.socket:
    one = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        one.setblocking(False)
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        one.bind(("127.0.0.1", port))
    except OSError:
        one.close()
        raise
    return one


def _abandoned(one: socket.socket) -> bool:
    """Whether the peer has reset the connection, with unread bytes or without."""
    poll = select.poll()
    poll.register(one, 0)
    return any(event & select.POLLERR for _, event in poll.poll(0))


__all__ = [
    "HALF_OPEN",
    "HEALTHY",
    "Counts",
    "Door",
    "End",
    "FaultProxy",
    "Faults",
    "Lane",
    "Moment",
    "Way",
    "broken",
    "late",
    "once",
    "slow",
]
