"""
Desired state: what the documents say of every server.

None of these values ever holds the value of a secret.  What a server shows is in `observed`, what
we remember in `recorded`: whoever only validates a document need not pay for these.
"""

import enum
import functools
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Final

from msgspec import Struct, field

from reconciler.model.key_policy import NOTHING_DECLARED, Security
from reconciler.model.references import SecretRef
from reconciler.model.source import SourceLine
from reconciler.model.target import Target, normalised


class Presence(enum.StrEnum):
    PRESENT = "present"
    ABSENT = "absent"


class Mode(enum.StrEnum):
    """Whether a server's differences are applied or only reported."""

    ENFORCE = "enforce"
    OBSERVE = "observe"


class OnCredentialChange(enum.StrEnum):
    LEAVE = "leave"
    RESTART = "restart"


class DesiredExchange(Struct, frozen=True):
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
        if self.secret is not None:
            return (self.secret,)
        return tuple(self.fields[name] for name in sorted(self.fields))


class RequestKind(enum.StrEnum):
    """The one-shot actions, in the order in which they must happen on one server."""

    CACHE = "invalidate-cache"
    REBOOT = "reboot"


class Afterwards(enum.StrEnum):
    """What a reboot's request wants with the robots that ran."""

    RESUME = "resume"
    LEAVE = "leave"


DEFAULT_EXPIRY: Final = timedelta(hours=24)
DEFAULT_RESUME: Final = timedelta(minutes=10)


class OneShot(Struct, frozen=True):
    """
    A wish for a reboot or an invalidation, named by its instant.

    Not done any more once it is older than `expires_after`.  `robots` and `resume_within` (counted
    from the boot) belong to a reboot; an invalidation leaves the robots alone.
    """

    kind: RequestKind
    instant: datetime
    reason: str
    source: SourceLine
    expires_after: timedelta = DEFAULT_EXPIRY
    robots: Afterwards = Afterwards.LEAVE
    resume_within: timedelta = DEFAULT_RESUME


class Suspension(Struct, frozen=True):
    """
    Why nothing is applied to a server, who said so, and until when (None: until removed).

    `operator` says that it stands in no document: an operator said it to the controller.
    """

    reason: str
    by: str
    until: datetime | None
    operator: bool = False

    def holds(self, now: datetime) -> bool:
        return self.until is None or now < self.until


class WindowKind(enum.StrEnum):
    ALLOW = "allow"
    DENY = "deny"


class Window(Struct, frozen=True):
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


class DesiredServer(Struct, frozen=True):
    """
    One `kind: TradingServer` document after defaults were merged.

    `borrowed` are the references that another file than the server's own gives, and where; `place`
    is its file from the root of the tree that was named, links followed.  `suspended_accounts` are
    the other accounts of its process that documents suspend or operators paused: what touches the
    robots of all waits.
    """

    name: str
    url: str
    source: SourceLine
    place: str = ""
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
    borrowed: tuple[tuple[str, SourceLine], ...] = ()
    suspended_accounts: tuple[tuple[str, Suspension], ...] = ()

    @property
    def target(self) -> Target:
        """The address and account that identify the server itself."""
        return Target(normalised(self.url), self.account)

    @property
    def one_shots(self) -> tuple[OneShot, ...]:
        """The wishes for one-shot actions, in the order in which they must happen."""
        return tuple(wish for wish in (self.cache, self.reboot) if wish is not None)

    def exchange(self, code: str) -> DesiredExchange | None:
        return next((exchange for exchange in self.exchanges if exchange.code == code), None)

    def asked(self, kind: RequestKind) -> OneShot | None:
        return next((wish for wish in self.one_shots if wish.kind is kind), None)


class DesiredState(Struct, frozen=True, dict=True):  # room for what is computed once
    """
    The servers that are meant, in the order of their names.

    `others` are those of the documents that were not selected: nothing is done to them, but who is
    who is judged over all documents.
    """

    servers: tuple[DesiredServer, ...]
    skipped: int = 0  # documents of another apiVersion in directories
    others: tuple[DesiredServer, ...] = ()

    @functools.cached_property
    def targets(self) -> frozenset[Target]:
        """Every address and account that a document names."""
        return frozenset(server.target for server in (*self.servers, *self.others))
