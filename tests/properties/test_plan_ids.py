"""
A plan that was made without looking has the id of the one that looks: reviewers approve the former.

Whatever happened before, and whatever documents and secrets say since the last look.
"""

import asyncio
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

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
    assert recorded.id == live.id
    return bool(live.actions)


def test_there_is_something_to_compare(loop: asyncio.Runner) -> None:
    story = Story(1, (("tokyo-1", "bybit", "secret", "key"),), ())

    assert loop.run(looked_and_recalled(story, [Step("rotate", how="all")]))
    assert not loop.run(looked_and_recalled(story, []))


@settings(QUICK, max_examples=150)
@given(story=stories(), since=CHANGES)
def test_a_recorded_plan_has_the_id_of_a_live_one(
    loop: asyncio.Runner, story: Story, since: list[Step]
) -> None:
    loop.run(looked_and_recalled(story, since))
