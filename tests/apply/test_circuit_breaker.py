"""Who waits for whom, and who is stopped by whose harm, in one process."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from reconciler.apply.circuit_breaker import CircuitBreaker, CircuitOpen, Place

TOKYO = Place("0.24.19", "https://tokyo-1.internal")
OSAKA = Place("0.24.19", "https://osaka-1.internal")
NEWER = Place("0.25.0", "https://kyoto-1.internal")


def play(story: Callable[[CircuitBreaker], Awaitable[None]]) -> None:
    async def run() -> None:
        async with asyncio.timeout(5):
            await story(CircuitBreaker())

    asyncio.run(run())


async def idle() -> None:
    """Let everybody go on who can."""
    for _ in range(10):
        await asyncio.sleep(0)


class Writer:
    """Takes a turn and keeps it until it is told to end."""

    def __init__(self, breaker: CircuitBreaker, place: Place, *, proves: bool = True) -> None:
        self.writes = False
        self.end = asyncio.Event()
        self._breaker, self._place, self._proves = breaker, place, proves
        self.task = asyncio.create_task(self._write())

    async def _write(self) -> None:
        async with self._breaker.turn(self._place):
            self.writes = True
            await self.end.wait()
            if self._proves:
                self._breaker.prove(self._place.version)
        self.writes = False

    async def done(self) -> None:
        self.end.set()
        await self.task


def test_a_scout_goes_alone_within_its_version() -> None:
    async def story(breaker: CircuitBreaker) -> None:
        scout = Writer(breaker, TOKYO)
        await idle()
        second, newer = Writer(breaker, OSAKA), Writer(breaker, NEWER)
        await idle()
        assert (scout.writes, second.writes, newer.writes) == (True, False, True)
        await scout.done()
        await idle()
        third = Writer(breaker, TOKYO)
        await idle()
        assert second.writes
        assert third.writes
        for writer in (second, newer, third):
            await writer.done()

    play(story)


def test_a_scout_that_proved_nothing_is_followed_by_another_one() -> None:
    async def story(breaker: CircuitBreaker) -> None:
        scout = Writer(breaker, TOKYO, proves=False)
        await idle()
        second, third = Writer(breaker, OSAKA), Writer(breaker, TOKYO)
        await scout.done()
        await idle()
        assert [second.writes, third.writes].count(True) == 1
        for writer in (second, third):
            writer.end.set()
        await asyncio.gather(second.task, third.task)

    play(story)


def test_harm_on_one_server_is_no_brake_for_another() -> None:
    async def story(breaker: CircuitBreaker) -> None:
        await breaker.engage(TOKYO, "harm", whole=False)
        with pytest.raises(CircuitOpen, match="harm"):
            breaker.check(TOKYO)
        breaker.check(OSAKA)
        # Whatever version it claims from now on.
        with pytest.raises(CircuitOpen, match="harm"):
            breaker.check(Place("9.9.9", TOKYO.url))

    play(story)


def test_a_brake_for_a_version_stops_it_all_and_no_other() -> None:
    async def story(breaker: CircuitBreaker) -> None:
        scout = Writer(breaker, TOKYO)
        await idle()
        waiting = Writer(breaker, OSAKA)
        await idle()
        await breaker.engage(TOKYO, "harm", whole=True)
        with pytest.raises(CircuitOpen, match="harm"):
            await waiting.task
        with pytest.raises(CircuitOpen, match="harm"):
            await breaker.steady(OSAKA)
        await breaker.steady(NEWER)
        await scout.done()

    play(story)


def test_all_of_a_version_wait_while_one_outcome_is_found_out() -> None:
    async def story(breaker: CircuitBreaker) -> None:
        breaker.prove(TOKYO.version)
        async with breaker.doubt(TOKYO.version):
            writer = Writer(breaker, OSAKA)
            steady = asyncio.create_task(breaker.steady(OSAKA))
            await breaker.steady(NEWER)
            breaker.check(OSAKA, finishing=True)  # a start is no write
            await idle()
            assert not writer.writes
            assert not steady.done()
            await breaker.engage(TOKYO, "harm", whole=False)
        await steady
        await writer.done()
        assert not breaker.doubtful(OSAKA)

    play(story)


def test_what_people_released_needs_a_scout_once_more() -> None:
    async def story(breaker: CircuitBreaker) -> None:
        breaker.prove(TOKYO.version)
        await breaker.engage(TOKYO, "harm", whole=False)
        await breaker.follow({TOKYO.url})
        await breaker.follow(set())
        breaker.check(TOKYO)
        assert not breaker.proven(TOKYO.version)

    play(story)
