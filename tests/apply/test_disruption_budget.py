"""What shuts the way for other servers: what was sent and did not end well, and nothing else."""

import asyncio
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any, cast

import pytest

from reconciler.apply.circuit_breaker import CircuitOpen
from reconciler.apply.disruption_budget import DisruptionBudget
from reconciler.apply.execution import Execution
from reconciler.errors import Exit, LedgerError
from reconciler.model.actions import RebootServer
from reconciler.model.desired import Afterwards, DesiredServer
from reconciler.model.outcomes import Outcome, Result
from reconciler.model.source import NOWHERE
from reconciler.model.values import replace

DESIRED = DesiredServer("tokyo-1", "https://tokyo-1.internal", NOWHERE)
REBOOT = RebootServer(datetime(2026, 11, 22, 9, tzinfo=UTC), "quarterly", Afterwards.LEAVE, 600)


def outcome(result: Result, code: Exit = Exit.BLOCKED, *, sent: bool = False) -> Outcome:
    return Outcome(REBOOT, result, code=code, sent=sent)


def execution(sends: int = 3) -> Any:
    """One that sent keys already, which is no matter of this budget."""
    return SimpleNamespace(desired=DESIRED, sends=sends)


def why(*outcomes: Outcome) -> str:
    """Return what shuts the budget after a server that ended so."""
    budget = DisruptionBudget()
    with budget.judging(cast(Execution, execution()), outcomes):
        pass
    return budget.why


@pytest.mark.parametrize(
    "result",
    [Result.UNKNOWN, Result.IN_DOUBT, Result.NOT_DONE, Result.LEFT_STOPPED, Result.HARM],
)
def test_what_may_have_stopped_robots_shuts(result: Result) -> None:
    assert why(outcome(result)) == f"tokyo-1: {result}"


def test_a_failure_shuts_only_once_something_was_sent() -> None:
    assert why(outcome(Result.FAILED, sent=True)) == "tokyo-1: failed"
    assert not why(outcome(Result.FAILED))
    assert not why(outcome(Result.FAILED, Exit.SERVER))


def test_what_ended_well_or_was_never_tried_does_not() -> None:
    assert not why(outcome(Result.DONE, Exit.DONE, sent=True))
    assert not why(outcome(Result.DONE, Exit.BLOCKED, sent=True)), "a window closed in the middle"
    assert not why(outcome(Result.NOT_ATTEMPTED))


def test_the_first_that_is_bad_decides_not_the_first_that_failed() -> None:
    assert why(outcome(Result.FAILED), outcome(Result.HARM)) == "tokyo-1: harm"


@pytest.mark.parametrize("sends", [0, 1])
def test_a_mistake_after_something_was_sent_shuts(sends: int) -> None:
    budget, one = DisruptionBudget(), execution()

    def mistaken() -> None:
        with budget.judging(cast(Execution, one), ()):
            one.sends += sends
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        mistaken()
    assert budget.why == ("tokyo-1: outcome unknown" if sends else "")
    assert (DESIRED.target in budget.shut_by) is bool(sends)


def test_what_was_done_is_judged_although_the_ledger_failed_afterwards() -> None:
    budget, outcomes = DisruptionBudget(), list[Outcome]()

    def failing() -> None:
        with budget.judging(cast(Execution, execution()), outcomes):
            outcomes.append(outcome(Result.HARM))
            raise LedgerError("the disk is full")

    with pytest.raises(LedgerError):
        failing()
    assert budget.why == "tokyo-1: harm"


def test_servers_that_gave_a_reason_are_let_through_and_no_other_one() -> None:
    """Its robots may be owed a start: nobody else would give it to them."""

    async def story() -> None:
        budget, other = DisruptionBudget(), replace(DESIRED, url="https://osaka-1.internal").target
        budget.shut("tokyo-1: a reboot is in doubt", DESIRED.target)
        async with budget.turn(DESIRED.target):
            pass
        with pytest.raises(CircuitOpen, match="tokyo-1: a reboot is in doubt"):
            async with budget.turn(other):
                pass
        budget.shut("osaka-1: harm", other)
        for one in (DESIRED.target, other):
            async with budget.turn(one):
                pass

    asyncio.run(story())
