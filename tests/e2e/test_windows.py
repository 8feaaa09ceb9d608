"""Windows end to end: what waits, what goes on, and what a window that closes meanwhile stops."""

import itertools
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from reconciler.apply import send
from reconciler.plan import requests
from reconciler.plan.windows import Opening, standing
from reconciler.sandbox.jt_trader.server import Robot
from tests.e2e.answers import document, server
from tests.e2e.test_requests import LEAVE, RESUME, ask, kinds, moment, ready, standings
from tests.support.rig import Rig

RESTART = {"onCredentialChange": "restart"}
ALWAYS = {"kind": "allow", "schedule": "* * * * *", "duration": "2h", "timeZone": "Asia/Tokyo"}
NEVER = ALWAYS | {"kind": "deny"}


def closing(monkeypatch: pytest.MonkeyPatch, after: Callable[[], bool]) -> None:
    """Let windows that are open be closed from a moment on, as far as the deeds can see."""

    def judged(windows: Any, now: datetime) -> Opening:
        return Opening(open=False, why="outside") if after() else standing(windows, now)

    monkeypatch.setattr(send, "standing", judged)


def test_outside_of_a_window_credentials_are_written_and_the_rest_waits(rig: Rig) -> None:
    (stand_in,) = ready(rig)
    key = rig.rotate(exchange="bybit")["apiKey"]
    begin = datetime.now(UTC) + timedelta(hours=2)
    nightly = {
        "kind": "allow",
        "schedule": f"{begin.minute} {begin.hour} * * *",
        "duration": "30m",
        "timeZone": "UTC",
    }
    ask(rig, reboot=RESUME, cache={}, robots=RESTART, windows=[nightly])

    planned, ran = rig.plan("-o", "json"), rig.apply("-o", "json")
    listed = rig.jtr("request", "list", "--from", str(rig.docs))

    opens = f"opens {begin:%Y-%m-%dT%H:%M}:00Z"
    assert (planned.code, ran.code, listed.code) == (0, 0, 0), ran.text
    waits = "waits for its window"
    assert standings(ran) == {
        "restart robots on bybit": "held back",
        "invalidate-cache": waits,
        "reboot": waits,
    }
    assert all(opens in row["why"] for row in server(planned)["disruptions"])
    assert listed.out.count(opens) == 2
    assert kinds(stand_in) == ["save", "save"]
    assert stand_in.values()["bybit_api_key"] == key
    assert len(server(rig.plan("-o", "json"))["debts"]) == 1


def test_when_the_window_opens_it_is_done_under_the_id_that_was_reviewed(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    (stand_in,) = ready(rig)
    ask(rig, reboot=RESUME, windows=[NEVER])
    reviewed, recorded = rig.plan("-o", "json"), rig.plan("--recorded", "-o", "json")
    for module in (requests, send):  # the plan's eyes, and those of whoever sends
        monkeypatch.setattr(module, "standing", lambda _windows, _now: Opening(open=True))

    ran = rig.jtr("apply", str(rig.docs), "--expect", document(reviewed)["planId"])

    assert document(recorded)["planId"] == document(reviewed)["planId"]
    assert standings(reviewed) == {"reboot": "waits for its window"}
    assert ran.code == 0, ran.text
    assert kinds(stand_in) == ["save", "reboot", "start", "start"]


@pytest.mark.parametrize(
    "instead",
    [{"windows": None}, {"windows": [ALWAYS | {"timeZone": "UTC"}]}, {"reboot": LEAVE}],
    ids=["no windows", "another window", "robots left"],
)
def test_windows_and_robots_that_nobody_reviewed_are_refused(
    rig: Rig, instead: dict[str, Any]
) -> None:
    (stand_in,) = ready(rig)
    at = {"bootedAfter": moment()}
    ask(rig, reboot=RESUME | at, windows=[ALWAYS])
    file = rig.home / "reviewed.json"
    file.write_text(rig.plan("-o", "json").out, "utf-8")
    changed: dict[str, Any] = {"reboot": RESUME, "windows": [ALWAYS]} | instead
    changed["reboot"] = changed["reboot"] | at
    ask(rig, **{key: value for key, value in changed.items() if value is not None})

    ran = rig.jtr("apply", str(rig.docs), "--expect", str(file))

    assert ran.code == 4, ran.text
    told = "robots: leave" if "reboot" in instead else "their windows"
    assert told in ran.err
    assert kinds(stand_in) == ["save"]


@pytest.mark.parametrize("wishes", [{"cache": {}, "reboot": RESUME}, {"reboot": LEAVE}])
def test_a_window_that_closes_before_sending_lets_nothing_out(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, wishes: dict[str, Any]
) -> None:
    (stand_in,) = ready(rig)
    ask(rig, windows=[ALWAYS], **wishes)
    closed = [True]
    closing(monkeypatch, lambda: bool(closed))

    ran = rig.apply()

    assert ran.code == 4, ran.text
    assert "not attempted: its window closed: outside" in ran.out
    assert kinds(stand_in) == ["save"]
    assert (stand_in.record.reboot_requests, stand_in.record.invalidation_requests) == (0, 0)
    closed.clear()
    assert rig.apply().code == 0
    assert len(kinds(stand_in)) > 1


def test_a_closed_window_of_one_server_does_not_stop_the_others(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    servers = ready(rig, "kyoto-1", "osaka-1", "tokyo-1")
    for name in rig.servers:
        ask(rig, name, reboot=RESUME, windows=[ALWAYS])
    asked = itertools.count()
    closing(monkeypatch, lambda: next(asked) == 0)  # for the first that comes

    ran = rig.apply()

    assert ran.code == 4, ran.text
    assert sorted(stand_in.record.reboots for stand_in in servers) == [0, 1, 1]


def test_robots_of_a_reboot_are_started_after_its_window(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    (stand_in,) = ready(rig)
    ask(rig, reboot=RESUME, windows=[ALWAYS])
    closing(monkeypatch, lambda: stand_in.record.reboot_requests > 0)

    ran = rig.apply()

    assert ran.code == 0, ran.text
    assert kinds(stand_in) == ["save", "reboot", "start", "start"]


def test_a_restart_stops_no_further_robot_and_leaves_none_stopped(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    (stand_in,) = ready(rig, robots=[Robot(1, "grid-btc", "bybit"), Robot(2, "arb", "bybit")])
    rig.rotate(exchange="bybit")
    ask(rig, robots=RESTART, windows=[ALWAYS])
    closing(monkeypatch, lambda: "stop" in kinds(stand_in))

    ran = rig.apply()

    assert ran.code == 4, ran.text
    assert "restarted grid-btc; before arb its window closed: outside" in ran.out
    assert kinds(stand_in) == ["save", "save", "stop", "start"]
    assert stand_in.robots_running() == {1, 2}
    assert [debt["robotName"] for debt in owed(rig)] == ["arb"]


def owed(rig: Rig) -> list[dict[str, Any]]:
    """What is owed after the last apply."""
    return list(server(rig.plan("-o", "json"))["debts"])


@pytest.mark.silence
def test_a_second_try_is_not_sent_outside_of_the_window(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    (stand_in,) = ready(rig)
    stand_in.behaviour.reboot = "ignored"
    ask(rig, reboot=RESUME, windows=[ALWAYS])
    closing(monkeypatch, lambda: stand_in.record.reboot_requests > 0)

    ran = rig.apply()

    assert ran.code == 4, ran.text
    assert "the second try was not sent: its window closed" in ran.out
    assert stand_in.record.reboot_requests == 1
    assert standings(rig.plan("-o", "json")) == {"reboot": "due"}
