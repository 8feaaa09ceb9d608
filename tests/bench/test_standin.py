"""
To our driver the stand-in fleet of the benchmarks is the same as the stand-in that is the truth.

Skipped where npm's packages are not installed; `make bench` installs them first.
"""

import asyncio
from collections.abc import Iterator

import pytest

from bench.scale.fleet import FIELDS
from bench.scale.standin import FOLDER, Standins
from reconciler.drivers import Login, Trust
from reconciler.drivers.jt_trader.driver import JtTraderDriver
from reconciler.errors import Unauthorized
from reconciler.model.observed import ObservedServer
from reconciler.model.secret import Secret
from reconciler.model.target import Target
from reconciler.sandbox.jt_trader.server import Behaviour, Robot, StandInThread
from reconciler.system.timeouts import Timeouts
from tests.support.leaks import Watch

pytestmark = pytest.mark.skipif(
    not (FOLDER / "node_modules" / ".installed").is_file(), reason="npm's packages are not here"
)
WRITTEN = ("bybit", "kucoin")


@pytest.fixture
def secret(watch: Watch) -> str:
    return watch.secret("base62")


@pytest.fixture
def standins(secret: str) -> Iterator[Standins]:
    with Standins(2) as started:
        started.set([{"secret": secret}, {"secret": secret}])
        yield started


@pytest.fixture
def true_url(secret: str) -> Iterator[str]:
    robots = [Robot(1, "grid-1", "bybit", running=False), Robot(2, "grid-2", "okx", running=False)]
    quick = Behaviour(log_lag=0.0)
    with StandInThread(access_secret=secret, robots=robots, behaviour=quick) as server:
        yield server.url


async def seen(
    url: str, secret: str, values: dict[str, dict[str, Secret]]
) -> tuple[ObservedServer, ObservedServer]:
    """Return what our driver sees before and after these values were saved."""
    driver = JtTraderDriver(command="apply", timeouts=Timeouts())
    assert await driver.clock(Target(url, "0"), Trust()) is not None
    session = await driver.open(Target(url, "0"), Login(Secret(secret)), Trust())
    try:
        before = await session.observe()
        for exchange, fields in values.items():
            await session.save(exchange, fields)
        return before, await session.observe()
    finally:
        await session.close()


def test_both_show_the_same_before_and_after_saves(
    standins: Standins, true_url: str, secret: str, watch: Watch
) -> None:
    values = {
        code: {name: Secret(watch.secret("base62")) for name in FIELDS[code].values()}
        for code in WRITTEN
    }
    host, port = standins.places[1]

    ours = asyncio.run(seen(f"http://{host}:{port}", secret, values))
    true = asyncio.run(seen(true_url, secret, values))

    for mine, right in zip(ours, true, strict=True):
        assert (mine.account, mine.version) == (right.account, right.version)
        assert mine.exchanges == right.exchanges
        assert mine.robots == right.robots
        assert (mine.log.readable, len(mine.log.boots), mine.log.alarm) == (True, 1, None)
    assert ours[0].exchanges != ours[1].exchanges
    other, counted = standins.each()
    assert (counted["connections"], counted["lists"], counted["saves"]) == (1, 2, 2)
    assert (counted["rows"], counted["fatal"], counted["http"]) == (5, 0, 1)
    assert not any(other.values())


def test_a_wrong_secret_is_refused_and_counted(standins: Standins, watch: Watch) -> None:
    host, port = standins.places[0]

    with pytest.raises(Unauthorized):
        asyncio.run(seen(f"http://{host}:{port}", watch.secret("base62"), {}))

    assert standins.each()[0]["refused"] == 1
