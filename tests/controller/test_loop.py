"""The controller as a whole, against real servers on loopback and a real OpenBao."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest

from reconciler.controller.status import Health, Sync
from reconciler.notifications.events import Topic
from reconciler.sandbox.jt_trader.server import Behaviour, StandInThread
from tests.controller.desk import Desk
from tests.world import DURATIONS, World

BRISK = DURATIONS | {
    "interval": "300ms",
    "rescan": "200ms",
    "quiet": "10ms",
    "backoff": "50ms",
    "backoffMost": "300ms",
    "stop": "3s",
    "healCooldown": "400ms",
    "drop": "200ms",
    "ready": "1500ms",
    "robot": "400ms",
    "sendWindow": "2s",
    "invalidate": "300ms",
    "quiesce": "5ms",
    "connect": "1s",
    "lease": "2s",
}
KEY = "bybit_api_key"


def begin(world: World, **settings: Any) -> None:
    """Write brisk settings and begin the ledger."""
    world.settings(**({"soleWriter": True, "durations": BRISK} | settings))
    world.begin()


def converged(world: World, **spec: Any) -> StandInThread:
    """One server that is as its document says, and a ledger that knows it."""
    quick = Behaviour(ping_interval=0.15, ping_timeout=0.15)
    server = world.server(behaviour=quick)
    world.document("tokyo-1", "bybit", **spec)
    begin(world)
    assert world.apply().code == 0
    return server


def play(desk: Desk, story: Callable[[Desk], Awaitable[None]]) -> None:
    """Run a controller for as long as *story* takes; it has to end well."""

    async def run() -> None:
        async with desk.running():
            await story(desk)

    asyncio.run(run())
    assert desk.code == 0
    assert desk.left == []


async def synced(desk: Desk, *names: str) -> None:
    """Wait until servers are as their documents say."""
    for name in names or ("tokyo-1",):
        await desk.until(
            lambda name=name: (  # type: ignore[misc]  # bound now, not later
                name in desk.status_store.servers and desk.status(name).sync is Sync.SYNCED
            ),
            f"{name} synced",
        )


def moment(**ahead: float) -> str:
    """Return an instant so far ahead, as documents write it."""
    return (datetime.now(UTC) + timedelta(**ahead)).isoformat().replace("+00:00", "Z")


def test_a_new_server_is_made_as_its_document_says(world: World) -> None:
    server = world.server()
    world.document()
    begin(world)

    async def story(desk: Desk) -> None:
        await synced(desk)
        await desk.passed()
        assert desk.status().health is Health.HEALTHY
        assert desk.status().connected

    play(Desk(world), story)
    assert server.record.saves == 1


def test_a_converged_server_keeps_one_connection_and_is_only_read(world: World) -> None:
    server = converged(world)
    before = len(server.record.handshakes)

    async def story(desk: Desk) -> None:
        await desk.passed(times=4)
        assert len(server.connections()) == 1

    play(Desk(world), story)
    assert (server.record.saves, len(server.record.handshakes)) == (1, before + 1)
    assert server.connections() == []


def test_a_restart_of_the_controller_restarts_nothing(world: World) -> None:
    server = converged(world, robots={"onCredentialChange": "restart"}, supervised=True)
    asked = len(server.record.robot_stops_asked), len(server.record.robot_starts_asked)

    async def story(desk: Desk) -> None:
        await desk.passed(times=2)

    for _ in range(2):
        play(Desk(world), story)
    assert server.record.saves == 1
    assert asked == (1, 1)  # the apply before
    assert len(server.record.robot_stops_asked) == len(server.record.robot_starts_asked) == 1
    assert server.record.reboot_requests == 0


def test_a_changed_document_is_applied_once(world: World) -> None:
    server = converged(world)

    async def story(desk: Desk) -> None:
        await desk.passed()
        world.document("tokyo-1", "bybit", "okx", rotate=False)
        world.rotate("tokyo-1", "okx")
        await desk.until(lambda: server.record.saves == 2, "okx is written")
        await desk.passed(times=2)

    play(Desk(world), story)
    assert server.record.saves == 2


def test_a_rotated_secret_reaches_its_server_within_an_interval(world: World) -> None:
    server = converged(world)
    fields = {}

    async def story(desk: Desk) -> None:
        await desk.passed()
        fields.update(world.rotate("tokyo-1", "bybit"))
        await desk.until(lambda: server.values()[KEY] == fields["apiKey"], "the new key")
        await desk.passed()
        assert desk.status().sync is Sync.SYNCED

    play(Desk(world), story)
    assert server.record.saves == 2


def test_documents_that_become_invalid_change_nothing(world: World) -> None:
    server = converged(world)
    good = (world.docs / "tokyo-1.yaml").read_text()

    async def story(desk: Desk) -> None:
        await desk.passed()
        world.write("tokyo-1.yaml", good + "\n  nonsense: [")
        await desk.until(lambda: bool(desk.status_store.controller.documents), "told")
        world.rotate("tokyo-1", "bybit")
        await desk.until(lambda: server.record.saves == 2, "the last good documents hold")
        (world.docs / "tokyo-1.yaml").unlink()
        await desk.until(lambda: "tokyo" not in desk.status_store.controller.documents, "told anew")
        await desk.passed(times=2)
        assert desk.status_store.controller.documents
        assert list(desk.status_store.servers) == ["tokyo-1"]
        world.write("tokyo-1.yaml", good)
        await desk.until(lambda: not desk.status_store.controller.documents, "well again")
        await desk.heard(Topic.DOCUMENTS)

    play(Desk(world), story)
    assert (server.record.saves, server.record.deletes) == (2, 0)


def test_drift_is_reported_and_left_alone(world: World) -> None:
    server = converged(world)

    async def story(desk: Desk) -> None:
        await desk.passed()
        server.set_value(KEY, world.watch.secret("hex"))
        await desk.until(lambda: desk.status().drift == 1, "drift")
        await desk.passed(times=2)
        assert desk.status().sync is Sync.OUT_OF_SYNC
        await desk.heard(Topic.DRIFT)

    play(Desk(world), story)
    assert server.record.saves == 1


def test_drift_is_corrected_with_cooldown_and_cap_and_then_contested(world: World) -> None:
    server = converged(world, selfHeal=True, robots={"onCredentialChange": "restart"})
    typed: list[str] = []
    wanted = server.values()[KEY]

    async def story(desk: Desk) -> None:
        loop = asyncio.get_running_loop()
        await desk.passed()
        began, corrected = loop.time(), []
        while not desk.status().contested:
            await desk.until(lambda: server.values()[KEY] == wanted, "as desired")
            await desk.passed()
            saves = server.record.saves
            typed.append(world.watch.secret("hex"))
            server.set_value(KEY, typed[-1])
            await desk.until(
                lambda saves=saves: server.record.saves > saves or bool(desk.status().contested),  # type: ignore[misc]
                "corrected or contested",
            )
            corrected.append(loop.time() - began)
            assert len(corrected) < 6
        await desk.passed(times=3)
        assert desk.status().contested == ("bybit",)
        assert desk.status().health is Health.DEGRADED
        # Not sooner after one another than the cooldown allows.
        gaps = [later - earlier for earlier, later in pairwise(corrected[:-1])]
        assert min(gaps) >= 0.35
        await desk.heard(Topic.CONTESTED)

    play(Desk(world), story)
    assert server.record.saves == 1 + 3
    assert server.values()[KEY] == typed[-1]
    assert {command for _, command in server.record.robot_stops_asked} <= {"apply"}
    assert server.record.reboot_requests == 0


def test_robots_that_stop_by_themselves_are_told_of_once(world: World) -> None:
    server = converged(world)

    async def story(desk: Desk) -> None:
        await desk.passed()
        server.force_stop(1)
        await desk.until(lambda: bool(desk.status().stopped_robots), "seen")
        await desk.passed(times=2)
        assert [robot.name for robot in desk.status().stopped_robots] == ["grid-btc"]
        assert desk.status_store.stops["tokyo-1"] == 1
        await desk.heard(Topic.ROBOTS)
        server.set_running(1, running=True)
        await desk.until(lambda: not desk.status().stopped_robots, "they run again")
        assert desk.status().health is Health.HEALTHY

    play(Desk(world), story)
    assert server.record.robot_starts_asked == []


def test_an_incident_survives_a_restart_of_the_controller(world: World) -> None:
    server = converged(world)

    async def first(desk: Desk) -> None:
        await desk.passed()
        server.force_stop(1)
        await desk.until(lambda: bool(desk.status().stopped_robots), "seen")

    async def second(desk: Desk) -> None:
        await desk.passed()
        assert [robot.name for robot in desk.status().stopped_robots] == ["grid-btc"]
        assert desk.status_store.stops["tokyo-1"] == 0

    play(Desk(world), first)
    play(Desk(world), second)


def test_a_server_that_falls_is_registered_with_again_and_its_robots_are_missed(
    world: World,
) -> None:
    server = converged(world)

    async def story(desk: Desk) -> None:
        await desk.passed()
        handshakes = len(server.record.handshakes)
        for robot in (1, 2):
            server.set_running(robot, running=False)
        server.crash(0.05)
        await desk.until(lambda: len(server.record.handshakes) > handshakes, "registered again")
        await desk.until(lambda: desk.status().connected, "connected")

    play(Desk(world), story)


def test_a_scheduled_reboot_is_done_once_and_its_robots_run_again(world: World) -> None:
    server = converged(world)

    async def story(desk: Desk) -> None:
        await desk.passed()
        wish = {"bootedAfter": moment(seconds=0.7), "robots": "resume", "reason": "new okx"}
        world.document("tokyo-1", "bybit", rotate=False, supervised=True, reboot=wish)
        await desk.until(lambda: bool(desk.status().deferred), "scheduled")
        await desk.until(lambda: server.record.reboots == 1, "rebooted")
        await desk.until(lambda: server.robots_running() == {1, 2}, "robots run")
        await desk.passed(times=2)
        assert desk.status_store.restarts["tokyo-1", "reboot"] == 1
        assert desk.status_store.stops["tokyo-1"] == 0
        assert desk.status().health is Health.HEALTHY

    play(Desk(world), story)
    assert server.record.reboot_requests == 1


def test_what_waits_for_its_window_says_when_it_opens(world: World) -> None:
    server = converged(world)
    # Open for a minute, once a year, half a year away from now.
    month = (datetime.now(UTC).month + 5) % 12 + 1
    window = {"kind": "allow", "schedule": f"0 0 1 {month} *", "duration": "1m", "timeZone": "UTC"}
    wish = {"bootedAfter": moment(), "robots": "leave", "reason": "new okx"}

    async def story(desk: Desk) -> None:
        await desk.passed()
        world.document(
            "tokyo-1", "bybit", rotate=False, supervised=True, reboot=wish, windows=[window]
        )
        await desk.until(lambda: bool(desk.status().deferred), "deferred")
        await desk.passed(times=2)
        assert desk.status().window_open is False
        assert f"-{month:02d}-01T00:00:00Z" in desk.status().window
        assert "opens 20" in desk.status().deferred[0]
        assert desk.status().health is Health.HEALTHY

    play(Desk(world), story)
    assert server.record.reboot_requests == 0


def test_a_debt_of_a_reboot_is_told_at_once_and_ends_with_the_reboot(world: World) -> None:
    server = converged(world)
    key = server.values()[KEY]

    async def story(desk: Desk) -> None:
        await desk.passed()
        world.rotate("tokyo-1", "bybit", apiKey=key)  # another secret under the same API key
        await desk.until(lambda: server.record.saves == 2, "written")
        await desk.heard(Topic.REBOOT_OWED)
        assert any(debt.exchange == "bybit" for debt in desk.status().debts)
        assert server.record.reboot_requests == 0
        server.restart()
        await desk.until(lambda: not desk.status().debts, "paid by a boot")

    play(Desk(world), story)


def test_an_invalidation_without_an_answer_is_in_doubt_and_told(world: World) -> None:
    server = converged(world)
    server.behaviour.invalidate = "lost before effect"

    async def story(desk: Desk) -> None:
        await desk.passed()
        wish = {"invalidatedAfter": moment(), "reason": "stale"}
        world.document("tokyo-1", "bybit", rotate=False, cache=wish)
        await desk.until(lambda: desk.status().in_doubt == 1, "in doubt")
        await desk.heard(Topic.IN_DOUBT)
        await desk.passed(times=2)
        # Credentials go on.
        world.rotate()
        await desk.until(lambda: server.record.saves == 2, "credentials go on")

    play(Desk(world), story)
    assert server.record.invalidation_requests == 1


@pytest.mark.fatal_paths(1)
def test_harm_stops_all_writes_until_people_release_the_brake(world: World) -> None:
    server = converged(world)
    other = world.server("osaka-1")
    world.document("osaka-1")

    async def story(desk: Desk) -> None:
        await synced(desk, "osaka-1")
        server.behaviour.save = "fatal"
        world.rotate()
        await desk.until(lambda: bool(desk.status_store.controller.brakes), "the brake is on")
        server.behaviour.save = "answer"
        world.rotate("osaka-1")
        await desk.passed("osaka-1", times=2)
        assert other.record.saves == 1
        await desk.heard(Topic.BRAKE)
        args = ("ledger", "release-brake", "0.24.19", "--because", "it was a test")
        assert (await asyncio.to_thread(world.process, *args)).code == 0
        await desk.until(lambda: other.record.saves == 2, "writes go on")

    play(Desk(world), story)


def test_a_suspended_server_is_looked_at_and_left_alone(world: World) -> None:
    server = converged(world)

    async def story(desk: Desk) -> None:
        await desk.passed()
        pause = {"reason": "exchange maintenance", "by": "desk-asia", "until": moment(seconds=1.2)}
        world.document("tokyo-1", "bybit", suspend=pause)
        await desk.until(lambda: desk.status().health is Health.SUSPENDED, "suspended")
        await desk.passed()
        assert server.record.saves == 1
        assert "exchange maintenance" in desk.status().reason
        await desk.until(lambda: server.record.saves == 2, "it ends by itself")

    play(Desk(world), story)


def test_observed_servers_are_reported_and_never_written(world: World) -> None:
    server = converged(world, mode="observe")
    world.rotate()

    async def story(desk: Desk) -> None:
        await desk.until(lambda: desk.status().sync is Sync.OUT_OF_SYNC, "compared")
        await desk.passed(times=2)

    play(Desk(world), story)
    assert server.record.saves == 0


def test_vault_that_is_away_changes_nothing_and_is_caught_up_with(world: World) -> None:
    server = converged(world)

    async def story(desk: Desk) -> None:
        await desk.passed()
        world.bao.pause()
        try:
            await desk.until(lambda: bool(desk.status_store.controller.secrets), "told")
            await desk.heard(Topic.SECRETS)
        finally:
            world.bao.resume()
        world.rotate()
        await desk.until(lambda: server.record.saves == 2, "caught up")
        await synced(desk)
        await desk.until(lambda: not desk.status_store.controller.secrets, "Vault is back")

    play(Desk(world), story)


def test_the_login_is_kept_while_vault_is_away(world: World) -> None:
    server = converged(world)

    async def story(desk: Desk) -> None:
        await desk.passed()
        world.bao.pause()
        try:
            handshakes = len(server.record.handshakes)
            server.drop_connections()
            await desk.until(lambda: len(server.record.handshakes) > handshakes, "registered")
        finally:
            world.bao.resume()

    play(Desk(world), story)
    assert all(shake.authorised for shake in server.record.handshakes)


def test_without_vault_it_waits_and_says_so(world: World) -> None:
    server = world.server()
    world.document()
    begin(world)

    async def story(desk: Desk) -> None:
        await desk.until(lambda: bool(desk.status_store.controller.secrets), "told")
        await desk.until(lambda: desk.status().sync is Sync.UNKNOWN, "looked at in vain")
        world.bao.resume()
        await synced(desk)

    world.bao.pause()
    try:
        play(Desk(world), story)
    finally:
        world.bao.resume()
    assert server.record.saves == 1


def test_of_two_controllers_one_waits_and_takes_over(world: World) -> None:
    server = converged(world)

    async def story() -> None:
        one, two = Desk(world), Desk(world)
        async with one.running():
            await one.passed()
            async with two.running():
                await two.until(lambda: bool(two.status_store.controller.rival), "it waits")
                assert "is the controller of this ledger" in two.status_store.controller.rival
                await one.passed(times=2)
                assert len(server.connections()) == 1
                assert two.status_store.passes.total() == 0
                await two.until(lambda: two.status_store.ready, "ready all the same")
                assert one.controller is not None
                one.controller.stop()
                await two.until(lambda: two.status_store.controller.acting, "it takes over")
                await two.passed()
                assert not two.status_store.controller.rival

    asyncio.run(story())


def test_a_second_signal_ends_it_at_once(world: World) -> None:
    converged(world)
    desk = Desk(world)

    async def run() -> None:
        async with desk.running():
            await desk.passed()
            assert desk.controller is not None
            desk.controller.stop()
            assert desk.left == []
            desk.controller.stop()
            assert desk.left == [128 + 15]

    asyncio.run(run())


def test_a_server_that_left_the_documents_is_left_alone(world: World) -> None:
    server = converged(world)
    world.server("osaka-1")
    world.document("osaka-1")

    async def story(desk: Desk) -> None:
        await synced(desk, "osaka-1")
        (world.docs / "tokyo-1.yaml").unlink()
        await desk.until(lambda: "tokyo-1" not in desk.status_store.servers, "dropped")
        await desk.until(lambda: server.connections() == [], "left")
        await desk.passed("osaka-1")

    play(Desk(world), story)
    assert server.record.deletes == 0
