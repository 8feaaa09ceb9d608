"""`jtr controller`: keep the servers of PATH... as the documents say, until told to stop."""

import asyncio
import logging
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from reconciler import __version__, bootstrap
from reconciler.cli import options
from reconciler.documents.load import load
from reconciler.errors import SecretsError, UsageError
from reconciler.model.desired import SecretPath
from reconciler.reconcile.survey import Means
from reconciler.secrets import SecretBackend, VersionInfo
from reconciler.secrets.vault.backend import VaultBackend
from reconciler.secrets.vault.sweep import SweptBackend
from reconciler.settings.load import Role, Settings, VaultLedger, load_settings
from reconciler.system import log_setup
from reconciler.system.allocator import share_arenas

if TYPE_CHECKING:
    from reconciler.controller.api.server import Web
    from reconciler.controller.controller import Controller
    from reconciler.controller.dependencies import Parts
    from reconciler.controller.status_store import Board
    from reconciler.notifications.notifier import Notifier

LOG: Final = logging.getLogger("reconciler.controller")
FAREWELL: Final = 0.5  # seconds for all threads to end; idle ones do so at once
THREADS: Final = 32  # for Vault, ledger and files; a slow one must not keep the others waiting


@click.command("controller")
@click.argument("paths", nargs=-1, metavar="PATH...")
@click.option(
    "--listen",
    metavar="HOST:PORT",
    help="Where to serve health, metrics and status (else controller.listen of the settings).",
)
@options.visiting
@click.option(
    "--max-disruptive",
    type=click.IntRange(1, 64),
    default=1,
    show_default=True,
    help="How many servers at once may have robots restarted, a cache invalidated or a reboot.",
)
@click.option(
    "--no-disruptive",
    is_flag=True,
    help="Restart no robots, do no requests: credentials only.",
)
@click.option("--polling", is_flag=True, help="Do not wait for file events: look now and then.")
@click.option(
    "--check",
    is_flag=True,
    help="Ask the controller that runs on this host whether it is alive, and exit with 0 or 1.",
)
@options.settings
def command(  # noqa: PLR0917  - one parameter per option
    paths: tuple[str, ...],
    listen: str | None,
    parallelism: int,
    max_disruptive: int,
    no_disruptive: bool,
    polling: bool,
    check: bool,
    settings_file: str | None,
    settings_in_repo: bool,
) -> int:
    """
    Keep the servers of PATH... as the documents say, until SIGTERM or SIGINT.

    Looks at every server each minute and whenever files or secrets change; logs JSON lines on
    standard error.  SIGHUP looks at everything now.  Exits with 0 after a stop in which nothing
    was cut off.
    """
    if not check and not paths:
        raise UsageError("no PATH was given", "name the file or directory of the documents")
    settings = load_settings(settings_file, os.environ, paths, in_repo_allowed=settings_in_repo)
    where = listen or settings.controller.listen
    if check:
        from reconciler.controller.api.client import alive  # noqa: PLC0415  - only here

        return alive(where, settings)
    if settings.role is Role.CI:
        raise UsageError(
            "the settings say `role: ci`, and a controller was asked for",
            "give the controller settings of its own with `role: controller`",
        )
    # Until the loop takes signals over, nothing was contacted: the process may simply end.  As an
    # exception an interruption would come up anywhere, inside of libraries, too.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    load(paths)  # what is invalid from the beginning stops the command
    debug = bool(click.get_current_context().find_root().params.get("debug"))
    log_setup.set_up(debug=debug, as_json=True)
    wishes = _Wishes(
        paths,
        where,
        parallelism,
        max_disruptive,
        "--no-disruptive" if no_disruptive else "",
        polling=polling,
    )
    return _run(wishes, settings)


@dataclass(frozen=True, slots=True)
class _Wishes:
    paths: tuple[str, ...]
    listen: str
    parallelism: int
    max_disruptive: int
    quiet: str
    polling: bool


def _run(wishes: _Wishes, settings: Settings) -> int:
    share_arenas()
    pool = ThreadPoolExecutor(THREADS, thread_name_prefix="jtr")

    async def main() -> int:
        from reconciler.controller.controller import Controller  # noqa: PLC0415  - heavy

        asyncio.get_running_loop().set_default_executor(pool)
        controller = Controller(_parts(wishes, settings))
        try:
            return await controller.run()
        finally:
            # Threads cannot be cancelled; the deadline of the stop ends the process if one hangs.
            pool.shutdown(wait=False, cancel_futures=True)
            if not _busy():
                controller.calm()

    with asyncio.Runner() as runner:
        code = runner.run(main())
        sys.stderr.flush()
        return code


def _busy() -> bool:
    """Say whether a thread hangs that Python waits for at its end: at Vault, at an exchange."""
    until = time.monotonic() + FAREWELL
    others = [one for one in threading.enumerate() if one is not threading.current_thread()]
    waited_for = [one for one in others if not one.daemon]
    for thread in waited_for:
        thread.join(max(0.0, until - time.monotonic()))
    return any(thread.is_alive() for thread in waited_for)


def _parts(wishes: _Wishes, settings: Settings) -> "Parts":
    from reconciler.controller.dependencies import Parts  # noqa: PLC0415
    from reconciler.controller.state_file import StateFile  # noqa: PLC0415
    from reconciler.controller.status import ControllerStatus  # noqa: PLC0415
    from reconciler.controller.status_store import Board  # noqa: PLC0415  - heavy

    label = f"controller {os.getpid()}@{socket.gethostname()}"
    started = datetime.now(UTC).isoformat(timespec="seconds")
    board = Board(ControllerStatus(__version__, label, started, waiting="it just began"))
    vault = _Vault(settings)
    return Parts(
        wishes.paths,
        settings.durations,
        board,
        StateFile(Path(settings.controller.state)),
        lambda: vault.means(wishes.parallelism),
        vault.sweep,
        site=lambda controller: _site(controller, board, wishes.listen, settings),
        notifier=lambda told, changed: _notifier(settings, label, told, changed, board),
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

    def means(self, parallelism: int) -> AbstractContextManager[Means]:
        """Open Vault and the ledger."""
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
        durations = self._settings.durations
        self._swept = SweptBackend(
            backend, max_age=1.5 * durations.interval, settle=durations.settle
        )
        return self._swept

    def sweep(
        self, secrets: Collection[SecretPath]
    ) -> Mapping[SecretPath, VersionInfo | SecretsError]:
        """Ask for the newest versions of many secrets."""
        return self._swept.sweep(secrets) if self._swept is not None else {}

    def token_seconds(self) -> float | None:
        """Return what is left on the token."""
        return self._backend.token_seconds() if self._backend is not None else None


def _site(controller: "Controller", board: "Board", listen: str, settings: Settings) -> "Web":
    from reconciler.controller.api.server import Web  # noqa: PLC0415  - heavy
    from reconciler.controller.api.token import read_token  # noqa: PLC0415  - only here

    file = settings.controller.token_file
    return Web(
        board,
        listen=listen,
        token=read_token(file) if file else None,
        observations=controller.documents,
        entries=controller.entries,
        only=settings.sole_writer or isinstance(settings.ledger, VaultLedger),
    )


async def _notifier(
    settings: Settings,
    label: str,
    told: Mapping[str, Any],
    changed: Callable[[], None],
    board: "Board",
) -> "Notifier":
    from reconciler.notifications.notifier import Calls, Notifier  # noqa: PLC0415  - heavy

    def counted(target: str, result: str) -> None:
        board.notifications[target, result] += 1

    calls = Calls(counted=counted, changed=changed)
    return await Notifier.open(settings.notifications, label, told, calls=calls)
