"""Virtual time hides no moment at which others could act."""

import asyncio

from reconciler.testing.virtual_time import VirtualClock, virtual_time


def test_who_waits_for_a_thread_lets_others_act() -> None:
    done: list[str] = []

    async def story() -> None:
        other = asyncio.create_task(note())
        await asyncio.to_thread(done.append, "on the thread")
        done.append("after it")
        await other

    async def note() -> None:
        done.append("somebody else")

    with virtual_time(VirtualClock()) as runner:
        runner.run(story())

    assert done == ["on the thread", "somebody else", "after it"]


def test_what_a_thread_raises_comes_to_who_waits() -> None:
    async def story() -> str:
        try:
            await asyncio.to_thread(int, "x")
        except ValueError as error:
            return str(error)
        return ""

    with virtual_time(VirtualClock()) as runner:
        assert "'x'" in runner.run(story())
