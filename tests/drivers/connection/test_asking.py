"""One request at a time, and every way in which an answer can fail to come."""

import asyncio
import contextlib
import json
import logging
import socket
import struct
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientConnectionResetError, ClientWebSocketResponse, WSMsgType

from reconciler.drivers import Trust
from reconciler.drivers.connection.conversation import FRAME_LIMIT
from reconciler.drivers.connection.transport import cut
from reconciler.drivers.jt_trader.driver import JtTraderDriver, JtTraderSession
from reconciler.drivers.jt_trader.requests import (
    ENGINE,
    EXCHANGES,
    INVALIDATE,
    LOG,
    MAY_SEND,
    REBOOT,
    ROBOTS,
    SAVE,
    START,
    Request,
)
from reconciler.errors import (
    AnswerTooLong,
    ConnectionLost,
    DriverError,
    NoAnswer,
    ServerRefused,
    ServerUnreachable,
    Unauthorized,
    UnknownAnswer,
    WrongAccount,
)
from reconciler.model.observed import Robot
from reconciler.model.secret import Secret
from reconciler.model.values import replace
from reconciler.testing.drivers_rig import HASTY, QUICK, Story
from tests.drivers.scripted import Authority, Peer, Script, canary, opened, scripted, told
from tests.support import quiet_time

LISTING = {
    "main": [
        {
            "code": "bybit",
            "fields": [
                {"name": "bybit_api_key", "type": "string", "label": "API Key", "value": ""},
                {
                    "name": "bybit_api_secret",
                    "type": "string",
                    "label": "API Secret",
                    "value": "abc•••••xyz",
                },
            ],
        }
    ],
    "additional": [],
}
VALUES = {"bybit_api_key": Secret("a-made-up-key-1"), "bybit_api_secret": Secret("a-made-up-two")}
ANSWER = EXCHANGES.answer


def save_script(react: Script, after: str = SAVE.event) -> Script:
    """Answer reads, and *react* to the first request named *after*."""

    async def script(peer: Peer) -> None:
        await peer.admit()
        while (body := await peer.request()) is not None:
            if body["event"] == after:
                await react(peer)
            elif body["event"] == EXCHANGES.event:
                await peer.message(ANSWER, LISTING)
            elif body["event"] == ENGINE.event:
                await peer.message(ENGINE.answer, {"version": "0.24.19"})

    return script


async def hang_up(peer: Peer) -> None:
    """Let the connection end without a close frame, as a dying process does."""
    assert peer.ws._req is not None
    transport = peer.ws._req.transport
    assert transport is not None
    transport.abort()


async def say_nothing(_: Peer) -> None:
    """Be silent."""


def asked(
    react: Script,
    expected: type[DriverError],
    words: str | None = None,
    *,
    write: bool,
    hasty: bool = False,
    run: Callable[[Story], None] = quiet_time.told,
) -> DriverError:
    """Run a read or a write to which the server reacts so; return what it ended with."""
    caught: list[DriverError] = []

    async def story() -> None:
        after = SAVE.event if write else ROBOTS.event
        async with scripted(save_script(react, after)) as (url, peers):
            session = await opened(url, timeouts=HASTY if hasty else QUICK)
            await session.exchanges()
            with pytest.raises(expected, match=words) as error:
                await (session.save("bybit", VALUES) if write else session.robots())
            caught.append(error.value)
            sent = len(peers[0].requests)
            made = session._wire._made.sockets
            assert all(one.fileno() == -1 for one in made), "not dropped at once"
            for again in (session.exchanges(), session.robots(), session.save("bybit", VALUES)):
                with pytest.raises(ConnectionLost, match="over"):
                    await again
            assert len(peers[0].requests) == sent, "something was sent after the failure"
            await session.close()

    told(story, run)
    return caught[0]


def test_answers_are_matched_by_their_event_and_all_else_is_ignored() -> None:
    async def script(peer: Peer) -> None:
        await peer.admit()
        for frame in ('42["message"]', '42["message",7]', '42["message",{"event":7}]', '42["x",1]'):
            await peer.send(frame)
        await peer.message(ANSWER, {"main": "unasked"})
        while (body := await peer.request()) is not None:
            assert body == {"event": ROBOTS.event}
            await peer.message("update-report", {"artifacts": "system"})
            await peer.message(ANSWER, {"main": "another answer"})
            await peer.send('42/other,["message",{"event":"background-jobs-list-response"}]')
            await peer.send('43["an acknowledgement"]')
            await peer.message("authenticated", {"id": "0"})  # repeated: harmless
            await peer.message(
                ROBOTS.answer,
                [{"id": 7, "name": "grid", "exchange": "bybit", "isEnabled": True, "more": 1}],
            )

    async def story() -> None:
        async with scripted(script) as (url, _):
            session = await opened(url, command="plan")
            assert await session.robots() == (Robot(7, "grid", "bybit", running=True),)
            assert await session.robots() == (Robot(7, "grid", "bybit", running=True),)
            await session.close()

    told(story)


def test_the_ping_of_the_server_is_answered() -> None:
    pongs: list[str | None] = []
    ponged = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.admit()
        await peer.send("2")
        pongs.append(await peer.frame())
        ponged.set()
        await peer.until_gone()

    async def story() -> None:
        async with scripted(script) as (url, _):
            session = await opened(url)
            await ponged.wait()
            await session.close()

    told(story)
    assert pongs == ["3"]


def test_never_more_than_one_request_is_in_flight() -> None:
    flying = most = 0

    async def script(peer: Peer) -> None:
        nonlocal flying, most
        await peer.admit()

        async def answer() -> None:
            nonlocal flying
            await asyncio.sleep(0.002)
            flying -= 1
            await peer.message(ANSWER, LISTING)

        tasks = []
        while await peer.request() is not None:
            flying += 1
            most = max(most, flying)
            tasks.append(asyncio.create_task(answer()))
        await asyncio.gather(*tasks)

    async def story() -> None:
        async with scripted(script) as (url, peers):
            session = await opened(url)
            await asyncio.gather(*(session.exchanges() for _ in range(20)))
            assert len(peers[0].requests) == 20
            await session.close()

    told(story)
    assert most == 1


# ── answers that do not come ─────────────────────────────────────────────────────────────────


def test_a_read_without_answer_is_a_lost_connection_that_says_why() -> None:
    error = asked(say_nothing, ConnectionLost, "may hang", write=False, hasty=True)
    assert error.transient


def test_a_write_without_answer_has_an_unknown_outcome() -> None:
    error = asked(say_nothing, NoAnswer, "not known whether", write=True, hasty=True)
    assert "does not repeat" in error.remedy


def test_a_connection_lost_in_a_read() -> None:
    asked(hang_up, ConnectionLost, write=False)


def test_a_connection_lost_in_a_write_has_an_unknown_outcome() -> None:
    asked(hang_up, NoAnswer, "not known whether", write=True)


async def _internal_error(peer: Peer) -> None:
    await peer.send('42["exception",{"status":"error","message":"Internal server error"}]')


async def _other_account(peer: Peer) -> None:
    await peer.message("authenticated", {"id": "42"})


async def _refusal(peer: Peer) -> None:
    await peer.message("unauthorized", {"code": 4002})


async def _too_long(peer: Peer) -> None:
    await peer.send("42" + "x" * (64 * 2**20))


async def _deep(peer: Peer) -> None:
    await peer.send('42["message",' + "[" * 50_000)


async def _goodbye(peer: Peer) -> None:
    await peer.send("41")


@pytest.mark.parametrize(
    ("react", "of_a_read", "of_a_write"),
    [
        (_internal_error, UnknownAnswer, UnknownAnswer),
        (_deep, UnknownAnswer, UnknownAnswer),
        (_other_account, WrongAccount, NoAnswer),
        (_refusal, Unauthorized, NoAnswer),
        (_too_long, AnswerTooLong, NoAnswer),
        (_goodbye, ConnectionLost, NoAnswer),
    ],
)
def test_other_answers_end_the_conversation(
    react: Script,
    of_a_read: type[DriverError],
    of_a_write: type[DriverError],
) -> None:
    asked(react, of_a_read, write=False)
    asked(react, of_a_write, write=True)


@pytest.mark.parametrize("payload", [None, [], 7, {"main": []}, {"main": [], "additional": [7]}])
def test_a_save_answered_by_nonsense_has_an_unknown_outcome(payload: object) -> None:
    async def nonsense(peer: Peer) -> None:
        await peer.message(ANSWER, payload)

    asked(nonsense, UnknownAnswer, write=True)


def test_a_late_answer_is_never_taken_for_the_next_one() -> None:
    """The answer of a request that was given up arrives on a connection that nobody uses."""

    async def late(peer: Peer) -> None:
        await asyncio.sleep(2 * HASTY.request)
        await peer.message(ROBOTS.answer, [])

    asked(late, ConnectionLost, write=False, hasty=True)


def test_giving_up_a_request_ends_the_conversation() -> None:
    async def story() -> None:
        async with scripted(save_script(say_nothing)) as (url, peers):
            session = await opened(url)
            await session.exchanges()
            saving = asyncio.create_task(session.save("bybit", VALUES))
            await peers[0].asked(2)
            saving.cancel()
            with pytest.raises(asyncio.CancelledError):
                await saving
            with pytest.raises(ConnectionLost):
                await session.exchanges()
            await session.close()

    told(story)


def test_closing_wakes_who_waits() -> None:
    async def story() -> None:
        async with scripted(save_script(say_nothing)) as (url, peers):
            session = await opened(url)
            await session.exchanges()
            saving = asyncio.create_task(session.save("bybit", VALUES))
            await peers[0].asked(2)
            await session.close()
            with pytest.raises(NoAnswer):
                async with asyncio.timeout(QUICK.request / 4):
                    await saving

    told(story)


def test_closing_is_bounded_when_the_peer_stalls() -> None:
    stalled = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.admit()
        await stalled.wait()

    async def story() -> None:
        async with scripted(script) as (url, _):
            session = await opened(url, timeouts=HASTY)
            started = asyncio.get_running_loop().time()
            await session.close()
            assert asyncio.get_running_loop().time() - started < 4 * HASTY.close
            stalled.set()

    told(story)


def test_a_connection_lost_while_idle_sends_nothing_and_says_so() -> None:
    dead = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.admit()
        await peer.request()
        await peer.message(ANSWER, LISTING)
        await hang_up(peer)
        dead.set()

    async def story() -> None:
        async with scripted(script) as (url, _):
            session = await opened(url)
            await session.exchanges()
            await dead.wait()
            await asyncio.sleep(0.05)
            with pytest.raises(ConnectionLost, match="nothing was sent"):
                await session.save("bybit", VALUES)
            await session.close()

    told(story)


def test_a_stream_of_messages_neither_answers_nor_outlasts_the_deadline() -> None:
    async def stream(peer: Peer) -> None:
        frame = '42["message",{"event":"update-report","payload":{"artifacts":"system"}}]'
        with contextlib.suppress(ConnectionError):
            while not peer.ws.closed:
                for _ in range(20):
                    await peer.send(frame)
                await asyncio.sleep(0.02)

    def really(story: Story) -> None:
        """In real time: it is about a loop that always has something to do."""
        asyncio.run(story())

    asked(stream, ConnectionLost, "did not answer", write=False, hasty=True, run=really)


# ── what may be sent at all ──────────────────────────────────────────────────────────────────

READERS = {"plan", "status", "explain", "adopt", "doctor", "audit", "logs"}
READS = {EXCHANGES.event, ENGINE.event, ROBOTS.event, LOG.event}
CHANGES = {
    *("exchange-config-save", "exchange-config-delete"),
    *("run-background-job-request", "stop-background-job-request"),
    *("invalidate-cache-request", "reboot-system-request"),
}
NEVER = (
    "remove-background-job-request",
    "report-action-request",
    "unheard-of",
)


def test_the_table_of_commands_and_events() -> None:
    writers = {command for command, events in MAY_SEND.items() if events - READS}
    assert writers == {"apply", "controller", "request"}
    assert set(MAY_SEND) == writers | READERS
    for command, events in MAY_SEND.items():
        if command == "request":
            assert events == READS | {"run-background-job-request"}
        else:
            assert events == READS | (CHANGES if command in writers else set())
    with pytest.raises(KeyError):
        JtTraderDriver(command="sandbox", timeouts=QUICK)


@pytest.mark.parametrize("command", sorted(MAY_SEND))
def test_no_command_can_send_what_is_not_in_its_row(command: str) -> None:
    async def story() -> None:
        async with scripted(save_script(say_nothing)) as (url, peers):
            session = await opened(url, command=command)
            for event in {*NEVER, *CHANGES} - MAY_SEND[command]:
                with pytest.raises(ServerRefused, match="must not send"):
                    await session._wire.ask(Request(event, "x"), lambda payload: payload)
            await session.exchanges()
            if SAVE.event not in MAY_SEND[command]:
                with pytest.raises(ServerRefused):
                    await session.save("bybit", VALUES)
                with pytest.raises(ServerRefused):
                    await session.delete("bybit", "bybit_api_secret")
            await session.close()
            assert {body["event"] for body in peers[0].requests} <= MAY_SEND[command]

    told(story)


@pytest.mark.parametrize(
    ("request_", "payload"),
    [
        (REBOOT, 7),
        (REBOOT, []),
        (INVALIDATE, 0),
        (INVALIDATE, "system"),
        (ROBOTS, 1),
        (START, None),
        (START, True),
        (START, "9"),
        (START, 9.0),
        (START, [2]),
        (LOG, None),
        (LOG, 5),
        (SAVE, None),
        (SAVE, {}),
        (Request(REBOOT.event, "x", takes=int), 7),
        (Request(REBOOT.event, ""), None),
    ],
)
def test_no_payload_but_its_own_leaves_with_a_request(request_: Request, payload: object) -> None:
    async def story() -> None:
        async with scripted(save_script(say_nothing)) as (url, peers):
            session = await opened(url)
            with pytest.raises(ServerRefused, match="nothing was sent"):
                await session._wire.ask(request_, lambda answer: answer, payload)
            await session.exchanges()
            await session.close()
            assert [body["event"] for body in peers[0].requests] == [EXCHANGES.event]

    told(story)


@contextlib.asynccontextmanager
async def at_once(peer: Peer) -> AsyncIterator[None]:
    """Let all that is sent in the block arrive together, as from a server with a full buffer."""
    transport: Any = peer.raw.transport
    held: list[bytes] = []
    write, writelines = transport.write, transport.writelines
    transport.write, transport.writelines = held.append, held.extend
    yield
    transport.write, transport.writelines = write, writelines
    write(b"".join(held))


@pytest.mark.parametrize("reads", [1, 2], ids=["the first time", "as it was before"])
def test_an_answer_that_comes_twice_bars_later_writes(reads: int) -> None:
    """Also where it is the same, letter for letter, as the one before, and is not decoded."""

    async def script(peer: Peer) -> None:
        await peer.admit()
        asked = 0
        while (body := await peer.request()) is not None:
            if body["event"] == EXCHANGES.event:
                asked += 1
                async with at_once(peer):
                    for _ in range(2 if asked == reads else 1):
                        await peer.message(ANSWER, LISTING)
            else:
                await peer.message(ROBOTS.answer, [])

    async def story() -> None:
        async with scripted(script) as (url, peers):
            session = await opened(url)
            for _ in range(reads):
                await session.exchanges()
            await session.robots()
            with pytest.raises(ConnectionLost):
                await session.save("bybit", VALUES)
            assert SAVE.event not in [request["event"] for request in peers[0].requests]
            await session.close()

    told(story)


# ── a request without an answer ──────────────────────────────────────────────────────────────


def transport_of(session: JtTraderSession) -> Any:
    """Return what lies between the websocket and the system."""
    assert session._wire._socket is not None
    return session._wire._socket._transport


def test_a_reboot_was_written_when_it_returns_and_has_no_payload() -> None:
    """The peer gets it although the client's loop never runs again."""
    got: list[object] = []

    async def script(peer: Peer) -> None:
        await peer.admit()
        got.append(await peer.request())
        await peer.message("", {"what": "no answer"})
        await peer.message("update-report")
        body = await peer.request()
        assert body == {"event": ROBOTS.event}
        await peer.message(ROBOTS.answer, [])
        await hang_up(peer)

    async def story() -> None:
        async with scripted(script) as (url, _):
            session = await opened(url)
            transport = transport_of(session)
            written: list[bytes] = []
            real = transport.write

            def write(data: bytes) -> None:
                written.append(data)
                real(data)

            transport.write = write
            await session.reboot()
            assert len(written) == 1, "it had not even left the queue"
            assert await session.robots() == ()
            assert await session.ended(2)
            await session.close()

    told(story)
    assert got == [{"event": "reboot-system-request"}]


@pytest.mark.parametrize("secure", [False, True], ids=["plain", "tls"])
def test_a_server_that_dies_of_the_request_at_once(tmp_path: Path, *, secure: bool) -> None:
    authority = Authority(tmp_path)
    context = authority.server_context() if secure else None
    trust = Trust(ca_file=str(authority.ca_file)) if secure else None

    async def story() -> None:
        script = save_script(hang_up, after=REBOOT.event)
        async with scripted(script, context=context) as (url, peers):
            session = await opened(url, trust=trust)
            await session.reboot()
            assert await session.ended(2)
            with pytest.raises(ConnectionLost):
                await session.exchanges()
            await session.close()
            assert peers[0].requests == [{"event": REBOOT.event}]

    told(story)


def test_a_reboot_that_the_system_did_not_take_has_an_unknown_outcome() -> None:
    async def story() -> None:
        async with scripted(save_script(say_nothing)) as (url, peers):
            session = await opened(url)
            # As with a full socket buffer: the transport keeps what it is given.
            transport_of(session).get_write_buffer_size = lambda: 9
            with pytest.raises(NoAnswer, match="not known whether reboot"):
                await session.reboot()
            assert all(one.fileno() == -1 for one in session._wire._made.sockets)
            assert await session.ended(0)
            with pytest.raises(ConnectionLost):
                await session.robots()
            await session.close()
            assert len(peers) == 1

    told(story)


@pytest.mark.parametrize("late", [False, True], ids=["at the request", "behind it"])
def test_a_send_that_broke_off_has_an_unknown_outcome(
    monkeypatch: pytest.MonkeyPatch, *, late: bool
) -> None:
    """aiohttp raises also for what it wrote already, when the connection ends while it waits."""
    real = ClientWebSocketResponse.send_str

    async def send_str(
        self: ClientWebSocketResponse, data: str, compress: int | None = None
    ) -> None:
        if late or REBOOT.event not in data:
            await real(self, data, compress)
        if REBOOT.event in data:
            raise ClientConnectionResetError("Connection lost")

    async def story() -> None:
        async with scripted(save_script(say_nothing)) as (url, _):
            session = await opened(url)
            with pytest.raises(NoAnswer):
                await session.reboot()
            await session.close()

    monkeypatch.setattr(ClientWebSocketResponse, "send_str", send_str)
    told(story)


def test_a_reboot_on_a_connection_that_ended_in_between_has_an_unknown_outcome() -> None:
    async def story() -> None:
        async with scripted(save_script(say_nothing)) as (url, _):
            session = await opened(url)
            # The socket dies under the transport, which swallows what it is given from then on.
            for one in session._wire._made.sockets:
                one.shutdown(socket.SHUT_WR)
            with pytest.raises(NoAnswer):
                await session.reboot()
            await session.close()

    told(story)


def test_the_patience_of_a_session_is_what_the_server_announces() -> None:
    async def story() -> None:
        async with scripted(save_script(say_nothing)) as (url, _):
            session = await opened(url)
            assert session.patience == 45
            await session.close()
            assert session.patience == 45

    told(story)


@pytest.mark.parametrize("interval", [0, -45_000, 121_000, 600_000, 10**12])
def test_pings_that_nobody_believes_in(interval: int) -> None:
    """A server that announced 600 s held its turn, and with it others, for ten minutes."""

    async def script(peer: Peer) -> None:
        await peer.send(
            f'0{{"sid":"a","upgrades":[],"pingInterval":{interval},"pingTimeout":0,"maxPayload":9}}'
        )
        if await peer.frame() is not None:
            await peer.send('40{"sid":"b"}')
            await peer.message("authenticated", {"id": "0"})
        await peer.until_gone()

    async def story() -> None:
        async with scripted(script) as (url, _):
            with pytest.raises(ServerUnreachable, match="does not believe in"):
                await opened(url, timeouts=HASTY)

    told(story)


def test_a_robot_may_take_its_own_time() -> None:
    """The deadline is that of robots, not that of any request."""

    async def script(peer: Peer) -> None:
        await peer.admit()
        job = {"id": 7, "name": "grid", "exchange": "bybit", "isEnabled": True}
        while (body := await peer.request()) is not None:
            if body["event"] == "stop-background-job-request":
                assert body["payload"] == 7
                await asyncio.sleep(2 * HASTY.request)
                await peer.message(ROBOTS.answer, [job | {"isEnabled": False}])
            else:
                await peer.message(ROBOTS.answer, [job])

    async def story() -> None:
        async with scripted(script) as (url, _):
            session = await opened(url, timeouts=replace(HASTY, robot=5))
            await session.robots()
            (robot,) = await session.stop(7)
            assert not robot.running
            await session.close()

    told(story)


def test_only_the_system_log_is_asked_for() -> None:
    async def script(peer: Peer) -> None:
        await peer.admit()
        body = await peer.request()
        assert body == {"event": LOG.event, "payload": "system"}
        await peer.message(LOG.answer, {"artifacts": "system", "data": []})
        await peer.until_gone()

    async def story() -> None:
        async with scripted(script) as (url, _):
            session = await opened(url, command="logs")
            assert (await session.log()).readable
            await session.close()

    told(story)


@pytest.mark.parametrize("surplus", [0, 1])
def test_a_frame_over_the_limit_of_the_server_is_never_sent(surplus: int) -> None:
    async def story() -> None:
        async with scripted(save_script(say_nothing)) as (url, peers):
            session = await opened(url, timeouts=HASTY)
            frame = json.dumps(
                ["message", {"event": SAVE.event, "payload": [""]}], separators=(",", ":")
            )
            value = "x" * (FRAME_LIMIT - len("42" + frame) + surplus)
            expected = ServerRefused if surplus else NoAnswer
            with pytest.raises(expected):
                await session._wire.ask(SAVE, lambda payload: payload, [value])
            await session.close()
            assert len(peers[0].requests) == 1 - surplus

    told(story)


def test_an_answer_over_the_limit_is_told_apart(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    marker = canary()

    async def script(peer: Peer) -> None:
        await peer.admit()
        await peer.request()
        await peer.message(LOG.answer, {"artifacts": "system", "data": [{"msg": marker * 100}]})
        await peer.until_gone()

    async def story() -> None:
        async with scripted(script) as (url, _):
            session = await opened(url, message_limit=1000)
            with pytest.raises(AnswerTooLong, match="1,000 bytes"):
                await session.log()
            await session.close()

    told(story)
    assert marker not in caplog.text


# ── the sockets underneath ───────────────────────────────────────────────────────────────────


def options(session: JtTraderSession) -> Iterator[tuple[int, int, bytes]]:
    """Yield what is set on each socket of the conversation."""
    for one in session._wire._made.sockets:
        patience = one.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT)
        linger = one.getsockopt(socket.SOL_SOCKET, socket.SO_LINGER, 8)
        yield one.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY), patience, linger


@pytest.mark.skipif(sys.platform != "linux", reason="TCP_USER_TIMEOUT is Linux only")
def test_sockets_are_prompt_give_up_on_the_dead_and_die_with_us() -> None:
    async def story() -> None:
        async with scripted(save_script(say_nothing)) as (url, _):
            session = await opened(url)
            assert list(options(session)) == [
                (1, int(QUICK.request * 1000), struct.pack("ii", 1, 0))
            ]
            await session.close()

    told(story)


def test_an_abandoned_socket_is_reset_and_a_closed_one_is_no_trouble() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        one = socket.create_connection(server.getsockname())
        peer, _ = server.accept()
        with one, peer:
            peer.settimeout(5)
            cut(one)
            assert one.getsockopt(socket.SOL_SOCKET, socket.SO_LINGER, 8) == struct.pack("ii", 1, 0)
            assert peer.recv(1) == b""
            one.close()
            cut(one)
            with pytest.raises(ConnectionError):
                peer.send(b"late")


CHILD = """
import socket, sys
from reconciler.drivers.connection.transport import _new_socket
one = _new_socket([], 5.0, (socket.AF_INET, socket.SOCK_STREAM, 0))
if sys.argv[2] == "plain":
    one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, bytes(8))
one.setblocking(True)
one.connect(("127.0.0.1", int(sys.argv[1])))
one.setblocking(False)
try:
    while True:
        one.send(b"." * 65536)
except BlockingIOError:
    pass
print("full", flush=True)
sys.stdin.read()
"""


@pytest.mark.parametrize("linger", ["ours", "plain"])
def test_what_was_not_sent_dies_with_the_process(linger: str) -> None:
    """The peer reads nothing; the sender is killed; what its system still held never arrives."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = str(server.getsockname()[1])
        child = subprocess.Popen(
            [sys.executable, "-c", CHILD, port, linger],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        with child:
            peer, _ = server.accept()
            peer.settimeout(10)
            assert child.stdout is not None
            assert child.stdout.readline() == b"full\n"
            child.kill()
            child.wait(10)
            with peer:
                delivered = 0
                reset = False
                try:
                    while more := peer.recv(2**20):
                        delivered += len(more)
                except ConnectionResetError:
                    reset = True
    assert reset is (linger == "ours")


def test_a_polite_goodbye_still_arrives_as_one() -> None:
    ends: list[object] = []
    left = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.admit()
        while (message := await peer.ws.receive()).type is WSMsgType.TEXT:
            ends.append(message.data)
        ends.append((message.type, peer.ws.close_code))
        left.set()

    async def story() -> None:
        async with scripted(script) as (url, _):
            session = await opened(url)
            await session.close()
            await left.wait()

    told(story)
    assert ends[:-1] == ["41"]
    assert ends[-1] == (WSMsgType.CLOSE, 1000)
