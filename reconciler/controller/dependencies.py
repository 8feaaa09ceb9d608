"""
What a controller is put together from, and what it expects of the parts.
"""

import os
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, Protocol

from reconciler.controller.state_file import StateFile
from reconciler.controller.status_store import StatusStore
from reconciler.errors import SecretsError
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

    async def documents(self) -> Mapping[str, str]:
        """Return the rows of the ledger.  Raises JtrError."""
        ...

    async def entries(self, name: str) -> tuple[LogEntry, ...] | None:
        """Read the system log of a server; None for one that is not known.  Raises JtrError."""
        ...


class Site(Protocol):
    """Serves health, metrics and status; see `controller.api.server`."""

    async def start(self) -> None:
        """Listen.  Raises JtrError where that is not possible."""
        ...

    async def stop(self) -> None:
        """Stop listening."""
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
    that changed.  `quiet` says why no robots are restarted and no requests done.
    """

    paths: tuple[str, ...]
    timeouts: Timeouts
    status_store: StatusStore
    state_file: StateFile
    open_context: Callable[[], AbstractContextManager[PassContext]]
    sweep: Sweep
    site: Callable[[Answers], Site]
    notifier: Callable[[Mapping[str, Any], Callable[[], None]], Awaitable[Notifier]]
    token_seconds: Callable[[], float | None] = lambda: None
    quiet: str = ""
    max_disruptive: int = 1
    polling: bool = False
    systemd: Systemd = field(default_factory=Systemd)
    leave: Callable[[int], None] = os._exit  # how to end at once
