"""What people are shown and told after a pass: tables."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from reconciler.controller import conditions
from reconciler.controller.conditions import Pass
from reconciler.controller.events import server_news
from reconciler.controller.status import Health, ServerStatus, Sync
from reconciler.errors import Exit, JtrError, LedgerError, ServerUnreachable, Unauthorized
from reconciler.model.actions import WriteExchange
from reconciler.model.desired import Suspension
from reconciler.model.outcomes import Outcome, Report, Result
from reconciler.model.plan import Category, Line, ServerPlan, Status, Verdict
from reconciler.model.recorded import Debt, Owed, Purpose, Recorded
from reconciler.notifications.events import AlertSeverity, Topic
from tests.support import factories as f

ROBOTS = (f.GRID, f.ARB)
PUT = WriteExchange("bybit", (), (), Purpose.CHANGE)
NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
WRITE = Line("bybit", Status.WRITE, Verdict.DIFFERENT, action=PUT)
DRIFT = Line(
    "okx", Status.LEFT_ALONE, Verdict.DIFFERENT, category=Category.DRIFT, asks="--correct-drift"
)
BLOCKED = Line("okx", Status.BLOCKED, Verdict.UNKNOWN, why="foreign", error=Exit.BLOCKED)
SETTLING = Line("okx", Status.SETTLING, Verdict.UNKNOWN, why="written 2 s ago")
FAILED = Line("okx", Status.FAILED, Verdict.UNKNOWN, why="deleted", error=Exit.SECRETS)


def shown(*lines: Line, outcomes: tuple[Outcome, ...] = (), **given: Any) -> ServerStatus:
    """The status after a pass with these lines in its plan."""
    desired = given.pop("desired", f.server())
    plan = ServerPlan(desired.name, desired.target, lines=lines, **given.pop("plan", {}))
    report = Report(plan, outcomes, given.pop("failure", None))
    seen = given.pop("seen", f.observed())
    one = Pass(desired, report, given.pop("remembered", Recorded()), seen, NOW, **given)
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
    one = Pass(f.server(), Report(plan), Recorded(), None, NOW)

    status = conditions.after(one, known)

    assert (status.sync, status.health) == (Sync.UNKNOWN, health)
    assert (status.version, status.robots, status.seen_at) == ("0.24.19", ROBOTS, "then")


def test_a_suspension_is_shown_until_it_ends() -> None:
    pause = Suspension("maintenance", "desk-asia", NOW + timedelta(hours=1))

    during = shown(desired=f.server(suspend=pause))
    later = shown(desired=f.server(suspend=replace(pause, until=NOW)))

    assert (during.health, during.suspended_by) == (Health.SUSPENDED, "desk-asia")
    assert "maintenance" in during.reason
    assert (later.health, later.suspended) == (Health.HEALTHY, "")


def told(
    status: ServerStatus, *, vault_away: bool = False
) -> dict[Topic, tuple[str, AlertSeverity]]:
    """What of a server is not well, by topic."""
    news = server_news(status, vault_away=vault_away)
    return {one.topic: (one.state, one.severity) for one in news if one.state}


def test_a_healthy_server_has_no_news() -> None:
    assert told(shown()) == {}


def test_one_vault_that_is_away_rings_once_and_not_for_every_server() -> None:
    status = shown(FAILED)

    assert Topic.HEALTH in told(status)
    assert told(status, vault_away=True) == {}


def test_a_reboot_debt_is_told_at_once_and_daily() -> None:
    status = replace(shown(), debts=(Debt(Owed.REBOOT, "okx", "then", 1),))
    news = [one for one in server_news(status, vault_away=False) if one.state]

    assert [(one.topic, one.state, one.remind) for one in news] == [
        (Topic.REBOOT_OWED, "okx", 86_400.0)
    ]
    assert "jtr request reboot tokyo-1 --robots resume" in news[0].text


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
