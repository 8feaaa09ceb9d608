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

from reconciler.errors import Exit, JtrError, worst
from reconciler.model import FrozenRef, SourceLine, Target
from reconciler.observed import Robot
from reconciler.remembered import Debt, Owed, Purpose


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
    NOT_COMPARED = "not compared"
    NOT_MANAGED = "not managed"
    LEFT_ON_SERVER = "left on the server"
    NOT_YET = "not in this release yet"


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


Action = WriteExchange | DeleteExchange


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
        """What apply would do, in the order of doing: writes before deletes."""
        if self.held or self.failure:
            return ()
        ready = [line.ready for line in self.lines if line.ready is not None]
        return tuple(sorted(ready, key=lambda a: (isinstance(a, DeleteExchange), a.exchange)))

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
        return any(line.action is not None or line.status is Status.BLOCKED for line in self.lines)

    @property
    def exit_code(self) -> Exit:
        """The code that this server's plan alone would end a command with."""
        codes = [line.error for line in self.lines]
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
        """Return (server, robot id) of every robot that keeps an old key."""
        return frozenset(
            (server.server, robot.id)
            for server in self.servers
            for line in server.lines
            if line.ready is not None and line.consequence is not None and not server.held
            for robot in line.consequence.robots
        )


def identify(servers: Iterable[ServerPlan]) -> str:
    """Return the id of the actions in *servers*; their order does not matter."""
    rows = sorted(
        [
            server.target.url,
            server.target.account,
            [action.identity() for action in server.actions],
        ]
        for server in servers
        if server.actions
    )
    text = json.dumps(rows, ensure_ascii=True, separators=(",", ":"), sort_keys=True)
    return "sha256:" + hashlib.sha256(text.encode()).hexdigest()


def due(debts: Iterable[Debt], owed: Owed) -> tuple[Debt, ...]:
    """Return the debts of one kind."""
    return tuple(debt for debt in debts if debt.owed is owed)
