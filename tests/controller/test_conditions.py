"""What people are shown and told after a pass: tables."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from reconciler.controller import conditions
from reconciler.controller.commit_status import word_of
from reconciler.controller.conditions import Pass
from reconciler.controller.events import server_news
from reconciler.controller.status import ControllerStatus, Health, ServerStatus, Sync
from reconciler.errors import Exit, JtrError, LedgerError, ServerUnreachable, Unauthorized
from reconciler.model.actions import RebootServer, WriteExchange
from reconciler.model.conditions import Code, Condition, blocked
from reconciler.model.desired import Afterwards, Mode, Suspension
from reconciler.model.outcomes import Outcome, Report, Result
from reconciler.model.plan import (
    Category,
    Disruption,
    Line,
    ServerPlan,
    Standing,
    Status,
    Verdict,
)
from reconciler.model.recorded import Debt, Owed, Purpose, Recorded
from reconciler.model.values import replace
from reconciler.notifications.events import UNKNOWN, AlertSeverity, Topic
from tests.support import factories as f

ROBOTS = (f.GRID, f.ARB)
PUT = WriteExchange("bybit", (), (), Purpose.CHANGE)
NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
ACTING = ControllerStatus("1", "here", "now", acting=True, revision="a" * 40, attempted="a" * 40)
WRITE = Line("bybit", Status.WRITE, Verdict.DIFFERENT, action=PUT)
DRIFT = Line(
    "okx", Status.LEFT_ALONE, Verdict.DIFFERENT, category=Category.DRIFT, asks="--correct-drift"
)
BLOCKED = Line(
    "okx", Status.BLOCKED, Verdict.UNKNOWN, condition=blocked(Code.FOREIGN, "foreign", "")
)
SETTLING = Line(
    "okx", Status.SETTLING, Verdict.UNKNOWN, condition=Condition("not-settled", "written 2 s ago")
)
FAILED = Line(
    "okx",
    Status.FAILED,
    Verdict.UNKNOWN,
    condition=Condition("secret-deleted", "deleted", exit=Exit.SECRETS),
)


def shown(*lines: Line, outcomes: tuple[Outcome, ...] = (), **given: Any) -> ServerStatus:
    """The status after a pass with these lines in its plan."""
    desired = given.pop("desired", f.server())
    plan = ServerPlan(desired.name, desired.target, lines=lines, **given.pop("plan", {}))
    report = Report(plan, outcomes, given.pop("failure", None))
    seen = given.pop("seen", f.observed())
    one = Pass(
        desired,
        report,
        given.pop("remembered", Recorded()),
        seen,
        NOW,
        given.pop("over_by", NOW),
        **given,
    )
    return conditions.after(one, conditions.before_first(desired, None))


@pytest.mark.parametrize(
    ("lines", "sync", "health"),
    [
        ((), Sync.SYNCED, Health.HEALTHY),
        ((WRITE,), Sync.OUT_OF_SYNC, Health.PROGRESSING),
        ((DRIFT,), Sync.OUT_OF_SYNC, Health.HEALTHY),
        ((BLOCKED,), Sync.OUT_OF_SYNC, Health.DEGRADED),
        ((SETTLING,), Sync.UNKNOWN, Health.PROGRESSING),
        ((FAILED,), Sync.UNKNOWN, Health.DEGRADED),
        ((FAILED, SETTLING), Sync.UNKNOWN, Health.DEGRADED),
    ],
    ids=["nothing", "write", "drift", "blocked", "settling", "failed", "failed and settling"],
)
def test_sync_and_health_of_lines(lines: tuple[Line, ...], sync: Sync, health: Health) -> None:
    status = shown(*lines)

    assert (status.sync, status.health) == (sync, health)
    assert bool(status.reason) is (health is not Health.HEALTHY)


def test_what_was_done_in_the_pass_differs_no_more() -> None:
    done = Outcome(PUT, Result.DONE)

    assert shown(WRITE, outcomes=(done,)).sync is Sync.SYNCED


REBOOT = RebootServer(NOW, "okx moved", Afterwards.RESUME, 600)


def asked(standing: Standing, condition: Condition | None = None) -> Disruption:
    """A line about a reboot."""
    code = blocked(Code.EXPIRED, "until noon", "") if standing in PERSONS else Condition(Code.DUE)
    return Disruption("reboot of now", standing, condition or code, REBOOT, instant=NOW)


PERSONS = (Standing.BLOCKED, Standing.IN_DOUBT, Standing.NOT_DONE, Standing.EXPIRED)
OVER = (Standing.DONE, Standing.SATISFIED, Standing.SUPERSEDED, Standing.BASELINED)


@pytest.mark.parametrize("standing", tuple(Standing))
def test_what_is_asked_for_and_not_over_is_no_good_word(standing: Standing) -> None:
    """A reboot that fails tonight reached no commit: it had its last good word before."""
    status = shown(plan={"disruptions": (asked(standing),)})
    health = (
        Health.DEGRADED
        if standing in PERSONS
        else Health.HEALTHY
        if standing in OVER
        else Health.PROGRESSING
    )

    assert (status.sync, status.health) == (Sync.SYNCED, health)
    word = word_of(ACTING, [replace(status, judged=True)])
    assert (None if word is None else word.good) == {
        Health.DEGRADED: False,
        Health.HEALTHY: True,
        Health.PROGRESSING: None,
    }[health]


@pytest.mark.parametrize("code", [Code.REBOOT_NEEDED, Code.REBOOT_DOES_IT, Code.POLICY_DENIED])
def test_a_restart_that_is_held_back_for_good_is_not_waited_for(code: Code) -> None:
    restart = asked(Standing.HELD, Condition(code, "grid"))

    assert shown(plan={"disruptions": (restart,)}).health is Health.HEALTHY
    windowed = replace(restart, condition=Condition(Code.WINDOW_CLOSED, "outside"))
    assert shown(plan={"disruptions": (windowed,)}).health is Health.PROGRESSING


def test_what_was_done_in_the_pass_is_not_waited_for() -> None:
    due = {"disruptions": (asked(Standing.DUE),)}

    assert shown(plan=due, outcomes=(Outcome(REBOOT, Result.DONE),)).health is Health.HEALTHY
    assert shown(plan=due).health is Health.PROGRESSING


def test_nobody_waits_for_what_is_only_observed() -> None:
    waiting = {"disruptions": (asked(Standing.WAITING),)}

    assert shown(plan=waiting, desired=f.server(mode=Mode.OBSERVE)).health is Health.HEALTHY


def test_a_server_that_waits_for_its_window_is_well_for_who_is_told_of_it() -> None:
    """Nobody is alarmed, and one that was away is told to be back before its window comes."""
    status = shown(plan={"disruptions": (asked(Standing.WAITING),)})

    (news,) = [n for n in server_news(status, vault_away=False) if n.topic is Topic.HEALTH]
    assert (news.state, news.text) == (
        "",
        "tokyo-1: healthy again, and looked after as before",
    )
    assert status.reason == "reboot of now: waits for its window"
    assert not replace(status, health=Health.DEGRADED).well
    assert not shown(SETTLING, plan={"disruptions": (asked(Standing.WAITING),)}).well


def test_harm_comes_first() -> None:
    harm = Outcome(PUT, Result.HARM, "robots stopped", "start them", Exit.HARM)
    status = shown(WRITE, outcomes=(harm,), failure=LedgerError("the ledger is full"))

    assert status.health is Health.DEGRADED
    assert "robots stopped; start them" in status.reason


@pytest.mark.parametrize(
    ("failure", "health"),
    [(ServerUnreachable("down"), Health.UNREACHABLE), (Unauthorized("no"), Health.DEGRADED)],
    ids=["unreachable", "unauthorized"],
)
def test_a_server_that_was_not_seen_keeps_what_was_known(failure: JtrError, health: Health) -> None:
    known = replace(shown(), version="0.24.19", robots=ROBOTS, seen_at="then")
    plan = ServerPlan("tokyo-1", f.TARGET, failure=failure)
    one = Pass(f.server(), Report(plan), Recorded(), None, NOW, NOW)

    status = conditions.after(one, known)

    assert (status.sync, status.health) == (Sync.UNKNOWN, health)
    assert (status.version, status.robots, status.seen_at) == ("0.24.19", ROBOTS, "then")


def test_a_suspension_is_shown_until_it_ends() -> None:
    pause = Suspension("maintenance", "desk-asia", NOW + timedelta(hours=1))

    during = shown(desired=f.server(suspend=pause))
    over = f.server(suspend=replace(pause, until=NOW))
    later = shown(desired=over)
    jumped = shown(desired=over, over_by=NOW - timedelta(hours=1))

    assert (during.health, during.suspended_by) == (Health.SUSPENDED, "desk-asia")
    assert "maintenance" in during.reason
    assert (later.health, later.suspended) == (Health.HEALTHY, "")
    assert jumped.health is Health.SUSPENDED


def told(
    status: ServerStatus, *, vault_away: bool = False
) -> dict[Topic, tuple[str, AlertSeverity]]:
    """What of a server is not well, by topic."""
    news = server_news(status, vault_away=vault_away)
    return {one.topic: (one.state, one.severity) for one in news if one.state}


def test_a_healthy_server_has_no_news() -> None:
    assert told(shown()) == {}


@pytest.mark.parametrize("health", [Health.SUSPENDED, Health.PROGRESSING])
def test_what_is_paused_or_busy_is_neither_mended_nor_in_trouble(health: Health) -> None:
    news = server_news(replace(shown(), health=health), vault_away=False)

    assert [one.state for one in news if one.topic is Topic.HEALTH] == [UNKNOWN]


def test_one_vault_that_is_away_rings_once_and_not_for_every_server() -> None:
    status = shown(FAILED)

    assert Topic.HEALTH in told(status)
    assert told(status, vault_away=True) == {}


def test_a_server_that_cannot_be_reached_is_told_also_while_vault_is_away() -> None:
    status = replace(shown(), health=Health.UNREACHABLE)

    assert Topic.HEALTH in told(status, vault_away=True)


def test_a_reboot_debt_is_told_at_once_and_daily() -> None:
    status = replace(shown(), debts=(Debt(Owed.REBOOT, "okx", "then", 1),))
    news = [one for one in server_news(status, vault_away=False) if one.state]

    assert [(one.topic, one.state, one.remind) for one in news] == [
        (Topic.REBOOT_OWED, "okx", 86_400.0)
    ]
    assert "jtr request reboot SERVER --robots resume" in news[0].guide.remedy


@pytest.mark.parametrize(
    ("known", "before", "now", "ours", "expected"),
    [
        ((), (1, 2), (1, 2), (), ()),
        ((), (1, 2), (2,), (), (1,)),
        ((), (1, 2), (2,), (1,), ()),
        ((1,), (2,), (2,), (), (1,)),
        ((1,), (2,), (1, 2), (), ()),
        ((), (2,), (1, 2), (), ()),
        ((), (1, 2), (), (2,), (1,)),
    ],
    ids=["none", "one", "ours", "still", "again", "started", "some are ours"],
)
def test_robots_that_stopped_without_our_asking(
    known: tuple[int, ...],
    before: tuple[int, ...],
    now: tuple[int, ...],
    ours: tuple[int, ...],
    expected: tuple[int, ...],
) -> None:
    def robots(running: tuple[int, ...]) -> list[Any]:
        return [replace(robot, running=robot.id in running) for robot in ROBOTS]

    found = conditions.unasked(known, robots(before), robots(now), ours)

    assert tuple(robot.id for robot in found) == expected
