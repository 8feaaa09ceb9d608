"""
Reads secrets from KV version 2 of HashiCorp Vault or OpenBao.

This is where HTTP's few status codes become the many different things that can be wrong: Vault says
403 to a dead token, a missing policy and a wrong mount alike, and 404 to a secret that is missing,
deleted or in a mount of another kind.
"""

import re
from collections.abc import Collection, Mapping
from functools import lru_cache
from typing import Any, Final

from reconciler.errors import (
    Forbidden,
    SecretsError,
    SecretsUnreachable,
    SecretUnusable,
)
from reconciler.model.references import SecretPath, SecretRef
from reconciler.model.secret import Secret, VersionInfo
from reconciler.secrets.vault.access import (
    FORBIDDEN,
    NOT_FOUND,
    OK,
    TokenFacts,
    VaultAccess,
    lost_race,
)
from reconciler.secrets.vault.auth import (
    AppRoleAuth,
    JwtAuth,
    KubernetesAuth,
    TokenAuth,
    TokenFileAuth,
)
from reconciler.secrets.vault.client import Answer
from reconciler.secrets.vault.versions import Versions, missing

__all__ = [
    "AppRoleAuth",
    "JwtAuth",
    "KubernetesAuth",
    "TokenAuth",
    "TokenFacts",
    "TokenFileAuth",
    "VaultBackend",
]

_FIELD: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.\-]*")


class VaultBackend(VaultAccess):
    """A `SecretBackend` on one Vault address with one login; see `VaultAccess`."""

    async def describe(self, at: SecretPath, version: int | None = None) -> VersionInfo:
        """Return facts on one version, or the newest, from one read of metadata."""
        return (await self.versions(at, version)).info(version)

    async def versions(self, at: SecretPath, version: int | None = None) -> Versions:
        """
        Return what Vault says of all versions of *at*, from one read of metadata.

        Raises as `describe` does, for the secret as a whole; *version* is only checked to be one.
        """
        _check(at, version)
        answer = await self.ask(str(at), "GET", f"/v1/{at.mount}/metadata/{at.path}")
        if answer.status == FORBIDDEN:
            raise await self._forbidden(at, "metadata", "read")
        found = Versions.of(at, answer.data, answer.clock) if answer.status == OK else None
        if found is None:
            raise await self._absent(at, answer)
        return found

    async def read(self, at: SecretPath, version: int, created: str) -> Mapping[str, Secret]:
        """Return all fields of exactly this version, in one request."""
        _check(at, version)
        answer = await self.ask(
            str(at), "GET", f"/v1/{at.mount}/data/{at.path}", params={"version": version}
        )
        if answer.status == FORBIDDEN:
            raise await self._forbidden(at, "data", "read")
        fields, facts = answer.data.get("data"), answer.data.get("metadata")
        if answer.status != OK or not isinstance(fields, dict) or not isinstance(facts, dict):
            await self.describe(
                at, version
            )  # its metadata tells deleted, destroyed, pruned, missing
            raise SecretsUnreachable(f"{at}@{version} changed while it was being read", "try again")
        if facts.get("version") != version or facts.get("created_time") != created:
            raise SecretUnusable(
                f"{at}@{version} is not the version that was looked at before: the secret was "
                "removed and written anew",
                "plan again",
            )
        return _texts(at, version, fields)

    async def create_once(self, at: SecretPath, field: str, value: Secret) -> Secret:
        """
        Write a secret of one field if none is there; return what is there afterwards.

        Several processes may do this at once: all get the value of the one that came first.
        Raises what `describe` and `read` raise, and SecretUnusable when the secret that is there
        lacks the field.
        """
        _check(at, None)
        if not _FIELD.fullmatch(field):
            raise SecretUnusable(
                f"{at}: the name of the field is not usable", "use letters, digits, _"
            )
        answer = await self.ask(
            str(at),
            "POST",
            f"/v1/{at.mount}/data/{at.path}",
            body={"options": {"cas": 0}, "data": {field: value.reveal()}},
        )
        if answer.status == FORBIDDEN:
            raise await self._forbidden(at, "data", "create")
        if answer.status == NOT_FOUND:
            raise await self._absent(at, answer)
        if answer.status != OK and not lost_race(answer):
            raise SecretsError(
                f"{at}: Vault refused to write it (status {answer.status})",
                "check the rules of its mount",
            )
        info = await self.describe(at)
        present = (await self.read(at, info.version, info.created)).get(field)
        if present is None:
            raise SecretUnusable(f"{at} exists, but has no field {field}", "use another path")
        return present

    async def prepare(self, secrets: Collection[SecretPath]) -> None:
        """Nothing: see `SweptBackend`."""

    def forget(self) -> None:
        """Nothing: each secret is asked for whenever it is described."""

    async def _absent(self, at: SecretPath, answer: Answer) -> SecretsError:
        """Say why there is no metadata; only a mount that is certainly right means missing."""
        if trouble := await self.mount_trouble(at):
            return trouble
        if answer.status == NOT_FOUND:
            return missing(at)
        return SecretsUnreachable(
            f"{at}: what came back is not an answer of KV version 2 (status {answer.status})",
            "check the address and what stands in front of it",
        )

    async def _forbidden(self, at: SecretPath, kind: str, capability: str) -> SecretsError:
        return await self.mount_trouble(at) or Forbidden(
            f"{at}: the token's policies do not allow to {capability} its {kind}",
            f'grant it: path "{at.mount}/{kind}/{at.path}" {{ capabilities = ["{capability}"] }}',
        )


@lru_cache(maxsize=2**16)
def usable(at: SecretPath) -> bool:
    """Whether *at* is a path that may reach a URL, however it was made."""
    return SecretRef.parse(str(at)) == SecretRef(at)


def _check(at: SecretPath, version: int | None) -> None:
    if not usable(at):
        raise SecretUnusable(
            "refused to ask Vault: the reference is not of the form vault:MOUNT/PATH",
            "use letters, digits and - _ . between slashes",
        )
    if version is not None and version < 1:  # Vault takes 0 for the newest
        raise SecretUnusable(f"{at}: there is no version {version}", "versions count from 1")


def _texts(at: SecretPath, version: int, fields: Mapping[str, Any]) -> Mapping[str, Secret]:
    for name in sorted(fields):
        if not isinstance(fields[name], str):
            shown = f"the field {name}" if _FIELD.fullmatch(name) else "a field"
            raise SecretUnusable(
                f"{at}@{version}: {shown} is not text but {_kind(fields[name])}",
                "write it again as text, in quotes",
            )
    return {name: Secret(fields[name]) for name in fields}


def _kind(value: object) -> str:
    kinds = {bool: "true or false", int: "a number", float: "a number", type(None): "null"}
    return kinds.get(type(value), "a list or map")
