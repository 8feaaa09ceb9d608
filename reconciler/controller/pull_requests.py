"""
A request as a pull request: one commit on a new branch of the followed repository, and its review.

An operator asked for it; nothing is sent to a server, and nothing is merged from here.  Asked for
twice, it is the same branch and the same pull request.
"""

import asyncio
import hashlib
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime
from typing import Final

from msgspec import Struct

from reconciler.ci.forges import Draft, Forge, forge
from reconciler.ci.http import Api, ForgeAway
from reconciler.ci.job import Event, Job
from reconciler.controller.commit_status import SYSTEMS
from reconciler.controller.git_snapshot import snapshot_of
from reconciler.documents import edit
from reconciler.documents.edit import Proposal
from reconciler.documents.edit_position import RequestBlock
from reconciler.errors import Blocked, JtrError, UsageError
from reconciler.model.secret import Secret
from reconciler.model.target import Target
from reconciler.model.timestamps import spelled
from reconciler.render.escape import plain
from reconciler.render.markdown import code
from reconciler.settings.git import GitSettings, branch_problem
from reconciler.system.git_push import Pusher

LONGEST: Final = 300  # characters of a reason and of a name in a pull request


class Opened(Struct, frozen=True):
    """A pull request; `page` is empty where the forge does not say where it is."""

    branch: str
    page: str


class Ask(Struct, frozen=True):
    """
    What an operator asks for: *wish*, of the server at *target*, which they know as *name*.

    `shown` names the change that they saw, empty before they saw one.
    """

    name: str
    target: Target
    wish: RequestBlock
    shown: str = ""

    def heeded(self, proposal: Proposal) -> Proposal:
        """Return a change of the document of *name*.  Raises Blocked where others are meant."""
        check_target(self.name, proposal.server.target, str(self.target))
        if self.shown and self.shown != named(proposal):
            raise Blocked(
                f"the document of {self.name} is not the one that was shown: nothing was changed",
                "prepare it anew",
            )
        return proposal


def check_target(name: str, now: Target, meant: str) -> None:
    """Raise Blocked where a name, which moves, does not mean the server at *meant* any more."""
    if str(now) != meant:
        raise Blocked(
            f"{name} is another server now, at {now}: nothing was changed",
            "see whether that is the one that you mean",
        )


def named(proposal: Proposal) -> str:
    """Return what names the change that people see of a proposal."""
    shown = edit.difference(proposal, proposal.path)
    return hashlib.sha256(shown.encode()).hexdigest()[:40]


class PullRequests:
    """
    Pull requests at one forge, from the commit in force, which *revision* tells.

    Event loop only.  Raises JtrError, whose words name no token.
    """

    def __init__(
        self, mirror: Pusher, git: GitSettings, token: Secret, revision: Callable[[], str]
    ) -> None:
        """*git* names a forge and how its branches begin (`status`, `propose`)."""
        if git.status is None or git.propose is None:
            raise AssertionError
        found = git.status
        self._mirror: Final = mirror
        self._base: Final = git.branch
        self._path: Final = git.path
        self._prefix: Final = git.propose.prefix
        self._job: Final = Job(
            SYSTEMS[found.forge], Event.MAIN, project=found.project, api=found.api
        )
        self._header: Final = "PRIVATE-TOKEN" if found.forge == "gitlab" else "Authorization"
        self._token: Final = token
        self._revision: Final = revision
        self._lock: Final = asyncio.Lock()

    async def start(self) -> None:
        """Nothing: there is nothing to do before somebody asks."""

    async def stop(self) -> None:
        """End what git is doing."""
        self._mirror.stop()

    async def prepared(self, ask: Ask, now: datetime) -> Proposal:
        """Return the change of the document in force that asks for it; writes nothing."""
        return await asyncio.to_thread(self._prepare, ask, self._in_force(), now)

    async def open(self, ask: Ask, by: str, now: datetime) -> Opened:
        """Open the pull request that *by* asks for, or find the one that there is."""
        branch, wish = self._branch(ask), ask.wish
        title = f"Ask for {wish.kind} of {ask.name}"
        who = f"Asked for by {plain(by)} on the page of a controller, at {spelled(wish.instant)}."
        message = f"{title}\n\n{wish.reason}\n\n{who}\n"
        draft = Draft(branch, self._base, title, _body(ask, by))
        async with self._lock, Api(self._job.api, self._token, self._header) as api:
            there = forge(self._job.system, api)
            page = await self._found(there, draft)
            if page is None:
                commit = self._in_force()
                await asyncio.to_thread(self._push, ask, commit, now, message, branch)
                page = await self._opened(there, draft)
        return Opened(branch, page)

    async def _found(self, there: Forge, draft: Draft) -> str | None:
        try:
            return await there.pull(self._job, draft.branch, draft.base)
        except ForgeAway as error:
            raise _told("nothing was pushed", error) from None

    async def _opened(self, there: Forge, draft: Draft) -> str:
        try:
            return await there.open_pull(self._job, draft)
        except ForgeAway as error:
            # Another controller may have been quicker, or the answer was lost on its way.
            with suppress(ForgeAway):
                page = await there.pull(self._job, draft.branch, draft.base)
                if page is not None:
                    return page
            what = f"the branch {draft.branch} is there, but no pull request of it"
            raise _told(what, error) from None

    def _in_force(self) -> str:
        """Return the commit in force."""
        found = self._revision()
        if not found:
            raise JtrError("no documents are in force yet", "wait for the first look")
        return found

    def _branch(self, ask: Ask) -> str:
        # All that is asked for: another reason at the same moment is another request.
        wish = ask.wish
        parts = ask.name, str(ask.target), ask.shown, wish.kind, *wish.values().values()
        digest = hashlib.sha256("\0".join(parts).encode()).hexdigest()[:8]
        branch = f"{self._prefix}{wish.kind}-{ask.name}-{wish.instant:%Y%m%d-%H%M%S}-{digest}"
        if branch_problem(branch) is not None or branch == self._base:
            raise UsageError(f"no branch can be called {branch}", "commit the change by hand")
        return branch

    # ── in a thread ──────────────────────────────────────────────────────────────────────────

    def _prepare(self, ask: Ask, commit: str, now: datetime) -> Proposal:
        with self._mirror.held():
            return self._proposal(ask, commit, now)

    def _proposal(self, ask: Ask, commit: str, now: datetime) -> Proposal:
        if not self._mirror.has(commit):
            raise JtrError(f"commit {commit[:12]} is not in the mirror", "wait for the next look")
        snapshot = snapshot_of(self._mirror, commit, self._path)
        return ask.heeded(edit.propose_in(snapshot, ask.name, ask.wish, now))

    def _push(self, ask: Ask, commit: str, now: datetime, message: str, branch: str) -> None:
        with self._mirror.held():
            found = self._proposal(ask, commit, now)
            at = ask.wish.instant
            made = self._mirror.commit(commit, found.path, found.after, message, at)
            self._mirror.push(made, branch)  # one that is there already is the one of this request


def _told(what: str, error: ForgeAway) -> JtrError:
    return JtrError(f"{what}: {error.what}", "check git.status and the token of git.propose")


def _body(ask: Ask, by: str) -> str:
    """Return what reviewers read; what people typed is code there, which calls nobody."""
    wish = ask.wish
    rows = [
        ("Server", ask.name),
        ("Address", str(ask.target)),
        ("Request", str(wish.kind)),
        ("Reason", wish.reason),
        ("Asked for by", by),
        ("At", spelled(wish.instant)),
    ]
    lines = [f"- {label}: {code(value, LONGEST)}" for label, value in rows]
    return "\n".join([*lines, "", "Nothing happens before this is merged.", ""])
