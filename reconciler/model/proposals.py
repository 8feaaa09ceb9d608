"""
What a pull request's plan said: noted when it was shown to reviewers, looked up when it is merged.

Pure.  A proposal is evidence, not authority: it can only make an apply refuse.  What is applied is
what the merged documents say, and no more of it than proposals name.
"""

import enum
import hashlib
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Final

from msgspec import Struct
from msgspec.structs import force_setattr

from reconciler.model.actions import (
    Action,
    InvalidateCache,
    RebootServer,
    RestartRobots,
    WriteExchange,
    identity,
    told,
)
from reconciler.model.codec import Later
from reconciler.model.desired import Afterwards, DesiredState
from reconciler.model.plan import Plan, ServerPlan
from reconciler.model.recipients import Recipient
from reconciler.model.recipients import told as listed
from reconciler.model.source import SourceLine
from reconciler.model.values import replace

KEPT: Final = 50  # proposals
ROWS: Final = 1000  # actions of one; a plan with more can only be applied whole, by its id
TEXT: Final = 300  # characters that a row keeps for people
NUMBER: Final = re.compile(r"[1-9][0-9]{0,11}")


class PullRequest(Struct, frozen=True):
    """
    Where reviewers see it; each is empty where nobody told.

    The number is digits, whoever told it: it becomes a part of a path of the forge's API, and
    whoever pushes a branch can write it into the ledger.
    """

    branch: str = ""
    number: str = ""
    url: str = ""
    author: str = ""

    def __post_init__(self) -> None:
        if not NUMBER.fullmatch(self.number):
            force_setattr(self, "number", "")

    def __str__(self) -> str:
        return f"#{self.number}" if self.number else self.branch or "no pull request"


class ProposedRow(Struct, frozen=True):
    """One action, or one recipient: what it is compared by, and what people read."""

    digest: str
    text: str


class Proposal(Struct, frozen=True):
    """
    A plan that reviewers were shown.

    `commit` is what they looked at, `documents` a digest of what its documents mean: the same after
    a squash or a rebase.  `recipients` are digests alone.  `settled` says that it was applied, or
    that something later was; `merged` is the first commit that was applied with its documents.
    """

    plan: str
    commit: str
    documents: str
    at: datetime
    by: str
    pull: PullRequest
    actions: tuple[ProposedRow, ...]
    recipients: tuple[str, ...]
    settled: bool = False
    merged: Later[str] = ""

    @property
    def recipients_digest(self) -> str:
        """The first half of the plan's id."""
        return self.plan.removeprefix("sha256:").partition("-")[0]

    def replaces(self, other: "Proposal") -> bool:
        """Whether *other* is an older word of the same pull request: nobody agrees to that now."""
        return self.subject == other.subject

    @property
    def subject(self) -> str:
        """What was reviewed, through all its commits."""
        return self.pull.url or self.pull.number or self.pull.branch or self.commit


def noted(known: Sequence[Proposal], new: Proposal) -> tuple[Proposal, ...]:
    """Return what is kept when *new* was shown, newest last."""
    if any(_as_told(one) == _as_told(new) for one in known):
        return tuple(known)  # said twice
    left = [one for one in known if not new.replaces(one)]
    return (*left, new)[-KEPT:]


def _as_told(one: Proposal) -> tuple[object, ...]:
    return one.plan, one.commit, one.documents, one.pull, one.actions, one.settled


def settled(known: Sequence[Proposal], done: Iterable[Proposal]) -> tuple[Proposal, ...]:
    """Return *known* with those that were just applied marked."""
    names = set(map(_name, done))
    return tuple(replace(one, settled=one.settled or _name(one) in names) for one in known)


def begun(
    known: Sequence[Proposal], found: Iterable[Proposal], commit: str
) -> tuple[Proposal, ...]:
    """
    Return *known* with *commit* in those that were *found* merged in it for the first time.

    After a squash no commit leads to them once the documents mean something else; by this one they
    are found to be over.
    """
    names = set(map(_name, found))
    return tuple(
        replace(one, merged=commit) if _name(one) in names and not one.merged else one
        for one in known
    )


def _name(one: Proposal) -> tuple[object, ...]:
    return one.plan, one.commit, one.at


# ── what a plan proposes ─────────────────────────────────────────────────────────────────────


def action_rows(plan: Plan) -> tuple[ProposedRow, ...]:
    """Return a row for each action that decides a plan's id, in their order."""
    return _rows(plan, lambda server: server.wished)


def _rows(plan: Plan, chosen: Callable[[ServerPlan], Iterable[Action]]) -> tuple[ProposedRow, ...]:
    return tuple(
        ProposedRow(
            _digest([server.target.url, server.target.account, identity(one, server.windows)]),
            _text(server, one),
        )
        for server in plan
        for one in chosen(server)
    )


def _agreed_to(server: ServerPlan) -> Iterator[Action]:
    """
    Yield what somebody must have agreed to: all that is bound to come, restarts with their writes.

    Robots that are owed a restart which cannot be done, or must not be now, stand against nothing.
    """
    comes = {one.exchange for one in server.promised if isinstance(one, WriteExchange)}
    comes |= {one.exchange for one in server.promised if isinstance(one, RestartRobots)}
    for one in server.wished:
        if not isinstance(one, RestartRobots) or one.exchange in comes:
            yield one


def recipient_rows(recipients: Iterable[Recipient]) -> tuple[ProposedRow, ...]:
    return tuple(
        ProposedRow(
            _digest(one.identity()),
            f"{one.server}: {one.target}, login {listed(one.login)}, values of {listed(one.paths)}",
        )
        for one in recipients
    )


def _text(server: ServerPlan, action: Action) -> str:
    sources = action.sources if isinstance(action, WriteExchange) else ()
    origin = f" from {', '.join(str(ref) for _, ref in sources)}" if sources else ""
    return f"{server.server}: {told(action)}{origin}{_terms(server, action)}"[:TEXT]


def _terms(server: ServerPlan, action: Action) -> str:
    """Return what the document wishes besides, as far as it tells one action from another."""
    found = ""
    if isinstance(action, RebootServer):
        resumes = action.robots is Afterwards.RESUME
        within = f" within {action.resume_within:g} s" if resumes else ""
        found = f", robots: {action.robots}{within}"
    if server.windows and isinstance(action, RestartRobots | InvalidateCache | RebootServer):
        found += f", {' and '.join(server.windows)}"
    return found


def _digest(value: object) -> str:
    text = json.dumps(value, ensure_ascii=True, separators=(",", ":"), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:40]


def documents_digest(state: DesiredState) -> str:
    """
    Return a digest of what documents mean, not of how and on which lines they say it.

    Two commits of one digest ask for the same, in the same files.
    """
    servers = sorted((*state.servers, *state.others), key=lambda server: server.name)
    return f"sha256:{_digest([_meaning(server) for server in servers])}"


def say_the_same(one: DesiredState, other: DesiredState) -> bool:
    """
    Whether two states without selection ask for the same, wherever and in whatever words.

    What was not read anew is the same object, and is not looked at.
    """
    both = zip(one.servers, other.servers, strict=False)
    return len(one.servers) == len(other.servers) and all(
        old is new or _meaning(old) == _meaning(new) for old, new in both
    )


def _meaning(value: Any) -> Any:
    match value:
        case Struct():
            found = ((name, getattr(value, name)) for name in value.__struct_fields__)
            return {name: _meaning(one) for name, one in found if not isinstance(one, SourceLine)}
        case enum.Enum():
            return str(value.value)
        case datetime() | timedelta():
            return str(value)
        case Mapping():
            return {str(key): _meaning(one) for key, one in value.items()}
        case frozenset():
            return sorted(json.dumps(_meaning(one), sort_keys=True) for one in value)
        case tuple() | list():
            return [_meaning(one) for one in value if not isinstance(one, SourceLine)]
        case None | bool() | int() | float() | str():
            return value
    return str(value)  # an address, a network


# ── what a merge may do ──────────────────────────────────────────────────────────────────────


class Merged(Struct, frozen=True):
    """
    The proposals that were merged, the newest last; there is at least one.

    `recipients` is the first half of the id of every plan that the documents now make, `documents`
    the digest of these.  `commits` are those that HEAD has.  `past` are others that a commit before
    HEAD merged: over, once HEAD was applied to its end.
    """

    proposals: tuple[Proposal, ...]
    recipients: str
    past: tuple[Proposal, ...] = ()
    commits: frozenset[str] = frozenset()
    documents: str = ""

    @property
    def fitting(self) -> Proposal | None:
        """The one HEAD is about whose reviewers saw who would get what as it now is."""
        found = [one for one in self.proposals if one.recipients_digest == self.recipients]
        return self._about(found) if found else None

    @property
    def newest(self) -> Proposal:
        return self.fitting or self.proposals[-1]

    def _about(self, found: Sequence[Proposal]) -> Proposal:
        """
        Return the one of *found* that HEAD is about: the newest that is open and has both marks.

        Whoever touches no document means what the documents mean already, merged or not: of those
        that are found by meaning alone the first one made them so.
        """
        left = [one for one in found if not one.settled]
        meant = [one for one in left if one.documents == self.documents]
        both = [one for one in meant if one.commit in self.commits]
        return (both[-1:] or meant[:1] or left[-1:] or found[-1:])[0]

    @property
    def open(self) -> tuple[Proposal, ...]:
        """Those that were not applied yet: several where merges were quicker than the jobs."""
        return tuple(one for one in self.proposals if not one.settled)

    def unreviewed(self, plan: Plan) -> list[ProposedRow]:
        """
        Return the actions of *plan* that no merged and open proposal names.

        What a proposal names beyond that was done meanwhile, or is not needed any more.
        """
        if any(one.plan == plan.id for one in self.open):
            return []
        known = {row.digest for one in self.open for row in one.actions}
        return [row for row in _rows(plan, _agreed_to) if row.digest not in known]

    def asked(self, plan: Plan) -> tuple[Proposal, ...]:
        """
        Return the proposals whose wish *plan* does, in their order.

        Of several that name an action it is the first one that HEAD has: later plans name what
        waits as well.  One that is found by meaning alone may not be merged at all, so it counts
        only for what no other one names.
        """
        found = set()
        has = [one for one in self.open if one.commit in self.commits]
        order = [*has, *(one for one in self.open if one not in has)]
        names = [(one, {row.digest for row in one.actions}) for one in order]
        for row in _rows(plan, lambda server: server.actions):
            by_row = (one for one, known in names if row.digest in known)
            by_id = (one for one in order if one.plan == plan.id)
            found.add(next(by_row, None) or next(by_id, None))
        return tuple(one for one in self.open if one in found)

    def moved(self, plan: Plan) -> Iterator[str]:
        """Yield the lines in which *plan* differs from what reviewers saw."""
        now = _rows(plan, _agreed_to)
        present = {row.digest for row in action_rows(plan)}
        told = {row.digest: row.text for one in self.open for row in one.actions}
        for digest, text in told.items():
            if digest not in present:
                yield f"- {text}"
        for row in now:
            if row.digest not in told:
                yield f"+ {row.text}"


def merged(
    known: Iterable[Proposal], commits: Iterable[str], documents: str, recipients: str
) -> Merged | None:
    """
    Return the proposals of *known* that were merged; None if none was.

    One is if HEAD has its commit (*commits* are those that it has), or if its documents are the
    very ones that are now in force: after a squash, a rebase or a merge queue.  *recipients* is
    the digest of who would get what by these.
    """
    here, known = frozenset(commits), tuple(known)
    found = tuple(one for one in known if one.commit in here or one.documents == documents)
    past = tuple(one for one in known if one.merged in here and one not in found)
    return Merged(found, recipients, past, here, documents) if found else None
