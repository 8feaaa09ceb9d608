"""
Starting and stopping robots on the stand-in, with every way in which it goes wrong.

Source: the protocol reference, sections 6, 8 and 8b, observed on JT-Trader 0.24.19.
"""

import asyncio
from typing import Any

import pytest

from reconciler.sandbox.jt_trader.faults import Effect
from reconciler.sandbox.jt_trader.server import Behaviour, Robot, StandIn, StandInThread
from tests.conformance.naive import NOTHING, WAIT, NaiveClient
from tests.sandbox.visits import back, looped, running, until, visited
from tests.support.leaks import Watch

pytestmark = pytest.mark.naive

RUN, STOP = "run-background-job-request", "stop-background-job-request"
JOBS = "background-jobs-list-response"
QUICK = 0.1
"""Seconds after which silence is believed."""
OURS = {"User-Agent": "jt-reconciler/1.0 (apply)"}


@pytest.fixture
def secret(watch: Watch) -> str:
    return watch.secret("hex")


@pytest.fixture
def server(secret: str, watch: Watch) -> StandIn:
    """Return a server that is not started: robot 1 runs, 2 to 6 do not."""
    server = StandIn(
        access_secret=secret,
        robots=[
            Robot(1, "one", "okx"),
            Robot(2, "two", "okx", running=False),
            Robot(3, "fails", "okx", running=False, start="fails"),
            Robot(4, "hangs", "okx", running=False, start="hangs"),
            Robot(5, "additional", "kucoin", running=False),
            Robot(6, "foreign", "okx", running=False, account="42"),
        ],
        behaviour=Behaviour(sprinkle=False, row_delay=(0.0, 0.0)),
    )
    for name in ("okx_api_key", "okx_api_secret", "okx_password"):
        server.set_value(name, watch.secret("hex"))
    return server


def enabled(answer: dict[str, Any] | None) -> set[int]:
    """Return the ids that a job list shows as running."""
    assert answer is not None
    return {job["id"] for job in answer["payload"] if job["isEnabled"]}


@looped
async def test_a_start_is_answered_when_the_robot_runs(server: StandIn, secret: str) -> None:
    server._state.robots[1].start_time = 0.05
    async with visited(server, secret) as client:
        await client.request(RUN, 2)
        await until(lambda: len(server.record.starts) == 1)
        assert server.robots_running() == {1}
        assert enabled(await client.wait_for(JOBS)) == {1, 2}

    assert server.record.history == [("start", 2)]
    assert server.record.robot_starts == [(2, "")]
    assert server.robot_credentials(2) == {}, "the process is gone"


@looped
async def test_a_stop_is_answered_and_takes_the_mark_and_the_keys(
    server: StandIn, secret: str
) -> None:
    async with visited(server, secret) as client:
        assert server.marked() == {1}
        assert server.robot_credentials(1) == server.values()
        assert enabled(await client.ask(STOP, 1, answer=JOBS)) == set()
        assert enabled(await client.ask(STOP, 1, answer=JOBS)) == set(), "harmless"
        assert server.robot_credentials(1) == {}

    assert server.marked() == set()
    assert server.record.history == [("stop", 1)]
    assert server.record.robot_stops_asked == [(1, ""), (1, "")]
    assert server.saved_state(1) is not None


@looped
async def test_a_start_of_a_running_robot_is_an_exception_and_no_list(
    server: StandIn, secret: str
) -> None:
    async with visited(server, secret) as client:
        assert await client.ask(RUN, 1, answer="exception")
        assert await client.wait_for("update-report")
        assert JOBS not in {message["event"] for message in client.received}
        assert enabled(await client.ask(RUN, 2, answer=JOBS)) == {1, 2}, "the lock is free"

    assert [start.outcome for start in server.record.starts] == ["running", "started"]


@pytest.mark.fatal_paths(1)
@pytest.mark.parametrize("event", [RUN, STOP])
@pytest.mark.parametrize(
    "robot",
    ["2", True, [2], None, {}, 1.5, NOTHING],
    ids=lambda value: "nothing" if value is NOTHING else repr(value),
)
@looped
async def test_an_id_of_the_wrong_type_is_answered_and_then_stops_all(
    server: StandIn, secret: str, event: str, robot: object
) -> None:
    async with visited(server, secret) as client:
        assert enabled(await client.ask(event, robot, answer=JOBS)) == {1}
        await until(lambda: server.robots_running() == set())

    assert server.record.history == [("fatal",)]


@pytest.mark.parametrize("robot", [0, -1, 77, 6], ids=["zero", "minus", "unknown", "foreign"])
@looped
async def test_an_id_of_no_robot_of_the_account_is_harmless(
    server: StandIn, secret: str, robot: int
) -> None:
    async with visited(server, secret) as client:
        for event in (RUN, STOP):
            assert enabled(await client.ask(event, robot, answer=JOBS)) == {1}

    assert server.record.history == []
    assert [start.outcome for start in server.record.starts] == ["unknown"]


@looped
async def test_one_point_zero_is_one(server: StandIn, secret: str) -> None:
    async with visited(server, secret) as client:
        assert enabled(await client.ask(RUN, 2.0, answer=JOBS)) == {1, 2}


@pytest.mark.fatal_paths(2)
@pytest.mark.parametrize("event", [RUN, STOP])
@looped
async def test_an_unauthorised_request_stops_all(server: StandIn, event: str) -> None:
    async with running(server) as url, NaiveClient(url, {"accessSecret": "wrong"}) as client:
        assert await client.wait_for("unauthorized")
        assert await client.ask(event, 1, answer="update-report")
        assert server.robots_running() == set()
        assert await client.ask(event, 2, answer="update-report")

    assert server.record.robot_starts == []


@looped
async def test_overlapping_starts_are_dropped_in_silence(server: StandIn, secret: str) -> None:
    server._state.robots[1].start_time = QUICK
    async with visited(server, secret) as client:
        await client.request(RUN, 2)
        await until(lambda: len(server.record.starts) == 1)
        await client.request(RUN, 5)
        assert enabled(await client.wait_for(JOBS)) == {1, 2}
        client.received.clear()
        assert await client.wait_for(JOBS, patience=QUICK) is None

    assert [start.outcome for start in server.record.starts] == ["started", "dropped"]
    assert server.record.robot_starts_asked == [(2, ""), (5, "")]
    assert server.record.robot_starts == [(2, "")]


@looped
async def test_a_hanging_start_blocks_all_later_ones_until_the_process_ends(
    server: StandIn, secret: str
) -> None:
    async with visited(server, secret) as client:
        assert await client.ask(RUN, 4, answer=JOBS, patience=QUICK) is None
        assert await client.ask(RUN, 2, answer=JOBS, patience=QUICK) is None
        assert enabled(await client.ask("background-jobs-list-request", answer=JOBS)) == {1}
        await client.request("reboot-system-request")
        await asyncio.wait_for(client.ended.wait(), WAIT)
        await back(server)
        async with NaiveClient(server.url, {"accessSecret": secret}) as again:
            assert await again.wait_for("authenticated")
            assert enabled(await again.ask(RUN, 2, answer=JOBS)) == {2}

    assert [start.outcome for start in server.record.starts] == ["asked", "dropped", "started"]


@looped
async def test_a_failed_start_with_somebody_registered_leaves_the_others(
    server: StandIn, secret: str
) -> None:
    async with visited(server, secret) as client:
        assert enabled(await client.ask(RUN, 3, answer=JOBS)) == {1}
        assert await client.wait_for("client-notification")
        assert enabled(await client.ask(RUN, 2, answer=JOBS)) == {1, 2}

    assert [start.registered for start in server.record.starts] == [True, True]


@pytest.mark.fatal_paths(1)
@looped
async def test_a_failed_start_with_nobody_registered_stops_all(
    server: StandIn, secret: str
) -> None:
    async with visited(server, secret) as client:
        async with NaiveClient(server.url, {"accessSecret": secret}) as other:
            assert await other.wait_for("authenticated")
        await until(lambda: len(server.connections()) == 1)
        assert enabled(await client.ask(RUN, 3, answer=JOBS)) == {1}
        await until(lambda: server.robots_running() == set())
        assert "client-notification" not in {message["event"] for message in client.received}

    (start,) = server.record.starts
    assert (start.outcome, start.registered) == ("failed", False)


@looped
async def test_the_record_tells_how_the_starter_re_registered(server: StandIn, secret: str) -> None:
    """Close, then open: registered.  Open, then close: nobody is."""
    auth = {"accessSecret": secret}
    async with running(server) as url:
        old = NaiveClient(url, auth, headers=OURS)
        await old.open()
        assert await old.wait_for("authenticated")
        async with NaiveClient(url, auth, headers=OURS) as new:
            assert await new.wait_for("authenticated")
            await old.close()
            await until(lambda: len(server.connections()) == 1)
            assert await new.ask(RUN, 77, answer=JOBS)
        await until(lambda: server.connections() == [])
        async with NaiveClient(url, auth, headers=OURS) as fresh:
            assert await fresh.wait_for("authenticated")
            assert await fresh.ask(RUN, 77, answer=JOBS)

    seen = [(start.command, start.overlapping, start.registered) for start in server.record.starts]
    assert seen == [("apply", True, False), ("apply", False, True)]
    assert [h.overlapping for h in server.record.handshakes] == [False, True, False]


@looped
async def test_a_robot_that_stops_itself_leaves_the_others(server: StandIn, secret: str) -> None:
    server._state.robots[1].stops_itself_after = 0.02
    async with visited(server, secret) as client:
        assert enabled(await client.ask(RUN, 2, answer=JOBS)) == {1, 2}
        assert await client.wait_for("client-notification")
        assert server.robots_running() == {1}

    assert server.record.history == [("start", 2), ("force-stop", 2)]


@pytest.mark.fatal_paths(1)
@looped
async def test_a_robot_that_stops_itself_with_nobody_registered_stops_all(
    server: StandIn, secret: str
) -> None:
    async with visited(server, secret) as client:
        assert enabled(await client.ask(RUN, 2, answer=JOBS)) == {1, 2}
        await client.close()
        await until(lambda: server.connections() == [])
        await server.force_stop(2)
        assert server.robots_running() == set()
        await server.force_stop(2)  # does not run: nothing happens


@pytest.mark.parametrize(
    ("how", "fatal"),
    [pytest.param("throws", 1, marks=pytest.mark.fatal_paths(1)), ("hangs", 0)],
)
@looped
async def test_a_stop_that_goes_wrong_is_never_answered(
    server: StandIn, secret: str, how: Any, fatal: int
) -> None:
    server._state.robots[0].stop = how
    async with visited(server, secret) as client:
        assert await client.ask(STOP, 1, answer=JOBS, patience=QUICK) is None
        assert server.robots_running() == set()

    assert server.record.fatal_paths == fatal
    assert server.saved_state(1) is None, "it never got to write it"


@pytest.mark.parametrize(
    ("effect", "done", "answered", "dropped"),
    [
        ("silent after effect", True, False, False),
        ("lost before effect", False, False, True),
        ("dropped after effect", True, False, True),
        ("late", True, True, False),
    ],
)
@looped
async def test_starts_and_stops_can_get_lost(
    server: StandIn, secret: str, *, effect: Effect, done: bool, answered: bool, dropped: bool
) -> None:
    server.behaviour.run = server.behaviour.halt = effect
    async with running(server) as url:
        for event, robot in ((RUN, 2), (STOP, 1)):
            async with NaiveClient(url, {"accessSecret": secret}) as client:
                assert await client.wait_for("authenticated")
                answer = await client.ask(
                    event, robot, answer=JOBS, patience=WAIT if answered else QUICK
                )
                assert (answer is not None, client.ended.is_set()) == (answered, dropped)

    assert server.record.history == ([("start", 2), ("stop", 1)] if done else [])


# Keys


@looped
async def test_a_running_robot_keeps_its_keys(server: StandIn, secret: str, watch: Watch) -> None:
    async with visited(server, secret):
        before = server.robot_credentials(1)
        server.set_value("okx_api_key", watch.secret("hex"))
        assert server.robot_credentials(1) == before != server.values()
        server.set_running(1, running=False)
        server.set_running(1, running=True)
        assert server.robot_credentials(1) == server.values()


@looped
async def test_the_same_api_key_keeps_the_old_secret_until_the_process_ends(
    server: StandIn, secret: str, watch: Watch
) -> None:
    async with visited(server, secret) as client:
        before = server.values()
        server.set_value("okx_api_secret", watch.secret("hex"))
        assert await client.ask(STOP, 1, answer=JOBS)
        assert await client.ask(RUN, 1, answer=JOBS)
        assert server.robot_credentials(1) == before
        assert await client.ask(RUN, 2, answer=JOBS)
        assert server.robot_credentials(2) == before, "robots share it"
        await server.crash(down=0.0)
        assert server.robots_running() == {1, 2}
        assert server.robot_credentials(1) == server.values() != before


@looped
async def test_a_torn_pair_stays_after_it_was_healed(
    server: StandIn, secret: str, watch: Watch
) -> None:
    async with visited(server, secret):
        server.set_value("okx_api_key", watch.secret("hex"))
        server.set_running(2, running=True)
        torn = server.robot_credentials(2)
        server.set_value("okx_api_secret", watch.secret("hex"))
        server.set_running(2, running=False)
        server.set_running(2, running=True)
        assert server.robot_credentials(2) == torn != server.values()


@looped
async def test_a_main_exchange_with_a_missing_field_gives_no_keys(
    server: StandIn, secret: str
) -> None:
    server.remove_value("okx_password")
    async with visited(server, secret) as client:
        assert enabled(await client.ask(RUN, 2, answer=JOBS)) == {1, 2}
        assert server.robot_credentials(2) == {}


@looped
async def test_an_additional_exchange_with_a_missing_field_fails_the_start(
    server: StandIn, secret: str, watch: Watch
) -> None:
    async with visited(server, secret) as client:
        assert enabled(await client.ask(RUN, 5, answer=JOBS)) == {1}
        for name in ("kucoin_api_key", "kucoin_secret", "kucoin_password"):
            server.set_value(name, watch.secret("hex"))
        assert enabled(await client.ask(RUN, 5, answer=JOBS)) == {1, 5}
        assert set(server.robot_credentials(5)) == set(server.values()) - set(
            server.robot_credentials(1)
        )


def test_all_of_it_from_any_thread(secret: str) -> None:
    robots = [Robot(1, "one", "okx"), Robot(2, "two", "okx", start="fails")]
    with StandInThread(access_secret=secret, robots=robots) as server:
        server.crash(down=0.0)
        assert server.robots_running() == {1}, "the second one failed to start again"
        assert server.robot_credentials(1) == {}
        server.crash()
        server.come_back()
        assert server.marked() == {1, 2}
        server.rotate_log()
        assert server.log_entries() == []
        server.set_running(2, running=True)
        server.set_running(1, running=False)
        assert server.saved_state(1) is not None

    assert server.record.crashes == 2


@pytest.mark.fatal_paths(1)
def test_a_robot_can_be_made_to_stop_itself_from_any_thread(secret: str) -> None:
    robots = [Robot(1, "one", "okx"), Robot(2, "two", "okx")]
    with StandInThread(access_secret=secret, robots=robots) as server:
        server.force_stop(1)
        assert server.robots_running() == set()
