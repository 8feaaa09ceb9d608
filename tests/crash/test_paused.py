"""
A process that is stopped between its intent and its sending sends nothing when it wakes.

It is stopped as by SIGSTOP, loop and all, at a chosen moment, while time goes on and another
process or a person works; everything in memory, and no chance involved.
"""

import asyncio
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import pytest

from reconciler.apply.circuit_breaker import CircuitBreaker, Place
from reconciler.errors import Exit
from reconciler.ledger import Put, Store, Stored
from reconciler.model.actions import InvalidateCache, RebootServer
from reconciler.model.desired import Afterwards, RequestKind
from reconciler.model.outcomes import Outcome
from reconciler.model.recorded import Stage
from reconciler.testing.virtual_time import VirtualClock, VirtualLoop, virtual_time
from tests.crash.request_scenarios import Trading, cache, judged, reboot, settled

LONG = 3600.0


class Sleeper(CircuitBreaker):
    """The brake of a process that is stopped just before one of its requests is sent."""

    def __init__(self, meanwhile: Callable[[], None], number: int = 0) -> None:
        super().__init__()
        self._meanwhile = meanwhile
        self._left = number
        self.slept = False

    async def steady(self, place: Place, *, finishing: bool = False) -> None:
        await super().steady(place, finishing=finishing)
        self._left -= 1
        if self._left < 0 and not self.slept:
            self.slept = True
            self._meanwhile()  # nothing of this process goes on


class Waking:
    """A store that calls somebody once, just after a document of that name was written."""

    created = False
    at_hand = False

    def __init__(self, store: Store, name: str, meanwhile: Callable[[], None]) -> None:
        self._store = store
        self._name = name
        self._meanwhile = meanwhile
        self.slept = False

    def get(self, key: str) -> Stored | None:
        return self._store.get(key)

    def put(self, key: str, text: str, *, expect: int) -> int:
        revision = self._store.put(key, text, expect=expect)
        if key.endswith(self._name) and not self.slept:
            self.slept = True
            self._meanwhile()
        return revision

    def put_all(self, puts: Sequence[Put]) -> None:
        for one in puts:  # whoever can die does so between any two
            self.put(one.key, one.text, expect=one.expect)

    def keys(self, prefix: str) -> list[str]:
        return self._store.keys(prefix)

    def rows(self, prefix: str) -> dict[str, Stored]:
        return self._store.rows(prefix)

    def sequence(self) -> int:
        return self._store.sequence()

    def close(self) -> None:
        """Keep it."""


@dataclass
class Others:
    """What others do to a harness while a process sleeps; `done` counts it."""

    harness: Trading
    clock: VirtualClock
    seconds: float
    done: int = 0

    def apply(self) -> None:
        """Let time pass, and another process apply the same documents."""
        self.clock.at += self.seconds
        self._apart()

    def resolve(self) -> None:
        """Let time pass, and a person say that it was not done, and ask anew."""
        self.clock.at += self.seconds
        request = self.harness.requests().open
        assert request is not None
        self.harness.book().resolve(request.kind, request.instant, done=False, because="I looked")
        self.done += 1

    def sleep(self) -> None:
        """Let time pass."""
        self.clock.at += self.seconds
        self.done += 1

    async def _apply(self) -> None:
        # A pass of another process, as often as it takes for the lease of the sleeper to run out.
        for _ in range(4):
            await self.harness.apply()
            await asyncio.sleep(20)
        self.done += 1

    def _apart(self) -> None:
        """Run it on a loop of its own: that of the sleeper stands still."""

        def run() -> None:
            with asyncio.Runner(loop_factory=lambda: VirtualLoop(self.clock)) as runner:
                runner.run(self._apply())

        thread = threading.Thread(target=run)
        thread.start()
        thread.join(30)
        assert not thread.is_alive()


async def asked(clock: VirtualClock, kind: RequestKind) -> Trading:
    harness = await settled(clock)
    harness.wish(cache=cache(harness)) if kind is RequestKind.CACHE else harness.wish(
        reboot=reboot(harness)
    )
    return harness


def outcome_of(outcomes: tuple[Outcome, ...]) -> Outcome:
    (found,) = (o for o in outcomes if isinstance(o.action, InvalidateCache | RebootServer))
    return found


@pytest.mark.parametrize("kind", list(RequestKind))
@pytest.mark.parametrize("seconds", [1.0, 6.0, 40.0, LONG])
def test_another_process_applies_meanwhile(kind: RequestKind, seconds: float) -> None:
    async def story(clock: VirtualClock) -> None:
        harness = await asked(clock, kind)
        others = Others(harness, clock, seconds)
        sleeper = Sleeper(others.apply)

        woken = await harness.apply(brake=sleeper)

        assert sleeper.slept
        assert others.done
        result = woken.reports[0].outcomes
        # Whoever was quicker: the server was asked at most once, by one of them.
        what = "invalidate" if kind is RequestKind.CACHE else "reboot"
        assert harness.trader.count(what) <= 1
        assert result
        for _ in range(3):
            await asyncio.sleep(40)
            await harness.apply()
        assert harness.trader.count(what) <= 1
        verdict = await judged(harness, [woken])
        assert not verdict.wrong

    clock = VirtualClock()
    with virtual_time(clock) as runner:
        runner.run(story(clock))


@pytest.mark.parametrize("kind", list(RequestKind))
@pytest.mark.parametrize("seconds", [0.0, 1.0])
def test_a_person_resolves_it_meanwhile(kind: RequestKind, seconds: float) -> None:
    # So soon that neither the send window nor the lease is over: only the nonce tells.
    async def story(clock: VirtualClock) -> None:
        harness = await asked(clock, kind)
        others = Others(harness, clock, seconds)
        sleeper = Sleeper(others.resolve)

        woken = await harness.apply(brake=sleeper)

        assert others.done == 1
        assert outcome_of(woken.reports[0].outcomes).code is Exit.BLOCKED
        assert harness.trader.acts == []
        (request,) = harness.requests().past
        assert request.stage is Stage.NOT_DONE

    clock = VirtualClock()
    with virtual_time(clock) as runner:
        runner.run(story(clock))


@pytest.mark.parametrize("kind", list(RequestKind))
@pytest.mark.parametrize(("seconds", "sent"), [(4.0, 1), (6.0, 0), (LONG, 0)])
def test_nothing_is_sent_after_the_send_window(
    kind: RequestKind, seconds: float, sent: int
) -> None:
    async def story(clock: VirtualClock) -> None:
        harness = await asked(clock, kind)
        others = Others(harness, clock, seconds)
        sleeper = Sleeper(others.sleep)

        woken = await harness.apply(brake=sleeper)

        assert others.done == 1
        assert len([a for a in harness.trader.acts if a.what in ("invalidate", "reboot")]) == sent
        assert (outcome_of(woken.reports[0].outcomes).code is Exit.DONE) == bool(sent)
        assert harness.requests().open is None  # what was not sent is not in doubt
        # The next pass does it.
        await asyncio.sleep(60)
        await harness.apply()
        assert len([a for a in harness.trader.acts if a.what in ("invalidate", "reboot")]) == 1

    clock = VirtualClock()
    with virtual_time(clock) as runner:
        runner.run(story(clock))


@pytest.mark.parametrize("kind", list(RequestKind))
@pytest.mark.parametrize("seconds", [0.5, 40.0])
def test_stopped_just_after_the_intent_while_another_one_finds_it(
    kind: RequestKind, seconds: float
) -> None:
    async def story(clock: VirtualClock) -> None:
        harness = await asked(clock, kind)
        others = Others(harness, clock, seconds)
        whole = harness.store

        def meanwhile() -> None:
            waking, harness.store = harness.store, whole
            others.apply()
            harness.store = waking

        harness.store = Waking(whole, "/requests", meanwhile)
        await harness.apply()
        harness.store = whole

        assert others.done == 1
        what = "invalidate" if kind is RequestKind.CACHE else "reboot"
        assert harness.trader.count(what) <= 1
        for _ in range(3):
            await asyncio.sleep(40)
            await harness.apply()
        assert harness.trader.count(what) <= 1
        assert not harness.sent_unrecorded

    clock = VirtualClock()
    with virtual_time(clock) as runner:
        runner.run(story(clock))


def test_a_start_that_another_process_took_over_is_not_sent() -> None:
    # Stopped in the middle of starting robots, for longer than its lease lasts.
    async def story(clock: VirtualClock, number: int) -> bool:
        harness = await settled(clock)
        harness.wish(reboot=reboot(harness, robots=Afterwards.RESUME))
        others = Others(harness, clock, 40.0)
        sleeper = Sleeper(others.apply, number)
        woken = await harness.apply(brake=sleeper)
        for _ in range(2):
            await asyncio.sleep(40)
            await harness.apply()
        verdict = await judged(harness, [woken])
        assert not verdict.wrong, number
        return sleeper.slept

    slept, number = True, 0
    while slept:
        clock = VirtualClock()
        with virtual_time(clock) as runner:
            slept = runner.run(story(clock, number))
        number += 1
    assert number > 4  # a reboot and three starts
