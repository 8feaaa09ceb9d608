"""What `jtr apply` was told to expect: a plan's id, its file, or what the pull request proposed."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Protocol

import click
from msgspec import Struct

from reconciler.ci.job import Event, Job
from reconciler.documents.files import work_tree
from reconciler.documents.schema import PLAN, valid
from reconciler.errors import Blocked, Exit, UsageError
from reconciler.ledger import Conflict
from reconciler.ledger.ledger import Ledger
from reconciler.ledger.revisions import tidy
from reconciler.model.codec import Malformed
from reconciler.model.desired import DesiredState
from reconciler.model.plan import PLAN_ID, Plan, recipients_digest
from reconciler.model.proposals import (
    ROWS,
    Merged,
    Proposal,
    PullRequest,
    action_rows,
    documents_digest,
    merged,
    recipient_rows,
)
from reconciler.model.recipients import Recipient
from reconciler.observe.context import PassContext
from reconciler.render.escape import plain
from reconciler.render.json_values import to_json
from reconciler.render.plan_json import FILE_LIMIT, plan_document, read_sealed
from reconciler.system.console import say
from reconciler.system.git import WorkTree


class Expectation(Protocol):
    """The plan that may be applied; what it says to people goes to standard error."""

    @property
    def ids(self) -> Sequence[str]:
        """The ids of the plans that count as this one, for what was applied already."""
        ...

    @property
    def settled(self) -> bool:
        """Whether all of it is known to have been applied."""
        ...

    def check(self, state: DesiredState) -> None:
        """Raise Blocked, before any server is contacted, when documents name other recipients."""
        ...

    def agreed(self, state: DesiredState) -> frozenset[str]:
        """Return the servers that may get what they never got: somebody saw it, see `check`."""
        ...

    def fits(self, plan: Plan) -> bool:
        """Whether *plan* may be applied."""
        ...

    def moved(self, plan: Plan) -> Sequence[str]:
        """Return the lines in which *plan* differs."""
        ...

    def asked(self, plan: Plan) -> Sequence[Proposal]:
        """Return the proposals whose wish *plan* does."""
        ...

    def begun(self, ledger: Ledger) -> None:
        """Note that nothing older may be applied from now on.  Raises Blocked, LedgerError."""
        ...

    def outrun(self, ledger: Ledger) -> Blocked | None:
        """Return why it may not be applied any more, since `begun`.  Raises LedgerError."""
        ...

    def applied(self, ledger: Ledger) -> None:
        """Note that it was applied to its end."""
        ...


class Expected(Struct, frozen=True):
    """The plan that may be applied: its id, and what a file told of it, as lines for people."""

    id: str
    recipients: tuple[str, ...] = ()
    actions: tuple[str, ...] = ()

    @property
    def ids(self) -> Sequence[str]:
        return (self.id,)

    @property
    def settled(self) -> bool:
        return False

    def check(self, state: DesiredState) -> None:
        recipients = tuple(map(Recipient.of, state.servers))
        if self.id.startswith(f"sha256:{recipients_digest(recipients)}-"):
            return
        say("the documents name other recipients than the expected plan:")
        show(_differences(self.recipients, _recipients({"recipients": to_json(recipients)})))
        raise _other_recipients("the expected plan", "look at a new plan, and expect that one")

    def agreed(self, state: DesiredState) -> frozenset[str]:
        return frozenset(server.name for server in state.servers)

    def fits(self, plan: Plan) -> bool:
        return plan.id == self.id

    def moved(self, plan: Plan) -> Sequence[str]:
        found = _differences(self.actions, _actions(plan_document(plan, Exit.DONE)))
        return found or [OTHER_TERMS]

    def asked(self, plan: Plan) -> Sequence[Proposal]:
        del plan
        return ()

    def begun(self, ledger: Ledger) -> None:
        """Whoever gives an id says that it is this one, whatever came before."""

    def outrun(self, ledger: Ledger) -> None:
        """Whoever gives an id says that it is this one, whatever comes after."""

    def applied(self, ledger: Ledger) -> None:
        """Its id is noted by whoever applied it."""


class Proposed(Struct, frozen=True):
    """
    What merged pull requests proposed; see `reconciler.model.proposals.Merged`.

    `head` is the commit that is checked out of `repository`, `before` are those that were applied
    last of `folders`, or from above or below them, when it was judged whether it comes after them.
    """

    merged: Merged
    repository: str
    folders: tuple[str, ...]
    head: str
    before: frozenset[str]

    @property
    def ids(self) -> Sequence[str]:
        return [one.plan for one in self.merged.proposals]

    @property
    def settled(self) -> bool:
        return not self.merged.open

    def check(self, state: DesiredState) -> None:
        if self.merged.fitting is not None:
            return
        newest = self.merged.newest
        known = set(newest.recipients)
        rows = recipient_rows(map(Recipient.of, state.servers))
        gone = known - {row.digest[:SHORT] for row in rows}
        say(f"the documents name other recipients than {told(newest)} proposed:")
        show(f"+ {row.text}" for row in rows if row.digest[:SHORT] not in known)
        if gone:
            show([f"- {len(gone)} that it had, and that are no more, or are changed"])
        raise _other_recipients(told(newest), REPROPOSE)

    def agreed(self, state: DesiredState) -> frozenset[str]:
        # What was applied to its end brought all that it names: what is new now, nobody saw.
        fitting = self.merged.fitting
        if fitting is None or fitting.settled:
            return frozenset()
        return frozenset(server.name for server in state.servers)

    def fits(self, plan: Plan) -> bool:
        return not self.merged.unreviewed(plan)

    def moved(self, plan: Plan) -> Sequence[str]:
        return list(self.merged.moved(plan))

    def asked(self, plan: Plan) -> Sequence[Proposal]:
        return self.merged.asked(plan)

    def begun(self, ledger: Ledger) -> None:
        # What was compared when the job began may not hold any more, whichever commit it is of.
        try:
            ledger.revisions.apply(self.repository, self.folders, self.head, after=self.before)
        except Conflict:
            raise _outrun(self.head) from None
        ledger.proposals.begin(self.merged.proposals, self.head)

    def outrun(self, ledger: Ledger) -> Blocked | None:
        known = ledger.revisions.applied(self.repository, self.folders)
        holds = self.head in known and known <= {*self.before, self.head}
        return None if holds else _outrun(self.head)

    def applied(self, ledger: Ledger) -> None:
        ledger.proposals.settle((*self.merged.proposals, *self.merged.past))


OTHER_TERMS = (
    "  the actions are the same: what the documents wish about robots, or their windows, is not"
)
SHORT = 16
"""Digits of a recipient's digest that a proposal keeps: to say which lines moved, no more."""
REPROPOSE = (
    "let reviewers see it anew: rebase the pull request, or open another one; require branches to "
    "be up to date before they are merged, or use a merge queue"
)


def told(proposal: Proposal) -> str:
    where = plain(str(proposal.pull), 100)
    return f"{where} at {proposal.commit[:12]}"


def _other_recipients(than: str, remedy: str) -> Blocked:
    return Blocked(
        f"who would get what is not as in {than}: nothing was contacted",
        remedy,
    )


def expectation(expected: str) -> Expected:
    """Read what --expect was given.  Raises UsageError."""
    if PLAN_ID.fullmatch(expected):
        return Expected(expected)
    try:
        with Path(expected).open("rb") as file:
            document = read_sealed(file.read(FILE_LIMIT + 1))
        if valid(document, PLAN):
            return Expected(document["planId"], _recipients(document), _actions(document))
    except Malformed as problem:
        raise UsageError(
            f"{plain(expected)} is not what `jtr plan -o json` wrote: {problem}",
            "look at a new plan, and expect that one",
        ) from None
    except (OSError, ValueError):
        pass  # said below
    raise UsageError(
        "--expect takes a plan's id, sha256:..., or the file of `jtr plan -o json`",
        "give one of them, of this version of jtr",
    )


def checkout(paths: Sequence[str]) -> WorkTree:
    """Return the Git work tree of the documents.  Raises UsageError where they lie in none."""
    root = work_tree(Path(paths[0]).resolve())
    if root is None:
        raise UsageError(
            f"{plain(paths[0])} lies in no Git work tree", "name documents in a checkout"
        )
    return WorkTree(root)


def proposed(
    ledger: Ledger | None,
    state: DesiredState,
    paths: Sequence[str],
    *,
    allow_rollback: bool = False,
) -> Proposed:
    """
    Return what pull requests proposed that were merged into HEAD.

    Raises Blocked where none was: nobody saw what this would do; and where HEAD does not come after
    what was applied last, unless *allow_rollback*: a job that is run again has an old checkout, and
    the proposal that was merged into it.
    """
    if ledger is None:
        raise Blocked("there is no ledger, so nothing was proposed", "jtr ledger init")
    tree = checkout(paths)
    if tree.shallow():
        raise Blocked(
            "this checkout has a part of the history only: nobody can tell what was merged, and "
            "whether something newer was applied, so nothing was contacted",
            'fetch the whole history (fetch-depth: 0, GIT_DEPTH: "0")',
        )
    head, repository = tree.head(), tree.first()
    folders = tidy(tree.below(Path(one)) for one in paths)
    before = ledger.revisions.applied(repository, folders)
    known = ledger.proposals.all()
    marks = {one.commit for one in known} | {one.merged for one in known} | before
    commits = tree.merged(marks)
    if (newer := sorted(before - commits)) and not allow_rollback:
        raise _went_back(tree, head, newer[0])
    digest = recipients_digest(map(Recipient.of, state.servers))
    found = merged(known, commits, documents_digest(state), digest)
    if found is None:
        raise Blocked(
            "no proposal was merged here: nobody saw what this would do, so nothing was contacted",
            "pull requests propose with: jtr plan --recorded --propose; to apply what you "
            "looked at yourself: jtr apply --expect PLANID",
        )
    return Proposed(found, repository, folders, head, before)


def _outrun(head: str) -> Blocked:
    return Blocked(
        f"another commit of these documents was applied since the job of commit {head[:12]} began",
        "the job of the newest commit does what is left; run that one again if it did not",
    )


def _went_back(tree: WorkTree, head: str, before: str) -> Blocked:
    if tree.older(before):
        return Blocked(
            f"commit {head[:12]} is older than {before[:12]}, which was applied last: nothing was "
            "contacted",
            "to go back, revert what came after it by a new commit, which reviewers see; a job of "
            "an older commit need not be run again: the newest does what is left",
        )
    return Blocked(
        f"commit {head[:12]} does not come after {before[:12]}, which was applied last: nothing "
        "was contacted",
        "run the job of the newest commit; where the branch was rewritten, make a commit on top of "
        "that one, or once, by hand: jtr apply --expect-proposed --allow-rollback",
    )


def propose(
    plan: Plan, state: DesiredState, paths: Sequence[str], context: PassContext, job: Job
) -> Proposal:
    """
    Note in the ledger that reviewers are shown *plan*; the one thing that `jtr plan` ever writes.

    Outside of a pull request's job it is proposed for the commit that is checked out.
    """
    if context.ledger is None:
        raise Blocked("there is no ledger to propose in", "jtr ledger init, on a ledger of all")
    reviewed = job.event in (Event.PULL_REQUEST, Event.MERGE_QUEUE)
    rows = action_rows(plan)
    found = Proposal(
        plan.id,
        (job.commit if reviewed else "") or checkout(paths).head(),
        documents_digest(state),
        context.now(),
        context.label,
        job.pull if reviewed else PullRequest(),
        rows if len(rows) <= ROWS else (),
        tuple(row.digest[:SHORT] for row in recipient_rows(plan.recipients)),
    )
    context.ledger.proposals.note(found)
    return found


def _recipients(document: dict[str, Any]) -> tuple[str, ...]:
    return tuple(
        f"{one['server']}: {one['url']} (account {one['account']}), "
        f"login {_listed(one['login'])}, values of {_listed(one['paths'])}"
        for one in document["recipients"]
    )


def _listed(references: list[str]) -> str:
    return ", ".join(map(str, references)) or "none"


def _actions(document: dict[str, Any]) -> tuple[str, ...]:
    return tuple(
        _action(server["server"], action)
        for server in document["servers"]
        for action in (*server["actions"], *server["later"])
    )


def _action(server: str, action: dict[str, Any]) -> str:
    sources = action.get("sources")
    origin = f" from {_listed(sources)}" if sources else ""
    what = action.get("exchange") or action.get("instant") or "robots"
    after = f", robots: {action['robots']}" if action["kind"] == "reboot" else ""
    return f"{server}: {action['kind']} {what}{origin}{after}"


def _differences(known: Sequence[str], present: Sequence[str]) -> list[str]:
    if not known:
        return [f"  now: {row}" for row in present]
    gone = [f"- {row}" for row in known if row not in present]
    return gone + [f"+ {row}" for row in present if row not in known]


def show(rows: Iterable[str]) -> None:
    for row in rows:
        click.echo(f"     {plain(row, 2000)}", err=True)
