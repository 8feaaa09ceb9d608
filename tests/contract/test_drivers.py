"""
The contract of `reconciler.drivers`, held by every driver.

A driver joins by an entry in `RIGS`.  JT-Trader's speaks to the stand-in over loopback and in
memory: whatever is built on the second must find the same behaviour on the first.
"""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import pytest

from reconciler.drivers import DRIVERS, Driver, Session, Trust, driver_of
from reconciler.drivers.jt_trader.masks import mask_text
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
from reconciler.model.observed import Logbook, Mask, ObservedExchange
from reconciler.model.observed import Robot as SeenRobot
from reconciler.model.secret import Secret
from reconciler.model.target import Target
from reconciler.sandbox.jt_trader.memory import MemoryDriver, MemoryServer
from reconciler.sandbox.jt_trader.server import Robot, StandIn
from reconciler.system.timeouts import Timeouts
from tests.drivers.scripted import HASTY, NO_PATIENCE, QUICK, canary, login, told

SECRET = "made-up-access-secret"
ROBOTS = [(1, "grid", "bybit", True), (2, "dca", "okx", True), (3, "old", "okx", False)]


@dataclass
class Rig:
    """One server and the driver that reaches it, whatever they are made of."""

    driver: Driver
    target: Target
    set_value: Callable[[str, str], None]
    values: Callable[[], dict[str, str]]
    running: Callable[[], set[int]]
    done: Callable[[], tuple[int, int, int]]
    """Saves, deletes and fatal paths so far."""
    acted: Callable[[], tuple[int, int, int, int]]
    """Robots started and stopped, caches emptied, reboots so far: what really took effect."""
    misbehave: Callable[[str], None]

    async def session(self, secret: str = SECRET, account: str = "0") -> Session:
        """Be let in."""
        target = Target(self.target.url, account)
        return await self.driver.open(target, login(secret), Trust())


Opened = Callable[..., contextlib.AbstractAsyncContextManager[Rig]]


def rig_of(server: StandIn, url: str, driver: Driver) -> Rig:
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
    return Rig(
        driver=driver,
        target=Target(url, "0"),
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
async def on_loopback(*, timeouts: Timeouts = QUICK, command: str = "apply") -> AsyncIterator[Rig]:
    server = StandIn(access_secret=SECRET, robots=[Robot(*robot) for robot in ROBOTS])
    driver = driver_of("jt_trader")(command=command, timeouts=timeouts)
    try:
        yield rig_of(server, await server.start(), driver)
    finally:
        await server.stop()


@contextlib.asynccontextmanager
async def in_memory(*, timeouts: Timeouts = QUICK, command: str = "apply") -> AsyncIterator[Rig]:
    url = "http://127.0.0.1:1"
    server = MemoryServer(url, access_secret=SECRET, robots=[Robot(*robot) for robot in ROBOTS])
    driver = MemoryDriver({url: server}, command=command, timeouts=timeouts)
    try:
        yield rig_of(server, await server.start(), driver)
    finally:
        await server.stop()


RIGS: dict[str, Opened] = {"jt_trader": on_loopback, "jt_trader, in memory": in_memory}


@pytest.fixture(params=RIGS)
def opened(request: pytest.FixtureRequest) -> Opened:
    """Return what makes a rig."""
    return RIGS[request.param]


def test_every_driver_is_held_to_this_contract() -> None:
    assert set(DRIVERS) <= set(RIGS)


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


def bybit() -> dict[str, Secret]:
    return {"bybit_api_key": Secret(canary()), "bybit_api_secret": Secret(canary())}


async def listed(session: Session, code: str) -> ObservedExchange:
    return next(e for e in await session.exchanges() if e.code == code)


def test_observing_shows_everything_and_changes_nothing(opened: Opened) -> None:
    async def story() -> None:
        async with opened(command="plan") as rig:
            rig.set_value("okx_password", "abcdefgh")
            before = rig.values()
            session = await rig.session()
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
            (line,) = seen.log.boots
            assert seen.log == Logbook(
                readable=True, boot=line.time, boots=(line,), newest=seen.log.newest
            )
            assert seen.log.newest is not None
            assert seen.log.newest >= line.time
            assert rig.values() == before
            assert rig.done() == (0, 0, 0)
            assert rig.running() == {1, 2}

    told(story)


def test_saving_twice_is_saving_once(opened: Opened) -> None:
    async def story() -> None:
        async with opened() as rig:
            session = await rig.session()
            await session.exchanges()
            values = bybit()
            first = await session.save("bybit", values)
            once = rig.values()
            second = await session.save("bybit", values)
            assert first == second
            assert rig.values() == once == {n: v.reveal() for n, v in values.items()}
            assert first.exchange == await listed(session, "bybit")
            for field in (await listed(session, "bybit")).fields:
                assert field.mask == rig.driver.mask(values[field.name])
            await session.close()
            assert rig.done() == (2, 0, 0)
            assert rig.running() == {1, 2}

    told(story)


def test_deleting_twice_is_deleting_once(opened: Opened) -> None:
    async def story() -> None:
        async with opened() as rig:
            rig.set_value("bybit_api_key", canary())
            rig.set_value("bybit_api_secret", canary())
            session = await rig.session()
            await session.exchanges()
            answer = await session.delete("bybit", "bybit_api_key")
            assert answer.exchange is not None
            assert [bool(field.mask) for field in answer.exchange.fields] == [False, True]
            with pytest.raises(ServerRefused):
                await session.delete("bybit", "bybit_api_key")
            await session.delete("bybit", "bybit_api_secret")
            await session.close()
            assert rig.values() == {}
            assert rig.done() == (0, 2, 0)

    told(story)


def test_an_additional_exchange_moves_when_it_is_complete(opened: Opened) -> None:
    async def story() -> None:
        async with opened() as rig:
            session = await rig.session()
            names = [field.name for field in (await listed(session, "mexc")).fields]
            await session.save("mexc", {name: Secret(canary()) for name in names})
            codes = [e.code for e in await session.exchanges()]
            assert codes[5:] == ["mexc", "kucoin", "kucoinfutures"]
            await session.delete("mexc", names[0])
            codes = [e.code for e in await session.exchanges()]
            assert codes[5:] == ["kucoin", "kucoinfutures", "mexc"]
            await session.close()

    told(story)


HistoryEntry = Callable[[Session], Awaitable[object]]


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
def test_what_could_fail_is_refused_and_the_session_lives_on(
    opened: Opened, deed: HistoryEntry
) -> None:
    async def story() -> None:
        async with opened() as rig:
            rig.set_value("okx_password", canary())
            session = await rig.session()
            for read_first in (False, True):
                if read_first:
                    await session.exchanges()
                with pytest.raises(ServerRefused):
                    await deed(session)
            assert len(await session.robots()) == 3
            await session.close()
            assert rig.done() == (0, 0, 0)

    told(story)


def test_a_command_that_reads_cannot_write(opened: Opened) -> None:
    async def story() -> None:
        async with opened(command="plan") as rig:
            rig.set_value("bybit_api_key", canary())
            session = await rig.session()
            await session.exchanges()
            with pytest.raises(ServerRefused):
                await session.save("bybit", bybit())
            with pytest.raises(ServerRefused):
                await session.delete("bybit", "bybit_api_key")
            await session.close()
            assert rig.done() == (0, 0, 0)

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
    if harmed:
        request.applymarker(pytest.mark.fatal_paths(1))

    async def story() -> None:
        async with opened(timeouts=HASTY) as rig:
            session = await rig.session()
            before = (await session.observe()).log
            rig.misbehave(fault)
            with pytest.raises(expected):
                await session.save("bybit", bybit())
            for again in (session.save("bybit", bybit()), session.observe(), session.robots()):
                with pytest.raises(ConnectionLost):
                    await again
            await session.close()
            assert bool(rig.values()) is stored
            anew = await rig.session()
            seen = await anew.observe()
            await anew.close()
            assert seen.running() == (() if harmed else tuple(r for r in seen.robots if r.id < 3))
            assert (seen.log.alarm is not None) is harmed
            assert seen.log.boot == before.boot

    told(story)


def test_a_field_that_the_server_forgot_is_seen(opened: Opened) -> None:
    async def story() -> None:
        async with opened() as rig:
            rig.misbehave("lose")
            session = await rig.session()
            await session.exchanges()
            await session.save("bybit", bybit())
            found = await listed(session, "bybit")
            await session.close()
            assert [bool(field.mask) for field in found.fields] == [True, False]

    told(story)


def test_a_connection_lost_in_a_read_ends_the_session(opened: Opened) -> None:
    async def story() -> None:
        async with opened() as rig:
            session = await rig.session()
            rig.misbehave("lost in a read")
            with pytest.raises(ConnectionLost):
                await session.exchanges()
            with pytest.raises(ConnectionLost):
                await session.robots()
            await session.close()
            await session.close()

    told(story)


def test_whoever_is_not_let_in_did_nothing(opened: Opened) -> None:
    async def story() -> None:
        async with opened(timeouts=NO_PATIENCE) as rig:
            with pytest.raises(Unauthorized):
                await rig.session(secret="wrong")
            with pytest.raises(WrongAccount):
                await rig.session(account="7")
            rig.misbehave("silent door")
            with pytest.raises(LoginSilent):
                await rig.session()
            assert rig.done() == (0, 0, 0)
            assert rig.running() == {1, 2}

    told(story)


def test_a_server_that_is_not_there(opened: Opened) -> None:
    async def story() -> None:
        async with opened() as rig:
            with pytest.raises(ServerUnreachable):
                await rig.driver.open(Target("http://127.0.0.1:9", "0"), login(), Trust())

    told(story)


@pytest.mark.parametrize("value", ["a", "abcdef", "abcdefghijklm", "пароль-ключ", "a😀"])
def test_what_the_driver_says_is_what_the_server_shows(opened: Opened, value: str) -> None:
    async def story() -> None:
        async with opened() as rig:
            rig.set_value("bybit_api_key", value)
            session = await rig.session()
            found = await listed(session, "bybit")
            await session.close()
            assert found.fields[0].mask == rig.driver.mask(Secret(value)) == Mask(mask_text(value))
            assert rig.driver.refusal(Secret(value)) == ""
            assert rig.driver.refusal(Secret("")) != ""
            assert rig.driver.mask_bits(Secret("0123456789abcdef")) == 24
            assert rig.driver.tested("0.24.19")
            assert not rig.driver.tested("0.25.0")

    told(story)


# ── robots ───────────────────────────────────────────────────────────────────────────────────


async def fresh(rig: Rig) -> Session:
    """Be let in and read the robots: a start needs a connection that did nothing else."""
    session = await rig.session()
    await session.robots()
    return session


def test_a_robot_is_stopped_and_started_again_on_a_new_connection(opened: Opened) -> None:
    async def story() -> None:
        async with opened() as rig:
            session = await fresh(rig)
            listed = await session.stop(1)
            assert {robot.id for robot in listed if robot.running} == {2} == rig.running()
            with pytest.raises(ServerRefused, match="does not run"):
                await session.stop(1)
            await session.close()
            session = await fresh(rig)
            listed = await session.start(1)
            assert {robot.id for robot in listed if robot.running} == {1, 2} == rig.running()
            assert listed == await session.robots()
            await session.close()
            assert rig.acted() == (1, 1, 0, 0)
            assert rig.done() == (0, 0, 0)

    told(story)


@pytest.mark.parametrize("number", [1, 4, 0, -1, True, "3", 3.0, None, [3]])
def test_only_a_robot_that_was_seen_stopped_is_started(opened: Opened, number: Any) -> None:
    async def story() -> None:
        async with opened() as rig:
            session = await rig.session()
            for known in (False, True):
                if known:
                    await session.robots()
                with pytest.raises(ServerRefused):
                    await session.start(number)
            await session.start(3)  # what was refused took nothing away
            await session.close()
            assert rig.acted() == (1, 0, 0, 0)
            assert rig.running() == {1, 2, 3}

    told(story)


@pytest.mark.parametrize("number", [3, 4, 0, True, "1", 1.0, None])
def test_only_a_robot_that_was_seen_running_is_stopped(opened: Opened, number: Any) -> None:
    async def story() -> None:
        async with opened() as rig:
            session = await rig.session()
            for known in (False, True):
                if known:
                    await session.robots()
                with pytest.raises(ServerRefused):
                    await session.stop(number)
            assert len(await session.robots()) == 3
            await session.close()
            assert rig.acted() == (0, 0, 0, 0)
            assert rig.running() == {1, 2}

    told(story)


@pytest.mark.parametrize(
    ("before", "number"),
    [
        (lambda s: s.start(3), 3),  # it failed, and is not tried again
        (lambda s: s.stop(1), 1),
        (lambda s: s.save("bybit", bybit()), 3),
        (lambda s: s.invalidate(), 3),
    ],
)
def test_a_start_is_the_first_change_on_its_connection_and_the_only_one(
    opened: Opened, before: HistoryEntry, number: int
) -> None:
    async def story() -> None:
        async with opened() as rig:
            rig.misbehave("3 fails to start")
            session = await rig.session()
            await session.observe()
            await before(session)
            await session.robots()
            with pytest.raises(ServerRefused, match="new connection"):
                await session.start(number)
            await session.close()
            assert rig.acted()[0] == 0
            assert rig.done()[2] == 0

    told(story)


def test_a_start_that_fails_harms_nobody_while_we_are_registered(opened: Opened) -> None:
    async def story() -> None:
        async with opened() as rig:
            rig.misbehave("3 fails to start")
            session = await fresh(rig)
            listed = await session.start(3)
            assert [robot.running for robot in listed if robot.id == 3] == [False]
            assert {robot.id for robot in await session.robots() if robot.running} == {1, 2}
            await session.close()
            assert rig.acted() == (0, 0, 0, 0)
            assert rig.done() == (0, 0, 0)

    told(story)


@pytest.mark.fatal_paths(1)
def test_a_start_that_fails_with_nobody_registered_stops_all(opened: Opened) -> None:
    """Why a start needs a connection that was opened after the last one was closed."""

    async def story() -> None:
        async with opened() as rig:
            rig.misbehave("3 fails to start")
            session = await fresh(rig)
            visitor = await rig.session()
            await visitor.close()
            await session.start(3)
            async with asyncio.timeout(2):
                while (await session.log()).alarm is None:
                    pass
            assert rig.running() == set()
            assert rig.done() == (0, 0, 1)
            await session.close()

    told(story)


@pytest.mark.parametrize(
    ("fault", "deed", "acted"),
    [
        ("start silent", lambda s: s.start(3), (1, 0, 0, 0)),
        ("start lost before", lambda s: s.start(3), (0, 0, 0, 0)),
        ("3 hangs in its start", lambda s: s.start(3), (0, 0, 0, 0)),
        ("stop silent", lambda s: s.stop(1), (0, 1, 0, 0)),
        ("stop lost before", lambda s: s.stop(1), (0, 0, 0, 0)),
        ("1 hangs in its stop", lambda s: s.stop(1), (0, 1, 0, 0)),
        ("cache silent", lambda s: s.invalidate(), (0, 0, 1, 0)),
        ("cache lost before", lambda s: s.invalidate(), (0, 0, 0, 0)),
        ("cache lost after", lambda s: s.invalidate(), (0, 0, 1, 0)),
    ],
)
def test_a_deed_without_an_answer_is_not_known_and_ends_the_session(
    opened: Opened, fault: str, deed: HistoryEntry, acted: tuple[int, int, int, int]
) -> None:
    async def story() -> None:
        async with opened(timeouts=HASTY) as rig:
            rig.misbehave(fault)
            session = await fresh(rig)
            with pytest.raises(NoAnswer):
                await deed(session)
            assert await session.ended(0)
            for again in (session.robots(), session.log(), session.entries()):
                with pytest.raises(ConnectionLost):
                    await again
            with pytest.raises((ConnectionLost, ServerRefused)):
                await deed(session)
            await session.close()
            assert rig.acted() == acted
            assert rig.done() == (0, 0, 0)

    told(story)


def test_after_a_start_that_hangs_every_other_one_is_dropped(opened: Opened) -> None:
    async def story() -> None:
        async with opened(timeouts=HASTY) as rig:
            rig.misbehave("3 hangs in its start")
            session = await fresh(rig)
            await session.stop(1)
            await session.close()
            for number in (3, 1):
                session = await fresh(rig)
                with pytest.raises(NoAnswer):
                    await session.start(number)
                await session.close()
            assert rig.running() == {2}
            assert rig.acted() == (0, 1, 0, 0)

    told(story)


# ── cache and reboot ─────────────────────────────────────────────────────────────────────────


def test_invalidation_is_answered_and_leaves_everything_else(opened: Opened) -> None:
    async def story() -> None:
        async with opened() as rig:
            session = await rig.session()
            before = await session.observe()
            await session.invalidate()
            after = await session.observe()
            await session.close()
            assert (after.robots, after.exchanges) == (before.robots, before.exchanges)
            assert after.log.boots == before.log.boots
            assert rig.acted() == (0, 0, 1, 0)

    told(story)


async def visited(rig: Rig) -> Session:
    """Be let in by a server that may still be away."""
    async with asyncio.timeout(5):
        while True:
            try:
                return await rig.session()
            except ServerUnreachable:
                await asyncio.sleep(0.01)


def test_a_reboot_ends_the_connection_and_leaves_a_boot_line(opened: Opened) -> None:
    async def story() -> None:
        async with opened() as rig:
            session = await rig.session()
            before = (await session.observe()).log
            assert not await session.ended(0)
            await session.reboot()
            assert await session.ended(5)
            with pytest.raises(ConnectionLost):
                await session.robots()
            await session.close()
            session = await visited(rig)
            after = await session.observe()
            await session.close()
            assert after.log.boots[:-1] == before.boots
            assert after.log.boot == after.log.boots[-1].time > (before.boot or 0)
            assert not after.log.strangers
            assert after.running() == ()
            assert rig.acted() == (0, 0, 0, 1)

    told(story)


def test_a_reboot_that_does_not_happen_leaves_a_session_that_reads_and_only_reads(
    opened: Opened,
) -> None:
    async def story() -> None:
        async with opened() as rig:
            rig.misbehave("reboot ignored")
            session = await rig.session()
            before = await session.observe()
            await session.reboot()
            assert not await session.ended(0.1)
            assert (await session.log()).boots == before.log.boots
            assert await session.robots() == before.robots
            for deed in (
                session.reboot(),
                session.save("bybit", bybit()),
                session.stop(1),
                session.start(3),
                session.invalidate(),
            ):
                with pytest.raises(ServerRefused, match="reboot"):
                    await deed
            assert await session.robots() == before.robots
            await session.close()
            assert rig.acted() == (0, 0, 0, 0)

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


def test_a_late_reboot_takes_the_readers_connection_along(opened: Opened) -> None:
    async def story() -> None:
        async with opened() as rig:
            rig.misbehave("reboot late")
            session = await rig.session()
            await session.reboot()
            assert not await session.ended(0.02)
            async with asyncio.timeout(5):
                with contextlib.suppress(ConnectionLost):
                    while True:
                        await session.robots()
                        await asyncio.sleep(0.01)
            assert await session.ended(0)
            await session.close()
            assert rig.acted() == (0, 0, 0, 1)

    told(story)


def test_nothing_is_asked_on_a_connection_that_is_over(opened: Opened) -> None:
    async def story() -> None:
        async with opened() as rig:
            session = await fresh(rig)
            await session.close()
            assert await session.ended(0)
            for deed in (session.stop(1), session.invalidate(), session.reboot()):
                with pytest.raises((ConnectionLost, ServerRefused)):
                    await deed
            session = await fresh(rig)
            await session.close()
            with pytest.raises(ConnectionLost, match="nothing was sent"):
                await session.reboot()
            assert rig.acted() == (0, 0, 0, 0)

    told(story)


@pytest.mark.parametrize(
    ("command", "allowed"), [("plan", set()), ("logs", set()), ("request", {"start"})]
)
def test_who_may_act(opened: Opened, command: str, allowed: set[str]) -> None:
    async def story() -> None:
        async with opened(command=command) as rig:
            deeds: dict[str, HistoryEntry] = {
                "start": lambda s: s.start(3),
                "stop": lambda s: s.stop(1),
                "invalidate": lambda s: s.invalidate(),
                "reboot": lambda s: s.reboot(),
            }
            for name, deed in deeds.items():
                session = await fresh(rig)
                if name in allowed:
                    await deed(session)
                else:
                    with pytest.raises(ServerRefused, match="must not send"):
                        await deed(session)
                await session.close()
            assert rig.acted() == (len(allowed), 0, 0, 0)

    told(story)


# ── log and clock ────────────────────────────────────────────────────────────────────────────


def test_the_log_for_people_has_what_the_logbook_is_made_of(opened: Opened) -> None:
    async def story() -> None:
        async with opened(command="logs") as rig:
            session = await rig.session()
            log, entries = await session.log(), await session.entries()
            assert entries
            booted = [e.time for e in entries if e.message.endswith("successfully started")]
            assert booted == [line.time for line in log.boots]
            rig.misbehave("log unreadable")
            assert await session.entries() is None
            assert await session.log() == Logbook(readable=False)
            await session.close()

    told(story)


def test_the_clock_is_read_without_a_login(opened: Opened) -> None:
    async def story() -> None:
        async with opened() as rig:
            for ahead in (0.0, 7200.0):
                read = await rig.driver.clock(rig.target, Trust())
                assert read is not None
                assert 0.5 <= read.uncertainty < 3
                assert abs(read.ahead - ahead) <= read.uncertainty + 0.1
                rig.misbehave("clock ahead")
            assert await rig.driver.clock(Target("http://127.0.0.1:9", "0"), Trust()) is None
            assert rig.done() == (0, 0, 0)

    told(story)


def test_patience_is_a_span_of_time(opened: Opened) -> None:
    async def story() -> None:
        async with opened() as rig:
            session = await rig.session()
            assert 0 <= session.patience <= 600
            await session.close()

    told(story)
