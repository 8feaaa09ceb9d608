"""
The contract of `reconciler.drivers`, held by every driver.

Each test runs against JT-Trader's driver speaking to the stand-in, and against the one in memory:
whatever is built on the second must find the same behaviour on the first.
"""

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import pytest

from reconciler.drivers import Driver, Session, Trust
from reconciler.drivers.jt_masks import mask_text
from reconciler.drivers.jt_trader import JtTraderDriver
from reconciler.drivers.memory import Door, Fault, MemoryDriver, MemoryServer
from reconciler.durations import Durations
from reconciler.errors import (
    ConnectionLost,
    DriverError,
    LoginSilent,
    NoAnswer,
    ServerRefused,
    ServerUnreachable,
    Unauthorized,
    UnknownAnswer,
    WrongAccount,
)
from reconciler.model import Target
from reconciler.observed import Logbook, Mask, ObservedExchange
from reconciler.observed import Robot as SeenRobot
from reconciler.sandbox.jt_trader import Behaviour, Robot, StandIn
from reconciler.secrets import Secret
from tests.drivers.scripted import HASTY, NO_PATIENCE, QUICK, canary, login, told

SECRET = "made-up-access-secret"
ROBOTS = [(1, "grid", "bybit", True), (2, "dca", "okx", True), (3, "old", "okx", False)]


@dataclass
class World:
    """One server and the driver that reaches it, whatever they are made of."""

    driver: Driver
    target: Target
    set_value: Callable[[str, str], None]
    values: Callable[[], dict[str, str]]
    running: Callable[[], set[int]]
    done: Callable[[], tuple[int, int, int]]
    """Saves, deletes and fatal paths so far."""
    misbehave: Callable[[str], None]

    async def session(self, secret: str = SECRET, account: str = "0") -> Session:
        """Be let in."""
        target = Target(self.target.url, account)
        return await self.driver.open(target, login(secret), Trust())


Opened = Callable[..., contextlib.AbstractAsyncContextManager[World]]


@contextlib.asynccontextmanager
async def through_the_wire(
    *, durations: Durations = QUICK, command: str = "apply"
) -> AsyncIterator[World]:
    server = StandIn(
        access_secret=SECRET, robots=[Robot(*robot) for robot in ROBOTS], behaviour=Behaviour()
    )
    url = await server.start()
    faults: dict[str, tuple[str, Any]] = {
        "fatal": ("save", "fatal"),
        "silent": ("save", "silent-after"),
        "lost before": ("save", "drop-before"),
        "lost after": ("save", "drop-after"),
        "odd answer": ("save", "unknown-answer"),
        "lose": ("save", "lose-last-row"),
        "silent door": ("login", "silent"),
        "lost in a read": ("read", "drop"),
    }
    try:
        yield World(
            driver=JtTraderDriver(command=command, durations=durations),
            target=Target(url, "0"),
            set_value=server.set_value,
            values=server.values,
            running=server.robots_running,
            done=lambda: (server.record.saves, server.record.deletes, server.record.fatal_paths),
            misbehave=lambda fault: setattr(server.behaviour, *faults[fault]),
        )
    finally:
        await server.stop()


@contextlib.asynccontextmanager
async def in_memory(
    *,
    durations: Durations = QUICK,  # noqa: ARG001  - nothing waits here
    command: str = "apply",
) -> AsyncIterator[World]:
    server = MemoryServer(access_secret=SECRET, robots=[SeenRobot(*robot) for robot in ROBOTS])
    url = "http://127.0.0.1:1"
    faults: dict[str, Callable[[], object]] = {
        "fatal": lambda: server.faults.append(Fault.FATAL),
        "silent": lambda: server.faults.append(Fault.SILENT),
        "lost before": lambda: server.faults.append(Fault.LOST_BEFORE),
        "lost after": lambda: server.faults.append(Fault.LOST_AFTER),
        "odd answer": lambda: server.faults.append(Fault.ODD_ANSWER),
        "lose": lambda: setattr(server, "lose_field", "bybit_api_secret"),
        "silent door": lambda: setattr(server, "door", Door.SILENT),
        "lost in a read": lambda: setattr(server, "lose_connection_on_read", True),
    }
    yield World(
        driver=MemoryDriver({url: server}, command=command),
        target=Target(url, "0"),
        set_value=server.values.__setitem__,
        values=lambda: dict(server.values),
        running=lambda: {robot.id for robot in server.robots if robot.running},
        done=lambda: (server.done["saved"], server.done["deleted"], server.done["fatal"]),
        misbehave=lambda fault: (faults[fault](), None)[1],
    )


@pytest.fixture(params=[through_the_wire, in_memory], ids=["jt-trader", "memory"])
def opened(request: pytest.FixtureRequest) -> Opened:
    """Return what makes a world."""
    world: Opened = request.param
    return world


def bybit() -> dict[str, Secret]:
    return {"bybit_api_key": Secret(canary()), "bybit_api_secret": Secret(canary())}


async def listed(session: Session, code: str) -> ObservedExchange:
    return next(e for e in await session.exchanges() if e.code == code)


def test_observing_shows_everything_and_changes_nothing(opened: Opened) -> None:
    async def story() -> None:
        async with opened(command="plan") as world:
            world.set_value("okx_password", "abcdefgh")
            before = world.values()
            session = await world.session()
            seen = await session.observe()
            await session.close()
            assert (seen.account, seen.version) == ("0", "0.24.19")
            assert [e.code for e in seen.exchanges] == [
                *("gateio", "bybit", "okx", "bybit-testnet", "gateio-mock"),
                *("kucoin", "kucoinfutures", "mexc"),
            ]
            okx = seen.exchange("okx")
            assert okx is not None
            assert [(f.name, f.credential, f.type, f.mask) for f in okx.fields] == [
                ("okx_api_key", "apiKey", "string", Mask("")),
                ("okx_api_secret", "secret", "string", Mask("")),
                ("okx_password", "password", "string", Mask("abc•••••fgh")),
            ]
            assert seen.robots == tuple(SeenRobot(*robot) for robot in ROBOTS)
            assert seen.log == Logbook(readable=True, boot=seen.log.boot, alarm=None)
            assert seen.log.boot is not None
            assert world.values() == before
            assert world.done() == (0, 0, 0)
            assert world.running() == {1, 2}

    told(story)


def test_saving_twice_is_saving_once(opened: Opened) -> None:
    async def story() -> None:
        async with opened() as world:
            session = await world.session()
            await session.exchanges()
            values = bybit()
            first = await session.save("bybit", values)
            once = world.values()
            second = await session.save("bybit", values)
            assert first == second
            assert world.values() == once == {n: v.reveal() for n, v in values.items()}
            assert first.exchange == await listed(session, "bybit")
            for field in (await listed(session, "bybit")).fields:
                assert field.mask == world.driver.mask(values[field.name])
            await session.close()
            assert world.done() == (2, 0, 0)
            assert world.running() == {1, 2}

    told(story)


def test_deleting_twice_is_deleting_once(opened: Opened) -> None:
    async def story() -> None:
        async with opened() as world:
            world.set_value("bybit_api_key", canary())
            world.set_value("bybit_api_secret", canary())
            session = await world.session()
            await session.exchanges()
            answer = await session.delete("bybit", "bybit_api_key")
            assert answer.exchange is not None
            assert [bool(field.mask) for field in answer.exchange.fields] == [False, True]
            with pytest.raises(ServerRefused):
                await session.delete("bybit", "bybit_api_key")
            await session.delete("bybit", "bybit_api_secret")
            await session.close()
            assert world.values() == {}
            assert world.done() == (0, 2, 0)

    told(story)


def test_an_additional_exchange_moves_when_it_is_complete(opened: Opened) -> None:
    async def story() -> None:
        async with opened() as world:
            session = await world.session()
            names = [field.name for field in (await listed(session, "mexc")).fields]
            await session.save("mexc", {name: Secret(canary()) for name in names})
            codes = [e.code for e in await session.exchanges()]
            assert codes[5:] == ["mexc", "kucoin", "kucoinfutures"]
            await session.delete("mexc", names[0])
            codes = [e.code for e in await session.exchanges()]
            assert codes[5:] == ["kucoin", "kucoinfutures", "mexc"]
            await session.close()

    told(story)


Deed = Callable[[Session], Awaitable[object]]


@pytest.mark.parametrize(
    "deed",
    [
        lambda s: s.save("kraken", bybit()),
        lambda s: s.save("gateio-mock", {}),
        lambda s: s.save("bybit", {}),
        lambda s: s.save("bybit", {"bybit_api_key": Secret(canary())}),
        lambda s: s.save("bybit", bybit() | {"okx_password": Secret(canary())}),
        lambda s: s.save("bybit", bybit() | {"bybit_api_key": Secret("")}),
        lambda s: s.save("bybit", bybit() | {"bybit_api_key": Secret("abc•••••xyz")}),
        lambda s: s.save("bybit", bybit() | {"bybit_api_key": Secret("key\n")}),
        lambda s: s.delete("kraken", "kraken_api_key"),
        lambda s: s.delete("bybit", "bybit_api_key"),
        lambda s: s.delete("bybit", "okx_password"),
        lambda s: s.delete("bybit", ""),
    ],
)
def test_what_could_fail_is_refused_and_the_session_lives_on(opened: Opened, deed: Deed) -> None:
    async def story() -> None:
        async with opened() as world:
            world.set_value("okx_password", canary())
            session = await world.session()
            for read_first in (False, True):
                if read_first:
                    await session.exchanges()
                with pytest.raises(ServerRefused):
                    await deed(session)
            assert len(await session.robots()) == 3
            await session.close()
            assert world.done() == (0, 0, 0)

    told(story)


def test_a_command_that_reads_cannot_write(opened: Opened) -> None:
    async def story() -> None:
        async with opened(command="plan") as world:
            world.set_value("bybit_api_key", canary())
            session = await world.session()
            await session.exchanges()
            with pytest.raises(ServerRefused):
                await session.save("bybit", bybit())
            with pytest.raises(ServerRefused):
                await session.delete("bybit", "bybit_api_key")
            await session.close()
            assert world.done() == (0, 0, 0)

    told(story)


@pytest.mark.parametrize(
    ("fault", "expected", "stored", "harmed"),
    [
        ("fatal", NoAnswer, False, True),
        ("silent", NoAnswer, True, False),
        ("lost before", NoAnswer, False, False),
        ("lost after", NoAnswer, True, False),
        ("odd answer", UnknownAnswer, True, False),
    ],
)
def test_after_a_write_of_unknown_outcome_the_session_is_dead(
    request: pytest.FixtureRequest,
    opened: Opened,
    fault: str,
    expected: type[DriverError],
    stored: bool,  # noqa: FBT001  - a parameter of the table
    harmed: bool,  # noqa: FBT001  - likewise
) -> None:
    if harmed and opened is through_the_wire:
        request.applymarker(pytest.mark.fatal_paths(1))

    async def story() -> None:
        async with opened(durations=HASTY) as world:
            session = await world.session()
            before = (await session.observe()).log
            world.misbehave(fault)
            with pytest.raises(expected):
                await session.save("bybit", bybit())
            for again in (session.save("bybit", bybit()), session.observe(), session.robots()):
                with pytest.raises(ConnectionLost):
                    await again
            await session.close()
            assert bool(world.values()) is stored
            anew = await world.session()
            seen = await anew.observe()
            await anew.close()
            assert seen.running() == (() if harmed else tuple(r for r in seen.robots if r.id < 3))
            assert (seen.log.alarm is not None) is harmed
            assert seen.log.boot == before.boot

    told(story)


def test_a_field_that_the_server_forgot_is_seen(opened: Opened) -> None:
    async def story() -> None:
        async with opened() as world:
            world.misbehave("lose")
            session = await world.session()
            await session.exchanges()
            await session.save("bybit", bybit())
            found = await listed(session, "bybit")
            await session.close()
            assert [bool(field.mask) for field in found.fields] == [True, False]

    told(story)


def test_a_connection_lost_in_a_read_ends_the_session(opened: Opened) -> None:
    async def story() -> None:
        async with opened() as world:
            session = await world.session()
            world.misbehave("lost in a read")
            with pytest.raises(ConnectionLost):
                await session.exchanges()
            with pytest.raises(ConnectionLost):
                await session.robots()
            await session.close()
            await session.close()

    told(story)


def test_whoever_is_not_let_in_did_nothing(opened: Opened) -> None:
    async def story() -> None:
        async with opened(durations=NO_PATIENCE) as world:
            with pytest.raises(Unauthorized):
                await world.session(secret="wrong")
            with pytest.raises(WrongAccount):
                await world.session(account="7")
            world.misbehave("silent door")
            with pytest.raises(LoginSilent):
                await world.session()
            assert world.done() == (0, 0, 0)
            assert world.running() == {1, 2}

    told(story)


def test_a_server_that_is_not_there(opened: Opened) -> None:
    async def story() -> None:
        async with opened() as world:
            with pytest.raises(ServerUnreachable):
                await world.driver.open(Target("http://127.0.0.1:9", "0"), login(), Trust())

    told(story)


@pytest.mark.parametrize("value", ["a", "abcdef", "abcdefghijklm", "пароль-ключ", "a😀"])
def test_what_the_driver_says_is_what_the_server_shows(opened: Opened, value: str) -> None:
    async def story() -> None:
        async with opened() as world:
            world.set_value("bybit_api_key", value)
            session = await world.session()
            found = await listed(session, "bybit")
            await session.close()
            assert (
                found.fields[0].mask == world.driver.mask(Secret(value)) == Mask(mask_text(value))
            )
            assert world.driver.refusal(Secret(value)) == ""
            assert world.driver.refusal(Secret("")) != ""
            assert world.driver.mask_bits(Secret("0123456789abcdef")) == 24
            assert world.driver.tested("0.24.19")
            assert not world.driver.tested("0.25.0")

    told(story)
