"""
Puts a controller together from the settings and the options of the command.
"""

import hashlib
import logging
import os
import socket
import time
from collections.abc import Callable, Collection, Coroutine, Mapping
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from msgspec import Struct

from reconciler import __version__, bootstrap
from reconciler.errors import SecretsError, UsageError
from reconciler.model.conditions import Condition
from reconciler.model.references import SecretPath
from reconciler.model.secret import Secret, VersionInfo
from reconciler.observe.context import PassContext
from reconciler.secrets import SecretBackend
from reconciler.secrets.vault.backend import VaultBackend
from reconciler.secrets.vault.sweep import SweptBackend
from reconciler.settings.git import GitSettings
from reconciler.settings.model import Settings
from reconciler.system.files import read_secret_file, secret_line
from reconciler.system.git_mirror import Mirror, Remote, Signers
from reconciler.system.who import who

if TYPE_CHECKING:
    from reconciler.controller.api.server import Web
    from reconciler.controller.api.webhook import Webhook
    from reconciler.controller.dependencies import Answers, Dependencies, DocumentSource, Site
    from reconciler.controller.pull_requests import PullRequests
    from reconciler.controller.status_store import StatusStore
    from reconciler.notifications.notifier import Notifier
LOG: Final = logging.getLogger("reconciler.controller")


class ControllerOptions(Struct, frozen=True):
    """What the command line decides of a controller."""

    paths: tuple[str, ...]
    git: GitSettings | None
    allow_rollback: bool
    listen: str
    parallelism: int
    max_disruptive: int
    quiet: Condition | None
    polling: bool


def dependencies(wishes: ControllerOptions, settings: Settings) -> "Dependencies":
    from reconciler.controller.dependencies import Dependencies  # noqa: PLC0415
    from reconciler.controller.state_file import StateFile  # noqa: PLC0415
    from reconciler.controller.status import ControllerStatus  # noqa: PLC0415
    from reconciler.controller.status_store import StatusStore  # noqa: PLC0415  - heavy

    label = who("controller", os.environ)
    started = datetime.now(UTC).isoformat(timespec="seconds")
    status_store = StatusStore(
        ControllerStatus(__version__, label, started, waiting="it just began"),
        believed=settings.timeouts.stale,
    )
    vault = _Vault(settings)
    return Dependencies(
        lambda: _documents(wishes, settings),
        settings.timeouts,
        status_store,
        StateFile(Path(settings.controller.state)),
        lambda: vault.context(wishes.parallelism),
        vault.sweep,
        site=lambda controller: _sites(controller, status_store, wishes, settings),
        notifier=lambda told, changed: _notifier(settings, told, changed, status_store),
        token_seconds=vault.token_seconds,
        reports=_reports(wishes, settings, status_store),
        quiet=wishes.quiet,
        max_disruptive=wishes.max_disruptive,
    )


def _documents(wishes: ControllerOptions, settings: Settings) -> "DocumentSource":
    if wishes.git is None:
        from reconciler.controller.watched_files import WatchedFiles  # noqa: PLC0415  - heavy

        return WatchedFiles(wishes.paths, settings.timeouts, polling=wishes.polling)
    from reconciler.controller.git_source import GitSource  # noqa: PLC0415  - only who pulls

    git, verify = wishes.git, wishes.git.verify
    branch, folder = _followed(git, settings)
    for file, what in (
        (verify.allowed_signers if verify else None, "allowedSigners"),
        (verify.keyring if verify else None, "keyring"),
    ):
        if file is not None:  # who may write it decides who counts
            read_secret_file(file, f"the file git.verify.{what}", UsageError)
    token = _secret(git.token_file, "git.tokenFile") if git.token_file else None
    remote = Remote(
        git.url,
        git.branch,
        token=token,
        username=git.username,
        ca_file=git.ca_file,
        key_file=git.ssh_key_file,
        known_hosts=git.known_hosts_file,
    )
    signers = Signers(verify.allowed_signers, verify.keyring, verify.signers) if verify else None
    return GitSource(
        Mirror(remote, folder, signers),
        branch,
        git.path,
        settings.timeouts,
        verify=verify is not None,
        allow_rollback=wishes.allow_rollback,
    )


def _followed(git: GitSettings, settings: Settings) -> tuple[str, Path]:
    """Return what a branch is called in the ledger, and where its mirror is."""
    branch = f"{git.url}#{git.branch}"
    place = Path(settings.controller.state).parent / "git"
    return branch, place / hashlib.sha256(branch.encode()).hexdigest()[:16]


def _pulls(
    wishes: ControllerOptions, settings: Settings, status_store: "StatusStore"
) -> "PullRequests | None":
    git = wishes.git
    if git is None or git.propose is None or git.status is None or not settings.controller.actions:
        return None
    from reconciler.controller.pull_requests import PullRequests  # noqa: PLC0415  - heavy
    from reconciler.system.git_push import Pusher  # noqa: PLC0415  - only who pushes

    found = git.propose
    token = _secret(found.token_file, "git.propose.tokenFile")
    remote = Remote(
        git.url,
        git.branch,
        token=token if git.url.startswith("http") else None,
        username=git.username,
        ca_file=git.ca_file,
        key_file=found.ssh_key_file,
        known_hosts=git.known_hosts_file,
    )
    _, folder = _followed(git, settings)

    def revision() -> str:
        return status_store.controller.revision

    return PullRequests(Pusher(remote, folder), git, token, revision)


def _reports(
    wishes: ControllerOptions, settings: Settings, status_store: "StatusStore"
) -> "Callable[[], Coroutine[Any, Any, None]] | None":
    found = wishes.git.status if wishes.git is not None else None
    if found is None:
        return None
    from reconciler.controller.commit_status import CommitStatuses  # noqa: PLC0415  - heavy

    token = _secret(found.token_file, "git.status.tokenFile")
    return CommitStatuses(found, token, status_store, settings.timeouts).run


def _secret(path: str, what: str) -> Secret:
    """Read a token for git.  Raises UsageError, which never quotes it."""
    word = secret_line(path, f"the file {what}", UsageError) or ""
    if not word or not word.isprintable() or " " in word:
        raise UsageError(f"the file {what} holds no token", "write it on one line, without blanks")
    return Secret(word)


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


class _Sites:
    """All that a controller serves; started and stopped together."""

    def __init__(self, *sites: "Site") -> None:
        self._sites: Final = sites

    async def start(self) -> None:
        for site in self._sites:
            await site.start()

    async def stop(self) -> None:
        for site in self._sites:
            await site.stop()


def _sites(
    controller: "Answers",
    status_store: "StatusStore",
    wishes: ControllerOptions,
    settings: Settings,
) -> "Site":
    for_programs = _api(controller, status_store, wishes.listen, settings)
    named = settings.controller.page
    if named is None:
        return for_programs
    from reconciler.controller.page.access import Access  # noqa: PLC0415  - heavy
    from reconciler.controller.page.site import Site as Page  # noqa: PLC0415  - heavy
    from reconciler.controller.page.sources import FromController  # noqa: PLC0415  - heavy

    pulls = _pulls(wishes, settings, status_store)
    source = FromController(controller, status_store, wishes.paths, pulls)
    access = Access(named, actions=settings.controller.actions)
    shown = Page(source, access, listen=named.listen)
    return _Sites(for_programs, shown, *((pulls,) if pulls is not None else ()))


def _api(
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
        webhook=_webhook(settings),
        moved=controller.documents_moved,
    )


def _webhook(settings: Settings) -> "Webhook | None":
    from reconciler.controller.api.webhook import (  # noqa: PLC0415  - heavy
        Webhook,
        read_webhook_secret,
    )

    if settings.git is None or settings.git.webhook_secret_file is None:
        return None
    return Webhook(read_webhook_secret(settings.git.webhook_secret_file), time.time)


async def _notifier(
    settings: Settings,
    told: Mapping[str, Any],
    changed: Callable[[], None],
    status_store: "StatusStore",
) -> "Notifier":
    from reconciler.notifications.notifier import (  # noqa: PLC0415  - heavy
        Callbacks,
        Notifier,
        Result,
        RetryPolicy,
        open_endpoints,
    )
    from reconciler.notifications.queue import RateLimit  # noqa: PLC0415  - heavy

    # From 0, or nobody could see that the first one was given up: increase() needs two values.
    for named in settings.notifications:
        status_store.notifications.update({(named.name, result): 0 for result in Result})

    def counted(target: str, result: str) -> None:
        status_store.notifications[target, result] += 1

    calls = Callbacks(counted=counted, changed=changed)
    endpoints = await open_endpoints(settings.notifications)
    own = settings.controller
    fleet = own.fleet or socket.gethostname()
    stable = settings.timeouts.told_after
    policy = RetryPolicy(stable=stable, rate_limit=RateLimit(together=stable / 2))
    return Notifier(endpoints, fleet, told, calls=calls, retry_policy=policy, runbooks=own.runbooks)
