"""The resolver: what it waits for, and when it no longer does."""

import asyncio
from collections.abc import Collection, Mapping

import pytest

from reconciler.drivers.jt_trader.driver import JtTraderDriver
from reconciler.errors import NotSettled, SecretsUnreachable, StillBeingWritten
from reconciler.model.references import SecretPath, SecretRef
from reconciler.model.secret import Secret, VersionInfo
from reconciler.model.target import Target
from reconciler.model.values import replace
from reconciler.observe.resolver import Resolver, ResolverCache, spellings
from reconciler.system.timeouts import Timeouts
from tests.support import factories as f

TARGET = Target(f.URL, "0")
QUICK = replace(Timeouts(), secrets_request=0.01, settle=0.05, settle_total=0.2)


class Away:
    """A backend that is away, and counts who asked."""

    def __init__(self, seconds: float) -> None:
        self.asked = 0
        self._seconds = seconds

    async def describe(self, at: SecretPath, version: int | None = None) -> VersionInfo:
        self.asked += 1
        await asyncio.sleep(self._seconds)
        raise SecretsUnreachable(f"{at} {version}: nothing listens there", "look at Vault")

    async def read(self, at: SecretPath, version: int, created: str) -> Mapping[str, Secret]:
        raise NotImplementedError((at, version, created))

    async def prepare(self, secrets: Collection[SecretPath]) -> None:
        """Nothing."""

    def forget(self) -> None:
        """Nothing."""

    def close(self) -> None:
        """Nothing to give back."""


class Restless(Away):
    """A backend in which a new version appears with every look."""

    async def describe(self, at: SecretPath, version: int | None = None) -> VersionInfo:
        del at, version
        self.asked += 1
        return VersionInfo(self.asked, f"t{self.asked}", 0.0, alive=True)


def resolver(backend: Away, said: list[str] | None = None, timeouts: Timeouts = QUICK) -> Resolver:
    """A resolver on this backend."""
    driver = JtTraderDriver(command="plan", timeouts=timeouts)
    return Resolver(backend, driver, timeouts, (said if said is not None else []).append)


@pytest.mark.parametrize(("seconds", "asked"), [(0.25, 1), (0.0, 3)])
def test_a_backend_that_stays_away_is_waited_for_once_in_a_pass(seconds: float, asked: int) -> None:
    backend = Away(seconds)
    resolving = resolver(backend, timeouts=replace(QUICK, secrets_request=0.2))

    async def story() -> None:
        for name in ("bybit", "okx", "kucoin"):
            with pytest.raises(SecretsUnreachable):
                await resolving.freeze(f.exchange(name), TARGET)

    asyncio.run(story())

    assert backend.asked == asked


def test_a_secret_that_never_rests_is_still_being_written() -> None:
    backend, said = Restless(0), []  # type: ignore[var-annotated]

    with pytest.raises(StillBeingWritten, match="still being written"):
        asyncio.run(resolver(backend, said).freeze(f.exchange(), TARGET))

    assert backend.asked > 2


def test_a_pinned_version_is_not_waited_for() -> None:
    backend = Restless(0)
    pinned = f.exchange(secret=SecretRef(f.path(), version=7))

    asyncio.run(resolver(backend).freeze(pinned, TARGET))

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


def test_a_long_lived_process_does_not_wait_until_a_secret_has_settled() -> None:
    backend, cache = Restless(0), ResolverCache()
    resolving = resolver(backend).anew(cache)

    with pytest.raises(NotSettled) as raised:
        asyncio.run(resolving.freeze(f.exchange(), TARGET))

    assert backend.asked == 1
    assert 0 < raised.value.after <= QUICK.settle


class Resting(Away):
    """A backend whose secret has one version, of which Vault's clock says no age."""

    async def describe(self, at: SecretPath, version: int | None = None) -> VersionInfo:
        del at, version
        self.asked += 1
        return VersionInfo(1, "t1", 0.0, alive=True)


def test_what_was_watched_over_several_passes_counts_as_settled() -> None:
    backend, cache = Resting(0), ResolverCache()

    async def story() -> None:
        with pytest.raises(NotSettled) as raised:
            await resolver(backend).anew(cache).freeze(f.exchange(), TARGET)
        await asyncio.sleep(raised.value.after)
        assert await resolver(backend).anew(cache).freeze(f.exchange(), TARGET)

    asyncio.run(story())


def test_a_backend_that_stays_away_is_not_asked_by_later_passes() -> None:
    backend, cache = Away(0.02), ResolverCache()

    async def story() -> None:
        for _ in range(3):
            with pytest.raises(SecretsUnreachable):
                await resolver(backend).anew(cache).freeze(f.exchange(), TARGET)
        cache.down = None
        with pytest.raises(SecretsUnreachable):
            await resolver(backend).anew(cache).freeze(f.exchange(), TARGET)

    asyncio.run(story())
    assert backend.asked == 2
