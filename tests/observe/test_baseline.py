"""From when on a ledger knows of requests is read after a server's own row, at every look."""

from reconciler.model.plan import Standing
from reconciler.observe.context import PassContext
from reconciler.plan.inputs import Consents
from reconciler.reconcile.recall import recall
from reconciler.reconcile.survey import survey
from reconciler.testing.virtual_time import VirtualClock, virtual_time
from tests.crash.crash_points import Life
from tests.crash.request_scenarios import Trading, reboot, settled


async def standings(harness: Trading, context: PassContext) -> list[Standing]:
    """Where the one request stands, by a look and without one."""
    found = []
    for way in (survey, recall):
        (visit,) = await way(harness.state(), Consents(), context)
        await visit.close()
        found += [line.standing for line in visit.plan.disruptions]
    return found


def test_a_ledger_that_is_restored_between_two_looks_lets_no_request_of_before_pass() -> None:
    async def story() -> tuple[list[Standing], list[Standing]]:
        harness = await settled(clock)
        harness.wish(reboot=reboot(harness))
        context = harness.context(Life(), "plan")  # one for all looks, as a controller has it
        before = await standings(harness, context)
        harness.ledger().accept_restore("it was restored")
        return before, await standings(harness, context)

    clock = VirtualClock()
    with virtual_time(clock) as runner:
        before, after = runner.run(story())

    assert before == [Standing.DUE, Standing.DUE]
    assert after == [Standing.BASELINED, Standing.BASELINED]
