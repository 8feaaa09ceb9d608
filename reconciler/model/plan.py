"""
The verbs: what may be done to a server, why, and the Plan that lists it.

A plan is a value.  It holds references and versions, never values or masks, so printing, storing
and hashing it needs no redaction.  What `apply` does is described entirely by `Plan.actions`.
"""

import enum
import hashlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final

from reconciler.errors import Exit, JtrError, worst
from reconciler.model.desired import Afterwards, FrozenRef, Kind, SourceLine, Target
from reconciler.model.observed import Robot
from reconciler.model.recorded import Debt, Owed, Purpose


class Verdict(enum.StrEnum):
    """How an exchange on the server compares with what is desired."""

    SAME = "same"
    DIFFERENT = "different"
    UNKNOWN = "unknown"


class Status(enum.StrEnum):
    """What a line of the plan says about one exchange."""

    WRITE = "write"
    DELETE = "delete"
    IN_SYNC = "in sync"
    FOUND = "found"
    LEFT_ALONE = "left alone"  # drift without consent
    BLOCKED = "blocked"
    FAILED = "failed"
    SETTLING = "settling"  # its secret was written a moment ago
    NOT_COMPARED = "not compared"
    NOT_MANAGED = "not managed"
    LEFT_ON_SERVER = "left on the server"


class Category(enum.StrEnum):
    """Changes (files or Vault moved) and drift (the server moved) are shown and asked apart."""

    CHANGE = "change"
    DRIFT = "drift"


class Reason(enum.StrEnum):
    """Why an action is planned."""

    ABSENT = "absent on the server"
    NEW_VERSION = "new version in Vault"
    PIN_MOVED = "the pin moved"
    PATH_MOVED = "another path"
    DIFFERS = "differs on the server"
    NOT_VERIFIABLE = "not verifiable"
    UNFINISHED = "an earlier write did not finish"
    ASKED = "asked"
    NONE = ""


class Need(enum.StrEnum):
    """What it takes until robots use a new credential."""

    NOTHING = "nothing"
    RESTART = "restart"
    REBOOT = "reboot"
    EITHER = "restart or reboot"  # the values were not read


@dataclass(frozen=True, slots=True)
class Consequence:
    """What a write means for trading: robots that keep the old key, and what they need."""

    robots: tuple[Robot, ...]
    need: Need


@dataclass(frozen=True, slots=True)
class WriteExchange:
    """
    Write all fields of one exchange in one message.

    `fields` pairs the server's field name with ccxt's credential name; `sources` holds the frozen
    reference of each credential, or one under the empty name when a single secret holds them all.
    """

    exchange: str
    fields: tuple[tuple[str, str], ...]
    sources: tuple[tuple[str, FrozenRef], ...]
    purpose: Purpose
    unverified: bool = False  # its verdict was unknown: counted against maxUnknownWrites

    def identity(self) -> list[object]:
        """Return what this action contributes to the plan's id."""
        names = sorted(name for name, _ in self.fields)
        return ["write", self.exchange, names, [str(ref) for _, ref in self.sources]]


@dataclass(frozen=True, slots=True)
class DeleteExchange:
    """Delete the fields of one exchange that are not empty, one request each."""

    exchange: str
    fields: tuple[str, ...]

    def identity(self) -> list[object]:
        """Return what this action contributes to the plan's id."""
        return ["delete", self.exchange, sorted(self.fields), []]


@dataclass(frozen=True, slots=True)
class ResumeRobots:
    """
    Start the robots again that a restart or a reboot of ours left stopped.

    `asked` says that a person asked for it: then neither the time that passed nor what somebody
    else did meanwhile stands against it, and no finding either.
    """

    robots: tuple[Robot, ...]
    asked: bool = False

    def identity(self) -> None:
        """Say that this contributes nothing to the plan's id: robots differ between minutes."""


@dataclass(frozen=True, slots=True)
class RestartRobots:
    """Stop and start, one by one, the robots of an exchange that still hold an old credential."""

    exchange: str
    robots: tuple[Robot, ...]

    def identity(self) -> None:
        """Say that this contributes nothing to the plan's id: it follows from the writes."""


@dataclass(frozen=True, slots=True)
class InvalidateCache:
    """Invalidate the server's cache, once for this instant."""

    instant: datetime
    reason: str

    def identity(self) -> list[object]:
        """Return what this action contributes to the plan's id."""
        return [str(Kind.CACHE), "", [], [spelled(self.instant)]]


@dataclass(frozen=True, slots=True)
class RebootServer:
    """
    Restart the JT-Trader process, once for this instant.

    `again` says that this is the second and last try of a request that provably did not happen.
    """

    instant: datetime
    reason: str
    robots: Afterwards
    resume_within: float  # seconds
    again: bool = False

    def identity(self) -> list[object]:
        """Return what this action contributes to the plan's id."""
        return [str(Kind.REBOOT), "", [], [spelled(self.instant)]]


Disruptive = ResumeRobots | RestartRobots | InvalidateCache | RebootServer
Action = WriteExchange | DeleteExchange | Disruptive

ORDER: Final = (
    ResumeRobots,  # what an earlier pass owes comes first
    WriteExchange,
    DeleteExchange,
    RestartRobots,
    InvalidateCache,  # never after the reboot: robots save their state while they stop
    RebootServer,
)
"""In which order the actions of one server happen; a failure stops the later ones."""


class Standing(enum.StrEnum):
    """Where a wish for a disruptive action stands."""

    DUE = "due"
    SCHEDULED = "scheduled"
    WAITING = "waits for its window"
    HELD = "held back"
    BLOCKED = "blocked"
    IN_DOUBT = "in doubt"
    FOUND_OUT = "found out"  # sent by a process that is gone; the server's log tells what became
    DONE = "done"
    NOT_DONE = "NOT done"
    SATISFIED = "satisfied"
    EXPIRED = "expired, NOT done"
    SUPERSEDED = "superseded"
    BASELINED = "baselined"


BOUND: Final = (Standing.SCHEDULED, Standing.WAITING)
"""What is done later without anybody asking again."""


@dataclass(frozen=True, slots=True)
class Disruption:
    """
    One line of a plan about stopping robots or losing what they stored.

    `what` names it for people; `kind` and `instant` are set for requests.  `robots` are those that
    stop, or that are to be started.
    """

    what: str
    standing: Standing
    why: str = ""
    remedy: str = ""
    action: Disruptive | None = None
    robots: tuple[Robot, ...] = ()
    kind: Kind | None = None
    instant: datetime | None = None
    source: SourceLine | None = None
    error: Exit = Exit.DONE

    @property
    def ready(self) -> Disruptive | None:
        """The action, when it is to be done in this pass."""
        return self.action if self.standing is Standing.DUE else None


@dataclass(frozen=True, slots=True)
class Line:
    """
    One exchange in a plan.

    `action` is there when something would be done; `asks` names the consent that is still missing,
    and then nothing is done.  `error` is the exit code that the line alone causes.
    """

    exchange: str
    status: Status
    verdict: Verdict = Verdict.SAME
    category: Category = Category.CHANGE
    reason: Reason = Reason.NONE
    why: str = ""
    remedy: str = ""
    action: Action | None = None
    asks: str = ""
    consequence: Consequence | None = None
    sources: tuple[str, ...] = ()
    source: SourceLine | None = None
    error: Exit = Exit.DONE
    note: str = ""

    @property
    def ready(self) -> Action | None:
        """The action, when nobody has to be asked any more."""
        return None if self.asks else self.action


@dataclass(frozen=True, slots=True)
class ServerPlan:
    """
    All that is to be said and done for one server.

    `held` says why nothing at all is applied to it (suspended, only observed, blocked); `failure`
    is what prevented a comparison.
    """

    server: str
    target: Target
    owner: str = ""
    version: str = ""
    lines: tuple[Line, ...] = ()
    disruptions: tuple[Disruption, ...] = ()
    debts: tuple[Debt, ...] = ()
    robots: tuple[Robot, ...] = ()
    notes: tuple[str, ...] = ()
    held: str = ""
    held_code: Exit = Exit.DONE
    held_remedy: str = ""
    failure: JtrError | None = None
    observed_at: str = ""
    age: float | None = None  # seconds since a recorded observation; None when just visited

    @property
    def actions(self) -> tuple[Action, ...]:
        """What apply would do, in the order of doing."""
        if self.held or self.failure:
            return ()
        entries: tuple[Line | Disruption, ...] = (*self.lines, *self.disruptions)
        ready = [entry.ready for entry in entries if entry.ready is not None]
        return tuple(sorted(ready, key=_place))

    @property
    def promised(self) -> tuple[Action, ...]:
        """What it is bound to do sooner or later: the actions, and what waits for its time."""
        if self.held or self.failure:
            return ()
        later = [d.action for d in self.disruptions if d.standing in BOUND]
        return tuple(sorted((*self.actions, *(a for a in later if a is not None)), key=_place))

    def select(self, category: Category) -> tuple[Line, ...]:
        """Return the lines of one category that stand for a difference."""
        return tuple(
            line
            for line in self.lines
            if line.category is category
            and line.status in (Status.WRITE, Status.DELETE, Status.LEFT_ALONE)
        )

    @property
    def differs(self) -> bool:
        """Whether files, Vault and server disagree in any way that we could tell."""
        return any(
            line.action is not None or line.status is Status.BLOCKED for line in self.lines
        ) or any(line.action is not None or line.error for line in self.disruptions)

    @property
    def exit_code(self) -> Exit:
        """The code that this server's plan alone would end a command with."""
        codes = [line.error for line in self.lines] + [line.error for line in self.disruptions]
        if self.failure:
            codes.append(self.failure.exit_code)
        return worst([*codes, self.held_code])


@dataclass(frozen=True, slots=True)
class Plan:
    """The plans of all servers, in the order of their names."""

    servers: tuple[ServerPlan, ...]
    skipped: int = 0
    not_visited: tuple[str, ...] = field(default=())

    def __iter__(self) -> Iterator[ServerPlan]:
        return iter(self.servers)

    @property
    def actions(self) -> tuple[tuple[ServerPlan, Action], ...]:
        """Every action with its server."""
        return tuple((server, action) for server in self.servers for action in server.actions)

    @property
    def id(self) -> str:
        """
        The SHA-256 that names what this plan would do.

        Covers, per server, URL, account and ordered actions; nothing that differs between roles or
        minutes.  A plan without actions has an id as well.
        """
        return identify(self.servers)

    def robots_concerned(self) -> frozenset[tuple[str, int]]:
        """Return (server, robot id) of every robot that keeps an old key, stops or is started."""
        found: set[tuple[str, int]] = set()
        for server in self.servers:
            if server.held:
                continue
            for line in server.lines:
                if line.ready is not None and line.consequence is not None:
                    found.update((server.server, robot.id) for robot in line.consequence.robots)
            for entry in server.disruptions:
                if entry.ready is not None:
                    found.update((server.server, robot.id) for robot in entry.robots)
        return frozenset(found)


def identify(servers: Iterable[ServerPlan]) -> str:
    """Return the id of the actions in *servers*; their order does not matter."""
    rows = sorted(
        [server.target.url, server.target.account, named]
        for server in servers
        if (named := [row for action in server.promised if (row := action.identity())])
    )
    text = json.dumps(rows, ensure_ascii=True, separators=(",", ":"), sort_keys=True)
    return "sha256:" + hashlib.sha256(text.encode()).hexdigest()


def told(action: Action) -> str:
    """Return what an action is, in a few words for people."""
    match action:
        case WriteExchange(exchange):
            return f"write {exchange}"
        case DeleteExchange(exchange):
            return f"delete {exchange}"
        case ResumeRobots():
            return "start robots again"
        case RestartRobots(exchange):
            return f"restart robots on {exchange}"
        case InvalidateCache(instant):
            return f"{Kind.CACHE} {spelled(instant)}"
        case RebootServer(instant):
            return f"{Kind.REBOOT} {spelled(instant)}"


def spelled(instant: datetime) -> str:
    """Return an instant as people write it in documents."""
    fraction = instant.microsecond
    precise = "microseconds" if fraction % 1000 else "milliseconds" if fraction else "seconds"
    return instant.astimezone(UTC).isoformat(timespec=precise).replace("+00:00", "Z")


def _place(action: Action) -> tuple[int, str]:
    exchange = getattr(action, "exchange", "")
    return ORDER.index(type(action)), exchange


def due(debts: Iterable[Debt], owed: Owed) -> tuple[Debt, ...]:
    """Return the debts of one kind."""
    return tuple(debt for debt in debts if debt.owed is owed)
