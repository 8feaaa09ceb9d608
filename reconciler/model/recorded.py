"""
The nouns of the ledger: what we must remember because no server can tell us.

Immutable values; paths, versions and keyed fingerprints, never a value and never a mask.
"""

import enum
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Final

from msgspec import Struct, field

from reconciler.model.codec import Later, Seconds, Stamp, StampOrEmpty
from reconciler.model.desired import Afterwards, RequestKind
from reconciler.model.key_facts import Answered
from reconciler.model.observed import BootLine, Robot
from reconciler.model.origin import NO_ORIGIN, Origin
from reconciler.model.references import FrozenRef, SecretPath, SecretRef
from reconciler.model.target import Target


class Purpose(enum.StrEnum):
    """Why a write was decided; only a change leaves debts that act."""

    CHANGE = "change"
    CORRECTION = "correction"


class Write(Struct, frozen=True):
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

    def came_from(self, sources: Mapping[str, FrozenRef]) -> bool:
        """Whether it was of exactly these versions; times tell restarted counters apart."""
        return dict(self.sources) == dict(sources)


class Owed(enum.StrEnum):
    RESTART = "restart"
    REBOOT = "reboot"


class Debt(Struct, frozen=True):
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


class ExchangeRecord(Struct, frozen=True):
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

    def wrote_last(self, sources: Mapping[str, FrozenRef]) -> bool:
        """Whether exactly these versions were written last: to write them again changes no key."""
        return self.written is not None and self.written.came_from(sources)


class Observation(Struct, frozen=True):
    """
    An observed state that was remembered: masks as keyed fingerprints, and when it was seen.

    `since` is, by exchange, the first of the sights without a gap that showed these masks; only for
    exchanges that show something, or did.
    """

    at: Stamp
    by: str
    version: str
    masks: Mapping[str, Mapping[str, str]]
    credentials: Mapping[str, Mapping[str, str]]
    robots: tuple[Robot, ...]
    boot: int | None
    key_id: str
    troubles: Mapping[str, str] = field(default_factory=dict)
    alarm: int | None = None
    since: Later[Mapping[str, Stamp]] = field(default_factory=dict)


class Identity(Struct, frozen=True):
    """The ledger's own name for a server, and the address and label that it last had."""

    uid: str
    target: Target
    name: str


class Received(Struct, frozen=True):
    """
    What a server got, or may have got, by applies: the newest login, values of `paths`.

    Also those that another hand put there, where somebody agreed that it gets them.
    """

    access_secret: SecretRef | None
    access_token: SecretRef | None
    paths: tuple[SecretPath, ...]


class Stage(enum.StrEnum):
    """How far a request is; only `OPEN` may still change by itself."""

    OPEN = "open"  # an intent is written: it may have been sent, and nobody noted what became of it
    DONE = "done"
    NOT_DONE = "not done"
    SATISFIED = "satisfied by somebody else's boot"
    BASELINED = "older than this ledger"


class Attempt(Struct, frozen=True):
    """
    One try to send a one-shot, with the evidence from just before it.

    `at` is our clock (RFC 3339), `nonce` names the attempt, `by` the process.  `boots` are the boot
    lines of the system log and `newest` its newest entry (server's clock, ms) at that time; those
    of a closed request are not kept.  `host_boot` and `elapsed` are our machine's boot id and its
    seconds since that boot: on the same machine they tell how long ago it was, whatever the clock
    on the wall did.
    """

    nonce: str
    at: Stamp
    by: str
    boots: tuple[BootLine, ...]
    newest: int | None
    host_boot: str = ""
    elapsed: float = 0.0


class Request(Struct, frozen=True):
    """
    One wish for a one-shot action that this ledger handled, or is handling.

    `ran` are the robots that ran before a try.  `evidence` says in words what closed it, and
    `boot` is the boot line that proved it.
    """

    kind: RequestKind
    instant: datetime
    reason: str
    stage: Stage
    attempts: tuple[Attempt, ...] = ()
    robots: Afterwards = Afterwards.LEAVE
    resume_within: Seconds = 600.0
    ran: tuple[Robot, ...] = ()
    evidence: str = ""
    boot: BootLine | None = None
    closed_at: StampOrEmpty = ""
    closed_by: str = ""

    @property
    def asked_at(self) -> str:
        """When it was first sent, or was about to be (our clock); empty when it never was."""
        return self.attempts[0].at if self.attempts else ""


class PendingStarts(Struct, frozen=True):
    """
    Robots that we stopped, or our reboot did, and that are to run again.

    Written before the stop is sent, so that no crash forgets one.  `origin` says why in words;
    `exchange` is set for a restart owed by that exchange's credential.  `others` are the robots
    that ran besides and must still do so when we start ours: else somebody else is at work.
    `begun` are those whose start was about to be sent: they are never started again by themselves.
    `boot` is the boot line of the process on which they have to be started; None while it is the
    one that is still to come.  With a `finding` nothing more happens by itself: it is left to
    people.
    """

    origin: str
    robots: tuple[Robot, ...]
    at: Stamp
    by: str
    within: Seconds  # from `at`, in which they may be started without being asked
    exchange: str = ""
    others: tuple[int, ...] = ()
    begun: tuple[int, ...] = ()
    boot: BootLine | None = None
    finding: str = ""
    host_boot: str = ""
    elapsed: float = 0.0


class Requests(Struct, frozen=True):
    """
    The one-shots of one server: what was handled, what is open, which robots are owed a start.

    `handled` is, by kind, the newest instant that was handled, satisfied or baselined: that one and
    every earlier one is never done again.  At most one request is open on a server.  `past` are the
    closed ones, oldest first, as many as are kept.
    """

    handled: Mapping[RequestKind, datetime] = field(default_factory=dict)
    open: Request | None = None
    past: tuple[Request, ...] = ()
    halt: PendingStarts | None = None

    def closed(self, kind: RequestKind, instant: datetime) -> Request | None:
        found = (r for r in reversed(self.past) if (r.kind, r.instant) == (kind, instant))
        return next(found, None)


NO_REQUESTS: Final = Requests()


class HistoryEntry(Struct, frozen=True):
    """
    One thing that was done on a server, for people: when (our clock), by whom, what came.

    `origin` is what asked for it, as far as anybody could tell.
    """

    at: Stamp
    by: str
    what: str
    result: str
    detail: str = ""
    origin: Later[Origin] = NO_ORIGIN


class RecordedAudit(Struct, frozen=True):
    """
    What an exchange said of one key, for who may not read it: facts, never a verdict.

    It is about exactly the versions of `sources`, which go from ccxt's credential name or from the
    empty one, as those of a `Write`.  `from_server`: it was asked from the server's own address;
    `outgoing` are those that the server said it leaves from.  `twins` name other places that held
    the same key.
    """

    sources: Mapping[str, FrozenRef]
    answered: Answered
    from_server: bool = False
    outgoing: tuple[str, ...] = ()
    twins: tuple[str, ...] = ()


class Pause(Struct, frozen=True):
    """
    Why a controller changes nothing on a server for a while, although its document would let it.

    Said by an operator on the controller's page, until `until`; a suspension that a document holds
    is none of its business.  `uid` is what the ledger calls the server, empty where it did not know
    it; of one that it knows, `target` and `name` are read as they are today.
    """

    target: Target
    reason: str
    by: str
    at: Stamp
    until: datetime
    uid: Later[str] = ""
    name: Later[str] = ""


class Recorded(Struct, frozen=True):
    """
    All that the ledger knows of one server; a server never seen has no identity.

    `received` is None, too, where a version before it wrote the ledger.  No request up to `since`
    may be done: a server of that address or name was forgotten then.
    """

    identity: Identity | None = None
    exchanges: Mapping[str, ExchangeRecord] = field(default_factory=dict)
    observation: Observation | None = None
    retired: tuple[Target, ...] = ()
    requests: Requests = NO_REQUESTS
    received: Received | None = None
    since: datetime | None = None


NOTHING_RECORDED: Final = Recorded()


def due(debts: Iterable[Debt], owed: Owed) -> tuple[Debt, ...]:
    return tuple(debt for debt in debts if debt.owed is owed)


MOST_ATTEMPTS = 2


class Brake(Struct, frozen=True):
    """
    Why nothing is written any more, and the server on which that was seen.

    `released` holds the reason, the time and the person once somebody let go.  Older ledgers hold
    it as a row of its own, over a whole JT-Trader version.
    """

    version: str
    server: str
    why: str
    at: Stamp
    by: str
    released: tuple[str, str, str] | None = None


class HeldBrake(Struct, frozen=True):
    """A brake that holds: over *harmed*, or with None over every server of the version."""

    brake: Brake
    harmed: Identity | None = None

    @property
    def scope(self) -> str:
        """The version, or the address of the server's process."""
        return self.brake.version if self.harmed is None else self.harmed.target.url

    @property
    def over(self) -> str:
        """What it is called, also by who releases it."""
        return self.brake.version if self.harmed is None else self.harmed.name

    @property
    def subject(self) -> str:
        return f"JT-Trader {self.over}" if self.harmed is None else self.over

    def holds(self, target: Target, uid: str, version: str) -> bool:
        """Whether it holds this server, as which another account of its process counts, too."""
        if self.harmed is None:
            return self.brake.version == version
        return self.harmed.uid == uid or self.harmed.target.url == target.url
