"""
What the planner is given besides desired state, observation and record.
"""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Final

from msgspec import Struct, field

from reconciler.errors import JtrError
from reconciler.model.conditions import Code, Condition, blocked
from reconciler.model.evidence import Evidence
from reconciler.model.observed import ClockReading, Logbook
from reconciler.model.policy import PolicyAction, Violation, against
from reconciler.model.references import FrozenRef, SecretPath
from reconciler.model.timestamps import over_by

DENIED: Final = blocked(Code.POLICY_DENIED, "the policy does not allow it", "")
"""Why nothing comes of what violates the policy; its own lines stand first in the plan."""
NO_DISRUPTIVE: Final = Condition(Code.NO_DISRUPTIVE, "--no-disruptive")
Sources = Mapping[str, FrozenRef]


class Terms(Struct, frozen=True):
    """
    What governs disruptive actions in this pass.

    `log` and `clock` are None where the server was not visited or did not tell.  Requests older
    than `baseline` are never run.  `refused` says why the ledger allows none at all; `unsteady`
    says what is wrong with our own clock: then nothing begins, and nothing expires.  `since_halt`
    are the seconds since the robots that are owed were stopped; None where they cannot be told.
    `seen_boot` is the time of the boot line that the ledger last saw, and `seen_at` when it did.
    """

    now: datetime
    log: Logbook | None = None
    clock: ClockReading | None = None
    baseline: datetime | None = None
    refused: Condition | None = None
    unsteady: str = ""
    jumped: timedelta = timedelta()
    since_halt: float | None = None
    seen_boot: int | None = None
    seen_at: datetime | None = None

    @property
    def over_by(self) -> datetime:
        """The moment by which a suspension must have ended to be over."""
        return over_by(self.now, self.jumped)


NO_TERMS = Terms(
    datetime.fromtimestamp(0, UTC), unsteady="nothing is known about the time of this pass"
)


class Consents(Struct, frozen=True):
    """
    What the people agreed to beyond the documents themselves.

    Entries of `take_over` and `rewrite` are `SERVER` or `SERVER/EXCHANGE`.  `quiet` says why no
    robots are restarted and no requests done; empty when they may.  `resting` says, by
    `SERVER/EXCHANGE`, why drift is left alone although the document has `selfHeal`.  `targets` are
    servers whose changed address is right, `recipients` those that may get what they never got.
    """

    drift: bool = False
    take_over: frozenset[str] = frozenset()
    rewrite: frozenset[str] = frozenset()
    targets: frozenset[str] = frozenset()
    recipients: frozenset[str] = frozenset()
    quiet: Condition | None = None
    resting: Mapping[str, str] = field(default_factory=dict)

    def may_receive(self, server: str, *, moves: bool) -> bool:
        """Whether somebody agreed to what *server* gets; who *moves* it, to what it gets there."""
        return server in self.recipients or (moves and server in self.targets)

    @staticmethod
    def covers(entries: frozenset[str], server: str, exchange: str) -> bool:
        return server in entries or f"{server}/{exchange}" in entries


class Facts(Struct, frozen=True):
    """
    What is known besides desired, observed and remembered state.

    `sources` gives each desired exchange its frozen references, or why there are none; `evidence`
    what reading the values told, where they were read.  `refuses` says why this server must not be
    written to (untested version, brake); `suspended` that a suspension is in force; `terms`
    govern what disrupts trading.  `violations` are what the document asks for and must not;
    `withheld` the secrets of which it may get no values before somebody agreed.
    """

    sources: Mapping[str, Sources | JtrError] = field(default_factory=dict)
    evidence: Mapping[str, Evidence | JtrError] = field(default_factory=dict)
    refuses: Condition | None = None
    suspended: bool = False
    live: bool = True
    terms: Terms = NO_TERMS
    violations: tuple[Violation, ...] = ()
    withheld: frozenset[SecretPath] = frozenset()

    def denied(self, action: PolicyAction, exchange: str = "") -> Violation | None:
        """Return why the policy does not allow *action*; None when it does."""
        return against(self.violations, action, exchange)
