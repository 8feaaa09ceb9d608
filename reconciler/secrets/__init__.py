"""
The contract of a secret backend; every failure has a class, and none looks like an absence.

Never changes a server, and no value leaves but inside a `Secret`.
"""

from collections.abc import Collection, Mapping
from typing import Protocol

from reconciler.model.references import SecretPath
from reconciler.model.secret import Secret, VersionInfo


class SecretBackend(Protocol):
    """
    Reads secrets, for many callers at once.

    Every failure is a `SecretsError` of the class that fits, and none of them looks like an
    absence.  No method ever changes anything, and no value leaves except inside a `Secret`.
    """

    async def describe(self, at: SecretPath, version: int | None = None) -> VersionInfo:
        """
        Return facts on one version, the newest when *version* is None, from metadata alone.

        Raises SecretDeleted, SecretDestroyed, VersionPruned, SecretMissing when that version cannot
        be read, and the other classes when nothing can be said.
        """
        ...

    async def read(self, at: SecretPath, version: int, created: str) -> Mapping[str, Secret]:
        """
        Return all fields of exactly this version, in one request.

        Raises SecretUnusable when a field is not text, or when the version of that number is not
        the one created then.
        """
        ...

    async def prepare(self, secrets: Collection[SecretPath]) -> None:
        """
        Learn the newest versions of many secrets at once, if that costs less than one by one.

        Until `forget` they may be described as they were then.  Raises nothing: what could not be
        learnt is asked for when it is described.
        """
        ...

    def forget(self) -> None:
        """Describe everything anew from now on."""
        ...

    def close(self) -> None:
        """Give back connections and, where this process logged in, the token."""
        ...
