"""
A request as a pull request: one commit on a new branch of the followed repository, and its review.

An operator asked for it; nothing is sent to a server, and nothing is merged from here.  Asked for
twice, it is the same branch and the same pull request.
"""

import asyncio
import hashlib
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from reconciler.ci.forges import Draft, Forge, forge
from reconciler.ci.http import Api, ForgeAway
from reconciler.ci.job import Event, Job
from reconciler.controller.commit_status import SYSTEMS
from reconciler.controller.git_snapshot import snapshot_of
from reconciler.documents import edit
from reconciler.documents.edit import Proposal
from reconciler.documents.edit_position import RequestBlock
from reconciler.errors import JtrError, UsageError
from reconciler.model.secret import Secret
from reconciler.model.timestamps import spelled
from reconciler.render.escape import plain
from reconciler.render.markdown import code
from reconciler.settings.git import GitSettings, branch_problem
from reconciler.system.git_push import Pusher

LONGEST: Final = 300  # characters of a reason and of a name in a pull request


@dataclass(frozen=True, slots=True)
class Opened:
    """A pull request; `page` is empty where the forge does not say where it is."""

    branch: str
    page: str


@dataclass(frozen=True, slots=True)
class _Asked:
    commit: str
    name: str
    wish: RequestBlock
    now: datetime


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

    async def prepared(self, name: str, wish: RequestBlock, now: datetime) -> Proposal:
        """Return the change of the document in force that asks for *wish*; writes nothing."""
        return await asyncio.to_thread(self._prepare, _Asked(self._in_force(), name, wish, now))

    async def open(self, name: str, wish: RequestBlock, by: str, now: datetime) -> Opened:
        """Open the pull request of *wish*, which *by* asks for, or find the one that there is."""
        branch = self._branch(name, wish)
        title = f"Ask for {wish.kind} of {name}"
        who = f"Asked for by {plain(by)} on the page of a controller, at {spelled(wish.instant)}."
        message = f"{title}\n\n{wish.reason}\n\n{who}\n"
        draft = Draft(branch, self._base, title, _body(name, wish, by))
        async with self._lock, Api(self._job.api, self._token, self._header) as api:
            there = forge(self._job.system, api)
            page = await self._found(there, draft)
            if page is None:
                asked = _Asked(self._in_force(), name, wish, now)
                await asyncio.to_thread(self._push, asked, message, branch)
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

    def _branch(self, name: str, wish: RequestBlock) -> str:
        # All that is asked for: another reason at the same moment is another request.
        words = "\0".join((name, wish.kind, *wish.values().values()))
        digest = hashlib.sha256(words.encode()).hexdigest()[:8]
        branch = f"{self._prefix}{wish.kind}-{name}-{wish.instant:%Y%m%d-%H%M%S}-{digest}"
        if branch_problem(branch) is not None or branch == self._base:
            raise UsageError(f"no branch can be called {branch}", "commit the change by hand")
        return branch

    # ── in a thread ──────────────────────────────────────────────────────────────────────────

    def _prepare(self, asked: _Asked) -> Proposal:
        with self._mirror.held():
            return self._proposal(asked)

    def _proposal(self, asked: _Asked) -> Proposal:
        commit = asked.commit
        if not self._mirror.has(commit):
            raise JtrError(f"commit {commit[:12]} is not in the mirror", "wait for the next look")
        snapshot = snapshot_of(self._mirror, commit, self._path)
        return edit.propose_in(snapshot, asked.name, asked.wish, asked.now)

    def _push(self, asked: _Asked, message: str, branch: str) -> None:
        with self._mirror.held():
            found = self._proposal(asked)
            at = asked.wish.instant
            made = self._mirror.commit(asked.commit, found.path, found.after, message, at)
            self._mirror.push(made, branch)  # one that is there already is the one of this request


def _told(what: str, error: ForgeAway) -> JtrError:
    return JtrError(f"{what}: {error.what}", "check git.status and the token of git.propose")


def _body(name: str, wish: RequestBlock, by: str) -> str:
    """Return what reviewers read; what people typed is code there, which calls nobody."""
    rows = [
        ("Server", name),
        ("Request", str(wish.kind)),
        ("Reason", wish.reason),
        ("Asked for by", by),
        ("At", spelled(wish.instant)),
    ]
    lines = [f"- {label}: {code(value, LONGEST)}" for label, value in rows]
    return "\n".join([*lines, "", "Nothing happens before this is merged.", ""])
