"""A survey that ends early: what other servers' visits were opening meanwhile is closed as well."""

import asyncio
from dataclasses import dataclass
from typing import Any

import pytest

from reconciler.observe.visit import Visit
from reconciler.plan.inputs import Consents
from reconciler.reconcile import survey as module
from reconciler.testing.virtual_time import VirtualClock, virtual_time
from tests.crash.crash_points import Killed, Life
from tests.crash.scenarios import begin, desk_in_memory
from tests.support.strategies import Story


@dataclass(slots=True)
class Opened:
    """A session that says whether it was closed."""

    closed: bool = False

    async def close(self) -> None:
        self.closed = True


@pytest.mark.parametrize("ends", ["death", "cancellation"])
def test_nothing_that_was_being_opened_stays_open(
    ends: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[Opened] = []

    async def look(visit: Visit, *_: Any) -> None:
        if visit.desired.name == "tokyo-1":
            await asyncio.sleep(1)
            if ends == "death":
                raise Killed
            await asyncio.sleep(60)
        try:
            await asyncio.sleep(2)
        finally:  # a connection that stands before it can be given up
            await asyncio.sleep(0.5)
            opened.append(Opened())
            visit.session = opened[-1]  # type: ignore[assignment]

    async def story() -> None:
        harness = await desk_in_memory(2)
        begin(harness, Story(2, (("tokyo-1", "bybit", "secret", "key"),), ()))
        context = harness.context(Life(), "plan")
        surveying = asyncio.create_task(module.survey(harness.state(), Consents(), context))
        if ends == "cancellation":
            await asyncio.sleep(1.5)
            surveying.cancel()
        with pytest.raises(BaseException) as caught:  # noqa: PT011  - both are none of Exception
            await surveying
        assert isinstance(caught.value, Killed | asyncio.CancelledError)
        await asyncio.sleep(5)

    monkeypatch.setattr(module, "look", look)
    with virtual_time(VirtualClock()) as runner:
        runner.run(story())

    assert opened
    assert all(one.closed for one in opened)
