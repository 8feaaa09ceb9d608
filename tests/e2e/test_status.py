"""What is owed to robots, for how long, and what `jtr status` shows of it."""

import json
from typing import Any

import pytest

from reconciler.sandbox.jt_trader.server import Robot, StandInThread
from tests.e2e.answers import document, line, server, statuses, stored
from tests.world import World


def converged(world: World, *exchanges: str) -> StandInThread:
    """Bring one server to its document, restart it so that nothing is owed, and return it."""
    stand_in = world.server()
    world.document("tokyo-1", *exchanges)
    world.begin()
    assert world.apply().code == 0
    stand_in.restart()
    assert world.apply().code == 0
    return stand_in


def status(world: World) -> dict[str, Any]:
    """Return what `jtr status` says of the only server."""
    ran = world.jtr("status", "-o", "json")
    assert ran.code == 0
    (found,) = json.loads(ran.out)["servers"]
    return dict(found)


def owed(world: World) -> set[tuple[str, str, str]]:
    """Return the debts; plan, status and live status agree on them."""
    rows = server(world.plan("-o", "json"))["debts"]
    live = server(world.jtr("status", "--live", "--from", str(world.docs), "-o", "json"))["debts"]
    assert status(world)["debts"] == rows == live
    return {(row["owed"], row["exchange"], row["robotName"]) for row in rows}


def test_a_new_api_key_owes_a_restart_to_each_robot_that_runs_there(world: World) -> None:
    converged(world, "bybit", "okx")
    assert owed(world) == set()
    world.rotate(exchange="bybit")

    planned = world.plan()
    world.apply()

    assert "robot grid-btc (1) keeps the old key until restarted" in planned.out
    assert owed(world) == {("restart", "bybit", "grid-btc")}


def test_the_same_api_key_with_another_secret_owes_a_reboot_too(world: World) -> None:
    converged(world, "bybit")
    key = world.rotate(exchange="bybit")["apiKey"]
    world.apply()
    world.rotate(exchange="bybit", apiKey=key)

    planned = world.plan()
    world.apply()
    text = world.jtr("status").out

    assert "rebooted" in planned.out
    assert owed(world) == {("restart", "bybit", "grid-btc"), ("reboot", "bybit", "")}
    assert "owed: reboot" in text
    assert "owed: restart of robot grid-btc (1)" in text


def test_a_reboot_is_owed_also_where_no_robot_runs(world: World) -> None:
    stand_in = converged(world, "kucoin")
    key = stand_in.values()["kucoin_api_key"]
    world.rotate(exchange="kucoin", apiKey=key)

    world.apply()

    assert owed(world) == {("reboot", "kucoin", "")}


def test_debts_are_no_changes_and_survive(world: World) -> None:
    converged(world, "bybit")
    world.rotate(exchange="bybit")
    world.apply()

    first, second = world.apply("-o", "json"), world.plan("--detailed-exitcode", "-o", "json")

    assert (first.code, second.code) == (0, 0)
    assert document(second)["summary"]["writes"] == 0
    assert owed(world) == {("restart", "bybit", "grid-btc")}


def test_a_restart_is_paid_when_the_robot_was_seen_stopped(world: World) -> None:
    stand_in = converged(world, "bybit")
    world.rotate(exchange="bybit")
    world.apply()
    stand_in.set_running(1, running=False)

    assert server(world.plan("-o", "json"))["debts"] == []
    world.apply()
    stand_in.set_running(1, running=True)

    assert owed(world) == set()


def test_a_plan_sees_a_stop_but_only_an_apply_remembers_it(world: World) -> None:
    stand_in = converged(world, "bybit")
    world.rotate(exchange="bybit")
    world.apply()
    stand_in.set_running(1, running=False)
    world.plan()
    stand_in.set_running(1, running=True)

    assert owed(world) == {("restart", "bybit", "grid-btc")}


def test_a_reboot_is_not_paid_by_stopping_robots_but_by_a_newer_boot_line(world: World) -> None:
    stand_in = converged(world, "bybit")
    key = stand_in.values()["bybit_api_key"]
    world.rotate(exchange="bybit", apiKey=key)
    world.apply()
    stand_in.set_running(1, running=False)
    world.apply()
    after_stop = owed(world)
    stand_in.restart()
    world.apply()

    assert after_stop == {("reboot", "bybit", "")}
    assert owed(world) == set()


def test_an_older_key_with_another_secret_needs_a_reboot_unless_there_was_one(
    world: World,
) -> None:
    stand_in = converged(world, "bybit")
    first = world.rotate(exchange="bybit")
    world.apply()
    world.rotate(exchange="bybit")
    world.apply()
    world.rotate(exchange="bybit", apiKey=first["apiKey"])

    same_process = world.plan("-o", "json")
    stand_in.restart()
    new_process = world.plan("-o", "json")

    assert line(same_process, "bybit")["consequence"]["need"] == "reboot"
    assert line(new_process, "bybit")["consequence"]["need"] == "restart"


def test_a_corrected_drift_owes_nothing(world: World) -> None:
    stand_in = converged(world, "bybit", "okx")
    stand_in.set_value("bybit_api_secret", world.watch.secret("hex"))

    world.apply("--correct-drift")

    assert owed(world) == set()


def test_a_first_key_means_that_robots_ran_without_one(world: World) -> None:
    world.server()
    world.document()

    assert "robot grid-btc (1) runs without a key until restarted" in world.plan().out


def test_a_write_without_robots_owes_no_restart(world: World) -> None:
    world.server(robots=[Robot(id=3, name="idle", exchange="bybit", running=False)])
    world.document()
    world.begin()
    world.apply()

    assert owed(world) == set()


def test_debts_outlive_our_own_delete(world: World) -> None:
    """The process still holds the key in its cache, and robots that ran still run with it."""
    stand_in = converged(world, "bybit", "okx")
    key = stand_in.values()["okx_api_key"]
    world.rotate(exchange="okx", apiKey=key)
    world.apply()
    stand_in.set_running(2, running=False)
    world.document("tokyo-1", "bybit", rotate=False, exchanges={"okx": {"state": "absent"}})

    assert world.apply().code == 0
    assert owed(world) == {("reboot", "okx", "")}


# ── what status shows ────────────────────────────────────────────────────────────────────────


def test_status_without_a_ledger_is_blocked_and_makes_none(world: World) -> None:
    ran = world.jtr("status")

    assert ran.code == 4
    assert not (world.home / "state").exists()


def test_status_of_an_empty_ledger_says_so(world: World) -> None:
    world.begin()

    assert "knows no server yet" in world.jtr("status").out


def test_status_needs_neither_server_nor_vault(world: World) -> None:
    stand_in = converged(world, "bybit")
    stand_in.stop()
    seen = len(stand_in.record.handshakes)

    ran = world.jtr("status", environment={"VAULT_ADDR": "http://127.0.0.1:9"})

    assert ran.code == 0
    assert f"bybit: written from {world.reference('tokyo-1/bybit')}@1" in ran.out
    assert "robots running: grid-btc (bybit), arb (okx)" in ran.out
    assert len(stand_in.record.handshakes) == seen


def test_status_tells_drift_finds_and_strangers_apart(world: World) -> None:
    stand_in = converged(world, "bybit", "okx")
    stand_in.set_value("okx_api_key", world.watch.secret("hex"))
    stand_in.set_value("gateio_api_key", world.watch.secret())
    for name, value in stored("kucoin", world.rotate(exchange="kucoin")).items():
        stand_in.set_value(name, value)
    world.document("tokyo-1", "bybit", "okx", "kucoin", rotate=False)
    world.apply()

    text = world.jtr("status").out

    assert f"bybit: written from {world.reference('tokyo-1/bybit')}@1" in text
    assert "okx: drifted: written from" in text
    assert "kucoin: found, looks as desired" in text
    assert "gateio: connected by somebody else" in text


def test_status_tells_of_a_write_that_did_not_finish(world: World) -> None:
    stand_in = converged(world, "bybit")
    world.rotate(exchange="bybit")
    stand_in.behaviour.save = "silent-before"
    world.apply()

    assert "bybit: a write did not finish" in world.jtr("status").out


def test_live_status_sees_what_the_ledger_does_not_know_yet(world: World) -> None:
    stand_in = converged(world, "bybit", "okx")
    stand_in.set_value("okx_api_key", world.watch.secret("hex"))

    live = world.jtr("status", "--live", "--from", str(world.docs), "-o", "json")

    assert "drifted" not in world.jtr("status").out
    assert statuses(live) == {"bybit": "in sync", "okx": "left alone"}


def test_live_status_of_a_dead_server_ends_with_6(world: World) -> None:
    stand_in = converged(world, "bybit")
    stand_in.stop()

    assert world.jtr("status", "--live", "--from", str(world.docs)).code == 6


@pytest.mark.parametrize("live", [(), ("--live",)])
def test_an_unknown_server_is_a_usage_error(world: World, live: tuple[str, ...]) -> None:
    world.server()
    world.document()
    world.begin()
    world.apply()

    args = ("status", "--server", "nowhere", *live)
    assert world.jtr(*args, "--from", str(world.docs)).code == 64


def test_only_the_servers_asked_for_are_shown(world: World) -> None:
    for name in ("tokyo-1", "tokyo-2"):
        world.server(name)
        world.document(name)
    world.begin()
    world.apply()

    text = world.jtr("status", "--server", "tokyo-2").out

    assert "tokyo-2  " in text
    assert "tokyo-1  " not in text
