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
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from reconciler.errors import Exit, JtrError, worst
from reconciler.model.actions import ORDER, Action, Consequence, Disruptive, Reason, identity
from reconciler.model.desired import RequestKind
from reconciler.model.observed import Robot
from reconciler.model.policy import Violation
from reconciler.model.recipients import NewRecipient, Recipient
from reconciler.model.recorded import Debt
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
    kind: RequestKind | None = None
    instant: datetime | None = None
    source: SourceLine | None = None
    error: Exit = Exit.DONE

    @property
    def ready(self) -> Disruptive | None:
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
        return None if self.asks else self.action


@dataclass(frozen=True, slots=True)
class ServerPlan:
    """
    All that is to be said and done for one server.

    `held` says why nothing at all is applied to it (suspended, only observed, blocked); `failure`
    is what prevented a comparison.  `new_recipient` says what it would get that it never got,
    `violations` what its document asks for and the policy does not allow.
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
    held: str = ""
    held_code: Exit = Exit.DONE
    held_remedy: str = ""
    failure: JtrError | None = None
    unseen: tuple[Action, ...] = ()  # what it would get if it is empty, which nobody has looked at
    observed_at: str = ""
    age: float | None = None  # seconds since a recorded observation; None when just visited

    @property
    def actions(self) -> tuple[Action, ...]:
        """What apply would do, in the order of doing."""
        disruptive = (line.ready for line in self.disruptions)
        return self._ordered((*(line.ready for line in self.lines), *disruptive))

    @property
    def promised(self) -> tuple[Action, ...]:
        """
        What it is bound to do sooner or later: the actions, and what waits for its time.

        Also what only waits for a yes to a new recipient: whoever expects this plan says it; and
        what a server that nobody has seen yet gets once somebody finds it empty.
        """
        if self.unseen and self.failure is None:
            return tuple(sorted(self.unseen, key=_place))
        later = (d.action for d in self.disruptions if d.standing in BOUND)
        asked = (line.action for line in self.lines if line.asks == ASK_RECIPIENT)
        return self._ordered((*self.actions, *later, *asked))

    def _ordered(self, found: Iterable[Action | None]) -> tuple[Action, ...]:
        if self.held or self.failure:
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


@dataclass(frozen=True, slots=True)
class Plan:
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

        Covers the recipients and, per server, URL, account and ordered actions; nothing that
        differs between roles or minutes, nor the order of the servers.  A plan without actions has
        an id as well.
        """
        rows: list[list[object]] = [
            [server.target.url, server.target.account, named]
            for server in self.servers
            if (named := [row for action in server.promised if (row := identity(action))])
        ]
        return f"sha256:{recipients_digest(self.recipients)}-{_digest(rows)}"

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
