"""Which robots are restarted after a changed credential, and when one that is owed may start."""

from datetime import UTC, datetime
from typing import Any

import pytest

from reconciler.errors import Exit
from reconciler.model.actions import RebootServer, RestartRobots, ResumeRobots, WriteExchange
from reconciler.model.conditions import Code, blocked
from reconciler.model.desired import OnCredentialChange, OneShot, RequestKind
from reconciler.model.observed import BootLine, Logbook, Robot
from reconciler.model.plan import Disruption, Plan, ServerPlan, Standing
from reconciler.model.policy import PolicyAction, Violation
from reconciler.model.recorded import (
    NO_REQUESTS,
    Attempt,
    Debt,
    ExchangeRecord,
    Owed,
    PendingStarts,
    Recorded,
    Request,
    Requests,
    Stage,
)
from reconciler.model.values import replace
from reconciler.plan.inputs import NO_DISRUPTIVE, Consents, Facts, Terms
from reconciler.plan.robots import halt_line, restored, unresumable
from reconciler.plan.server import plan_server
from tests.support import factories as f

NOW = datetime(2026, 11, 22, 10, tzinfo=UTC)
SINCE = "2026-11-22T09:55:00.000+00:00"
BOOT = BootLine(1_700_000_000_000, 4121)
LOG = Logbook(readable=True, boot=BOOT.time, boots=(BOOT,), newest=BOOT.time + 300_000)
TERMS = Terms(NOW, log=LOG, baseline=datetime(2026, 11, 1, tzinfo=UTC), since_halt=300.0)
OWL = Robot(9, "night-owl", "okx", running=False)
OTHER = Robot(5, "mm", "bybit", running=True)
RESTART = OnCredentialChange.RESTART
AT_TEN = (f.window("deny", "0 10 * * *"),)
NOON = NOW.replace(hour=12)


def asleep(*robots: Robot) -> tuple[Robot, ...]:
    """The same robots, stopped."""
    return tuple(replace(robot, running=False) for robot in robots)


# ── restarts ─────────────────────────────────────────────────────────────────────────────────

WRITTEN = ExchangeRecord(
    "bybit", written=f.write(1), ever=True, past_keys=(("api-1", "rest-1"),), past_boot=1_000
)
OWES = Debt(Owed.RESTART, "bybit", SINCE, 1_000, 1, "grid-btc")


def plan(
    record: ExchangeRecord = WRITTEN,
    version: int = 2,
    *,
    robots: tuple[Robot, ...] = (f.GRID, f.ARB),
    requests: Requests = NO_REQUESTS,
    shown: int = 1,
    consents: Consents | None = None,
    evidence: Any = None,
    known: Any = None,
    now: datetime = NOW,
    unsteady: str = "",
    **changes: Any,
) -> ServerPlan:
    """Plan a server that has version 1, by default while version 2 is desired."""
    desired = f.server(f.exchange(), **({"on_credential_change": RESTART} | changes))
    facts = Facts(
        {"bybit": f.sources(version)},
        {"bybit": evidence or f.evidence()},
        terms=replace(TERMS, now=now, unsteady=unsteady),
        **(known or {}),
    )
    seen = f.observed({"bybit": f.masks(shown)}, robots)
    recorded = replace(f.recorded(record), requests=requests)
    return plan_server(desired, seen, recorded, facts, consents or Consents())


def restarts(found: ServerPlan) -> list[tuple[Standing, tuple[int, ...]]]:
    """Return the lines about restarts and whom they name."""
    return [
        (line.standing, tuple(robot.id for robot in line.robots))
        for line in found.disruptions
        if line.what.startswith("restart")
    ]


def test_a_changed_key_restarts_the_robots_of_its_exchange_after_the_write() -> None:
    found = plan(robots=(f.GRID, f.ARB, OTHER, *asleep(Robot(9, "off", "bybit", running=True))))

    assert [type(action) for action in found.actions] == [WriteExchange, RestartRobots]
    assert restarts(found) == [(Standing.DUE, (1, 5))]


def test_by_default_robots_are_left() -> None:
    found = plan(on_credential_change=OnCredentialChange.LEAVE)

    assert [type(action) for action in found.actions] == [WriteExchange]
    assert found.disruptions == ()


def test_a_debt_of_an_earlier_pass_is_paid_when_nothing_is_written() -> None:
    found = plan(replace(WRITTEN, debts=(OWES,)), version=1)

    assert [type(action) for action in found.actions] == [RestartRobots]
    assert restarts(found) == [(Standing.DUE, (1,))]


def test_robots_that_do_not_run_are_not_restarted() -> None:
    stopped = plan(replace(WRITTEN, debts=(OWES,)), version=1, robots=asleep(f.GRID))
    nobody = plan(robots=asleep(f.GRID, f.ARB))

    assert restarts(stopped) == restarts(nobody) == []
    assert [type(action) for action in nobody.actions] == [WriteExchange]


def test_where_the_client_is_cached_nothing_is_restarted_and_a_reboot_is_named() -> None:
    same_key = replace(f.evidence(), api_key="api-1", companions="rest-2")
    found = plan(evidence=same_key)
    (line,) = found.disruptions

    assert [type(action) for action in found.actions] == [WriteExchange]
    assert (line.standing, line.robots) == (Standing.HELD, (f.GRID,))
    assert "jtr request reboot tokyo-1 --robots resume" in line.remedy


def test_a_reboot_debt_holds_a_restart_debt_back() -> None:
    both = (OWES, Debt(Owed.REBOOT, "bybit", SINCE, 1_000))
    found = plan(replace(WRITTEN, debts=both), version=1)

    assert (restarts(found), found.actions) == ([(Standing.HELD, (1,))], ())


def test_a_correction_restarts_nobody() -> None:
    found = plan(version=1, shown=3, consents=Consents(drift=True, targets=frozenset({"tokyo-1"})))

    assert [type(action) for action in found.actions] == [WriteExchange]
    assert found.disruptions == ()


def test_declined_and_held_writes_restart_nobody() -> None:
    drift = plan(version=2, shown=3, consents=Consents(targets=frozenset({"tokyo-1"})))

    assert drift.actions == ()
    assert restarts(drift) == []


def test_a_reboot_in_the_same_pass_does_it() -> None:
    reboot = OneShot(RequestKind.REBOOT, NOW, "x", f.SOURCE)
    found = plan(reboot=reboot, supervised=True)

    assert [type(action) for action in found.actions] == [WriteExchange, RebootServer]
    assert restarts(found) == [(Standing.HELD, (1,))]


def test_a_reboot_that_is_only_scheduled_does_not() -> None:
    reboot = OneShot(RequestKind.REBOOT, NOW.replace(hour=11), "x", f.SOURCE)

    assert restarts(plan(reboot=reboot, supervised=True)) == [(Standing.DUE, (1,))]


@pytest.mark.parametrize(
    ("changes", "requests"),
    [
        ({"windows": (f.window("deny", "0 10 * * *"),)}, NO_REQUESTS),
        ({"consents": Consents(quiet=NO_DISRUPTIVE)}, NO_REQUESTS),
        (
            {},
            Requests(
                open=Request(
                    RequestKind.CACHE,
                    NOW,
                    "x",
                    Stage.OPEN,
                    (Attempt("n", SINCE, "ci", (BOOT,), None),),
                )
            ),
        ),
        ({}, Requests(halt=PendingStarts("restart", (OWL,), SINCE, "ci", 600, finding="hangs"))),
    ],
    ids=["windows", "no consent", "a request in doubt", "robots owed"],
)
def test_restarts_wait_and_the_write_does_not(changes: dict[str, Any], requests: Requests) -> None:
    found = plan(requests=requests, **changes)

    assert [type(action) for action in found.actions] == [WriteExchange]
    assert restarts(found) == [(Standing.HELD, (1,))]


@pytest.mark.parametrize("windows", [(), (f.window("allow", "0 10 * * *"),)], ids=["", "open"])
def test_no_restart_begins_by_a_clock_that_jumped(windows: tuple[Any, ...]) -> None:
    found = plan(unsteady="our own clock jumped by 7200 s", windows=windows)

    assert [type(action) for action in found.actions] == [WriteExchange]
    assert restarts(found) == [(Standing.HELD, (1,))]
    assert found.disruptions[0].code == Code.CLOCK_UNSTEADY


@pytest.mark.parametrize("windows", [(), (f.window("allow", "0 10 * * *"),)], ids=["", "open"])
@pytest.mark.parametrize(
    "known",
    [
        {"violations": (Violation(PolicyAction.RESTART, "", "denied by rule 3", "3", "ask"),)},
        {"refuses": blocked(Code.BRAKE, "the brake is on", "look")},
    ],
    ids=["policy", "brake"],
)
def test_an_open_window_allows_no_restart_that_something_else_forbids(
    known: dict[str, Any], windows: tuple[Any, ...]
) -> None:
    found = plan(replace(WRITTEN, debts=(OWES,)), version=1, known=known, windows=windows)

    assert restarts(found) == [(Standing.HELD, (1,))]
    assert found.actions == ()
    assert found.disruptions[0].code in (Code.POLICY_DENIED, Code.BRAKE)


def test_that_robots_are_restarted_is_in_the_plans_id_and_which_is_not() -> None:
    with_restart, without = plan(), plan(on_credential_change=OnCredentialChange.LEAVE)
    later = plan(windows=AT_TEN)
    others = [plan(robots=robots) for robots in ((), (f.GRID, OTHER))]

    assert len(with_restart.actions) > len(without.actions)
    assert Plan((with_restart,)).id != Plan((without,)).id
    assert {Plan((one,)).id for one in others} == {Plan((with_restart,)).id}
    assert len(later.actions) == len(without.actions)
    assert Plan((later,)).id not in {Plan((with_restart,)).id, Plan((without,)).id}
    assert Plan((later,)).id == Plan((plan(windows=AT_TEN, now=NOON),)).id


def test_a_restart_that_is_owed_is_in_the_plans_id_whether_it_may_be_done_now_or_not() -> None:
    owed = replace(WRITTEN, debts=(OWES,))
    due, left = (
        plan(owed, version=1),
        plan(owed, version=1, on_credential_change=OnCredentialChange.LEAVE),
    )
    waits, comes = (plan(owed, version=1, windows=AT_TEN, now=now) for now in (NOW, NOON))

    assert (len(due.actions), len(left.actions)) == (1, 0)
    assert (len(waits.actions), len(comes.actions)) == (0, 1)
    assert Plan((waits,)).id == Plan((comes,)).id
    assert len({Plan((one,)).id for one in (due, left, waits)}) == 3


# ── robots that are owed a start ─────────────────────────────────────────────────────────────

HALT = PendingStarts(
    "reboot 2026-11-22T09:55:00+00:00",
    (f.GRID, f.ARB),
    at=SINCE,
    by="apply 1@ci",
    within=600,
    boot=BOOT,
)
STOPPED = asleep(f.GRID, f.ARB)
ONE = replace(HALT, origin="restart on bybit", robots=(f.GRID,), exchange="bybit", others=(2,))


def owed(
    halt: PendingStarts = HALT, robots: tuple[Robot, ...] = STOPPED, **terms: Any
) -> Disruption:
    """Return the line about robots that are owed."""
    return halt_line(halt, "tokyo-1", robots, replace(TERMS, **terms))


def test_they_are_started_again() -> None:
    line = owed()

    assert (line.standing, line.error) == (Standing.DUE, Exit.DONE)
    assert line.action == ResumeRobots((f.GRID, f.ARB), HALT.at)


def test_only_those_that_do_not_run_are_started() -> None:
    begun = replace(HALT, begun=(1,))

    assert owed(begun, (f.GRID, *asleep(f.ARB))).action == ResumeRobots((f.ARB,), HALT.at)


def test_one_that_the_server_itself_started_does_not_keep_the_others_from_theirs() -> None:
    assert owed(robots=(f.GRID, *asleep(f.ARB))).action == ResumeRobots((f.ARB,), HALT.at)


def test_one_that_begins_to_run_after_the_first_look_was_started_by_a_person() -> None:
    late = (f.GRID, *asleep(f.ARB))

    assert restored(HALT, late) == {1}
    assert restored(replace(HALT, begun=(1,)), late) == set()
    assert unresumable(HALT, late, TERMS, restored={1}) == ""
    why = unresumable(HALT, late, TERMS, restored=set())
    assert why == f"robots run that we did not start: {f.GRID.name}"


@pytest.mark.parametrize("finding", ["", "it did not start"])
def test_when_all_of_them_run_it_is_over_whoever_started_them(finding: str) -> None:
    line = owed(replace(HALT, finding=finding), (f.GRID, f.ARB))

    assert (line.standing, line.error, line.action) == (Standing.FOUND_OUT, Exit.DONE, None)


NEWER = BootLine(BOOT.time + 1, BOOT.pid)


@pytest.mark.parametrize(
    ("halt", "robots", "terms", "why"),
    [
        (replace(HALT, finding="it hangs"), STOPPED, {}, "it hangs"),
        (HALT, STOPPED, {"log": None}, "does not tell"),
        (HALT, STOPPED, {"log": Logbook()}, "does not tell"),
        (HALT, STOPPED, {"since_halt": 600.1}, "not within 600 s"),
        (HALT, STOPPED, {"since_halt": None}, "cannot be told"),
        (HALT, STOPPED, {"since_halt": -1.0}, "cannot be told"),
        (replace(HALT, boot=None), STOPPED, {}, "on which process"),
        (HALT, STOPPED, {"log": replace(LOG, boots=(BOOT, NEWER))}, "booted again"),
        (HALT, STOPPED, {"log": replace(LOG, boots=())}, "booted again"),
        (HALT, STOPPED, {"log": replace(LOG, newest=BOOT.time + 600_001)}, "server's own clock"),
        (HALT, (*STOPPED, OTHER), {}, f"robots run that we did not start: {OTHER.name}"),
        (HALT, (f.GRID, *asleep(f.ARB), OTHER), {}, f"we did not start: {OTHER.name}"),
        (ONE, asleep(f.GRID, f.ARB), {}, "other robots stopped"),
        (replace(HALT, begun=(1,)), STOPPED, {}, "a start was sent"),
        (HALT, STOPPED[:1], {}, "not on the server any more"),
        (HALT, (), {}, "not on the server any more"),
    ],
)
def test_why_they_are_left_to_people(
    halt: PendingStarts, robots: tuple[Robot, ...], terms: dict[str, Any], why: str
) -> None:
    line = owed(halt, robots, **terms)

    assert (line.standing, line.error, line.action) == (Standing.BLOCKED, Exit.BLOCKED, None)
    assert why in line.why
    assert "jtr request resume tokyo-1" in line.remedy
    assert line.robots, "they are named"


@pytest.mark.parametrize("seconds", [0.0, 600.0])
def test_the_time_limit_is_inclusive(seconds: float) -> None:
    assert owed(since_halt=seconds).standing is Standing.DUE


def test_a_restarts_robot_is_not_judged_by_the_age_of_the_boot() -> None:
    old = replace(LOG, newest=BOOT.time + 90_000_000)

    assert owed(ONE, (*asleep(f.GRID), f.ARB), log=old).standing is Standing.DUE


def test_one_whose_failure_was_seen_does_not_keep_the_others_from_theirs() -> None:
    begun = replace(HALT, begun=(1,))

    assert "a start was sent" in unresumable(begun, STOPPED, TERMS, restored=set())
    assert unresumable(begun, STOPPED, TERMS, restored=set(), failed={1}) == ""


def test_without_consent_to_disrupt_they_stay_owed() -> None:
    desired = f.server()
    known = replace(Recorded(), requests=Requests(halt=HALT))
    found = plan_server(
        desired,
        f.observed(robots=STOPPED),
        known,
        Facts({}, {}, terms=TERMS),
        Consents(quiet=NO_DISRUPTIVE),
    )

    assert [line.standing for line in found.disruptions] == [Standing.HELD]
    assert found.actions == ()


def test_when_they_run_again_a_request_goes_on_in_the_same_pass() -> None:
    reboot = OneShot(RequestKind.REBOOT, NOW, "x", f.SOURCE)
    known = replace(Recorded(), requests=Requests(halt=HALT))
    found = plan_server(
        f.server(reboot=reboot, supervised=True),
        f.observed(robots=(f.GRID, f.ARB)),
        known,
        Facts({}, {}, terms=TERMS),
        Consents(),
    )

    assert [type(action) for action in found.actions] == [RebootServer]
