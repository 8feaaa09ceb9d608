"""Reboots, invalidations and restarts end to end, judged by what the server really did."""

import contextlib
import json
import os
import re
import signal
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from reconciler import bootstrap
from reconciler.apply.execution import Execution
from reconciler.drivers.jt_trader.requests import EXCHANGES
from reconciler.errors import ServerUnreachable
from reconciler.model.observed import ObservedServer
from reconciler.sandbox.jt_trader import record
from reconciler.sandbox.jt_trader.server import Behaviour, Robot, StandInThread
from tests.e2e.answers import document, server
from tests.e2e.meanwhile import LOOK, beside, when_asked
from tests.e2e.pausing import go_on, pause
from tests.e2e.terminal import Command
from tests.support.durations import BRIEF
from tests.support.processes import until
from tests.support.rig import Ran, Rig


def moment(**ago: float) -> str:
    """An instant so long ago, as documents write it; by default now."""
    return (datetime.now(UTC) - timedelta(**ago)).isoformat().replace("+00:00", "Z")


def ready(
    rig: Rig, *names: str, robots: list[Robot] | None = None, **more: Any
) -> list[StandInThread]:
    """Servers that are as their documents say, with a ledger that allows one-shots."""
    rig.settings(durations=BRIEF, soleWriter=True)
    servers = []
    for name in names or ("tokyo-1",):
        options: dict[str, Any] = more if robots is None else {"robots": robots, **more}
        quick = Behaviour(ping_interval=0.1, ping_timeout=0.6)  # what was sent cannot be late
        servers.append(rig.server(name, behaviour=quick, **options))
        rig.document(name, "bybit", supervised=True)
    rig.begin()
    ran = rig.apply()
    assert ran.code == 0, ran.text
    return servers


def ask(rig: Rig, name: str = "tokyo-1", **spec: Any) -> None:
    """Write requests into a document: of a reboot, an invalidation, or both."""
    for key, field in (("reboot", "bootedAfter"), ("cache", "invalidatedAfter")):
        if key in spec:
            spec[key] = {field: moment(), "reason": "okx moved"} | spec[key]
    rig.document(name, "bybit", rotate=False, **({"supervised": True} | spec))


RUN = "run-background-job-request"
RESUME = {"robots": "resume"}
LEAVE = {"robots": "leave"}


def kinds(stand_in: StandInThread) -> list[str]:
    """The kinds of what was done on a server."""
    return [what[0] for what in stand_in.record.history]


def standings(ran: Ran, name: str = "tokyo-1") -> dict[str, str]:
    """Where the requests of a server stand, by kind."""
    rows = server(ran, name)["disruptions"]
    return {row["kind"] or row["what"].split(" (")[0]: row["standing"] for row in rows}


# ── the way it goes ──────────────────────────────────────────────────────────────────────────


def test_everything_in_its_order_and_only_once(rig: Rig) -> None:
    (stand_in,) = ready(rig)
    rig.rotate(exchange="bybit")
    ask(rig, reboot=RESUME, cache={}, robots={"onCredentialChange": "restart"})

    first = rig.apply()
    second = rig.apply()

    assert (first.code, second.code) == (0, 0), first.text + second.text
    assert kinds(stand_in) == ["save", "save", "invalidate", "reboot", "start", "start"]
    assert stand_in.robots_running() == {1, 2}
    assert "Nothing to do." in second.out
    assert (stand_in.record.reboot_requests, stand_in.record.invalidation_requests) == (1, 1)


def test_a_restart_where_a_restart_suffices(rig: Rig) -> None:
    (stand_in,) = ready(rig)
    key = rig.rotate(exchange="bybit")["apiKey"]
    ask(rig, cache={}, robots={"onCredentialChange": "restart"})

    ran = rig.apply()

    assert ran.code == 0, ran.text
    assert kinds(stand_in) == ["save", "save", "stop", "start", "invalidate"]
    assert stand_in.robot_credentials(1)["bybit_api_key"] == key
    assert server(rig.plan("-o", "json"))["debts"] == []


def test_no_robot_is_started_on_a_version_that_the_boot_brought(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    (stand_in,) = ready(rig)
    ask(rig, reboot=RESUME)
    collect = record.SINK

    def updated(command: str, event: str) -> None:
        if event == "reboot-system-request":
            stand_in.behaviour.version = "9.9.9"
        if collect is not None:
            collect(command, event)

    monkeypatch.setattr(record, "SINK", updated)

    ran = rig.apply()

    assert ran.code == 6, ran.text
    assert "JT-Trader 9.9.9 is outside the tested range" in ran.out
    assert "jtr request resume tokyo-1" in ran.out
    assert kinds(stand_in) == ["save", "reboot"]
    assert "grid-btc, arb" in rig.jtr("request", "list", "--from", str(rig.docs)).out


def test_robots_of_a_reboot_may_stay_stopped(rig: Rig) -> None:
    (stand_in,) = ready(rig)
    ask(rig, reboot=LEAVE)

    first, second = rig.apply(), rig.apply()

    assert (first.code, second.code) == (0, 0)
    assert (kinds(stand_in), stand_in.robots_running()) == (["save", "reboot"], set())


def test_a_schedule_is_in_the_plan_and_not_done_before_its_time(rig: Rig) -> None:
    (stand_in,) = ready(rig)
    ask(rig, reboot=RESUME | {"bootedAfter": moment(hours=-1)}, cache={})

    ran = rig.apply("-o", "json")

    assert standings(ran) == {"invalidate-cache": "due", "reboot": "scheduled"}
    assert kinds(stand_in) == ["save", "invalidate"]


def test_the_plan_id_is_the_same_before_and_when_it_becomes_due(rig: Rig) -> None:
    (stand_in,) = ready(rig)
    instant = moment(seconds=-1.2)
    ask(rig, cache={"invalidatedAfter": instant})
    before = rig.plan("-o", "json")
    assert standings(before) == {"invalidate-cache": "scheduled"}

    until(lambda: standings(rig.plan("-o", "json")) == {"invalidate-cache": "due"})
    ran = rig.jtr("apply", str(rig.docs), "--expect", document(before)["planId"])

    assert ran.code == 0, ran.text
    assert stand_in.record.invalidations == 1


def test_an_expired_request_is_not_done_and_says_so_until_it_is_removed(rig: Rig) -> None:
    (stand_in,) = ready(rig)
    ask(rig, reboot=RESUME | {"expiresAfter": "1ms"}, cache={"expiresAfter": "1ms"})

    ran, again = rig.apply("-o", "json"), rig.apply()

    assert (ran.code, again.code) == (4, 4)
    assert set(standings(ran).values()) == {"expired, NOT done"}
    assert kinds(stand_in) == ["save"]
    ask(rig)
    assert rig.apply().code == 0


def test_what_is_older_than_the_ledger_is_never_run(rig: Rig) -> None:
    (stand_in,) = ready(rig)
    ask(rig, reboot=RESUME | {"bootedAfter": moment(minutes=5)})

    first, second = rig.apply("-o", "json"), rig.apply("-o", "json")

    assert (first.code, second.code) == (0, 0)
    assert standings(first) == standings(second) == {"reboot": "baselined"}
    assert kinds(stand_in) == ["save"]


def test_a_revert_repeats_nothing(rig: Rig) -> None:
    (stand_in,) = ready(rig)
    old, unhandled = moment(), moment()
    ask(rig, cache={"invalidatedAfter": old})
    assert rig.apply().code == 0
    ask(rig, cache={})
    assert rig.apply().code == 0

    for instant in (old, unhandled):
        ask(rig, cache={"invalidatedAfter": instant})
        assert rig.apply().code == 0
    ask(rig)
    assert rig.apply().code == 0

    assert stand_in.record.invalidations == 2


# ── in doubt ─────────────────────────────────────────────────────────────────────────────────


@pytest.mark.silence
@pytest.mark.parametrize(
    ("fault", "happened"),
    [("silent after effect", 1), ("lost before effect", 0), ("dropped after effect", 1)],
)
def test_an_invalidation_without_an_answer_is_for_people(
    rig: Rig, fault: str, happened: int
) -> None:
    (stand_in,) = ready(rig)
    stand_in.behaviour.invalidate = fault  # type: ignore[assignment]
    ask(rig, cache={}, reboot=RESUME)
    first = rig.apply()
    stand_in.behaviour.invalidate = "answer"

    later = [rig.apply("-o", "json") for _ in range(2)]

    assert [first.code, *(ran.code for ran in later)] == [7, 7, 7]
    assert standings(later[1]) == {"invalidate-cache": "in doubt", "reboot": "held back"}
    assert "jtr request resolve tokyo-1 invalidate-cache" in first.out
    assert stand_in.record.invalidation_requests == 1
    assert (stand_in.record.invalidations, stand_in.record.reboots) == (happened, 0)


@pytest.mark.silence
def test_credentials_go_on_while_a_request_is_in_doubt(rig: Rig) -> None:
    (stand_in,) = ready(rig)
    stand_in.behaviour.invalidate = "silent after effect"
    ask(rig, cache={})
    rig.apply()
    key = rig.rotate(exchange="bybit")["apiKey"]

    ran = rig.apply()

    assert ran.code == 7
    assert stand_in.values()["bybit_api_key"] == key


@pytest.mark.silence
@pytest.mark.parametrize("outcome", ["--done", "--not-done"])
def test_a_person_resolves_it_and_nothing_is_sent_for_that_instant(rig: Rig, outcome: str) -> None:
    (stand_in,) = ready(rig)
    stand_in.behaviour.invalidate = "silent after effect"
    instant = moment()
    ask(rig, cache={"invalidatedAfter": instant})
    assert rig.apply().code == 7
    stand_in.behaviour.invalidate = "answer"

    resolved = rig.jtr(
        "request", "resolve", "tokyo-1", "invalidate-cache", instant, outcome, "--because", "looked"
    )
    after = rig.apply()

    assert (resolved.code, after.code) == (0, 0 if outcome == "--done" else 4), after.text
    assert stand_in.record.invalidation_requests == 1
    ask(rig, cache={})
    assert rig.apply().code == 0
    assert stand_in.record.invalidations == 2


def left_in_doubt(rig: Rig, robots: list[Robot] | None = None) -> StandInThread:
    """A server that stayed away after a reboot of ours, and that is back."""
    (stand_in,) = ready(rig, robots=robots)
    stand_in.behaviour.reboot = "never comes back"
    ask(rig, reboot=RESUME)
    assert rig.apply().code == 7
    stand_in.behaviour.reboot = "normal"
    stand_in.come_back()
    return stand_in


@pytest.mark.silence
def test_a_server_that_does_not_come_back_is_in_doubt_until_its_log_tells(rig: Rig) -> None:
    stand_in = left_in_doubt(rig)

    found, ran = rig.plan("-o", "json"), rig.apply()

    assert ran.code == 0, ran.text
    assert standings(found) == {"reboot": "found out", "robots owed a start": "due"}
    (resumption,) = server(found)["actions"]
    assert [robot["name"] for robot in resumption["robots"]] == ["grid-btc", "arb"]
    assert kinds(stand_in) == ["save", "reboot", "start", "start"]


@pytest.mark.silence
def test_robots_that_a_found_out_reboot_stopped_are_asked_about_by_name(rig: Rig) -> None:
    stand_in = left_in_doubt(rig)

    with Command(rig, "apply", str(rig.docs), terminal=True) as command:
        command.answer("(starts: grid-btc, arb)?", "n")
        code = command.ended()
        text = command.text

    assert code == 4, text
    assert kinds(stand_in) == ["save", "reboot"]
    assert stand_in.robots_running() == set()


@pytest.mark.silence
def test_robots_of_a_found_out_reboot_that_run_again_are_owed_nothing(rig: Rig) -> None:
    stand_in = left_in_doubt(rig)
    for robot in (1, 2):
        stand_in.set_running(robot, True)

    found = rig.plan("-o", "json")
    assert rig.apply().code == 0
    assert standings(found) == {"reboot": "found out", "robots owed a start": "found out"}
    assert standings(rig.plan("-o", "json")) == {"reboot": "done"}
    assert kinds(stand_in) == ["save", "reboot"]


# ── a new request behind one that is found out ───────────────────────────────────────────────


NEW = [({"reboot": RESUME}, ["reboot", "start", "start"]), ({"cache": {}}, ["invalidate"])]


@pytest.mark.silence
@pytest.mark.parametrize(("new", "done"), NEW)
@pytest.mark.parametrize("settled", [False, True])
def test_a_new_one_waits_for_no_other_apply(
    rig: Rig, new: dict[str, Any], done: list[str], *, settled: bool
) -> None:
    """It was held back, or refused because robots run that this very apply had started."""
    stand_in = left_in_doubt(rig)
    if settled:  # and the robots are owed a start
        assert rig.apply("--no-disruptive").code == 0
    ask(rig, **new)

    planned, ran = rig.plan("-o", "json"), rig.apply()

    assert standings(planned)[next(iter(new)).replace("cache", "invalidate-cache")] == "due"
    assert ran.code == 0, ran.text
    assert kinds(stand_in) == ["save", "reboot", "start", "start", *done]
    assert stand_in.robots_running() == {1, 2}
    assert "Nothing to do." in rig.apply().out


@pytest.mark.silence
@pytest.mark.parametrize("settled", [False, True])
def test_a_new_one_is_not_done_where_a_robot_did_not_start(rig: Rig, *, settled: bool) -> None:
    stand_in = left_in_doubt(rig)
    stand_in.server._state.robots[1].start = "fails"
    if settled:
        assert rig.apply("--no-disruptive").code == 0
    ask(rig, reboot=RESUME)

    ran, again = rig.apply(), rig.apply("-o", "json")

    assert ran.code == 6, ran.text
    assert "arb: it did not start" in ran.out
    assert kinds(stand_in) == ["save", "reboot", "start"]
    assert standings(again) == {"robots owed a start": "blocked", "reboot": "held back"}


@pytest.mark.silence
def test_a_no_to_the_start_leaves_a_new_one_undone_too(rig: Rig) -> None:
    stand_in = left_in_doubt(rig)
    assert rig.apply("--no-disruptive").code == 0
    ask(rig, reboot=RESUME)

    with Command(rig, "apply", str(rig.docs), terminal=True) as command:
        command.answer("(starts: grid-btc, arb)?", "n")
        command.answer("(stops: grid-btc, arb)?", "y")
        code = command.ended()

    assert code == 4, command.text
    assert "robots of this server are still to be started again" in command.text
    assert kinds(stand_in) == ["save", "reboot"]


@pytest.mark.silence
def test_without_consent_to_disrupt_a_new_one_waits(rig: Rig) -> None:
    stand_in = left_in_doubt(rig)
    ask(rig, reboot=RESUME)

    ran = rig.apply("--no-disruptive")

    assert ran.code == 0, ran.text
    assert kinds(stand_in) == ["save", "reboot"]


# ── a reboot that does not happen ────────────────────────────────────────────────────────────


def hanging() -> list[Robot]:
    """Two robots, the stop routine of one of which never ends."""
    return [Robot(1, "grid-btc", "bybit", stop="hangs"), Robot(2, "arb", "okx")]


@pytest.mark.silence
def test_a_stop_that_hangs_takes_the_second_try(rig: Rig) -> None:
    (stand_in,) = ready(rig, robots=hanging())
    ask(rig, reboot=RESUME)

    ran = rig.apply()

    assert ran.code == 0, ran.text
    assert (stand_in.record.reboot_requests, stand_in.record.reboots) == (2, 1)
    assert stand_in.robots_running() == {1, 2}


@pytest.mark.silence
@pytest.mark.parametrize(
    ("what", "why", "code"),
    [
        ("paused", "the second try was not sent: suspended meanwhile by ann", 4),
        ("interrupted", "the second try was not sent: stopped: interrupted", 130),
    ],
)
def test_what_keeps_from_the_second_try_hides_nothing_of_the_first(
    rig: Rig, what: str, why: str, code: int
) -> None:
    """The first one stopped all robots: neither "not attempted" nor "in doubt" would say so."""
    (stand_in,) = ready(rig, robots=hanging())
    ask(rig, reboot=RESUME)
    if what == "paused":
        meanwhile = beside(stand_in, "reboot-system-request", lambda: pause(rig, stand_in))
    else:
        meanwhile = when_asked(
            stand_in, "reboot-system-request", lambda: os.kill(os.getpid(), signal.SIGINT)
        )

    with meanwhile:
        ran = rig.apply()
    told, again = rig.plan("-o", "json"), rig.apply()

    assert ran.code == code, ran.text
    left = "asked once, and provably not done; it stopped robots that do not run any more: "
    assert f"{left}grid-btc, arb; {why}" in ran.out
    assert "asked once" in rig.jtr("history", "tokyo-1").out
    (line,) = server(told)["disruptions"]
    assert (line["standing"], line["action"]) == ("found out", None)
    assert "grid-btc" in json.dumps(line)
    assert again.code == 6, again.text
    assert stand_in.record.reboot_requests == 1


@pytest.mark.silence
def test_a_server_that_goes_away_before_the_second_try_may_have_ended_after_all(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The stop that hung may have come to its end: that the process lived is no proof any more."""
    (stand_in,) = ready(rig, robots=hanging())
    ask(rig, reboot=RESUME)
    real = Execution.baseline

    async def baseline(self: Execution) -> ObservedServer:
        if stand_in.record.reboot_requests:
            raise ServerUnreachable("nobody answers", "look at it")
        return await real(self)

    with monkeypatch.context() as patch:
        patch.setattr(Execution, "baseline", baseline)
        ran = rig.apply()

    assert ran.code == 7, ran.text
    assert "nobody answers: it is not known whether it took effect" in ran.out
    assert "stopped meanwhile: robots grid-btc (1), arb (2)" in ran.out
    assert stand_in.record.reboot_requests == 1


@pytest.mark.silence
def test_a_robot_that_a_person_stops_after_the_plan_keeps_the_second_try_from_being_sent(
    rig: Rig,
) -> None:
    """It would be started again by us; nobody knows who stopped it."""
    stopped = Robot(1, "grid-btc", "bybit")
    (stand_in,) = ready(rig, robots=[stopped, Robot(2, "arb", "okx")])
    stand_in.behaviour.reboot = "ignored"
    ask(rig, reboot=RESUME)
    with beside(stand_in, "reboot-system-request", lambda: pause(rig, stand_in)):
        assert rig.apply().code == 4
    go_on(rig, stand_in)
    assert standings(rig.plan("-o", "json")) == {"reboot": "due"}

    with when_asked(stand_in, LOOK, lambda: setattr(stopped, "running", False)):
        ran = rig.apply()

    assert ran.code == 6, ran.text
    assert stand_in.record.reboot_requests == 1
    assert stand_in.robots_running() == {2}


@pytest.mark.silence
@pytest.mark.parametrize("stop", ["throws", "hangs"])
def test_robots_that_the_server_restored_are_no_meddling(rig: Rig, stop: Any) -> None:
    """Somebody else was blamed, and the robot whose stop failed was left stopped."""
    robots = [
        Robot(1, "grid-btc", "bybit"),
        Robot(2, "arb", "okx", stop=stop),
        Robot(3, "maker", "okx"),
        Robot(4, "idle", "okx", running=False),
    ]
    (stand_in,) = ready(rig, robots=robots)
    ask(rig, reboot=RESUME)

    ran = rig.apply()

    assert ran.code == 0, ran.text
    assert kinds(stand_in) == ["save", "reboot", "restore", "restore", "start"]
    assert stand_in.record.robot_starts_asked == [(2, "apply")]
    assert stand_in.robots_running() == {1, 2, 3}
    assert rig.plan("--detailed-exitcode").code == 0


@pytest.mark.silence
def test_robots_that_the_server_restored_against_the_wish_are_named(rig: Rig) -> None:
    """They were told to be stopped and left so, while they traded."""
    (stand_in,) = ready(rig, robots=throwing("arb", others=("grid", "maker")))
    ask(rig, reboot=LEAVE)

    ran = rig.apply()

    assert stand_in.robots_running() == {2, 3}
    assert ran.code == 4, ran.text
    assert "; stopped and left so: arb; run again, and not by us: grid, maker" in ran.out
    assert stand_in.record.robot_starts_asked == []
    assert rig.apply().code == 0


def throwing(*names: str, others: tuple[str, ...] = ()) -> list[Robot]:
    """Robots whose stop throws, then such as the server itself starts again."""
    throws = [Robot(n, name, "okx", stop="throws") for n, name in enumerate(names, 1)]
    return [*throws, *(Robot(n, name, "okx") for n, name in enumerate(others, len(names) + 1))]


@pytest.mark.silence
def test_a_restored_one_that_stops_again_is_not_started(rig: Rig) -> None:
    (stand_in,) = ready(rig, robots=throwing("arb", others=("grid", "maker")))
    ask(rig, reboot=RESUME)

    with when_asked(stand_in, RUN, lambda: stand_in.set_running(3, False)):
        ran = rig.apply()

    assert ran.code == 6, ran.text
    assert "maker: it was started and stopped again" in ran.text
    assert stand_in.record.robot_starts_asked == [(1, "apply")]
    assert stand_in.robots_running() == {1, 2}


@pytest.mark.silence
def test_a_person_at_work_on_the_robots_is_left_alone(rig: Rig) -> None:
    """Two starts at once, and the server drops the second in silence."""
    (stand_in,) = ready(rig, robots=throwing("arb", "grid", "maker", others=("quoter",)))
    ask(rig, reboot=RESUME)

    with when_asked(stand_in, RUN, lambda: stand_in.set_running(2, True)):
        ran = rig.apply()

    assert ran.code == 6, ran.text
    assert "maker: robots run that we did not start: grid" in ran.text
    assert stand_in.record.robot_starts_asked == [(1, "apply")]


def test_one_that_runs_and_did_not_before_is_for_people(rig: Rig) -> None:
    """The server has its mark from long ago, or a person was quick: nobody can tell."""
    (stand_in,) = ready(rig, robots=[Robot(1, "grid", "okx"), Robot(2, "idle", "okx", False)])
    stand_in.server._state.marks.add(2)
    ask(rig, reboot=RESUME)

    ran = rig.apply()

    assert ran.code == 6, ran.text
    assert "grid: robots run that we did not start: idle" in ran.text
    assert kinds(stand_in) == ["save", "reboot", "restore"]
    resumed = rig.jtr("request", "resume", "tokyo-1", "--from", str(rig.docs), "--auto-approve")
    assert resumed.code == 0, resumed.text
    assert stand_in.robots_running() == {1, 2}


@pytest.mark.silence
def test_when_both_tries_fail_it_is_not_done_and_robots_are_named(rig: Rig) -> None:
    (stand_in,) = ready(rig)
    stand_in.behaviour.reboot = "ignored"
    ask(rig, reboot=RESUME)

    ran, again = rig.apply("-o", "json"), rig.apply("-o", "json")

    (outcome,) = server(ran)["outcomes"]
    assert (ran.code, outcome["result"], stand_in.record.reboot_requests) == (6, "NOT done", 2)
    assert standings(again) == {"reboot": "NOT done"}
    assert (again.code, stand_in.record.reboot_requests) == (4, 2)


@pytest.mark.silence
def test_robots_that_a_failed_reboot_stopped_are_named(rig: Rig) -> None:
    # The first request hangs in a robot's stop, the second is ignored.
    (stand_in,) = ready(rig, robots=hanging())
    with ignoring_after(stand_in, 1):
        ask(rig, reboot=RESUME)
        ran = rig.apply()

    assert ran.code == 6, ran.text
    assert "NOT done" in ran.out
    assert "grid-btc, arb" in ran.out
    assert stand_in.record.reboots == 0


@contextlib.contextmanager
def ignoring_after(stand_in: StandInThread, requests: int) -> Iterator[None]:
    """Let the server ignore reboots once it received so many of them."""
    real = stand_in.record.add_received

    def add(received: Any) -> None:
        if stand_in.record.reboot_requests >= requests:
            stand_in.behaviour.reboot = "ignored"
        real(received)

    stand_in.record.add_received = add  # type: ignore[method-assign]
    yield
    stand_in.record.add_received = real  # type: ignore[method-assign]


# ── evidence ─────────────────────────────────────────────────────────────────────────────────


def test_without_a_readable_log_no_reboot_is_sent(rig: Rig) -> None:
    (stand_in,) = ready(rig)
    stand_in.behaviour.log = "unreadable"
    ask(rig, reboot=RESUME)

    ran = rig.apply("-o", "json")

    assert (ran.code, standings(ran)) == (4, {"reboot": "blocked"})
    assert stand_in.record.reboot_requests == 0


@pytest.mark.parametrize("hours", [-7, 0, 9])
def test_somebody_elses_boot_satisfies_it_and_no_robot_is_started(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, hours: int
) -> None:
    with monkeypatch.context() as patch:  # the ledger is half an hour old
        patch.setattr(bootstrap, "now", lambda: datetime.now(UTC) - timedelta(minutes=30))
        (stand_in,) = ready(rig)
    stand_in.behaviour.clock_offset = hours * 3600.0
    stand_in.rotate_log()
    ask(rig, reboot=RESUME | {"bootedAfter": moment(minutes=5)})
    before = rig.plan("-o", "json")
    stand_in.restart(down=0.0)
    stand_in.set_running(1, False)

    first, second = rig.apply("-o", "json"), rig.apply("-o", "json")

    assert standings(before) != {"reboot": "satisfied"}
    assert (first.code, second.code) == (0, 0)
    assert standings(first) == standings(second) == {"reboot": "satisfied"}
    assert (stand_in.record.reboot_requests, stand_in.record.starts) == (0, [])


def test_a_boot_that_may_have_been_earlier_satisfies_nothing(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(bootstrap, "now", lambda: datetime.now(UTC) - timedelta(minutes=30))
        (stand_in,) = ready(rig)
    stand_in.restart(down=0.0)
    ask(rig, reboot=RESUME | {"bootedAfter": moment(seconds=58)})

    assert standings(rig.plan("-o", "json")) == {"reboot": "due"}


def test_without_the_operators_word_a_ledger_of_this_host_allows_none(rig: Rig) -> None:
    (stand_in,) = ready(rig)
    rig.settings(durations=BRIEF)
    ask(rig, reboot=RESUME, cache={})

    ran = rig.apply("-o", "json")

    assert (ran.code, set(standings(ran).values())) == (4, {"blocked"})
    assert "soleWriter: true" in ran.out
    assert kinds(stand_in) == ["save"]


def test_an_untested_version_gets_none(rig: Rig) -> None:
    (stand_in,) = ready(rig)
    stand_in.behaviour.version = "0.25.0"
    ask(rig, reboot=RESUME, cache={})

    ran = rig.apply("-o", "json")

    assert (ran.code, set(standings(ran).values())) == (4, {"blocked"})
    assert kinds(stand_in) == ["save"]


def test_a_suspended_server_is_left_alone(rig: Rig) -> None:
    (stand_in,) = ready(rig)
    ask(rig, reboot=RESUME, cache={}, suspend={"reason": "maintenance", "by": "desk"})

    assert rig.apply().code == 0
    assert kinds(stand_in) == ["save"]


# ── robots ───────────────────────────────────────────────────────────────────────────────────


def test_one_that_fails_and_one_that_stops_itself_harm_no_other(rig: Rig) -> None:
    robots = [
        Robot(1, "grid-btc", "bybit"),
        Robot(2, "fails", "okx", start="fails"),
        Robot(3, "quits", "okx", stops_itself_after=0.0),
        Robot(4, "arb", "okx"),
    ]
    (stand_in,) = ready(rig, robots=robots)
    ask(rig, reboot=RESUME)
    # Another client has just been there and left: nobody is registered any more.
    assert rig.plan().code == 0

    ran = rig.apply()

    assert ran.code == 6, ran.text
    assert stand_in.robots_running() == {1, 4}
    assert all(start.registered for start in stand_in.record.starts)
    assert not any(start.overlapping for start in stand_in.record.starts)
    assert "fails: it did not start" in ran.out
    assert re.search("quits: it (did not start|was started and stopped again)", ran.out)
    again = rig.apply("-o", "json")
    assert (again.code, standings(again)["robots owed a start"]) == (4, "blocked")
    assert stand_in.robots_running() == {1, 4}


def test_without_consent_to_disrupt_only_credentials_are_written(rig: Rig) -> None:
    (stand_in,) = ready(rig)
    key = rig.rotate(exchange="bybit")["apiKey"]
    ask(rig, reboot=RESUME, cache={}, robots={"onCredentialChange": "restart"})

    ran = rig.apply("--no-disruptive")

    assert ran.code == 0, ran.text
    assert stand_in.values()["bybit_api_key"] == key
    assert kinds(stand_in) == ["save", "save"]


def test_a_terminal_names_the_robots_and_a_no_is_a_no(rig: Rig) -> None:
    (stand_in,) = ready(rig)
    ask(rig, reboot=RESUME, cache={})

    with Command(rig, "apply", str(rig.docs), terminal=True) as command:
        command.answer("invalidate-cache", "y")
        command.answer("(stops: grid-btc, arb)?", "n")
        code = command.ended()

    assert code == 0, command.text
    assert kinds(stand_in) == ["save", "invalidate"]


# ── a log that lags ──────────────────────────────────────────────────────────────────────────


LAGGING = BRIEF | {"logLag": "900ms", "ready": "10s"}


def test_a_boot_line_that_is_late_lets_no_second_reboot_be_sent(rig: Rig) -> None:
    """It was "provably not done", which was false, and the server was rebooted once more."""
    (stand_in,) = ready(rig)
    rig.settings(durations=LAGGING, soleWriter=True)
    time.sleep(0.4)  # its own boot is in the log for long
    stand_in.behaviour.log_lag = 0.4
    ask(rig, reboot=RESUME)

    ran = rig.apply()

    assert ran.code == 0, ran.text
    assert stand_in.record.reboot_requests == 1
    assert stand_in.robots_running() == {1, 2}


def test_the_line_of_the_process_that_got_the_request_does_not_prove_it_done(rig: Rig) -> None:
    (stand_in,) = ready(rig)
    rig.settings(durations=LAGGING, soleWriter=True)
    ask(rig, reboot=LEAVE)
    stand_in.behaviour.reboot = "ignored"
    stand_in.behaviour.log_lag = 3600.0
    stand_in.restart(shown=False)  # its boot line cannot be read while it is planned
    note, looks = stand_in.record.add_received, 0

    def noted(received: record.Received) -> None:
        nonlocal looks
        note(received)
        looks += received.event == EXCHANGES.event
        if looks > 1:
            stand_in.server.log.show()

    stand_in.record.add_received = noted  # type: ignore[method-assign]

    ran = rig.apply()

    assert ran.code == 4, ran.text
    assert "it booted since this was planned" in ran.text
    assert stand_in.record.reboot_requests == 0


# ── a fleet ──────────────────────────────────────────────────────────────────────────────────

FLEET = ("kyoto-1", "osaka-1", "tokyo-1")


@pytest.mark.silence
def test_a_fleet_stops_at_the_first_server_that_does_not_come_back(rig: Rig) -> None:
    servers = ready(rig, *FLEET)
    for stand_in in servers:  # whichever is the first
        stand_in.behaviour.reboot = "never comes back"
    for name in FLEET:
        ask(rig, name, reboot=RESUME)

    ran = rig.apply()

    assert ran.code == 7, ran.text
    assert sorted(stand_in.record.reboot_requests for stand_in in servers) == [0, 0, 1]
    assert ran.out.count(": not attempted: stopped: ") == 2
    running = sorted(len(stand_in.robots_running()) for stand_in in servers)
    assert running == [0, 2, 2]


@pytest.mark.parametrize(("most", "expected"), [(1, 1), (2, 2)])
def test_at_most_so_many_are_down_at_once(rig: Rig, most: int, expected: int) -> None:
    servers = ready(rig, *FLEET)
    for stand_in in servers:
        stand_in.behaviour.reboot_down = 0.2
    for name in FLEET:
        ask(rig, name, reboot=RESUME)

    ran = rig.apply("--max-disruptive", str(most))

    assert ran.code == 0, ran.text
    assert [stand_in.record.reboots for stand_in in servers] == [1, 1, 1]
    spans = sorted(span(stand_in) for stand_in in servers)
    assert overlaps(spans) == expected


def span(stand_in: StandInThread) -> tuple[float, float]:
    """From a server's reboot request to the request of its last start."""
    record = stand_in.record
    asked = next(r.at for r in record.received if r.event == "reboot-system-request")
    return asked, record.starts[-1].at


def overlaps(spans: list[tuple[float, float]]) -> int:
    """How many spans overlap at most."""
    return max(sum(begin <= at <= end for begin, end in spans) for at, _ in spans)
