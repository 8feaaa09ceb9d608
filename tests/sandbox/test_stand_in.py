"""
The stand-in shows each hazard to a client that takes no care, and each fault on demand.

These are positive controls: a suite that asserts "no fatal path" proves nothing unless the
stand-in really runs one when it should.  Source: observed on JT-Trader 0.24.19.
"""

import asyncio
from typing import Any

import pytest

from reconciler.sandbox.jt_trader.faults import Write
from reconciler.sandbox.jt_trader.server import Behaviour, Robot, StandIn
from tests.conformance.naive import NOTHING, WAIT, NaiveClient
from tests.sandbox.visits import looped, running, until, visited
from tests.support.leaks import Watch

pytestmark = pytest.mark.naive

LISTED = "exchange-config-response"
SAVE, DELETE = "exchange-config-save", "exchange-config-delete"
QUICK = 0.1
"""Seconds after which silence is believed."""


@pytest.fixture
def secret(watch: Watch) -> str:
    return watch.secret("hex")


@pytest.fixture
def server(secret: str) -> StandIn:
    """Return a server that is not started, with two running robots and one stored exchange."""
    server = StandIn(
        access_secret=secret,
        robots=[
            Robot(1, "one", "bybit"),
            Robot(2, "two", "okx"),
            Robot(3, "x", "okx", account="7"),
        ],
        behaviour=Behaviour(sprinkle=False, row_delay=(0.0, 0.0)),
    )
    server.set_value("bybit_api_key", "stored-key")
    server.set_value("bybit_api_secret", "stored-secret")
    return server


def row(name: str, value: object) -> dict[str, object]:
    return {"name": name, "type": "string", "value": value, "label": "x"}


def shown(answer: dict[str, Any] | None) -> dict[str, str]:
    """Return name -> mask of an exchange list."""
    assert answer is not None
    sides = answer["payload"]
    exchanges = [*sides["main"], *sides["additional"]]
    return {f["name"]: f["value"] for exchange in exchanges for f in exchange["fields"]}


# Hazards


@pytest.mark.fatal_paths(1)
@pytest.mark.parametrize(
    ("event", "payload"),
    [
        ("exchange-config-request", NOTHING),
        (SAVE, [row("okx_api_key", "v")]),
        (DELETE, []),
        ("background-jobs-list-request", NOTHING),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
@looped
async def test_a_request_after_a_wrong_secret_stops_all_robots(
    server: StandIn, event: str, payload: object
) -> None:
    async with running(server) as url, NaiveClient(url, {"accessSecret": "wrong"}) as client:
        assert await client.wait_for("unauthorized")
        assert await client.ask(event, payload, answer="update-report")

    assert server.robots_running() == set()
    assert server.record.robot_stops == 3
    assert "okx_api_key" not in server.values()


@pytest.mark.fatal_paths(1)
@pytest.mark.parametrize(
    ("event", "payload"),
    [
        (DELETE, ["okx_api_key"]),
        (SAVE, [row("bybit_api_key", None)]),
        (SAVE, [{"name": "okx_api_key", "value": "v"}]),
        (SAVE, {"name": "okx_api_key"}),
        (
            SAVE,
            [row("okx_api_key", "first"), row("okx_api_secret", None), row("okx_password", "3")],
        ),
    ],
    ids=["missing field", "null value", "no type", "no list", "bad row in the middle"],
)
@looped
async def test_a_failing_request_is_silent_and_stops_all_robots(
    server: StandIn, secret: str, event: str, payload: object
) -> None:
    before = server.values()
    async with visited(server, secret) as client:
        assert await client.ask(event, payload, answer=LISTED, patience=QUICK) is None

    seen = [message["event"] for message in client.received]
    assert seen[-2:] == ["tester-scenario-list-response", "update-report"]
    assert server.robots_running() == set()
    assert server.log_entries()[-1]["class"] == "MainProcessExceptionHandler"
    # Not atomic: a row before the bad one stays, a row after it is never reached.
    kept = {"okx_api_key": "first"} if isinstance(payload, list) and len(payload) == 3 else {}
    assert server.values() == before | kept


@looped
async def test_an_absent_name_overwrites_the_oldest_row(server: StandIn, secret: str) -> None:
    async with visited(server, secret) as client:
        assert await client.ask(SAVE, [{"type": "string", "value": "new"}], answer=LISTED)

    assert server.values()["bybit_api_key"] == "new"


@looped
async def test_an_object_as_name_is_a_filter(server: StandIn, secret: str) -> None:
    async with visited(server, secret) as client:
        assert await client.ask(SAVE, [row_by({"endsWith": "_secret"}, "new")], answer=LISTED)
        assert server.values()["bybit_api_secret"] == "new"
        assert await client.ask(DELETE, [{}], answer=LISTED)

    assert server.values() == {"bybit_api_secret": "new"}


def row_by(name: object, value: str) -> dict[str, object]:
    return {"name": name, "type": "string", "value": value}


@looped
async def test_a_mask_that_is_written_back_is_stored(server: StandIn, secret: str) -> None:
    async with visited(server, secret) as client:
        answer = await client.ask("exchange-config-request", answer=LISTED)
        mask = shown(answer)["bybit_api_key"]
        again = await client.ask(SAVE, [row("bybit_api_key", mask)], answer=LISTED)

    assert server.values()["bybit_api_key"] == mask
    assert shown(again)["bybit_api_key"] == mask


@looped
async def test_concurrent_saves_of_a_new_name_make_duplicates(server: StandIn, secret: str) -> None:
    server.behaviour.row_delay = (0.005, 0.005)
    async with visited(server, secret) as client:
        await client.request(SAVE, [row("okx_password", "first-one")])
        await client.request(SAVE, [row("okx_password", "second-one")])
        await until(lambda: sum(m["event"] == LISTED for m in client.received) == 2)
        assert shown(client.received[-1])["okx_password"] == "fir•••••one"
        after_delete = await client.ask(DELETE, ["okx_password"], answer=LISTED)

    # The other value has come back, and a second delete would be needed.
    assert shown(after_delete)["okx_password"] == "sec•••••one"


@looped
async def test_a_read_behind_a_save_shows_the_old_value(server: StandIn, secret: str) -> None:
    server.behaviour.row_delay = (0.005, 0.005)
    async with visited(server, secret) as client:
        await client.request(SAVE, [row("bybit_api_key", "brand-new")])
        await client.request("exchange-config-request")
        await until(lambda: sum(m["event"] == LISTED for m in client.received) == 2)

    lists = [message for message in client.received if message["event"] == LISTED]
    assert [shown(answer)["bybit_api_key"] for answer in lists] == ["sto•••••key", "bra•••••new"]


@looped
async def test_a_frame_over_the_limit_drops_the_connection(server: StandIn, secret: str) -> None:
    async with visited(server, secret) as client:
        await client.request(SAVE, [row("bybit_api_key", "L" * 1_100_000)])
        await asyncio.wait_for(client.ended.wait(), WAIT)

    assert client.reason == "transport error"
    assert server.values()["bybit_api_key"] == "stored-key"
    assert server.robots_running() == {1, 2, 3}


@pytest.mark.fatal_paths(1)
@looped
async def test_a_rejected_value_stands_in_the_log_for_everybody(
    server: StandIn, secret: str, watch: Watch
) -> None:
    value = watch.secret()
    async with visited(server, secret) as client:
        await client.request(SAVE, [{"name": "okx_api_key", "value": value}])
        assert await client.wait_for("update-report")
        async with NaiveClient(server.url, {"accessSecret": "wrong"}) as stranger:
            assert await stranger.wait_for("unauthorized")
            await shows(stranger, value)


async def shows(client: NaiveClient, text: str) -> None:
    """Wait until the system log has a text; a failure does not show it."""
    request, answer = "logs-list-request", "logs-list-response"
    async with asyncio.timeout(WAIT):
        while text not in str(await client.ask(request, "system", answer=answer)):  # noqa: ASYNC110  - there is no event
            await asyncio.sleep(0.01)


@looped
async def test_an_unauthorised_reboot_gets_through(server: StandIn, secret: str) -> None:
    async with visited(server, secret) as client:
        async with NaiveClient(server.url, {"accessSecret": "wrong"}) as stranger:
            assert await stranger.wait_for("unauthorized")
            await stranger.request("reboot-system-request")
            await asyncio.wait_for(stranger.ended.wait(), WAIT)
        await asyncio.wait_for(client.ended.wait(), WAIT)

    assert (client.reason, server.record.reboots) == ("transport error", 1)
    assert server.robots_running() == set()


@pytest.mark.fatal_paths(2)
@looped
async def test_any_departure_leaves_nobody_registered(server: StandIn, secret: str) -> None:
    auth = {"accessSecret": secret}
    async with visited(server, secret) as first, NaiveClient(server.url, auth) as newest:
        assert await newest.wait_for("authenticated")
        assert await newest.ask(DELETE, ["no"], answer="update-report")
        before = {message["event"] for message in newest.received}
        await first.close()
        await until(lambda: len(server.connections()) == 1)
        assert await newest.ask(DELETE, ["no"], answer="update-report")
        after = {message["event"] for message in newest.received}

    assert before == {"user-script-log", "tester-scenario-list-response", "update-report"}
    assert after == {"update-report"}


# Faults that tests switch on

DONE, HALF, NONE = ["a", "b"], ["a"], list[str]()
ANSWERED, SILENT, DROPPED = "answered", "silent", "dropped"


@pytest.mark.parametrize(
    ("fault", "changed", "outcome"),
    [
        ("answer", DONE, ANSWERED),
        ("drop-before", NONE, DROPPED),
        ("drop-midway", HALF, DROPPED),
        ("drop-after", DONE, DROPPED),
        ("silent-before", NONE, SILENT),
        ("silent-after", DONE, SILENT),
        ("unknown-answer", DONE, ANSWERED),
        ("lose-last-row", HALF, ANSWERED),
        pytest.param("fatal", NONE, SILENT, marks=pytest.mark.fatal_paths(2)),
    ],
)
@looped
async def test_faults_of_writes(
    secret: str, fault: Write, changed: list[str], outcome: str
) -> None:
    server = StandIn(
        access_secret=secret, behaviour=Behaviour(save=fault, delete=fault, sprinkle=False)
    )
    async with running(server) as url:
        async with NaiveClient(url, {"accessSecret": secret}) as client:
            assert await client.wait_for("authenticated")
            await client.request(SAVE, [row("a", "1"), row("b", "2")])
            assert await result(client, outcome) == outcome
            saved = list(server.values())
        server.set_value("a", "1")
        server.set_value("b", "2")
        async with NaiveClient(url, {"accessSecret": secret}) as client:
            assert await client.wait_for("authenticated")
            await client.request(DELETE, ["a", "b"])
            assert await result(client, outcome) == outcome
            kept = sorted(server.values())

    assert saved == changed
    assert kept == [name for name in DONE if name not in changed]
    finished = 2 if changed == DONE or fault == "lose-last-row" else 0
    assert (server.record.saves, server.record.deletes) == (1, 1)
    assert sum(kind in ("save", "delete") for kind, *_ in server.record.history) == finished


async def result(client: NaiveClient, expected: str) -> str:
    """Tell what became of the last request; only for silence the wait is short."""
    answer = await client.wait_for(LISTED, patience=QUICK if expected == SILENT else WAIT)
    if client.ended.is_set():
        return DROPPED
    return SILENT if answer is None else ANSWERED


@looped
async def test_a_fault_can_be_kept_for_a_later_write(server: StandIn, secret: str) -> None:
    server.behaviour.save, server.behaviour.next_writes = "silent-before", ["answer"]
    async with visited(server, secret) as client:
        first = await client.ask(SAVE, [row("a", "1")], answer=LISTED)
        second = await client.ask(SAVE, [row("b", "2")], answer=LISTED, patience=QUICK)

    assert first is not None
    assert second is None
    assert server.record.history == [("save", "0", "a")]


@looped
async def test_faults_of_reads(server: StandIn, secret: str) -> None:
    behaviour = server.behaviour
    async with visited(server, secret) as client:

        async def read(patience: float = WAIT) -> dict[str, Any] | None:
            return await client.ask("exchange-config-request", answer=LISTED, patience=patience)

        behaviour.answer_padding = 1000
        padded = await read()
        behaviour.read = "unknown-answer"
        unknown = await read()
        behaviour.read = "silent"
        silent = await read(QUICK)
        behaviour.read = "drop"
        dropped = await read()

    assert padded is not None
    assert len(padded["payload"]["padding"]) == 1000
    assert unknown is not None
    assert "main" not in unknown["payload"]
    assert silent is None
    assert dropped is None
    assert client.ended.is_set()


@looped
async def test_any_event_can_be_ignored_or_answered_strangely(server: StandIn, secret: str) -> None:
    server.behaviour.silent = frozenset({"engine-config-request"})
    server.behaviour.unknown = frozenset({"background-jobs-list-response"})
    server.behaviour.log_padding = 500
    async with visited(server, secret) as client:
        version = "engine-config-response"
        ignored = await client.ask("engine-config-request", answer=version, patience=QUICK)
        jobs = await client.ask(
            "background-jobs-list-request", answer="background-jobs-list-response"
        )
        log = await client.ask("logs-list-request", "system", answer="logs-list-response")
        server.append_log_line("no JSON")
        broken = await client.ask("logs-list-request", "system", answer="logs-list-response")

    assert ignored is None
    assert server.record.events("engine-config-request") == 1
    assert jobs == {"event": "background-jobs-list-response", "payload": {"unexpected": True}}
    assert log is not None
    assert log["payload"]["data"][-1]["msg"] == "m" * 500
    assert broken == {"event": "logs-list-response", "payload": {"artifacts": "system"}}


@looped
async def test_late_answers_come_after_the_next_request(server: StandIn, secret: str) -> None:
    server.behaviour.answer_delay = 0.1
    async with visited(server, secret) as client:
        given_up = await client.ask("exchange-config-request", answer=LISTED, patience=0.02)
        server.behaviour.answer_delay = 0.0
        version = await client.ask("engine-config-request", answer="engine-config-response")
        late = await client.wait_for(LISTED)

    assert given_up is None
    assert version is not None
    assert version["payload"]["version"] == "0.24.19"
    assert late is not None


@looped
async def test_a_hanging_login_says_nothing_and_answers_nothing(
    server: StandIn, secret: str
) -> None:
    server.behaviour.login = "silent"
    async with running(server) as url, NaiveClient(url, {"accessSecret": secret}) as client:
        await client.request("engine-config-request")
        async with NaiveClient(url, {"accessSecret": "wrong"}) as stranger:
            refused = await stranger.wait_for("unauthorized")
        answer = await client.wait_for("engine-config-response", patience=QUICK)

    assert refused == {"event": "unauthorized", "payload": {"code": 4002}}
    assert answer is None
    assert client.received == []


@looped
async def test_a_login_can_be_slow(server: StandIn, secret: str) -> None:
    server.behaviour.login_delay = 0.1
    async with running(server) as url, NaiveClient(url, {"accessSecret": secret}) as client:
        early = await client.wait_for("authenticated", patience=0.02)
        late = await client.wait_for("authenticated")

    assert early is None
    assert late is not None


@looped
async def test_unsolicited_messages_come_between_the_answers(secret: str) -> None:
    server = StandIn(access_secret=secret, behaviour=Behaviour(row_delay=(0.0, 0.0)), seed=1)
    async with visited(server, secret) as client:
        for _ in range(40):
            assert await client.ask("engine-config-request", answer="engine-config-response")
            client.received.clear()
        async with NaiveClient(server.url, {"accessSecret": secret}) as other:
            for _ in range(60):
                await other.request("engine-config-request")
            await until(lambda: server.record.events("engine-config-request") == 100)
            await until(
                lambda: sum(m["event"] == "engine-config-response" for m in other.received) == 60
            )

    seen = {message["event"] for message in other.received}
    assert seen >= {
        *("authenticated", "update-report", "client-notification", "realtime-ticker"),
        *("tester-scenario-list-response", "tester-scenario-exec-info"),
    }


def test_a_robot_whose_tick_throws_leaves_an_entry_each_second() -> None:
    async def story() -> None:
        seconds = [1000.0]
        robots = [Robot(1, "grid", "bybit", tick="throws"), Robot(2, "arb", "okx")]
        server = StandIn(access_secret="made-up", robots=robots, now=lambda: seconds[0])
        await server.start()
        process = server._process
        assert process is not None
        seconds[0] += 3.5
        process.runtime.note_ticks()
        process.runtime.note_ticks()
        noted = [e for e in server.log_entries() if e["class"] == "MainProcessExceptionHandler"]
        assert [e["time"] for e in noted] == [1_001_000, 1_002_000, 1_003_000]
        assert {e["cause"] for e in noted} == {"user-script"}
        await server.stop()

    asyncio.run(story())
