"""
A plan that was made without looking has the id of the one that looks: reviewers approve the former.

Whatever happened before, and whatever documents and secrets say since the last look; but for lines
that it shows as "not compared".
"""

import asyncio
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reconciler.model.plan import Plan, Status
from reconciler.model.values import replace
from reconciler.plan.inputs import Consents
from reconciler.testing.virtual_time import Clock, VirtualLoop
from tests.crash.harness import CODES, SHAPES
from tests.crash.scenarios import act, begin, desk_in_memory
from tests.support.strategies import QUICK, SERVERS, Step, Story, stories

CHANGES = st.lists(
    st.one_of(
        st.builds(
            Step,
            deed=st.just("rotate"),
            code=st.sampled_from(CODES),
            how=st.sampled_from(("all", "rest", "key")),
            shape=st.sampled_from(SHAPES),
        ),
        st.builds(
            Step,
            deed=st.just("declare"),
            code=st.sampled_from(CODES),
            how=st.sampled_from(("secret", "fields", "pinned", "absent", "undeclared")),
        ),
    ),
    max_size=4,
)


@pytest.fixture(scope="module")
def loop() -> Iterator[asyncio.Runner]:
    with asyncio.Runner(loop_factory=lambda: VirtualLoop(Clock())) as runner:
        yield runner


async def looked_and_recalled(story: Story, since: list[Step]) -> bool:
    """Compare both plans; returns whether there was anything to do."""
    harness = await desk_in_memory(story.servers)
    begin(harness, story)
    for step in story.steps:
        await act(harness, step)
    # What looks like another server is not remembered before somebody said that it is this one.
    await harness.apply(Consents(targets=frozenset(SERVERS)))
    for step in since:
        await act(harness, step)
    recorded, live = await harness.recorded_plan(), await harness.plan(Consents())
    assert compared(live, recorded).id == recorded.id
    return bool(live.actions)


def compared(live: Plan, recorded: Plan) -> Plan:
    """Leave out of *live* what the other says that it does not know: only a value could tell."""
    servers = []
    for seen, recalled in zip(live.servers, recorded.servers, strict=True):
        unknown = {one.exchange for one in recalled.lines if one.status is Status.NOT_COMPARED}
        lines = tuple(one for one in seen.lines if one.exchange not in unknown)
        servers.append(replace(seen, lines=lines))
    return replace(live, servers=tuple(servers))


def test_there_is_something_to_compare(loop: asyncio.Runner) -> None:
    story = Story(1, (("tokyo-1", "bybit", "secret", "key"),), ())

    assert loop.run(looked_and_recalled(story, [Step("rotate", how="all")]))
    assert not loop.run(looked_and_recalled(story, []))


def test_what_only_a_value_can_tell_is_in_the_plan_that_looks_alone(loop: asyncio.Runner) -> None:
    forgotten = (Step("new key"), Step("declare", code="okx", how="absent"))
    story = Story(1, (("tokyo-1", "okx", "secret", "key"),), (Step("apply"), *forgotten))

    assert loop.run(looked_and_recalled(story, [Step("declare", code="okx", how="secret")]))


@settings(QUICK, max_examples=150)
@given(story=stories(), since=CHANGES)
def test_a_recorded_plan_has_the_id_of_a_live_one(
    loop: asyncio.Runner, story: Story, since: list[Step]
) -> None:
    loop.run(looked_and_recalled(story, since))
