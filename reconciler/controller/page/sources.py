"""
Where the page has its facts from: a controller that runs, or a ledger where none does.
"""

import asyncio
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Final, Protocol

from reconciler.controller.dependencies import Answers
from reconciler.controller.page.view import remembered
from reconciler.controller.pull_requests import PullRequests
from reconciler.controller.readings import Readings
from reconciler.controller.status import ControllerStatus
from reconciler.controller.status_store import StatusStore
from reconciler.errors import JtrError
from reconciler.ledger.ledger import Ledger
from reconciler.ledger.servers import known_servers
from reconciler.ledger.unrecorded import UnrecordedOutcomes
from reconciler.model.desired import DesiredState
from reconciler.model.observed import LogEntry
from reconciler.model.recorded import NOTHING_RECORDED, HistoryEntry, Identity, Recorded
from reconciler.model.target import Target, normalised
from reconciler.model.values import replace
from reconciler.render.requests import history

Deeds = tuple[HistoryEntry, ...]
SLICE: Final = 100  # servers that are taken over before others on the event loop get their turn
SERVERS: Final = 200  # of which the whole history is read at once


class Source(Protocol):
    """Everything that the page shows; what takes time is awaited, nothing is ever changed."""

    store: StatusStore
    running: Answers | None
    paths: Sequence[str]
    pulls: PullRequests | None

    async def refresh(self) -> None:
        """Look whether anything is new; never for long."""
        ...

    def declared(self) -> DesiredState: ...

    async def recorded(self, name: str) -> tuple[Recorded, Deeds]:
        """Return what the ledger knows of a server.  Raises JtrError."""
        ...

    async def histories(self, names: Iterable[str]) -> list[tuple[str, HistoryEntry]]:
        """Return what was done on servers, oldest first.  Raises JtrError."""
        ...

    async def entries(self, name: str) -> tuple[LogEntry, ...] | None:
        """Return the system log of a server.  Raises JtrError."""
        ...


class _Reading:
    """What a ledger is read for, one at a time: rows in Vault cost a request each."""

    def __init__(self) -> None:
        self._readings: Final = Readings("ledger")

    async def recorded(self, ledger: Ledger, target: Target, name: str) -> tuple[Recorded, Deeds]:
        def read() -> tuple[Recorded, Deeds]:
            known = ledger.look(target, name)
            if known.identity is None or known.identity.target != target:
                return NOTHING_RECORDED, ()
            return known, ledger.history(known.identity.uid)

        return await self._readings.read((target, name), read)

    async def histories(
        self, ledger: Ledger, names: Iterable[str]
    ) -> list[tuple[str, HistoryEntry]]:
        wanted = frozenset(names)

        def read() -> list[tuple[str, HistoryEntry]]:
            known = [one for one in ledger.servers() if one.name in wanted][:SERVERS]
            found = [
                (one.name, deed)
                for one in known
                for deed in history(ledger.history(one.uid), ledger.requests(one.uid).read())
            ]
            return sorted(found, key=lambda pair: datetime.fromisoformat(pair[1].at))

        return await self._readings.read(wanted, read)


class FromController:
    """A controller in this process."""

    def __init__(
        self,
        running: Answers,
        status_store: StatusStore,
        paths: Sequence[str],
        pulls: PullRequests | None = None,
    ) -> None:
        self.pulls: PullRequests | None = pulls
        self.store = status_store
        self.running: Answers | None = running
        self.paths: Sequence[str] = tuple(paths)
        self._controller: Final = running
        self._reading: Final = _Reading()

    async def refresh(self) -> None:
        """Nothing: the controller writes the status store itself."""

    def declared(self) -> DesiredState:
        shared = self._controller.shared
        return shared.state if shared is not None else DesiredState(())

    async def recorded(self, name: str) -> tuple[Recorded, Deeds]:
        status = self.store.servers.get(name)
        if status is None:
            return NOTHING_RECORDED, ()
        target = Target(normalised(status.url), status.account)
        return await self._reading.recorded(self._ledger, target, name)

    async def histories(self, names: Iterable[str]) -> list[tuple[str, HistoryEntry]]:
        return await self._reading.histories(self._ledger, names)

    async def entries(self, name: str) -> tuple[LogEntry, ...] | None:
        return await self._controller.entries(name)

    @property
    def _ledger(self) -> Ledger:
        shared = self._controller.shared
        if shared is None or shared.context.ledger is None:
            raise JtrError(f"the controller waits: {self.store.controller.waiting}", "try later")
        return shared.context.ledger


class FromLedger:
    """A ledger that is read now and then, and documents where there are some."""

    running: Answers | None = None
    pulls: PullRequests | None = None

    def __init__(
        self,
        ledger: Ledger,
        unrecorded: UnrecordedOutcomes,
        state: DesiredState,
        paths: Sequence[str],
        *,
        version: str,
        every: float = 30.0,
    ) -> None:
        """Read the ledger every so many seconds."""
        now = datetime.now(UTC).isoformat(timespec="seconds")
        label = "the ledger; no controller is asked"
        self.store = StatusStore(ControllerStatus(version, label, now), ready=True)
        self.paths: Sequence[str] = tuple(paths)
        self._ledger: Final = ledger
        self._unrecorded: Final = unrecorded
        self._state: Final = state
        self._documents: Final = {
            Target(normalised(one.url), one.account): one for one in state.servers
        }
        self._every: Final = every
        self._reading: Final = _Reading()
        self._read_at = float("-inf")
        self._refreshing: asyncio.Future[None] | None = None
        self._targets: dict[str, Target] = {}

    async def refresh(self) -> None:
        now = asyncio.get_running_loop().time()
        self.store.tick = now
        if self._refreshing is None or (
            self._refreshing.done() and now - self._read_at >= self._every
        ):
            self._read_at = now
            self._refreshing = asyncio.ensure_future(self._take_over(now))
        # To its end, also if whoever asked first hangs up: others would see the half of it.
        await asyncio.shield(self._refreshing)

    async def _take_over(self, now: float) -> None:
        try:
            known, brakes = await asyncio.to_thread(self._read)
        except JtrError as error:
            self.store.note(ledger=str(error))
            return
        self.store.note(ledger="", brakes=tuple(brakes))
        self.store.last_pass = now
        statuses = self.store.servers
        for number, (identity, recorded) in enumerate(known, 1):
            if number % SLICE == 0:
                await asyncio.sleep(0)
            found = remembered(identity, recorded)
            desired = self._documents.get(identity.target)
            if desired is not None:
                found = replace(
                    found, owner=desired.owner, labels=desired.labels, mode=str(desired.mode)
                )
            if statuses.get(identity.name) != found:
                statuses[identity.name] = found
        self._targets = {identity.name: identity.target for identity, _ in known}
        for name in statuses.keys() - self._targets.keys():
            del statuses[name]

    def _read(self) -> tuple[list[tuple[Identity, Recorded]], list[object]]:
        ledger = self._ledger
        return list(known_servers(ledger, self._unrecorded)), list(ledger.brakes())

    def declared(self) -> DesiredState:
        return self._state

    async def recorded(self, name: str) -> tuple[Recorded, Deeds]:
        target = self._targets.get(name)
        if target is None:
            return NOTHING_RECORDED, ()
        return await self._reading.recorded(self._ledger, target, name)

    async def histories(self, names: Iterable[str]) -> list[tuple[str, HistoryEntry]]:
        return await self._reading.histories(self._ledger, names)

    async def entries(self, name: str) -> tuple[LogEntry, ...] | None:
        raise JtrError(
            "a log is read by a controller", f"start one, or look yourself: jtr logs {name}"
        )
