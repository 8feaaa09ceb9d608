"""
Reads secrets from KV version 2 of HashiCorp Vault or OpenBao.

This is where HTTP's few status codes become the many different things that can be wrong: Vault says
403 to a dead token, a missing policy and a wrong mount alike, and 404 to a secret that is missing,
deleted or in a mount of another kind.
"""

import re
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Any, Final

from hvac.api.secrets_engines import KvV2

from reconciler.durations import Durations
from reconciler.errors import (
    Forbidden,
    KvVersionOne,
    MountUnknown,
    SecretDeleted,
    SecretDestroyed,
    SecretMissing,
    SecretsError,
    SecretsUnreachable,
    SecretUnusable,
    VersionPruned,
)
from reconciler.model import SecretPath, SecretRef
from reconciler.secrets import Secret, VersionInfo
from reconciler.secrets.vault_auth import AppRoleAuth, TokenAuth, TokenFileAuth, login_for
from reconciler.secrets.vault_session import Answer, Call, VaultSession

__all__ = ["AppRoleAuth", "TokenAuth", "TokenFileAuth", "VaultBackend"]

_OK: Final = 200
_BAD_REQUEST: Final = 400
_FORBIDDEN: Final = 403
_NOT_FOUND: Final = 404
_FIELD: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.\-]*")
_MOMENT: Final = re.compile(
    r"(?P<whole>\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(?P<part>\d{1,9}))?(?P<zone>Z|[+-]\d\d:\d\d)"
)
# The one text of Vault's that must be read: a lost race and a bad request are both 400.
_LOST_RACE: Final = "check-and-set parameter did not match"


class VaultBackend:
    """
    A `SecretBackend` on one Vault address with one login.  No network before the first call.

    Safe to call from several threads.  Raises Blocked for an address over which a token must not
    travel.
    """

    def __init__(
        self,
        *,
        address: str,
        auth: TokenAuth | TokenFileAuth | AppRoleAuth,
        namespace: str = "",
        ca_file: str | None = None,
        durations: Durations,
    ) -> None:
        self._session = VaultSession(
            address=address, namespace=namespace, ca_file=ca_file, durations=durations
        )
        self._login = login_for(auth, self._session)

    def describe(self, at: SecretPath, version: int | None = None) -> VersionInfo:
        """Return facts on one version, or the newest, from one read of metadata."""
        _check(at, version)
        answer = self._ask(
            at,
            f"/v1/{at.mount}/metadata/{at.path}",
            lambda call: KvV2(call).read_secret_metadata(path=at.path, mount_point=at.mount),
        )
        if answer.status == _FORBIDDEN:
            raise self._forbidden(at, "metadata", "read")
        versions = answer.data.get("versions")
        newest = answer.data.get("current_version")
        if answer.status != _OK or not isinstance(versions, dict) or type(newest) is not int:
            raise self._absent(at, answer)
        if newest == 0:
            raise _missing(at)
        if answer.clock is None:
            raise SecretsUnreachable(
                f"{at}: the answer carries no Date, so nobody can say how old the secret is",
                "let the Date header of Vault through",
            )
        return _version_info(at, versions, newest, version or newest, answer.clock)

    def read(self, at: SecretPath, version: int, created: str) -> Mapping[str, Secret]:
        """Return all fields of exactly this version, in one request."""
        _check(at, version)
        answer = self._ask(
            at,
            f"/v1/{at.mount}/data/{at.path}",
            lambda call: KvV2(call).read_secret_version(
                path=at.path,
                version=version,
                mount_point=at.mount,
                raise_on_deleted_version=False,
            ),
        )
        if answer.status == _FORBIDDEN:
            raise self._forbidden(at, "data", "read")
        fields, facts = answer.data.get("data"), answer.data.get("metadata")
        if answer.status != _OK or not isinstance(fields, dict) or not isinstance(facts, dict):
            self.describe(at, version)  # its metadata tells deleted, destroyed, pruned, missing
            raise SecretsUnreachable(f"{at}@{version} changed while it was being read", "try again")
        if facts.get("version") != version or facts.get("created_time") != created:
            raise SecretUnusable(
                f"{at}@{version} is not the version that was looked at before: the secret was "
                "removed and written anew",
                "plan again",
            )
        return _texts(at, version, fields)

    def create_once(self, at: SecretPath, field: str, value: Secret) -> Secret:
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
        answer = self._ask(
            at,
            f"/v1/{at.mount}/data/{at.path}",
            lambda call: KvV2(call).create_or_update_secret(
                path=at.path, secret={field: value.reveal()}, cas=0, mount_point=at.mount
            ),
        )
        if answer.status == _FORBIDDEN:
            raise self._forbidden(at, "data", "create")
        if answer.status == _NOT_FOUND:
            raise self._absent(at, answer)
        errors = answer.body.get("errors")
        lost = isinstance(errors, list) and any(_LOST_RACE in str(text) for text in errors)
        if answer.status != _OK and not (answer.status == _BAD_REQUEST and lost):
            raise SecretsError(
                f"{at}: Vault refused to write it (status {answer.status})",
                "check the rules of its mount",
            )
        info = self.describe(at)
        present = self.read(at, info.version, info.created).get(field)
        if present is None:
            raise SecretUnusable(f"{at} exists, but has no field {field}", "use another path")
        return present

    def close(self) -> None:
        """Revoke the token if this process logged in for it, and give back connections."""
        self._login.close()
        self._session.close()

    def _ask(self, at: SecretPath, path: str, send: Callable[[Call], Answer]) -> Answer:
        """Send with the present token, and once more with a new one if that token has died."""
        token = self._login.token()
        answer = send(self._session.expecting(path, token))
        if answer.status != _FORBIDDEN or self._lives(token):
            return answer
        token = self._login.renewed(token, str(at))
        return send(self._session.expecting(path, token))

    def _lives(self, token: Secret) -> bool:
        path = "/v1/auth/token/lookup-self"
        return self._session.expecting(path, token).get(path).status != _FORBIDDEN

    def _mount_facts(self, at: SecretPath) -> Mapping[str, Any] | None:
        """Return what Vault says of the mount that serves *at*; None when it will not say."""
        path = f"/v1/sys/internal/ui/mounts/{at.mount}/{at.path}"
        answer = self._session.expecting(path, self._login.token()).get(path)
        return answer.data if answer.status == _OK else None

    def _mount_trouble(self, at: SecretPath, facts: Mapping[str, Any]) -> SecretsError | None:
        mount = str(facts.get("path", "")).strip("/")
        if mount != at.mount and f"{at.mount}/{at.path}/".startswith(f"{mount}/"):
            rest = f"{at.mount}/{at.path}".removeprefix(f"{mount}/")
            return MountUnknown(f"{at}: the mount there is {mount}", f"write vault:{mount}//{rest}")
        if facts.get("type") not in {"kv", "generic"}:
            return MountUnknown(
                f"{at}: the mount {at.mount} is no KV secrets engine", "name one of KV version 2"
            )
        options = facts.get("options")
        if not isinstance(options, dict) or options.get("version") != "2":
            return KvVersionOne(
                f"{at}: the mount {at.mount} is KV version 1, which keeps no versions",
                f"upgrade it: bao kv enable-versioning {at.mount}",
            )
        return None

    def _absent(self, at: SecretPath, answer: Answer) -> SecretsError:
        """Say why there is no metadata; only a mount that is certainly right means missing."""
        facts = self._mount_facts(at)
        if facts is None:
            return _no_mount(at)
        if trouble := self._mount_trouble(at, facts):
            return trouble
        if answer.status == _NOT_FOUND:
            return _missing(at)
        return SecretsUnreachable(
            f"{at}: what came back is not an answer of KV version 2 (status {answer.status})",
            "check the address and what stands in front of it",
        )

    def _forbidden(self, at: SecretPath, kind: str, capability: str) -> SecretsError:
        facts = self._mount_facts(at)
        if facts is None:
            return _no_mount(at)
        return self._mount_trouble(at, facts) or Forbidden(
            f"{at}: the token's policies do not allow to {capability} its {kind}",
            f'grant it: path "{at.mount}/{kind}/{at.path}" {{ capabilities = ["{capability}"] }}',
        )


def _check(at: SecretPath, version: int | None) -> None:
    """Refuse a path that is none, however it was made: nothing of it may reach a URL."""
    parsed = SecretRef.parse(str(at))
    if parsed is None or parsed != SecretRef(at):
        raise SecretUnusable(
            "refused to ask Vault: the reference is not of the form vault:MOUNT/PATH",
            "use letters, digits and - _ . between slashes",
        )
    if version is not None and version < 1:  # Vault takes 0 for the newest
        raise SecretUnusable(f"{at}: there is no version {version}", "versions count from 1")


def _version_info(
    at: SecretPath, versions: Mapping[str, Any], newest: int, version: int, clock: datetime
) -> VersionInfo:
    facts = versions.get(str(version))
    if facts is None and version > newest:
        raise VersionPruned(
            f"{at}@{version} was never written; the newest version is {newest}", "pin another one"
        )
    if facts is None:
        raise VersionPruned(
            f"{at}@{version} is no longer kept; the newest version is {newest}",
            "pin a newer one, or let the mount keep more (max_versions)",
        )
    created = facts.get("created_time") if isinstance(facts, dict) else None
    written = _moment(created)
    gone = facts.get("deletion_time") if isinstance(facts, dict) else None
    if not isinstance(created, str) or written is None or not isinstance(gone, str):
        raise SecretsUnreachable(
            f"{at}: what came back is not an answer of KV version 2", "check the address"
        )
    if facts.get("destroyed") is not False:
        raise SecretDestroyed(f"{at}@{version} was destroyed", "write a new version")
    if gone:
        # `delete_version_after` announces a time to come: until then the version is alive.
        moment = _moment(gone)
        # Vault's Date has whole seconds, so "now" may be almost one later.
        if moment is None or moment < clock + timedelta(seconds=1):
            raise SecretDeleted(
                f"{at}@{version} was deleted",
                f"bring it back: bao kv undelete -mount={at.mount} -versions={version} {at.path}, "
                "or write a new version",
            )
    age = max(0.0, (clock - written).total_seconds())
    return VersionInfo(version=version, created=created, age=age, alive=True)


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


def _moment(text: object) -> datetime | None:
    """Read RFC 3339 with up to nine decimals; None when it is something else."""
    match = _MOMENT.fullmatch(text) if isinstance(text, str) else None
    if match is None:
        return None
    part = (match["part"] or "0")[:6].ljust(6, "0")
    zone = "+00:00" if match["zone"] == "Z" else match["zone"]
    try:
        return datetime.fromisoformat(f"{match['whole']}.{part}{zone}")
    except ValueError:
        return None


def _missing(at: SecretPath) -> SecretMissing:
    return SecretMissing(
        f"{at}: nothing was ever written there, or all of it was removed",
        f"write it: bao kv put -mount={at.mount} {at.path} FIELD=-",
    )


def _no_mount(at: SecretPath) -> MountUnknown:
    return MountUnknown(
        f"{at}: there is no mount {at.mount}, or the token has no right at all below it",
        "check the mount (everything before `//`, else the first segment) and the token's policies",
    )
