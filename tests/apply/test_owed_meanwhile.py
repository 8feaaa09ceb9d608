"""Robots are owed a start; between plan and apply another process stops others and dies."""

from reconciler.apply.circuit_breaker import CircuitBreaker
from reconciler.ledger.requests import RequestLog
from reconciler.model.observed import Robot
from reconciler.model.recorded import PendingStarts
from reconciler.plan.inputs import Consents
from reconciler.reconcile.apply import apply_all
from reconciler.reconcile.survey import survey
from reconciler.testing.virtual_time import VirtualClock, virtual_time
from tests.crash.crash_points import Life
from tests.crash.request_scenarios import ROBOTS, RUNNING, Trading, settled

FIRST, SECOND = 1, 4


def stopped(harness: Trading, robot: int) -> PendingStarts:
    """What is noted before a robot is stopped for a restart."""
    name, exchange = ROBOTS[robot]
    seen = Robot(robot, name, exchange, running=True)
    return PendingStarts(
        "restart on bybit",
        (seen,),
        at=harness.time.truth().isoformat(),
        by="apply 7@desk",
        within=600.0,
        exchange="bybit",
        others=tuple(sorted(RUNNING - {robot})),
        begun=(robot,),
    )


def test_what_another_process_owes_by_now_is_not_settled_with_what_was_planned() -> None:
    async def story(clock: VirtualClock) -> tuple[RequestLog, PendingStarts]:
        harness = await settled(clock)
        book = harness.book()
        book.halt(stopped(harness, FIRST))  # it runs again: there is nothing to do but to note it
        context = harness.context(Life())
        visits = await survey(harness.state(), Consents(), context)
        clock.sleep(5.0)
        book.release()
        book.halt(newer := stopped(harness, SECOND))
        harness.trader.turn_by_hand(SECOND, running=False)
        await apply_all(visits, Consents(), context, CircuitBreaker())
        for visit in visits:
            await visit.close()
        return book, newer

    clock = VirtualClock()
    with virtual_time(clock) as runner:
        book, newer = runner.run(story(clock))
    assert book.load().halt == newer
