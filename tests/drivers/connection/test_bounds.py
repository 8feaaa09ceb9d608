"""One server must not stall or bloat a process that serves others, however large its messages."""

import asyncio
import contextlib
import json
import tracemalloc
from collections.abc import Callable

import pytest
from aiohttp import WSMsgType

from reconciler.drivers.connection.socket_io import (
    BURST,
    LARGE,
    LOG_MARKS,
    LONGEST,
    MOST_MARKS,
    STEADY,
    Allowance,
)
from reconciler.drivers.jt_trader.requests import EXCHANGES, LOG, ROBOTS, SAVE
from reconciler.errors import AnswerTooLong, ConnectionLost, UnknownAnswer
from tests.drivers.connection.test_asking import VALUES, save_script
from tests.drivers.scripted import Peer, opened, scripted, told

MIB = 2**20


def body(event: str, payload: object) -> str:
    return "42" + json.dumps(
        ["message", {"event": event, "payload": payload}], separators=(",", ":")
    )


def unasked(size: int) -> str:
    """A legal message that nobody waits for."""
    return body("realtime-ticker", {"text": "x" * size})


def asking(before: list[str], answer: str, ask: str = "robots") -> Callable[[], None]:
    """Return a story: the server sends *before*, and *answer* to the first request."""

    async def script(peer: Peer) -> None:
        await peer.admit()
        await peer.request()
        for text in [*before, answer]:
            await peer.send(text)
        await peer.until_gone()

    def run() -> None:
        async def story() -> None:
            async with scripted(script) as (url, _):
                session = await opened(url)
                try:
                    await getattr(session, ask)()
                finally:
                    await session.close()

        told(story)

    return run


@pytest.mark.parametrize("size", [5, LARGE, 3 * MIB, 7 * MIB])
def test_what_nobody_asked_for_is_dropped_as_it_is(size: int) -> None:
    asking([unasked(size)] * 2, body(ROBOTS.answer, []))()


@pytest.mark.parametrize(
    "flood",
    [
        [unasked(200)] * (2 * BURST[0]),
        [unasked(9 * MIB)] * 2,
        ['42["other",{}]'] * (2 * BURST[0]),
        ["6"] * (2 * BURST[0]),
        [body("authenticated", {"id": "0"})] * (2 * BURST[0]),
    ],
    ids=["messages", "megabytes", "other events", "nothings", "logins"],
)
def test_who_says_too_much_is_left(flood: list[str]) -> None:
    with pytest.raises(ConnectionLost, match="too much that nobody asked for"):
        asking(flood, body(ROBOTS.answer, []))()


def test_who_only_pings_is_left() -> None:
    """The websocket's own pings: who answers each gets nothing else done."""

    async def script(peer: Peer) -> None:
        await peer.admit()
        await peer.request()
        with contextlib.suppress(ConnectionError):
            for _ in range(2 * BURST[0]):
                await peer.ws.ping()
        await peer.until_gone()

    async def story() -> None:
        async with scripted(script) as (url, _):
            session = await opened(url)
            with pytest.raises(ConnectionLost, match="too much that nobody asked for"):
                await session.robots()
            await session.close()

    told(story)


def test_a_ping_of_the_websocket_is_answered() -> None:
    answered = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.admit()
        await peer.ws.ping(b"there?")
        message = await peer.ws.receive()
        assert (message.type, message.data) == (WSMsgType.PONG, b"there?")
        answered.set()
        await peer.until_gone()

    async def story() -> None:
        async with scripted(script, autoping=False) as (url, _):
            session = await opened(url)
            await answered.wait()
            await session.close()

    told(story)


def test_a_busy_server_is_none_that_says_too_much() -> None:
    """A thousand messages in a burst, as when all robots start: the answer behind them counts."""
    asking([unasked(200)] * 1_000, body(ROBOTS.answer, []))()


def test_what_a_server_may_say_grows_again() -> None:
    most, steady = BURST[0], STEADY[0]
    allowance = Allowance(0.0)

    assert all(allowance.covers(1, 10, 0.0) for _ in range(most))
    assert not allowance.covers(1, 10, 0.0)
    assert all(allowance.covers(1, 10, second + 1.1) for second in range(60) for _ in range(steady))
    assert not all(allowance.covers(1, 10, 61.2) for _ in range(2 * steady))
    assert all(allowance.covers(1, 10, 100.0) for _ in range(most))
    assert not allowance.covers(1, 10, 100.0)


def test_a_large_answer_is_still_an_answer() -> None:
    jobs = [
        {"id": number, "name": "n" * 50, "exchange": "okx", "isEnabled": False}
        for number in range(10_000)
    ]

    asking([], body(ROBOTS.answer, jobs))()


def test_a_large_answer_of_another_request_is_not_taken_for_ours() -> None:
    other = body(EXCHANGES.answer, {"main": [], "additional": [], "more": "x" * LARGE})

    asking([other], body(ROBOTS.answer, []))()


def test_a_large_answer_that_nobody_asked_for_bars_later_writes() -> None:
    """Or it might be taken for a write's answer, and the next write be built on it."""
    other = body(EXCHANGES.answer, {"main": [], "additional": [], "more": "x" * LARGE})

    async def react(peer: Peer) -> None:
        await peer.send(other)
        await peer.message(ROBOTS.answer, [])

    async def story() -> None:
        async with scripted(save_script(react, ROBOTS.event)) as (url, peers):
            session = await opened(url)
            await session.exchanges()
            await session.robots()
            with pytest.raises(ConnectionLost):
                await session.save("bybit", VALUES)
            assert SAVE.event not in [request["event"] for request in peers[0].requests]
            await session.close()

    told(story)


@pytest.mark.parametrize(
    ("event", "ask", "payload"),
    [
        (ROBOTS.answer, "robots", ["x" * LONGEST]),
        (ROBOTS.answer, "robots", [0] * MOST_MARKS),
        (EXCHANGES.answer, "exchanges", {"main": [[] for _ in range(MOST_MARKS)]}),
        (LOG.answer, "log", {"artifacts": "system", "data": [0] * LOG_MARKS}),
    ],
    ids=["long", "many", "many lists", "a log of many"],
)
def test_an_answer_that_no_server_gives_ends_the_conversation(
    event: str, ask: str, payload: object
) -> None:
    with pytest.raises(AnswerTooLong):
        asking([], body(event, payload), ask)()


def test_the_log_may_be_long() -> None:
    entries = [{"level": "info", "time": 1, "pid": 1, "class": "X", "msg": "m" * 100}] * 100_000

    asking([], body(LOG.answer, {"artifacts": "system", "data": entries}), "log")()


@pytest.mark.parametrize("text", ["{", '{"event"}', '"x"] ]', "[" * 50_000])
def test_a_large_message_that_cannot_be_read_is_told_apart(text: str) -> None:
    broken = f'42["message",{{"event":"{ROBOTS.answer}","payload":{text}{" " * LARGE}'

    with pytest.raises(UnknownAnswer):
        asking([], broken)()


def test_what_is_dropped_leaves_nothing_behind() -> None:
    run = asking([unasked(5 * MIB)] * 3, body(ROBOTS.answer, []))
    run()
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        run()
        assert tracemalloc.get_traced_memory()[0] - before < MIB
    finally:
        tracemalloc.stop()
