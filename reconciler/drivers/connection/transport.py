"""
What lies under a conversation: sockets, TLS, the websocket, Socket.IO packets.

Everything here works around something that was measured on the libraries below: payloads in logs,
redirects that carry a login away, drops without a reason.
"""

import asyncio
import contextlib
import functools
import json
import logging
import re
import socket
import ssl
import struct
import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Final

import aiohttp
import socketio
import socketio.packet

from reconciler.drivers import Trust
from reconciler.drivers.connection.failures import Redirected
from reconciler.errors import TlsRefused

MESSAGE: Final = "message"
EXCEPTION: Final = "exception"
ENDED: Final = "ended"
UNREADABLE: Final = "unreadable"
_IGNORED: Final = "ignored"

LARGE: Final = 64 * 2**10  # characters; what is longer is looked at before it is decoded
LONGEST: Final = 2 * 2**20  # of all answers but the log
MOST_MARKS: Final = 100_000  # brackets and commas: each becomes objects of a hundred bytes
LOG_MARKS: Final = 2_000_000
BURST: Final = (5_000, 16 * 2**20)
"""Messages, and characters that nobody waits for: so much a server may say at once."""
STEADY: Final = (1_000, 2**20)
"""The same, in each second from then on."""
_STRANGE: Final = 10  # one that only the engine can make out costs as much as so many others
_TURN: Final = 50  # messages that are dropped in a row before others have their turn
_HEAD: Final = re.compile(r'42\["message",\{"event":"([a-z-]{1,60})"[,}]')
_LOGIN: Final = frozenset({"authenticated", "unauthorized"})
_NOTHING: Final = aiohttp.WSMessage(aiohttp.WSMsgType.TEXT, "6", None)  # the engine's own no-op
_CLOSED: Final = aiohttp.WSMessage(aiohttp.WSMsgType.CLOSED, None, None)


def _silent_logger() -> logging.Logger:
    """
    Return a logger that no configuration can reach.

    At INFO the engine prints every packet, keys included.  A logger outside the registry has no
    parent, and nobody can find it to lower its level.
    """
    logger = logging.Logger("reconciler.drivers.wire", logging.WARNING)  # noqa: LOG001  - on purpose
    logger.addHandler(logging.NullHandler())
    logger.propagate = False
    return logger


_SILENT: Final = _silent_logger()


class Packet(socketio.packet.Packet):  # type: ignore[misc]  # socketio ships no types
    """
    A packet that never raises while it is read, and lets through only what we use.

    The engine reads packets in tasks of its own: an exception there would be logged with the
    message and end nothing.
    """

    def __init__(self, *args: Any, encoded_packet: Any = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if encoded_packet is not None:
            self._read(encoded_packet)

    def _read(self, encoded: Any) -> None:
        try:
            attachments = self.decode(encoded)
            event = self._event() if isinstance(encoded, str) and not attachments else UNREADABLE
        # Deep nesting, endless digits, no JSON, JSON that is no packet: all the same to us.
        except (ValueError, TypeError, LookupError, RecursionError, AttributeError):
            event = UNREADABLE
        if event:
            self.packet_type, self.namespace, self.data = socketio.packet.EVENT, None, [event]
        self.id = None  # no acknowledgement is ever sent
        self.attachment_count = 0

    def _event(self) -> str:
        """Return the name to read this packet as; empty when it is fine as it is."""
        data: object = self.data
        match self.packet_type:
            case socketio.packet.CONNECT:
                return "" if data is None or isinstance(data, dict) else UNREADABLE
            case socketio.packet.EVENT:
                if not isinstance(data, list) or not data:
                    return UNREADABLE
                return "" if data[0] in {MESSAGE, EXCEPTION} else _IGNORED
            case socketio.packet.CONNECT_ERROR:
                return ""
            case socketio.packet.DISCONNECT:
                return ENDED
            case socketio.packet.ACK:
                return _IGNORED
        return UNREADABLE


class Allowance:
    """What a server may still say: as much at once as BURST, and STEADY once that is used up."""

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


class WatchedSocket(aiohttp.ClientWebSocketResponse):
    """
    Knows two things that the engine keeps to itself.

    That a message was over the limit, which the engine reports as any other drop; and that a frame
    was handed to the system, where the engine only queues.

    One server must not stall or bloat a process that serves others.  So what nobody asked for is
    dropped before it is decoded, and a server that says too much of it is left.
    """

    too_long = False
    too_much = False
    wanted: Callable[[str, bool], bool] = staticmethod(lambda _event, _large: False)
    """Whether somebody waits for a message with this event, which may be a large one."""
    log = ""
    """The event of the one answer that may be long."""
    deliver: Callable[[object], None] = staticmethod(lambda _body: None)
    """Takes the body of a large message, or None for one that cannot be read."""
    _watched: tuple[str, Callable[[bool], None]] | None = None
    _allowance: Allowance | None = None
    _dropped = 0

    def watch(self, text: str, written: Callable[[bool], None]) -> None:
        """
        Call *written* once, when the next frame with *text* in it was written.

        With True when the system has all of it; with False when the transport ended under it or
        kept some of it.
        """
        self._watched = (text, written)

    async def send_str(self, data: str, compress: int | None = None) -> None:
        await super().send_str(data, compress)
        if self._watched is not None and self._watched[0] in data:
            _, written = self._watched
            self._watched = None
            written(self._handed_over())

    def _handed_over(self) -> bool:
        # A transport that ended swallows what it is given; one that the system takes nothing more
        # from keeps it.  (Under TLS it would be kept below, out of sight: only after megabytes of
        # messages that the server does not read.)
        transport = self._writer.transport
        return not transport.is_closing() and transport.get_write_buffer_size() == 0

    async def receive(self, timeout: float | None = None) -> Any:  # noqa: ASYNC109  - aiohttp's signature
        clock = asyncio.get_running_loop().time
        if self._allowance is None:
            self._allowance = Allowance(clock())
        while True:
            message = await super().receive(timeout)
            data = message.data
            if isinstance(data, aiohttp.WebSocketError):
                self.too_long = data.code == aiohttp.WSCloseCode.MESSAGE_TOO_BIG
            if not isinstance(data, str | bytes):
                return message
            text = data if isinstance(data, str) else ""
            head = _HEAD.match(text)
            event = head[1] if head is not None else ""
            large = len(text) > LARGE
            wanted = bool(event) and self.wanted(event, large)
            cost = 1 if event else _STRANGE
            if not self._allowance.covers(cost, 0 if wanted else len(data), clock()):
                self.too_much = True
                return _CLOSED
            if not event or wanted or (event in _LOGIN and not large):
                return await self._large(event, text) if large else message
            self.deliver({"event": event})  # that it came may matter; what it says does not
            self._dropped += 1
            if self._dropped % _TURN == 0:
                await asyncio.sleep(0)

    async def _large(self, event: str, text: str) -> Any:
        """Take in a large message: counted before it is decoded, and decoded off the event loop."""
        log = bool(event) and event == self.log
        marks = text.count(",") + text.count("[") + text.count("{")
        if marks > (LOG_MARKS if log else MOST_MARKS) or (len(text) > LONGEST and not log):
            self.too_long = True
            return _CLOSED
        body: object = None
        with contextlib.suppress(ValueError, RecursionError, LookupError, TypeError):
            body = (await asyncio.to_thread(json.loads, text[2:]))[1]
        self.deliver(body)
        return _NOTHING


@dataclass(slots=True)
class Made:
    """What one session made: sockets to cut, and responses, each of which holds its connection."""

    sockets: list[socket.socket] = field(default_factory=list)
    responses: list[aiohttp.ClientResponse] = field(default_factory=list)

    def cut(self) -> None:
        """Abandon every connection at once: nothing that is still queued may arrive later."""
        for one in self.sockets:
            cut(one)

    def give_back(self) -> None:
        """
        Let go of every response, once the session is closed.

        The engine drops a websocket that it never came to use, and aiohttp one whose peer is gone:
        what becomes of their connection is up to the garbage collector, which may log an error.
        """
        for response in self.responses:
            response.close()

    async def note(
        self,
        request: aiohttp.ClientRequest,
        handler: Callable[[aiohttp.ClientRequest], Awaitable[aiohttp.ClientResponse]],
    ) -> aiohttp.ClientResponse:
        """Note a response, and never carry a login to where another server points."""
        response = await handler(request)
        self.responses.append(response)
        if response.status // 100 == 3:  # noqa: PLR2004  - HTTP's class of redirects
            response.close()
            raise Redirected
        return response


def new_http(
    made: Made, context: ssl.SSLContext | None, *, patience: float
) -> aiohttp.ClientSession:
    """
    Return a session of its own for one conversation; all that it makes is noted in *made*.

    It knows no proxy, no cookie and no netrc, and must be closed by who asked for it: the engine
    closes only sessions that it made itself, and leaks those when connecting fails.
    """
    connector = aiohttp.TCPConnector(
        limit=0,
        force_close=True,
        socket_factory=functools.partial(_new_socket, made.sockets, patience),
        ssl=context or True,
    )
    return aiohttp.ClientSession(
        connector=connector,
        trust_env=False,
        cookie_jar=aiohttp.DummyCookieJar(),
        middlewares=(made.note,),
        ws_response_class=WatchedSocket,
    )


def new_client(
    http: aiohttp.ClientSession, *, close: float, message_limit: int
) -> socketio.AsyncClient:
    """Return a Socket.IO client that neither reconnects, nor logs, nor touches signals."""
    return socketio.AsyncClient(
        reconnection=False,
        handle_sigint=False,
        logger=_SILENT,
        engineio_logger=_SILENT,
        serializer=Packet,
        http_session=http,
        request_timeout=close,  # bounds the websocket's closing handshake
        websocket_extra_options={"max_msg_size": message_limit},
    )


_ABANDON: Final = struct.pack("ii", 1, 0)  # struct linger: on, zero seconds


def cut(one: socket.socket) -> None:
    """Abandon a connection with a reset: what is still queued in it is thrown away."""
    with contextlib.suppress(OSError):
        one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _ABANDON)
        one.shutdown(socket.SHUT_RDWR)


def tls_context(trust: Trust) -> ssl.SSLContext:
    """Return a context that believes the pinned CA alone, or else the system's; reads files."""
    try:
        context = ssl.create_default_context(cafile=trust.ca_file)
    except (OSError, ValueError) as error:  # SSLError is an OSError
        raise TlsRefused(
            f"the CA file {trust.ca_file} cannot be used",
            "caFile in the settings (tls) names a readable PEM file with the server's CA",
        ) from error
    if trust.client_cert is not None:
        try:
            # An empty password: OpenSSL would ask on the terminal for that of an encrypted key.
            context.load_cert_chain(trust.client_cert, trust.client_key, password="")
        except (OSError, ValueError) as error:
            raise TlsRefused(
                f"the client certificate {trust.client_cert} or its key cannot be used",
                "clientCert and clientKey in the settings (tls) name readable PEM files, the key "
                "without a passphrase",
            ) from error
    return context


def _new_socket(
    made: list[socket.socket], patience: float, address: tuple[Any, ...]
) -> socket.socket:
    """Make a socket for *address* that outlives neither its peer nor us, and note it in *made*."""
    family, kind, protocol = address[:3]
    one = socket.socket(family, kind, protocol)
    one.setblocking(False)
    one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    # From the start, so that what the peer has not got yet dies with this process, too: without it
    # the system delivers a reboot that was sent by a dead process, seconds later.
    one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _ABANDON)
    if sys.platform == "linux":
        milliseconds = max(1, int(patience * 1000))
        one.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, milliseconds)
    made.append(one)
    return one
