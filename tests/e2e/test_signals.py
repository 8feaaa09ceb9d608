"""A signal never cuts a write in two unnoticed: it is finished and recorded, or repaired later."""

import json
import signal
import threading
import time

import pytest

from reconciler.drivers.jt_trader.requests import STOP
from reconciler.sandbox.jt_trader.server import Behaviour, Robot, StandInThread
from tests.e2e.answers import results, statuses
from tests.e2e.meanwhile import DELETE, SAVE, when_asked
from tests.e2e.terminal import PATIENCE, Command
from tests.e2e.test_requests import ready
from tests.support.durations import DURATIONS
from tests.support.processes import until
from tests.support.rig import Rig

SIGNALS = pytest.mark.parametrize(
    ("number", "code"),
    [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)],
    ids=["int", "term", "hup"],
)


@SIGNALS
def test_a_signal_during_plan_ends_it_at_once(rig: Rig, number: signal.Signals, code: int) -> None:
    rig.settings(durations=DURATIONS | {"authenticate": "10m"})
    stand_in = rig.server(behaviour=Behaviour(login="silent"))
    rig.document()

    with Command(rig, "plan", str(rig.docs)) as command:
        until(lambda: stand_in.record.handshakes)
        command.signal(number)
        ended = command.ended()
        text = command.text

    assert ended == code
    assert "Traceback" not in text


def slow_pair(rig: Rig) -> tuple[StandInThread, StandInThread]:
    """Return two servers, one with two exchanges."""
    rig.settings(durations=DURATIONS | {"request": "10m"})
    one = rig.server("tokyo-1")
    two = rig.server("tokyo-2")
    rig.document("tokyo-1", "bybit", "okx")
    rig.document("tokyo-2")
    rig.begin()
    return one, two


@SIGNALS
def test_a_write_in_flight_is_finished_and_recorded_and_no_other_is_begun(
    rig: Rig, number: signal.Signals, code: int
) -> None:
    one, two = slow_pair(rig)
    args = ("apply", str(rig.docs), "--auto-approve", "-o", "json")

    with (
        Command(rig, *args) as command,
        when_asked(one, SAVE, lambda: command.signal(number), two),
    ):
        ended = command.ended()
        text = command.text

    found = json.loads(text[text.index("{") : text.rindex("}") + 1])
    outcomes = [outcome["result"] for server in found["servers"] for outcome in server["outcomes"]]
    assert ended == code, text
    assert found["exitCode"] == code
    assert sorted(outcomes) == ["done", "not attempted", "not attempted"]
    assert one.record.saves + two.record.saves == 1

    rig.settings()
    later = rig.apply("-o", "json")
    assert later.code == 0
    assert one.record.saves + two.record.saves == 3


def test_the_second_signal_ends_at_once_and_the_next_apply_repairs(rig: Rig) -> None:
    rig.settings(durations=DURATIONS | {"request": "10m"})
    stand_in = rig.server(behaviour=Behaviour(save="silent-before"))
    rig.document()
    rig.begin()

    with Command(rig, "apply", str(rig.docs), "--auto-approve") as command:
        until(lambda: stand_in.record.saves)
        command.signal(signal.SIGTERM)
        time.sleep(0.3)
        still = command.process.poll()
        command.signal(signal.SIGTERM)
        ended = command.ended()
        text = command.text

    stand_in.behaviour.save = "answer"
    rig.settings()
    planned = rig.plan("-o", "json")
    repaired = rig.apply("-o", "json")

    assert (still, ended) == (None, 143)
    assert "Traceback" not in text
    assert statuses(planned) == {"bybit": "write"}
    assert "an earlier write did not finish" in planned.out
    assert (repaired.code, results(repaired)) == (0, {"bybit": "done"})
    assert sorted(stand_in.values()) == ["bybit_api_key", "bybit_api_secret"]


@pytest.mark.fatal_paths(1)
def test_harm_outweighs_a_signal(rig: Rig) -> None:
    rig.settings(durations=DURATIONS | {"request": "1500ms"})
    stand_in = rig.server(behaviour=Behaviour(save="fatal"))
    rig.document()
    rig.begin()

    with (
        Command(rig, "apply", str(rig.docs), "--auto-approve") as command,
        when_asked(stand_in, SAVE, lambda: command.signal(signal.SIGTERM)),
    ):
        ended = command.ended()

    assert ended == 8


def test_a_signal_while_another_process_holds_the_lease_sends_nothing(rig: Rig) -> None:
    # The thread that waits for the lease is waited for, also after the second signal.
    rig.settings(durations=DURATIONS | {"request": "10m", "leaseWait": "10s"})
    stand_in = rig.server(behaviour=Behaviour(save="silent-before"))
    rig.document()
    rig.begin()
    args = ("apply", str(rig.docs), "--auto-approve")

    with Command(rig, *args) as first:
        until(lambda: stand_in.record.saves)
        with Command(rig, *args) as second:
            until(lambda: stand_in.record.events("logs-list-request") >= 3)
            second.signal(signal.SIGTERM)
            second.signal(signal.SIGTERM)
            ended = second.ended()
        first.process.kill()
        first.ended()

    assert ended == 143
    assert stand_in.record.saves == 1


def test_a_delete_that_a_signal_stops_half_way_is_told_and_finished_later(rig: Rig) -> None:
    rig.settings(durations=DURATIONS | {"request": "10m"})
    stand_in = rig.server(robots=[])
    rig.document("tokyo-1", "bybit", "okx")
    rig.begin()
    rig.apply()
    rig.document("tokyo-1", "bybit", rotate=False, exchanges={"okx": {"state": "absent"}})
    args = ("apply", str(rig.docs), "--auto-approve", "-o", "json")

    with (
        Command(rig, *args) as command,
        when_asked(stand_in, DELETE, lambda: command.signal(signal.SIGTERM)),
    ):
        ended = command.ended()
        text = command.text

    deletes = stand_in.record.deletes
    later = rig.apply("-o", "json")

    assert (ended, deletes) == (143, 1)
    assert "stopped half-way" in text
    assert (later.code, results(later)) == (0, {"okx": "done"})
    assert stand_in.record.deletes == 3


def test_a_terminal_that_is_closed_leaves_no_robot_stopped(rig: Rig) -> None:
    robots = [Robot(number, f"grid-{number}", "bybit", running=True) for number in (1, 2, 3)]
    (server,) = ready(rig, robots=robots)
    rig.document("tokyo-1", "bybit", robots={"onCredentialChange": "restart"})
    asked, closed = threading.Event(), threading.Event()

    def held() -> None:
        asked.set()
        closed.wait(PATIENCE)

    args = ("apply", str(rig.docs), "--auto-approve")
    with Command(rig, *args, terminal=True) as command, when_asked(server, STOP.event, held):
        assert asked.wait(PATIENCE)
        command.hang_up()
        closed.set()
        ended = command.ended()

    stops = server.record.events(STOP.event)
    assert (ended, stops) == (129, 1)
    assert server.robots_running() == {1, 2, 3}


def test_who_ignores_hang_ups_goes_on(rig: Rig) -> None:
    """As under nohup."""
    one, two = slow_pair(rig)
    args = ("apply", str(rig.docs), "--auto-approve")

    with (
        Command(rig, *args, before=("nohup",)) as command,
        when_asked(one, SAVE, lambda: command.signal(signal.SIGHUP), two),
    ):
        ended = command.ended()

    assert ended == 0, command.text
    assert one.record.saves + two.record.saves == 3
