"""What holds for several servers together, over months: twins, limits, brake, budget."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any, cast

import pytest

from reconciler.apply.circuit_breaker import CircuitOpen, Place
from reconciler.controller.shared import DAY, SharedState
from reconciler.controller.status import ControllerStatus
from reconciler.controller.status_store import StatusStore
from reconciler.errors import Blocked
from reconciler.model.actions import RebootServer, WriteExchange
from reconciler.model.desired import Afterwards, DesiredServer, DesiredState
from reconciler.model.observed import BootLine, Logbook, ObservedServer
from reconciler.model.plan import Disruption, Line, ServerPlan, Standing, Status, Verdict
from reconciler.model.recorded import Purpose
from reconciler.model.values import replace
from reconciler.observe.context import PassContext
from reconciler.observe.visit import Visit
from reconciler.plan.fleet import UNSEEN
from reconciler.policy.model import ANYTHING, Limits, Policy, Rule
from reconciler.system.timeouts import Timeouts
from reconciler.testing.virtual_time import Clock, VirtualLoop
from tests.controller.sample_statuses import braked
from tests.support import factories as f

NOW = datetime(2026, 11, 22, tzinfo=UTC)
REBOOT = RebootServer(NOW, "asked", Afterwards.LEAVE, 600.0)
UNSURE = WriteExchange("bybit", (), (), Purpose.CORRECTION, unverified=True)


class FewOfThem:
    """What shared state asks of the context."""

    def __init__(self, **given: Any) -> None:
        self.timeouts = replace(Timeouts(), connect=0.05)
        self.parallelism = 4
        self.max_unknown_writes = 2
        self.policy = ANYTHING
        self.__dict__ |= given


def shared_state(*names: str, **given: Any) -> SharedState:
    """Shared state with these servers in force."""
    status_store = StatusStore(ControllerStatus("test", "a test", "now"))
    made = SharedState(
        cast("PassContext", FewOfThem(**given)),
        status_store,
        acting=lambda: True,
        looking=lambda: True,
    )
    servers = tuple(server(name) for name in names)
    made.declare(DesiredState(servers), "one", "all")
    return made


def server(name: str) -> DesiredServer:
    return replace(f.server(), name=name, url=f"https://{name}.internal")


def visit(name: str, boot: BootLine | None, **plan: Any) -> Visit:
    """A visit that saw a boot line, with a plan."""
    desired = server(name)
    observed = ObservedServer("0", "0.24.19", (), (), Logbook(boots=(boot,) if boot else ()))
    return Visit(desired, ServerPlan(name, desired.target, **plan), observed=observed)


def wish() -> Disruption:
    """A reboot that is due."""
    return Disruption("reboot", Standing.DUE, action=REBOOT)


def test_who_does_not_act_any_more_sends_nothing_that_a_document_asked_for() -> None:
    """It waited for its turn, and the one that acts now may know a newer document."""

    async def story() -> None:
        state = shared_state("a")
        declared = state.in_force[server("a").target]

        assert state.still_declared(declared) == declared
        state.acting = lambda: False
        with pytest.raises(Blocked, match="does not act any more"):
            state.still_declared(declared)

    inside(story)


def inside(story: Callable[[], Awaitable[None]]) -> None:
    """Run on a loop."""

    async def run() -> None:
        await story()

    asyncio.run(run())


def test_two_documents_of_one_server_disturb_it_not() -> None:
    async def story() -> None:
        shared = shared_state("a", "b")
        line = BootLine(1, 1000)
        first, second = visit("a", line), visit("b", line, disruptions=(wish(),))
        shared.judge(first)
        shared.judge(second)
        assert second.plan.actions == ()
        assert "another document names the same server" in second.plan.disruptions[0].why
        # Once the other one booted anew they are two.
        shared.judge(visit("a", BootLine(1, 2000)))
        alone = visit("b", line, disruptions=(wish(),))
        shared.judge(alone)
        assert alone.plan.actions == (REBOOT,)

    inside(story)


def test_a_twin_is_known_right_after_a_boot() -> None:
    """The other document's newest line is from before it: both had their reboot, one server two."""

    async def story() -> None:
        shared = shared_state("a", "b")
        before, after = BootLine(1000, 1), BootLine(2000, 1)
        shared.judge(visit("a", before))
        fresh = visit("b", before, disruptions=(wish(),))
        assert fresh.observed is not None
        fresh.observed = replace(fresh.observed, log=Logbook(boots=(before, after)))
        shared.judge(fresh)
        assert fresh.plan.actions == ()

    inside(story)


def test_a_look_in_vain_forgets_no_boot_line() -> None:
    async def story() -> None:
        shared = shared_state("a", "b")
        line = BootLine(1, 1000)
        shared.judge(visit("a", line))
        lost = visit("a", None)
        lost.observed = None
        shared.judge(lost)
        twin = visit("b", line, disruptions=(wish(),))
        shared.judge(twin)
        assert twin.plan.actions == ()

    inside(story)


def test_nobody_is_disturbed_before_all_were_looked_at() -> None:
    async def story() -> None:
        shared = shared_state("a", "b", "c")
        assert shared.hush(server("a").target) == UNSEEN
        shared.judge(visit("b", None))
        assert shared.hush(server("a").target) == UNSEEN
        shared.judge(visit("c", None))
        assert shared.hush(server("a").target) is None

    inside(story)


def test_a_server_that_hangs_holds_the_others_for_a_moment_only() -> None:
    async def story() -> None:
        shared = shared_state("a", "b")
        async with asyncio.timeout(5):
            while shared.hush(server("a").target):  # noqa: ASYNC110  - time itself is what is waited for
                await asyncio.sleep(0.01)

    inside(story)


def test_writes_whose_need_cannot_be_told_are_few_for_a_day() -> None:
    async def story() -> None:
        shared = shared_state("a", "b", "c")

        def unsure(name: str) -> Visit:
            line = Line("bybit", Status.WRITE, Verdict.UNKNOWN, action=UNSURE)
            return visit(name, None, lines=(line,))

        visits = {name: unsure(name) for name in ("a", "b", "c")}
        for one in visits.values():
            shared.judge(one)
        assert [bool(one.plan.actions) for one in visits.values()] == [True, True, False]
        assert "more than 2 servers" in visits["c"].plan.lines[0].why
        again = unsure("a")
        shared.judge(again)
        assert again.plan.actions == (UNSURE,)  # counted already

    inside(story)


@pytest.mark.parametrize("recorded", [True, False], ids=["in the ledger", "never recorded"])
def test_the_brake_lifts_only_when_people_released_what_was_recorded(*, recorded: bool) -> None:
    async def story() -> None:
        shared = shared_state("a")
        place = Place("0.24.19", "https://tokyo-1.internal")
        other = Place("0.24.19", "https://osaka-1.internal")
        await shared.look_at_brakes([])
        await shared.brake.engage(place, "robots stopped around a write", whole=True)
        await shared.look_at_brakes([])  # the ledger's row may still be on its way
        assert shared.brake.why(other)
        held = [braked("0.24.19"), braked("0.24.19", server="tokyo-1")]
        if recorded:
            await shared.look_at_brakes(held)
            assert shared.brake.why(other)
            await shared.look_at_brakes(held[:1])  # that server alone was released
            assert shared.brake.why(other)
        await shared.look_at_brakes([])
        assert bool(shared.brake.why(other)) is not recorded
        assert bool(shared.brake.why(place)) is not recorded

    inside(story)


def test_a_stop_is_no_brake_that_lifts() -> None:
    async def story() -> None:
        shared = shared_state("a")
        await shared.brake.stop("the controller is stopping")
        place = Place("0.24.19", "https://tokyo-1.internal")
        await shared.look_at_brakes([braked("0.24.19")])
        await shared.look_at_brakes([])
        with pytest.raises(CircuitOpen, match="is stopping"):
            async with shared.brake.turn(place):
                pass
        with pytest.raises(CircuitOpen):
            await shared.brake.steady(place)
        # Robots that we stopped are started still, unless a person wants just that ended.
        await shared.brake.steady(place, finishing=True)
        await shared.brake.stop("interrupted", starts=True)
        with pytest.raises(CircuitOpen):
            await shared.brake.steady(place, finishing=True)

    inside(story)


def test_the_turnstile_opens_when_the_server_that_failed_is_well() -> None:
    async def story() -> None:
        shared = shared_state("a", "b")
        shared.disruption_budget.shut("a: in doubt", server("a").target)
        shared.disturbed(server("a"), "", well=False)
        shared.disturbed(server("b"), "", well=True)
        assert shared.disruption_budget.why
        shared.disturbed(server("a"), "", well=True)
        assert not shared.disruption_budget.why

    inside(story)


def test_what_was_left_at_any_server_shuts_the_turnstile_until_it_is_gone() -> None:
    """Also what another process left: this one has just begun."""

    async def story() -> None:
        shared = shared_state("a", "b", "c")
        budget = shared.disruption_budget
        shared.disturbed(server("a"), "a reboot is in doubt", well=False)
        shared.disturbed(server("b"), "a reboot is in doubt", well=False)
        assert budget.why == "a: a reboot is in doubt"
        shared.disturbed(server("a"), "", well=True)
        assert budget.why == "b: a reboot is in doubt"
        shared.disturbed(server("b"), "", well=True)
        assert not shared.disruption_budget.why
        await shared.brake.engage(Place("0.24.19", server("c").target.url), "robots", whole=False)
        shared.disturbed(server("c"), "", well=True)
        assert budget.why == "c: robots"

    inside(story)


def test_the_turnstile_opens_when_the_server_that_failed_left_the_documents() -> None:
    async def story() -> None:
        shared = shared_state("a", "b")
        shared.disruption_budget.shut("a: in doubt", server("a").target)
        shared.disturbed(server("a"), "", well=False)
        shared.declare(DesiredState((server("b"),)), "two", "less")
        assert not shared.disruption_budget.why

    inside(story)


def test_a_policys_limit_is_counted_over_all_servers_until_documents_mean_something_else() -> None:
    async def run() -> None:
        rule = Rule(1, "all", urls=("**",), secrets=("**",))
        policy = Policy((rule,), Limits(reboots=1), source="a policy")
        made = shared_state("tokyo-1", "osaka-1", policy=policy)
        first, second, again = (
            visit(n, None, disruptions=(wish(),)) for n in ("tokyo-1", "osaka-1", "tokyo-1")
        )
        for one in (first, second, again):
            one.observed = None
            made.judge(one)
        done = visit("tokyo-1", None)
        made.judge(done)
        late = visit("osaka-1", None, disruptions=(wish(),))
        made.judge(late)

        assert [bool(one.plan.actions) for one in (first, second, again, late)] == [
            True,
            False,
            True,
            False,
        ]

        # Other commits, and pauses, which change the state and not what documents say.
        for revision, meaning in (("two", "all"), ("two", "all"), ("three", "less")):
            made.declare(made.state, revision, meaning)
            new = visit("osaka-1", None, disruptions=(wish(),))
            made.judge(new)
            assert bool(new.plan.actions) is (meaning == "less")

    asyncio.run(run())


def test_a_policys_limit_forgets_after_a_day_under_the_same_documents() -> None:
    """Half of a fleet that rotated its keys in spring must not keep the other half from it."""
    rule = Rule(1, "all", urls=("**",), secrets=("**",))
    policy = Policy((rule,), Limits(reboots=1), source="a policy")
    clock = Clock()

    async def story() -> None:
        made = shared_state("tokyo-1", "osaka-1", policy=policy)
        found = []
        for name, wait in (("tokyo-1", 0.0), ("osaka-1", DAY / 2), ("osaka-1", DAY / 2 + 1)):
            clock.sleep(wait)
            made.judge(visit("tokyo-1", None))  # a quiet pass keeps nothing alive
            one = visit(name, None, disruptions=(wish(),))
            made.judge(one)
            found.append(bool(one.plan.actions))
        assert found == [True, False, True]

    loop = VirtualLoop(clock)
    try:
        loop.run_until_complete(story())
    finally:
        loop.close()
