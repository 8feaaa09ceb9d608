"""Whose status is shown under a name: never that of a worker that was left."""

import asyncio
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime
from typing import Any

import pytest

from reconciler.controller import workers as module
from reconciler.controller.requeue import Corrections, QueueState
from reconciler.controller.scheduled_audits import Audits
from reconciler.controller.shared import SharedState
from reconciler.controller.state_file import State
from reconciler.controller.status import Health, ServerStatus, Sync
from reconciler.controller.worker import ServerWorker
from reconciler.controller.workers import Workers
from reconciler.model.desired import DesiredState
from reconciler.model.key_audits import Audited, KeyId
from reconciler.model.key_facts import Answered, Status
from reconciler.model.values import replace
from tests.controller.test_shared import server, shared_state

OLD = server("tokyo-1")
NEW = replace(OLD, url="https://another.internal")
SEEN = "2026-11-22T09:00:00+00:00"


class Busy(ServerWorker):
    """A worker whose pass goes on."""

    async def run(self) -> None:
        await asyncio.Event().wait()


def seen(status: ServerStatus) -> ServerStatus:
    """Return the same after a look that found something."""
    return replace(
        status, sync=Sync.SYNCED, health=Health.DEGRADED, reason="robots stopped", seen_at=SEEN
    )


def play(story: Callable[[SharedState], Coroutine[Any, Any, None]]) -> None:
    """Run *story* on a loop, and end its workers."""

    async def played() -> None:
        shared = shared_state(now=lambda: datetime.now(UTC), stamp=lambda: SEEN)
        try:
            await story(shared)
        finally:
            for task in asyncio.all_tasks() - {asyncio.current_task()}:
                task.cancel()

    asyncio.run(played())


@pytest.fixture(autouse=True)
def busy(monkeypatch: pytest.MonkeyPatch) -> None:
    """The passes of all workers go on."""
    monkeypatch.setattr(module, "ServerWorker", Busy)


def test_a_worker_that_was_left_takes_no_status_from_who_has_its_name() -> None:
    async def story(shared: SharedState) -> None:
        statuses = shared.status_store.servers
        workers = Workers(shared, State())
        workers.declare(DesiredState((OLD,)), "one")
        (left,) = workers._workers.values()
        workers.declare(DesiredState((NEW,)), "two")
        statuses["tokyo-1"] = known = seen(statuses["tokyo-1"])

        workers.declare(DesiredState((NEW,)), "two")  # as for a pause of some other server
        assert statuses["tokyo-1"] == known
        left._stumbled(ValueError())
        assert statuses["tokyo-1"] == known
        workers.declare(DesiredState(()), "three")
        left._stumbled(ValueError())
        assert dict(statuses) == {}

    play(story)


def test_servers_that_change_names_keep_their_statuses() -> None:
    async def story(shared: SharedState) -> None:
        statuses, other = shared.status_store.servers, server("osaka-1")
        workers = Workers(shared, State())
        workers.declare(DesiredState((OLD, other)), "one")
        statuses["tokyo-1"] = seen(statuses["tokyo-1"])
        swapped = (replace(OLD, name="osaka-1"), replace(other, name="tokyo-1"))
        workers.declare(DesiredState(swapped), "two")
        assert (statuses["osaka-1"].url, statuses["osaka-1"].seen_at) == (OLD.url, SEEN)
        assert (statuses["tokyo-1"].url, statuses["tokyo-1"].seen_at) == (other.url, "")

    play(story)


def test_what_is_remembered_is_of_the_server_and_not_of_who_has_its_name_by_now() -> None:
    """Names may be swapped while no controller runs."""

    async def story(shared: SharedState) -> None:
        other = server("osaka-1")
        before = Workers(shared, State())
        before.declare(DesiredState((OLD, other)), "one")
        known = before._workers[OLD.target]
        known.timing = replace(
            known.timing, healing={"okx": Corrections(2, 5.0, 6.0)}, stopped=(7,)
        )

        after = Workers(shared, before.remembered({}))
        swapped = (replace(OLD, name="osaka-1"), replace(other, name="tokyo-1"))
        after.declare(DesiredState(swapped), "two")
        found = {target: one.timing for target, one in after._workers.items()}
        assert found[OLD.target].healing == known.timing.healing
        assert found[OLD.target].stopped == (7,)
        assert (found[other.target].healing, found[other.target].stopped) == ({}, ())

    play(story)


def test_what_a_file_by_names_remembered_is_of_the_first_servers_that_are_called_so() -> None:
    async def story(shared: SharedState) -> None:
        one, other = QueueState(stopped=(7,)), QueueState(stopped=(8,))
        named = {"tokyo-1": one, "osaka-1": other}
        workers = Workers(shared, State(named=named))
        assert workers.remembered({}).named == named  # nobody knows yet whose it is
        workers.declare(DesiredState((OLD,)), "one")
        assert workers._workers[OLD.target].timing.stopped == (7,)
        late = server("osaka-1")
        workers.declare(DesiredState((OLD, late)), "two")
        assert workers._workers[late.target].timing.stopped == ()
        assert workers.remembered({}).servers.keys() == {OLD.target, late.target}
        assert workers.remembered({}).named == {}

    play(story)


def test_an_audit_tells_nobody_but_the_server_that_was_asked_about() -> None:
    answered = Answered(Status.VALID, datetime.now(UTC))
    row = Audited(KeyId("tokyo-1", "bybit"), answered)

    async def story(shared: SharedState) -> None:
        workers = Workers(shared, State())
        workers.declare(DesiredState((NEW,)), "one")  # meanwhile
        Audits(shared)._show([row], [OLD])
        assert shared.status_store.servers["tokyo-1"].keys == {}
        Audits(shared)._show([row], [NEW])
        assert shared.status_store.servers["tokyo-1"].keys.keys() == {"bybit"}

    play(story)
