"""
Why no connection came about, or why it ended, in our own words.

The real reason is down the cause chain.  Texts of foreign exceptions are never shown: they quote
addresses and payloads.
"""

import errno
import socket
import ssl
from collections.abc import Iterator
from typing import Final

from reconciler.drivers.jt_trader.requests import Request
from reconciler.errors import (
    AnswerTooLong,
    ConnectionLost,
    DriverError,
    NoAnswer,
    ReadSilent,
    ServerUnreachable,
    TlsRefused,
    Unauthorized,
    UnknownAnswer,
    WrongAccount,
)
from reconciler.system.certificates import ISSUE_ANEW, REFUSED, STRICT
from reconciler.system.http import aiohttp

_REFUSED: Final = {
    4001: (
        "the server did not accept the access token",
        "put the account's present token into the secret that spec.accessToken names",
    ),
    4002: (
        "the server did not accept the access secret",
        "put the server's own one into the secret that spec.accessSecret names",
    ),
}
_REFUSED_ANYHOW: Final = (
    "the server refused the login",
    "check spec.accessSecret and spec.accessToken",
)

_LIKE_A_CLIENT_CERTIFICATE: Final = ", as one does that wants a client certificate"
_CA_UNKNOWN: Final = "its certificate is not signed by a CA that is trusted for this address"
_NAME_CA: Final = "if it is the right server, name its CA as caFile in the settings (tls)"
_NAME_CLIENT: Final = "clientCert and clientKey in the settings (tls) say what is shown to it"
_SPEAK_TLS: Final = "check the port; spec.url must name the one that speaks TLS"
# What helps, where it is not another CA.
_REMEDIES: Final = {
    "its certificate is not valid yet": "compare the clocks of both hosts",
    "its certificate has expired": "renew it on the server, or compare the clocks of both hosts",
    "its certificate is for another name than this address": "write the name that it is for",
    "its certificate is for another address": "write the address or name that it is for",
    **dict.fromkeys(STRICT.values(), ISSUE_ANEW),
    "it wants a client certificate": _NAME_CLIENT,
    "it does not know the CA of our client certificate": _NAME_CLIENT,
    "it does not speak TLS at this port": _SPEAK_TLS,
    "the TLS handshake failed": _SPEAK_TLS,
}
_HANDSHAKE: Final = {
    "TLSV13_ALERT_CERTIFICATE_REQUIRED": "it wants a client certificate",
    "TLSV1_ALERT_UNKNOWN_CA": "it does not know the CA of our client certificate",
    "WRONG_VERSION_NUMBER": "it does not speak TLS at this port",
    "HTTP_REQUEST": "it does not speak TLS at this port",
}
_NETWORK: Final = {
    errno.ECONNREFUSED: "nothing listens at that port",
    errno.EHOSTUNREACH: "there is no route to the host",
    errno.ENETUNREACH: "there is no route to its network",
    errno.ECONNRESET: "the connection was reset",
    errno.ETIMEDOUT: "the host did not answer",
}


class Redirected(Exception):
    """The server answered the handshake with a redirect, which is never followed."""


def unreachable(url: str, why: str) -> ServerUnreachable:
    """Return the error for a server at *url* that could not be reached because of *why*."""
    return ServerUnreachable(
        f"no connection to {url}: {why}", "check the address, the tunnel and that the server is up"
    )


def refused_login(url: str, payload: object) -> Unauthorized:
    """Return the error for a login that the server at *url* refused with *payload*."""
    code = payload.get("code") if isinstance(payload, dict) else None
    why, remedy = _REFUSED.get(code if type(code) is int else 0, _REFUSED_ANYHOW)
    return Unauthorized(f"{url}: {why}", remedy)


def of_opening(url: str, failure: DriverError) -> DriverError:
    """Return *failure* as one of those that opening a connection to *url* may end with."""
    if isinstance(failure, Unauthorized | WrongAccount):
        return failure
    if isinstance(failure, UnknownAnswer | AnswerTooLong):
        return unreachable(url, "what answers there does not speak JT-Trader's protocol")
    return unreachable(url, "the connection ended before the server accepted us")


def ended(url: str, what: str) -> ConnectionLost:
    """Return the error for a connection to *url* that ended as *what* says."""
    return ConnectionLost(
        f"{url}: {what}", "try again, and look at the server's log if it happens again"
    )


def timed_out(url: str, request: Request, seconds: float) -> ReadSilent:
    """Return the error for a *request* to *url* on which nothing came within *seconds*."""
    return ReadSilent(
        f"{url} did not answer {request.event} within {seconds:g} s",
        "try again, and look at its network if it stays silent: a call of its own may hang",
    )


def of_request(request: Request, failure: DriverError) -> DriverError:
    """Return what *failure* means for a *request* that was sent, or may have been."""
    if not request.writes or isinstance(failure, UnknownAnswer):
        return failure
    return NoAnswer(
        f"{failure.what}; it is not known whether {request.event} took effect",
        "the server may have stopped its robots: look at them; jtr does not repeat it",
    )


def explained(url: str, error: BaseException) -> DriverError:
    """Return the error of ours that says why connecting to *url* ended with *error*."""
    chain = tuple(_chain(error))
    # aiohttp wraps the errors of `ssl` in classes that inherit from them, but hold nothing.
    codes = [code for cause in chain if (code := getattr(cause, "verify_code", None))]
    if codes or any(isinstance(cause, ssl.SSLCertVerificationError) for cause in chain):
        return _tls(url, next((REFUSED[c] for c in codes if c in REFUSED), _CA_UNKNOWN))
    # "Want read" only says that the handshake was under way when something else ended it.
    waiting = (ssl.SSLWantReadError, ssl.SSLWantWriteError)
    if any(isinstance(c, ssl.SSLError) and not isinstance(c, waiting) for c in chain):
        reasons = {str(getattr(cause, "reason", "")) for cause in chain}
        known = sorted(reasons & _HANDSHAKE.keys())
        return _tls(url, _HANDSHAKE[known[0]] if known else "the TLS handshake failed")
    why = next(filter(None, map(_fact, chain)), "")
    if not why and any(isinstance(cause, TimeoutError) for cause in chain):
        why = "the host did not answer in time"
    if not why and any(isinstance(c, aiohttp.ServerDisconnectedError | OSError) for c in chain):
        # With TLS 1.3 the alert comes after the handshake, and asyncio swallows it.
        why = "it closed the connection"
    if why in (_NETWORK[errno.ECONNRESET], "it closed the connection"):
        why += _LIKE_A_CLIENT_CERTIFICATE * url.startswith("https:")
    return unreachable(url, why or "what answers there does not speak JT-Trader's protocol")


def _fact(cause: BaseException) -> str:
    """Say what *cause* alone proves; empty when it is only a wrapper of another one."""
    match cause:
        case Redirected():
            return "it redirects elsewhere, which jtr does not follow"
        case aiohttp.WSServerHandshakeError():
            return f"it answers HTTP {cause.status} instead of a websocket"
        case socket.gaierror() | aiohttp.ClientConnectorDNSError():
            return "the host name is not known"
        case OSError():
            return _NETWORK.get(cause.errno or 0, "")
    return ""


def _tls(url: str, why: str) -> TlsRefused:
    return TlsRefused(f"no connection to {url}: {why}", _REMEDIES.get(why, _NAME_CA))


def _chain(error: BaseException) -> Iterator[BaseException]:
    """Yield *error* and everything that it was raised from or during, also inside aiohttp's."""
    seen: set[int] = set()
    rest: list[BaseException | None] = [error]
    while rest:
        one = rest.pop()
        if one is None or id(one) in seen:
            continue
        seen.add(id(one))
        yield one
        # aiohttp keeps the cause of some errors in attributes.
        inner = (getattr(one, "certificate_error", None), getattr(one, "os_error", None))
        rest += [one.__context__, one.__cause__]
        rest += [cause for cause in inner if isinstance(cause, BaseException)]
