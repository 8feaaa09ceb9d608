"""The resolver: what it waits for, and when it no longer does."""

import asyncio
import time
from collections.abc import Mapping
from dataclasses import replace

import pytest

from reconciler.drivers.memory import MemoryDriver
from reconciler.durations import Durations
from reconciler.errors import SecretsUnreachable, StillBeingWritten
from reconciler.model import SecretPath, SecretRef
from reconciler.resolve import Resolver, spellings
from reconciler.secrets import Secret, VersionInfo
from tests import factories as f

QUICK = replace(Durations(), secrets_request=0.01, settle=0.05, settle_total=0.2)


class Away:
    """A backend that is away, and counts who asked."""

    def __init__(self, seconds: float) -> None:
        self.asked = 0
        self._seconds = seconds

    def describe(self, at: SecretPath, version: int | None = None) -> VersionInfo:
        self.asked += 1
        time.sleep(self._seconds)
        raise SecretsUnreachable(f"{at} {version}: nothing listens there", "look at Vault")

    def read(self, at: SecretPath, version: int, created: str) -> Mapping[str, Secret]:
        raise NotImplementedError((at, version, created))

    def close(self) -> None:
        """Nothing to give back."""


class Restless(Away):
    """A backend in which a new version appears with every look."""

    def describe(self, at: SecretPath, version: int | None = None) -> VersionInfo:
        del at, version
        self.asked += 1
        return VersionInfo(self.asked, f"t{self.asked}", 0.0, alive=True)


def resolver(
    backend: Away, said: list[str] | None = None, durations: Durations = QUICK
) -> Resolver:
    """A resolver on this backend."""
    return Resolver(backend, MemoryDriver({}), durations, (said if said is not None else []).append)


@pytest.mark.parametrize(("seconds", "asked"), [(0.25, 1), (0.0, 3)])
def test_a_backend_that_stays_away_is_waited_for_once_in_a_pass(seconds: float, asked: int) -> None:
    backend = Away(seconds)
    resolving = resolver(backend, durations=replace(QUICK, secrets_request=0.2))

    async def story() -> None:
        for name in ("bybit", "okx", "kucoin"):
            with pytest.raises(SecretsUnreachable):
                await resolving.freeze(f.exchange(name))

    asyncio.run(story())

    assert backend.asked == asked


def test_a_secret_that_never_rests_is_still_being_written() -> None:
    backend, said = Restless(0), []  # type: ignore[var-annotated]

    with pytest.raises(StillBeingWritten, match="still being written"):
        asyncio.run(resolver(backend, said).freeze(f.exchange()))

    assert backend.asked > 2


def test_a_pinned_version_is_not_waited_for() -> None:
    backend = Restless(0)
    pinned = f.exchange(secret=SecretRef(f.path(), version=7))

    asyncio.run(resolver(backend).freeze(pinned))

    assert backend.asked == 1


@pytest.mark.parametrize(
    ("credential", "names"),
    [
        ("apiKey", ("apiKey", "api_key")),
        ("secret", ("secret", "api_secret")),
        ("password", ("password",)),
        ("walletAddress", ("walletAddress", "wallet_address")),
        ("privateKey", ("privateKey", "private_key")),
    ],
)
def test_spellings_of_a_field(credential: str, names: tuple[str, ...]) -> None:
    assert spellings(credential) == names
