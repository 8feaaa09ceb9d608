"""
Socket.IO 5 over Engine.IO 4, as far as one client on one websocket needs it.

Four dozen lines of protocol instead of a library: python-socketio logs what it sends, only queues
what it is given, tells of some ends and not of others, and costs as much memory and processor time
a server as all the rest of a look.  JT-Trader sends nothing else than what is read here
(docs/protocol.md, 1).
"""

import asyncio
import json
import math
import re
from collections.abc import Callable, Mapping
from enum import Enum, auto
from typing import Final, NamedTuple

from reconciler.system.http import aiohttp

LARGE: Final = 64 * 2**10  # characters; what is longer is looked at before it is decoded
LONGEST: Final = 2 * 2**20  # of all answers but the log
MOST_MARKS: Final = 100_000  # brackets and commas: each becomes objects of a hundred bytes
LOG_MARKS: Final = 2_000_000
BURST: Final = (5_000, 16 * 2**20)
"""Messages, and characters that nobody waits for: so much a server may say at once."""
STEADY: Final = (1_000, 2**20)
"""The same, in each second from then on."""
_STRANGE: Final = 10  # one whose event is not known at first sight costs as much as so many others
_BEATS: Final = 64  # of a server's patience
_TURN: Final = 50  # messages that are dropped in a row before others have their turn
_HEAD: Final = re.compile(r'42\["message",\{"event":"([a-z-]{1,60})"[,}]')
_PACKET: Final = re.compile(r"4([0-4])(?:(/[^,]*),)?\d{0,20}")
_LOGIN: Final = frozenset({"authenticated", "unauthorized"})
_ENCODE: Final = json.JSONEncoder(separators=(",", ":")).encode
_JOIN: Final = "40"
_LEAVE: Final = "41"
_PONG: Final = "3"


class Said(Enum):
    """What a packet is about."""

    JOINED = auto()
    MESSAGE = auto()
    PACKET = auto()  # a message that is not decoded yet
    EXCEPTION = auto()
    ENDED = auto()
    UNREADABLE = auto()
    PING = auto()
    NOTHING = auto()


class Packet(NamedTuple):
    """A message with this event, as it came."""

    event: str
    text: str


class Lost(ConnectionError):
    """The connection ended, or the server fell silent."""


class TooMuch(Exception):
    """The server says more that nobody asked for than it may."""


class TooLong(Exception):
    """A message is longer, or of more parts, than any that a server sends."""


def encode(message: Mapping[str, object]) -> str:
    """Return the packet that carries *message*."""
    return "42" + _ENCODE(["message", message])


def decode(text: str) -> tuple[Said, object]:
    """Return what a packet says, and the message in it; never raises."""
    kind = text[:1]
    if kind != "4":
        engine = {"1": Said.ENDED, "2": Said.PING}
        known = kind in {"0", "3", "5", "6"}
        return engine.get(kind, Said.NOTHING if known else Said.UNREADABLE), None
    packet = _PACKET.match(text)
    if packet is None:  # with attachments, too: JT-Trader sends none
        return Said.UNREADABLE, None
    try:
        data = json.loads(text[packet.end() :]) if packet.end() < len(text) else None
    except (ValueError, RecursionError):
        return Said.UNREADABLE, None
    if packet[2] not in {None, "/"}:
        return Said.NOTHING, None
    return _read(packet[1], data)


def _read(kind: str, data: object) -> tuple[Said, object]:
    match kind, data:
        case "0", None | dict():
            return Said.JOINED, None
        case "2", ["message", *rest]:
            return Said.MESSAGE, rest[0] if rest else None
        case "2", ["exception", *_]:
            return Said.EXCEPTION, None
        case ("2", [_, *_]) | ("3", _):
            return Said.NOTHING, None
        case (("1" | "4"), _):
            return Said.ENDED, None
    return Said.UNREADABLE, None


class Allowance:
    """What a server may still say: as much at once as BURST, and STEADY once that is used up."""

    __slots__ = ("_at", "_left")

    def __init__(self, now: float) -> None:
        self._left: list[float] = list(BURST)
        self._at = now

    def covers(self, messages: int, characters: int, now: float) -> bool:
        """Take off so much."""
        passed, self._at = now - self._at, now
        used = (messages, characters)
        for which, most in enumerate(BURST):
            grown = min(most, self._left[which] + passed * STEADY[which])
            self._left[which] = grown - used[which]
        return min(self._left) >= 0


class SocketIo:
    """
    One connection, once the websocket is there.

    One server must not stall or bloat a process that serves others.  So what nobody asked for is
    dropped before it is decoded, and a server that says too much of it is left.
    """

    __slots__ = ("_allowance", "_dropped", "_log", "_timer", "_waits", "_wanted", "_ws", "patience")

    def __init__(
        self,
        ws: aiohttp.ClientWebSocketResponse,
        *,
        wanted: Callable[[str, bool], bool],
        log: str,
    ) -> None:
        """
        Read from *ws*, which must not answer pings by itself: a flood of them would never end.

        *wanted* says whether somebody waits for a message with this event, which may be a large
        one; *log* is the event of the one answer that may be long.
        """
        self._ws = ws
        self._wanted = wanted
        self._log = log
        self._allowance = Allowance(asyncio.get_running_loop().time())
        self._dropped = 0
        self._waits: float | None = None  # since when for what the server says next
        self._timer: asyncio.TimerHandle | None = None
        self.patience = 0.0
        """Seconds after which a peer counts as gone that is no longer heard."""

    async def join(self, login: Mapping[str, str]) -> None:
        """Show *login*; the answer is among what is received.  Raises Lost and ValueError."""
        opening = await self._ws.receive()
        if opening.type is not aiohttp.WSMsgType.TEXT:
            raise Lost
        text = opening.data
        told = json.loads(text[1:]) if text[:1] == "0" and len(text) < LARGE else None
        match told:
            case {"pingInterval": int(interval), "pingTimeout": int(timeout)}:
                self.patience = (interval + timeout) / 1000
            case _:
                raise ValueError("no opening packet")
        await self._ws.send_str(_JOIN + _ENCODE(login))

    def watch(self) -> None:
        """
        Cut the connection once the server was silent for longer than *patience*.

        By one timer that looks now and then: one for each message costs more than the message.  And
        by those of all connections at the same moments: each wakes the process.
        """
        loop = asyncio.get_running_loop()
        now = loop.time()
        since = now if self._waits is None else self._waits
        if now - since < self.patience:
            beat = self.patience / _BEATS
            self._timer = loop.call_at(math.ceil((since + self.patience) / beat) * beat, self.watch)
        elif self.connected:
            self._transport.abort()

    def unwatch(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    @property
    def connected(self) -> bool:
        """Whether what is sent now goes out: a transport that ended swallows what it is given."""
        return not self._ws.closed and not self._transport.is_closing()

    @property
    def _transport(self) -> asyncio.Transport:
        return self._ws._writer.transport  # noqa: SLF001  - nothing public says what was taken

    async def send(self, text: str) -> bool:
        """
        Send a packet; whether the system has all of it.

        (Under TLS some may be kept below, out of sight: only after megabytes of messages that the
        server does not read.)
        """
        await self._ws.send_str(text)
        return self.connected and self._transport.get_write_buffer_size() == 0

    async def receive(self) -> tuple[Said, object]:
        """
        Return the next thing that was said.

        A message that somebody waits for is not decoded yet; of one that nobody waits for there is
        only its event: that it came may matter.
        Raises Lost, TooMuch and TooLong.
        """
        clock = asyncio.get_running_loop().time
        while True:
            text = await self._frame()
            head = _HEAD.match(text)
            event = head[1] if head is not None else ""
            large = len(text) > LARGE
            wanted = bool(event) and self._wanted(event, large)
            cost = 1 if event else _STRANGE
            if not self._allowance.covers(cost, 0 if wanted else len(text), clock()):
                raise TooMuch
            if event and not wanted and (large or event not in _LOGIN):
                self._dropped += 1
                if self._dropped % _TURN == 0:
                    await asyncio.sleep(0)
                return Said.MESSAGE, {"event": event}
            if wanted and not large:
                return Said.PACKET, Packet(event, text)
            said, body = await self._large(event, text) if large else decode(text)
            if said is Said.PING:
                await self._ws.send_str(_PONG)
            elif said is not Said.NOTHING:
                return said, body

    async def _frame(self) -> str:
        """Receive one message; a binary one as text that cannot be read."""
        self._waits = asyncio.get_running_loop().time()
        message = await self._ws.receive()
        self._waits = None
        match message.type:
            case aiohttp.WSMsgType.TEXT:
                return str(message.data)
            case aiohttp.WSMsgType.BINARY:
                return " " * len(message.data)
            case aiohttp.WSMsgType.PING:
                await self._ws.pong(message.data)
                return "6"
            case aiohttp.WSMsgType.PONG:
                return "6"
        if getattr(message.data, "code", None) == aiohttp.WSCloseCode.MESSAGE_TOO_BIG:
            raise TooLong
        raise Lost

    async def _large(self, event: str, text: str) -> tuple[Said, object]:
        """Decode a large message: counted before that, and off the event loop."""
        log = bool(event) and event == self._log
        marks = text.count(",") + text.count("[") + text.count("{")
        if marks > (LOG_MARKS if log else MOST_MARKS) or (len(text) > LONGEST and not log):
            raise TooLong
        return await asyncio.to_thread(decode, text)

    async def leave(self) -> None:
        """Say goodbye."""
        await self._ws.send_str(_LEAVE)
        await self._ws.close()
