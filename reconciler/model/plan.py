"""
The Plan: all that is to be said and done, as one value.

A plan is a value.  It holds references and versions, never values or masks, so printing, storing
and hashing it needs no redaction.  What `apply` does is described entirely by `Plan.actions`.
"""

import enum
import hashlib
import json
import re
from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final, assert_never

from msgspec import Struct, field

from reconciler.errors import Exit, JtrError, worst
from reconciler.model.actions import (
    ORDER,
    Action,
    Consequence,
    Disruptive,
    Reason,
    RestartRobots,
    WriteExchange,
    identity,
)
from reconciler.model.conditions import Code, Condition
from reconciler.model.desired import RequestKind
from reconciler.model.observed import Robot
from reconciler.model.policy import Violation
from reconciler.model.recipients import NewRecipient, Recipient
from reconciler.model.recorded import Debt, Owed, Purpose
from reconciler.model.source import SourceLine
from reconciler.model.target import Target


class Verdict(enum.StrEnum):
    SAME = "same"
    DIFFERENT = "different"
    UNKNOWN = "unknown"


class Status(enum.StrEnum):
    WRITE = "write"
    DELETE = "delete"
    IN_SYNC = "in sync"
    FOUND = "found"
    LEFT_ALONE = "left alone"  # drift without consent
    BLOCKED = "blocked"
    FAILED = "failed"
    SETTLING = "settling"  # its secret was written a moment ago
    STALE = "stale"  # it was as desired, too long ago to be believed
    NOT_COMPARED = "not compared"
    NOT_MANAGED = "not managed"
    LEFT_ON_SERVER = "left on the server"


class Category(enum.StrEnum):
    """Changes (files or Vault moved) and drift (the server moved) are shown and asked apart."""

    CHANGE = "change"
    DRIFT = "drift"


class Standing(enum.StrEnum):
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


ASK_RECIPIENT: Final = "--approve-recipient"
"""The consent to a server's getting what it never got; the one that `--expect` includes."""

AS_DESIRED: Final = Condition(Code.IN_SYNC)
DUE: Final = Condition(Code.DUE)
BOUND: Final = (Standing.SCHEDULED, Standing.WAITING)
"""What is done later without anybody asking again."""
NEVER_LATER: Final = (Code.REBOOT_DOES_IT, Code.REBOOT_NEEDED, Code.POLICY_DENIED)
"""Why a restart is held back for good: another line does it, or a person decides."""


class Reasoned:
    """A line of a plan, told by its condition."""

    __slots__ = ()

    if TYPE_CHECKING:

        @property
        def condition(self) -> Condition: ...

    @property
    def code(self) -> str:
        return self.condition.code

    @property
    def why(self) -> str:
        return self.condition.what

    @property
    def remedy(self) -> str:
        return self.condition.remedy

    @property
    def error(self) -> Exit:
        return self.condition.exit


class Disruption(Reasoned, Struct, frozen=True):
    """
    One line of a plan about stopping robots or losing what they stored.

    `what` names it for people, `condition` says why it stands so; `kind` and `instant` are set for
    requests.  `robots` are those that stop, or that are to be started.
    """

    what: str
    standing: Standing
    condition: Condition = DUE
    action: Disruptive | None = None
    robots: tuple[Robot, ...] = ()
    kind: RequestKind | None = None
    instant: datetime | None = None
    source: SourceLine | None = None

    @property
    def ready(self) -> Disruptive | None:
        return self.action if self.standing is Standing.DUE else None

    @property
    def to_come(self) -> bool:
        """Whether it is not over yet, and will be without anybody's asking again."""
        match self.standing:
            case Standing.DUE | Standing.SCHEDULED | Standing.WAITING | Standing.FOUND_OUT:
                return True
            case Standing.HELD:
                return self.code not in NEVER_LATER
            case Standing.BLOCKED | Standing.IN_DOUBT | Standing.NOT_DONE | Standing.EXPIRED:
                return False  # people decide
            case Standing.DONE | Standing.SATISFIED | Standing.SUPERSEDED | Standing.BASELINED:
                return False  # over
            case _:
                assert_never(self.standing)


class Line(Reasoned, Struct, frozen=True):
    """
    One exchange in a plan.

    `condition` says why it stands so, and with which exit code a command ends because of it alone.
    `action` is there when something would be done; `asks` names the consent that is still missing,
    and then nothing is done.  `since` is when the server was first seen to show what it shows now;
    empty where that is not known.
    """

    exchange: str
    status: Status
    verdict: Verdict = Verdict.SAME
    category: Category = Category.CHANGE
    reason: Reason = Reason.NONE
    condition: Condition = AS_DESIRED
    action: Action | None = None
    asks: str = ""
    consequence: Consequence | None = None
    sources: tuple[str, ...] = ()
    source: SourceLine | None = None
    note: str = ""
    since: str = ""

    @property
    def ready(self) -> Action | None:
        return None if self.asks else self.action


class ServerPlan(Struct, frozen=True):
    """
    All that is to be said and done for one server.

    `hold` says why nothing at all is applied to it (suspended, only observed, blocked); `failure`
    is what prevented a comparison.  `new_recipient` says what it would get that it never got,
    `violations` what its document asks for and the policy does not allow.  `restarts` says that the
    document wants robots restarted after a changed key, `windows` when it allows what stops them.
    """

    server: str
    target: Target
    owner: str = ""
    version: str = ""
    new_recipient: tuple[NewRecipient, ...] = ()
    violations: tuple[Violation, ...] = ()
    lines: tuple[Line, ...] = ()
    disruptions: tuple[Disruption, ...] = ()
    debts: tuple[Debt, ...] = ()
    robots: tuple[Robot, ...] = ()
    notes: tuple[str, ...] = ()
    hold: Condition | None = None
    failure: JtrError | None = None
    unseen: tuple[Action, ...] = ()  # what it would get if it is empty, which nobody has looked at
    observed_at: str = ""
    age: float | None = None  # seconds since a recorded observation; None when just visited
    restarts: bool = False
    windows: tuple[str, ...] = ()

    @property
    def held(self) -> str:
        return self.hold.what if self.hold is not None else ""

    @property
    def held_remedy(self) -> str:
        return self.hold.remedy if self.hold is not None else ""

    @property
    def held_code(self) -> Exit:
        return self.hold.exit if self.hold is not None else Exit.DONE

    @property
    def judged_at(self) -> datetime | None:
        """When it was planned, which for a recorded observation is later than that."""
        if not self.observed_at:
            return None
        return datetime.fromisoformat(self.observed_at) + timedelta(seconds=self.age or 0.0)

    @property
    def code(self) -> str:
        """Why nothing is applied to it as a whole, or why it was not compared; else empty."""
        if self.failure is not None:
            return Condition.of(self.failure).code
        return self.hold.code if self.hold is not None else ""

    @property
    def actions(self) -> tuple[Action, ...]:
        """What apply would do, in the order of doing."""
        disruptive = (line.ready for line in self.disruptions)
        return self._ordered((*(line.ready for line in self.lines), *disruptive))

    @property
    def promised(self) -> tuple[Action, ...]:
        """
        What it is bound to do sooner or later: the actions, and what waits for its time.

        Also what only waits for a yes to a new recipient: whoever expects this plan says it; what
        waits for the end of another account's suspension, which may have begun since the review;
        and what a server that nobody has seen yet gets once somebody finds it empty.
        """
        if self.unseen and self.failure is None:
            return tuple(sorted(self.unseen, key=_place))
        later = (
            line.action
            for line in self.disruptions
            if line.standing in BOUND or line.code == Code.ACCOUNT_SUSPENDED
        )
        asked = (line.action for line in self.lines if line.asks == ASK_RECIPIENT)
        return self._ordered((*self.actions, *later, *asked))

    @property
    def wished(self) -> tuple[Action, ...]:
        """
        What decides a plan's id: what is promised, and the exchanges whose robots are restarted.

        They follow from a write or are owed by an earlier one, and may have to wait; what is meant
        is the document's wish, not which robots run now nor whether it may be done now.
        """
        promised = self.promised
        found = {one.exchange for one in promised if isinstance(one, RestartRobots)}
        if self.restarts:
            found.update(
                one.exchange
                for one in promised
                if isinstance(one, WriteExchange) and one.purpose is Purpose.CHANGE
            )
        if self.restarts and not (self.hold or self.failure):
            found.update(debt.exchange for debt in self.debts if debt.owed is Owed.RESTART)
        others = (one for one in promised if not isinstance(one, RestartRobots))
        return tuple(sorted((*others, *(RestartRobots(one, ()) for one in found)), key=_place))

    @property
    def later(self) -> tuple[Action, ...]:
        """What is promised, and not done by an apply now."""
        now = self.actions
        return tuple(action for action in self.promised if action not in now)

    def _ordered(self, found: Iterable[Action | None]) -> tuple[Action, ...]:
        if self.hold or self.failure:
            return ()
        return tuple(sorted((action for action in found if action is not None), key=_place))

    def select(self, category: Category) -> tuple[Line, ...]:
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
        codes = [line.error for line in self.lines] + [line.error for line in self.disruptions]
        if self.failure:
            codes.append(self.failure.exit_code)
        if self.violations:
            codes.append(Exit.BLOCKED)
        return worst([*codes, self.held_code])


class Plan(Struct, frozen=True):
    """
    All that is to be said and done; `recipients` are all servers that the documents name.
    """

    servers: tuple[ServerPlan, ...]
    recipients: tuple[Recipient, ...] = ()
    skipped: int = 0
    not_visited: tuple[str, ...] = field(default=())

    def __iter__(self) -> Iterator[ServerPlan]:
        return iter(self.servers)

    @property
    def actions(self) -> tuple[tuple[ServerPlan, Action], ...]:
        return tuple((server, action) for server in self.servers for action in server.actions)

    @property
    def id(self) -> str:
        """
        What names this plan: a digest of who would get what, and one of what would be done.

        Covers the recipients and, per server, URL, account and ordered wishes; nothing that
        differs between roles or minutes, nor the order of the servers.  A plan without actions has
        an id as well.
        """
        rows: list[list[object]] = [
            [server.target.url, server.target.account, named]
            for server in self.servers
            if (named := [identity(action, server.windows) for action in server.wished])
        ]
        return f"sha256:{recipients_digest(self.recipients)}-{_digest(rows)}"

    def robots_concerned(self) -> frozenset[tuple[str, int]]:
        """Return (server, robot id) of every robot that keeps an old key, stops or is started."""
        found: set[tuple[str, int]] = set()
        for server in self.servers:
            if server.hold:
                continue
            for line in server.lines:
                if line.ready is not None and line.consequence is not None:
                    found.update((server.server, robot.id) for robot in line.consequence.robots)
            for entry in server.disruptions:
                if entry.ready is not None:
                    found.update((server.server, robot.id) for robot in entry.robots)
        return frozenset(found)


PLAN_ID: Final = re.compile(r"sha256:[0-9a-f]{40}-[0-9a-f]{40}")
"""How a plan's id is spelled: two SHA-256 digests of which 160 bits each are kept."""


def recipients_digest(recipients: Iterable[Recipient]) -> str:
    """Return the first half of a plan's id, which the documents alone decide."""
    return _digest(recipient.identity() for recipient in recipients)


def _digest(rows: Iterable[list[object]]) -> str:
    text = json.dumps(sorted(rows, key=json.dumps), ensure_ascii=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:40]


def _place(action: Action) -> tuple[int, str]:
    exchange = getattr(action, "exchange", "")
    return ORDER.index(type(action)), exchange
