"""What becomes of the robots of a reboot is up to the newest document until it was done."""

import asyncio
from datetime import timedelta

import pytest

from reconciler.model.desired import Afterwards, DesiredServer
from reconciler.model.values import replace
from reconciler.observe.context import PassContext
from reconciler.testing.virtual_time import VirtualClock, virtual_time
from tests.crash.request_scenarios import RUNNING, Trading, reboot, settled

OTHERWISE = {Afterwards.RESUME: Afterwards.LEAVE, Afterwards.LEAVE: Afterwards.RESUME}


async def changed(clock: VirtualClock, first: Afterwards, patch: pytest.MonkeyPatch) -> Trading:
    """Reboot, while another document comes into force as soon as it was sent."""
    harness = await settled(clock)
    harness.wish(reboot=reboot(harness, robots=first))
    context, record = harness.context, harness.trader.server.record

    def newest(planned: DesiredServer) -> DesiredServer:
        if planned.reboot is None or not record.reboot_requests:
            return planned
        return replace(planned, reboot=replace(planned.reboot, robots=OTHERWISE[first]))

    def watched(*args: object) -> PassContext:
        return replace(context(*args), in_force=newest)  # type: ignore[arg-type]

    with patch.context() as patched:
        patched.setattr(harness, "context", watched)
        await harness.apply()
    assert record.reboot_requests == 1
    return harness


@pytest.mark.parametrize("first", OTHERWISE)
def test_a_document_that_changes_while_the_server_reboots_is_heeded(
    first: Afterwards, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = VirtualClock()
    with virtual_time(clock) as runner:
        harness = runner.run(changed(clock, first, monkeypatch))

    resumed = OTHERWISE[first] is Afterwards.RESUME
    assert harness.trader.running() == (RUNNING if resumed else frozenset())
    found = harness.requests()
    assert (found.open, found.halt) == (None, None)
    assert found.past[-1].robots is OTHERWISE[first]


@pytest.mark.parametrize("first", OTHERWISE)
def test_a_document_that_changes_before_the_next_pass_is_heeded(first: Afterwards) -> None:
    """The process that rebooted is gone; the next one finds out, by the document of then."""

    async def story(clock: VirtualClock) -> Trading:
        harness = await settled(clock)
        wish = reboot(harness, robots=first, resume_within=timedelta(hours=2))
        harness.wish(reboot=wish)
        harness.trader.server.behaviour.reboot_down = 1_000.0  # it does not come back in time
        await harness.apply()
        assert harness.requests().open is not None
        await asyncio.sleep(2_000.0)
        harness.wish(reboot=replace(wish, robots=OTHERWISE[first]))
        for _ in range(3):
            await harness.apply()
        return harness

    clock = VirtualClock()
    with virtual_time(clock) as runner:
        harness = runner.run(story(clock))

    assert harness.trader.server.record.reboot_requests == 1
    resumed = OTHERWISE[first] is Afterwards.RESUME
    assert harness.trader.running() == (RUNNING if resumed else frozenset())
