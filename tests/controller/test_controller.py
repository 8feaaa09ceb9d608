"""The controller as a whole, against real servers on loopback and a real OpenBao."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest

from reconciler.controller.status import Health, Sync
from reconciler.errors import JtrError
from reconciler.notifications.events import Topic
from reconciler.sandbox.jt_trader.server import Behaviour, StandInThread
from tests.controller.controller_harness import Harness
from tests.support.durations import BRISK
from tests.support.rig import Rig

KEY = "bybit_api_key"


UNHURRIED = BRISK | {"backoff": "900s", "backoffMost": "900s"}
"""Nobody who failed is looked at again, unless something else wakes the worker."""


def begin(rig: Rig, **settings: Any) -> None:
    """Write brisk settings and begin the ledger."""
    rig.settings(**({"soleWriter": True, "durations": BRISK} | settings))
    rig.begin()


def converged(rig: Rig, *, calm: bool = False, **spec: Any) -> StandInThread:
    """
    One server that is as its document says, and a ledger that knows it.

    With *calm* no connection lapses because this machine is busy; but what was sent may be late.
    """
    quick = Behaviour(ping_interval=0.1, ping_timeout=0.6)
    server = rig.server(behaviour=Behaviour() if calm else quick)
    rig.document("tokyo-1", "bybit", **spec)
    begin(rig)
    assert rig.apply().code == 0
    return server


def play(harness: Harness, story: Callable[[Harness], Awaitable[None]]) -> None:
    """Run a controller for as long as *story* takes; it has to end well."""

    async def run() -> None:
        async with harness.running():
            await story(harness)

    asyncio.run(run())
    assert harness.code == 0
    assert harness.left == []


async def synced(harness: Harness, *names: str) -> None:
    """Wait until servers are as their documents say."""
    for name in names or ("tokyo-1",):
        await harness.until(
            lambda name=name: (  # type: ignore[misc]  # bound now, not later
                name in harness.status_store.servers and harness.status(name).sync is Sync.SYNCED
            ),
            f"{name} synced",
        )


def moment(**ahead: float) -> str:
    """Return an instant so far ahead, as documents write it."""
    return (datetime.now(UTC) + timedelta(**ahead)).isoformat().replace("+00:00", "Z")


def test_a_server_that_hangs_up_in_every_pass_is_not_stormed(rig: Rig) -> None:
    """A connection that ends in a pass wakes nobody: that pass says when the next one is."""
    server = rig.server()
    rig.document()
    begin(rig, durations=UNHURRIED)

    async def story(harness: Harness) -> None:
        await synced(harness)
        server.behaviour.read = "drop"
        await harness.until(lambda: harness.status().failures > 0, "it failed")
        await asyncio.sleep(0.5)
        assert harness.status().failures == 1

    play(Harness(rig), story)


@pytest.mark.silence
def test_a_document_that_changes_in_a_pass_that_fails_is_looked_at_now(rig: Rig) -> None:
    server = rig.server()
    rig.document()
    begin(rig, durations=UNHURRIED)

    async def story(harness: Harness) -> None:
        await synced(harness)
        server.behaviour.silent = frozenset({"logs-list-request"})
        before = len(server.record.received)
        await harness.until(
            lambda: any(
                one.event == "logs-list-request" for one in server.record.received[before:]
            ),
            "a pass is stuck",
        )
        rig.document(reboot={"bootedAfter": moment(days=300), "robots": "resume", "reason": "x"})
        await harness.until(lambda: harness.status().failures > 0, "it failed")
        server.behaviour.silent = frozenset()
        await harness.until(lambda: harness.status().failures == 0, "it was looked at again")

    play(Harness(rig), story)


def test_a_new_server_is_made_as_its_document_says(rig: Rig) -> None:
    server = rig.server()
    rig.document()
    begin(rig)

    async def story(harness: Harness) -> None:
        await synced(harness)
        await harness.passed()
        assert harness.status().health is Health.HEALTHY
        assert harness.status().connected

    play(Harness(rig), story)
    assert server.record.saves == 1


def test_a_converged_server_keeps_one_connection_and_is_only_read(rig: Rig) -> None:
    server = converged(rig)
    before = len(server.record.handshakes)

    async def story(harness: Harness) -> None:
        await harness.passed(times=4)
        assert len(server.connections()) == 1

    play(Harness(rig), story)
    assert (server.record.saves, len(server.record.handshakes)) == (1, before + 1)
    assert server.connections() == []


def test_a_restart_of_the_controller_restarts_nothing(rig: Rig) -> None:
    server = converged(rig, robots={"onCredentialChange": "restart"}, supervised=True)
    asked = len(server.record.robot_stops_asked), len(server.record.robot_starts_asked)

    async def story(harness: Harness) -> None:
        await harness.passed(times=2)

    for _ in range(2):
        play(Harness(rig), story)
    assert server.record.saves == 1
    assert asked == (1, 1)  # the apply before
    assert len(server.record.robot_stops_asked) == len(server.record.robot_starts_asked) == 1
    assert server.record.reboot_requests == 0


def test_a_changed_document_is_applied_once(rig: Rig) -> None:
    server = converged(rig)

    async def story(harness: Harness) -> None:
        await harness.passed()
        rig.document("tokyo-1", "bybit", "okx", rotate=False)
        rig.rotate("tokyo-1", "okx")
        await harness.until(lambda: server.record.saves == 2, "okx is written")
        await harness.passed(times=2)

    play(Harness(rig), story)
    assert server.record.saves == 2


def test_a_rotated_secret_reaches_its_server_within_an_interval(rig: Rig) -> None:
    server = converged(rig)
    fields = {}

    async def story(harness: Harness) -> None:
        await harness.passed()
        fields.update(rig.rotate("tokyo-1", "bybit"))
        await harness.until(lambda: server.values()[KEY] == fields["apiKey"], "the new key")
        await harness.passed()
        assert harness.status().sync is Sync.SYNCED

    play(Harness(rig), story)
    assert server.record.saves == 2


def test_documents_that_become_invalid_change_nothing(
    rig: Rig, caplog: pytest.LogCaptureFixture
) -> None:
    server = converged(rig)
    good = (rig.docs / "tokyo-1.yaml").read_text()

    async def story(harness: Harness) -> None:
        await harness.passed()
        rig.write("tokyo-1.yaml", good + "\n  nonsense: [")
        await harness.until(lambda: bool(harness.status_store.controller.documents), "told")
        rig.rotate("tokyo-1", "bybit")
        await harness.until(lambda: server.record.saves == 2, "the last good documents hold")
        (rig.docs / "tokyo-1.yaml").unlink()
        await harness.until(
            lambda: "tokyo" not in harness.status_store.controller.documents, "told anew"
        )
        await harness.passed(times=2)
        assert harness.status_store.controller.documents
        assert list(harness.status_store.servers) == ["tokyo-1"]
        rig.write("tokyo-1.yaml", good)
        await harness.until(lambda: not harness.status_store.controller.documents, "well again")
        await harness.heard(Topic.DOCUMENTS)

    caplog.set_level("INFO", "reconciler.controller")
    play(Harness(rig), story)
    told = [record.getMessage() for record in caplog.records]
    assert told.count("the newest documents are in force again") == 1
    assert (server.record.saves, server.record.deletes) == (2, 0)


def test_drift_is_reported_and_left_alone(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    server = converged(rig)

    async def story(harness: Harness) -> None:
        await harness.passed()
        server.set_value(KEY, rig.watch.secret("hex"))
        await harness.until(lambda: harness.status().drift == 1, "drift")
        await harness.passed(times=2)
        assert harness.status().sync is Sync.OUT_OF_SYNC
        await harness.heard(Topic.DRIFT)
        (told,) = [one for one in caplog.records if one.getMessage().startswith("drift")]
        assert told.levelname == "WARNING"  # once, however many passes see it
        assert told.__dict__["fields"] == {"server": "tokyo-1", "exchanges": ["bybit"]}

    play(Harness(rig), story)
    assert server.record.saves == 1


def test_drift_is_corrected_with_cooldown_and_cap_and_then_contested(rig: Rig) -> None:
    server = converged(rig, selfHeal=True, robots={"onCredentialChange": "restart"})
    typed: list[str] = []
    wanted = server.values()[KEY]

    async def story(harness: Harness) -> None:
        loop = asyncio.get_running_loop()
        await harness.passed()
        began, corrected = loop.time(), []
        while not harness.status().contested:
            await harness.until(lambda: server.values()[KEY] == wanted, "as desired")
            await harness.passed()
            saves = server.record.saves
            typed.append(rig.watch.secret("hex"))
            server.set_value(KEY, typed[-1])
            await harness.until(
                lambda saves=saves: server.record.saves > saves or bool(harness.status().contested),  # type: ignore[misc]
                "corrected or contested",
            )
            corrected.append(loop.time() - began)
            assert len(corrected) < 6
        await harness.passed(times=3)
        assert harness.status().contested == ("bybit",)
        assert harness.status().health is Health.DEGRADED
        # Not sooner after one another than the cooldown allows.
        gaps = [later - earlier for earlier, later in pairwise(corrected[:-1])]
        assert min(gaps) >= 0.35
        await harness.heard(Topic.CONTESTED)

    play(Harness(rig), story)
    assert server.record.saves == 1 + 3
    assert server.values()[KEY] == typed[-1]
    assert {command for _, command in server.record.robot_stops_asked} <= {"apply"}
    assert server.record.reboot_requests == 0


def test_robots_that_stop_by_themselves_are_told_of_once(rig: Rig) -> None:
    server = converged(rig)

    async def story(harness: Harness) -> None:
        await harness.passed()
        server.force_stop(1)
        await harness.until(lambda: bool(harness.status().stopped_robots), "seen")
        await harness.passed(times=2)
        assert [robot.name for robot in harness.status().stopped_robots] == ["grid-btc"]
        assert harness.status_store.stops["tokyo-1"] == 1
        await harness.heard(Topic.ROBOTS)
        server.set_running(1, running=True)
        await harness.until(lambda: not harness.status().stopped_robots, "they run again")
        assert harness.status().health is Health.HEALTHY

    play(Harness(rig), story)
    assert server.record.robot_starts_asked == []


def test_an_incident_survives_a_restart_of_the_controller(rig: Rig) -> None:
    server = converged(rig)

    async def first(harness: Harness) -> None:
        await harness.passed()
        server.force_stop(1)
        await harness.until(lambda: bool(harness.status().stopped_robots), "seen")

    async def second(harness: Harness) -> None:
        await harness.passed()
        assert [robot.name for robot in harness.status().stopped_robots] == ["grid-btc"]
        assert harness.status_store.stops["tokyo-1"] == 0

    play(Harness(rig), first)
    play(Harness(rig), second)


def test_a_server_that_falls_is_registered_with_again_and_its_robots_are_missed(
    rig: Rig,
) -> None:
    server = converged(rig)

    async def story(harness: Harness) -> None:
        await harness.passed()
        handshakes = len(server.record.handshakes)
        for robot in (1, 2):
            server.set_running(robot, running=False)
        server.crash(0.05)
        await harness.until(lambda: len(server.record.handshakes) > handshakes, "registered again")
        await harness.until(lambda: harness.status().connected, "connected")

    play(Harness(rig), story)


def test_a_scheduled_reboot_is_done_once_and_its_robots_run_again(rig: Rig) -> None:
    server = converged(rig)

    async def story(harness: Harness) -> None:
        await harness.passed()
        wish = {"bootedAfter": moment(seconds=0.7), "robots": "resume", "reason": "new okx"}
        rig.document("tokyo-1", "bybit", rotate=False, supervised=True, reboot=wish)
        await harness.until(lambda: bool(harness.status().deferred), "scheduled")
        await harness.until(lambda: server.record.reboots == 1, "rebooted")
        await harness.until(lambda: server.robots_running() == {1, 2}, "robots run")
        await harness.passed(times=2)
        assert harness.status_store.restarts["tokyo-1", "reboot"] == 1
        assert harness.status_store.stops["tokyo-1"] == 0
        assert harness.status().health is Health.HEALTHY

    play(Harness(rig), story)
    assert server.record.reboot_requests == 1


def test_what_waits_for_its_window_says_when_it_opens(rig: Rig) -> None:
    server = converged(rig)
    # Open for a minute, once a year, half a year away from now.
    month = (datetime.now(UTC).month + 5) % 12 + 1
    window = {"kind": "allow", "schedule": f"0 0 1 {month} *", "duration": "1m", "timeZone": "UTC"}
    wish = {"bootedAfter": moment(), "robots": "leave", "reason": "new okx"}

    async def story(harness: Harness) -> None:
        await harness.passed()
        rig.document(
            "tokyo-1", "bybit", rotate=False, supervised=True, reboot=wish, windows=[window]
        )
        await harness.until(lambda: bool(harness.status().deferred), "deferred")
        await harness.passed(times=2)
        assert harness.status().window_open is False
        assert f"-{month:02d}-01T00:00:00Z" in harness.status().window
        assert "opens 20" in harness.status().deferred[0]
        assert harness.status().health is Health.PROGRESSING
        assert harness.status().well  # nobody is told of it

    play(Harness(rig), story)
    assert server.record.reboot_requests == 0


def test_a_debt_of_a_reboot_is_told_at_once_and_ends_with_the_reboot(rig: Rig) -> None:
    server = converged(rig)
    key = server.values()[KEY]

    async def story(harness: Harness) -> None:
        await harness.passed()
        rig.rotate("tokyo-1", "bybit", apiKey=key)  # another secret under the same API key
        await harness.until(lambda: server.record.saves == 2, "written")
        await harness.heard(Topic.REBOOT_OWED)
        assert any(debt.exchange == "bybit" for debt in harness.status().debts)
        assert server.record.reboot_requests == 0
        server.restart()
        await harness.until(lambda: not harness.status().debts, "paid by a boot")

    play(Harness(rig), story)


def test_an_invalidation_without_an_answer_is_in_doubt_and_told(rig: Rig) -> None:
    server = converged(rig)
    server.behaviour.invalidate = "lost before effect"

    async def story(harness: Harness) -> None:
        await harness.passed()
        wish = {"invalidatedAfter": moment(), "reason": "stale"}
        rig.document("tokyo-1", "bybit", rotate=False, cache=wish)
        await harness.until(lambda: harness.status().in_doubt == 1, "in doubt")
        await harness.heard(Topic.IN_DOUBT)
        await harness.passed(times=2)
        # Credentials go on.
        rig.rotate()
        await harness.until(lambda: server.record.saves == 2, "credentials go on")

    play(Harness(rig), story)
    assert server.record.invalidation_requests == 1


@pytest.mark.fatal_paths(1)
def test_harm_stops_all_writes_until_people_release_the_brake(rig: Rig) -> None:
    server = converged(rig)
    other = rig.server("osaka-1")
    rig.document("osaka-1")

    async def story(harness: Harness) -> None:
        await synced(harness, "osaka-1")
        server.behaviour.save = "fatal"
        rig.rotate()
        await harness.until(lambda: bool(harness.status_store.controller.brakes), "the brake is on")
        server.behaviour.save = "answer"
        rig.rotate("osaka-1")
        await harness.passed("osaka-1", times=2)
        assert other.record.saves == 1
        await harness.heard(Topic.BRAKE)
        args = ("ledger", "release-brake", "0.24.19", "--because", "it was a test")
        assert (await asyncio.to_thread(rig.process, *args)).code == 0
        await harness.until(lambda: other.record.saves == 2, "writes go on")

    play(Harness(rig), story)


def test_a_suspended_server_is_looked_at_and_left_alone(rig: Rig) -> None:
    server = converged(rig)

    async def story(harness: Harness) -> None:
        await harness.passed()
        pause = {"reason": "exchange maintenance", "by": "desk-asia"}
        rig.document("tokyo-1", "bybit", suspend=pause | {"until": moment(days=1)})
        await harness.until(lambda: harness.status().health is Health.SUSPENDED, "suspended")
        await harness.passed()
        assert server.record.saves == 1
        assert "exchange maintenance" in harness.status().reason
        soon = pause | {"until": moment(seconds=0.5)}
        rig.document("tokyo-1", "bybit", rotate=False, suspend=soon)
        await harness.until(lambda: server.record.saves == 2, "it ends by itself")

    play(Harness(rig), story)


def test_observed_servers_are_reported_and_never_written(rig: Rig) -> None:
    server = converged(rig, mode="observe")
    rig.rotate()

    async def story(harness: Harness) -> None:
        await harness.until(lambda: harness.status().sync is Sync.OUT_OF_SYNC, "compared")
        await harness.passed(times=2)

    play(Harness(rig), story)
    assert server.record.saves == 0


def test_vault_that_is_away_changes_nothing_and_is_caught_up_with(rig: Rig) -> None:
    server = converged(rig)

    async def story(harness: Harness) -> None:
        await harness.passed()
        rig.bao.pause()
        try:
            await harness.until(lambda: bool(harness.status_store.controller.secrets), "told")
            await harness.heard(Topic.SECRETS)
        finally:
            rig.bao.resume()
        rig.rotate()
        await harness.until(lambda: server.record.saves == 2, "caught up")
        await synced(harness)
        await harness.until(lambda: not harness.status_store.controller.secrets, "Vault is back")

    play(Harness(rig), story)


@pytest.mark.silence
def test_the_login_is_kept_while_vault_is_away(rig: Rig) -> None:
    server = converged(rig)

    async def story(harness: Harness) -> None:
        await harness.passed()
        rig.bao.pause()
        try:
            handshakes = len(server.record.handshakes)
            server.drop_connections()
            await harness.until(lambda: len(server.record.handshakes) > handshakes, "registered")
        finally:
            rig.bao.resume()

    play(Harness(rig), story)
    assert all(shake.authorised for shake in server.record.handshakes)


def test_without_vault_it_waits_and_says_so(rig: Rig) -> None:
    server = rig.server()
    rig.document()
    begin(rig)

    async def story(harness: Harness) -> None:
        await harness.until(lambda: bool(harness.status_store.controller.secrets), "told")
        await harness.until(lambda: harness.status().sync is Sync.UNKNOWN, "looked at in vain")
        rig.bao.resume()
        await synced(harness)

    rig.bao.pause()
    try:
        play(Harness(rig), story)
    finally:
        rig.bao.resume()
    assert server.record.saves == 1


def test_of_two_controllers_one_waits_and_takes_over(rig: Rig) -> None:
    server = converged(rig)

    async def story() -> None:
        one, two = Harness(rig), Harness(rig)
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


def test_a_second_signal_ends_it_at_once(rig: Rig) -> None:
    converged(rig)
    harness = Harness(rig)

    async def run() -> None:
        async with harness.running():
            await harness.passed()
            assert harness.controller is not None
            harness.controller.stop()
            assert harness.left == []
            harness.controller.stop()
            assert harness.left == [128 + 15]

    asyncio.run(run())


def test_a_server_that_left_the_documents_is_left_alone(rig: Rig) -> None:
    server = converged(rig)
    rig.server("osaka-1")
    rig.document("osaka-1")

    async def story(harness: Harness) -> None:
        await synced(harness, "osaka-1")
        (rig.docs / "tokyo-1.yaml").unlink()
        await harness.until(lambda: "tokyo-1" not in harness.status_store.servers, "dropped")
        await harness.until(lambda: server.connections() == [], "left")
        await harness.passed("osaka-1")

    play(Harness(rig), story)
    assert server.record.deletes == 0


@pytest.mark.silence
def test_a_log_that_cannot_be_read_leaves_nobody_alone(rig: Rig) -> None:
    """The connection was lost with it, and the next pass was an interval away."""
    server = converged(rig)
    begin(rig, durations=BRISK | {"interval": "60s"})

    async def story(harness: Harness) -> None:
        await synced(harness)
        await harness.until(lambda: bool(server.connections()), "it is held")
        assert harness.controller is not None
        server.behaviour.silent = frozenset({"logs-list-request"})
        with pytest.raises(JtrError):
            await harness.controller.entries("tokyo-1")
        server.behaviour.silent = frozenset()
        await harness.until(lambda: bool(server.connections()), "and held again")

    play(Harness(rig), story)


def test_corrections_that_fail_count_as_corrections(rig: Rig) -> None:
    """Twenty writes within one cooldown, and never contested."""
    server = converged(rig, selfHeal=True)
    begin(rig, durations=BRISK | {"healCooldown": "60s"})

    async def story(harness: Harness) -> None:
        await synced(harness)
        saves = server.record.saves
        server.behaviour.save = "lose-last-row"
        server.set_value("bybit_api_secret", rig.watch.secret())
        harness.controller.look_again() if harness.controller else None
        await harness.until(lambda: server.record.saves > saves, "it is corrected")
        await harness.passed(times=3)
        assert server.record.saves == saves + 1, "and then it rests"

    play(Harness(rig), story)
