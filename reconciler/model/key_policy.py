"""What the documents want of a key, and what the audit has to say about it.  Pure."""

import enum
from collections.abc import Mapping
from datetime import date, timedelta
from typing import TYPE_CHECKING, Final

from msgspec import Struct, field

from reconciler.model.key_facts import Cap

if TYPE_CHECKING:  # every `jtr validate` imports this module
    from ipaddress import IPv4Network, IPv6Network

DEFAULT_ALLOW: Final = frozenset({Cap.SPOT, Cap.PERPETUAL, Cap.DELIVERY, Cap.ACCOUNT_READ})
DEFAULT_WARNING: Final = timedelta(days=30)
ABOUT_PERMISSIONS: Final = frozenset(
    {"PERM_COARSE", "PERM_FORBIDDEN", "PERM_UNKNOWN_NAME", "PERM_WITHDRAW"}
)
"""Codes of findings about one permission, which stands in their data."""


class OnUnverifiable(enum.StrEnum):
    """What follows when the exchange does not tell, or refuses the address that we ask from."""

    WARN = "warn"
    BLOCK = "block"
    IGNORE = "ignore"


class Accepted(Struct, frozen=True):
    """
    A finding that somebody accepted, until a day (exclusive); None: for ever.

    One of `ABOUT_PERMISSIONS` is accepted for the named `permission` alone, as the exchange calls
    it: another right that is granted later is another finding.
    """

    finding: str
    reason: str
    until: date | None
    permission: str = ""


class Security(Struct, frozen=True):
    """
    The effective `security` of one exchange of one server: the server's, overridden key by key.

    `declared` says that the documents hold any `security` for it at all.
    """

    ip_whitelist: "tuple[IPv4Network | IPv6Network, ...]" = ()
    allow: frozenset[Cap] = DEFAULT_ALLOW
    require: frozenset[Cap] = frozenset()
    max_key_age: timedelta | None = None
    warn_before_expiry: timedelta = DEFAULT_WARNING
    on_unverifiable: OnUnverifiable = OnUnverifiable.WARN
    exceptions: tuple[Accepted, ...] = ()
    declared: bool = False

    @property
    def unverified(self) -> "Severity":
        """How bad it is that something cannot be known."""
        return {
            OnUnverifiable.WARN: Severity.WARNING,
            OnUnverifiable.BLOCK: Severity.ERROR,
            OnUnverifiable.IGNORE: Severity.INFO,
        }[self.on_unverifiable]


NOTHING_DECLARED: Final = Security()
"""What holds where the documents say nothing: the defaults of the schema."""


class Severity(enum.IntEnum):
    """How bad a finding is; the gate stops at `ERROR` and above."""

    INFO = 0
    WARNING = 1
    ERROR = 2
    CRITICAL = 3


class KeyFinding(Struct, frozen=True):
    """
    One thing that the audit has to say: code, severity, what, remedy; never a part of a key.

    `accepted` is the reason of an exception that covers it: then it is shown, and stops nothing.
    """

    code: str
    severity: Severity
    what: str
    remedy: str = ""
    data: Mapping[str, str] = field(default_factory=dict)
    accepted: str = ""

    @property
    def stops(self) -> bool:
        return self.severity >= Severity.ERROR and not self.accepted
