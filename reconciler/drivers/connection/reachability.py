"""
Whether there is a way to a server: its name, its port, its certificate.  Nothing is sent.

A conversation tells only that it could not begin; before one begins, people want to know whether
the address is right, and for how long the certificate still is.
"""

import asyncio
import socket
import ssl
from datetime import UTC, datetime
from urllib.parse import urlsplit

from msgspec import Struct

from reconciler.drivers import Trust
from reconciler.drivers.connection.failures import explained
from reconciler.drivers.connection.transport import tls_context
from reconciler.system.timeouts import Timeouts


class Route(Struct, frozen=True):
    """Where a server's name led to, and when its certificate ends (None: no TLS)."""

    address: str
    until: datetime | None


async def find_route(url: str, *, trust: Trust, timeouts: Timeouts) -> Route:
    """
    Connect to the server at *url*, shake hands where it speaks TLS, and leave.

    Raises ServerUnreachable or TlsRefused.
    """
    try:
        async with asyncio.timeout(timeouts.connect):
            secure = url.startswith("https:")
            context = await asyncio.to_thread(tls_context, trust) if secure else None
            writer = await _connected(url, context)
    except OSError as error:  # TimeoutError, ssl.SSLError and socket.gaierror are OSErrors
        raise explained(url, error) from error
    try:
        return Route(_address(writer), _until(writer))
    finally:
        await _leave(writer, timeouts)


async def _connected(url: str, context: ssl.SSLContext | None) -> asyncio.StreamWriter:
    """Try one address after the other, so that an error is that of one of them."""
    parts = urlsplit(url)
    name, port = parts.hostname or "", parts.port or (443 if context else 80)
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(name, port, type=socket.SOCK_STREAM)
    why: OSError | None = None
    for *_, place in found:
        try:
            _, writer = await asyncio.open_connection(
                str(place[0]), port, ssl=context, server_hostname=name if context else None
            )
        except TimeoutError:
            raise
        except OSError as error:
            why = why or error
        else:
            return writer
    raise why or OSError


def _address(writer: asyncio.StreamWriter) -> str:
    host, port = writer.get_extra_info("peername")[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _until(writer: asyncio.StreamWriter) -> datetime | None:
    """Return when the certificate ends that was just verified."""
    shown: ssl.SSLObject | None = writer.get_extra_info("ssl_object")
    certificate = shown.getpeercert() if shown is not None else None
    ends = certificate.get("notAfter") if certificate else None
    if not isinstance(ends, str):
        return None
    return datetime.fromtimestamp(ssl.cert_time_to_seconds(ends), UTC)


async def _leave(writer: asyncio.StreamWriter, timeouts: Timeouts) -> None:
    writer.close()
    try:
        async with asyncio.timeout(timeouts.close):
            await writer.wait_closed()
    except OSError:  # TimeoutError, too; or a peer that is gone already
        writer.transport.abort()
