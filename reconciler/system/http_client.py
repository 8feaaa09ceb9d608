"""
One HTTP request, bounded in time and in size, for what carries a token: Vault, the controller.

The client knows of no redirects, takes nothing from the environment or from `.netrc`, keeps no
cookies, unpacks nothing and repeats nothing.  Whatever goes wrong comes back as a value, because an
exception of the HTTP library holds the request, and the request holds the token.
"""

import asyncio
import logging
import re
import socket
import ssl
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from typing import Any, Final, Protocol
from weakref import WeakSet

import certifi
from msgspec import Struct
from yarl import URL

from reconciler.system.http import aiohttp

BODY_LIMIT: Final = 8 * 1024 * 1024  # bytes; a secret has at most about one million
_HEADERS: Final = {
    "Accept": "application/json",
    "Accept-Encoding": "identity",  # no decompression bombs
    "User-Agent": "jt-reconciler",
}
_LINE: Final = 8190  # bytes of one header
_OK: Final = 200
_TURNS: Final = 5
_LOG: Final = logging.getLogger(__name__)


class Sink(Protocol):
    """Takes a body piece by piece, so that nobody has to hold all of it."""

    def feed(self, piece: bytes) -> bool:
        """Take the next piece; False when no more is wanted.  Never raises."""
        ...


class Reply:
    """
    Status, body and the headers that we use of one HTTP answer; never shows its body.

    The body went to `sink` where there is one.
    """

    __slots__ = ("content", "date", "location", "retry_after", "sink", "status")

    def __init__(
        self, status: int, content: bytes, headers: Mapping[str, str], sink: Any = None
    ) -> None:
        self.status: Final = status
        self.content: Final = content
        self.date: Final = headers.get("Date", "")
        self.location: Final = headers.get("Location", "")
        delay = headers.get("Retry-After", "")
        self.retry_after: Final = float(delay) if re.fullmatch(r"[0-9]{1,4}", delay) else 0.0
        self.sink: Final = sink


class Lost(Struct, frozen=True):
    """
    No usable answer.

    `error` is the library's exception, to be classified and thrown away, never shown or chained;
    `late` says that time ran out, `sent` that the request may have been received.
    """

    error: Exception
    late: bool
    sent: bool


class HttpClient:
    """
    Connections to whatever is asked, for one event loop.

    Trusts *ca_file*, or the usual authorities when it is None.  To be made and closed on its loop.
    """

    def __init__(self, ca_file: str | None) -> None:
        self._ca_file: Final = ca_file
        self._trust: ssl.SSLContext | None = None  # made when a certificate has to be judged
        loop = asyncio.get_running_loop()
        if loop.get_exception_handler() is None:
            loop.set_exception_handler(_noted)
        self._sockets: Final[WeakSet[socket.socket]] = WeakSet()
        self._session: Final = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                # Callers bound how many they send at once: who waits here would seem to be late.
                limit=0,
                resolver=aiohttp.ThreadedResolver(),
                socket_factory=self._new_socket,
            ),
            headers=_HEADERS,
            skip_auto_headers=("Content-Type",),
            cookie_jar=_NoCookies(),
            timeout=aiohttp.ClientTimeout(total=None),
            auto_decompress=False,
            trust_env=False,  # else HTTP_PROXY receives the token and .netrc adds a login
            raise_for_status=False,
            max_line_size=_LINE,
            max_field_size=_LINE,
        )

    def _new_socket(self, address: tuple[Any, ...]) -> socket.socket:
        family, kind, protocol, _, _ = address
        made = socket.socket(family, kind, protocol)
        made.setblocking(False)
        self._sockets.add(made)
        return made

    async def close(self) -> None:
        """Give back all connections."""
        await self._session.close()
        for one in list(self._sockets):
            # asyncio waits half a minute for a silent peer's goodbye before it closes a TLS socket.
            with suppress(OSError):
                socket.socket.shutdown(one, socket.SHUT_RDWR)
        for _ in range(_TURNS):
            await asyncio.sleep(0)  # sockets are closed in the next turns of the loop

    async def fetch(
        self,
        method: str,
        url: URL,
        headers: Mapping[str, str],
        body: bytes | None = None,
        *,
        connect: float,
        limit: float,
        most: int = BODY_LIMIT,
        sink: Callable[[], Sink] | None = None,
    ) -> Reply | Lost:
        """
        Send one request: *connect* seconds for the connection, *limit* for everything.

        Of a body longer than *most* bytes there are some more than that, or all that *sink* wanted
        of it; only the body of an answer with status 200 goes there.
        """
        deadline = asyncio.timeout(limit)
        try:
            if url.scheme == "https" and self._trust is None:
                self._trust = ssl.create_default_context(cafile=self._ca_file or certifi.where())
            async with deadline:
                response = await self._session.request(
                    method,
                    url,
                    headers=headers,
                    data=body,
                    allow_redirects=False,
                    ssl=self._trust or True,
                    timeout=aiohttp.ClientTimeout(total=None, sock_connect=connect),
                )
                async with response:
                    return await _received(response, most, sink)
        except (aiohttp.ClientError, OSError, ValueError) as error:
            late = deadline.expired() or isinstance(error, TimeoutError)
            return Lost(error, late=late, sent=not isinstance(error, _NOT_SENT))


_NOT_SENT: Final = (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError)


def _noted(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """
    Note that a connection's own code failed, without the library's text.

    That holds what was just received, and the traceback of a loop goes to standard error.
    """
    if "transport" in context:
        _LOG.error(
            "a connection failed in its own code: %s", type(context.get("exception")).__name__
        )
    else:
        loop.default_exception_handler(context)


async def _received(
    response: aiohttp.ClientResponse, most: int, make: Callable[[], Sink] | None
) -> Reply:
    sink = make() if make is not None and response.status == _OK else None
    pieces: list[bytes] = []
    length = 0
    async for piece in response.content.iter_any():
        length += len(piece)
        wanted = sink is None or sink.feed(piece)
        if sink is None:
            pieces.append(piece)
        if length > most or not wanted:
            response.close()
            break
    return Reply(response.status, b"".join(pieces), response.headers, sink)


def untrusted(error: BaseException) -> bool:
    """Whether a request was not sent because of a certificate, or of how TLS went."""
    return any(isinstance(cause, ssl.SSLError) for cause in causes(error))


def causes(error: BaseException) -> Iterator[BaseException]:
    """Yield an error of the library and what it came from, the nearest first."""
    seen: set[int] = set()
    current: BaseException | None = error
    while current is not None and id(current) not in seen:
        seen.add(id(current))
        yield current
        inner = getattr(current, "certificate_error", None) or getattr(current, "os_error", None)
        current = inner or current.__cause__ or current.__context__


class _NoCookies(aiohttp.DummyCookieJar):
    def update_cookies_from_headers(self, *_: object) -> None:
        """Not even read them."""


async def fetch_once(
    url: str,
    headers: Mapping[str, str],
    ca_file: str | None,
    *,
    connect: float,
    limit: float,
    most: int = BODY_LIMIT,
) -> Reply | Lost:
    """Send one GET over a connection of its own.  Raises ValueError for an URL that is none."""
    URL(url)  # says what is none, which one that is sent as it is written would not
    client = HttpClient(ca_file)
    try:
        return await client.fetch(
            "GET", URL(url, encoded=True), headers, connect=connect, limit=limit, most=most
        )
    finally:
        await client.close()
