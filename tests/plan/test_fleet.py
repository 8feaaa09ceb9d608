"""What a policy's limits leave of the plans of a fleet; twins are in test_server.py."""

from collections import Counter
from datetime import UTC, datetime

import pytest

from reconciler.errors import Exit
from reconciler.model.actions import (
    Action,
    DeleteExchange,
    Disruptive,
    InvalidateCache,
    RebootServer,
    RestartRobots,
    ResumeRobots,
    WriteExchange,
)
from reconciler.model.desired import Afterwards
from reconciler.model.observed import Robot
from reconciler.model.plan import Disruption, Line, ServerPlan, Standing, Status
from reconciler.model.recorded import Purpose
from reconciler.model.target import Target
from reconciler.plan.fleet import SERVERS, counts, limit_actions
from reconciler.policy.model import NO_LIMITS, Limits

NOW = datetime(2026, 11, 22, 9, tzinfo=UTC)
GRID, ARB = Robot(1, "grid", "bybit", True), Robot(2, "arb", "bybit", True)
WRITE = WriteExchange("bybit", (), (), Purpose.CHANGE)
DELETE = DeleteExchange("bybit", ())
RESTART = RestartRobots("bybit", (GRID, ARB))
RESUME = ResumeRobots((GRID,))
CACHE = InvalidateCache(NOW, "stale")
REBOOT = RebootServer(NOW, "why", Afterwards.LEAVE, 600)


def server(name: str, *actions: Action) -> ServerPlan:
    lines = [
        Line(one.exchange, Status.WRITE, action=one)
        for one in actions
        if isinstance(one, WriteExchange | DeleteExchange)
    ]
    disruptions = [
        Disruption("a deed", Standing.DUE, action=one)
        for one in actions
        if isinstance(one, Disruptive)
    ]
    return ServerPlan(
        name,
        Target(f"https://{name}.internal", "0"),
        lines=tuple(lines),
        disruptions=tuple(disruptions),
    )


def fleet(number: int, *actions: Action) -> list[ServerPlan]:
    return [server(f"server-{n}", *actions) for n in range(number)]


def left(plans: tuple[ServerPlan, ...]) -> list[int]:
    return [len(plan.actions) for plan in plans]


@pytest.mark.parametrize(
    ("limits", "action", "most"),
    [
        (Limits(deletes=2), DELETE, 2),
        (Limits(deletes=0), DELETE, 0),
        (Limits(restarts=4), RESTART, 2),  # two robots each
        (Limits(reboots=1), REBOOT, 1),
        (Limits(invalidations=3), CACHE, 3),
    ],
)
def test_at_its_limit_all_is_done_and_over_it_nothing(
    limits: Limits, action: Action, most: int
) -> None:
    within = limit_actions(fleet(most, action), limits, 10)
    over = limit_actions(fleet(most + 1, action, WRITE), limits, 10)

    assert left(within) == [1] * most
    assert left(over) == [1] * (most + 1)  # what is not of the kind goes on
    assert all(plan.actions == (WRITE,) for plan in over)
    assert {plan.exit_code for plan in over} == {Exit.BLOCKED}


def test_what_is_held_back_says_how_much_it_was() -> None:
    (plan, *_) = limit_actions(fleet(3, DELETE), Limits(deletes=2), 3)

    assert plan.lines[0].status is Status.BLOCKED
    assert plan.lines[0].why == "3 deletes in this pass, and limits.deletes of the policy is 2"
    assert plan.lines[0].remedy


@pytest.mark.parametrize(
    ("share", "servers", "changed", "done"),
    [(50, 10, 5, True), (50, 10, 6, False), (1, 10, 1, True), (1, 10, 2, False), (100, 3, 3, True)],
)
def test_a_share_of_the_servers(share: int, servers: int, changed: int, *, done: bool) -> None:
    limits = Limits(servers_changed=share)
    plans = limit_actions(fleet(changed, WRITE, REBOOT), limits, servers)

    assert left(plans) == [2 if done else 0] * changed


def test_robots_that_we_stopped_get_their_start_whatever_is_too_much() -> None:
    plans = limit_actions(fleet(4, RESUME, WRITE), Limits(servers_changed=50), 4)

    assert [plan.actions for plan in plans] == [(RESUME,)] * 4
    assert counts(plans[0])[SERVERS] == 0


def test_what_was_done_before_counts() -> None:
    before = Counter({"deletes": 2, SERVERS: 2})

    assert left(limit_actions(fleet(1, DELETE), Limits(deletes=3), 9, before=before)) == [1]
    assert left(limit_actions(fleet(1, DELETE), Limits(deletes=2), 9, before=before)) == [0]


def test_without_limits_nothing_is_held_back() -> None:
    assert left(limit_actions(fleet(9, DELETE, REBOOT), NO_LIMITS, 9)) == [2] * 9


def test_what_needs_a_consent_is_not_counted() -> None:
    line = Line("bybit", Status.LEFT_ALONE, action=DELETE, asks="--correct-drift")
    plan = ServerPlan("a", Target("https://a.internal", "0"), lines=(line,))

    assert counts(plan) == Counter()
