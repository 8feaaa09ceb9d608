"""
What a controller is put together from, and what it expects of the parts.
"""

import os
from collections.abc import Awaitable, Callable, Collection, Coroutine, Iterable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, Protocol, Self

from reconciler.controller.document_source import Reading
from reconciler.controller.pauses import Noted, PauseChange
from reconciler.controller.shared import SharedState
from reconciler.controller.state_file import StateFile
from reconciler.controller.status_store import StatusStore
from reconciler.errors import SecretsError
from reconciler.model.conditions import Condition
from reconciler.model.observed import LogEntry
from reconciler.model.references import SecretPath
from reconciler.model.secret import VersionInfo
from reconciler.notifications.events import News
from reconciler.observe.context import PassContext
from reconciler.system.systemd import Systemd
from reconciler.system.timeouts import Timeouts


class Notifier(Protocol):
    """Tells people what changed; see `reconciler.notifications.notifier`."""

    def tell(self, news: Iterable[News]) -> None:
        """Take the present states; sends what differs from what was told.  Never waits."""
        ...

    def keep(self, servers: Collection[str]) -> None:
        """Forget all servers but these."""
        ...

    def memory(self) -> Mapping[str, Any]:
        """Return what was told, to be remembered over a restart."""
        ...

    async def close(self, grace: float) -> None:
        """Send what is left within *grace* seconds."""
        ...


class Answers(Protocol):
    """What pages may ask of a running controller."""

    @property
    def shared(self) -> SharedState | None:
        """What its workers share; None while it waits for Vault or the ledger."""
        ...

    def look(self, name: str) -> None:
        """Let a server be looked at now.  Raises UsageError, and JtrError."""
        ...

    async def pause(self, wish: PauseChange) -> Noted:
        """Change nothing on a server for a while, or go on.  Raises JtrError."""
        ...

    async def documents(self) -> Mapping[str, str]:
        """Return the rows of the ledger.  Raises JtrError."""
        ...

    async def entries(self, name: str) -> tuple[LogEntry, ...] | None:
        """Read the system log of a server; None for one that is not known.  Raises JtrError."""
        ...

    def documents_moved(self) -> None:
        """Look at the documents now: somebody says that they moved, who is not believed."""
        ...


class Site(Protocol):
    """Serves health, metrics and status; see `controller.api.server`."""

    async def start(self) -> None:
        """Listen.  Raises JtrError where that is not possible."""
        ...

    async def stop(self) -> None:
        """Stop listening."""
        ...


class Revisions(Protocol):
    """Which commit was in force last; see `reconciler.ledger.revisions`.  Both raise JtrError."""

    def last(self, branch: str) -> str: ...

    def note(self, branch: str, commit: str, *, after: str) -> None: ...


class DocumentSource(Protocol):
    """
    Where desired state comes from: files, or a branch.

    An asynchronous context manager.  Level-triggered: what wakes it only makes it look.
    """

    async def __aenter__(self) -> Self: ...

    async def __aexit__(self, *_: object) -> None: ...

    def poke(self) -> None:
        """Look at once; on the event loop."""
        ...

    def remember(self, revisions: Revisions) -> None:
        """The ledger is open; only from now on anything can be put into force."""
        ...

    async def changed(self) -> Reading:
        """Return what is in force and why the newest is not, once it may differ; first at once."""
        ...

    async def confirmed(self) -> Reading | None:
        """
        Return what is in force by the ledger as it is now; None where no ledger says that.

        Whoever takes the place of another asks it under the lease, before the first deed: the other
        one may have put something into force since our last look.  Raises JtrError.
        """
        ...


Sweep = Callable[
    [Collection[SecretPath]], Awaitable[Mapping[SecretPath, VersionInfo | SecretsError]]
]


@dataclass(slots=True)
class Dependencies:
    """
    What a controller is put together from.

    `open_means` contacts Vault and opens the ledger; blocking.  `sweep` asks Vault for the newest
    versions of many secrets.  `notifier` gets what was told before, and what to call when
    that changed.  `reports` tells others of revisions, as long as it runs.  `quiet` says why no
    robots are restarted and no requests done.
    """

    documents: Callable[[], DocumentSource]
    timeouts: Timeouts
    status_store: StatusStore
    state_file: StateFile
    open_context: Callable[[], AbstractContextManager[PassContext]]
    sweep: Sweep
    site: Callable[[Answers], Site]
    notifier: Callable[[Mapping[str, Any], Callable[[], None]], Awaitable[Notifier]]
    token_seconds: Callable[[], float | None] = lambda: None
    reports: Callable[[], Coroutine[Any, Any, None]] | None = None
    quiet: Condition | None = None
    max_disruptive: int = 1
    systemd: Systemd = field(default_factory=Systemd)
    leave: Callable[[int], None] = os._exit  # how to end at once
