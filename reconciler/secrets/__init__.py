"""
The contract of a secret backend; every failure has a class, and none looks like an absence.

Never changes a server, and no value leaves but inside a `Secret`.
"""

from collections.abc import Mapping
from typing import Protocol

from reconciler.model.references import SecretPath
from reconciler.model.secret import Secret, VersionInfo


class SecretBackend(Protocol):
    """
    Reads secrets.  Blocking; safe to call from several threads.

    Every failure is a `SecretsError` of the class that fits, and none of them looks like an
    absence.  No method ever changes anything, and no value leaves except inside a `Secret`.
    """

    def describe(self, at: SecretPath, version: int | None = None) -> VersionInfo:
        """
        Return facts on one version, the newest when *version* is None, from metadata alone.

        Raises SecretDeleted, SecretDestroyed, VersionPruned, SecretMissing when that version cannot
        be read, and the other classes when nothing can be said.
        """
        ...

    def read(self, at: SecretPath, version: int, created: str) -> Mapping[str, Secret]:
        """
        Return all fields of exactly this version, in one request.

        Raises SecretUnusable when a field is not text, or when the version of that number is not
        the one created then.
        """
        ...

    def close(self) -> None:
        """Give back connections and, where this process logged in, the token."""
        ...
