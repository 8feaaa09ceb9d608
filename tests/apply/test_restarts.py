"""Robots are restarted one by one: however that ends, it is said which were restarted."""

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from reconciler.apply.circuit_breaker import CircuitOpen
from reconciler.apply.robots import RobotStarter
from reconciler.errors import (
    Blocked,
    Exit,
    JtrError,
    LeaseHeld,
    NoAnswer,
    ServerUnreachable,
    WindowClosed,
)
from reconciler.model.actions import RestartRobots
from reconciler.model.observed import Robot
from reconciler.model.outcomes import Outcome, Result

GRID, ARB, DCA = (Robot(n, name, "bybit", True) for n, name in enumerate(("grid", "arb", "dca")))
ACTION = RestartRobots("bybit", (GRID, ARB, DCA))
Ending = JtrError | CircuitOpen | Outcome


class Restarts(RobotStarter):
    """Restarts each robot but one, at which it *ends*, after so many sends."""

    def __init__(self, at: Robot, ends: Ending, sends: int = 0) -> None:
        self._execution: Any = SimpleNamespace(sends=0)
        self._at, self._ends, self._sends = at, ends, sends

    async def _in_debt(self, exchange: str) -> list[Robot]:
        assert exchange == "bybit"
        return [GRID, ARB, DCA]

    async def _restart(
        self, action: RestartRobots, robot: Robot, done: list[str]
    ) -> Outcome | None:
        assert action is ACTION
        if robot is not self._at:
            self._execution.sends += 2
            done.append(robot.name)
            return None
        self._execution.sends += self._sends
        if isinstance(self._ends, Outcome):
            return self._ends
        raise self._ends


def ended(at: Robot, ends: Ending, sends: int = 0) -> Outcome:
    return asyncio.run(Restarts(at, ends, sends).restart(ACTION))


@pytest.mark.parametrize(
    ("ends", "code", "told"),
    [
        (WindowClosed("its window closed", "wait"), Exit.BLOCKED, "its window closed"),
        (Blocked("suspended meanwhile by ann", ""), Exit.BLOCKED, "suspended meanwhile by ann"),
        (CircuitOpen("harm on tokyo-2"), Exit.BLOCKED, "stopped: harm on tokyo-2"),
    ],
    ids=["window", "pause", "brake"],
)
def test_what_keeps_us_from_the_next_one_takes_nothing_from_those_that_run(
    ends: Ending, code: Exit, told: str
) -> None:
    outcome = ended(DCA, ends)

    assert outcome.detail == f"restarted grid, arb; before dca {told}"
    assert (outcome.result, outcome.code) == (Result.DONE, code)
    assert not outcome.disturbed


@pytest.mark.parametrize(
    ("ends", "sends", "told"),
    [
        (ServerUnreachable("it is gone", ""), 0, "before arb it is gone"),
        (LeaseHeld("the lease ran out", ""), 0, "before arb the lease ran out"),
        (NoAnswer("arb still runs", ""), 1, "at arb arb still runs"),
        (Blocked("another process changed which robots are owed", ""), 1, "at arb another process"),
    ],
    ids=["server", "lease", "stop without answer", "blocked after a stop"],
)
def test_a_failure_says_what_was_restarted_before_it(ends: JtrError, sends: int, told: str) -> None:
    outcome = ended(ARB, ends, sends)

    assert outcome.detail.startswith(f"restarted grid; {told}")
    assert (outcome.result, outcome.code) == (Result.FAILED, ends.exit_code)


def test_a_robot_that_stays_stopped_hides_no_other() -> None:
    left = Outcome(ACTION, Result.LEFT_STOPPED, "arb: it did not start", code=Exit.SERVER)

    assert ended(ARB, left).detail == "restarted grid; arb: it did not start"
    assert ended(GRID, left).detail == "arb: it did not start"


def test_where_none_was_restarted_the_error_is_what_it_is() -> None:
    with pytest.raises(Blocked, match="suspended"):
        ended(GRID, Blocked("suspended meanwhile", ""))
