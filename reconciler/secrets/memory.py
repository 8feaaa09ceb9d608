"""
A secret backend in a dictionary: the same contract as Vault's, for tests and for trying out.

What people do to secrets (put, delete, destroy) is here as well, since no other part may do it.
"""

import threading
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from reconciler.errors import (
    MountUnknown,
    SecretDeleted,
    SecretDestroyed,
    SecretMissing,
    SecretUnusable,
    VersionPruned,
)
from reconciler.model.references import SecretPath
from reconciler.model.secret import Secret, VersionInfo


@dataclass(slots=True)
class _Version:
    values: Mapping[str, Any]
    created: str
    at: float
    deleted_at: float | None = None
    destroyed: bool = False

    def __repr__(self) -> str:
        return f"_Version({self.created})"


class MemoryBackend:
    """
    Keeps versions as KV version 2 does: the newest *keep* of each path, counted from 1.

    `described` and `reads` list what was asked, in order, so that a test can see that nothing was
    read.  *clock* gives seconds since the epoch.
    """

    def __init__(
        self,
        mounts: tuple[str, ...] = ("secret",),
        *,
        keep: int = 10,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.described: list[SecretPath] = []
        self.reads: list[tuple[SecretPath, int]] = []
        self._mounts = mounts
        self._keep = keep
        self._clock = clock
        self._secrets: dict[SecretPath, dict[int, _Version]] = {}
        self._writes: dict[SecretPath, int] = {}
        self._bound: dict[SecretPath, tuple[str, ...]] = {}
        self._lock = threading.RLock()

    async def describe(self, at: SecretPath, version: int | None = None) -> VersionInfo:
        with self._lock:
            self.described.append(at)
            number, found = self._find(at, version)
            age = max(0.0, self._clock() - found.at)
            bound = self._bound.get(at)
            return VersionInfo(number, found.created, age, alive=True, targets=bound)

    async def read(self, at: SecretPath, version: int, created: str) -> Mapping[str, Secret]:
        with self._lock:
            self.reads.append((at, version))
            _, found = self._find(at, version)
            if found.created != created:
                raise SecretUnusable(
                    f"{at}@{version} is not the version that was looked at before", "plan again"
                )
            for name in sorted(found.values):
                if not isinstance(found.values[name], str):
                    raise SecretUnusable(
                        f"{at}@{version}: the field {name} is not text", "write it again as text"
                    )
            return {name: Secret(found.values[name]) for name in found.values}

    async def create_once(self, at: SecretPath, field: str, value: Secret) -> Secret:
        with self._lock:
            if at not in self._secrets:
                self.put(at, {field: value.reveal()})
            info = await self.describe(at)
            present = (await self.read(at, info.version, info.created)).get(field)
        if present is None:
            raise SecretUnusable(f"{at} exists, but has no field {field}", "use another path")
        return present

    async def prepare(self, secrets: Collection[SecretPath]) -> None:
        """Nothing: asking one by one costs nothing here."""

    def forget(self) -> None:
        """Nothing."""

    def close(self) -> None:
        """Keep everything: whoever holds the object may go on."""

    def put(self, at: SecretPath, fields: Mapping[str, Any]) -> int:
        """Write a new version; return its number."""
        with self._lock:
            self._check_mount(at)
            versions = self._secrets.setdefault(at, {})
            number = max(versions, default=0) + 1
            now = self._clock()
            # Nanoseconds that never repeat, as Vault's do, also under a clock that stands still.
            writes = self._writes[at] = self._writes.get(at, 0) + 1
            moment = datetime.fromtimestamp(int(now), UTC).strftime("%Y-%m-%dT%H:%M:%S")
            created = f"{moment}.{writes % 10**9:09d}Z"
            versions[number] = _Version(dict(fields), created, now)
            versions.pop(number - self._keep, None)
            return number

    def bind(self, at: SecretPath, *targets: str) -> None:
        """Say as its owner which addresses may get a secret."""
        with self._lock:
            self._bound[at] = targets

    def delete(self, at: SecretPath, *versions: int, after: float = 0.0) -> None:
        with self._lock:
            for version in versions:
                self._secrets[at][version].deleted_at = self._clock() + after

    def undelete(self, at: SecretPath, *versions: int) -> None:
        with self._lock:
            for version in versions:
                self._secrets[at][version].deleted_at = None

    def destroy(self, at: SecretPath, *versions: int) -> None:
        with self._lock:
            for version in versions:
                self._secrets[at][version].destroyed = True
                self._secrets[at][version].values = {}

    def remove(self, at: SecretPath) -> None:
        """Remove a secret with its metadata: versions start over at 1."""
        with self._lock:
            self._secrets.pop(at, None)

    def _check_mount(self, at: SecretPath) -> None:
        if at.mount not in self._mounts:
            raise MountUnknown(f"{at}: there is no mount {at.mount}", "check the mount")

    def _find(self, at: SecretPath, version: int | None) -> tuple[int, _Version]:
        self._check_mount(at)
        versions = self._secrets.get(at)
        if not versions:
            raise SecretMissing(
                f"{at}: nothing was ever written there, or all of it was removed", "write it"
            )
        number = max(versions) if version is None else version
        if number < 1:
            raise SecretUnusable(f"{at}: there is no version {number}", "versions count from 1")
        found = versions.get(number)
        if found is None:
            raise VersionPruned(
                f"{at}@{number} is not kept; the newest version is {max(versions)}",
                "pin another one",
            )
        if found.destroyed:
            raise SecretDestroyed(f"{at}@{number} was destroyed", "write a new version")
        if found.deleted_at is not None and found.deleted_at <= self._clock():
            raise SecretDeleted(f"{at}@{number} was deleted", "undelete it, or write a new version")
        return number, found
