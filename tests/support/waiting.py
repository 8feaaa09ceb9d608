"""The secret back ends, for tests that have no loop: each call waits for its end."""

import asyncio
import inspect
from collections.abc import Callable, Mapping
from typing import Any, Final, cast

from reconciler.model.references import SecretPath, SecretRef
from reconciler.model.secret import Secret, VersionInfo
from reconciler.secrets import fingerprint_key, memory
from reconciler.secrets.vault import backend, sweep

OPENED: Final[list["VaultBackend"]] = []
"""Those that nobody closed yet."""


class _Waiting:
    """Has all that *inner* has; *wait* runs a coroutine to its end."""

    def __init__(self, inner: Any, wait: Callable[[Any], Any]) -> None:
        self.inner = inner
        self.wait = wait

    def __getattr__(self, name: str) -> Any:
        found = getattr(self.inner, name)
        if not inspect.iscoroutinefunction(found):
            return found
        return lambda *args, **named: self.wait(found(*args, **named))


class _Backend(_Waiting):
    def describe(self, at: SecretPath, version: int | None = None) -> VersionInfo:
        return cast("VersionInfo", self.wait(self.inner.describe(at, version)))

    def read(self, at: SecretPath, version: int, created: str) -> Mapping[str, Secret]:
        return cast("Mapping[str, Secret]", self.wait(self.inner.read(at, version, created)))

    def create_once(self, at: SecretPath, field: str, value: Secret) -> Secret:
        return cast("Secret", self.wait(self.inner.create_once(at, field, value)))


class VaultBackend(_Backend):
    """As the one of the same name."""

    def __init__(self, **settings: Any) -> None:
        made = backend.VaultBackend(**settings)
        super().__init__(made, made.wait)
        OPENED.append(self)

    def close(self) -> None:
        if self in OPENED:
            OPENED.remove(self)
        self.inner.close()

    def token(self) -> Secret:
        """Return the present token, logging in first if need be."""
        return cast("Secret", self.wait(self.inner._login.token()))


class Sweeper(_Waiting):
    """As the one of the same name."""

    def __init__(self, on: VaultBackend, **settings: Any) -> None:
        super().__init__(sweep.Sweeper(on.inner, **settings), on.wait)


class SweptBackend(_Backend):
    """As the one of the same name."""

    def __init__(self, on: VaultBackend, **settings: Any) -> None:
        super().__init__(sweep.SweptBackend(on.inner, **settings), on.wait)


class MemoryBackend(_Backend):
    """As the one of the same name."""

    def __init__(self, *args: Any, **settings: Any) -> None:
        super().__init__(memory.MemoryBackend(*args, **settings), asyncio.run)


def key_from_vault(backend: _Waiting, ref: SecretRef, *, create: bool) -> Secret | None:
    """As the one of the same name."""
    found = fingerprint_key.key_from_vault(backend.inner, ref, create=create)
    return cast("Secret | None", backend.wait(found))
