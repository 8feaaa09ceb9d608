"""
The only road by which anything travels to Vault or OpenBao: one hardened HTTP client.

It is asynchronous, with connections for each event loop that asks.  Callers without a loop wait
for one on a thread of its own (`wait`), on which logins and renewals take place as well.
"""

import asyncio
import http.client
import json
import logging
import random
import re
import socket
import ssl
import threading
import time
from collections.abc import AsyncGenerator, Coroutine, Mapping
from datetime import datetime
from email.utils import parsedate_to_datetime
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar
from urllib.parse import urlencode, urlsplit
from weakref import WeakKeyDictionary

from msgspec import Struct

from reconciler.errors import Blocked, SecretsError, SecretsSealed, SecretsUnreachable
from reconciler.model.secret import Secret
from reconciler.model.target import is_plain
from reconciler.secrets.vault.listing import Entries, Listing
from reconciler.system.background_loop import BackgroundLoop, Closed
from reconciler.system.certificates import ISSUE_ANEW, REFUSED, STRICT
from reconciler.system.http import aiohttp
from reconciler.system.http_client import BODY_LIMIT, HttpClient, Lost, Reply, causes
from reconciler.system.network import loopback
from reconciler.system.timeouts import Timeouts

if TYPE_CHECKING:
    from yarl import URL

T = TypeVar("T")
_LOG: Final = logging.getLogger(__name__)  # paths only: never a body, a header or a token
_ATTEMPTS: Final = 5
AT_ONCE: Final = 16
"""Requests that one loop has in flight; more are no faster."""
LISTING_LIMIT: Final = 256 * 1024 * 1024  # bytes; 60,000 secrets of one version are 25 million
_PATH: Final = re.compile(r"/v1(?:/[A-Za-z0-9_][A-Za-z0-9_.\-]*)+")
_ADDRESS_PATH: Final = re.compile(r"(?:/[A-Za-z0-9_][A-Za-z0-9_.\-]*)*")
_HOST: Final = re.compile(r"[A-Za-z0-9:.\-]{1,253}")
# 412: a standby that has not yet seen our token or secret; the rest: overload, restart, gateway.
_TRY_AGAIN: Final = frozenset({412, 429, 500, 502, 503, 504})
_NOT_DONE: Final = frozenset({412, 429, 503})  # refused before anything was done: a POST may repeat
_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})


class Answer(Struct, frozen=True):
    """
    What Vault said: the HTTP status, its own clock, and the JSON object (empty for 204).

    The body may hold secrets and never shows itself.
    """

    status: int
    clock: datetime | None
    body: Mapping[str, Any]

    def __repr__(self) -> str:
        return f"Answer({self.status})"

    @property
    def data(self) -> Mapping[str, Any]:
        """Return the object under `data`, empty when there is none."""
        data = self.body.get("data")
        return data if isinstance(data, dict) else {}


class AnswerTooLong(SecretsUnreachable):
    """What came was longer than anything that we take; most of it was not read."""


class _Request(Struct, frozen=True):
    """Headers and body may hold secrets; it never shows them."""

    method: str
    url: "URL"
    headers: Mapping[str, str]
    body: bytes | None
    wanted: Entries | None  # of a listing

    def __repr__(self) -> str:
        return f"_Request({self.method} {self.url})"


class _Connections:
    """What one loop has open to Vault."""

    def __init__(self, ca_file: str | None) -> None:
        self.http: Final = HttpClient(ca_file)
        self.free: Final = asyncio.Semaphore(AT_ONCE)
        self.closing: Final = asyncio.Event()


class VaultSession:
    """
    Speaks to one address, on every loop that asks; no network before the first request.

    Sends nothing to any other host, takes nothing from the environment or from `.netrc`, and bounds
    every request by `timeouts`.  Raises Blocked for an address over which a token must not travel.
    """

    def __init__(
        self, *, address: str, namespace: str, ca_file: str | None, timeouts: Timeouts
    ) -> None:
        self.address: Final = checked_address(address)
        self._namespace = _checked_namespace(namespace)
        self._ca_file = ca_file
        self._timeouts = timeouts
        self._home: Final = BackgroundLoop("vault")
        self._lock: Final = threading.Lock()
        self._open: WeakKeyDictionary[
            asyncio.AbstractEventLoop, tuple[_Connections, AsyncGenerator[_Connections]]
        ] = WeakKeyDictionary()

    def wait(self, work: Coroutine[Any, Any, T]) -> T:
        """
        Do *work* for a caller without a loop, on the session's own; blocking.

        Raises what the work raises, and SecretsUnreachable when the session is closed meanwhile.
        """
        try:
            return self._home.run(work)
        except Closed:
            raise self._ended() from None

    async def at_home(self, work: Coroutine[Any, Any, T]) -> T:
        """Do on the session's own loop what must be done once for all loops."""
        try:
            return await self._home.over(work)
        except Closed:
            raise self._ended() from None

    def close(self) -> None:
        """Stop waiting for another attempt, and give back the connections of all loops."""
        with self._lock:
            opened = list(self._open.items())
        for loop, (connections, _) in opened:
            if not loop.is_closed():
                loop.call_soon_threadsafe(connections.closing.set)
        self._home.close()

    async def leave(self) -> None:
        """
        Close what the running loop has open, and the session.

        For who is done long before the loop is: left to be collected, connections may be closed by
        a task that the end of the loop cuts off.
        """
        with self._lock:
            found = self._open.pop(asyncio.get_running_loop(), None)
        self.close()
        if found is not None:
            await found[1].aclose()

    async def exchange(
        self,
        method: str,
        path: str,
        *,
        token: Secret | None,
        params: Mapping[str, Any] | None = None,
        body: Any = None,
        wanted: Entries | None = None,
        attempts: int = _ATTEMPTS,
    ) -> Answer:
        """
        Send one request, again where that is safe and could help, and return Vault's answer.

        Every status of an answer that Vault itself gave (2xx and 4xx) is returned.  The answer to a
        listing may be long: of its `key_info` only what is *wanted* is kept.  Raises SecretsSealed,
        SecretsUnreachable, or SecretsError for a certificate that is not trusted.
        """
        request = self._prepared(method, path, token, params=params, body=body, wanted=wanted)
        connections = await self._connections()
        async with connections.free:  # before time counts: whoever waits here is not late
            deadline = time.monotonic() + self._timeouts.secrets_total
            reason: SecretsError | None = None
            for attempt in range(1, attempts + 1):
                _LOG.debug("%s %s, attempt %d", method, path, attempt)
                outcome = await self._once(connections, request, deadline)
                pause = 0.0
                if isinstance(outcome, Reply):
                    if outcome.status not in _TRY_AGAIN:
                        return self._understood(outcome)
                    failure = await self._busy(connections, outcome, deadline)
                    again = method == "GET" or outcome.status in _NOT_DONE
                    pause = outcome.retry_after
                else:
                    # The last attempt's time may be cut short: an earlier reason says more.
                    failure = (reason if outcome.late else None) or self._explained(outcome)
                    again = method == "GET" or not outcome.sent
                ceiling = min(self._timeouts.secrets_total / 6, self._base * 2**attempt)
                pause = max(pause, random.uniform(0, ceiling))  # noqa: S311  - jitter, no secret
                reason = failure
                again = again and failure.transient and not isinstance(failure, SecretsSealed)
                late = time.monotonic() + pause >= deadline
                if not again or late or await _happens(connections.closing, pause):
                    break
        raise reason or AssertionError

    @property
    def _base(self) -> float:
        return self._timeouts.secrets_total / 120

    async def _connections(self) -> _Connections:
        """Return those of the running loop, which live as long as it does."""
        loop = asyncio.get_running_loop()
        found = self._open.get(loop)
        if found is None:
            # Whoever runs a loop to its end closes its generators: `asyncio.run` does.
            living = _living(self._ca_file)
            found = await anext(living), living
            with self._lock:
                self._open[loop] = found
        return found[0]

    def _prepared(
        self,
        method: str,
        path: str,
        token: Secret | None,
        *,
        params: Mapping[str, Any] | None = None,
        body: Any = None,
        wanted: Entries | None = None,
    ) -> _Request:
        from yarl import URL  # noqa: PLC0415  - slow to import

        headers = {"X-Vault-Request": "true"}
        if token is not None:
            headers["X-Vault-Token"] = token.reveal()
        if self._namespace:
            headers["X-Vault-Namespace"] = self._namespace
        content = None
        if body is not None:
            content = json.dumps(body).encode()
            headers["Content-Type"] = "application/json"
        expected = f"{self.address}{path}" + (f"?{urlencode(params)}" if params else "")
        url = URL(expected, encoded=True)
        # A library that collapses `..` would read a foreign secret with our token (tried out).
        if not _PATH.fullmatch(path) or ".." in path or str(url) != expected:
            raise SecretsError(
                "refused to ask Vault: the request would go to another path than the reference",
                "use a reference of the form vault:MOUNT/PATH without dots between slashes",
            )
        return _Request(method, url, headers, content, wanted)

    async def _once(
        self, connections: _Connections, request: _Request, deadline: float
    ) -> Reply | Lost:
        timeouts, wanted = self._timeouts, request.wanted
        # A listing of a fleet is sent in many pieces, and may take the time of all attempts.
        usual = timeouts.secrets_request if wanted is None else timeouts.secrets_total
        limit = max(0.001, min(usual, deadline - time.monotonic()))
        return await connections.http.fetch(
            request.method,
            request.url,
            request.headers,
            request.body,
            connect=min(timeouts.connect, limit),
            limit=limit,
            most=BODY_LIMIT if wanted is None else LISTING_LIMIT,
            sink=None if wanted is None else lambda: Listing(wanted, BODY_LIMIT),
        )

    def _understood(self, outcome: Reply) -> Answer:
        if outcome.status in _REDIRECTS:
            raise SecretsUnreachable(
                f"Vault at {self.address} redirects to {_named_host(outcome.location)}, "
                "and the token is never sent there",
                "give that address if it is yours, or one behind which the active node answers",
            )
        listing = outcome.sink
        if len(outcome.content) > BODY_LIMIT or (listing is not None and listing.too_long):
            raise AnswerTooLong(
                f"an answer of Vault at {self.address} is longer than {BODY_LIMIT >> 20} MiB",
                "see what stands in front of it; nothing of that size is asked for",
            )
        body = _json_object(outcome.content) if listing is None else listing.body()
        ours = outcome.status < 300 or isinstance(body.get("errors"), list) or "data" in body  # noqa: PLR2004  - 2xx
        if outcome.status != http.client.NO_CONTENT and (not body or not ours):
            raise SecretsUnreachable(
                f"what answers at {self.address} is not Vault (status {outcome.status})",
                "check the address and what stands in front of it",
            )
        return Answer(outcome.status, _clock(outcome.date), body)

    async def _busy(
        self, connections: _Connections, outcome: Reply, deadline: float
    ) -> SecretsError:
        unavailable = outcome.status == http.client.SERVICE_UNAVAILABLE
        if unavailable and await self._sealed(connections, deadline):
            return SecretsSealed(
                f"Vault at {self.address} is sealed", "unseal it; nothing was changed meanwhile"
            )
        if outcome.status == http.client.TOO_MANY_REQUESTS:
            return SecretsUnreachable(
                f"Vault at {self.address} refuses because of too many requests (429)",
                "try later, or raise its rate limit quota",
            )
        return SecretsUnreachable(
            f"Vault at {self.address} cannot answer now (status {outcome.status})",
            "look at its log, and whether it has an active node; try later",
        )

    async def _sealed(self, connections: _Connections, deadline: float) -> bool:
        request = self._prepared("GET", "/v1/sys/seal-status", None)
        outcome = await self._once(connections, request, deadline)
        return (
            isinstance(outcome, Reply)
            and outcome.status == http.client.OK
            and _json_object(outcome.content).get("sealed") is True
        )

    def _explained(self, lost: Lost) -> SecretsError:
        if self._ca_file is not None and not _holds_certificates(self._ca_file):
            return SecretsError(
                f"the CA file for Vault, {self._ca_file}, cannot be read or holds no certificate",
                "name a PEM file with the CA that signed Vault's certificate",
            )
        chain = tuple(causes(lost.error))
        for cause in chain:
            # The library's own class inherits from that of `ssl`, but holds nothing.
            if isinstance(cause, ssl.SSLCertVerificationError) and hasattr(cause, "verify_code"):
                why = REFUSED.get(
                    cause.verify_code, "its certificate is not signed by a CA that is trusted here"
                )
                remedy = "set the CA file (vault.caFile, VAULT_CACERT) of the right Vault"
                return SecretsError(
                    f"Vault at {self.address} is not trusted: {why}",
                    ISSUE_ANEW if cause.verify_code in STRICT else remedy,
                )
        return SecretsUnreachable(
            f"Vault at {self.address} cannot be reached: {_why(lost, chain)}",
            "check the address and that it runs; nothing was changed meanwhile",
        )

    def _ended(self) -> SecretsUnreachable:
        return SecretsUnreachable(
            f"Vault at {self.address} cannot be reached: the connection failed",
            "check the address and that it runs; nothing was changed meanwhile",
        )


async def _living(ca_file: str | None) -> AsyncGenerator[_Connections]:
    connections = _Connections(ca_file)
    try:
        yield connections
    finally:
        await connections.http.close()


async def _happens(event: asyncio.Event, within: float) -> bool:
    try:
        async with asyncio.timeout(within):
            return await event.wait()
    except TimeoutError:
        return False


def checked_address(address: str) -> str:
    """
    Return Vault's address without a trailing slash.

    Raises Blocked for plain HTTP that leaves this host, and for anything but scheme, host, port
    and path; what it was is not repeated where it could hold a password.
    """
    try:
        parts = urlsplit(address)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        host, port, parts = "", None, urlsplit("")
    if "@" in parts.netloc or parts.query or parts.fragment or not address.isascii():
        raise Blocked(
            "Vault's address holds more than scheme, host, port and path",
            "write it as https://HOST:PORT; how to log in has its own settings",
        )
    plain = parts.scheme == "http"
    usable = parts.scheme in {"http", "https"} and _HOST.fullmatch(host) and is_plain(address)
    if not usable:
        raise Blocked("Vault's address is not an https:// URL", "write it as https://HOST:PORT")
    if plain and not loopback(host):
        raise Blocked(
            f"Vault's address uses plain HTTP to {host}: the token and all secrets could be read "
            "on the way",
            "use https://, or a tunnel that ends on this host",
        )
    path = parts.path.rstrip("/")
    if not _ADDRESS_PATH.fullmatch(path) or ".." in path:
        raise Blocked("the path in Vault's address is not usable", "write https://HOST:PORT")
    shown = f"[{host}]" if ":" in host else host
    return f"{parts.scheme}://{shown}" + (f":{port}" if port else "") + path


def _checked_namespace(namespace: str) -> str:
    if namespace and not re.fullmatch(r"[A-Za-z0-9_.\-/]{1,512}", namespace):
        raise Blocked(
            "Vault's namespace holds characters that do not belong there",
            "use letters, digits, and the characters - _ . /",
        )
    return namespace


def _json_object(content: bytes) -> Mapping[str, Any]:
    try:
        body = json.loads(content)
    except (ValueError, RecursionError):
        return {}
    return body if isinstance(body, dict) else {}


@lru_cache(64)  # many answers within one second
def _clock(date: str) -> datetime | None:
    try:
        moment = parsedate_to_datetime(date)
    except ValueError:
        return None
    return moment if moment.tzinfo is not None else None


def _named_host(location: str) -> str:
    try:
        parts = urlsplit(location)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        return "an address that cannot be read"
    if not host:
        return "another path"
    if not _HOST.fullmatch(host):
        return "an address that cannot be read"
    return f"{host}:{port}" if port else host


def _holds_certificates(path: str) -> bool:
    try:
        ssl.create_default_context(cafile=path)
    except (OSError, ValueError):
        return False
    return Path(path).is_file()


def _why(lost: Lost, chain: tuple[BaseException, ...]) -> str:
    words: tuple[tuple[type[BaseException], str], ...] = (
        (TimeoutError, "no complete answer in time"),
        (ConnectionRefusedError, "nothing listens there"),
        (ConnectionError, "it closed the connection"),
        (aiohttp.ServerDisconnectedError, "it closed the connection"),
        (socket.gaierror, "its name is not known here"),
        (ssl.SSLError, "no TLS connection comes about"),
    )
    if lost.late:
        return words[0][1]
    for kind, text in words:
        if any(isinstance(cause, kind) for cause in chain):
            return text
    # Nothing of the HTTP library's texts: they quote URLs and headers.
    return "the connection failed"
