"""
HTTP towards Vault, below everything that knows Vault: one request, bounded in time and in size.

The session knows of no redirects, takes nothing from the environment or from `.netrc`, keeps no
cookies and repeats nothing.  Whatever goes wrong comes back as a value, because an exception of the
HTTP library holds the request, and the request holds the token.
"""

import http.client
import logging
import re
import socket
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from http.cookiejar import DefaultCookiePolicy
from typing import Any, Final, Self

import requests
import urllib3.connection
import urllib3.connectionpool
import urllib3.exceptions
from requests.adapters import HTTPAdapter

BODY_LIMIT: Final = 8 * 1024 * 1024  # bytes; a secret has at most about one million
_CONNECTIONS: Final = 32  # as many as `asyncio.to_thread` has threads
_TALKATIVE: Final = (
    "hvac",
    "requests",
    "urllib3",
    "urllib3.connection",
    "urllib3.connectionpool",
    "urllib3.util.retry",
)


class Reply:
    """Status, body and the headers that we use of one HTTP answer; never shows its body."""

    __slots__ = ("content", "date", "location", "retry_after", "status")

    def __init__(self, status: int, content: bytes, headers: Mapping[str, str]) -> None:
        self.status: Final = status
        self.content: Final = content
        self.date: Final = headers.get("Date", "")
        self.location: Final = headers.get("Location", "")
        delay = headers.get("Retry-After", "")
        self.retry_after: Final = float(delay) if re.fullmatch(r"[0-9]{1,4}", delay) else 0.0


@dataclass(frozen=True, slots=True)
class Lost:
    """
    No usable answer.

    `error` is the library's exception, to be classified and thrown away, never shown or chained;
    `late` says that time ran out, `sent` that the request may have been received.
    """

    error: Exception
    late: bool
    sent: bool


def hardened(ca_file: str | None) -> requests.Session:
    """Return a session that trusts *ca_file*, or the usual authorities when it is None."""
    for name in _TALKATIVE:
        # At DEBUG they write paths and versions; later releases may write more.
        logging.getLogger(name).setLevel(logging.WARNING)
    session = _Session()
    session.trust_env = False  # else HTTP_PROXY receives the token and .netrc adds a login
    session.verify = ca_file or True
    session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
    session.headers.clear()
    session.headers.update(
        {
            "Accept": "application/json",
            "Accept-Encoding": "identity",  # no decompression bombs
            "User-Agent": "jt-reconciler",
        }
    )
    adapter = _Adapter(pool_connections=2, pool_maxsize=_CONNECTIONS, max_retries=0)
    session.adapters.clear()
    session.mount("https://", adapter)
    session.mount("http://", adapter)
    return session


def fetch(
    session: requests.Session,
    prepared: requests.PreparedRequest,
    *,
    connect: float,
    limit: float,
    most: int = BODY_LIMIT,
) -> Reply | Lost:
    """
    Send *prepared* once: *connect* seconds for the connection, *limit* for everything.

    Of a body longer than *most* bytes there is one byte more than that.
    """
    with _Watch(limit) as watch:
        try:
            response = session.send(
                prepared, timeout=(connect, limit), stream=True, allow_redirects=False
            )
            content = response.raw.read(most + 1)
            watch.finish()
            if len(content) > most:
                response.close()
            if watch.fired:
                # To the library, headers that we cut look like an answer that ended there.
                return Lost(TimeoutError(), late=True, sent=True)
            return Reply(response.status_code, content, response.headers)
        except (
            requests.RequestException,
            urllib3.exceptions.HTTPError,
            http.client.HTTPException,
            OSError,
            ValueError,
        ) as error:
            late = watch.fired or isinstance(error, requests.Timeout)
            return Lost(error, late=late, sent=watch.sent)


class _Session(requests.Session):
    """Knows of no redirects, whoever asks for them to be followed."""

    def get_redirect_target(self, resp: requests.Response) -> None:  # noqa: ARG002  - requests' name
        return None


class _Watch:
    """
    Cuts a request that takes longer than *limit* seconds in all.

    The timeouts of the HTTP library count from byte to byte: a peer that sends one byte a second
    would hold a thread for hours.
    """

    def __init__(self, limit: float) -> None:
        self.fired = False
        self.sent = False
        self._done = False
        self._lock = threading.Lock()
        self._connection: Any = None
        self._socket: socket.socket | None = None
        self._timer = threading.Timer(limit, self._cut)
        self._timer.daemon = True

    def __enter__(self) -> Self:
        _present.watch = self
        self._timer.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.finish()
        _present.watch = None

    def finish(self) -> None:
        """Leave the connection alone from now on: it may serve another thread next."""
        with self._lock:
            self._done = True
        self._timer.cancel()

    def over(self, connection: Any, *, sent: bool) -> None:
        """Note which connection this request travels over."""
        with self._lock:
            if self.fired:
                raise TimeoutError
            self._connection = connection
            # Its own place: the library forgets the socket of an answer that ends with it.
            self._socket = connection.sock
            self.sent = self.sent or sent

    def _cut(self) -> None:
        with self._lock:
            if self._done:
                return
            self.fired = True
            # While TLS is being agreed on, only the connection knows its socket.
            sock = self._socket or getattr(self._connection, "sock", None)
            if sock is None:
                return
            try:
                # Not the method of an SSL socket, which would take TLS away under the reader.
                socket.socket.shutdown(sock, socket.SHUT_RDWR)
            except OSError:
                return  # it is closed already


_present: Final = threading.local()  # `.watch`: of the request that this thread is sending


class _Watched:
    """Tells the watch of its thread about the socket before anything can hang on it."""

    sock: socket.socket | None

    def connect(self) -> None:
        _present.watch.over(self, sent=False)
        super().connect()  # type: ignore[misc]  # a mixin before urllib3's connection
        _present.watch.over(self, sent=False)

    def send(self, data: Any) -> None:
        if self.sock is None:
            self.connect()  # else it happens below, after the request counts as sent
        _present.watch.over(self, sent=True)
        super().send(data)  # type: ignore[misc]  # a mixin before urllib3's connection


class _Plain(_Watched, urllib3.connection.HTTPConnection):
    pass


class _Tls(_Watched, urllib3.connection.HTTPSConnection):
    pass


class _PlainPool(urllib3.connectionpool.HTTPConnectionPool):
    ConnectionCls = _Plain


class _TlsPool(urllib3.connectionpool.HTTPSConnectionPool):
    ConnectionCls = _Tls


class _Adapter(HTTPAdapter):
    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs)
        self.poolmanager.pool_classes_by_scheme = {"http": _PlainPool, "https": _TlsPool}
