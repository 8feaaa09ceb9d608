"""What follows from a pass: tables."""

import math
from datetime import UTC, datetime, timedelta

import pytest

from reconciler.controller import pass_result
from reconciler.controller.requeue import Corrections, QueueState
from reconciler.errors import Exit, LedgerError, SecretsUnreachable, ServerUnreachable
from reconciler.model.actions import WriteExchange
from reconciler.model.conditions import Code, Condition
from reconciler.model.desired import OneShot, RequestKind, Window
from reconciler.model.observed import Robot
from reconciler.model.outcomes import Outcome, Report, Result
from reconciler.model.plan import Category, Line, ServerPlan, Status, Verdict
from reconciler.model.recorded import PendingStarts, Purpose, Recorded, Request, Requests, Stage
from reconciler.model.values import replace
from reconciler.system.timeouts import Timeouts
from tests.support import factories as f

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
D = Timeouts()
PUT = WriteExchange("bybit", (), (), Purpose.CHANGE)
BACK = WriteExchange("bybit", (), (), Purpose.CORRECTION)
CHANGE = Line("bybit", Status.WRITE, Verdict.DIFFERENT, action=PUT)
DRIFT = Line("bybit", Status.WRITE, Verdict.DIFFERENT, category=Category.DRIFT, action=BACK)
LEFT = replace(DRIFT, status=Status.LEFT_ALONE, asks="--correct-drift")


def report(*lines: Line, outcomes: tuple[Outcome, ...] = (), **plan: object) -> Report:
    return Report(ServerPlan("tokyo-1", f.TARGET, lines=lines, **plan), outcomes)  # type: ignore[arg-type]


def reboot(stage: Stage, closed: timedelta | None) -> Request:
    """A reboot of ours before which one robot ran."""
    at = "" if closed is None else (NOW + closed).isoformat()
    return Request(RequestKind.REBOOT, NOW, "asked", stage, ran=(f.GRID,), closed_at=at)


@pytest.mark.parametrize(
    ("windows", "seconds"),
    [
        ((), math.inf),
        ((f.window("allow", "30 11 * * *"),), 1_800.0),
        ((f.window("allow", "0 14 * * *"),), 7_200.0),
        ((f.window("deny", "30 11 * * *"),), 1_800.0),
        ((f.window("deny", "0 14 * * *"),), 7_200.0),
    ],
    ids=["none", "open", "to open", "denied", "to be denied"],
)
def test_how_long_a_status_stays_true_by_the_clock(
    windows: tuple[Window, ...], seconds: float
) -> None:
    server = f.server(windows=windows)

    assert pass_result.steady(server, NOW) == seconds


@pytest.mark.parametrize(
    ("requests", "mine"),
    [
        (Requests(), set()),
        (Requests(past=(reboot(Stage.DONE, timedelta(seconds=1)),)), {1}),
        (Requests(past=(reboot(Stage.DONE, -timedelta(hours=1)),)), set()),
        (Requests(past=(reboot(Stage.NOT_DONE, timedelta(seconds=1)),)), set()),
        (Requests(past=(reboot(Stage.SATISFIED, timedelta(seconds=1)),)), set()),
        (Requests(open=reboot(Stage.OPEN, None)), {1}),
        (Requests(halt=PendingStarts("a restart", (f.ARB,), "", "", 600.0)), {2}),
    ],
    ids=["none", "done since", "done before", "not done", "by another hand", "open", "owed"],
)
def test_which_robots_we_stopped_ourselves(requests: Requests, mine: set[int]) -> None:
    known = Recorded(requests=requests)

    assert pass_result.ours(known, NOW.isoformat()) == mine


def sent(line: Line, result: Result, code: Exit = Exit.DONE) -> Outcome:
    """What became of a line's action."""
    assert line.action is not None
    return Outcome(line.action, result, code=code)


@pytest.mark.parametrize(
    ("one", "count"),
    [
        (report(DRIFT, outcomes=(sent(DRIFT, Result.DONE),)), 2),
        (report(DRIFT, outcomes=(sent(DRIFT, Result.UNKNOWN, Exit.SERVER),)), 2),
        (report(DRIFT, outcomes=(sent(DRIFT, Result.NOT_ATTEMPTED),)), 1),
        (report(LEFT), 1),
        (report(), 1),
        (report(CHANGE, outcomes=(sent(CHANGE, Result.DONE),)), 0),
        (report(CHANGE, outcomes=(sent(CHANGE, Result.FAILED, Exit.SERVER),)), 1),
    ],
    ids=["done", "unknown", "not tried", "left", "in sync", "another value", "not written"],
)
def test_which_corrections_count(one: Report, count: int) -> None:
    before = QueueState().with_healing("bybit", Corrections(1, NOW.timestamp(), NOW.timestamp()))

    timing = pass_result.healed(before, one, NOW.timestamp() + 1, D)

    assert timing.healed("bybit").count == count


@pytest.mark.parametrize(
    ("one", "fails"),
    [
        (report(), False),
        (report(failure=ServerUnreachable("down")), True),
        (
            report(
                replace(
                    CHANGE,
                    status=Status.FAILED,
                    condition=Condition("forbidden", exit=Exit.SECRETS),
                )
            ),
            True,
        ),
        (
            report(
                replace(
                    CHANGE,
                    status=Status.BLOCKED,
                    condition=Condition(Code.FOREIGN, exit=Exit.BLOCKED),
                )
            ),
            False,
        ),
        (report(replace(CHANGE, status=Status.SETTLING)), False),
        (report(CHANGE, outcomes=(sent(CHANGE, Result.FAILED, Exit.SERVER),)), True),
        (report(CHANGE, outcomes=(sent(CHANGE, Result.IN_DOUBT, Exit.IN_DOUBT),)), False),
    ],
    ids=["well", "down", "no secret", "blocked", "settling", "refused", "in doubt"],
)
def test_after_what_it_is_tried_again_soon(one: Report, *, fails: bool) -> None:
    assert pass_result.fails(one) is fails


@pytest.mark.parametrize(
    ("one", "most"),
    [
        (report(failure=ServerUnreachable("down")), D.backoff_most),
        (report(CHANGE, outcomes=(sent(CHANGE, Result.FAILED, Exit.SERVER),)), D.backoff_most),
        (report(failure=LedgerError("502")), D.interval),
        (report(failure=SecretsUnreachable("down")), D.interval),
        (
            report(
                replace(
                    CHANGE,
                    status=Status.FAILED,
                    condition=Condition("forbidden", exit=Exit.SECRETS),
                )
            ),
            D.interval,
        ),
        (report(CHANGE, outcomes=(sent(CHANGE, Result.FAILED, Exit.ERROR),)), D.interval),
    ],
    ids=["down", "refused", "no ledger", "no Vault", "no secret", "not noted"],
)
def test_only_a_server_that_fails_is_spared_for_longer_than_the_interval(
    one: Report, most: float
) -> None:
    assert pass_result.longest(one, D) == most
    assert pass_result.longest(one, replace(D, backoff_most=7.0)) == 7.0


@pytest.mark.parametrize(
    ("outcomes", "requests", "well"),
    [
        ((), Requests(), True),
        ((sent(CHANGE, Result.DONE),), Requests(), True),
        ((sent(CHANGE, Result.FAILED, Exit.SERVER),), Requests(), False),
        # Its own next action was refused because it failed before: it would never be let through.
        ((sent(CHANGE, Result.NOT_ATTEMPTED, Exit.BLOCKED),), Requests(), True),
        ((), Requests(open=reboot(Stage.OPEN, None)), False),
        ((), Requests(halt=PendingStarts("a restart", (f.ARB,), "", "", 600.0)), False),
    ],
    ids=["nothing to do", "done", "failed", "refused", "in doubt", "owed"],
)
def test_when_others_may_be_disturbed_again(
    outcomes: tuple[Outcome, ...], requests: Requests, *, well: bool
) -> None:
    known = Recorded(requests=requests)

    assert pass_result.undisturbed(report(CHANGE, outcomes=outcomes), known) is well


HALT = PendingStarts("a restart", (f.ARB,), "", "", 600.0)
LOST = replace(reboot(Stage.NOT_DONE, None), ran=(f.GRID, f.ARB))


@pytest.mark.parametrize(
    ("requests", "wished", "running", "left"),
    [
        (Requests(), True, (), ""),
        (Requests(open=reboot(Stage.OPEN, None)), True, (), "a reboot is in doubt"),
        (Requests(halt=HALT), True, (), ""),
        (Requests(halt=replace(HALT, finding="x")), True, (), "its robots have to be looked at"),
        (Requests(past=(LOST,)), True, (f.GRID,), "robots that a failed reboot stopped"),
        (Requests(past=(LOST,)), True, (f.GRID, f.ARB), ""),
        (Requests(past=(LOST,)), False, (), ""),
        (Requests(past=(LOST, reboot(Stage.DONE, None))), True, (), ""),
    ],
    ids=["nothing", "doubt", "owed", "found", "stopped", "run again", "not wished", "done since"],
)
def test_what_a_disruption_left(
    requests: Requests, running: tuple[Robot, ...], left: str, *, wished: bool
) -> None:
    wish = OneShot(RequestKind.REBOOT, LOST.instant, "quarterly", f.SOURCE)
    desired = replace(f.server(), reboot=wish if wished else None)
    seen = tuple(replace(one, running=one in running) for one in (f.GRID, f.ARB))

    found = pass_result.left(desired, Recorded(requests=requests), seen)
    assert found.startswith(left)
    assert bool(found) is bool(left)
