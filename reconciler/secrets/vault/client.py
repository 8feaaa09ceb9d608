"""
The only road by which anything travels to Vault or OpenBao: one hardened HTTP session.

hvac knows the paths and bodies of the API; its own transport is not used, because it hands the
token to whatever host a redirect names, lets the environment choose proxies, CA and token, and
returns a raw response where an error should be (all tried out).  So `Call`
stands where hvac expects its adapter, and everything is sent, bounded and checked here.
"""

import http.client
import json
import logging
import random
import re
import socket
import ssl
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlencode, urlsplit

import requests

from reconciler.errors import Blocked, SecretsError, SecretsSealed, SecretsUnreachable
from reconciler.model.secret import Secret
from reconciler.model.target import is_plain
from reconciler.system.certificates import ISSUE_ANEW, REFUSED, STRICT
from reconciler.system.http_client import BODY_LIMIT, Lost, Reply, fetch, hardened
from reconciler.system.network import loopback
from reconciler.system.timeouts import Timeouts

_LOG: Final = logging.getLogger(__name__)  # paths only: never a body, a header or a token
_ATTEMPTS: Final = 5
_PATH: Final = re.compile(r"/v1(?:/[A-Za-z0-9_][A-Za-z0-9_.\-]*)+")
_ADDRESS_PATH: Final = re.compile(r"(?:/[A-Za-z0-9_][A-Za-z0-9_.\-]*)*")
_HOST: Final = re.compile(r"[A-Za-z0-9:.\-]{1,253}")
# 412: a standby that has not yet seen our token or secret; the rest: overload, restart, gateway.
_TRY_AGAIN: Final = frozenset({412, 429, 500, 502, 503, 504})
_NOT_DONE: Final = frozenset({412, 429, 503})  # refused before anything was done: a POST may repeat
_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})


@dataclass(frozen=True, slots=True)
class Answer:
    """
    What Vault said: the HTTP status, its own clock, and the JSON object (empty for 204).

    The body may hold secrets and never shows itself.
    """

    status: int
    clock: datetime | None
    body: Mapping[str, Any] = field(repr=False)

    @property
    def data(self) -> Mapping[str, Any]:
        """Return the object under `data`, empty when there is none."""
        data = self.body.get("data")
        return data if isinstance(data, dict) else {}


class AnswerTooLong(SecretsUnreachable):
    """What came was longer than anything that we take; most of it was not read."""


class VaultSession:
    """
    Speaks to one address.  Safe to call from several threads; no network before the first call.

    Sends nothing to any other host, takes nothing from the environment or from `.netrc`, and bounds
    every request by `durations`.  Raises Blocked for an address over which a token must not travel.
    """

    def __init__(
        self, *, address: str, namespace: str, ca_file: str | None, timeouts: Timeouts
    ) -> None:
        self.address: Final = checked_address(address)
        self._namespace = _checked_namespace(namespace)
        self._ca_file = ca_file
        self._timeouts = timeouts
        self._closing = threading.Event()
        self._http = hardened(ca_file)

    def expecting(self, path: str, token: Secret | None) -> "Call":
        """Return what hvac's API classes take for an adapter: it sends to *path* or not at all."""
        return Call(self, path, token)

    def close(self) -> None:
        """Give back all connections and stop waiting for another attempt."""
        self._closing.set()
        self._http.close()

    def exchange(
        self,
        method: str,
        path: str,
        *,
        token: Secret | None,
        params: Mapping[str, Any] | None = None,
        body: Any = None,
        attempts: int = _ATTEMPTS,
    ) -> Answer:
        """
        Send one request, again where that is safe and could help, and return Vault's answer.

        Every status of an answer that Vault itself gave (2xx and 4xx) is returned.  Raises
        SecretsSealed, SecretsUnreachable, or SecretsError for a certificate that is not trusted.
        """
        prepared = self._prepared(method, path, token, params, body)
        deadline = time.monotonic() + self._timeouts.secrets_total
        attempt = 0
        reason: SecretsError | None = None
        while True:
            attempt += 1
            _LOG.debug("%s %s, attempt %d", method, path, attempt)
            outcome = self._once(prepared, deadline)
            pause = 0.0
            if isinstance(outcome, Reply):
                if outcome.status not in _TRY_AGAIN:
                    return self._understood(outcome)
                failure = self._busy(outcome, deadline)
                again = method == "GET" or outcome.status in _NOT_DONE
                pause = outcome.retry_after
            else:
                # The last attempt's time may be cut short: an earlier reason says more.
                failure = (reason if outcome.late else None) or self._explained(outcome)
                again = method == "GET" or not outcome.sent
            ceiling = min(self._timeouts.secrets_total / 6, self._base * 2**attempt)
            pause = max(pause, random.uniform(0, ceiling))  # noqa: S311  - jitter, no secret
            late = time.monotonic() + pause >= deadline
            if not (again and failure.transient) or attempt >= attempts or late:
                raise failure
            reason = failure
            if isinstance(failure, SecretsSealed) or self._closing.wait(pause):
                raise failure

    @property
    def _base(self) -> float:
        return self._timeouts.secrets_total / 120

    def _prepared(
        self,
        method: str,
        path: str,
        token: Secret | None,
        params: Mapping[str, Any] | None,
        body: Any,
    ) -> requests.PreparedRequest:
        headers = {"X-Vault-Request": "true"}
        if token is not None:
            headers["X-Vault-Token"] = token.reveal()
        if self._namespace:
            headers["X-Vault-Namespace"] = self._namespace
        expected = f"{self.address}{path}" + (f"?{urlencode(params)}" if params else "")
        url = f"{self.address}{path}"
        prepared = self._http.prepare_request(
            requests.Request(method, url, headers=headers, params=params or None, json=body)
        )
        # urllib3 collapses `..` and would read a foreign secret with our token (tried out).
        if not _PATH.fullmatch(path) or ".." in path or prepared.url != expected:
            raise SecretsError(
                "refused to ask Vault: the request would go to another path than the reference",
                "use a reference of the form vault:MOUNT/PATH without dots between slashes",
            )
        return prepared

    def _once(self, prepared: requests.PreparedRequest, deadline: float) -> Reply | Lost:
        limit = max(0.001, min(self._timeouts.secrets_request, deadline - time.monotonic()))
        connect = min(self._timeouts.connect, limit)
        return fetch(self._http, prepared, connect=connect, limit=limit)

    def _understood(self, outcome: Reply) -> Answer:
        if outcome.status in _REDIRECTS:
            raise SecretsUnreachable(
                f"Vault at {self.address} redirects to {_named_host(outcome.location)}, "
                "and the token is never sent there",
                "give that address if it is yours, or one behind which the active node answers",
            )
        if len(outcome.content) > BODY_LIMIT:
            raise AnswerTooLong(
                f"an answer of Vault at {self.address} is longer than {BODY_LIMIT >> 20} MiB",
                "see what stands in front of it; nothing of that size is asked for",
            )
        body = _json_object(outcome.content)
        ours = outcome.status < 300 or isinstance(body.get("errors"), list) or "data" in body  # noqa: PLR2004  - 2xx
        if outcome.status != http.client.NO_CONTENT and (not body or not ours):
            raise SecretsUnreachable(
                f"what answers at {self.address} is not Vault (status {outcome.status})",
                "check the address and what stands in front of it",
            )
        return Answer(outcome.status, _clock(outcome.date), body)

    def _busy(self, outcome: Reply, deadline: float) -> SecretsError:
        if outcome.status == http.client.SERVICE_UNAVAILABLE and self._sealed(deadline):
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

    def _sealed(self, deadline: float) -> bool:
        outcome = self._once(
            self._prepared("GET", "/v1/sys/seal-status", None, None, None), deadline
        )
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
        chain = tuple(_chain(lost.error))
        for cause in chain:
            if isinstance(cause, ssl.SSLCertVerificationError):
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


class Call:
    """
    One request to one path, in the shape of hvac's adapter.

    hvac's API classes call `get`, `post` or `login` with the path they built; if that is not the
    path that was expected, nothing is sent.
    """

    def __init__(self, session: VaultSession, path: str, token: Secret | None) -> None:
        self._session = session
        self._path = path
        self._token = token

    @property
    def token(self) -> Secret | None:
        return self._token

    def get(self, url: str, params: Mapping[str, Any] | None = None) -> Answer:
        return self._send("GET", url, params=params)

    def post(self, url: str, json: Any = None) -> Answer:
        """Write; repeated only when the first was certainly not acted upon."""
        return self._send("POST", url, body=json)

    def login(self, url: str, *, use_token: bool, json: Any = None) -> Answer:
        """Log in; the token in the answer is kept by the caller, never here."""
        if use_token:
            raise ValueError("the caller keeps the token")
        return self._send("POST", url, body=json)

    def _send(self, method: str, url: str, **parts: Any) -> Answer:
        if url != self._path:
            raise SecretsError(
                "refused to ask Vault: the request would go to another path than the reference",
                "report this as a bug",
            )
        return self._session.exchange(method, url, token=self._token, **parts)


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


def _chain(error: BaseException) -> Iterator[BaseException]:
    seen: set[int] = set()
    current: BaseException | None = error
    while current is not None and id(current) not in seen:
        seen.add(id(current))
        yield current
        reason = getattr(current, "reason", None)
        inner = reason if isinstance(reason, BaseException) else None
        first = current.args[0] if current.args else None
        nested = first if isinstance(first, BaseException) else None
        current = inner or nested or current.__cause__ or current.__context__
