"""
What KV version 2 says of the versions of one secret, and what that means for us.

The same object comes from a read of one secret's metadata and from a listing of many.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Any, Final

from reconciler.errors import (
    SecretDeleted,
    SecretDestroyed,
    SecretMissing,
    SecretsError,
    SecretsUnreachable,
    VersionPruned,
)
from reconciler.model.references import SecretPath
from reconciler.model.secret import VersionInfo

TARGETS: Final = "jtr_targets"
"""The custom metadata in which a secret's owner says who may get it."""
_MOMENT: Final = re.compile(
    r"(?P<whole>\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(?P<part>\d{1,9}))?(?P<zone>Z|[+-]\d\d:\d\d)"
)


@dataclass(frozen=True, slots=True)
class Versions:
    """
    All versions of the secret *at*, as Vault told them when its own clock showed *clock*.

    `current` are the facts on the newest one, or why there are none.
    """

    at: SecretPath
    newest: int
    facts: Mapping[str, Any]
    clock: datetime
    targets: tuple[str, ...] | None = None
    current: VersionInfo | SecretsError = field(init=False)

    def __post_init__(self) -> None:
        current: VersionInfo | SecretsError
        try:
            current = self.info()
        except SecretsError as error:
            current = error.with_traceback(None)  # it would hold this frame
        object.__setattr__(self, "current", current)

    @classmethod
    def of(
        cls, at: SecretPath, data: Mapping[str, Any], clock: datetime | None
    ) -> "Versions | None":
        """
        Read what Vault says of *at*; None when that is not an answer of KV version 2.

        Raises SecretMissing for a secret that has metadata but never had a version, and
        SecretsUnreachable when nobody can say how old the versions are.
        """
        facts, newest = data.get("versions"), data.get("current_version")
        if not isinstance(facts, dict) or type(newest) is not int:
            return None
        if newest == 0:
            raise missing(at)
        if clock is None:
            raise SecretsUnreachable(
                f"{at}: the answer carries no Date, so nobody can say how old the secret is",
                "let the Date header of Vault through",
            )
        return cls(at, newest, facts, clock, _targets(data.get("custom_metadata")))

    def info(self, version: int | None = None, *, later: float = 0.0) -> VersionInfo:
        """
        Return facts on one version, the newest when it is None, *later* seconds after the answer.

        Raises SecretDeleted, SecretDestroyed, VersionPruned, and SecretsUnreachable for facts that
        are none.
        """
        at, newest = self.at, self.newest
        clock = self.clock + timedelta(seconds=later) if later else self.clock
        version = version or newest
        facts = self.facts.get(str(version))
        if facts is None and version > newest:
            raise VersionPruned(
                f"{at}@{version} was never written; the newest version is {newest}",
                "pin another one",
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
                    f"bring it back: bao kv undelete -mount={at.mount} -versions={version} "
                    f"{at.path}, or write a new version",
                )
        age = max(0.0, (clock - written).total_seconds())
        return VersionInfo(version, created, age, alive=True, targets=self.targets)


def _targets(custom: object) -> tuple[str, ...] | None:
    """Return which addresses the owner of a secret names; None where nothing is said."""
    said = custom.get(TARGETS) if isinstance(custom, dict) else None
    if said is None:
        return None
    return tuple(word for part in str(said).split(",") if (word := part.strip()))


def missing(at: SecretPath) -> SecretMissing:
    """Return the error for a path where certainly nothing is."""
    return SecretMissing(
        f"{at}: nothing was ever written there, or all of it was removed",
        f"write it: bao kv put -mount={at.mount} {at.path} FIELD=-",
    )


def _moment(text: object) -> datetime | None:
    """Read RFC 3339 with up to nine decimals; None when it is something else."""
    return _read_moment(text) if isinstance(text, str) else None


@lru_cache(maxsize=2**16)  # every sweep tells the same ones
def _read_moment(text: str) -> datetime | None:
    match = _MOMENT.fullmatch(text)
    if match is None:
        return None
    part = (match["part"] or "0")[:6].ljust(6, "0")
    zone = "+00:00" if match["zone"] == "Z" else match["zone"]
    try:
        return datetime.fromisoformat(f"{match['whole']}.{part}{zone}")
    except ValueError:
        return None
