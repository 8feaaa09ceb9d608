"""`state: absent`, the only way to delete: exactly these fields, one by one, under no robot."""

import asyncio
from typing import Any

import pytest

from reconciler.sandbox.jt_trader.server import Behaviour, StandInThread
from tests.e2e.answers import line, results, statuses, stored
from tests.e2e.meanwhile import DELETE, when_asked
from tests.support.rig import Rig


def converged(rig: Rig, *exchanges: str, brief: bool = False) -> StandInThread:
    """
    Bring one server without running robots to its document and return it.

    With *brief* nothing that was sent to it can be under way for longer than 2.5 s.
    """
    pings = Behaviour(ping_interval=0.5, ping_timeout=2.0)
    server = rig.server(behaviour=pings if brief else Behaviour())
    for robot in (1, 2):
        server.set_running(robot, running=False)
    rig.document("tokyo-1", *exchanges)
    rig.begin()
    assert rig.apply().code == 0
    return server


def absent(rig: Rig, *exchanges: str, keep: tuple[str, ...] = ("bybit",)) -> None:
    """Declare exchanges absent."""
    gone: dict[str, Any] = {code: {"state": "absent"} for code in exchanges}
    rig.document("tokyo-1", *keep, rotate=False, exchanges=gone)


def deleted(server: StandInThread) -> list[str]:
    """Return the names of each delete that went through, joined."""
    return ["+".join(names) for kind, _, *names in server.record.history if kind == "delete"]


def test_absent_deletes_exactly_its_fields_one_per_request(rig: Rig) -> None:
    server = converged(rig, "bybit", "okx")
    rest = {name: value for name, value in server.values().items() if "okx" not in name}
    absent(rig, "okx")

    ran = rig.apply("-o", "json")
    again = rig.apply()

    assert (ran.code, again.code) == (0, 0)
    assert results(ran) == {"okx": "done"}
    assert sorted(deleted(server)) == ["okx_api_key", "okx_api_secret", "okx_password"]
    assert server.record.deletes == 3
    assert server.values() == rest


def test_an_additional_exchange_is_deleted_whole_though_it_moves_between_the_lists(
    rig: Rig,
) -> None:
    server = converged(rig, "bybit", "kucoin")
    absent(rig, "kucoin")

    assert rig.apply().code == 0
    assert sorted(server.values()) == ["bybit_api_key", "bybit_api_secret"]
    assert server.record.deletes == 3


def test_absent_is_blocked_while_a_robot_runs_on_it(rig: Rig) -> None:
    server = converged(rig, "bybit", "okx")
    absent(rig, "okx")
    server.set_running(2, running=True)

    ran = rig.apply("-o", "json")
    server.set_running(2, running=False)
    after = rig.apply()

    assert ran.code == 4
    assert "robots run on it: arb" in line(ran, "okx")["why"]
    assert after.code == 0
    assert server.record.deletes == 3


def test_robots_of_other_exchanges_do_not_hold_a_delete_back(rig: Rig) -> None:
    server = converged(rig, "bybit", "okx")
    absent(rig, "okx")
    server.set_running(1, running=True)

    assert rig.apply().code == 0
    assert server.record.deletes == 3
    assert server.robots_running() == {1}


def test_a_second_row_that_comes_to_light_is_deleted_too(rig: Rig) -> None:
    server = converged(rig, "bybit", "okx")
    older = rig.watch.secret()
    server.server._state.rows.insert("0", "okx_api_key", "string", older)
    absent(rig, "okx")

    ran = rig.apply()

    assert ran.code == 0, ran.text
    assert [name for name, _, _ in server.rows()] == ["bybit_api_key", "bybit_api_secret"]
    assert server.record.deletes == 4


def test_more_rows_than_anybody_expects_are_reported_not_deleted_for_ever(rig: Rig) -> None:
    server = converged(rig, "bybit", "okx")
    for _ in range(9):
        server.server._state.rows.insert("0", "okx_api_key", "string", rig.watch.secret())
    absent(rig, "okx")

    first = rig.apply("-o", "json")
    deletes = server.record.deletes
    rest = rig.apply("--correct-drift")

    assert (first.code, results(first)) == (6, {"okx": "failed"})
    assert deletes <= 5
    assert rest.code in {0, 6}
    assert "bybit_api_key" in server.values()


def test_a_foreign_exchange_is_not_deleted_until_taken_over(rig: Rig) -> None:
    server = converged(rig, "bybit")
    theirs = {name: rig.watch.secret() for name in ("apiKey", "secret", "password")}
    for name, value in stored("okx", theirs).items():
        server.set_value(name, value)
    absent(rig, "okx")

    blocked = rig.apply("-o", "json")
    deletes = server.record.deletes
    taken = rig.apply("--take-over", "tokyo-1/okx")

    assert (blocked.code, statuses(blocked)["okx"]) == (4, "blocked")
    assert deletes == 0
    assert taken.code == 0
    assert server.record.deletes == 3


def test_what_somebody_changed_since_is_drift_and_not_deleted_unasked(rig: Rig) -> None:
    server = converged(rig, "bybit", "okx")
    server.set_value("okx_api_key", rig.watch.secret("hex"))
    absent(rig, "okx")

    left = rig.apply("-o", "json")
    deletes = server.record.deletes
    consented = rig.apply("--correct-drift")

    assert (left.code, statuses(left)["okx"]) == (0, "left alone")
    assert (deletes, consented.code, server.record.deletes) == (0, 0, 3)


def test_absent_where_nothing_is_stored_is_in_sync(rig: Rig) -> None:
    server = converged(rig, "bybit")
    absent(rig, "okx", "kucoin")

    ran = rig.apply("-o", "json")

    assert (ran.code, server.record.deletes) == (0, 0)
    assert statuses(ran) == {"bybit": "in sync", "kucoin": "in sync", "okx": "in sync"}


@pytest.mark.silence
def test_a_half_done_delete_is_finished_by_the_next_apply(rig: Rig) -> None:
    server = converged(rig, "bybit", "okx", brief=True)
    absent(rig, "okx")
    server.behaviour.next_writes = ["answer"]
    server.behaviour.delete = "silent-before"
    torn = rig.apply("-o", "json")
    server.behaviour.delete = "answer"
    left = [name for name in server.values() if name.startswith("okx")]

    deletes = server.record.deletes
    finished = rig.apply()

    assert deletes == 2  # nothing is sent again after silence
    assert (torn.code, results(torn)) == (6, {"okx": "failed"})
    assert len(left) == 2
    assert finished.code == 0, finished.text
    assert sorted(server.values()) == ["bybit_api_key", "bybit_api_secret"]


@pytest.mark.silence
def test_a_half_done_delete_that_is_no_longer_wanted_is_written_whole_again(rig: Rig) -> None:
    server = converged(rig, "bybit", "okx", brief=True)
    before = server.values()
    absent(rig, "okx")
    server.behaviour.next_writes = ["answer"]
    server.behaviour.delete = "silent-before"
    rig.apply()
    server.behaviour.delete = "answer"
    rig.document("tokyo-1", "bybit", "okx", rotate=False)

    ran = rig.apply("-o", "json")

    assert (ran.code, results(ran)) == (0, {"okx": "done"})
    assert server.values() == before


def test_a_delete_whose_answer_was_lost_is_found_out_and_goes_on(rig: Rig) -> None:
    server = converged(rig, "bybit", "okx")
    absent(rig, "okx")
    server.behaviour.delete = "drop-after"

    ran = rig.apply("-o", "json")

    assert (ran.code, results(ran)) == (0, {"okx": "done"})
    assert server.record.deletes == 3
    assert sorted(server.values()) == ["bybit_api_key", "bybit_api_secret"]


@pytest.mark.silence
def test_a_delete_that_lands_late_is_waited_for_and_not_sent_again(rig: Rig) -> None:
    """The next plan held it again at once; sent, it would have deleted what was gone: fatal."""
    server = converged(rig, "bybit", "okx", brief=True)
    absent(rig, "okx")
    server.behaviour.next_writes = ["silent-before"]
    first = server.record.deletes
    (field, *_) = (name for name in server.values() if name.startswith("okx"))

    def landing() -> None:
        asyncio.get_running_loop().call_later(1.5, server.remove_value, field)

    with when_asked(server, DELETE, landing):
        ran = rig.apply("-o", "json")

    assert (ran.code, results(ran)) == (0, {"okx": "done"}), ran.text
    assert server.record.deletes - first == 3
    assert sorted(server.values()) == ["bybit_api_key", "bybit_api_secret"]


def test_what_appears_after_our_delete_is_foreign(rig: Rig) -> None:
    server = converged(rig, "bybit", "okx")
    absent(rig, "okx")
    rig.apply()
    theirs = {name: rig.watch.secret() for name in ("apiKey", "secret", "password")}
    for name, value in stored("okx", theirs).items():
        server.set_value(name, value)
    rig.document("tokyo-1", "bybit", "okx", rotate=False)

    ran = rig.apply("-o", "json")

    assert (ran.code, statuses(ran)["okx"]) == (4, "blocked")
    assert stored("okx", theirs).items() <= server.values().items()


@pytest.mark.silence
def test_a_delete_that_never_began_does_not_explain_what_somebody_removes_later(
    rig: Rig,
) -> None:
    server = converged(rig, "bybit", "okx", brief=True)
    absent(rig, "okx")
    server.behaviour.delete = "silent-before"
    assert rig.apply().code == 6
    server.behaviour.delete = "answer"
    rig.document("tokyo-1", "bybit", "okx", rotate=False)  # a change of mind
    assert rig.apply().code == 0
    saves = server.record.saves
    server.remove_value("okx_password")

    ran = rig.apply()

    assert (ran.code, server.record.saves) == (0, saves), ran.text
    assert "somebody removed a part of it" in ran.out
