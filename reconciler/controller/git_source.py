"""
Documents on a branch of a repository: fetched, judged and put into force, commit by commit.

A commit comes into force only if it is at the head of the branch, has the one that is in force in
its history, is signed by somebody who counts where that is asked for, and holds nothing but valid
documents.  Whatever it is not, the last good one stays.  Nothing that wakes this is believed.

What is in force is what the ledger says at each look, for every controller that shares it, and when
one takes the place of another: one that cannot have that commit has nothing in force.
"""

import asyncio
import logging
import random
from collections.abc import Callable
from contextlib import suppress
from typing import Final, Self

from reconciler.controller.dependencies import Revisions
from reconciler.controller.document_source import TRIES, Reading, first_of
from reconciler.controller.git_snapshot import snapshot_of
from reconciler.controller.status import Refusal
from reconciler.documents.load import Loader
from reconciler.errors import InvalidConfig, JtrError
from reconciler.ledger import Conflict
from reconciler.ledger.compare_and_set import restless
from reconciler.model.origin import Origin, pull_of
from reconciler.model.values import replace
from reconciler.system.descriptors import make_room_for
from reconciler.system.git import GitError
from reconciler.system.git_mirror import Mirror, Unsigned
from reconciler.system.timeouts import Timeouts

LOG: Final = logging.getLogger("reconciler.controller")


class GitSource:
    """
    The documents at *path* of the mirror's branch, called *branch* in the ledger.

    With *verify* the newest commit must be signed.  With *allow_rollback* the first commit that is
    found needs not come after the one that was in force before; later ones do.
    """

    def __init__(
        self,
        mirror: Mirror,
        branch: str,
        path: str,
        timeouts: Timeouts,
        *,
        verify: bool = False,
        allow_rollback: bool = False,
        luck: Callable[[], float] = random.random,
    ) -> None:
        self._mirror: Final = mirror
        self._branch: Final = branch
        self._path: Final = path
        self._interval: Final = timeouts.interval
        self._verify: Final = verify
        self._allowed = allow_rollback
        self._luck: Final = luck
        self._woken: Final = asyncio.Event()
        self._open: Final = asyncio.Event()
        self._revisions: Revisions | None = None
        self._looked = False
        self._turn: Final = asyncio.Lock()  # one look at a time
        self._loader: Final = Loader()
        self._reading = Reading()
        self._looks = 0
        self._newest = ""  # the last commit that was in force here, whatever the ledger says now
        self._told: tuple[str, str, str, Refusal] | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self._mirror.stop()

    def poke(self) -> None:
        self._woken.set()

    def remember(self, revisions: Revisions) -> None:
        self._revisions = revisions
        self._open.set()

    async def changed(self) -> Reading:
        await self._open.wait()
        while True:
            if self._looked:
                await self._wait()
            self._woken.clear()
            async with self._turn:
                found = await asyncio.to_thread(self._look)
            self._looked = True
            marks = (found.revision, found.attempted, found.trouble, found.refusal)
            if marks != self._told:
                self._told = marks
                return found

    async def confirmed(self) -> Reading | None:
        async with self._turn:
            return await asyncio.to_thread(self._confirmed)

    def _confirmed(self) -> Reading | None:
        for _ in range(TRIES):
            if self._revisions is None:
                raise AssertionError
            # With nothing in force nothing is done before a later look, which asks the ledger.
            if self._reading.revision in ("", self._revisions.last(self._branch)):
                return self._reading if self._looks else None
            self._look()
        raise restless("what is in force")

    async def _wait(self) -> None:
        """Wait until somebody wakes us, or for an interval, give or take a tenth."""
        with suppress(TimeoutError):
            async with asyncio.timeout(self._interval * (0.9 + 0.2 * self._luck())):
                await self._woken.wait()

    # ── one look, in a thread ────────────────────────────────────────────────────────────────

    def _look(self) -> Reading:
        """Return what is in force after a look at the branch; never raises for what is there."""
        try:
            with self._mirror.held():
                self._reading = self._settled()
                self._newest = self._reading.revision or self._newest
        except JtrError as error:
            self._reading = replace(self._reading, trouble=str(error), refusal=Refusal.AWAY)
        except Exception as error:
            LOG.exception("a look at the branch failed: %s", type(error).__name__)
            why = f"the branch cannot be read ({type(error).__name__}); please report this"
            self._reading = replace(self._reading, trouble=why, refusal=Refusal.AWAY)
        self._looks += 1
        self._reading = replace(self._reading, look=self._looks)
        return self._reading

    def _settled(self) -> Reading:
        """Look until no other controller puts something into force meanwhile."""
        for _ in range(TRIES):
            with suppress(Conflict):
                return self._found()
        raise restless("what is in force")

    def _found(self) -> Reading:
        if self._revisions is None:
            raise AssertionError
        noted = self._revisions.last(self._branch)
        try:
            head = self._mirror.fetch()
        except JtrError as error:
            words = f"the repository cannot be fetched: {error}"
            return self._kept(noted, "", Refusal.AWAY, words)
        if head == noted == self._reading.revision:
            return replace(self._reading, trouble="", attempted=head)
        for before in (noted, self._newest):
            if before and not self._allowed and not self._mirror.descends(head, before):
                return self._kept(noted, head, Refusal.WENT_BACK, _went_back(before, head))
        try:
            reading = self._judged(head)
        except JtrError as error:
            trouble = first_of(error) if isinstance(error, InvalidConfig) else str(error)
            return self._kept(noted, head, _refusal(error), f"commit {head[:12]}: {trouble}")
        self._mirror.keep(head)
        self._revisions.note(self._branch, head, after=noted)
        self._allowed = False
        return reading

    def _kept(self, noted: str, head: str, refusal: Refusal, trouble: str) -> Reading:
        """Return what is in force although the *head* of the branch, "" if unknown, is not."""
        reading = self._resumed(noted)
        if not head and reading.revision:
            trouble += f"; {reading.revision[:12]} stays in force"
        if reading.revision != noted:
            trouble += (
                f"; nothing is in force here, and nothing is sent: by the ledger commit "
                f"{noted[:12]} is in force, which cannot be had"
            )
        attempted = head or self._reading.attempted or reading.revision
        return replace(reading, attempted=attempted, trouble=trouble, refusal=refusal)

    def _resumed(self, noted: str) -> Reading:
        """Return what is in force by the ledger, or nothing where we cannot have that."""
        if self._reading.revision == noted:
            return self._reading
        newer = not self._newest or self._mirror.descends(noted, self._newest)
        # After a restart, or where another controller was quicker, the mirror has it.
        if newer and self._mirror.has(noted):
            with suppress(JtrError):
                return self._judged(noted)
        return Reading()

    def _judged(self, commit: str) -> Reading:
        """Return a commit as it comes into force.  Raises JtrError where it must not."""
        signer = ""
        if self._verify:
            signer = self._mirror.signer(commit)
        state = self._loader.load_snapshot(snapshot_of(self._mirror, commit, self._path))
        make_room_for(len(state.servers))
        committer, message = self._mirror.about(commit)
        origin = Origin(commit, pull_of(message), signer or committer)
        return self._reading.followed(state, commit, origin)


def _refusal(error: JtrError) -> Refusal:
    """Return what it means that a commit of a branch could not be taken."""
    if isinstance(error, Unsigned):
        return Refusal.UNSIGNED
    return Refusal.AWAY if isinstance(error, GitError) else Refusal.INVALID


def _went_back(before: str, newest: str) -> str:
    return (
        f"the branch went back or was rewritten: commit {newest[:12]} does not come after "
        f"{before[:12]}, which was in force; push a commit on top of that, or start the controller "
        "once with --allow-rollback"
    )
