"""When a pass counts as stuck: by what it sees, never by how long it takes."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any, cast

from reconciler.controller.progress import STUCK
from reconciler.controller.requeue import QueueState
from reconciler.controller.worker import ServerWorker
from reconciler.observe.visit import Visit, first_visit
from reconciler.testing.virtual_time import VirtualClock, virtual_time
from tests.controller.test_shared import server, shared_state

HOUR = 3_600.0


def during_a_pass(story: Callable[[ServerWorker, Visit], Awaitable[None]]) -> None:
    """Run on a virtual clock while the worker of a server has a pass under way."""

    async def run() -> None:
        shared = shared_state("a", now=lambda: datetime(2026, 11, 22, tzinfo=UTC))
        worker = ServerWorker(shared, server("a"), QueueState())
        visit = worker._visit = first_visit(server("a"))
        worker._progress.begin(asyncio.get_running_loop().time())
        worker._task = cast("asyncio.Task[None]", asyncio.current_task())
        await story(worker, visit)

    with virtual_time(VirtualClock()) as runner:
        runner.run(run())


def sight() -> Any:
    return SimpleNamespace()


async def watched(worker: ServerWorker, seconds: float) -> bool:
    """Ask now and then, as the controller does, for so long; whether it ever was stuck."""
    stuck = False
    for _ in range(int(seconds // 60)):
        await asyncio.sleep(60)
        stuck = stuck or worker.stuck
    return stuck


def test_many_slow_robots_that_start_one_after_another_are_progress() -> None:
    """Forty of a minute each outlasted the watchdog, which left the rest of them stopped."""

    async def story(worker: ServerWorker, visit: Visit) -> None:
        for _ in range(40):
            assert not await watched(worker, 120)
            visit.observed = sight()

    during_a_pass(story)


def test_who_waits_for_another_servers_robots_is_not_stuck() -> None:
    async def story(worker: ServerWorker, visit: Visit) -> None:
        visit.observed = sight()
        budget = worker._shared.disruption_budget
        async with budget.turn(worker.desired.target):
            waiting = worker._task = asyncio.create_task(turn(worker))
            assert not await watched(worker, 3 * HOUR)
        await waiting
        assert await watched(worker, STUCK + 120)  # from then on it may be

    async def turn(worker: ServerWorker) -> None:
        async with worker._shared.disruption_budget.turn(worker.desired.target):
            pass

    during_a_pass(story)


def test_a_pass_that_sees_nothing_new_is_stuck_in_the_end() -> None:
    async def story(worker: ServerWorker, visit: Visit) -> None:
        assert not await watched(worker, STUCK / 2)
        visit.observed = sight()
        assert not await watched(worker, STUCK)
        assert await watched(worker, 180)

    during_a_pass(story)


def test_without_a_pass_nothing_is_stuck() -> None:
    async def story(worker: ServerWorker, _visit: Visit) -> None:
        worker._progress.end()
        assert not await watched(worker, 2 * HOUR)

    during_a_pass(story)
