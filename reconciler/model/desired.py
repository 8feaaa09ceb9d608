"""
The nouns of documents: places in files, references to secrets, desired state.

Every class is an immutable value without behaviour beyond saying itself.  None of them ever holds
the value of a secret.  What a server shows is in `observed`, what we remember in `remembered`:
whoever only validates a document need not pay for these.
"""

import enum
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final, Self
from urllib.parse import urlsplit

from reconciler.model.key_policy import NOTHING_DECLARED, Security

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
    reference) is set when present; both are empty when absent.  `security` is the effective one:
    the server's, overridden key by key by the exchange's own.
    """

    code: str
    source: SourceLine
    presence: Presence = Presence.PRESENT
    secret: SecretRef | None = None
    fields: Mapping[str, SecretRef] = field(default_factory=dict)
    take_over: bool = False
    security: Security = NOTHING_DECLARED

    @property
    def references(self) -> tuple[SecretRef, ...]:
        """All references, in a fixed order."""
        if self.secret is not None:
            return (self.secret,)
        return tuple(self.fields[name] for name in sorted(self.fields))


class Kind(enum.StrEnum):
    """The one-shot actions, in the order in which they must happen on one server."""

    CACHE = "invalidate-cache"
    REBOOT = "reboot"


class Afterwards(enum.StrEnum):
    """What a reboot's request wants with the robots that ran."""

    RESUME = "resume"
    LEAVE = "leave"


DEFAULT_EXPIRY: Final = timedelta(hours=24)
DEFAULT_RESUME: Final = timedelta(minutes=10)


@dataclass(frozen=True, slots=True)
class OneShot:
    """
    A wish for a reboot or an invalidation, named by its instant.

    Not done any more once it is older than `expires_after`.  `robots` and `resume_within` (counted
    from the boot) belong to a reboot; an invalidation leaves the robots alone.
    """

    kind: Kind
    instant: datetime
    reason: str
    source: SourceLine
    expires_after: timedelta = DEFAULT_EXPIRY
    robots: Afterwards = Afterwards.LEAVE
    resume_within: timedelta = DEFAULT_RESUME


@dataclass(frozen=True, slots=True)
class Suspension:
    """Why nothing is applied to a server, who said so, and until when (None: until removed)."""

    reason: str
    by: str
    until: datetime | None


class WindowKind(enum.StrEnum):
    """Whether disruptive actions are allowed or denied in a window."""

    ALLOW = "allow"
    DENY = "deny"


@dataclass(frozen=True, slots=True)
class Window:
    """A time that begins by a cron schedule in an IANA zone and lasts for `duration`."""

    kind: WindowKind
    schedule: str
    duration: timedelta
    zone: str
    source: SourceLine

    def __str__(self) -> str:
        return f"{self.kind} {self.schedule} for {_spelled(self.duration)} {self.zone}"


def _spelled(length: timedelta) -> str:
    left, parts = length // timedelta(milliseconds=1), []
    for unit, size in (("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)):
        number, left = divmod(left, size)
        if number:
            parts.append(f"{number}{unit}")
    return "".join(parts)


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
    windows: tuple[Window, ...] = ()

    @property
    def target(self) -> "Target":
        """The address and account that identify the server itself."""
        return Target(normalised(self.url), self.account)

    @property
    def one_shots(self) -> tuple[OneShot, ...]:
        """The wishes for one-shot actions, in the order in which they must happen."""
        return tuple(wish for wish in (self.cache, self.reboot) if wish is not None)


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
