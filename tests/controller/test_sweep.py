"""What of Vault's answers is said of Vault itself, once, and what of a server's own secret."""

import asyncio
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import pytest

from reconciler.controller.dependencies import Dependencies
from reconciler.controller.state_file import StateFile
from reconciler.controller.sweep import swept
from reconciler.controller.watched_files import WatchedFiles
from reconciler.errors import (
    Forbidden,
    LoginFailed,
    SecretMissing,
    SecretsError,
    SecretsSealed,
    SecretsUnreachable,
    TokenExpired,
)
from reconciler.model.references import SecretPath
from reconciler.model.secret import VersionInfo
from reconciler.system.timeouts import Timeouts
from tests.controller.sample_statuses import status_store
from tests.support import factories as f


def never(*_: object) -> Any:
    raise AssertionError


@pytest.mark.parametrize(
    ("kind", "everybody"),
    [
        (SecretsUnreachable, True),
        (SecretsSealed, True),
        (LoginFailed, True),
        (TokenExpired, True),
        (Forbidden, False),
        (SecretMissing, False),
    ],
)
def test_what_concerns_all_secrets_is_said_of_vault(
    tmp_path: Path, kind: type[SecretsError], *, everybody: bool
) -> None:
    async def sweep(
        paths: Collection[SecretPath],
    ) -> Mapping[SecretPath, VersionInfo | SecretsError]:
        return {path: kind("what is wrong", "what to do") for path in paths}

    dependencies = Dependencies(
        lambda: WatchedFiles((str(tmp_path),), Timeouts(), polling=True),
        Timeouts(),
        status_store(),
        StateFile(tmp_path / "state.json"),
        never,
        sweep,
        site=never,
        notifier=never,
    )

    found, trouble = asyncio.run(swept(dependencies, dependencies.status_store, [f.path()]))

    assert bool(trouble) is everybody
    assert found == ({} if everybody else {f.path(): None})
