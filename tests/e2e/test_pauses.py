"""What an operator paused is held back by every command, not by the controller alone."""

import json
from contextlib import ExitStack
from functools import partial

import pytest

from reconciler.model.timestamps import spelled
from reconciler.sandbox.jt_trader.server import Robot, StandInThread
from tests.e2e.meanwhile import LOOK, when_asked
from tests.e2e.pausing import OTHER_TOLD, TOLD, UNTIL, go_on, pause
from tests.e2e.terminal import Command
from tests.e2e.test_request_ledger import left_stopped
from tests.e2e.test_requests import LEAVE, ask, moment, ready, standings
from tests.support.rig import Rig


def test_every_command_shows_a_pause_and_apply_does_nothing_there(rig: Rig) -> None:
    (server,) = ready(rig)
    rig.rotate()
    pause(rig, server)
    saves = server.record.saves

    shown = [rig.plan(), rig.plan("--recorded"), rig.apply()]
    shown.append(rig.jtr("status", "--live", "--from", str(rig.docs)))
    status = rig.jtr("status")

    assert [ran.code for ran in shown] == [0, 0, 0, 0], shown
    for ran in shown:
        assert TOLD in " ".join(ran.out.split()), ran.text
    assert f"paused by ann (page) until {spelled(UNTIL)}" in " ".join(status.out.split())
    assert server.record.saves == saves

    go_on(rig, server)
    assert rig.apply().code == 0
    assert server.record.saves == saves + 1, "and afterwards it goes on"


@pytest.mark.parametrize("kind", ["write", "reboot"])
def test_a_pause_that_came_after_the_plan_stops_what_was_planned(rig: Rig, kind: str) -> None:
    (server,) = ready(rig)
    if kind == "write":
        rig.rotate()
    else:
        ask(rig, reboot={**LEAVE, "bootedAfter": moment()})
    saves, reboots = server.record.saves, server.record.reboots

    with when_asked(server, LOOK, lambda: pause(rig, server)):  # the look of the plan
        ran = rig.apply()

    assert ran.code == 4, ran.text
    assert "suspended meanwhile by ann (page)" in ran.text
    assert (server.record.saves, server.record.reboots) == (saves, reboots)
    assert rig.plan().code == 0, "and nothing is in doubt"


def test_robots_are_not_started_on_a_server_that_was_paused_while_a_person_thought(
    rig: Rig,
) -> None:
    server = left_stopped(rig)
    words = ("request", "resume", "tokyo-1", "--from", str(rig.docs))
    assert "arb: it did not start" in rig.plan().text

    with Command(rig, *words, terminal=True) as command:
        command.expect("arb (2)?")
        pause(rig, server)
        command.answer("arb (2)?", "y")
        code = command.ended()

    assert code == 4, command.text
    assert "suspended meanwhile by ann (page)" in command.text
    assert server.robots_running() == {1, 3}
    assert "arb: it did not start" in rig.plan().text, "that still waits for a person"
    go_on(rig, server)
    assert rig.jtr(*words, "--auto-approve").code == 0, "it is owed as before"
    assert server.robots_running() == {1, 2, 3}


def test_a_pause_between_two_restarts_spares_the_robots_that_are_left(rig: Rig) -> None:
    robots = [Robot(number, f"grid-{number}", "bybit", running=True) for number in (1, 2, 3)]
    (server,) = ready(rig, robots=robots)
    rig.document("tokyo-1", "bybit", robots={"onCredentialChange": "restart"})

    with when_asked(server, "run-background-job-request", lambda: pause(rig, server)):
        ran = rig.apply()

    assert ran.code == 4, ran.text
    assert "suspended meanwhile by ann (page)" in ran.text
    assert "restarted grid-1; before grid-2 suspended meanwhile by ann (page)" in ran.text
    stops = [one for one in server.record.received if one.event == "stop-background-job-request"]
    assert len(stops) == 1
    assert server.robots_running() == {1, 2, 3}, "the one that was stopped got its start"


# ── accounts of one address share a process ──────────────────────────────────────────────────


@pytest.mark.parametrize("kind", ["reboot", "cache"])
def test_a_request_waits_for_a_paused_account_of_its_process_and_no_other_server_does(
    rig: Rig, kind: str
) -> None:
    shared, other = ready(rig, "tokyo-1", "tokyo-2")
    for name in ("tokyo-1", "tokyo-2"):
        ask(rig, name, **{kind: LEAVE if kind == "reboot" else {}})
    free = json.loads(rig.plan("-o", "json").out)["planId"]
    pause(rig, shared, account="42")

    shown = [rig.plan(), rig.plan("--recorded"), rig.jtr("request", "list", str(rig.docs))]
    told = rig.plan("-o", "json")
    explained = rig.jtr("explain", f"tokyo-1/{kind}", "--from", str(rig.docs))
    stands = standings(told)
    ran = rig.apply("--expect", free)

    assert [one.code for one in shown] == [0, 0, 0], shown
    for one in (*shown, explained, ran):
        assert OTHER_TOLD in " ".join(one.out.split()), one.text
    assert "no other account of its process is paused" in " ".join(explained.out.split())
    assert set(stands.values()) == {"held back"}
    assert json.loads(told.out)["planId"] == free, "a pause is no other wish"
    assert ran.code == 0, ran.text
    assert (done(shared), done(other)) == (0, 1)

    go_on(rig, shared, account="42")
    assert rig.apply().code == 0
    assert (done(shared), done(other)) == (1, 1)


def done(server: StandInThread) -> int:
    return server.record.reboots + server.record.invalidations


def test_what_was_stopped_before_anything_was_sent_keeps_no_other_server_waiting(rig: Rig) -> None:
    servers = ready(rig, "tokyo-1", "tokyo-2", "tokyo-3")
    for name in ("tokyo-1", "tokyo-2", "tokyo-3"):
        ask(rig, name, reboot=LEAVE)
    first: list[StandInThread] = []

    def begun(server: StandInThread) -> None:
        if not first:
            first.append(server)
            pause(rig, server, account="42")

    with ExitStack() as stack:
        for one in servers:  # whichever has its turn first; the plan's look came before
            stack.enter_context(when_asked(one, LOOK, partial(begun, one), nth=2))
        ran = rig.apply()

    assert ran.code == 4, ran.text
    assert ran.text.count(OTHER_TOLD) == 1
    assert ": not attempted: " not in ran.text
    assert [one.record.reboots for one in servers] == [int(one not in first) for one in servers]


# ── a server that moves takes its pause along ────────────────────────────────────────────────


def moved(rig: Rig, server: StandInThread) -> str:
    """Write a new key and another address of the server into its document; return the address."""
    rig.rotate()
    url = server.url.replace("127.0.0.1", "localhost")
    rig.document("tokyo-1", "bybit", rotate=False, supervised=True, url=url)
    return url


def test_a_pause_follows_its_server_to_another_address(rig: Rig) -> None:
    (server,) = ready(rig)
    saves = server.record.saves
    pause(rig, server)
    url = moved(rig, server)

    waits = rig.plan()
    ran = [rig.apply("--approve-target-change", "tokyo-1"), rig.apply()]
    status = rig.jtr("status")

    assert waits.code == 4
    assert "its address changed" in waits.text
    for one in ran:
        assert one.code == 0, one.text
        assert TOLD in " ".join(one.out.split())
    assert server.record.saves == saves
    assert "tokyo-1 is paused by ann (page)" in status.out

    go_on(rig, server, url=url)
    assert "is paused" not in rig.jtr("status").out
    assert rig.apply().code == 0
    assert server.record.saves == saves + 1


def test_a_pause_that_comes_while_its_server_moves_is_not_lost(rig: Rig) -> None:
    (server,) = ready(rig)
    saves = server.record.saves
    moved(rig, server)

    with when_asked(server, LOOK, lambda: pause(rig, server)):  # the ledger knows the old address
        ran = rig.apply("--approve-target-change", "tokyo-1")

    assert ran.code == 4, ran.text
    assert "suspended meanwhile by ann (page)" in ran.text
    assert server.record.saves == saves
    assert TOLD in " ".join(rig.plan().out.split())
