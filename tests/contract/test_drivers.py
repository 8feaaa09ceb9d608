"""
Every driver of ours under its contract, and what is JT-Trader's own.

The contract is `DriverContract` in reconciler/testing/drivers.py; a driver joins by an entry in
`RIGS`.  JT-Trader's speaks to the stand-in over loopback and in memory: whatever is built on the
second must find the same behaviour on the first.
"""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from reconciler.drivers import Driver, Trust, driver_of, drivers
from reconciler.drivers.jt_trader.masks import mask_text
from reconciler.errors import NoAnswer
from reconciler.model.observed import Mask, ObservedExchange, ObservedField
from reconciler.model.observed import Robot as SeenRobot
from reconciler.model.secret import Secret
from reconciler.model.target import Target
from reconciler.sandbox.jt_trader.memory import MemoryDriver, MemoryServer
from reconciler.sandbox.jt_trader.server import Robot, StandIn
from reconciler.system.timeouts import Timeouts
from reconciler.testing.drivers import DriverContract, DriverRig, Opened
from reconciler.testing.drivers_rig import HASTY, QUICK, Action, Story, made_up
from tests.drivers.scripted import told
from tests.support.additions import put, shown, spoilt

SECRET = "made-up-access-secret"
ROBOTS = [(1, "grid", "bybit", True), (2, "dca", "okx", True), (3, "old", "okx", False)]
EXCHANGES = ("gateio", "bybit", "okx", "bybit-testnet", "gateio-mock")
ADDITIONAL = ("kucoin", "kucoinfutures", "mexc")
OKX = ObservedExchange(
    "okx",
    (
        ObservedField("okx_api_key", "apiKey", "string", Mask("")),
        ObservedField("okx_api_secret", "secret", "string", Mask("")),
        ObservedField("okx_password", "password", "string", Mask("")),
    ),
)


def rig_of(server: StandIn, url: str, driver: Driver) -> DriverRig:
    """Return the rig of a stand-in, however it is reached."""
    record, behaviour, robots = server.record, server.behaviour, server.robots
    faults: dict[str, tuple[object, str, Any]] = {
        "fatal": (behaviour, "save", "fatal"),
        "silent": (behaviour, "save", "silent-after"),
        "lost before": (behaviour, "save", "drop-before"),
        "lost after": (behaviour, "save", "drop-after"),
        "odd answer": (behaviour, "save", "unknown-answer"),
        "lose": (behaviour, "save", "lose-last-row"),
        "silent door": (behaviour, "login", "silent"),
        "lost in a read": (behaviour, "read", "drop"),
        "cache silent": (behaviour, "invalidate", "silent after effect"),
        "cache lost before": (behaviour, "invalidate", "lost before effect"),
        "cache lost after": (behaviour, "invalidate", "dropped after effect"),
        "start silent": (behaviour, "run", "silent after effect"),
        "start lost before": (behaviour, "run", "lost before effect"),
        "stop silent": (behaviour, "halt", "silent after effect"),
        "stop lost before": (behaviour, "halt", "lost before effect"),
        "3 fails to start": (robots[2], "start", "fails"),
        "3 hangs in its start": (robots[2], "start", "hangs"),
        "1 hangs in its stop": (robots[0], "stop", "hangs"),
        "reboot ignored": (behaviour, "reboot", "ignored"),
        "reboot late": (behaviour, "reboot", "late"),
        "log unreadable": (behaviour, "log", "unreadable"),
        "clock ahead": (behaviour, "clock_offset", 7200.0),
    }
    return DriverRig(
        driver=driver,
        target=Target(url, "0"),
        secret=Secret(SECRET),
        version="0.24.19",
        exchanges=EXCHANGES + ADDITIONAL,
        exchange=OKX,
        elsewhere="bybit_api_key",
        robots=tuple(SeenRobot(*robot) for robot in ROBOTS),
        boot_message="successfully started",
        set_value=server.set_value,
        values=server.values,
        running=server.robots_running,
        done=lambda: (record.saves, record.deletes, record.fatal_paths),
        acted=lambda: (
            len(record.robot_starts),
            sum(done[0] == "stop" for done in record.history),
            record.invalidations,
            record.reboots,
        ),
        misbehave=lambda fault: setattr(*faults[fault]),
    )


@contextlib.asynccontextmanager
async def on_loopback(
    *, timeouts: Timeouts = QUICK, command: str = "apply", kind: str = "jt_trader"
) -> AsyncIterator[DriverRig]:
    server = StandIn(access_secret=SECRET, robots=[Robot(*robot) for robot in ROBOTS])
    driver = driver_of(kind)(command=command, timeouts=timeouts)
    try:
        yield rig_of(server, await server.start(), driver)
    finally:
        await server.stop()


@contextlib.asynccontextmanager
async def in_memory(
    *, timeouts: Timeouts = QUICK, command: str = "apply"
) -> AsyncIterator[DriverRig]:
    url = "http://127.0.0.1:1"
    server = MemoryServer(url, access_secret=SECRET, robots=[Robot(*robot) for robot in ROBOTS])
    driver = MemoryDriver({url: server}, command=command, timeouts=timeouts)
    try:
        yield rig_of(server, await server.start(), driver)
    finally:
        await server.stop()


JT_TRADER: dict[str, Opened] = {"jt_trader": on_loopback, "jt_trader, in memory": in_memory}
RIGS = {**JT_TRADER}  # and those of every other driver


NEW = "reconciler/drivers/acme/driver.py"  # docs/extending.md shows it


class TestDrivers(DriverContract):
    @pytest.fixture(params=[*RIGS, "acme"])
    def opened(
        self, request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> Opened:
        if request.param in RIGS:
            return RIGS[request.param]
        put(NEW, shown(NEW), tmp_path / "acme", monkeypatch)
        return partial(on_loopback, kind="acme")

    def tell(self, story: Story) -> None:
        told(story)


CONTRACT = TestDrivers()


def test_every_driver_is_held_to_this_contract() -> None:
    assert set(drivers()) <= set(RIGS)


def test_a_new_folder_is_a_kind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = drivers()
    put(NEW, shown(NEW), tmp_path / "acme", monkeypatch)

    assert drivers() == tuple(sorted((*before, "acme")))
    acme: Any = driver_of("acme")(command="apply", timeouts=QUICK)
    assert acme.tested("acme-1.0")
    assert acme.refusal(Secret("a-b")) == "Acme takes letters and digits only"
    assert not acme.refusal(Secret("ab"))


@pytest.mark.parametrize(
    ("method", "story"),
    [
        ("open", CONTRACT.test_a_server_that_is_not_there),
        ("clock", CONTRACT.test_the_clock_is_read_without_a_login),
    ],
)
def test_positive_control_a_careless_driver_is_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str, story: Callable[[Opened], None]
) -> None:
    right = "    def tested(self, version: str) -> bool:\n"
    wrong = f"    async def {method}(self, *_):\n        return None\n\n{right}"
    put(NEW, spoilt(shown(NEW), right, wrong), tmp_path / "acme", monkeypatch)

    with pytest.raises((AssertionError, pytest.fail.Exception)):
        story(partial(on_loopback, kind="acme"))


def test_in_memory_there_are_no_sockets(monkeypatch: pytest.MonkeyPatch) -> None:
    async def story() -> None:
        for way in ("bind", "connect", "connect_ex"):
            monkeypatch.setattr(socket.socket, way, lambda *_: pytest.fail("a socket"))
        async with in_memory() as rig:
            session = await rig.session()
            assert len((await session.observe()).robots) == 3
            await session.reboot()
            assert await session.ended(5)
            await session.close()

    told(story)


# ── what only JT-Trader does ─────────────────────────────────────────────────────────────────


@pytest.fixture(params=JT_TRADER)
def opened(request: pytest.FixtureRequest) -> Opened:
    """Return what makes a rig."""
    return JT_TRADER[request.param]


def test_an_additional_exchange_moves_when_it_is_complete(opened: Opened) -> None:
    async def story() -> None:
        async with opened() as rig:
            session = await rig.session()
            names = [
                f.name for e in await session.exchanges() if e.code == "mexc" for f in e.fields
            ]
            await session.save("mexc", {name: made_up() for name in names})
            codes = [e.code for e in await session.exchanges()]
            assert codes[5:] == ["mexc", "kucoin", "kucoinfutures"]
            await session.delete("mexc", names[0])
            codes = [e.code for e in await session.exchanges()]
            assert codes[5:] == ["kucoin", "kucoinfutures", "mexc"]
            await session.close()

    told(story)


@pytest.mark.parametrize(
    "deed",
    [
        lambda s, _: s.save("gateio-mock", {}),
        lambda s, rig: s.save("okx", rig.full() | {rig.first: Secret("abc•••••xyz")}),
        lambda s, rig: s.save("okx", rig.full() | {rig.first: Secret("key\n")}),
    ],
)
def test_what_could_fail_in_jt_trader_is_refused(opened: Opened, deed: Action) -> None:
    CONTRACT.test_what_could_fail_is_refused_and_the_session_lives_on(opened, deed)


@pytest.mark.fatal_paths(1)
def test_after_a_write_that_ran_the_fatal_path_the_session_is_dead(opened: Opened) -> None:
    CONTRACT.test_after_a_write_of_unknown_outcome_the_session_is_dead(
        opened, "fatal", NoAnswer, stored=False, harmed=True
    )


@pytest.mark.parametrize("driver", [driver_of("jt_trader"), partial(MemoryDriver, {})])
def test_what_the_driver_says_of_a_value_and_a_version(driver: Callable[..., Driver]) -> None:
    made = driver(command="apply", timeouts=QUICK)
    assert made.mask(Secret("abcdefgh")) == Mask("abc•••••fgh")
    for value in ("a", "abcdef", "abcdefghijklm", "пароль-ключ", "a😀"):
        assert made.mask(Secret(value)) == Mask(mask_text(value))
        assert made.refusal(Secret(value)) == ""
    assert made.mask_bits(Secret("0123456789abcdef")) == 24
    assert made.tested("0.24.19")
    assert not made.tested("0.25.0")


def test_a_clock_that_tells_whole_seconds_is_not_sure_of_them(opened: Opened) -> None:
    async def story() -> None:
        async with opened() as rig:
            read = await rig.driver.clock(rig.target, Trust())
            assert read is not None
            assert read.uncertainty >= 0.5

    told(story)


@pytest.mark.fatal_paths(1)
def test_a_start_that_fails_with_nobody_registered_stops_all(opened: Opened) -> None:
    """Why a start needs a connection that was opened after the last one was closed."""

    async def story() -> None:
        async with opened() as rig:
            rig.misbehave("3 fails to start")
            session = await rig.fresh()
            visitor = await rig.session()
            await visitor.close()
            await session.start(3)
            async with asyncio.timeout(2):
                while (await session.log()).alarm is None:  # noqa: ASYNC110  - there is no event
                    await asyncio.sleep(0.01)
            assert rig.running() == set()
            assert rig.done() == (0, 0, 1)
            await session.close()

    told(story)


def test_after_a_start_that_hangs_every_other_one_is_dropped(opened: Opened) -> None:
    async def story() -> None:
        async with opened(timeouts=HASTY) as rig:
            rig.misbehave("3 hangs in its start")
            session = await rig.fresh()
            await session.stop(1)
            await session.close()
            for number in (3, 1):
                session = await rig.fresh()
                with pytest.raises(NoAnswer):
                    await session.start(number)
                await session.close()
            assert rig.running() == {2}
            assert rig.acted() == (0, 1, 0, 0)

    told(story)


def test_a_reboot_that_waits_for_a_robot_for_ever_and_the_second_request(opened: Opened) -> None:
    async def story() -> None:
        async with opened() as rig:
            rig.misbehave("1 hangs in its stop")
            session = await rig.session()
            await session.reboot()
            assert not await session.ended(0.1)
            assert not any(robot.running for robot in await session.robots())
            await session.close()
            assert rig.acted() == (0, 0, 0, 0)
            session = await rig.session()
            await session.reboot()
            assert await session.ended(5)
            await session.close()
            assert rig.acted() == (0, 0, 0, 1)

    told(story)
