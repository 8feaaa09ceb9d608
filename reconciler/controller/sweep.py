"""Vault's word on many secrets at once: their newest versions, and why it cannot tell."""

import asyncio
import logging
from collections.abc import Collection
from typing import Final

from reconciler.controller.dependencies import Dependencies
from reconciler.controller.shared import Versions
from reconciler.controller.status_store import StatusStore
from reconciler.errors import LoginFailed, SecretsError, TokenExpired
from reconciler.model.references import SecretPath

LOG: Final = logging.getLogger("reconciler.controller")


async def swept(
    dependencies: Dependencies, status_store: StatusStore, paths: Collection[SecretPath]
) -> tuple[Versions, str]:
    """Return the newest versions, and why Vault could not tell."""
    asking = asyncio.ensure_future(dependencies.sweep(paths))
    timeouts = dependencies.timeouts
    patience = min(timeouts.interval, timeouts.secrets_request)
    silent = ""
    while not (await asyncio.wait([asking], timeout=patience))[0]:
        if not silent:
            silent = f"no answer for more than {patience:g} s"
            LOG.warning("Vault: %s", silent)
        status_store.note(secrets=silent)
    try:
        answers = asking.result()
    except SecretsError as error:
        return {}, str(error)
    found: Versions = {}
    trouble = ""
    for path, answer in answers.items():
        if not isinstance(answer, SecretsError):
            found[path] = answer.version, answer.created
        elif answer.transient or isinstance(answer, LoginFailed | TokenExpired):
            trouble = trouble or str(answer)  # concerns all of them: told once
        else:
            found[path] = None  # what is wrong with it is said by the servers that use it
    return found, trouble
