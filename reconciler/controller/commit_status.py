"""
What a forge is told of the commits of a followed branch: refused, or what became of the servers.

A commit gets its word once a pass went by what it declares of each server, and waits for nothing.
Told by the controller that acts, and only when it changes; a good word is not taken back when
something drifts later.  What the forge makes of it changes nothing here.
"""

import asyncio
import logging
from collections.abc import Iterable
from typing import Final

from msgspec import Struct

from reconciler.ci.forges import STATUS_LIMIT, forge
from reconciler.ci.http import Api, ForgeAway
from reconciler.ci.job import Event, Job, System
from reconciler.controller.status import ControllerStatus, Health, ServerStatus, Sync
from reconciler.controller.status_store import StatusStore
from reconciler.model.secret import Secret
from reconciler.model.wording import counted
from reconciler.render.escape import plain
from reconciler.settings.git import CommitStatusSettings
from reconciler.system.git import COMMIT
from reconciler.system.timeouts import Timeouts

LOG: Final = logging.getLogger("reconciler.controller")
NAME: Final = "jtr"
SYSTEMS: Final = {"github": System.GITHUB, "gitea": System.GITEA, "gitlab": System.GITLAB}
_UNWELL: Final = (Health.DEGRADED, Health.UNREACHABLE)
_NAMED: Final = 3  # servers


class Word(Struct, frozen=True):
    """What is said of a commit; anybody who may read the repository sees it."""

    commit: str
    good: bool
    text: str


def word_of(controller: ControllerStatus, servers: Iterable[ServerStatus]) -> Word | None:
    """Return what there is to say now; None while it is too early."""
    if not controller.acting:
        return None
    refused = controller.documents and controller.attempted != controller.revision
    if refused and COMMIT.fullmatch(controller.attempted):
        why = controller.documents.partition("\n")[0].partition(": ")[2]
        return Word(controller.attempted, good=False, text=f"not in force: {plain(why)}")
    known = list(servers)
    if not COMMIT.fullmatch(controller.revision) or not known:
        return None
    if not all(one.judged for one in known):
        return None
    if any(one.health is Health.PROGRESSING for one in known):
        return None  # a secret settles, a window is awaited: nobody has to do anything
    bad = [one.server for one in known if one.sync is Sync.OUT_OF_SYNC or one.health in _UNWELL]
    if not bad:
        text = f"in force on {counted(len(known), 'server')}"
        return Word(controller.revision, good=True, text=text)
    more = f" and {len(bad) - _NAMED} more" if len(bad) > _NAMED else ""
    named = f"{', '.join(bad[:_NAMED])}{more}"
    return Word(controller.revision, good=False, text=f"needs a look: {named}; see jtr status")


class CommitStatuses:
    """Tells the forge, for as long as the controller runs.  Event loop only."""

    def __init__(
        self,
        settings: CommitStatusSettings,
        token: Secret,
        status_store: StatusStore,
        timeouts: Timeouts,
    ) -> None:
        system = SYSTEMS[settings.forge]
        self._job: Final = Job(system, Event.MAIN, project=settings.project, api=settings.api)
        self._token: Final = token
        self._status_store: Final = status_store
        self._pause: Final = min(1.0, timeouts.interval / 10)
        self._patience: Final = min(timeouts.interval, timeouts.backoff_most)
        self._told: Word | None = None

    async def run(self) -> None:
        while True:
            await asyncio.sleep(self._pause)
            store = self._status_store
            word = word_of(store.controller, store.servers.values())
            if word is None or not self._new(word):
                continue
            try:
                await self._tell(word)
            except ForgeAway as error:
                LOG.warning("the status of commit %s is not set: %s", word.commit[:12], error)
                await asyncio.sleep(self._patience)
            else:
                self._told = word

    def _new(self, word: Word) -> bool:
        told = self._told
        settled = told is not None and told.good and told.commit == word.commit
        return word != told and not settled

    async def _tell(self, word: Word) -> None:
        header = "PRIVATE-TOKEN" if self._job.system is System.GITLAB else "Authorization"
        async with Api(self._job.api, self._token, header) as api:
            text = word.text[:STATUS_LIMIT]
            there = forge(self._job.system, api)
            await there.status(self._job, word.commit, good=word.good, name=NAME, words=text)
