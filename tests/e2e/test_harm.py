"""When a write stops robots: said at once, exit 8, and nothing is written any more anywhere."""

import asyncio
import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from itertools import pairwise

import pytest

from reconciler.sandbox.jt_trader.server import Behaviour, Robot, StandInThread
from tests.e2e.answers import codes, line, results, server, statuses
from tests.e2e.meanwhile import HELD, LOOK, SAVE, beside, going_down, when_asked
from tests.e2e.test_requests import RESUME, ask, ready
from tests.support.durations import BRIEF, DURATIONS
from tests.support.processes import PATIENCE
from tests.support.rig import Ran, Rig

VERSION = "0.24.19"
TWENTY = tuple(f"tokyo-{number:02}" for number in range(20))


def harmed(rig: Rig) -> tuple[StandInThread, Ran]:
    """Let the first save of a server be fatal."""
    stand_in = rig.server(behaviour=Behaviour(save="fatal"))
    rig.document()
    rig.begin()
    return stand_in, rig.apply("-o", "json")


def release(rig: Rig, because: str = "a bad save, robots are back", over: str = VERSION) -> Ran:
    """Let the brake go."""
    return rig.jtr("ledger", "release-brake", over, "--because", because)


def brakes(rig: Rig) -> list[str]:
    """Return over what the brakes hold that `jtr status` shows."""
    return [brake["over"] for brake in json.loads(rig.jtr("status", "-o", "json").out)["brakes"]]


@pytest.mark.fatal_paths(1)
def test_a_fatal_save_is_harm_and_names_the_robots(rig: Rig) -> None:
    stand_in, ran = harmed(rig)
    text = rig.plan()

    assert (ran.code, results(ran)) == (8, {"bybit": "harm"})
    (outcome,) = server(ran)["outcomes"]
    assert "grid-btc" in outcome["detail"]
    assert "arb" in outcome["detail"]
    assert [robot["id"] for robot in outcome["robotsStopped"]] == [1, 2]
    assert stand_in.record.saves == 1
    assert "blocked: the brake is on for JT-Trader 0.24.19" in text.out


@pytest.mark.fatal_paths(1)
def test_the_brake_stays_until_it_is_released_with_a_reason(rig: Rig) -> None:
    stand_in, _ = harmed(rig)
    stand_in.behaviour.save = "answer"

    planned, held = rig.plan("-o", "json"), rig.apply("-o", "json")
    saves, shown = stand_in.record.saves, brakes(rig)
    empty = release(rig, "  ")
    released = release(rig)
    applied = rig.apply()

    assert (planned.code, held.code, saves) == (4, 4, 1)
    assert "the brake is on" in line(planned, "bybit")["why"]
    assert shown == [VERSION, "tokyo-1"]
    assert (empty.code, released.code, brakes(rig)) == (64, 0, [])
    assert (applied.code, stand_in.record.saves) == (0, 2)


@pytest.mark.fatal_paths(1)
def test_the_brake_in_the_ledger_holds_for_other_servers_of_that_version_only(
    rig: Rig,
) -> None:
    harmed(rig)
    rig.settings(acceptVersions=["0.25.0"])
    same = rig.server("tokyo-2")
    other = rig.server("tokyo-3", behaviour=Behaviour(version="0.25.0"))
    rig.document("tokyo-2")
    rig.document("tokyo-3")

    ran = rig.apply("-o", "json")

    assert codes(ran) == {"tokyo-1": 4, "tokyo-2": 4, "tokyo-3": 0}
    assert (same.record.saves, other.record.saves) == (0, 1)


def test_releasing_a_brake_that_is_not_on_is_an_error(rig: Rig) -> None:
    rig.begin()

    assert release(rig).code == 1


@pytest.mark.fatal_paths(1)
@pytest.mark.parametrize("parallelism", ["4", "20"])
def test_of_twenty_servers_with_a_fatal_version_one_is_harmed(rig: Rig, parallelism: str) -> None:
    for name in TWENTY:
        rig.server(name, behaviour=Behaviour(save="fatal"))
        rig.document(name)
    rig.begin()

    ran = rig.apply("--parallelism", parallelism, "-o", "json")

    saved = [name for name in TWENTY if rig.servers[name].record.saves]
    assert ran.code == 8
    assert len(saved) == 1
    assert sum(stand_in.record.saves for stand_in in rig.servers.values()) == 1
    assert brakes(rig) == [VERSION, *saved]
    assert sorted(codes(ran).values()) == [4] * 19 + [8]
    assert all(
        stand_in.robots_running() == {1, 2}
        for name, stand_in in rig.servers.items()
        if name not in saved
    )


@pytest.mark.fatal_paths(1)
def test_a_scout_that_was_not_sent_proves_nothing(rig: Rig) -> None:
    """The first in turn is blocked (it changed meanwhile): the next one goes alone all the same."""
    first = rig.server(TWENTY[0])
    rig.document(TWENTY[0])
    for name in TWENTY[1:5]:
        rig.server(name, behaviour=Behaviour(save="fatal", login_delay=0.3))
        rig.document(name)
    rig.begin()

    typed = rig.watch.secret()
    with when_asked(first, LOOK, lambda: first.set_value("bybit_api_key", typed)):
        ran = rig.apply("--parallelism", "20", "-o", "json")

    assert ran.code == 8
    assert first.record.saves == 0
    assert sum(stand_in.record.saves for stand_in in rig.servers.values()) == 1


@pytest.mark.silence
def test_a_scout_that_fell_silent_proves_nothing(rig: Rig) -> None:
    for name in TWENTY[:4]:
        rig.server(name, behaviour=Behaviour(save="silent-before"))
        rig.document(name)
    rig.begin()

    ran = rig.apply("-o", "json")

    assert set(codes(ran).values()) == {6}
    windows = sorted(
        (
            min(r.at for r in stand_in.record.received if r.event == "exchange-config-save"),
            max(r.at for r in stand_in.record.received),
        )
        for stand_in in rig.servers.values()
    )
    # None was sent before the one before it was found out: one at a time.
    assert all(later[0] > earlier[0] + 0.5 for earlier, later in pairwise(windows))


@pytest.mark.fatal_paths(1)
def test_harm_on_one_server_outweighs_every_other_code(rig: Rig) -> None:
    rig.server("tokyo-1", behaviour=Behaviour(save="fatal"))
    rig.document("tokyo-1")
    foreign = rig.server("tokyo-2")
    foreign.set_value("bybit_api_key", rig.watch.secret())
    rig.document("tokyo-2")
    gone = rig.server("tokyo-3")
    rig.document("tokyo-3")
    gone.stop()
    rig.server("tokyo-4")
    rig.document("tokyo-4")
    rig.put("tokyo-4/bybit", apiKey=rig.watch.secret())
    rig.begin()

    ran = rig.apply("-o", "json")

    assert ran.code == 8
    assert codes(ran) == {"tokyo-1": 8, "tokyo-2": 4, "tokyo-3": 6, "tokyo-4": 5}


@contextmanager
def stopping_at_the_save(stand_in: StandInThread, *robots: int) -> Iterator[None]:
    """Let robots stop as soon as a save was received."""

    def stop() -> None:
        for robot in robots:
            stand_in.set_running(robot, running=False)

    with when_asked(stand_in, SAVE, stop):
        yield


def test_one_robot_of_two_that_stopped_is_a_warning_that_names_it(rig: Rig) -> None:
    stand_in = rig.server()
    rig.document()
    rig.begin()

    with stopping_at_the_save(stand_in, 2):
        ran = rig.apply()

    assert ran.code == 0, ran.text
    assert "warning: stopped meanwhile: robot arb (2)" in ran.out
    assert brakes(rig) == []


def test_the_only_robot_that_stopped_is_a_warning_too(rig: Rig) -> None:
    stand_in = rig.server(robots=[Robot(id=1, name="grid-btc", exchange="bybit")])
    rig.document()
    rig.begin()

    with stopping_at_the_save(stand_in, 1):
        ran = rig.apply("-o", "json")

    assert ran.code == 0
    assert [robot["id"] for robot in server(ran)["outcomes"][0]["robotsStopped"]] == [1]


def test_all_of_two_robots_stopped_is_harm_also_without_a_log_entry(rig: Rig) -> None:
    stand_in = rig.server()
    rig.document()
    rig.begin()

    with stopping_at_the_save(stand_in, 1, 2):
        ran = rig.apply("-o", "json")

    assert (ran.code, results(ran)) == (8, {"bybit": "harm"})
    assert brakes(rig) == [VERSION, "tokyo-1"]


def test_a_log_entry_of_the_fatal_path_is_harm_also_without_robots(rig: Rig) -> None:
    stand_in = rig.server(robots=[])
    rig.document()
    rig.begin()

    def note() -> None:
        stand_in.append_log("error", "MainProcessExceptionHandler", "Error: made up")

    with when_asked(stand_in, SAVE, note):
        ran = rig.apply()

    assert ran.code == 8, ran.text


def test_an_old_entry_of_the_fatal_path_is_no_harm(rig: Rig) -> None:
    stand_in = rig.server()
    stand_in.append_log("error", "MainProcessExceptionHandler", "Error: last week")
    rig.document()
    rig.begin()

    assert rig.apply().code == 0


@pytest.mark.silence
def test_a_silent_server_that_goes_down_leaves_the_outcome_unknown_and_the_brake_on(
    rig: Rig,
) -> None:
    stand_in = rig.server(behaviour=Behaviour(save="silent-after"))
    other = rig.server("tokyo-2", behaviour=Behaviour(login_delay=0.2))
    rig.document("tokyo-1")
    rig.document("tokyo-2")
    rig.begin()

    with going_down(stand_in, SAVE):
        ran = rig.apply("-o", "json")
    stand_in.start()
    shown, planned = brakes(rig), rig.plan("-o", "json")

    assert ran.code == 6
    assert results(ran) == {"bybit": "outcome unknown"}
    assert other.record.saves <= 1
    assert shown == [VERSION, "tokyo-1"]
    assert planned.code == 4
    assert statuses(planned) == {"bybit": "blocked"}


@pytest.mark.fatal_paths(1)
def test_a_fatal_delete_is_harm_too(rig: Rig) -> None:
    stand_in = rig.server()
    rig.document("tokyo-1", "bybit", "kucoin")
    rig.begin()
    rig.apply()
    stand_in.behaviour.delete = "fatal"
    absent = {"kucoin": {"state": "absent"}}
    rig.document("tokyo-1", "bybit", rotate=False, exchanges=absent)

    ran = rig.apply("-o", "json")

    assert (ran.code, results(ran)) == (8, {"kucoin": "harm"})
    assert stand_in.record.deletes == 1


def test_a_version_outside_the_tested_range_is_read_but_not_written(rig: Rig) -> None:
    stand_in = rig.server(behaviour=Behaviour(version="0.26.0"))
    rig.document()
    rig.begin()

    refused = rig.apply("-o", "json")
    saves = stand_in.record.saves
    rig.settings(acceptVersions=["0.26.0"])
    accepted = rig.apply()

    assert (refused.code, saves) == (4, 0)
    assert "outside the tested range" in line(refused, "bybit")["why"]
    assert (accepted.code, stand_in.record.saves) == (0, 1)


def test_a_brake_that_another_process_engaged_since_the_plan_is_heeded(rig: Rig) -> None:
    stand_in = rig.server()
    # Holds the pass in this process up until another process has done its harm.
    rig.settings(durations=DURATIONS | {"authenticate": "10m"})
    other = rig.server("tokyo-2", behaviour=Behaviour(login_delay=HELD))
    harming = rig.server("osaka-1")
    rig.document("tokyo-1")
    rig.document("tokyo-2")
    rig.begin()
    apart = rig.home / "apart"
    apart.mkdir()
    rig.document("osaka-1").rename(apart / "osaka-1.yaml")

    done: list[Ran] = []

    def first() -> None:
        with stopping_at_the_save(harming, 1, 2):
            done.append(rig.process("apply", str(apart), "--auto-approve"))
        other.behaviour.login_delay = 0.0

    with beside(stand_in, LOOK, first):
        ran = rig.apply("-o", "json")

    assert [one.code for one in done] == [8]
    assert ran.code == 4
    assert stand_in.record.saves == 0


@pytest.mark.fatal_paths(1)
def test_harm_is_told_as_harm_also_when_the_ledger_cannot_be_written(rig: Rig) -> None:
    rig.settings(durations=DURATIONS | {"ledgerBusy": "200ms"})
    stand_in = rig.server(behaviour=Behaviour(save="fatal"))
    rig.document()
    rig.begin()
    (file,) = (rig.home / "state").rglob("ledger.db")
    with closing(
        sqlite3.connect(file, isolation_level=None, check_same_thread=False, timeout=PATIENCE)
    ) as database:
        with when_asked(stand_in, SAVE, lambda: database.execute("begin immediate")):
            ran = rig.apply("-o", "json")
        database.execute("rollback")

    assert (ran.code, results(ran)) == (8, {"bybit": "harm"})
    assert server(ran)["failure"] is not None


@pytest.mark.parametrize("named", [True, False], ids=["with a cause", "from a script"])
def test_an_error_of_a_robots_own_script_is_not_ours(rig: Rig, *, named: bool) -> None:
    """A robot whose tick threw once a second ended half of all rotations with harm."""
    server = rig.server()
    rig.document()
    rig.begin()
    assert rig.apply().code == 0
    rig.rotate()

    with when_asked(server, SAVE, lambda: server.script_error("tick", named=named)):
        ran = rig.apply()

    assert ran.code == 0, ran.text
    assert rig.jtr("logs", "tokyo-1", "--from", str(rig.docs)).err.count("rejected key") == 0


def test_a_start_that_fails_after_a_reboot_leaves_no_other_robot_stopped(rig: Rig) -> None:
    robots = [Robot(1, "grid", "bybit", start="fails"), Robot(2, "arb", "okx")]
    (server,) = ready(rig, robots=robots)
    ask(rig, reboot=RESUME)

    ran = rig.apply()

    assert ran.code == 6, ran.text
    assert server.robots_running() == {2}
    assert "grid: it did not start" in ran.text


def test_a_server_that_falls_in_mid_save_is_waited_for(rig: Rig) -> None:
    """A restart takes seconds: the brake was on before it was back."""
    (server,) = ready(rig)
    rig.settings(durations=BRIEF | {"ready": "20s"}, soleWriter=True)
    keys = rig.rotate()

    with when_asked(server, SAVE, lambda: fall(server, 2.0)):
        ran = rig.apply()
    again = rig.apply()

    assert "the brake" not in ran.text + again.text
    assert server.robots_running() == {1, 2}
    assert again.code == 0, again.text
    assert set(server.values().values()) == set(keys.values())


def fall(server: StandInThread, down: float) -> None:
    """Let the process die now, and come back so many seconds later."""
    assert server._loop is not None
    asyncio.run_coroutine_threadsafe(server.server.crash(down), server._loop)


def test_a_server_that_is_down_hides_nothing_that_is_open(rig: Rig) -> None:
    (server,) = ready(rig)
    server.behaviour.invalidate = "lost before effect"
    ask(rig, cache={})
    assert rig.apply().code == 7
    server.stop()

    for ran in (
        rig.plan(),
        rig.plan("--detailed-exitcode"),
        rig.plan("--on-unreachable", "skip"),
        rig.apply(),
        rig.apply("--on-unreachable", "skip"),
    ):
        assert ran.code == 7, ran.text
        assert "in doubt" in ran.text
        assert "request resolve" in ran.text


def test_robots_that_are_owed_a_start_are_named_although_their_server_is_down(rig: Rig) -> None:
    robots = [Robot(1, "grid", "bybit", start="fails"), Robot(2, "arb", "okx")]
    (server,) = ready(rig, robots=robots)
    ask(rig, reboot=RESUME)
    assert rig.apply().code == 6
    server.stop()

    ran = rig.plan()

    assert ran.code == 6, ran.text
    assert "grid: it did not start" in ran.text


# ── how far it reaches ───────────────────────────────────────────────────────────────────────


def proven(rig: Rig, *others: str) -> StandInThread:
    """Return tokyo-1 of a fleet whose version has proven itself; all have new keys in Vault."""
    names = ("tokyo-1", "osaka-1", "osaka-2", *others)
    for name in names:
        rig.server(name)
        rig.document(name)
    rig.begin()
    assert rig.apply().code == 0
    for name in names:
        rig.rotate(name)
    return rig.servers["tokyo-1"]


@pytest.mark.fatal_paths(1)
def test_harm_on_one_server_of_a_proven_version_stops_that_one_alone(rig: Rig) -> None:
    evil = proven(rig)
    evil.behaviour.save = "fatal"

    ran = rig.apply("-o", "json")
    held, shown = rig.plan(), brakes(rig)
    evil.behaviour.save = "answer"
    released = release(rig, over="tokyo-1")
    again = rig.apply()

    assert codes(ran) == {"tokyo-1": 8, "osaka-1": 0, "osaka-2": 0}
    assert shown == ["tokyo-1"]
    assert "blocked: the brake is on for tokyo-1: robots stopped around a write" in held.out
    assert "`jtr ledger release-brake tokyo-1 --because TEXT`" in held.out
    assert "released: tokyo-1" in released.out
    assert (again.code, brakes(rig)) == (0, [])


@pytest.mark.silence
def test_silence_of_one_server_of_a_proven_version_stops_that_one_alone(rig: Rig) -> None:
    silent = proven(rig)
    silent.behaviour.save = "silent-after"

    with going_down(silent, SAVE):
        ran = rig.apply("-o", "json")

    assert codes(ran) == {"tokyo-1": 6, "osaka-1": 0, "osaka-2": 0}
    assert brakes(rig) == ["tokyo-1"]


@pytest.mark.fatal_paths(2)
def test_a_second_harmed_server_within_a_day_stops_the_version(rig: Rig) -> None:
    proven(rig, "kyoto-1").behaviour.save = "fatal"
    rig.servers["osaka-1"].behaviour.save = "fatal"

    assert rig.apply("--server", "tokyo-1").code == 8
    assert rig.apply("--server", "osaka-1").code == 8
    shown, ran = brakes(rig), rig.apply("-o", "json")

    assert shown == [VERSION, "tokyo-1", "osaka-1"]
    assert set(codes(ran).values()) == {4}
    assert rig.servers["osaka-2"].record.saves == rig.servers["kyoto-1"].record.saves == 1


@pytest.mark.fatal_paths(1)
def test_release_of_one_server_says_that_its_version_is_held_still(rig: Rig) -> None:
    harmed(rig)

    ran = release(rig, over="tokyo-1")

    assert "released: tokyo-1" in ran.out
    assert f"still on for JT-Trader {VERSION}" in ran.err
    assert brakes(rig) == [VERSION]


# ── harm that shows late ─────────────────────────────────────────────────────────────────────

WATCHED = DURATIONS | {"aftermath": "2s"}
FATAL = "MainProcessExceptionHandler"


def test_a_fatal_entry_that_the_log_shows_late_is_harm(rig: Rig) -> None:
    """It was readable 54 to 390 ms after the answer, and the one look came after 50."""
    rig.settings(durations=WATCHED)
    stand_in = rig.server(behaviour=Behaviour(log_lag=0.4))
    rig.document()
    rig.begin()

    with when_asked(stand_in, SAVE, lambda: stand_in.append_log("error", FATAL, "Error: made up")):
        ran = rig.apply("-o", "json")

    assert (ran.code, results(ran)) == (8, {"bybit": "harm"})
    assert brakes(rig) == [VERSION, "tokyo-1"]


def test_robots_on_their_way_up_again_are_no_harm(rig: Rig) -> None:
    rig.settings(durations=WATCHED)
    stand_in = rig.server()
    rig.document()
    rig.begin()

    def restart() -> None:
        loop = asyncio.get_running_loop()
        for number in (1, 2):
            stand_in.set_running(number, running=False)
            loop.call_later(0.5, stand_in.set_running, number, True)

    with when_asked(stand_in, SAVE, restart):
        ran = rig.apply("-o", "json")

    assert ran.code == 0, ran.text
    assert brakes(rig) == []


@pytest.mark.silence
def test_an_unanswered_write_whose_harm_shows_late_is_harm(rig: Rig) -> None:
    rig.settings(durations=WATCHED)
    stand_in = rig.server(robots=[], behaviour=Behaviour(log_lag=1.5, save="silent-after"))
    rig.document()
    rig.begin()

    with when_asked(stand_in, SAVE, lambda: stand_in.append_log("error", FATAL, "Error: made up")):
        ran = rig.apply("-o", "json")

    assert (ran.code, results(ran)) == (8, {"bybit": "harm"})


@pytest.mark.parametrize("lag", [0.0, 0.4], ids=["at once", "late"])
@pytest.mark.parametrize("nth", [1, 2, 3])
def test_harm_of_each_of_several_writes_is_found(rig: Rig, nth: int, lag: float) -> None:
    """One last look serves all that follow the first one, and nothing is lost by it."""
    rig.settings(durations=WATCHED)
    stand_in = rig.server(behaviour=Behaviour(log_lag=lag))
    rig.document("tokyo-1", "bybit", "kucoin", "okx")
    rig.begin()

    def note() -> None:
        stand_in.append_log("error", FATAL, "Error: made up")

    with when_asked(stand_in, SAVE, note, nth=nth):
        ran = rig.apply("-o", "json")

    assert ran.code == 8, ran.text
    assert list(results(ran).values()).count("harm") == 1
    assert brakes(rig) == [VERSION, "tokyo-1"]


def test_a_server_that_falls_while_it_is_watched_is_waited_for(rig: Rig) -> None:
    rig.settings(durations=WATCHED | {"ready": "20s"})
    stand_in = rig.server()
    rig.document()
    rig.begin()

    def falling() -> None:
        asyncio.get_running_loop().call_later(
            0.5, lambda: asyncio.ensure_future(stand_in.server.crash(1.0))
        )

    with when_asked(stand_in, SAVE, falling):
        ran = rig.apply()

    assert ran.code == 0, ran.text
    assert stand_in.record.crashes == 1
    assert brakes(rig) == []
