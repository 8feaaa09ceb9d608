"""What is read for whoever looks: shared, and in no more threads however often they hang up."""

import asyncio
import threading
from collections.abc import Awaitable
from typing import Any

import pytest

from reconciler.controller.readings import Readings
from reconciler.errors import LedgerError


class Slow:
    """A reading that a test lets go; counts how often it began."""

    def __init__(self) -> None:
        self.begun: list[str] = []
        self.first = threading.Event()
        self.go = threading.Event()

    def read(self, name: str = "x") -> str:
        self.begun.append(name)
        self.first.set()
        assert self.go.wait(60)
        return f"{name} {len(self.begun)}"


async def hung_up(asking: Awaitable[Any]) -> None:
    task = asyncio.ensure_future(asking)
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait([task])
    assert task.cancelled()


def test_who_hangs_up_and_asks_again_costs_one_thread() -> None:
    async def story() -> None:
        slow, readings = Slow(), Readings("test")
        asked = asyncio.ensure_future(readings.read("x", slow.read))
        await asyncio.to_thread(slow.first.wait, 60)
        asked.cancel()
        await asyncio.wait([asked])
        for _ in range(50):
            await hung_up(readings.read("x", slow.read))
            await hung_up(readings.read("y", slow.read))
        again = [asyncio.ensure_future(readings.read("x", slow.read)) for _ in range(3)]
        await asyncio.sleep(0)
        slow.go.set()
        assert await asyncio.gather(*again) == ["x 1"] * 3
        assert slow.begun == ["x"]  # and nobody waited for y
        assert await readings.read("x", slow.read) == "x 2"
        assert len(readings._now) == 0

    asyncio.run(story())


def test_who_waits_gets_it_though_another_hangs_up() -> None:
    async def story() -> None:
        slow, readings = Slow(), Readings("test")
        first = asyncio.ensure_future(readings.read("x", slow.read))
        queued = asyncio.ensure_future(readings.read("y", lambda: slow.read("y")))
        await asyncio.sleep(0)
        await hung_up(readings.read("y", slow.read))
        slow.go.set()
        assert [await first, await queued] == ["x 1", "y 2"]

    asyncio.run(story())


def test_a_reading_that_fails_is_read_anew() -> None:
    def wrong() -> None:
        raise LedgerError("the ledger is away", "wait")

    async def story() -> None:
        readings = Readings("test")
        for _ in range(2):
            with pytest.raises(LedgerError):
                await readings.read("x", wrong)
        assert await readings.read("x", lambda: 1) == 1

    asyncio.run(story())
