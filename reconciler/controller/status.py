"""
What the controller knows of each server, in the words that people and their tools see.  Pure.

Two axes, as in Argo CD: *sync* says whether what runs is what the documents say, *health* whether
anything needs attention.  A `ServerStatus` is a value; `/v1/status`, the metrics, `jtr status` and
the notifications all read the same ones.
"""

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field

from reconciler.model.key_audits import Light
from reconciler.model.key_policy import KeyFinding
from reconciler.model.observed import Robot
from reconciler.model.recorded import Debt, HeldBrake


class Sync(enum.StrEnum):
    """Whether the server is as its document says."""

    SYNCED = "synced"
    OUT_OF_SYNC = "out of sync"
    UNKNOWN = "unknown"  # not seen, or not comparable


class Health(enum.StrEnum):
    """Whether anybody has to do something, the worst last."""

    HEALTHY = "healthy"
    PROGRESSING = "progressing"  # it will become so without anybody: settling, window, schedule
    SUSPENDED = "suspended"
    DEGRADED = "degraded"
    UNREACHABLE = "unreachable"


@dataclass(frozen=True, slots=True)
class KeyStatus:
    """
    What the audit says of one key; times are RFC 3339 text.

    `findings` are all of them, the worst first.  `asked_at` is when the exchange told it,
    `expires_at` is empty where it does not tell that.
    """

    light: Light
    findings: tuple[KeyFinding, ...] = ()
    asked_at: str = ""
    expires_at: str = ""


@dataclass(frozen=True, slots=True)
class ServerStatus:
    """
    One server as the controller last saw it; times are RFC 3339 text, empty where there is none.

    `reason` says in words why it is not healthy.  `changes` and `drift` count exchanges that
    differ because the documents or Vault moved, and because the server did.  `contested` are the
    exchanges that somebody keeps changing back; `blocked` counts what a person has to decide.
    `debts` are the consequences still owed, `owed_robots` the robots that wait for a start of ours.
    `deferred` says in words what will be done later, and when.  `stopped_robots` ran and stopped
    without our asking, and do not run yet.  `failures` are passes that failed in a row.
    `secret_ages` goes by exchange: seconds since the version in use was written.  `keys`, also by
    exchange, are those that were audited; `outgoing` are the addresses that the server leaves from.
    """

    server: str
    url: str
    account: str
    owner: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    sync: Sync = Sync.UNKNOWN
    health: Health = Health.PROGRESSING
    reason: str = ""
    version: str = ""
    mode: str = "enforce"
    changes: int = 0
    drift: int = 0
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
    last_pass: str = ""
    last_success: str = ""
    pass_seconds: float = 0.0
    next_pass: str = ""
    failures: int = 0
    secret_ages: Mapping[str, float] = field(default_factory=dict)
    keys: Mapping[str, KeyStatus] = field(default_factory=dict)
    outgoing: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ControllerStatus:
    """
    The controller itself.

    `acting` is False while another controller on the same ledger acts, which `rival` names.
    `waiting` says what it waits for before it can do anything at all: Vault, a ledger, documents.
    `revision` names the content of the documents in force; `documents` says what is wrong with the
    newest ones, which are not in force then.  `secrets` says what is wrong with Vault.  `brakes`
    are those of the ledger.
    """

    version: str
    label: str
    started_at: str
    acting: bool = False
    rival: str = ""
    waiting: str = ""
    stopping: bool = False
    revision: str = ""
    documents: str = ""
    secrets: str = ""
    ledger: str = ""
    state: str = ""  # what is wrong with its own state file
    brakes: tuple[HeldBrake, ...] = ()
    token_seconds: float | None = None  # left on the token for Vault; None: unknown or unlimited
