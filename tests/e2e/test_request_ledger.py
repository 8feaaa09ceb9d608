"""`jtr request list|resolve|resume` and `jtr history`: what people see and say of requests."""

import json
from contextlib import closing
from datetime import UTC, datetime
from typing import Any

import pytest

from reconciler.model.target import Target
from reconciler.model.timestamps import stamp
from reconciler.model.values import replace
from reconciler.sandbox.jt_trader.server import Behaviour, Robot, StandInThread
from tests.crash.test_one_shot_kills import opened
from tests.e2e.answers import READS
from tests.e2e.terminal import Command
from tests.e2e.test_requests import RESUME, ask, kinds, moment, ready
from tests.support.durations import BRIEF
from tests.support.rig import Ran, Rig


def listed(rig: Rig, *args: str) -> Ran:
    """Run `jtr request list` on all documents."""
    return rig.jtr("request", "list", str(rig.docs), *args)


def row(ran: Ran, name: str = "tokyo-1") -> dict[str, Any]:
    """Return one server of a list as JSON."""
    found = json.loads(ran.out)
    assert found["exitCode"] == ran.code
    return next(one for one in found["servers"] if one["server"] == name)


def resume(rig: Rig, *args: str, name: str = "tokyo-1") -> Ran:
    """Run `jtr request resume` without being asked."""
    return rig.jtr("request", "resume", name, "--from", str(rig.docs), *args)


def in_doubt(rig: Rig) -> tuple[StandInThread, str]:
    """A server whose invalidation is in doubt, and the instant of it."""
    (stand_in,) = ready(rig)
    stand_in.behaviour.invalidate = "silent after effect"
    instant = moment()
    ask(rig, cache={"invalidatedAfter": instant})
    assert rig.apply().code == 7
    return stand_in, instant


def left_stopped(rig: Rig, **changes: Any) -> StandInThread:
    """A server whose second robot did not start after our reboot; it would start now."""
    stuck = Robot(2, "arb", "okx", start="fails")
    rig.settings(durations=BRIEF, soleWriter=True)
    quick = Behaviour(ping_interval=0.1, ping_timeout=0.6)
    robots = [Robot(1, "grid-btc", "bybit"), stuck, Robot(3, "mm", "okx")]
    stand_in = rig.server(behaviour=quick, robots=robots)
    stuck.running = True
    rig.document("tokyo-1", "bybit", supervised=True)
    rig.begin()
    ask(rig, reboot=RESUME)
    ran = rig.apply()
    assert ran.code == 6, ran.text
    assert stand_in.robots_running() == {1, 3}
    for name, value in ({"start": "ok"} | changes).items():
        setattr(stuck, name, value)
    return stand_in


# ── list ─────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.silence
def test_a_list_contacts_no_server_and_no_vault(rig: Rig) -> None:
    stand_in, instant = in_doubt(rig)
    before = len(stand_in.record.handshakes)
    nowhere = {"VAULT_ADDR": "http://127.0.0.1:1", "VAULT_TOKEN": ""}

    ran = rig.jtr("request", "list", "--from", str(rig.docs), environment=nowhere)

    assert ran.code == 7, ran.text
    command = f"jtr request resolve tokyo-1 invalidate-cache {instant}"
    assert f"{command} --done --because TEXT\n" in ran.out
    assert f"{command} --not-done --because TEXT\n" in ran.out
    assert "apply " in ran.out
    assert "no answer was noted" in ran.out
    assert len(stand_in.record.handshakes) == before


def test_a_list_shows_where_each_request_stands(rig: Rig) -> None:
    ready(rig)
    ask(rig, reboot=RESUME | {"bootedAfter": moment(hours=-2)}, cache={})

    fresh = listed(rig, "-o", "json")
    assert rig.apply().code == 0
    after = listed(rig, "-o", "json")

    stands = {one["kind"]: one["standing"] for one in row(fresh)["requests"]}
    assert (fresh.code, stands) == (0, {"invalidate-cache": "due", "reboot": "scheduled"})
    stands = {one["kind"]: one["standing"] for one in row(after)["requests"]}
    assert (after.code, stands) == (0, {"invalidate-cache": "done", "reboot": "scheduled"})
    (handled,) = row(after)["handled"]
    assert (handled["kind"], handled["stage"]) == ("invalidate-cache", "done")
    assert "handled, newest first" in listed(rig).out


def test_an_expired_request_is_4(rig: Rig) -> None:
    ready(rig)
    ask(rig, cache={"expiresAfter": "1ms"})

    ran = listed(rig)

    assert ran.code == 4
    assert "expired, NOT done" in ran.out


def test_robots_that_are_owed_are_named_with_what_to_type(rig: Rig) -> None:
    left_stopped(rig)

    ran, json_ran = listed(rig), listed(rig, "-o", "json")

    assert (ran.code, json_ran.code) == (4, 4)
    assert "grid-btc (1), arb (2), mm (3)" in ran.out
    assert "arb: it did not start" in ran.out
    assert "jtr request resume tokyo-1\n" in ran.out
    assert row(json_ran)["robotsOwed"]["finding"] == "arb: it did not start"


@pytest.mark.silence
def test_what_is_open_is_shown_also_of_servers_that_left_the_documents(rig: Rig) -> None:
    stand_in, _ = in_doubt(rig)
    rig.server("osaka-1")
    rig.document("osaka-1", "bybit")
    (rig.docs / "tokyo-1.yaml").unlink()

    ran = listed(rig, "-o", "json")

    assert ran.code == 7
    assert row(ran)["declared"] is False
    assert row(ran)["requests"][0]["standing"] == "in doubt"
    assert "in no document here" in listed(rig).out
    assert stand_in.record.invalidation_requests == 1


@pytest.mark.silence
def test_a_request_that_was_removed_from_its_document_stays_in_doubt(rig: Rig) -> None:
    in_doubt(rig)
    ask(rig)

    assert listed(rig).code == 7


def test_without_a_ledger_the_documents_are_shown(rig: Rig) -> None:
    rig.server()
    rig.document("tokyo-1", "bybit", supervised=True)
    ask(rig, cache={})

    ran = listed(rig)

    assert ran.code == 4
    assert "no ledger that would remember it" in ran.out


def test_nothing_asked_is_nothing_to_see(rig: Rig) -> None:
    ready(rig)

    assert (listed(rig).code, listed(rig).out) == (0, "No requests.\n")
    assert rig.jtr("request", "list", str(rig.docs), "--from", ".").code == 64


# ── resolve ──────────────────────────────────────────────────────────────────────────────────


def resolve(rig: Rig, *args: str) -> Ran:
    """Run `jtr request resolve` where no Vault answers."""
    nowhere = {"VAULT_ADDR": "http://127.0.0.1:1", "VAULT_TOKEN": ""}
    return rig.jtr("request", "resolve", *args, environment=nowhere)


@pytest.mark.silence
def test_resolving_is_kept_with_its_reason_and_says_what_follows(rig: Rig) -> None:
    stand_in, instant = in_doubt(rig)
    before = len(stand_in.record.handshakes)

    ran = resolve(
        rig, "tokyo-1", "invalidate-cache", instant, "--done", "--because", "the cache is empty"
    )
    shown = row(listed(rig, "-o", "json"))

    assert ran.code == 0, ran.text
    assert "nothing is ever sent again" in ran.out
    assert "jtr request invalidate-cache tokyo-1 --reason TEXT" in ran.out
    assert [one["standing"] for one in shown["requests"]] == ["done"]
    assert shown["handled"][0]["evidence"] == "a person said so: the cache is empty"
    assert shown["handled"][0]["closedBy"].startswith("request resolve ")
    assert len(stand_in.record.handshakes) == before
    again = resolve(rig, "tokyo-1", "invalidate-cache", instant, "--done", "--because", "twice")
    assert again.code == 1
    assert "is not in doubt" in again.err


@pytest.mark.silence
@pytest.mark.parametrize(
    ("args", "code", "said"),
    [
        (("tokyo-1", "invalidate-cache", "INSTANT", "--because", "x"), 64, "--not-done"),
        (
            ("tokyo-1", "invalidate-cache", "INSTANT", "--done", "--not-done", "--because", "x"),
            64,
            "--not-done",
        ),
        (("tokyo-1", "invalidate-cache", "INSTANT", "--done"), 64, "--because is empty"),
        (("tokyo-1", "invalidate-cache", "INSTANT", "--done", "--because", "  "), 64, "empty"),
        (("tokyo-1", "invalidate-cache", "INSTANT", "--done", "--because", "a\nb"), 64, "line"),
        (("tokyo-9", "invalidate-cache", "INSTANT", "--done", "--because", "x"), 64, "tokyo-1"),
        (("tokyo-1", "restart", "INSTANT", "--done", "--because", "x"), 64, "reboot"),
        (("tokyo-1", "invalidate-cache", "yesterday", "--done", "--because", "x"), 64, "INSTANT"),
        (("tokyo-1", "reboot", "INSTANT", "--done", "--because", "x"), 1, "not in doubt"),
        (
            ("tokyo-1", "invalidate-cache", "2026-11-22T09:00:00Z", "--done", "--because", "x"),
            1,
            "not in doubt",
        ),
    ],
)
def test_a_mistaken_word_changes_nothing(
    rig: Rig, args: tuple[str, ...], code: int, said: str
) -> None:
    _, instant = in_doubt(rig)

    ran = resolve(rig, *(instant if one == "INSTANT" else one for one in args))

    assert ran.code == code, ran.text
    assert said in ran.text
    assert listed(rig).code == 7


@pytest.mark.silence
def test_a_reason_that_looks_like_a_secret_is_refused_and_not_echoed(rig: Rig) -> None:
    _, instant = in_doubt(rig)
    secret = rig.watch.secret("base62")

    ran = resolve(rig, "tokyo-1", "invalidate-cache", instant, "--done", "--because", secret)

    assert ran.code == 64
    assert secret not in ran.text
    assert listed(rig).code == 7


@pytest.mark.silence
def test_resolving_a_reboot_names_the_robots_and_starts_none(rig: Rig) -> None:
    (stand_in,) = ready(rig)
    stand_in.behaviour.reboot = "never comes back"
    instant = moment()
    ask(rig, reboot=RESUME | {"bootedAfter": instant})
    assert rig.apply().code == 7

    ran = resolve(rig, "tokyo-1", "reboot", instant, "--done", "--because", "its page is back")

    assert ran.code == 0, ran.text
    assert "were to be started again, but are not started by this: grid-btc (1), arb (2)" in ran.out
    stand_in.behaviour.reboot = "normal"
    stand_in.come_back()
    assert rig.apply().code == 0
    assert kinds(stand_in) == ["save", "reboot"]


# ── resume ───────────────────────────────────────────────────────────────────────────────────


def test_nothing_owed_is_said(rig: Rig) -> None:
    (stand_in,) = ready(rig)
    before = len(stand_in.record.handshakes)

    ran = resume(rig, "--auto-approve")

    assert (ran.code, ran.out) == (0, "No robot of tokyo-1 is owed a start.\n")
    assert len(stand_in.record.handshakes) == before


def test_a_person_has_the_rest_started_and_nothing_is_owed_afterwards(rig: Rig) -> None:
    stand_in = left_stopped(rig)
    since = len(stand_in.record.received)

    ran = resume(rig, "--auto-approve")

    assert ran.code == 0, ran.text
    assert stand_in.robots_running() == {1, 2, 3}
    asked = {(one.command, one.event) for one in stand_in.record.received[since:]}
    assert {command for command, _ in asked} == {"request"}
    assert {event for _, event in asked} == READS | {"run-background-job-request"}
    last = stand_in.record.starts[-1]
    assert (last.robot, last.registered, last.overlapping) == (2, True, False)
    assert listed(rig).code == 0
    assert rig.apply().code == 0


def test_a_finding_the_time_and_what_others_did_are_no_obstacle(rig: Rig) -> None:
    stand_in = left_stopped(rig)
    stand_in.restart(down=0.0)
    stand_in.set_running(3, False)
    stand_in.set_running(1, False)

    assert rig.apply().code == 4
    ran = resume(rig, "--auto-approve")

    assert ran.code == 0, ran.text
    assert stand_in.robots_running() == {1, 2, 3}


def test_one_that_fails_again_stays_owed_and_harms_no_other(rig: Rig) -> None:
    stand_in = left_stopped(rig, start="fails")
    stand_in.set_running(3, False)
    assert rig.plan().code == 4  # somebody was here and left: nobody is registered

    ran = resume(rig, "--auto-approve")

    assert ran.code == 6
    assert "arb: it did not start" in ran.out
    assert stand_in.robots_running() == {1, 3}
    assert listed(rig).code == 4


@pytest.mark.silence
def test_after_a_start_without_answer_no_further_one_is_sent(rig: Rig) -> None:
    stand_in = left_stopped(rig, start="hangs")
    stand_in.set_running(3, False)
    before = len(stand_in.record.starts)

    ran = resume(rig, "--auto-approve")

    assert ran.code == 6
    assert [start.robot for start in stand_in.record.starts[before:]] == [2]
    assert "arb: its start was not answered" in ran.out
    assert "mm: no further start is sent" in ran.out


def test_robots_that_run_already_are_only_noted(rig: Rig) -> None:
    stand_in = left_stopped(rig)
    stand_in.set_running(2, True)
    before = len(stand_in.record.starts)

    ran = resume(rig, "--auto-approve")

    assert ran.code == 0, ran.text
    assert "none is owed a start any more" in ran.out
    assert len(stand_in.record.starts) == before
    assert listed(rig).code == 0


def test_a_robot_that_is_gone_keeps_no_other_from_its_start(rig: Rig) -> None:
    stand_in = left_stopped(rig)
    stand_in.set_running(3, False)
    robots = stand_in.server._state.robots
    robots.remove(next(robot for robot in robots if robot.id == 2))

    ran = resume(rig, "--auto-approve")

    assert ran.code == 6
    assert "arb: it is not on the server any more" in ran.out
    assert stand_in.robots_running() == {1, 3}


def test_a_terminal_names_the_robots_and_asks(rig: Rig) -> None:
    stand_in = left_stopped(rig)

    with Command(
        rig, "request", "resume", "tokyo-1", "--from", str(rig.docs), terminal=True
    ) as command:
        command.answer("tokyo-1: start robots that trade: arb (2)?", "n")
        assert command.ended() == 0, command.text
    assert stand_in.robots_running() == {1, 3}
    with Command(
        rig, "request", "resume", "tokyo-1", "--from", str(rig.docs), terminal=True
    ) as command:
        command.answer("arb (2)?", "y")
        assert command.ended() == 0, command.text
    assert stand_in.robots_running() == {1, 2, 3}


def test_a_yes_to_one_robot_starts_no_other(rig: Rig) -> None:
    """While it was asked another person left that one stopped, and a restart another one."""
    stand_in = left_stopped(rig)

    with Command(
        rig, "request", "resume", "tokyo-1", "--from", str(rig.docs), terminal=True
    ) as command:
        command.expect("arb (2)?")
        with closing(opened(rig)) as ledger:
            (server,) = ledger.servers()
            book = ledger.requests(server.uid)
            halt = book.load().halt
            assert halt is not None
            book.release()
            mm = next(robot for robot in halt.robots if robot.id == 3)
            book.halt(replace(halt, robots=(mm,), at=stamp(datetime.now(UTC))))
        stand_in.set_running(3, False)
        command.answer("arb (2)?", "y")
        assert command.ended() == 4, command.text
    assert "other robots are owed a start than were planned" in command.text
    assert stand_in.robots_running() == {1}


@pytest.mark.parametrize(
    ("args", "said"),
    [
        ((), "--auto-approve"),
        (("--leave",), "--because is empty"),
        (("--because", "x", "--auto-approve"), "--leave"),
    ],
)
def test_a_mistaken_resume_contacts_nothing(rig: Rig, args: tuple[str, ...], said: str) -> None:
    stand_in = left_stopped(rig)
    before = len(stand_in.record.handshakes)

    ran = resume(rig, *args)

    assert ran.code == 64
    assert said in ran.err
    assert len(stand_in.record.handshakes) == before
    assert resume(rig, "--auto-approve", name="tokyo-9").code == 64


def test_a_brake_is_said_and_holds_no_start(rig: Rig) -> None:
    stand_in = left_stopped(rig)
    ledger = opened(rig)
    osaka = ledger.pin(Target("https://osaka-1.internal", "0"), "osaka-1")
    ledger.engage_brake("0.24.19", osaka, "robots stopped around a write")
    ledger.close()

    ran = resume(rig, "--auto-approve")

    assert "the brake is on for JT-Trader 0.24.19: robots stopped around a write" in ran.err
    assert stand_in.robots_running() == {1, 2, 3}


def test_a_suspended_server_gets_no_start(rig: Rig) -> None:
    stand_in = left_stopped(rig)
    ask(rig, suspend={"reason": "maintenance", "by": "desk"})

    ran = resume(rig, "--auto-approve")

    assert ran.code == 4
    assert "suspended by desk: maintenance" in ran.err
    assert stand_in.robots_running() == {1, 3}


def test_robots_may_be_left_stopped_for_good(rig: Rig) -> None:
    stand_in = left_stopped(rig)
    before = len(stand_in.record.handshakes)
    nowhere = {"VAULT_ADDR": "http://127.0.0.1:1", "VAULT_TOKEN": ""}
    words = ("request", "resume", "tokyo-1", "--leave", "--because", "arb is retired")

    ran = rig.jtr(*words, environment=nowhere)
    again = rig.jtr(*words, environment=nowhere)

    assert (ran.code, again.code) == (0, 0), ran.text
    assert len(stand_in.record.handshakes) == before
    assert listed(rig).code == 0
    assert "arb is retired" in rig.jtr("history").out
    assert rig.apply().code == 0
    assert stand_in.robots_running() == {1, 3}


# ── status and history ───────────────────────────────────────────────────────────────────────


@pytest.mark.silence
def test_status_shows_what_is_in_doubt_and_what_is_owed(rig: Rig) -> None:
    _, instant = in_doubt(rig)

    ran, as_json = rig.jtr("status"), rig.jtr("status", "-o", "json")
    live = rig.jtr("status", "--live", "--from", str(rig.docs))

    assert (ran.code, as_json.code, live.code) == (7, 7, 7)
    assert "in doubt since 20" in ran.out
    assert f"invalidate-cache {instant}" in ran.out
    (server,) = json.loads(as_json.out)["servers"]
    assert server["inDoubt"]["instant"] == instant
    assert server["robotsOwed"] is None


def test_status_names_robots_that_are_owed_a_start(rig: Rig) -> None:
    left_stopped(rig)

    ran = rig.jtr("status")
    live = rig.jtr("status", "--live", "--from", str(rig.docs))

    assert (ran.code, live.code) == (4, 4)
    assert "arb: it did not start" in ran.out


@pytest.mark.silence
def test_the_history_tells_what_was_done_and_said_in_its_order(rig: Rig) -> None:
    stand_in, instant = in_doubt(rig)
    resolve(rig, "tokyo-1", "invalidate-cache", instant, "--done", "--because", "I looked")
    ask(rig, reboot=RESUME)
    assert rig.apply().code == 0
    stand_in.behaviour.invalidate = "answer"

    text = rig.jtr("history", "tokyo-1").out
    (server,) = json.loads(rig.jtr("history", "-o", "json").out)["servers"]

    told = [(deed["what"].split()[0], deed["result"]) for deed in server["deeds"]]
    assert told == [
        ("write", "done"),
        ("invalidate-cache", "in doubt"),
        ("invalidate-cache", "done"),
        ("reboot", "done"),
    ]
    assert "started again: grid-btc, arb" in text
    assert "a person said so: I looked" in text
    assert [deed["at"] for deed in server["deeds"]] == sorted(d["at"] for d in server["deeds"])
    last = json.loads(rig.jtr("history", "--limit", "1", "-o", "json").out)["servers"][0]
    assert last["deeds"] == server["deeds"][-1:]


def test_the_history_is_that_of_the_servers_asked_for(rig: Rig) -> None:
    ready(rig, "osaka-1", "tokyo-1")
    folder = rig.home / "elsewhere"
    folder.mkdir()
    (rig.docs / "osaka-1.yaml").rename(folder / "osaka-1.yaml")

    one = json.loads(rig.jtr("history", "--from", str(folder), "-o", "json").out)
    unknown = rig.jtr("history", "tokyo-9")

    assert [server["server"] for server in one["servers"]] == ["osaka-1"]
    assert unknown.code == 64
    assert "osaka-1, tokyo-1" in unknown.err


def test_what_servers_call_their_robots_drives_no_terminal(rig: Rig) -> None:
    hostile = "\x1b[2Jarb\u202e\n"
    rig.settings(durations=BRIEF, soleWriter=True)
    quick = Behaviour(ping_interval=0.1, ping_timeout=0.6)
    robots = [Robot(1, "grid-btc", "bybit"), Robot(2, hostile, "bybit", start="fails")]
    stand_in = rig.server(behaviour=quick, robots=robots)
    stand_in.set_running(2, True)
    rig.document("tokyo-1", "bybit", supervised=True)
    rig.begin()
    ask(rig, reboot=RESUME)

    ran = rig.apply()
    texts = [ran.text, listed(rig).text, rig.jtr("status").text, rig.jtr("history").text]

    assert ran.code == 6
    for text in texts:
        assert "\\u001b[2Jarb\\u202e\\u000a" in text
        assert "\x1b" not in text
        assert "\u202e" not in text
