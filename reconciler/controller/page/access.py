"""
Who may see the page, and who may act on it: names, logins, sessions, and where a request came from.

What is not let in learns nothing.  Tokens are compared in constant time, a session begins anew at
every login, and whoever guesses is soon answered no more.
"""

import hashlib
import hmac
import ipaddress
import secrets
import ssl
import time
from collections import OrderedDict, deque
from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass
from http.cookies import SimpleCookie
from typing import Any, Final
from urllib.parse import urlsplit

from aiohttp import web
from msgspec import Struct

from reconciler.controller.api.token import read_token
from reconciler.errors import UsageError
from reconciler.model.secret import Secret
from reconciler.render.escape import plain
from reconciler.settings.model import PageSettings
from reconciler.system.network import loopback

COOKIE: Final = "jtr_session"
LASTS: Final = 12 * 3600.0  # seconds from a login
IDLE: Final = 2 * 3600.0  # seconds without a request
SESSIONS: Final = 1000  # at once; then the oldest ends
TRIES: Final = 5  # that fail, from one address within `WITHIN`
ALL_TRIES: Final = 60  # from all addresses together
WITHIN: Final = 60.0  # seconds
ADDRESSES: Final = 1000  # that are remembered
NAME: Final = 100  # characters of somebody's name
_EVERYWHERE: Final = ("0.0.0.0", "::")  # noqa: S104  - to be refused without names


class Visitor(Struct, frozen=True):
    """
    Who asks.

    `name` is empty where nobody said so; `proven` says that a proxy or a certificate did.
    """

    name: str = ""
    operator: bool = False
    proven: bool = False
    session: str = ""  # the name under which its session is kept


ASKING: Final[ContextVar[Visitor]] = ContextVar("asking")
"""Who asks what is answered now, in the task that answers."""


class Attempts:
    """Counts logins that failed, and says when it has been too many."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock: Final = clock
        self._of: Final[OrderedDict[str, deque[float]]] = OrderedDict()
        self._all: Final[deque[float]] = deque(maxlen=ALL_TRIES)

    def wait(self, address: str) -> int:
        """Return for how many seconds nothing from *address* is looked at; 0 for none."""
        own = self._of.get(address)
        left = [
            self._left(own, TRIES) if own is not None else 0.0,
            self._left(self._all, ALL_TRIES),
        ]
        return int(max(left)) + 1 if max(left) > 0 else 0

    def _left(self, times: deque[float], most: int) -> float:
        return times[0] + WITHIN - self._clock() if len(times) >= most else 0.0

    def failed(self, address: str) -> None:
        own = self._of.setdefault(address, deque(maxlen=TRIES))
        self._of.move_to_end(address)
        while len(self._of) > ADDRESSES:
            self._of.popitem(last=False)
        own.append(self._clock())
        self._all.append(self._clock())


@dataclass(slots=True)
class _Session:
    visitor: Visitor
    began: float
    used: float


class Sessions:
    """Sessions by the digest of what a browser holds: a look at our memory lets nobody in."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock: Final = clock
        self._of: Final[OrderedDict[str, _Session]] = OrderedDict()

    def begin(self, name: str, *, operator: bool) -> str:
        """Return what the browser has to bring; always a new word, whatever it brought before."""
        word = secrets.token_urlsafe(32)
        key, now = _digest(word), self._clock()
        self._of[key] = _Session(Visitor(name, operator, session=key), now, now)
        while len(self._of) > SESSIONS:
            self._of.popitem(last=False)
        return word

    def get(self, word: str) -> Visitor | None:
        key = _digest(word)
        found = self._of.get(key)
        if found is None:
            return None
        if not self._valid(found):
            del self._of[key]
            return None
        found.used = self._clock()
        return found.visitor

    def holds(self, visitor: Visitor) -> bool:
        """Whether the session of a visitor, if they have one, still holds; does not renew it."""
        found = self._of.get(visitor.session)
        return not visitor.session or (found is not None and self._valid(found))

    def _valid(self, session: _Session) -> bool:
        now = self._clock()
        return now - session.began <= LASTS and now - session.used <= IDLE

    def end(self, word: str) -> None:
        self._of.pop(_digest(word), None)


class Access:
    """The rules of one page.  *settings* None: for whoever is on this host, and only there."""

    def __init__(
        self,
        settings: PageSettings | None,
        *,
        actions: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Read the tokens.  Raises UsageError for files and settings that cannot be used."""
        self._settings: Final = settings or PageSettings("127.0.0.1:0")
        self.actions: Final = actions
        found = self._settings
        self._token: Final = _token(found.token_file, "controller.page.tokenFile")
        self._operator: Final = (
            _token(found.operator_token_file, "controller.page.operatorTokenFile")
            if actions
            else None
        )
        # Apart: a program with a token of yesterday must not keep people from logging in.
        self.attempts: Final = Attempts(clock)
        self.bearers: Final = Attempts(clock)
        self.sessions: Final = Sessions(clock)
        self.host = ""

    @property
    def login(self) -> bool:
        """Whether nobody is let in without a word for it."""
        found = self._settings
        return self._token is not None or bool(found.proxy_networks or found.client_ca_file)

    @property
    def form(self) -> bool:
        """Whether there is a token to log in with."""
        return self._token is not None or self._operator is not None

    def secure(self, request: web.Request) -> bool:
        """Whether a browser that sends a form speaks TLS, with the page or a proxy before it."""
        # Whether the form's one origin is a page of ours was looked at before anything else.
        origin = request.headers.get("Origin", "")
        return self._settings.cert_file is not None or urlsplit(origin).scheme == "https"

    def listens_on(self, host: str) -> None:
        """Raise UsageError where strangers could reach the page and nobody would ask them who."""
        if not loopback(host) and not self.login:
            raise UsageError(
                f"the page on {host} would show servers, robots and logs to anybody",
                "write controller.page.tokenFile, proxy or tls.clientCaFile into the settings, or "
                "listen on 127.0.0.1",
            )
        if host in _EVERYWHERE and not self._settings.hosts:
            raise UsageError(
                f"the page on {host} has no name that it could be told from others by",
                "write the names that people type into controller.page.hosts",
            )
        self.host = host

    def tls(self) -> ssl.SSLContext | None:
        """Return what to serve TLS with, None for none.  Raises UsageError."""
        found = self._settings
        if found.cert_file is None:
            return None
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        try:
            context.load_cert_chain(found.cert_file, found.key_file)
            if found.client_ca_file is not None:
                context.load_verify_locations(found.client_ca_file)
                # Who shows none is told so by a page, unless a token or a proxy lets it in.
                context.verify_mode = ssl.CERT_OPTIONAL
        except (OSError, ValueError):
            raise UsageError(
                "the files of controller.page.tls cannot be read as certificates and key",
                "check certFile, keyFile and clientCaFile",
            ) from None
        return context

    # ── requests ─────────────────────────────────────────────────────────────────────────────

    def named(self, request: web.Request) -> bool:
        """Whether it named us: a page of the internet may let a name of its own lead here."""
        found = request.headers.getall("Host", [])
        if len(found) != 1:
            return False
        host = _host(found[0])
        if host is None:
            return False
        if host in {_bare(name) for name in self._settings.hosts}:
            return True
        return loopback(host) if loopback(self.host) else host == self.host.lower()

    def ours(self, request: web.Request) -> bool:
        """Whether a request that changes something comes from a page of ours."""
        origin = request.headers.getall("Origin", [])
        site = request.headers.getall("Sec-Fetch-Site", ["same-origin"])
        if len(origin) != 1 or site != ["same-origin"]:
            return False
        try:
            parts = urlsplit(origin[0])
        except ValueError:
            return False
        return parts.scheme in ("http", "https") and parts.netloc.lower() == request.host.lower()

    def visitor(self, request: web.Request) -> Visitor | None:
        """Return who asks; None for somebody who is not let in."""
        proven = self._certified(request) or self._vouched(request)
        if proven:
            return Visitor(proven, self.actions and proven in self._settings.operators, proven=True)
        word = _cookie(request)
        if word and (found := self.sessions.get(word)) is not None:
            return found
        if (bearer := _bearer(request)) is not None:
            return self._tried(request, bearer)
        return None if self.login else Visitor()

    def _tried(self, request: web.Request, word: str) -> Visitor | None:
        """Return who brought a token by itself, as programs do: to read, never to act."""
        address = self.address(request)
        if self.bearers.wait(address) or request.method != "GET":
            return None
        if self._is(word) is None:
            self.bearers.failed(address)
            return None
        return Visitor()

    def log_in(self, request: web.Request, word: str, name: str) -> str | None:
        """Return the word of a new session; None where the token is wrong."""
        operator = self._is(word)
        if operator is None:
            self.attempts.failed(self.address(request))
            return None
        self.log_out(request)
        return self.sessions.begin(plain(name.strip(), NAME), operator=operator)

    def log_out(self, request: web.Request) -> None:
        if word := _cookie(request):
            self.sessions.end(word)

    def _is(self, word: str) -> bool | None:
        """Return whether a token is the operators'; None for one that is none of ours."""
        both = [_same(word, token) for token in (self._token, self._operator)]
        return both[1] if any(both) else None

    def _certified(self, request: web.Request) -> str:
        """Return the common name of the certificate that was shown, which the CA signed."""
        transport = request.transport
        if transport is None or self._settings.client_ca_file is None:
            return ""
        found: Any = transport.get_extra_info("peercert") or {}
        names = [
            value for rdn in found.get("subject", ()) for key, value in rdn if key == "commonName"
        ]
        return plain(names[0], NAME) if len(names) == 1 else ""

    def _vouched(self, request: web.Request) -> str:
        """Return whom the trusted proxy names; from anybody else its header counts for nothing."""
        if not self._proxy(request.remote or ""):
            return ""
        names = request.headers.getall(self._settings.proxy_header, [])
        return plain(names[0].strip(), NAME) if len(names) == 1 else ""

    def address(self, request: web.Request) -> str:
        """Return where a request came from: as the trusted proxies say it, if it came by them."""
        address = request.remote or ""
        told = ",".join(request.headers.getall("X-Forwarded-For", [])).split(",")
        # Each proxy adds whom it saw at the end; what stands before that, anybody may have said.
        while told and self._proxy(address):
            before = _address(told.pop())
            if before is None:
                break
            address = str(before)
        return address

    def _proxy(self, address: str) -> bool:
        found = _address(address)
        networks = self._settings.proxy_networks
        return found is not None and any(found in network for network in networks)


def _token(path: str | None, key: str) -> Secret | None:
    return read_token(path, f"the file {key}") if path is not None else None


def _same(word: str, token: Secret | None) -> bool:
    given = hashlib.sha256(word.strip().encode("utf-8", "surrogateescape")).digest()
    # Also where there is no token: who asks must not learn that from the time it takes.
    wanted = hashlib.sha256(b"" if token is None else token.reveal().encode()).digest()
    return hmac.compare_digest(given, wanted) and token is not None


def _digest(word: str) -> str:
    return hashlib.sha256(word.encode("utf-8", "surrogateescape")).hexdigest()


def _cookie(request: web.Request) -> str:
    try:
        found = SimpleCookie(request.headers.get("Cookie", "")).get(COOKIE)
    except Exception:  # noqa: BLE001  - whatever a stranger writes there
        return ""
    return found.value if found is not None else ""


def _bearer(request: web.Request) -> str | None:
    given = request.headers.getall("Authorization", [])
    scheme, _, word = given[0].partition(" ") if len(given) == 1 else ("", "", "")
    return word if scheme.lower() == "bearer" else None


def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        found = ipaddress.ip_address(text.strip().partition("%")[0])
    except ValueError:
        return None
    return getattr(found, "ipv4_mapped", None) or found


def _host(header: str) -> str | None:
    try:
        found = urlsplit(f"//{header}").hostname
    except ValueError:
        return None
    return found.lower() if found else None


def _bare(name: str) -> str:
    return name.removeprefix("[").removesuffix("]")
