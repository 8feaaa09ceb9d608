"""
What lies under a conversation: sockets, TLS, HTTP.

Everything here works around something that was measured on the libraries below: redirects that
carry a login away, connections that outlive who made them.
"""

import contextlib
import functools
import os
import socket
import ssl
import struct
import sys
from collections.abc import Awaitable, Callable
from typing import Any, Final

from msgspec import Struct, field

from reconciler.drivers import Trust
from reconciler.drivers.connection.failures import Redirected
from reconciler.errors import TlsRefused
from reconciler.system.http import aiohttp


class Made(Struct, eq=False):
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

        aiohttp drops a websocket whose peer is gone: what becomes of its connection is up to the
        garbage collector, which may log an error.
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

    It knows no proxy, no cookie and no netrc, and must be closed by who asked for it.
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
    )


_ABANDON: Final = struct.pack("ii", 1, 0)  # struct linger: on, zero seconds


def cut(one: socket.socket) -> None:
    """Abandon a connection with a reset: what is still queued in it is thrown away."""
    with contextlib.suppress(OSError):
        one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _ABANDON)
        one.shutdown(socket.SHUT_RDWR)


def tls_context(trust: Trust) -> ssl.SSLContext:
    """
    Return a context that believes the pinned CA alone, or else the system's; reads files.

    The same one as long as they are the same: to read the system's costs more than a look.
    """
    paths = ssl.get_default_verify_paths()
    read = (trust.ca_file or paths.cafile, paths.capath, trust.client_cert, trust.client_key)
    return _tls_context(trust, tuple(map(_stamp, read)))


def _stamp(path: str | os.PathLike[str] | None) -> tuple[int, ...]:
    """Return what changes with a file; empty when there is none to be read."""
    with contextlib.suppress(OSError, ValueError):
        if path:
            found = os.stat(path)  # noqa: PTH116  - a path that may be none
            return found.st_mtime_ns, found.st_ctime_ns, found.st_ino, found.st_size
    return ()


@functools.lru_cache(maxsize=64)
def _tls_context(trust: Trust, _files: tuple[tuple[int, ...], ...]) -> ssl.SSLContext:
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
