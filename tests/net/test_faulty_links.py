"""
The driver through a bad network: every wait ends, nothing is sent twice, and it recovers.
"""

import asyncio
import contextlib
import random
import sys
from collections.abc import Coroutine, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from reconciler.drivers import Trust
from reconciler.errors import (
    ConnectionLost,
    NoAnswer,
    ServerRefused,
    ServerUnreachable,
)
from reconciler.model.target import Target
from reconciler.sandbox.jt_trader.server import Behaviour
from tests.drivers.scripted import Authority
from tests.net.links import (
    ASKING,
    OBSERVE,
    PATIENCE,
    WAITS,
    WRITES,
    Act,
    Network,
    Place,
    begun,
    linked,
    offsets,
    swept,
)
from tests.support.fault_proxy import (
    HALF_OPEN,
    Door,
    End,
    Faults,
    Lane,
    Way,
    broken,
    late,
    slow,
)

ENDS = pytest.mark.parametrize("end", [End.FIN, End.RST, End.MUTE], ids=lambda end: end.value)
ALL_ENDS = pytest.mark.parametrize("end", End, ids=lambda end: end.value)
ACTS = pytest.mark.parametrize("act", WRITES, ids=lambda act: act.name)
SEED = 20261122
SAVING = WRITES[0]
EARLY = {"ServerUnreachable", "LoginSilent", "ConnectionLost", "ReadSilent"}


async def all_of(*stories: Coroutine[Any, Any, None]) -> None:
    """Tell all at once."""
    async with asyncio.TaskGroup() as group:
        for story in stories:
            group.create_task(story)


@pytest.fixture(scope="module")
def on() -> Iterator[Network]:
    """All proxies of this module, and the time of its stories."""
    with Network() as network:
        yield network


# ── broken at a byte ─────────────────────────────────────────────────────────────────────────


@ALL_ENDS
def test_a_look_that_is_broken_anywhere_ends_in_time(on: Network, end: End) -> None:
    chance = random.Random(f"{SEED} {end}")

    async def story() -> None:
        places = await offsets(on, OBSERVE, chance, some=4)
        for ended in (await swept(on, OBSERVE, end, places)).values():
            assert "ServerUnreachable" in ended
            assert ended.keys() & {"ConnectionLost", "ReadSilent"}
            assert ended.keys() <= {"NoneType", *EARLY}

    on.tell(story)


@ACTS
@ENDS
def test_a_write_that_is_broken_anywhere_is_never_repeated(on: Network, act: Act, end: End) -> None:
    chance = random.Random(f"{SEED} {act.name} {end}")

    async def story() -> None:
        places = await offsets(on, act, chance, some=2, last=5)
        for ended in (await swept(on, act, end, places)).values():
            assert ended.keys() <= {"NoneType", "NoAnswer", *EARLY}
            assert EARLY & ended.keys(), "positive control: some ended before they were sent"
            if act.answered:
                assert ended["NoAnswer"], "positive control: some were not known"

    on.tell(story)


@pytest.mark.long
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("act", [OBSERVE, *WRITES], ids=lambda act: act.name)
@ALL_ENDS
def test_broken_at_very_many_bytes(on: Network, act: Act, end: End) -> None:
    seed = random.randrange(2**32)
    sys.stdout.write(f"seed {seed}\n")
    places: list[Place] = []

    async def story() -> None:
        if places:
            await swept(on, act, end, [places.pop() for _ in places[:24]])
        else:
            places.extend(await offsets(on, act, random.Random(seed), some=120))

    on.tell(story)
    while places:
        on.tell(story)


@ENDS
def test_tls_that_is_broken_anywhere_ends_in_time(on: Network, end: End, tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    context, trust = authority.server_context(), Trust(ca_file=str(authority.ca_file))
    chance = random.Random(f"{SEED} tls {end}")

    async def story() -> None:
        async with linked(on, tls=context, trust=trust) as link:
            session = await link.open()
            counts = link.proxy.counts
            await session.close()
        places: list[Place] = []
        for way, total in ((Way.UP, counts.up), (Way.DOWN, counts.down)):
            # The header of the first record, its first bytes, then wherever.
            chosen = [0, 1, 5, 6, 40, *(chance.randrange(total) for _ in range(10)), total - 1]
            places += [(way, place) for place in chosen]
        for ended in (await swept(on, OBSERVE, end, places, tls=context, trust=trust)).values():
            assert ended["ServerUnreachable"]

    on.tell(story)


# ── doors, drips, delays ─────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "door", [Door.SILENT, Door.RESET, Door.CLOSED], ids=lambda door: door.value
)
def test_who_is_not_let_in_knows_it_in_time(on: Network, door: Door) -> None:
    async def story() -> None:
        async with linked(on, Faults(door=door)) as link:
            target = Target(link.proxy.url, "0")
            clock = asyncio.get_running_loop().time
            began = clock()
            outcome = await link.converse(OBSERVE)
            took = clock() - began
            date = link.driver.clock(target, Trust())
            assert await link.timed("clock", WAITS.connect + WAITS.close, date) is None
            assert isinstance(outcome, ServerUnreachable)
            assert link.server.record.handshakes == []
            assert took == pytest.approx(WAITS.connect if door is Door.SILENT else 0.0)
            await link.healed()
            assert await link.driver.clock(target, Trust()) is not None
            assert link.judged(OBSERVE, outcome) == []

    on.tell(story)


@pytest.mark.parametrize("act", [OBSERVE, SAVING], ids=lambda act: act.name)
def test_no_wait_is_longer_for_a_byte_now_and_then(on: Network, act: Act) -> None:
    async def story(rate: float) -> None:
        async with linked(on, slow(rate)) as link:
            outcome = await link.converse(act, seconds=4 * ASKING)
            assert outcome is not None
            await link.healed()
            assert link.judged(act, outcome) == []

    on.tell(lambda: all_of(story(1), story(100), story(1000)))


@ACTS
def test_an_answer_that_trickles_in_is_no_answer(on: Network, act: Act) -> None:
    async def story(rate: float) -> None:
        async with linked(on) as link:
            session = await link.open()
            link.proxy.switch(Faults(down=Lane(rate=rate)))
            outcome = await link.outcome(act, session, ASKING)
            assert outcome is not None or not act.answered or rate == 1000
            await link.close(session)
            await link.healed()
            assert link.judged(act, outcome) == []

    on.tell(lambda: all_of(story(10), story(1000)))


@pytest.mark.parametrize("act", [OBSERVE, *WRITES], ids=lambda act: act.name)
def test_a_slow_network_is_no_fault(on: Network, act: Act) -> None:
    async def story(faults: Faults) -> None:
        async with linked(on, faults) as link:
            assert await link.converse(act, seconds=4 * ASKING) is None
            assert link.overdue == []

    on.tell(lambda: all_of(story(late(0.05)), story(late(0.01)), story(slow(200_000))))


def test_a_network_that_is_too_slow_is_one(on: Network) -> None:
    async def story() -> None:
        async with linked(on, late(2 * WAITS.connect)) as link:
            outcome = await link.converse(OBSERVE)
            assert isinstance(outcome, ServerUnreachable)
            await link.healed()
            assert link.judged(OBSERVE, outcome) == []

    on.tell(story)


# ── a link that dies under a session ─────────────────────────────────────────────────────────


def test_leaving_through_a_dead_link_takes_bounded_time(on: Network) -> None:
    async def story() -> None:
        async with linked(on) as link:
            for faults in (HALF_OPEN, HALF_OPEN, slow(1), broken(Way.UP, 0, End.SWALLOW)):
                session = await link.open()
                await session.observe()
                link.proxy.switch(faults)
                await link.close(session)
                await link.cut(End.RST)
                link.proxy.heal()
            await link.healed()
            assert link.overdue == []

    on.tell(story)


def test_a_link_that_died_quietly_is_noticed_by_the_next_question(on: Network) -> None:
    async def story() -> None:
        async with linked(on) as link:
            session = await link.open()
            await session.observe()
            before = len(link.server.record.received)
            link.proxy.switch(HALF_OPEN)
            with pytest.raises(ConnectionLost):
                await link.timed("observe", ASKING, session.observe())
            with pytest.raises(ConnectionLost, match="nothing was sent"):
                await link.timed("robots", 0.1, session.robots())
            await link.close(session)
            await link.healed()
            events = [one.event for one in link.server.record.received[before:]]
            assert link.overdue == []
            assert len(events) == len(set(events)) == 4, "what was held died with its sender"

    on.tell(story)


def test_a_link_that_died_quietly_is_noticed_by_its_pings(on: Network) -> None:
    async def story() -> None:
        behaviour = Behaviour(ping_interval=0.2, ping_timeout=0.2)
        async with linked(on, behaviour=behaviour) as link:
            session = await link.open()
            assert not await session.ended(0.6), "positive control: it lives by its pings"
            link.proxy.switch(HALF_OPEN)
            assert await link.timed("ended", session.patience, session.ended(PATIENCE))
            await link.close(session)
            await link.healed()
            assert link.overdue == []

    on.tell(story)


@pytest.mark.parametrize("end", [End.FIN, End.RST], ids=lambda end: end.value)
def test_a_session_that_was_cut_sends_nothing_more(on: Network, end: End) -> None:
    async def story() -> None:
        async with linked(on) as link:
            session = await link.open()
            await session.observe()
            await link.cut(end)
            assert await session.ended(PATIENCE)
            with pytest.raises(ConnectionLost, match="nothing was sent"):
                await session.invalidate()
            await link.close(session)
            await link.healed()
            assert link.server.record.invalidation_requests == 0

    on.tell(story)


def test_what_a_tunnel_delivers_late_was_called_unknown(on: Network) -> None:
    # The end of a tunnel takes a request at once, and may deliver it when nobody waits any more.
    async def story(act: Act) -> None:
        place = await begun(on, act)
        async with linked(on, replace(broken(Way.UP, place, End.MUTE), tunnel=True)) as link:
            outcome = await link.converse(act)
            assert isinstance(outcome, NoAnswer) == act.answered
            assert link.server.record.events(act.event) == 0
            link.proxy.switch(Faults(tunnel=True))
            await link.arrived(act.event)
            await link.healed()
            assert link.judged(act, outcome) == []

    on.tell(lambda: all_of(*map(story, WRITES)))


# ── answers that come twice ──────────────────────────────────────────────────────────────────

REPEATS = pytest.mark.parametrize(
    "lane",
    [
        Lane(repeat=b"-response"),
        Lane(repeat=b"-response", lag=0.002),
        Lane(repeat=b"-response", lag=0.03),
        Lane(repeat=b""),
    ],
    ids=["at once", "2 ms", "30 ms", "everything"],
)


@pytest.mark.parametrize("act", [OBSERVE, *WRITES], ids=lambda act: act.name)
@REPEATS
def test_an_answer_that_comes_twice_does_no_harm(on: Network, act: Act, lane: Lane) -> None:
    async def story() -> None:
        async with linked(on, Faults(down=lane)) as link:
            outcome = await link.converse(act)
            assert link.repeated(act) == []
            await link.healed()
            assert link.judged(act, outcome) == []

    on.tell(story)


def test_after_an_answer_that_nobody_asked_for_nothing_is_written(on: Network) -> None:
    async def story() -> None:
        async with linked(on, Faults(down=Lane(repeat=b"exchange-config-response"))) as link:
            session = await link.open()
            await session.observe()  # its later answers come after the repeated one
            with pytest.raises(ConnectionLost, match="nothing was sent"):
                await session.invalidate()
            await link.close(session)
            await link.healed()
            assert link.server.record.invalidation_requests == 0

    on.tell(story)


@REPEATS
def test_a_stale_list_never_leads_to_a_second_delete(on: Network, lane: Lane) -> None:
    # Deleting what is not stored stops all robots.
    async def story() -> None:
        async with linked(on, Faults(down=lane)) as link:
            for _ in range(4):
                session = await link.open()
                try:
                    for name in ("okx_api_key", "okx_api_key", "okx_api_secret", "okx_api_key"):
                        with contextlib.suppress(ServerRefused):
                            await session.exchanges()
                            await session.delete("okx", name)
                except ConnectionLost:
                    pass
                await link.close(session)
            await link.healed()
            assert link.server.record.fatal_paths == 0
            assert await link.converse(WRITES[1]) is None, "positive control: it can be deleted"
            assert link.server.record.rows_deleted == 1

    on.tell(story)
