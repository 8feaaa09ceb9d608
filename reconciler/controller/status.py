"""
What the controller knows of each server, in the words that people and their tools see.  Pure.

Two axes, as in Argo CD: *sync* says whether what runs is what the documents say, *health* whether
anything needs attention.  A `ServerStatus` is a value; `/v1/status`, the metrics, `jtr status` and
the notifications all read the same ones.
"""

import enum
from collections.abc import Mapping
from datetime import datetime

from msgspec import Struct, field

from reconciler.model.key_audits import Light
from reconciler.model.key_policy import KeyFinding
from reconciler.model.observed import Robot
from reconciler.model.plan import Line
from reconciler.model.recorded import Debt, HeldBrake
from reconciler.model.values import replace


class Sync(enum.StrEnum):
    """Whether the server is as its document says."""

    SYNCED = "synced"
    OUT_OF_SYNC = "out of sync"
    UNKNOWN = "unknown"  # not seen, or not comparable
    STALE = "stale"  # seen, too long ago to say so now


class Health(enum.StrEnum):
    """Whether anybody has to do something, the worst last."""

    HEALTHY = "healthy"
    PROGRESSING = "progressing"  # something comes without anybody: settling, window, schedule
    SUSPENDED = "suspended"
    DEGRADED = "degraded"
    UNREACHABLE = "unreachable"


class Refusal(enum.StrEnum):
    """Why the newest documents are not in force."""

    INVALID = "invalid"
    AWAY = "away"  # nobody could look at them
    UNSIGNED = "not signed"  # by nobody who counts
    WENT_BACK = "went back"  # they do not come after what was in force


class KeyStatus(Struct, frozen=True):
    """
    What the audit says of one key; times are RFC 3339 text.

    `findings` are all of them, the worst first.  `asked_at` is when the exchange told it,
    `expires_at` is empty where it does not tell that.
    """

    light: Light
    findings: tuple[KeyFinding, ...] = ()
    asked_at: str = ""
    expires_at: str = ""


class ServerStatus(Struct, frozen=True):
    """
    One server as the controller last saw it; times are RFC 3339 text, empty where there is none.

    `reason` says in words why it is not healthy.  `waits`: it is progressing for the only reason
    that something which stops robots has not had its time yet.  `changes` counts exchanges that
    differ because the documents or Vault moved, `drifting` names those that differ because the
    server did.  `contested` are the
    exchanges that somebody keeps changing back; `blocked` counts what a person has to decide.
    `debts` are the consequences still owed, `owed_robots` the robots that wait for a start of ours.
    `deferred` says in words what will be done later, and when.  `stopped_robots` ran and stopped
    without our asking, and do not run yet.  `failures` are passes that failed in a row.
    `secret_ages` goes by exchange: seconds since the version in use was written.  `keys`, also by
    exchange, are those that were audited; `outgoing` are the addresses that the server leaves from.
    `lines` say how each exchange stood after the last pass that saw the server.
    """

    server: str
    url: str
    account: str
    owner: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    sync: Sync = Sync.UNKNOWN
    health: Health = Health.PROGRESSING
    reason: str = ""
    waits: bool = False
    version: str = ""
    mode: str = "enforce"
    changes: int = 0
    drifting: tuple[str, ...] = ()
    contested: tuple[str, ...] = ()
    blocked: int = 0
    debts: tuple[Debt, ...] = ()
    in_doubt: int = 0
    owed_robots: tuple[Robot, ...] = ()
    deferred: tuple[str, ...] = ()
    stopped_robots: tuple[Robot, ...] = ()
    robots: tuple[Robot, ...] = ()
    suspended: str = ""  # the reason that its document gives
    suspended_by: str = ""
    suspended_until: str = ""
    window_open: bool | None = None  # None: it has no windows
    window: str = ""  # why it is closed and when it opens
    connected: bool = False
    seen_at: str = ""
    judged: bool = False  # its last pass went by what is declared of it now
    last_pass: str = ""
    last_success: str = ""
    pass_seconds: float = 0.0
    next_pass: str = ""
    failures: int = 0
    secret_ages: Mapping[str, float] = field(default_factory=dict)
    keys: Mapping[str, KeyStatus] = field(default_factory=dict)
    outgoing: tuple[str, ...] = ()
    lines: tuple[Line, ...] = ()

    @property
    def well(self) -> bool:
        """Whether nothing is amiss, also while something waits for its time."""
        return self.health is Health.HEALTHY or (self.health is Health.PROGRESSING and self.waits)

    @property
    def drift(self) -> int:
        return len(self.drifting)

    def as_of(self, now: float, believed: float) -> "ServerStatus":
        """
        Return what is to be said at *now* (seconds since the epoch).

        What was seen more than *believed* seconds ago is neither in sync nor out of it.
        """
        if not self.seen_at or self.sync is Sync.UNKNOWN:
            return self
        if now - datetime.fromisoformat(self.seen_at).timestamp() <= believed:
            return self
        return replace(self, sync=Sync.STALE, reason=self.reason or "not looked at for too long")


class ControllerStatus(Struct, frozen=True):
    """
    The controller itself.

    `acting` is False while another controller on the same ledger acts, which `rival` names.
    `waiting` says what it waits for before it can do anything at all: Vault, a ledger, documents.
    `revision` names the content of the documents in force, `attempted` that of the newest ones;
    `documents` says what is wrong with these, which are not in force then, `refusal` what kind of
    trouble that is, `documents_since` since when; `in_force_since` is when `revision` came into
    force here.  `secrets` says what is wrong with Vault.  `brakes` are those of the ledger.
    """

    version: str
    label: str
    started_at: str
    acting: bool = False
    rival: str = ""
    waiting: str = ""
    stopping: bool = False
    revision: str = ""
    attempted: str = ""
    documents: str = ""
    refusal: Refusal = Refusal.INVALID
    documents_since: str = ""
    in_force_since: str = ""
    secrets: str = ""
    ledger: str = ""
    state: str = ""  # what is wrong with its own state file
    clock: str = ""  # why the clock of its host is not believed
    brakes: tuple[HeldBrake, ...] = ()
    token_seconds: float | None = None  # left on the token for Vault; None: unknown or unlimited
