"""
One conversation of the driver with a stand-in through a spoiled link, and the judgement on it.

The stand-in's record is the oracle: what arrived there, not what the driver says of itself.
"""

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

from reconciler.drivers import Login, Trust
from reconciler.drivers.jt_trader.driver import JtTraderDriver, JtTraderSession
from reconciler.drivers.jt_trader.requests import DELETE, INVALIDATE, REBOOT, SAVE, START, STOP
from reconciler.errors import (
    ConnectionLost,
    DriverError,
    LoginSilent,
    NoAnswer,
    ServerUnreachable,
)
from reconciler.model.secret import Secret
from reconciler.model.target import Target
from reconciler.sandbox.jt_trader.server import Behaviour, Robot, StandIn
from reconciler.system.timeouts import Timeouts
from reconciler.testing.drivers_rig import Story
from tests.drivers.scripted import canary, told
from tests.support.fault_proxy import HEALTHY, End, FaultProxy, Faults, Way, broken
from tests.support.loops import LoopThread
from tests.support.quiet_time import QuietTime

T = TypeVar("T")

WAITS: Final = Timeouts(
    connect=0.6, authenticate=0.6, request=0.6, close=0.2, robot=0.6, invalidate=0.6
)
"""In the time of `QuietTime`, in which what a machine does takes none."""

ROUNDING: Final = 1e-6  # of adding up seconds

OPENING: Final = WAITS.connect + WAITS.authenticate + 2 * WAITS.close
ASKING: Final = WAITS.request + 2 * WAITS.close
CLOSING: Final = 3 * WAITS.close

PATIENCE: Final = 30.0
"""Seconds until a server is back from a reboot."""


_AT_ONCE: Final = 24  # conversations; more would wait for one another


class Network(LoopThread):
    """The loop of all proxies, on a thread; stories are told on loops beside it, in its time."""

    def __init__(self) -> None:
        self._time: Final = QuietTime()
        super().__init__("fault proxies", self._time.loop())

    def tell(self, story: Story) -> None:
        """Run *story*; see `told`."""
        told(story, self._time.told)


@dataclass(frozen=True, slots=True)
class Act:
    """
    What is done through the link.

    *event* is what must not arrive twice; empty where only reads are sent.  *answered*: a success
    means that it arrived.  *looks*: so often it asks for the same thing.
    """

    name: str
    do: Callable[[JtTraderSession], Awaitable[object]]
    event: str = ""
    answered: bool = True
    looks: int = 1


async def _save(session: JtTraderSession) -> None:
    (exchange,) = (one for one in await session.exchanges() if one.code == "bybit")
    values = {one.name: Secret(canary()) for one in exchange.fields}
    await session.save("bybit", values)


async def _delete(session: JtTraderSession) -> None:
    (exchange,) = (one for one in await session.exchanges() if one.code == "okx")
    await session.delete("okx", exchange.fields[0].name)


async def _stop(session: JtTraderSession) -> None:
    await session.robots()
    await session.stop(1)


async def _start(session: JtTraderSession) -> None:
    await session.robots()
    await session.start(3)


OBSERVE: Final = Act("observe", lambda session: session.observe())
WRITES: Final = (
    Act("save", _save, SAVE.event),
    Act("delete", _delete, DELETE.event, looks=2),
    Act("invalidate", lambda session: session.invalidate(), INVALIDATE.event),
    Act("stop", _stop, STOP.event),
    Act("start", _start, START.event),
    Act("reboot", lambda session: session.reboot(), REBOOT.event, answered=False),
)


@dataclass(slots=True)
class Link:
    """
    A stand-in, a proxy before it, and one driver for all conversations.

    `overdue` holds a line for each wait that was longer than its deadline.
    """

    server: StandIn
    proxy: FaultProxy
    driver: JtTraderDriver
    url: str
    trust: Trust
    overdue: list[str] = field(default_factory=list)

    async def open(self) -> JtTraderSession:
        """Open a session in bounded time."""
        login = Login(Secret("made-up"))
        return await self.timed(
            "open", OPENING, self.driver.open(Target(self.url, "0"), login, self.trust)
        )

    async def timed(self, what: str, seconds: float, work: Coroutine[Any, Any, T]) -> T:
        """Await *work*; note when it took longer than *seconds*."""
        clock = asyncio.get_running_loop().time
        began = clock()
        try:
            return await work
        finally:
            if (took := clock() - began) > seconds + ROUNDING:
                self.overdue.append(f"{what} took {took:.2f} s instead of {seconds:g}")

    async def cut(self, end: End) -> None:
        """End all connections; the peers get the time to notice it."""
        await asyncio.wrap_future(self.proxy.cutting(end))

    async def arrived(self, event: str) -> None:
        """Wait until the server has received *event*."""
        async with asyncio.timeout(PATIENCE):
            while not self.server.record.events(event):  # noqa: ASYNC110  - the record tells nobody
                await asyncio.sleep(0.01)

    async def close(self, session: JtTraderSession) -> None:
        """Close a session in bounded time."""
        await self.timed("close", CLOSING, session.close())

    async def converse(self, act: Act, *, seconds: float = ASKING) -> DriverError | None:
        """Open, act, close; return what it ended with."""
        try:
            session = await self.open()
        except (ServerUnreachable, LoginSilent) as error:
            return error
        try:
            return await self.outcome(act, session, seconds)
        finally:
            await self.close(session)

    async def outcome(
        self, act: Act, session: JtTraderSession, seconds: float
    ) -> DriverError | None:
        """Act, in bounded time; return what it ended with."""
        try:
            await self.timed(act.name, seconds, awaited(act.do(session)))
        except DriverError as error:
            return error
        return None

    def repeated(self, act: Act) -> list[str]:
        """Return what arrived oftener than one conversation asks for."""
        events = Counter(one.event for one in self.server.record.received)
        return [f"{event} came {n} times" for event, n in events.items() if n > act.looks]

    def judged(self, act: Act, outcome: DriverError | None) -> list[str]:
        """Return what is wrong with an *outcome*, by what the server really received."""
        record = self.server.record
        asked = record.events(act.event) if act.event else 0
        wrong = [*self.overdue]
        if record.fatal_paths:
            wrong.append(f"{record.fatal_paths} fatal paths")
        if not all(one.authorised for one in record.received):
            wrong.append("sent before it was accepted")
        if asked > 1:
            wrong.append(f"sent {asked} times")
        match outcome:
            case None:
                if act.event and act.answered and not asked:
                    wrong.append("succeeded, and nothing arrived")
            case NoAnswer() if act.event:
                pass
            case ServerUnreachable() | LoginSilent() | ConnectionLost():
                if asked:
                    wrong.append(f"arrived, though it is called {type(outcome).__name__}")
                if not outcome.transient:
                    wrong.append("not worth another try")
            case _:
                wrong.append(f"ended with {outcome!r}")
        return wrong

    async def healed(self) -> None:
        """With the same driver everything works again; after a reboot as soon as it is back."""
        self.proxy.heal()
        async with asyncio.timeout(PATIENCE):
            while (outcome := await self.converse(OBSERVE, seconds=4 * ASKING)) is not None:
                assert outcome.transient
                await asyncio.sleep(0.02)


async def awaited(work: Awaitable[object]) -> object:
    """Await *work*, whatever it is."""
    return await work


@asynccontextmanager
async def linked(
    on: Network,
    faults: Faults = HEALTHY,
    *,
    trust: Trust | None = None,
    **options: Any,
) -> AsyncIterator[Link]:
    """
    Start a stand-in whose robots 1 and 2 run and 3 rests, and a proxy before it.

    *options* are the stand-in's; with its `tls` goes our *trust*.
    """
    # Not in the middle of a sweep: what nobody asked for would move the offsets.
    behaviour = options.pop("behaviour", None) or Behaviour(
        sprinkle=False, row_delay=(0.0, 0.001), reboot_down=0.02, reboot_drop=0.01
    )
    robots = [
        Robot(id=1, name="grid", exchange="bybit"),
        Robot(id=2, name="arb", exchange="okx"),
        Robot(id=3, name="old", exchange="okx", running=False),
    ]
    server = StandIn(access_secret="made-up", robots=robots, behaviour=behaviour, **options)
    url = await server.start()
    for name in ("okx_api_key", "okx_api_secret", "okx_password"):
        server.set_value(name, canary())
    try:
        with FaultProxy.of(url, on=on) as proxy:
            proxy.switch(faults)
            driver = JtTraderDriver(command="apply", timeouts=WAITS)
            address = proxy.url.replace("http:", "https:") if trust else proxy.url
            yield Link(server, proxy, driver, address, trust or Trust())
    finally:
        await server.stop()


Place = tuple[Way, int]
"""A byte of one direction."""


async def offsets(
    on: Network, act: Act, chance: random.Random, *, some: int, last: int | None = None
) -> list[Place]:
    """
    Return where to break a conversation: at each end of a frame, one byte before and after it.

    They come from a clean run; *some* random ones are added in each direction.  With *last* only
    those around the last so many frames before the goodbye are taken.
    """
    async with linked(on) as link:
        session = await link.open()
        await act.do(session)
        if act.event == REBOOT.event:
            assert await session.ended(PATIENCE)
        before = {way: link.proxy.marks(way) for way in Way}
        await session.close()
        whole = {way: link.proxy.marks(way) for way in Way}
    places: list[Place] = []
    for way in Way:
        marks = before[way][-last:] if last else whole[way]
        assert len(marks) >= 3, "positive control: frames were seen"
        begin = marks[0] if last else 0
        around = {mark + step for mark in marks for step in (-1, 0, 1)}
        around |= set() if last else {0, 1}
        around |= {chance.randrange(begin, marks[-1]) for _ in range(some)}
        places += [(way, place) for place in sorted(around)]
    return places


async def swept(
    on: Network,
    act: Act,
    end: End,
    places: list[Place],
    **options: Any,
) -> dict[Way, Counter[str]]:
    """
    Break one conversation at each of *places*; return how often it ended with which class.

    Fails with a line for each place where something was wrong.
    """
    ended: dict[Way, Counter[str]] = {way: Counter() for way in Way}
    wrong: list[str] = []

    async def at(place: Place) -> None:
        way, byte = place
        async with linked(on, broken(way, byte, end), **options) as link:
            outcome = await link.converse(act)
            ended[way][type(outcome).__name__] += 1
            lines = link.repeated(act)
            await link.healed()
            lines += link.judged(act, outcome)
            wrong.extend(f"byte {byte} {way.value}: {line}" for line in lines)

    for begin in range(0, len(places), _AT_ONCE):
        await asyncio.gather(*map(at, places[begin : begin + _AT_ONCE]))
    assert not wrong, "\n".join(wrong)
    return ended


async def begun(on: Network, act: Act) -> int:
    """Return a byte in the middle of the frame that a clean run of *act* writes with."""
    async with linked(on) as link:
        session = await link.open()
        await act.do(session)
        await link.arrived(act.event)
        marks = link.proxy.marks(Way.UP)
        await session.close()
    return (marks[-2] + marks[-1]) // 2
