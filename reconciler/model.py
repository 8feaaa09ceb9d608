"""
The nouns: what a document asks for, what a server shows, what we remember.

Every class is an immutable value without behaviour beyond saying itself.  None of them ever holds
the value of a secret; `Mask` holds six characters of one and refuses to be shown.
"""

import enum
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final, NoReturn, Self
from urllib.parse import urlsplit

# ── where something was written ──────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True, order=True)
class SourceLine:
    """A place in a file that a person can jump to; lines and columns count from 1."""

    file: str
    line: int
    column: int = 1

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}"


NOWHERE: Final = SourceLine("", 0, 0)


@dataclass(frozen=True, slots=True, order=True)
class Problem:
    """One mistake in a document: where, what, and what to do about it."""

    source: SourceLine
    what: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.source}: {self.what}; {self.remedy}"


# ── references to secrets ────────────────────────────────────────────────────────────────────

_SEGMENT: Final = r"[A-Za-z0-9_][A-Za-z0-9_.\-]*"
_REFERENCE: Final = re.compile(
    rf"vault:(?P<mount>{_SEGMENT}(?:/{_SEGMENT})*?)(?P<sep>//|/)(?P<path>{_SEGMENT}(?:/{_SEGMENT})*)"
    r"(?:\#(?P<field>[A-Za-z0-9_][A-Za-z0-9_.\-]*))?"
    r"(?:@(?P<version>[1-9][0-9]{0,8}))?"
)
REFERENCE_LIMIT: Final = 512


@dataclass(frozen=True, slots=True, order=True)
class SecretPath:
    """A secret in a KV version 2 mount."""

    mount: str
    path: str

    def __str__(self) -> str:
        separator = "//" if "/" in self.mount else "/"
        return f"vault:{self.mount}{separator}{self.path}"


@dataclass(frozen=True, slots=True, order=True)
class SecretRef:
    """
    A whole secret (`field` is None) or one field of it, newest (`version` is None) or pinned.

    Written `vault:MOUNT/PATH#FIELD@VERSION`; the mount is the first segment, or everything before
    `//`.  The grammar is our own and strict, because the HTTP library underneath hvac collapses
    `..` and would read foreign secrets.
    """

    at: SecretPath
    field: str | None = None
    version: int | None = None

    @classmethod
    def parse(cls, text: str) -> Self | None:
        """Read a reference; None when *text* is not one."""
        if len(text) > REFERENCE_LIMIT or not text.isascii():
            return None
        match = _REFERENCE.fullmatch(text)
        if match is None:
            return None
        mount, path = match["mount"], match["path"]
        if match["sep"] == "/":
            # One slash: the mount is the first segment, whatever the pattern took for it.
            mount, _, path = f"{mount}/{path}".partition("/")
        segments = (*mount.split("/"), *path.split("/"))
        if any(segment.endswith(".") or ".." in segment for segment in segments):
            return None
        version = int(match["version"]) if match["version"] else None
        return cls(SecretPath(mount, path), match["field"], version)

    def __str__(self) -> str:
        name = f"#{self.field}" if self.field else ""
        pin = f"@{self.version}" if self.version else ""
        return f"{self.at}{name}{pin}"


@dataclass(frozen=True, slots=True, order=True)
class FrozenRef:
    """
    A reference whose version a plan has fixed.

    `created` (RFC 3339, Vault's clock) belongs to the identity: removing a secret's metadata and
    writing again starts over at version 1.
    """

    at: SecretPath
    version: int
    created: str
    field: str | None = None

    def __str__(self) -> str:
        name = f"#{self.field}" if self.field else ""
        return f"{self.at}{name}@{self.version}"


# ── desired state ────────────────────────────────────────────────────────────────────────────


class Presence(enum.StrEnum):
    """Whether an exchange's credentials shall be on the server."""

    PRESENT = "present"
    ABSENT = "absent"


class Mode(enum.StrEnum):
    """Whether a server's differences are applied or only reported."""

    ENFORCE = "enforce"
    OBSERVE = "observe"


class OnCredentialChange(enum.StrEnum):
    """What happens to the robots that still hold an old key."""

    LEAVE = "leave"
    RESTART = "restart"


@dataclass(frozen=True, slots=True)
class DesiredExchange:
    """
    The credentials that one exchange shall have.

    Exactly one of `secret` (one secret holds all fields) and `fields` (ccxt credential name to
    reference) is set when present; both are empty when absent.
    """

    code: str
    source: SourceLine
    presence: Presence = Presence.PRESENT
    secret: SecretRef | None = None
    fields: Mapping[str, SecretRef] = field(default_factory=dict)
    take_over: bool = False

    @property
    def references(self) -> tuple[SecretRef, ...]:
        """All references, in a fixed order."""
        if self.secret is not None:
            return (self.secret,)
        return tuple(self.fields[name] for name in sorted(self.fields))


@dataclass(frozen=True, slots=True)
class OneShot:
    """A wish for a reboot or an invalidation, named by its instant."""

    instant: datetime
    reason: str
    source: SourceLine


@dataclass(frozen=True, slots=True)
class Suspension:
    """Why nothing is applied to a server, who said so, and until when (None: until removed)."""

    reason: str
    by: str
    until: datetime | None


@dataclass(frozen=True, slots=True)
class DesiredServer:
    """One `kind: TradingServer` document after defaults were merged."""

    name: str
    url: str
    source: SourceLine
    account: str = "0"
    access_secret: SecretRef | None = None
    access_token: SecretRef | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    owner: str = ""
    supervised: bool = False
    exchanges: tuple[DesiredExchange, ...] = ()
    mode: Mode = Mode.ENFORCE
    self_heal: bool = False
    on_credential_change: OnCredentialChange = OnCredentialChange.LEAVE
    sole_account: bool = False
    insecure_transport: str = ""
    suspend: Suspension | None = None
    cache: OneShot | None = None
    reboot: OneShot | None = None
    has_security: bool = False
    has_windows: bool = False

    @property
    def target(self) -> "Target":
        """The address and account that identify the server itself."""
        return Target(normalised(self.url), self.account)


@dataclass(frozen=True, slots=True)
class DesiredState:
    """All servers of the documents that were read, in the order of their names."""

    servers: tuple[DesiredServer, ...]
    skipped: int = 0  # documents of another apiVersion in directories


def normalised(url: str) -> str:
    """Return *url* with lower-case scheme and host, no default port and no trailing slash."""
    parts = urlsplit(url)
    host = (parts.hostname or "").lower()
    if ":" in host:
        host = f"[{host}]"
    default = {"http": 80, "https": 443}.get(parts.scheme.lower())
    port = f":{parts.port}" if parts.port and parts.port != default else ""
    return f"{parts.scheme.lower()}://{host}{port}{parts.path.rstrip('/')}"


@dataclass(frozen=True, slots=True, order=True)
class Target:
    """Where a server is: its normalised URL and the account that we act for."""

    url: str
    account: str

    def __str__(self) -> str:
        return f"{self.url} (account {self.account})"


# ── observed state ───────────────────────────────────────────────────────────────────────────


class Mask:
    """
    What a server shows of a stored value: its first and last three UTF-16 units.

    Six characters of a secret are a secret, so a mask compares and hashes but never shows itself.
    Lone surrogates occur (jt-protocol section 3.2), hence `surrogatepass`.
    """

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text: Final = text

    def __bool__(self) -> bool:
        return bool(self._text)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Mask) and self._text == other._text

    def __hash__(self) -> int:
        return hash(self._text)

    def __repr__(self) -> str:
        return "Mask(***)" if self._text else "Mask(empty)"

    __str__ = __repr__

    def __format__(self, spec: str) -> str:
        return format(repr(self), spec)

    def __dir__(self) -> list[str]:
        return ["encoded"]  # what lists attributes and prints them finds no mask

    def __reduce__(self) -> NoReturn:
        raise TypeError("a mask is never written down")

    __getstate__ = __reduce__

    def encoded(self) -> bytes:
        """Return the bytes to compute a keyed fingerprint from; nothing else may call this."""
        return self._text.encode("utf-8", "surrogatepass")


@dataclass(frozen=True, slots=True)
class ObservedField:
    """One field of an exchange; `credential` is ccxt's name for it."""

    name: str
    credential: str
    type: str
    mask: Mask


@dataclass(frozen=True, slots=True)
class ObservedExchange:
    """One exchange as the server lists it; `trouble` says why it cannot be written safely."""

    code: str
    fields: tuple[ObservedField, ...]
    trouble: str = ""

    @property
    def empty(self) -> bool:
        """Whether no field shows anything."""
        return not any(f.mask for f in self.fields)


@dataclass(frozen=True, slots=True, order=True)
class Robot:
    """A background job of the server; `running` is its `isEnabled`."""

    id: int
    name: str
    exchange: str
    running: bool


@dataclass(frozen=True, slots=True)
class Logbook:
    """
    What the system log tells, on the server's own clock (milliseconds since the epoch).

    `boot` is the newest boot line, `alarm` the newest entry of the fatal path's handler; None means
    that the log holds none.  `readable` is False when the log could not be read at all.
    """

    readable: bool = False
    boot: int | None = None
    alarm: int | None = None


@dataclass(frozen=True, slots=True)
class ObservedServer:
    """Everything that one visit saw."""

    account: str
    version: str
    exchanges: tuple[ObservedExchange, ...]
    robots: tuple[Robot, ...]
    log: Logbook

    def exchange(self, code: str) -> ObservedExchange | None:
        """Return the exchange with this code, wherever the server lists it."""
        return next((e for e in self.exchanges if e.code == code), None)

    def running(self, exchange: str | None = None) -> tuple[Robot, ...]:
        """Return the robots that run, on one exchange or on all."""
        return tuple(r for r in self.robots if r.running and exchange in (None, r.exchange))


# ── remembered state ─────────────────────────────────────────────────────────────────────────


class Purpose(enum.StrEnum):
    """Why a write was decided; only a change leaves debts that act."""

    CHANGE = "change"
    CORRECTION = "correction"


@dataclass(frozen=True, slots=True)
class Write:
    """
    One whole write of an exchange, as the ledger keeps it: paths, versions, keyed fingerprints.

    `sources` goes from ccxt's credential name, or from the empty name where one secret holds them
    all; `values` and `masks` go from the server's field name to an HMAC under the key named by
    `key_id`.  `api_key` and `companions` are HMACs of the API key and of all other fields together.
    """

    sources: Mapping[str, FrozenRef]
    values: Mapping[str, str]
    masks: Mapping[str, str]
    key_id: str
    at: str
    weak: bool = False
    api_key: str = ""
    companions: str = ""


class Owed(enum.StrEnum):
    """What a credential write leaves to be done."""

    RESTART = "restart"
    REBOOT = "reboot"


@dataclass(frozen=True, slots=True)
class Debt:
    """
    A consequence that is still owed since a write.

    A restart is owed per robot and ends when that robot was seen stopped or the server booted; a
    reboot is owed per exchange and ends only with a newer boot.  `boot` is the newest boot line
    (server's clock, ms) when the debt arose.
    """

    owed: Owed
    exchange: str
    since: str
    boot: int | None
    robot_id: int | None = None
    robot_name: str = ""


@dataclass(frozen=True, slots=True)
class ExchangeRecord:
    """
    What the ledger knows of one exchange on one server.

    `intent` is a write that was decided and may have been sent, `earlier` are those before it of
    which the same is true; `found` is a value of another hand that looked like the desired one.
    `past_keys` are (api_key, companions) pairs written since the last boot (`past_boot`): the
    server caches its exchange client by API key.  `ever` stays true once anything was written, also
    after a delete.
    """

    code: str
    written: Write | None = None
    intent: Write | None = None
    earlier: tuple[Write, ...] = ()
    found: Write | None = None
    deleting: bool = False
    debts: tuple[Debt, ...] = ()
    past_keys: tuple[tuple[str, str], ...] = ()
    past_boot: int | None = None
    ever: bool = False


@dataclass(frozen=True, slots=True)
class Observation:
    """An observed state that was remembered: masks as keyed fingerprints, and when it was seen."""

    at: str
    by: str
    version: str
    masks: Mapping[str, Mapping[str, str]]
    credentials: Mapping[str, Mapping[str, str]]
    robots: tuple[Robot, ...]
    boot: int | None
    key_id: str
    troubles: Mapping[str, str] = field(default_factory=dict)
    alarm: int | None = None


@dataclass(frozen=True, slots=True)
class Identity:
    """The ledger's own name for a server, and the address and label that it last had."""

    uid: str
    target: Target
    name: str


@dataclass(frozen=True, slots=True)
class Remembered:
    """All that the ledger knows of one server; a server never seen has no identity."""

    identity: Identity | None = None
    exchanges: Mapping[str, ExchangeRecord] = field(default_factory=dict)
    observation: Observation | None = None
    retired: tuple[Target, ...] = ()


NOTHING_REMEMBERED: Final = Remembered()
