"""The pages of a controller that is not there: statuses that a test fills in, and a real ledger."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from reconciler.controller.api.server import Web
from reconciler.controller.status import ControllerStatus, ServerStatus
from reconciler.controller.status_store import Servers, StatusStore
from reconciler.errors import JtrError
from reconciler.ledger.ledger import Ledger
from reconciler.ledger.stores.sqlite import SqliteStore
from reconciler.model.observed import LogEntry
from reconciler.model.secret import Secret
from reconciler.system.timeouts import Timeouts
from tests.support.leaks import PRIVATE
from tests.support.loops import LoopThread
from tests.support.rig import Rig


@dataclass
class Served:
    """
    Enter it: pages on a loop of their own, and settings of the rig that name them.

    `rows` are what it serves as its ledger; an error in their place is raised, and None stands for
    the ledger of the rig.  `log` is the system log of every server, or what is raised; reading it
    takes `delay` seconds.
    """

    rig: Rig
    servers: tuple[ServerStatus, ...] = ()
    controller: Mapping[str, Any] = field(default_factory=dict)
    rows: Mapping[str, str] | JtrError | None = None
    log: tuple[LogEntry, ...] | JtrError | None = ()
    delay: float = 0.0
    only: bool = True
    settings: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        now = datetime.now(UTC).isoformat()
        self.status_store = StatusStore(
            ControllerStatus("1.2.3", "controller 1@host", now, acting=True, revision="0123abcd"),
            Servers({server.server: server for server in self.servers}),
            ready=True,
        )
        self.status_store.note(**self.controller)
        self.token = self.rig.watch.secret("hex")
        self.asked: list[str] = []
        self._loop = LoopThread("controller")

    def __enter__(self) -> Self:
        self._loop.__enter__()
        self.web = self._loop.run(self._made())
        self.token_file.write_text(self.token + "\n")
        self.name(url=f"http://127.0.0.1:{self.web.port}")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()
        self._loop.__exit__(kind, error, trace)

    @property
    def token_file(self) -> Path:
        """Where both ends have the token."""
        return self.rig.home / PRIVATE / "page-token"

    def name(self, **controller: str) -> None:
        """Write settings in which a controller is named."""
        keys = {"tokenFile": str(self.token_file)} | controller
        self.rig.settings(controller=keys, **self.settings)

    def stop(self) -> None:
        """Let nobody listen any more."""
        self._loop.run(self.web.stop())

    async def _made(self) -> Web:
        web = Web(
            self.status_store,
            listen="127.0.0.1:0",
            token=Secret(self.token),
            observations=self._observations,
            entries=self._entries,
            only=self.only,
            period=1e9,
        )
        await web.start()
        return web

    async def _observations(self) -> Mapping[str, str]:
        self.asked.append("observations")
        if isinstance(self.rows, JtrError):
            raise self.rows
        if self.rows is not None:
            return self.rows
        return await asyncio.to_thread(documents, self.rig)

    async def _entries(self, name: str) -> tuple[LogEntry, ...] | None:
        self.asked.append(f"log of {name}")
        await asyncio.sleep(self.delay)
        if isinstance(self.log, JtrError):
            raise self.log
        return self.log


def documents(rig: Rig) -> dict[str, str]:
    """Return the rows of the rig's ledger."""
    store = SqliteStore.open(rig.home / "state" / "jtr" / "ledger.db")
    try:
        ledger = Ledger(
            store, now=lambda: datetime.now(UTC), timeouts=Timeouts(), writer="controller"
        )
        return ledger.documents()
    finally:
        store.close()
