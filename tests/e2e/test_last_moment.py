"""What changes between our decision and our deed: another hand, a person's pause, a queue."""

import asyncio
import time

import pytest

from reconciler.drivers import Login, Trust
from reconciler.drivers.jt_trader.driver import JtTraderDriver
from reconciler.ledger.requests import RequestLog
from reconciler.model.secret import Secret
from reconciler.model.target import Target
from reconciler.sandbox.jt_trader.server import Robot, StandInThread
from reconciler.testing.drivers_rig import QUICK
from tests.e2e.meanwhile import DELETE, LOOK, when_asked
from tests.e2e.terminal import Command
from tests.e2e.test_requests import LEAVE, ask, moment, ready
from tests.support.durations import BRIEF
from tests.support.rig import Rig

KEY = "bybit_api_key"


def test_a_key_that_another_hand_wrote_after_our_look_is_not_overwritten(rig: Rig) -> None:
    (server,) = ready(rig)
    rig.rotate()
    theirs = rig.watch.secret()

    # The look that the plan was made from is the first, the one before the write the second.
    with when_asked(server, LOOK, lambda: server.set_value(KEY, theirs), nth=2):
        ran = rig.apply()

    assert ran.code == 4, ran.text
    assert "changed on the server since it was planned" in ran.text
    assert server.values()[KEY] == theirs
    assert rig.plan().code in {0, 4}, "and no intent is left"


def test_a_delete_ends_when_a_robot_of_that_exchange_starts(rig: Rig) -> None:
    (server,) = ready(rig, robots=[Robot(1, "grid", "bybit"), Robot(3, "idle", "okx", False)])
    rig.document("tokyo-1", "bybit", "okx", supervised=True)
    assert rig.apply().code == 0
    rig.document("tokyo-1", "bybit", rotate=False, exchanges={"okx": {"state": "absent"}})

    with when_asked(server, DELETE, lambda: server.set_running(3, True)):
        ran = rig.apply()

    assert ran.code == 4, ran.text
    assert "robots run on it since the plan: idle" in ran.text
    assert server.record.deletes == 1
    assert server.robots_running() == {1, 3}


def test_a_request_that_expires_in_the_queue_is_not_done(rig: Rig) -> None:
    servers = ready(rig, "kyoto-1", "tokyo-1")
    rig.settings(durations=BRIEF | {"ready": "30s"}, soleWriter=True)
    for server in servers:
        server.behaviour.reboot_down = 8.0  # longer than the requests live
    for name in ("kyoto-1", "tokyo-1"):
        ask(rig, name, reboot={**LEAVE, "bootedAfter": moment(), "expiresAfter": "7s"})

    ran = rig.apply()

    assert ran.code == 4, ran.text
    assert "expired while it waited, NOT done" in ran.text
    assert sorted(server.record.reboots for server in servers) == [0, 1]


def test_a_request_that_expires_before_a_person_answers_is_not_done(rig: Rig) -> None:
    (server,) = ready(rig)
    ask(rig, cache={"invalidatedAfter": moment(), "expiresAfter": "9s"})
    asked = time.monotonic()

    with Command(rig, "apply", str(rig.docs), terminal=True) as command:
        command.expect("invalidate-cache")
        time.sleep(max(0.0, asked + 9.5 - time.monotonic()))  # the person's pause is the point
        command.answer("invalidate-cache", "y")
        code = command.ended()

    assert code == 4, command.text
    assert "expired while it waited, NOT done" in command.text
    assert server.record.invalidations == 0


def test_between_the_registration_and_a_start_lies_nothing(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another client that came and left in between let one failed start stop all robots."""
    robots = [Robot(1, "grid", "bybit", start="fails"), Robot(2, "arb", "okx")]
    (server,) = ready(rig, robots=robots)
    rig.document("tokyo-1", "bybit", robots={"onCredentialChange": "restart"})
    begin = RequestLog.begin

    def slow(self: RequestLog, robot: int) -> None:
        begin(self, robot)
        visit_and_leave(server)

    monkeypatch.setattr(RequestLog, "begin", slow)

    ran = rig.apply()

    assert ran.code == 6, ran.text
    assert server.robots_running() == {2}, "the one that fails stops itself alone"
    assert server.record.fatal_paths == 0
    assert server.record.received[-1].event != "run-background-job-request", "it was looked at"
    assert [r.event for r in server.record.received].count("run-background-job-request") == 1


def visit_and_leave(server: StandInThread) -> None:
    """Be another client that comes and leaves: nobody is registered afterwards."""

    async def story() -> None:
        driver = JtTraderDriver(command="plan", timeouts=QUICK)
        login = Login(Secret(server.server._state.access_secret))
        session = await driver.open(Target(server.url, "0"), login, Trust())
        await session.close()

    asyncio.run(story())
