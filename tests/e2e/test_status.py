"""What is owed to robots, for how long, and what `jtr status` shows of it."""

import json
from typing import Any

import pytest

from reconciler.sandbox.jt_trader.server import Robot, StandInThread
from tests.e2e.answers import document, line, server, statuses, stored
from tests.support.rig import Rig


def converged(rig: Rig, *exchanges: str) -> StandInThread:
    """Bring one server to its document, restart it so that nothing is owed, and return it."""
    stand_in = rig.server()
    rig.document("tokyo-1", *exchanges)
    rig.begin()
    assert rig.apply().code == 0
    stand_in.restart()
    assert rig.apply().code == 0
    return stand_in


def status(rig: Rig) -> dict[str, Any]:
    """Return what `jtr status` says of the only server."""
    ran = rig.jtr("status", "-o", "json")
    assert ran.code == 0
    (found,) = json.loads(ran.out)["servers"]
    return dict(found)


def owed(rig: Rig) -> set[tuple[str, str, str]]:
    """Return the debts; plan, status and live status agree on them."""
    rows = server(rig.plan("-o", "json"))["debts"]
    live = server(rig.jtr("status", "--live", "--from", str(rig.docs), "-o", "json"))["debts"]
    assert status(rig)["debts"] == rows == live
    return {(row["owed"], row["exchange"], row["robotName"]) for row in rows}


def test_a_new_api_key_owes_a_restart_to_each_robot_that_runs_there(rig: Rig) -> None:
    converged(rig, "bybit", "okx")
    assert owed(rig) == set()
    rig.rotate(exchange="bybit")

    planned = rig.plan()
    rig.apply()

    assert "robot grid-btc (1) keeps the old key until restarted" in planned.out
    assert owed(rig) == {("restart", "bybit", "grid-btc")}


def test_the_same_api_key_with_another_secret_owes_a_reboot_too(rig: Rig) -> None:
    converged(rig, "bybit")
    key = rig.rotate(exchange="bybit")["apiKey"]
    rig.apply()
    rig.rotate(exchange="bybit", apiKey=key)

    planned = rig.plan()
    rig.apply()
    text = rig.jtr("status").out

    assert "rebooted" in planned.out
    assert owed(rig) == {("restart", "bybit", "grid-btc"), ("reboot", "bybit", "")}
    assert "owed: reboot" in text
    assert "owed: restart of robot grid-btc (1)" in text


def test_a_reboot_is_owed_also_where_no_robot_runs(rig: Rig) -> None:
    stand_in = converged(rig, "kucoin")
    key = stand_in.values()["kucoin_api_key"]
    rig.rotate(exchange="kucoin", apiKey=key)

    rig.apply()

    assert owed(rig) == {("reboot", "kucoin", "")}


def test_debts_are_no_changes_and_survive(rig: Rig) -> None:
    converged(rig, "bybit")
    rig.rotate(exchange="bybit")
    rig.apply()

    first, second = rig.apply("-o", "json"), rig.plan("--detailed-exitcode", "-o", "json")

    assert (first.code, second.code) == (0, 0)
    assert document(second)["summary"]["writes"] == 0
    assert owed(rig) == {("restart", "bybit", "grid-btc")}


def test_a_restart_is_paid_when_the_robot_was_seen_stopped(rig: Rig) -> None:
    stand_in = converged(rig, "bybit")
    rig.rotate(exchange="bybit")
    rig.apply()
    stand_in.set_running(1, running=False)

    assert server(rig.plan("-o", "json"))["debts"] == []
    rig.apply()
    stand_in.set_running(1, running=True)

    assert owed(rig) == set()


def test_a_plan_sees_a_stop_but_only_an_apply_remembers_it(rig: Rig) -> None:
    stand_in = converged(rig, "bybit")
    rig.rotate(exchange="bybit")
    rig.apply()
    stand_in.set_running(1, running=False)
    rig.plan()
    stand_in.set_running(1, running=True)

    assert owed(rig) == {("restart", "bybit", "grid-btc")}


def test_a_reboot_is_not_paid_by_stopping_robots_but_by_a_newer_boot_line(rig: Rig) -> None:
    stand_in = converged(rig, "bybit")
    key = stand_in.values()["bybit_api_key"]
    rig.rotate(exchange="bybit", apiKey=key)
    rig.apply()
    stand_in.set_running(1, running=False)
    rig.apply()
    after_stop = owed(rig)
    stand_in.restart()
    rig.apply()

    assert after_stop == {("reboot", "bybit", "")}
    assert owed(rig) == set()


def test_an_older_key_with_another_secret_needs_a_reboot_unless_there_was_one(
    rig: Rig,
) -> None:
    stand_in = converged(rig, "bybit")
    first = rig.rotate(exchange="bybit")
    rig.apply()
    rig.rotate(exchange="bybit")
    rig.apply()
    rig.rotate(exchange="bybit", apiKey=first["apiKey"])

    same_process = rig.plan("-o", "json")
    stand_in.restart()
    new_process = rig.plan("-o", "json")

    assert line(same_process, "bybit")["consequence"]["need"] == "reboot"
    assert line(new_process, "bybit")["consequence"]["need"] == "restart"


def test_a_corrected_drift_owes_nothing(rig: Rig) -> None:
    stand_in = converged(rig, "bybit", "okx")
    stand_in.set_value("bybit_api_secret", rig.watch.secret("hex"))

    rig.apply("--correct-drift")

    assert owed(rig) == set()


def test_a_first_key_means_that_robots_ran_without_one(rig: Rig) -> None:
    rig.server()
    rig.document()

    assert "robot grid-btc (1) runs without a key until restarted" in rig.plan().out


def test_a_write_without_robots_owes_no_restart(rig: Rig) -> None:
    rig.server(robots=[Robot(id=3, name="idle", exchange="bybit", running=False)])
    rig.document()
    rig.begin()
    rig.apply()

    assert owed(rig) == set()


def test_debts_outlive_our_own_delete(rig: Rig) -> None:
    """The process still holds the key in its cache, and robots that ran still run with it."""
    stand_in = converged(rig, "bybit", "okx")
    key = stand_in.values()["okx_api_key"]
    rig.rotate(exchange="okx", apiKey=key)
    rig.apply()
    stand_in.set_running(2, running=False)
    rig.document("tokyo-1", "bybit", rotate=False, exchanges={"okx": {"state": "absent"}})

    assert rig.apply().code == 0
    assert owed(rig) == {("reboot", "okx", "")}


# ── what status shows ────────────────────────────────────────────────────────────────────────


def test_status_without_a_ledger_is_blocked_and_makes_none(rig: Rig) -> None:
    ran = rig.jtr("status")

    assert ran.code == 4
    assert not (rig.home / "state").exists()


def test_status_of_an_empty_ledger_says_so(rig: Rig) -> None:
    rig.begin()

    assert "knows no server yet" in rig.jtr("status").out


def test_status_needs_neither_server_nor_vault(rig: Rig) -> None:
    stand_in = converged(rig, "bybit")
    stand_in.stop()
    seen = len(stand_in.record.handshakes)

    ran = rig.jtr("status", environment={"VAULT_ADDR": "http://127.0.0.1:9"})

    assert ran.code == 0
    assert f"bybit: written from {rig.reference('tokyo-1/bybit')}@1" in ran.out
    assert "robots running: grid-btc (bybit), arb (okx)" in ran.out
    assert len(stand_in.record.handshakes) == seen


def test_status_tells_drift_finds_and_strangers_apart(rig: Rig) -> None:
    stand_in = converged(rig, "bybit", "okx")
    stand_in.set_value("okx_api_key", rig.watch.secret("hex"))
    stand_in.set_value("gateio_api_key", rig.watch.secret())
    for name, value in stored("kucoin", rig.rotate(exchange="kucoin")).items():
        stand_in.set_value(name, value)
    rig.document("tokyo-1", "bybit", "okx", "kucoin", rotate=False)
    rig.apply()

    text = rig.jtr("status").out

    assert f"bybit: written from {rig.reference('tokyo-1/bybit')}@1" in text
    assert "okx: drifted: written from" in text
    assert "kucoin: found, looks as desired" in text
    assert "gateio: connected by somebody else" in text


@pytest.mark.silence
def test_status_tells_of_a_write_that_did_not_finish(rig: Rig) -> None:
    stand_in = converged(rig, "bybit")
    rig.rotate(exchange="bybit")
    stand_in.behaviour.save = "silent-before"
    rig.apply()

    assert "bybit: a write did not finish" in rig.jtr("status").out


def test_live_status_sees_what_the_ledger_does_not_know_yet(rig: Rig) -> None:
    stand_in = converged(rig, "bybit", "okx")
    stand_in.set_value("okx_api_key", rig.watch.secret("hex"))

    live = rig.jtr("status", "--live", "--from", str(rig.docs), "-o", "json")

    assert "drifted" not in rig.jtr("status").out
    assert statuses(live) == {"bybit": "in sync", "okx": "left alone"}


def test_live_status_of_a_dead_server_ends_with_6(rig: Rig) -> None:
    stand_in = converged(rig, "bybit")
    stand_in.stop()

    assert rig.jtr("status", "--live", "--from", str(rig.docs)).code == 6


@pytest.mark.parametrize("live", [(), ("--live",)])
def test_an_unknown_server_is_a_usage_error(rig: Rig, live: tuple[str, ...]) -> None:
    rig.server()
    rig.document()
    rig.begin()
    rig.apply()

    args = ("status", "--server", "nowhere", *live)
    assert rig.jtr(*args, "--from", str(rig.docs)).code == 64


def test_only_the_servers_asked_for_are_shown(rig: Rig) -> None:
    for name in ("tokyo-1", "tokyo-2"):
        rig.server(name)
        rig.document(name)
    rig.begin()
    rig.apply()

    text = rig.jtr("status", "--server", "tokyo-2").out

    assert "tokyo-2  " in text
    assert "tokyo-1  " not in text
