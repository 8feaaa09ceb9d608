"""
Text documents below one path of a KV version 2 mount, for whoever keeps a ledger there.

Reads, lists, and writes with check-and-set; there is nothing here that deletes.  The ledger
(`ledger.stores.vault_kv`) says what it needs as a protocol, and this module knows no ledger.
"""

from collections.abc import Mapping
from typing import Any, Final

from reconciler.errors import Forbidden, SecretsError, SecretsUnreachable
from reconciler.model.references import SecretPath
from reconciler.secrets.vault.access import FORBIDDEN, NOT_FOUND, OK, VaultAccess, lost_race
from reconciler.secrets.vault.client import Answer


class VaultDocuments:
    """
    What lies below *at*; names are relative to it, and a folder's name may be empty.

    Blocking, and safe to call from several threads.  Every failure is a SecretsError; one that is
    `transient` leaves open what happened, after any other nothing was changed.
    """

    def __init__(self, access: VaultAccess, at: SecretPath) -> None:
        self._access: Final = access
        self._at: Final = at

    @property
    def place(self) -> str:
        return str(self._at)

    def check_mount(self) -> None:
        """Raise MountUnknown or KvVersionOne unless the mount is KV version 2."""
        if trouble := self._access.wait(self._access.mount_trouble(self._at)):
            raise trouble

    def insists_on_cas(self) -> bool | None:
        """Whether the mount refuses writes without check-and-set; None when it may not be asked."""
        path = f"/v1/{self._at.mount}/config"
        answer = self._ask("GET", path)
        return answer.data.get("cas_required") is True if answer.status == OK else None

    def read(
        self, name: str, version: int | None = None
    ) -> tuple[int, Mapping[str, Any] | None] | None:
        """
        Return a version's number and fields, the newest when *version* is None.

        The fields are None when that version was deleted or destroyed; the whole is None when
        there is no such version.
        """
        path = self._path("data", name)
        params = None if version is None else {"version": version}
        answer = self._ask("GET", path, params=params)
        number = _facts(answer).get("version")
        if answer.status == OK and type(number) is int:
            fields = answer.data.get("data")
            return number, fields if isinstance(fields, dict) else None
        if answer.status == NOT_FOUND and type(number) is int:
            return number, None  # deleted or destroyed: Vault still tells the facts
        if _nothing(answer):
            return None
        raise self._failure(answer, "read", "data")

    def put(self, name: str, fields: Mapping[str, str], *, cas: int) -> int | None:
        """
        Write the version after *cas*; return its number, None when *cas* is not the newest.

        Sent once, except where Vault certainly did not act: a write that took effect unseen and was
        then repeated would look like a lost race.  A proxy can lie about not having acted, so
        after None the caller still has to look whose version is there.
        """
        path = self._path("data", name)
        body = {"options": {"cas": cas}, "data": dict(fields)}
        answer = self._ask("POST", path, body=body)
        number = answer.data.get("version")
        if answer.status == OK and type(number) is int:
            return number
        if lost_race(answer):
            return None
        raise self._failure(answer, "create and update", "data")

    def current(self, name: str) -> int:
        """Return the number of the newest version, deleted or not; 0 when there never was one."""
        path = self._path("metadata", name)
        answer = self._ask("GET", path)
        number = answer.data.get("current_version")
        if answer.status == OK and type(number) is int:
            return number
        if _nothing(answer):
            return 0
        raise self._failure(answer, "read", "metadata")

    def list(self, folder: str) -> list[str]:
        """Return the names in a folder; those of folders end with a slash."""
        path = self._path("metadata", folder)
        answer = self._ask("GET", path, params={"list": "true"})
        names = answer.data.get("keys")
        if answer.status == OK and isinstance(names, list):
            return [name for name in names if isinstance(name, str)]
        if _nothing(answer):
            return []
        raise self._failure(answer, "list", "metadata")

    def _ask(self, method: str, path: str, **parts: Any) -> Answer:
        return self._access.wait(self._access.ask(self.place, method, path, **parts))

    def _path(self, kind: str, name: str) -> str:
        rest = f"/{name}" if name else ""
        return f"/v1/{self._at.mount}/{kind}/{self._at.path}{rest}"

    def _failure(self, answer: Answer, wanted: str, kind: str) -> SecretsError:
        trouble = self._access.wait(self._access.mount_trouble(self._at))
        if trouble is not None:
            return trouble
        if answer.status == FORBIDDEN:
            rights = ", ".join(f'"{right}"' for right in wanted.split(" and "))
            return Forbidden(
                f"{self.place}: the token's policies do not allow to {wanted} the {kind} below it",
                f'grant it: path "{self._at.mount}/{kind}/{self._at.path}/*" '
                f"{{ capabilities = [{rights}] }}",
            )
        if answer.status in (OK, NOT_FOUND):
            return SecretsUnreachable(
                f"{self.place}: what came back is not an answer of KV version 2 "
                f"(status {answer.status})",
                "check the address and what stands in front of it",
            )
        return SecretsError(
            f"{self.place}: Vault refused to {wanted} the {kind} below it (status {answer.status})",
            "check the rules of its mount and how large a request may be",
        )


def _facts(answer: Answer) -> Mapping[str, Any]:
    facts = answer.data.get("metadata")
    return facts if isinstance(facts, dict) else {}


def _nothing(answer: Answer) -> bool:
    """Whether Vault says that nothing is there, and does not complain of the path either."""
    return answer.status == NOT_FOUND and answer.body.get("errors") == []
