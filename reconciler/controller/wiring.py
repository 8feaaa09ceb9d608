"""
Puts a controller together from the settings and the options of the command.
"""

import logging
import os
import socket
from collections.abc import Callable, Collection, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from reconciler import __version__, bootstrap
from reconciler.errors import SecretsError
from reconciler.model.references import SecretPath
from reconciler.model.secret import VersionInfo
from reconciler.observe.context import PassContext
from reconciler.secrets import SecretBackend
from reconciler.secrets.vault.backend import VaultBackend
from reconciler.secrets.vault.sweep import SweptBackend
from reconciler.settings.model import Settings

if TYPE_CHECKING:
    from reconciler.controller.api.server import Web
    from reconciler.controller.dependencies import Answers, Dependencies
    from reconciler.controller.status_store import StatusStore
    from reconciler.notifications.notifier import Notifier
LOG: Final = logging.getLogger("reconciler.controller")


@dataclass(frozen=True, slots=True)
class ControllerOptions:
    """What the command line decides of a controller."""

    paths: tuple[str, ...]
    listen: str
    parallelism: int
    max_disruptive: int
    quiet: str
    polling: bool


def dependencies(wishes: ControllerOptions, settings: Settings) -> "Dependencies":
    from reconciler.controller.dependencies import Dependencies  # noqa: PLC0415
    from reconciler.controller.state_file import StateFile  # noqa: PLC0415
    from reconciler.controller.status import ControllerStatus  # noqa: PLC0415
    from reconciler.controller.status_store import StatusStore  # noqa: PLC0415  - heavy

    label = f"controller {os.getpid()}@{socket.gethostname()}"
    started = datetime.now(UTC).isoformat(timespec="seconds")
    status_store = StatusStore(
        ControllerStatus(__version__, label, started, waiting="it just began")
    )
    vault = _Vault(settings)
    return Dependencies(
        wishes.paths,
        settings.timeouts,
        status_store,
        StateFile(Path(settings.controller.state)),
        lambda: vault.context(wishes.parallelism),
        vault.sweep,
        site=lambda controller: _site(controller, status_store, wishes.listen, settings),
        notifier=lambda told, changed: _notifier(settings, label, told, changed, status_store),
        token_seconds=vault.token_seconds,
        quiet=wishes.quiet,
        max_disruptive=wishes.max_disruptive,
        polling=wishes.polling,
    )


class _Vault:
    """Vault as the controller uses it: swept for new versions, asked singly for the rest."""

    def __init__(self, settings: Settings) -> None:
        self._settings: Final = settings
        self._backend: VaultBackend | None = None
        self._swept: SweptBackend | None = None

    def context(self, parallelism: int) -> AbstractContextManager[PassContext]:
        return bootstrap.prepared(
            self._settings,
            "controller",
            parallelism=parallelism,
            writes=True,
            say=LOG.warning,
            reading=self._before,
            lasting=True,
        )

    def _before(self, backend: VaultBackend) -> SecretBackend:
        self._backend = backend
        timeouts = self._settings.timeouts
        self._swept = SweptBackend(backend, max_age=1.5 * timeouts.interval, settle=timeouts.settle)
        return self._swept

    async def sweep(
        self, secrets: Collection[SecretPath]
    ) -> Mapping[SecretPath, VersionInfo | SecretsError]:
        return await self._swept.sweep(secrets) if self._swept is not None else {}

    def token_seconds(self) -> float | None:
        return self._backend.token_seconds() if self._backend is not None else None


def _site(
    controller: "Answers", status_store: "StatusStore", listen: str, settings: Settings
) -> "Web":
    from reconciler.controller.api.server import Web  # noqa: PLC0415  - heavy
    from reconciler.controller.api.token import read_token  # noqa: PLC0415  - only here

    file = settings.controller.token_file
    return Web(
        status_store,
        listen=listen,
        token=read_token(file) if file else None,
        observations=controller.documents,
        entries=controller.entries,
        only=settings.only_ledger,
    )


async def _notifier(
    settings: Settings,
    label: str,
    told: Mapping[str, Any],
    changed: Callable[[], None],
    status_store: "StatusStore",
) -> "Notifier":
    from reconciler.notifications.notifier import (  # noqa: PLC0415  - heavy
        Callbacks,
        Notifier,
        open_endpoints,
    )

    def counted(target: str, result: str) -> None:
        status_store.notifications[target, result] += 1

    calls = Callbacks(counted=counted, changed=changed)
    endpoints = await open_endpoints(settings.notifications)
    return Notifier(endpoints, label, told, calls=calls)
