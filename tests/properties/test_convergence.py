"""
Whatever happened before, one `apply --correct-drift` brings every server to its documents.

The servers are the judges: what they store must be one whole version of each secret.
"""

import asyncio
from collections.abc import Iterator

import pytest
from hypothesis import given, settings

from reconciler.plan.inputs import Consents
from reconciler.sandbox.openbao import OpenBao
from reconciler.testing.virtual_time import Clock, VirtualLoop
from tests.crash.harness import Harness
from tests.crash.loopback import desk_on_loopback
from tests.crash.scenarios import RECOVERY, act, begin, converges, desk_in_memory
from tests.support.strategies import QUICK, SERVERS, Story, stories


@pytest.fixture(scope="module")
def loop() -> Iterator[asyncio.Runner]:
    """One loop for all examples; in memory nothing needs a thread, or time."""
    with asyncio.Runner(loop_factory=lambda: VirtualLoop(Clock())) as runner:
        yield runner


async def lived_in_memory(story: Story, consents: Consents = RECOVERY) -> None:
    await lived(await desk_in_memory(story.servers), story, consents)


async def lived(harness: Harness, story: Story, consents: Consents) -> None:
    """Carry out a story and judge its end."""
    begin(harness, story)
    for step in story.steps:
        await act(harness, step)
    await converges(harness, consents)


def test_another_server_is_asked_about_once(loop: asyncio.Runner) -> None:
    # All that we wrote there was changed by hand, and no document wants any of it any more.
    async def story() -> None:
        harness = await desk_in_memory(1)
        begin(harness, Story(1, (("tokyo-1", "bybit", "secret", "key"),), ()))
        await harness.apply()
        harness.edit("tokyo-1", "bybit", "all")
        harness.undeclare("tokyo-1", "bybit")
        assert (await harness.plan()).servers[0].held
        await converges(harness, Consents(targets=frozenset(SERVERS)))

    loop.run(story())


@settings(QUICK, max_examples=150)
@given(story=stories())
def test_every_history_converges(loop: asyncio.Runner, story: Story) -> None:
    loop.run(lived_in_memory(story))


@settings(QUICK, max_examples=150)
@given(story=stories(by_hand=False))
def test_what_nobody_else_touched_is_never_drift(loop: asyncio.Runner, story: Story) -> None:
    # Whatever died in between: it was us, so a plain `apply` must put it right.
    loop.run(lived_in_memory(story, Consents()))


@pytest.mark.long
@pytest.mark.timeout(1800)
@settings(QUICK, max_examples=20_000)
@given(story=stories(most_servers=3, most_steps=20))
def test_every_history_converges_for_long(loop: asyncio.Runner, story: Story) -> None:
    loop.run(lived_in_memory(story))


@pytest.mark.long
@pytest.mark.timeout(1800)
@settings(QUICK, max_examples=20_000)
@given(story=stories(by_hand=False, most_servers=1, most_steps=20))
def test_what_nobody_else_touched_is_never_drift_for_long(
    loop: asyncio.Runner, story: Story
) -> None:
    loop.run(lived_in_memory(story, Consents()))


# ── on the wire ──────────────────────────────────────────────────────────────────────────────


async def lived_on_loopback(bao: OpenBao, story: Story) -> None:
    async with desk_on_loopback(bao, story.servers) as harness:
        await lived(harness, story, RECOVERY)


@pytest.mark.timeout(300)
@settings(QUICK, max_examples=25)
@given(story=stories(most_steps=5))
def test_every_history_converges_on_the_wire(bao: OpenBao, story: Story) -> None:
    asyncio.run(lived_on_loopback(bao, story))


@pytest.mark.long
@pytest.mark.timeout(3600)
@settings(QUICK, max_examples=2000)
@given(story=stories(most_servers=3, most_steps=10))
def test_every_history_converges_on_the_wire_for_long(bao: OpenBao, story: Story) -> None:
    asyncio.run(lived_on_loopback(bao, story))
