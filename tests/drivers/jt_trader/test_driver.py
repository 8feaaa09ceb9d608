"""The driver against the stand-in, which behaves like the real server and counts what was done."""

import asyncio
import contextlib
import logging
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from reconciler.drivers import Login, Trust
from reconciler.drivers.jt_trader.driver import JtTraderDriver, JtTraderSession
from reconciler.errors import (
    AnswerTooLong,
    ConnectionLost,
    DriverError,
    LoginSilent,
    NoAnswer,
    ReadSilent,
    ServerRefused,
    Unauthorized,
    UnknownAnswer,
    WrongAccount,
)
from reconciler.model.observed import Mask
from reconciler.model.secret import Secret
from reconciler.model.target import Target
from reconciler.sandbox.jt_trader.server import Behaviour, Robot, StandIn
from reconciler.testing.drivers_rig import HASTY, NO_PATIENCE, QUICK
from tests.drivers.scripted import canary, opened, told

CONFIG, ENGINE = "exchange-config-request", "engine-config-request"
START, STOP = "run-background-job-request", "stop-background-job-request"
DRIVER = JtTraderDriver(command="apply", timeouts=QUICK, accept_versions={"0.25.*"})


def stand_in(behaviour: Behaviour | None = None, secret: str = "made-up", **more: Any) -> StandIn:
    robots = [Robot(id=1, name="grid", exchange="bybit"), Robot(id=2, name="dca", exchange="okx")]
    return StandIn(access_secret=secret, robots=robots, behaviour=behaviour, **more)


async def values_for(session: JtTraderSession, code: str) -> dict[str, Secret]:
    found = next(e for e in await session.exchanges() if e.code == code)
    return {field.name: Secret(canary()) for field in found.fields}


def test_one_visit_sees_everything_and_changes_nothing() -> None:
    async def story() -> None:
        server = stand_in()
        server.set_value("bybit_api_key", "a-made-up-key")
        session = await opened(await server.start(), secret="made-up", command="plan")
        seen = await session.observe()
        await session.close()
        await server.stop()
        assert (seen.account, seen.version) == ("0", "0.24.19")
        assert [robot.name for robot in seen.running()] == ["grid", "dca"]
        assert seen.log.readable
        assert seen.log.boot is not None
        assert seen.log.alarm is None
        bybit = seen.exchange("bybit")
        assert bybit is not None
        assert [bool(field.mask) for field in bybit.fields] == [True, False]
        kucoin = seen.exchange("kucoin")
        assert kucoin is not None
        assert [f.credential for f in kucoin.fields] == ["apiKey", "secret", "password"]
        assert not any(exchange.trouble for exchange in seen.exchanges)
        assert {received.command for received in server.record.received} == {"plan"}
        assert server.record.saves == server.record.deletes == server.record.fatal_paths == 0

    told(story)


def test_an_additional_exchange_moves_when_it_is_complete_and_back() -> None:
    async def story() -> None:
        server = stand_in()
        session = await opened(await server.start(), secret="made-up")
        values = await values_for(session, "kucoin")
        answer = await session.save("kucoin", values)
        assert answer.exchange is not None
        for field in answer.exchange.fields:
            assert field.mask == DRIVER.mask(values[field.name])
        assert [e.code for e in await session.exchanges()][-3:] == [
            "kucoin",
            "kucoinfutures",
            "mexc",
        ]
        assert server.values() == {name: secret.reveal() for name, secret in values.items()}
        for name in values:
            found = next(e for e in await session.exchanges() if e.code == "kucoin")
            assert any(field.name == name and field.mask for field in found.fields)
            assert (await session.delete("kucoin", name)).exchange is not None
            with pytest.raises(ServerRefused, match="nothing stored"):
                await session.delete("kucoin", name)
        await session.close()
        assert server.values() == {}
        assert (server.record.saves, server.record.deletes) == (1, 3)
        assert server.record.fatal_paths == 0
        await server.stop()

    told(story)


def test_a_value_that_somebody_changed_since_it_was_read_is_not_deleted() -> None:
    async def story() -> None:
        server = stand_in()
        server.set_value("mexc_secret", canary())
        session = await opened(await server.start(), secret="made-up")
        await session.exchanges()
        server.set_value("mexc_secret", "x" + canary())
        with pytest.raises(ServerRefused, match="another hand"):
            await session.delete("mexc", "mexc_secret")
        server.remove_value("mexc_secret")
        with pytest.raises(ServerRefused, match="nothing stored"):
            await session.delete("mexc", "mexc_secret")
        await session.close()
        assert (server.record.deletes, server.record.fatal_paths) == (0, 0)
        await server.stop()

    told(story)


def test_two_deletes_at_once_never_delete_twice() -> None:
    async def story() -> None:
        server = stand_in()
        server.set_value("mexc_secret", canary())
        session = await opened(await server.start(), secret="made-up")
        await session.exchanges()
        ended = await asyncio.gather(
            *(session.delete("mexc", "mexc_secret") for _ in range(5)), return_exceptions=True
        )
        await session.close()
        assert sum(isinstance(one, ServerRefused) for one in ended) == 4
        assert (server.record.deletes, server.record.fatal_paths) == (1, 0)
        await server.stop()

    told(story)


@pytest.mark.parametrize(
    ("behaviour", "account", "secret", "expected"),
    [
        (Behaviour(), "0", "wrong", Unauthorized),
        (Behaviour(), "42", "made-up", WrongAccount),
        (Behaviour(login="silent"), "0", "made-up", LoginSilent),
    ],
)
def test_a_door_that_does_not_open_gets_no_request(
    behaviour: Behaviour, account: str, secret: str, expected: type[DriverError]
) -> None:
    async def story() -> None:
        server = stand_in(behaviour)
        url = await server.start()
        with pytest.raises(expected):
            await opened(url, secret=secret, account=account, timeouts=NO_PATIENCE)
        await server.stop()
        assert server.record.received == []
        assert server.robots_running() == {1, 2}

    told(story)


@pytest.mark.parametrize(
    ("save", "expected", "stored"),
    [
        pytest.param("fatal", NoAnswer, 0, marks=pytest.mark.fatal_paths(1)),
        ("drop-before", NoAnswer, 0),
        ("drop-midway", NoAnswer, 1),
        ("drop-after", NoAnswer, 2),
        ("silent-before", NoAnswer, 0),
        ("silent-after", NoAnswer, 2),
        ("unknown-answer", UnknownAnswer, 2),
    ],
)
def test_a_save_that_goes_wrong_has_an_unknown_outcome_and_is_not_repeated(
    save: Any, expected: type[DriverError], stored: int
) -> None:
    async def story() -> None:
        server = stand_in()
        session = await opened(await server.start(), secret="made-up", timeouts=HASTY)
        values = await values_for(session, "bybit")
        server.behaviour.save = save
        with pytest.raises(expected):
            await session.save("bybit", values)
        for again in (session.save("bybit", values), session.exchanges()):
            with pytest.raises(ConnectionLost):
                await again
        await session.close()
        assert server.record.saves == 1
        assert len(server.values()) == stored
        assert server.record.fatal_paths == (save == "fatal")
        await server.stop()

    told(story)


def test_a_row_that_the_server_forgot_shows_in_the_answer() -> None:
    async def story() -> None:
        server = stand_in(Behaviour(save="lose-last-row"))
        session = await opened(await server.start(), secret="made-up")
        answer = await session.save("bybit", await values_for(session, "bybit"))
        await session.close()
        await server.stop()
        assert answer.exchange is not None
        assert [bool(field.mask) for field in answer.exchange.fields] == [True, False]

    told(story)


@pytest.mark.parametrize(
    ("read", "expected"),
    [("silent", ConnectionLost), ("drop", ConnectionLost), ("unknown-answer", UnknownAnswer)],
)
def test_a_read_that_goes_wrong(read: Any, expected: type[DriverError]) -> None:
    async def story() -> None:
        server = stand_in(Behaviour(read=read))
        session = await opened(await server.start(), secret="made-up", timeouts=HASTY)
        with pytest.raises(expected):
            await session.observe()
        await session.close()
        await server.stop()

    told(story)


def test_late_answers_are_never_taken_for_others() -> None:
    async def story() -> None:
        server = stand_in(Behaviour(answer_delay=1.5 * HASTY.request))
        url = await server.start()
        session = await opened(url, secret="made-up", timeouts=HASTY)
        with pytest.raises(ConnectionLost):
            await session.robots()
        await session.close()
        server.behaviour.answer_delay = 0
        second = await opened(url, secret="made-up", timeouts=HASTY)
        assert len(await second.robots()) == 2
        await second.close()
        await server.stop()

    told(story)


def test_the_log_comes_last_and_may_be_too_long() -> None:
    async def story() -> None:
        server = stand_in(Behaviour(log_padding=300_000))
        url = await server.start()
        session = await opened(url, secret="made-up", message_limit=200_000)
        with pytest.raises(AnswerTooLong):
            await session.observe()
        await session.close()
        assert server.record.received[-1].event == "logs-list-request"
        assert len(server.record.received) == 4
        long = await opened(url, secret="made-up")
        assert (await long.log()).boot is not None
        await long.close()
        await server.stop()

    told(story)


def test_a_log_with_a_line_that_is_no_json_is_unreadable() -> None:
    async def story() -> None:
        server = stand_in()
        url = await server.start()
        server.append_log_line("no JSON")
        session = await opened(url, secret="made-up")
        assert not (await session.log()).readable
        await session.close()
        await server.stop()

    told(story)


def test_an_alarm_is_seen_and_its_text_is_not() -> None:
    async def story() -> None:
        server = stand_in()
        url = await server.start()
        server.append_log("error", "MainProcessExceptionHandler", canary())
        session = await opened(url, secret="made-up")
        log = await session.log()
        assert log.alarm is not None
        assert log.boot is not None
        assert log.alarm >= log.boot
        await session.close()
        await server.stop()

    told(story)


@pytest.mark.fatal_paths(1)
def test_no_log_and_no_error_ever_holds_a_value(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    secret, said = canary(), []
    values: dict[str, Secret] = {}

    async def story() -> None:
        server = stand_in(secret=secret)
        url = await server.start()
        for fault in ("answer", "fatal", "drop-midway", "unknown-answer"):
            session = await opened(url, secret=secret, timeouts=HASTY)
            values.update(await values_for(session, "kucoin"))
            server.behaviour.save = fault
            try:
                await session.save("kucoin", values)
            except DriverError as error:
                said.append(f"{error} {error!r} {error.remedy}")
            await session.close()
        await server.stop()

    told(story)
    assert len(said) == 3
    text = "\n".join((*said, caplog.text))
    for value in (secret, *(one.reveal() for one in values.values())):
        assert value not in text


# ── whatever is asked for, the server's fatal path never runs ────────────────────────────────

CODES = st.sampled_from(["bybit", "okx", "kucoin", "gateio-mock", "kraken", ""])
NAMES = st.sampled_from(
    ["bybit_api_key", "bybit_api_secret", "okx_password", "kucoin_secret", "", "x", "mexc_secret"]
)
TEXTS = st.text(st.characters(codec=None, exclude_categories=()), max_size=12) | st.sampled_from(
    ["abc•••••xyz", "made-up-value", "", " x", "a\nb", "\ud83d"]
)
ANYTHING = st.one_of(TEXTS, st.none(), st.integers(), st.lists(st.none(), max_size=1))
VALUES = st.dictionaries(NAMES, ANYTHING, max_size=4) | st.fixed_dictionaries(
    {"bybit_api_key": TEXTS, "bybit_api_secret": TEXTS}
)
STEP = st.one_of(
    st.tuples(st.just("save"), CODES, VALUES),
    st.tuples(st.just("delete"), CODES, NAMES),
    st.tuples(st.just("read"), st.none(), st.none()),
    st.tuples(st.just("set"), NAMES, TEXTS),
    st.tuples(st.just("remove"), NAMES, st.none()),
)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(STEP, max_size=12))
def test_no_sequence_of_requests_runs_the_fatal_path(steps: list[tuple[str, Any, Any]]) -> None:
    async def story() -> None:
        server = stand_in(Behaviour(row_delay=(0.0, 0.0)))
        session = await opened(await server.start(), secret="made-up")
        deeds: dict[str, Callable[[Any, Any], Any]] = {
            "save": lambda code, values: session.save(
                code, {name: Secret(value) for name, value in values.items()}
            ),
            "delete": session.delete,
            "read": lambda *_: session.exchanges(),
        }
        for kind, one, two in steps:
            if kind == "set":
                server.set_value(one, two)
            elif kind == "remove":
                server.remove_value(one)
            else:
                with contextlib.suppress(ServerRefused):
                    await deeds[kind](one, two)
        assert len(await session.robots()) == 2  # it is still alive
        await session.close()
        assert server.record.fatal_paths == 0
        assert server.robots_running() == {1, 2}
        await server.stop()

    told(story)


def test_what_the_driver_says_of_values_and_versions() -> None:
    assert DRIVER.mask(Secret("abcdef")) == Mask("abc•••••def")
    assert DRIVER.refusal(Secret("")) == "it is empty"
    assert DRIVER.mask_bits(Secret("ab" * 40)) == 0.0
    assert DRIVER.mask_bits(Secret("0123456789abcdef")) == 24
    assert [DRIVER.tested(version) for version in ("0.24.19", "0.25.1", "0.26.0")] == [
        True,
        True,
        False,
    ]


def test_a_hundred_sessions_on_one_server_leave_nothing() -> None:
    async def story() -> None:
        server = stand_in(Behaviour(sprinkle=False))
        url = await server.start()
        sessions = await asyncio.gather(*(opened(url, secret="made-up") for _ in range(100)))
        await asyncio.gather(*(session.robots() for session in sessions))
        sockets = [one for session in sessions for one in session._wire._made.sockets]
        await asyncio.gather(*(session.close() for session in sessions))
        assert len(sockets) == 100
        assert all(one.fileno() == -1 for one in sockets)
        assert server.record.fatal_paths == 0
        await server.stop()

    told(story)


# ── versions that nobody tested ──────────────────────────────────────────────────────────────


def read(server: StandIn, event: str) -> int:
    """How often a server was asked for something."""
    return sum(one.event == event for one in server.record.received)


def test_a_version_that_nobody_tested_is_read_twice_in_vain_and_no_more() -> None:
    """A read that is fatal there stopped all robots at every pass of a controller."""

    async def story() -> None:
        server = stand_in(Behaviour(version="0.26.0", silent=frozenset({CONFIG})))
        target = Target(await server.start(), "0")
        driver = JtTraderDriver(command="controller", timeouts=HASTY)
        login = Login(Secret("made-up"))
        found: list[type[DriverError]] = []
        for _ in range(5):
            session = await driver.open(target, login, Trust())
            with pytest.raises(DriverError) as caught:
                await session.observe()
            found.append(caught.type)
            await session.close()
        assert found == [ReadSilent, ReadSilent, ServerRefused, ServerRefused, ServerRefused]
        assert "0.26.0 left 2 reads unanswered" in caught.value.what
        assert (read(server, CONFIG), read(server, ENGINE)) == (2, 5)
        # Another version is another story.
        server.behaviour.version, server.behaviour.silent = "0.27.0", frozenset()
        session = await driver.open(target, login, Trust())
        assert (await session.observe()).version == "0.27.0"
        await session.close()
        await server.stop()

    told(story)


@pytest.mark.parametrize("version", ["0.24.19", "0.25.7"], ids=["tested", "accepted"])
def test_silence_of_a_version_that_is_known_stops_no_reading(version: str) -> None:
    async def story() -> None:
        server = stand_in(Behaviour(version=version, silent=frozenset({CONFIG})))
        target = Target(await server.start(), "0")
        driver = JtTraderDriver(command="apply", timeouts=HASTY, accept_versions={"0.25.*"})
        for _ in range(4):
            session = await driver.open(target, Login(Secret("made-up")), Trust())
            with pytest.raises(ReadSilent):
                await session.observe()
            await session.close()
        assert read(server, CONFIG) == 4
        await server.stop()

    told(story)


def test_an_answer_in_between_says_that_silence_was_the_networks() -> None:
    async def story() -> None:
        server = stand_in(Behaviour(version="0.26.0"))
        target = Target(await server.start(), "0")
        driver = JtTraderDriver(command="plan", timeouts=HASTY)
        for silent in (True, False, True, False):
            server.behaviour.silent = frozenset({CONFIG} if silent else ())
            session = await driver.open(target, Login(Secret("made-up")), Trust())
            with pytest.raises(ReadSilent) if silent else contextlib.nullcontext():
                await session.observe()
            await session.close()
        assert read(server, CONFIG) == 4
        await server.stop()

    told(story)


# ── whose answer a list is ───────────────────────────────────────────────────────────────────

LIST = "background-jobs-list-response"


def with_stopped(**robot: Any) -> StandIn:
    """Two robots that run, and one that starts slowly."""
    robots = [
        Robot(id=1, name="grid", exchange="bybit"),
        Robot(id=2, name="dca", exchange="okx"),
        Robot(id=3, name="arb", exchange="okx", running=False, **robot),
    ]
    return StandIn(access_secret="made-up", robots=robots, behaviour=Behaviour(sprinkle=False))


async def disturbed(server: StandIn, event: str, *messages: dict[str, Any]) -> None:
    """Send *messages* to everybody as soon as the server received *event*."""
    while not read(server, event):  # noqa: ASYNC110  - on a clock that moves in quiet only
        await asyncio.sleep(0.001)
    for message in messages:
        await server.send(None, message)


def listed(server: StandIn) -> dict[str, Any]:
    """The list as another client's failed start has it sent to everybody."""
    return {"event": LIST, "payload": [robot.job() for robot in server.robots]}


def test_a_list_that_another_client_caused_is_no_answer_to_our_start() -> None:
    """Taken for one, our robot "did not start", and the next start was dropped in silence."""

    async def story() -> None:
        server = with_stopped(start_time=0.3)
        session = await opened(await server.start(), secret="made-up")
        await session.observe()
        stray = asyncio.create_task(disturbed(server, START, listed(server)))
        robots = await session.start(3)
        await stray
        assert [robot.id for robot in robots if robot.running] == [1, 2, 3]
        await session.close()
        await server.stop()

    told(story)


def test_a_list_that_another_client_caused_is_no_answer_to_our_stop() -> None:
    async def story() -> None:
        server = with_stopped()
        server.robots[0].stop_time = 0.3
        session = await opened(await server.start(), secret="made-up")
        await session.observe()
        stray = asyncio.create_task(disturbed(server, STOP, listed(server)))
        robots = await session.stop(1)
        await stray
        assert [robot.id for robot in robots if robot.running] == [2]
        await session.close()
        await server.stop()

    told(story)


def test_a_start_that_fails_is_answered_at_once() -> None:
    async def story() -> None:
        server = with_stopped(start="fails")
        session = await opened(await server.start(), secret="made-up")
        await session.observe()
        robots = await session.start(3)
        assert [robot.id for robot in robots if robot.running] == [1, 2]
        await session.close()
        await server.stop()

    told(story)


def test_robots_that_stop_while_one_starts_are_seen_at_once() -> None:
    async def story() -> None:
        server = with_stopped(start="hangs")
        session = await opened(await server.start(), secret="made-up")
        await session.observe()
        stopped = listed(server)
        for job in stopped["payload"]:
            job["isEnabled"] = False
        stray = asyncio.create_task(disturbed(server, START, stopped))
        robots = await session.start(3)
        await stray
        assert not any(robot.running for robot in robots)
        await session.close()
        await server.stop()

    told(story)
