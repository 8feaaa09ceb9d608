"""
Reboot, cache and crash of the stand-in: what happens, what does not, and what it counts.

Source: the protocol reference, sections 5 and 7, observed on JT-Trader 0.24.19.
"""

import asyncio
import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from reconciler.sandbox.jt_trader.faults import Effect
from reconciler.sandbox.jt_trader.server import Behaviour, Robot, StandIn, StandInThread
from tests.conformance.naive import NOTHING, WAIT, NaiveClient
from tests.sandbox.visits import back, boot_lines, looped, reachable, running, until, visited
from tests.support.leaks import Watch

pytestmark = pytest.mark.naive

REBOOT, INVALIDATE = "reboot-system-request", "invalidate-cache-request"
ANSWER, JOBS = "invalidate-cache-response", "background-jobs-list-response"
LOG, LOGGED = "logs-list-request", "logs-list-response"
UNKNOWN = "Unknown event"
QUICK = 0.1
"""Seconds after which silence is believed."""


@pytest.fixture
def secret(watch: Watch) -> str:
    return watch.secret("hex")


@pytest.fixture
def server(secret: str) -> StandIn:
    """Return a server that is not started; robots 1 and 2 run, one of them somebody else's."""
    return StandIn(
        access_secret=secret,
        robots=[
            Robot(1, "one", "okx"),
            Robot(2, "theirs", "okx", account="42"),
            Robot(3, "stopped", "okx", running=False),
        ],
        behaviour=Behaviour(sprinkle=False, row_delay=(0.0, 0.0)),
    )


async def rebooted(client: NaiveClient, payload: object = NOTHING) -> None:
    await client.request(REBOOT, payload)
    await asyncio.wait_for(client.ended.wait(), WAIT)


# Reboot


@looped
async def test_a_reboot_takes_its_time_and_stops_all_robots(server: StandIn, secret: str) -> None:
    server.behaviour.reboot_drop, server.behaviour.reboot_down = 0.1, 0.2
    async with visited(server, secret) as client:
        clock = asyncio.get_running_loop().time
        began = clock()
        await rebooted(client)
        dropped = clock() - began
        assert not await reachable(server.url)
        await back(server)
        returned = clock() - began
        assert server.robots_running() == server.marked() == set()

    assert 0.1 <= dropped < 0.2
    assert returned >= 0.3 - 1e-6
    assert client.reason == "transport error"
    assert server.record.history == [("reboot",)]
    assert (server.record.reboot_requests, server.record.reboots) == (1, 1)
    assert server.record.robot_stops == 2


@pytest.mark.parametrize(("changes", "pids"), [(False, 1), (True, 2)])
@looped
async def test_the_process_id_tends_to_be_the_same(
    server: StandIn, secret: str, *, changes: bool, pids: int
) -> None:
    server.behaviour.pid_changes = changes
    async with visited(server, secret) as client:
        await rebooted(client)
        await back(server)
        async with NaiveClient(server.url, {"accessSecret": secret}) as again:
            async with asyncio.timeout(WAIT):
                while len(found := await boots_shown(again)) < 2:  # noqa: ASYNC110  - there is no event
                    await asyncio.sleep(0.01)

    first, second = found
    assert len({first["pid"], second["pid"]}) == pids
    assert second["time"] > first["time"]


async def boots_shown(client: NaiveClient) -> list[dict[str, Any]]:
    """Return the last line of each boot that the log shows by now."""
    answer = await client.ask(LOG, "system", answer=LOGGED)
    assert answer is not None
    return [entry for entry in answer["payload"]["data"] if entry["class"] == "NestApplication"]


@looped
async def test_a_process_ends_once_however_often_it_is_asked(server: StandIn, secret: str) -> None:
    async with visited(server, secret) as client:
        for _ in range(3):
            await client.request(REBOOT)
        await asyncio.wait_for(client.ended.wait(), WAIT)
        await back(server)
        async with NaiveClient(server.url, {"accessSecret": secret}) as again:
            await rebooted(again)
        await back(server, boots=3)

    assert (server.record.reboot_requests, server.record.reboots) == (4, 2)


@looped
async def test_what_comes_while_the_process_ends_is_lost(server: StandIn, secret: str) -> None:
    server.set_running(1, running=False)
    server.set_running(2, running=False)
    async with visited(server, secret) as client:
        await client.request(REBOOT)
        await client.request(
            "exchange-config-save", [{"name": "a", "type": "string", "value": "b"}]
        )
        await asyncio.wait_for(client.ended.wait(), WAIT)
        await until(lambda: server.record.reboots == 1)

    assert server.record.events("exchange-config-save") == 1
    assert server.values() == {}


@pytest.mark.parametrize("how", ["throws", "hangs"])
@looped
async def test_a_robot_that_does_not_stop_keeps_the_process_alive_once(
    server: StandIn, secret: str, how: Any
) -> None:
    server._state.robots[0].stop = how
    async with visited(server, secret) as client:
        await client.request(REBOOT)
        await until(lambda: server.robots_running() == set())
        assert await client.wait_for("tester-scenario-list-response")
        assert await client.ask("background-jobs-list-request", answer=JOBS)
        await asyncio.sleep(QUICK)
        assert not client.ended.is_set()
        assert server.record.reboots == 0
        assert (server.saved_state(1), server.marked()) == (None, {2})
        assert server.saved_state(2) is not None, "the other robot got through"
        await rebooted(client)
        await back(server)

    assert server.robots_running() == server.marked() == {2}, "the server itself started it"
    assert server.record.history == [("reboot",), ("restore", 2)]


@looped
async def test_marks_that_a_throwing_stop_left_survive_a_crash_too(
    server: StandIn, secret: str
) -> None:
    server.set_running(3, running=True)
    server._state.robots[2].stop = "throws"
    async with visited(server, secret) as client:
        await client.request(REBOOT)
        await until(lambda: server.robots_running() == set())
        await server.crash(down=0.0)

    assert server.robots_running() == {1, 2}


@pytest.mark.parametrize(
    ("done", "request_"),
    [
        pytest.param("invalidate", {"event": INVALIDATE}),
        pytest.param(
            "fatal",
            {"event": "exchange-config-delete", "payload": ["none"]},
            marks=pytest.mark.fatal_paths(1),
        ),
    ],
)
@looped
async def test_marks_that_were_left_end_like_all_others(
    server: StandIn, secret: str, done: str, request_: Any
) -> None:
    server._state.robots[0].stop = "throws"
    async with visited(server, secret) as client:
        await client.request(REBOOT)
        await until(lambda: server.robots_running() == set())
        assert server.marked() == {2}
        await client.send(request_)
        await until(lambda: server.marked() == set())
        await rebooted(client)
        await back(server)

    assert server.robots_running() == set()
    assert server.record.history == [(done,), ("reboot",)]


@pytest.mark.parametrize(("robot", "causes"), [(1, ["user-script"]), (2, [None])])
@looped
async def test_a_throwing_stop_leaves_one_harmless_entry(
    server: StandIn, secret: str, robot: int, causes: list[str | None]
) -> None:
    """Besides that of the request itself, which goes on to remove no robot."""
    server._state.robots[robot - 1].stop = "throws"
    async with visited(server, secret) as client:
        await client.request(REBOOT)
        await until(lambda: len(handled(server)) == 2)
        await asyncio.sleep(QUICK)

    entries = handled(server)
    scripts = [entry for entry in entries if "vm.js" in entry["stack"][-1]]
    assert len(entries) == 2
    assert [entry.get("cause") for entry in scripts] == causes


def handled(server: StandIn) -> list[dict[str, Any]]:
    """Return what the handler of errors wrote."""
    return [e for e in server.log_entries() if e["class"] == "MainProcessExceptionHandler"]


@looped
async def test_a_number_removes_the_robot_with_that_id(server: StandIn, secret: str) -> None:
    async with visited(server, secret) as client:
        await rebooted(client, 3)
        await back(server)

    assert [robot.id for robot in server._state.robots] == [1, 2]


@looped
async def test_a_reboot_can_be_ignored(server: StandIn, secret: str) -> None:
    server.behaviour.reboot = "ignored"
    async with visited(server, secret) as client:
        await client.request(REBOOT)
        assert await client.ask("background-jobs-list-request", answer=JOBS)
        await asyncio.sleep(QUICK)
        assert not client.ended.is_set()

    assert server.robots_running() == {1, 2}
    assert (server.record.reboot_requests, server.record.reboots) == (1, 0)


@looped
async def test_a_reboot_can_come_late_even_for_a_client_that_has_gone(
    server: StandIn, secret: str
) -> None:
    server.behaviour.reboot, server.behaviour.reboot_late = "late", 0.2
    async with visited(server, secret) as client:
        await client.request(REBOOT)
        await until(lambda: server.record.reboot_requests == 1)
        await client.close()
        assert server.robots_running() == {1, 2}
        await back(server)

    assert server.record.history == [("reboot",)]


def test_a_server_can_stay_away(secret: str) -> None:
    behaviour = Behaviour(reboot="never comes back", sprinkle=False)

    async def ask(url: str) -> None:
        async with NaiveClient(url, {"accessSecret": secret}) as client:
            await client.wait_for("authenticated")
            await rebooted(client)

    with StandInThread(access_secret=secret, behaviour=behaviour) as server:
        asyncio.run(ask(server.url))
        assert not asyncio.run(reachable(server.url))
        server.come_back()
        assert asyncio.run(reachable(server.url))

    assert server.record.reboots == 1


@looped
async def test_a_stop_while_it_is_down_leaves_nothing(server: StandIn, secret: str) -> None:
    server.behaviour.reboot_down = 60.0
    async with visited(server, secret) as client:
        await rebooted(client)

    await server.start()
    await server.stop()


@looped
async def test_a_server_that_cannot_come_back_says_so(server: StandIn, secret: str) -> None:
    other = StandIn(access_secret=secret)
    server.behaviour.reboot_down = 0.05
    async with NaiveClient(await server.start(), {"accessSecret": secret}) as client:
        server.url = await other.start()  # somebody else listens there
        await rebooted(client)
        await until(lambda: any(task.done() for task in server._ends))
    with pytest.raises(ExceptionGroup, match="failed to come back"):
        await server.stop()
    await other.stop()


# Cache


@pytest.mark.parametrize(
    ("effect", "done", "answered", "dropped"),
    [
        ("answer", True, True, False),
        ("silent after effect", True, False, False),
        ("lost before effect", False, False, True),
        ("dropped after effect", True, False, True),
        ("late", True, True, False),
    ],
)
@looped
async def test_an_invalidation_can_get_lost(
    server: StandIn, secret: str, *, effect: Effect, done: bool, answered: bool, dropped: bool
) -> None:
    server.behaviour.invalidate = effect
    async with visited(server, secret) as client:
        server.set_running(1, running=False)
        server.set_running(1, running=True)
        saved = server.saved_state(1)
        answer = await client.ask(INVALIDATE, answer=ANSWER, patience=WAIT if answered else QUICK)
        assert (answer is not None, client.ended.is_set()) == (answered, dropped)
        assert server.robots_running() == {1, 2}

    assert saved is not None
    assert server.saved_state(1) == (None if done else saved)
    assert server.marked() == (set() if done else {1, 2})
    assert (server.record.invalidation_requests, server.record.invalidations) == (1, int(done))
    assert server.record.history == ([("invalidate",)] if done else [])


@looped
async def test_the_order_decides_whether_the_robots_state_survives(
    server: StandIn, secret: str
) -> None:
    async with visited(server, secret) as client:
        assert await client.ask(INVALIDATE, answer=ANSWER)
        await rebooted(client)
        await back(server)
        kept = server.saved_state(1)
        assert kept is not None
        server.set_running(1, running=True)
        async with NaiveClient(server.url, {"accessSecret": secret}) as again:
            assert await again.wait_for("authenticated")
            await rebooted(again)
        await back(server, boots=3)
        assert server.saved_state(1) == kept, "the robot went on with what it found"
        async with NaiveClient(server.url, {"accessSecret": secret}) as again:
            assert await again.wait_for("authenticated")
            assert await again.ask(INVALIDATE, answer=ANSWER)
        server.set_running(1, running=True)
        server.set_running(1, running=False)

    assert server.saved_state(1) not in (None, kept), "the robot began anew"
    kinds = [kind for kind, *_ in server.record.history]
    assert kinds == ["invalidate", "reboot", "reboot", "invalidate"]


# Crash


@looped
async def test_a_crash_brings_the_robots_with_marks_back(server: StandIn, secret: str) -> None:
    async with visited(server, secret) as client:
        await server.crash(down=0.0)
        await asyncio.wait_for(client.ended.wait(), WAIT)
        assert server.robots_running() == {1, 2}
        assert server.saved_state(1) is None
        async with NaiveClient(server.url, {"accessSecret": secret}) as again:
            assert await again.wait_for("authenticated")
            assert await again.ask(INVALIDATE, answer=ANSWER)
        assert server.robots_running() == {1, 2}
        await server.crash(down=0.0)
        assert server.robots_running() == set()

    assert server.record.history == [
        *[("crash",), ("restore", 1), ("restore", 2)],
        *[("invalidate",), ("crash",)],
    ]


@looped
async def test_a_crash_in_mid_save_keeps_the_rows_and_the_marks(
    server: StandIn, secret: str
) -> None:
    server.behaviour.next_writes = ["crash-midway"]
    rows = [{"name": name, "type": "string", "value": "v"} for name in ("a", "b", "c")]
    async with visited(server, secret) as client:
        await client.request("exchange-config-save", rows)
        await asyncio.wait_for(client.ended.wait(), WAIT)
        await back(server)
        assert server.robots_running() == {1, 2}

    assert list(server.values()) == ["a"]
    assert server.record.history == [("crash",), ("restore", 1), ("restore", 2)]
    assert (server.record.saves, server.record.crashes, server.record.reboots) == (1, 1, 0)


@looped
async def test_one_robot_that_fails_leaves_the_remaining_ones_stopped(server: StandIn) -> None:
    server.set_running(3, running=True)
    server._state.robots[1].start = "fails"
    async with running(server):
        await server.crash(down=0.0)

    assert server.robots_running() == {1}
    assert server.marked() == {1, 2, 3}


@looped
async def test_a_slow_robot_delays_the_port(server: StandIn) -> None:
    async with running(server) as url:
        server._state.robots[0].start_time = 0.2
        await server.crash()
        coming = asyncio.ensure_future(server.come_back())
        await until(lambda: len(server.log_entries()) > 0)
        assert not await reachable(url)
        await coming
        assert await reachable(url)


# The log


@looped
async def test_a_log_is_as_late_as_the_real_one(server: StandIn, secret: str) -> None:
    """The first boot's lines were written long ago; each later one keeps its place."""
    server.behaviour.log_lag = Behaviour().log_lag
    clock = asyncio.get_running_loop().time
    lags: list[float] = []
    async with visited(server, secret) as client:
        assert len(await boots_shown(client)) == 1
        for _ in range(20):
            began = clock()
            await client.request("no-such-event")
            count = len(lags) + 1
            while await unknown_shown(client) < count:
                assert len([e for e in server.log_entries() if e["msg"] == UNKNOWN]) == count
                await asyncio.sleep(0.01)
            lags.append(clock() - began)

    assert 0.054 <= min(lags) < 0.15 < max(lags) <= 0.45


@looped
async def test_a_boot_line_may_come_after_the_port_opened(server: StandIn, secret: str) -> None:
    server.behaviour.log_lag = 0.4
    async with visited(server, secret) as client:
        await rebooted(client)
        await back(server)
        async with NaiveClient(server.url, {"accessSecret": secret}) as again:
            assert len(await boots_shown(again)) == 1
            await asyncio.sleep(0.4)
            assert len(await boots_shown(again)) == 2


async def unknown_shown(client: NaiveClient) -> int:
    answer = await client.ask(LOG, "system", answer=LOGGED)
    assert answer is not None
    return sum(entry["msg"] == UNKNOWN for entry in answer["payload"]["data"])


@looped
async def test_by_default_a_restart_takes_seconds(server: StandIn, secret: str) -> None:
    usual, clock = Behaviour(), asyncio.get_running_loop().time
    server.behaviour.reboot_drop, server.behaviour.reboot_down = (
        usual.reboot_drop,
        usual.reboot_down,
    )
    async with visited(server, secret) as client:
        began = clock()
        await rebooted(client)
        dropped = clock()
        async with asyncio.timeout(15):
            while not await reachable(server.url):  # noqa: ASYNC110  - there is no event
                await asyncio.sleep(0.1)
        returned = clock()

    assert 0.25 <= dropped - began <= 2.2
    assert 2.0 <= returned - dropped <= 10.5


@looped
async def test_a_rotated_log_has_no_boot_lines(server: StandIn, secret: str) -> None:
    async with visited(server, secret) as client:
        server.rotate_log()
        server.append_log("info", "Later", "after the rotation")
        answer = await client.ask(LOG, "system", answer=LOGGED)

    assert answer is not None
    assert [entry["class"] for entry in answer["payload"]["data"]] == ["Later"]


@looped
async def test_a_log_can_be_unreadable(server: StandIn, secret: str) -> None:
    server.behaviour.log = "unreadable"
    async with visited(server, secret) as client:
        answer = await client.ask(LOG, "system", answer=LOGGED)

    assert answer == {"event": LOGGED, "payload": {"artifacts": "system"}}
    assert boot_lines(server)


@looped
async def test_a_silent_peer_is_dropped_soon_with_fast_pings(secret: str) -> None:
    behaviour = Behaviour(ping_interval=0.05, ping_timeout=0.05)
    server = StandIn(access_secret=secret, behaviour=behaviour)
    async with visited(server, secret) as client:
        await asyncio.sleep(0.3)
        assert not client.ended.is_set(), "who answers stays"
        assert len(server.connections()) == 1


# In the foreground


def test_a_process_of_its_own_takes_robots_and_behaviour(tmp_path: Path, secret: str) -> None:
    private = tmp_path / "private"
    private.mkdir()
    (private / "secret").write_text(secret)
    record = tmp_path / "record"
    command = [
        *(sys.executable, "-m", "reconciler.sandbox.jt_trader.server"),
        *("--secret-file", str(private / "secret"), "--record", str(record)),
        *("--robots", json.dumps([{"id": 1, "name": "one", "exchange": "okx", "stop": "throws"}])),
        *("--behaviour", json.dumps({"silent": [INVALIDATE], "proxy": [["https://a", "1.2.3.4"]]})),
    ]

    async def visit(url: str) -> list[Any]:
        async with NaiveClient(url, {"accessSecret": secret}) as client:
            assert await client.wait_for("authenticated")
            assert await client.ask(INVALIDATE, answer=ANSWER, patience=QUICK) is None
            await client.request(REBOOT)
            assert await client.wait_for("update-report")
            answer = await client.ask(LOG, "system", answer=LOGGED)
            assert answer is not None
            return [entry.get("Proxy") for entry in answer["payload"]["data"]]

    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        url = process.stdout.readline().removeprefix("listening on ").strip()
        assert [{"url": "https://a", "ip": "1.2.3.4"}] in asyncio.run(visit(url))
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=WAIT)
    finally:
        process.kill()
        process.communicate(timeout=WAIT)

    assert process.returncode == 0
    events = [json.loads(line)["event"] for line in record.read_text().splitlines()]
    assert events == [INVALIDATE, REBOOT, LOG]
