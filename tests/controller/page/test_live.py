"""What is told to viewers: once for all, in order, bounded; and nobody is waited for."""

import asyncio
import json
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from reconciler.controller.page import live
from reconciler.controller.page.access import Access
from reconciler.controller.page.fleet import SLICE, Filter, Fleet
from reconciler.controller.page.live import CHANNELS, KEPT, QUEUE, Channel, Full, Hub, View
from reconciler.controller.page.site import Site
from reconciler.controller.page.sources import SLICE as TAKEN
from reconciler.controller.page.sources import FromLedger
from reconciler.controller.page.views import SLICE as ROWS
from reconciler.controller.page.views import Views
from reconciler.controller.status import Health, ServerStatus
from reconciler.controller.status_store import Servers
from reconciler.ledger.stores.memory import MemoryStore
from reconciler.ledger.unrecorded import UnrecordedOutcomes
from reconciler.model.desired import DesiredServer, DesiredState
from reconciler.model.outcomes import Report
from reconciler.model.source import NOWHERE
from reconciler.model.target import Target, normalised
from reconciler.model.values import replace
from reconciler.observe.visit import blank_plan
from reconciler.testing.virtual_time import Clock, VirtualLoop
from tests.controller.page.sample_fleet import Made, mixed, well
from tests.ledger.conftest import ledger_on
from tests.support.processes import PATIENCE
from tests.support.quiet_time import told


class Sheet:
    """A view of one text that a test changes; counts how often it was made."""

    def __init__(self) -> None:
        self.texts = {"a": "1", "b": "1"}
        self.made = 0
        self.edition = 0

    def put(self, **texts: str) -> None:
        self.texts |= texts
        self.edition += 1

    def view(self) -> View:
        return View(lambda: self.edition, self._make)

    async def _make(self) -> dict[str, str]:
        self.made += 1
        await asyncio.sleep(0)
        return dict(self.texts)


async def nothing() -> None:
    """Nobody looks."""


def read(event: bytes) -> tuple[str, str, Any]:
    """Return id, kind and data of one event."""
    found = dict(line.split(": ", 1) for line in event.decode().strip().split("\n"))
    return found.get("id", ""), found["event"], json.loads(found["data"])


def test_one_change_is_made_once_for_all_and_told_as_far_as_it_goes() -> None:
    async def story() -> None:
        sheet = Sheet()
        hub = Hub(nothing, dict)
        channel = await hub.channel("x", sheet.view)
        with hub.viewer(channel) as one, hub.viewer(channel) as other:
            assert await hub.channel("x", sheet.view) is channel
            assert sheet.made == 1
            await channel.update()
            assert sheet.made == 1  # nothing changed

            sheet.put(b="2")
            await channel.update()
            assert sheet.made == 2
            events = [viewer.queue.get_nowait() for viewer in (one, other)]
            assert events[0] is events[1]
            assert read(events[0]) == (channel.id, "change", {"parts": {"b": "2"}, "order": None})

            sheet.put(c="1")
            await channel.update()
            assert read(one.queue.get_nowait())[2] == {
                "parts": {"c": "1"},
                "order": ["a", "b", "c"],
            }

            sheet.put()  # another edition, and all as it was
            await channel.update()
            assert one.queue.empty()

    told(story)


def test_who_comes_back_gets_what_was_missed_else_the_whole() -> None:
    async def story() -> None:
        sheet = Sheet()
        channel = Channel(sheet.view())
        await channel.update()
        start = channel.id
        assert list(channel.since(start)) == []
        for number in range(3):
            sheet.put(a=f"changed {number}")
            await channel.update()
        missed = [read(event) for event in channel.since(start)]
        assert [kind for _, kind, _ in missed] == ["change"] * 3
        assert missed[-1][0] == channel.id
        assert len(list(channel.since(missed[0][0]))) == 2
        for unknown in ("", "other-0", f"{start[:-1]}99", f"{start}x", "-", f"A{start}"):
            (whole,) = channel.since(unknown)
            assert read(whole)[1] == "reset"
            assert read(whole)[2]["parts"] == sheet.texts
        for number in range(KEPT + 1):
            sheet.put(a=f"again {number}")
            await channel.update()
        (whole,) = channel.since(start)  # too long away
        assert read(whole)[1] == "reset"
        assert len(channel._events) == KEPT

    told(story)


def test_a_viewer_that_takes_nothing_is_let_go_and_nobody_waits_for_it() -> None:
    async def story() -> None:
        sheet = Sheet()
        hub = Hub(nothing, dict)
        channel = await hub.channel("x", sheet.view)
        with hub.viewer(channel) as dead, hub.viewer(channel) as quick:
            for number in range(QUEUE + 1):
                sheet.put(a=str(number))
                await channel.update()
                quick.queue.get_nowait()
            assert dead.left.is_set()
            assert not quick.left.is_set()
            assert dead.queue.qsize() == QUEUE

            async def for_ever() -> None:
                await asyncio.Event().wait()

            await dead.unless_left(for_ever())
        assert (hub.dropped, hub.viewers) == (1, 0)

    told(story)


def test_channels_and_viewers_are_bounded() -> None:
    async def story() -> None:
        hub = Hub(nothing, dict)
        sheets = [Sheet() for _ in range(CHANNELS)]
        kept = [await hub.channel(n, sheet.view) for n, sheet in enumerate(sheets)]
        watching = [hub.viewer(channel) for channel in kept[1:]]
        for one in watching:
            one.__enter__()
        await hub.channel("new", Sheet().view)  # takes the place of the one that nobody looks at
        assert len(hub._channels) == CHANNELS
        with hub.viewer(hub._channels["new"]):
            refused = False
            try:
                await hub.channel("one more", Sheet().view)
            except Full:
                refused = True
            assert refused
        for one in watching:
            one.__exit__(None, None, None)
        many = [hub.viewer(kept[1]) for _ in range(live.VIEWERS)]
        for one in many:
            one.__enter__()
        refused = False
        try:
            with hub.viewer(kept[1]):
                pass
        except Full:
            refused = True
        assert refused
        for one in many:
            one.__exit__(None, None, None)

    told(story)


def test_nobody_looks_while_nobody_is_there() -> None:
    async def story() -> None:
        looked = 0

        async def look() -> None:
            nonlocal looked
            looked += 1

        hub = Hub(look, dict, period=1.0)
        channel = await hub.channel("x", Sheet().view)
        task = asyncio.create_task(hub.run())
        before = looked
        await asyncio.sleep(100)
        assert looked == before
        with hub.viewer(channel):
            await asyncio.sleep(10.5)
            assert looked - before == 11
        await asyncio.sleep(2)
        seen = looked
        await asyncio.sleep(100)
        assert looked == seen
        task.cancel()
        await asyncio.wait([task])

    told(story)


# ── bounded slices ───────────────────────────────────────────────────────────────────────────


async def turns_during(work: Callable[[], Any]) -> int:
    """Count how often others on the loop got their turn while *work* went on."""
    turns = 0

    async def others() -> None:
        nonlocal turns
        while True:
            await asyncio.sleep(0)
            turns += 1

    task = asyncio.create_task(others())
    await work()
    task.cancel()
    await asyncio.wait([task])
    return turns


def many(count: int) -> dict[str, ServerStatus]:
    first = well("a-0", 0)
    return {f"a-{n}": replace(first, server=f"a-{n}") for n in range(count)}


def test_ten_thousand_servers_are_taken_over_in_slices_and_then_cost_a_glance() -> None:
    async def story() -> None:
        servers = Servers(many(10_000))
        fleet = Fleet(servers)
        turns = await turns_during(fleet.refresh)
        assert turns >= 10_000 // SLICE - 1
        assert (len(fleet), fleet.edition) == (10_000, 1)

        made = 0
        from reconciler.controller.page import fleet as module  # noqa: PLC0415

        names = vars(module)
        row = names["row"]

        def counting(status: ServerStatus) -> Any:
            nonlocal made
            made += 1
            return row(status)

        names["row"] = counting
        try:
            await fleet.refresh()
            assert (made, fleet.edition) == (0, 1)
            servers["a-7"] = replace(servers["a-7"], seen_at="later")
            await fleet.refresh()
            assert (made, fleet.edition) == (0, 1)  # nothing that is shown
            servers["a-7"] = replace(servers["a-7"], health=Health.UNREACHABLE)
            del servers["a-9"]
            await fleet.refresh()
            assert (made, fleet.edition, len(fleet)) == (1, 2, 9_999)
        finally:
            names["row"] = row
        assert fleet.part(Filter()).rows[0].name == "a-7"
        assert fleet.counts["unreachable"] == 1
        assert fleet.counts["healthy"] == 9_998

    asyncio.run(story())


class Counted(Servers):
    """Counts how many statuses somebody looked at."""

    looked = 0

    def __iter__(self) -> Any:
        type(self).looked += len(self)
        return super().__iter__()

    def __getitem__(self, name: str) -> ServerStatus:
        type(self).looked += 1
        return super().__getitem__(name)

    def get(self, name: str, default: Any = None) -> Any:
        type(self).looked += 1
        return super().get(name, default)

    def keys(self) -> Any:
        type(self).looked += len(self)
        return super().keys()

    def values(self) -> Any:
        type(self).looked += len(self)
        return super().values()

    def items(self) -> Any:
        type(self).looked += len(self)
        return super().items()


@pytest.mark.parametrize("what", ["report", "documents"])
def test_a_new_object_in_the_memory_of_an_old_one_is_another_edition(what: str) -> None:
    """What is dropped makes room for what comes next, often at the very same address."""

    async def story() -> None:
        source = Made()
        source.store.servers["a-1"] = well("a-1")
        view = Views(source, Fleet(source.store.servers)).server("a-1", operator=False)
        plan = blank_plan(DesiredServer("a-1", "https://a-1.internal", NOWHERE))

        def another() -> None:
            if what == "report":
                source.store.reports.pop("a-1", None)
                source.store.reports["a-1"] = Report(plan)
            else:
                source.state = DesiredState(())
                source.state = DesiredState((), skipped=1)

        another()
        for _ in range(50):
            before = view.edition()
            assert view.edition() == before
            another()
            assert view.edition() != before

    asyncio.run(story())


@pytest.mark.parametrize("count", [10, 10_000])
def test_who_only_looks_makes_the_controller_look_at_no_server(count: int) -> None:
    async def story() -> None:
        source = Made()
        source.store.servers = servers = Counted(many(count))
        fleet = Fleet(servers)
        views = Views(source, fleet)
        hub = Hub(fleet.refresh, dict)
        made = 0
        view = views.fleet(Filter())

        async def make() -> Any:
            nonlocal made
            made += 1
            return await view.make()

        channel = await hub.channel("x", lambda: View(view.edition, make))
        task = asyncio.create_task(hub.run())
        Counted.looked = 0
        with hub.viewer(channel) as one:
            await asyncio.sleep(3600)
            assert (Counted.looked, made) == (0, 1)
            servers["a-3"] = replace(servers["a-3"], seen_at="later")
            Counted.looked = 0
            await asyncio.sleep(60)
            assert (Counted.looked, made, one.queue.qsize()) == (1, 1, 0)
            servers["a-3"] = replace(servers["a-3"], health=Health.UNREACHABLE)
            Counted.looked = 0
            await asyncio.sleep(60)
            assert (Counted.looked, made, one.queue.qsize()) == (1, 2, 1)
        task.cancel()
        await asyncio.wait([task])

    with asyncio.Runner(loop_factory=lambda: VirtualLoop(Clock())) as runner:  # no sockets here
        runner.run(story())


WAYS: dict[str, Callable[[Servers, ServerStatus], Any]] = {
    "set": lambda s, new: s.__setitem__("a-1", new),
    "del": lambda s, _: s.__delitem__("a-1"),
    "pop": lambda s, _: s.pop("a-1"),
    "popitem": lambda s, _: s.popitem(),
    "clear": lambda s, _: s.clear(),
    "setdefault": lambda s, new: s.setdefault("b-1", new),
    "update": lambda s, new: s.update({"a-1": new, "b-1": new}),
    "update by name": lambda s, new: s.update(b=new),
    "|=": lambda s, new: s.__ior__({"a-1": new}),
}


@pytest.mark.parametrize("way", WAYS)
def test_who_follows_statuses_hears_of_each_way_in_which_they_change(way: str) -> None:
    servers = Servers(many(3))
    moved, timeless = servers.follow(), servers.follow(times=False)
    assert moved == timeless == set(servers)
    moved.clear()
    timeless.clear()
    before = dict(servers)
    WAYS[way](servers, replace(before["a-1"], reason="changed"))
    after = dict(servers)
    names = before.keys() | after.keys()
    changed = {name for name in names if before.get(name) is not after.get(name)}
    assert moved == timeless == changed != set()


def test_who_needs_no_times_hears_of_no_renewal() -> None:
    servers = Servers(many(3))
    moved, timeless = servers.follow(), servers.follow(times=False)
    moved.clear()
    timeless.clear()
    servers.renew("a-1", replace(servers["a-1"], seen_at="2026-11-22T09:00:00+00:00"))
    assert (moved, timeless) == ({"a-1"}, set())
    assert servers["a-1"].seen_at


def test_a_dict_has_no_other_way_to_change() -> None:
    reading = {"copy", "fromkeys", "get", "items", "keys", "values"}
    assert {name for name in vars(dict) if name[0] != "_"} - reading <= vars(Servers).keys()


def test_what_is_half_taken_over_is_shown_though_whoever_waited_hung_up() -> None:
    async def story() -> None:
        servers = Servers(many(3 * SLICE))
        fleet = Fleet(servers)
        task = asyncio.create_task(fleet.refresh())
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
        assert (fleet.edition, len(fleet)) == (1, SLICE - 1)
        await fleet.refresh()
        assert (fleet.edition, len(fleet)) == (2, 3 * SLICE)

    asyncio.run(story())


def test_a_page_of_rows_is_made_in_slices_and_rows_that_stay_are_not_made_again() -> None:
    async def story() -> None:
        source = Made(many(300).values())
        fleet = Fleet(source.store.servers)
        await fleet.refresh()
        views = Views(source, fleet)
        view = views.fleet(Filter())
        turns = await turns_during(view.make)
        assert turns >= 100 // ROWS - 1
        made = dict(views._made)
        source.put(replace(source.store.servers["a-0"], reason="something"))
        await fleet.refresh()
        await view.make()
        assert len(views._made) == len(made) + 1

    asyncio.run(story())


def test_a_ledger_is_taken_over_in_slices_and_no_document_is_searched_for(tmp_path: Path) -> None:
    looked = 0

    class Document(DesiredServer, frozen=True):
        """Counts how often somebody asks for its address."""

        def __getattribute__(self, name: str) -> Any:
            nonlocal looked
            looked += name == "url"
            return super().__getattribute__(name)

    many = 5 * TAKEN
    names = [f"a-{number}" for number in range(many)]
    documents = tuple(
        Document(name, f"https://{name}.internal:8443/", NOWHERE, owner="desk") for name in names
    )

    ledger = ledger_on(MemoryStore())
    for one in documents:
        ledger.pin(Target(normalised(one.url), one.account), one.name)

    async def story() -> None:
        nonlocal looked
        state, nothing_left = DesiredState(documents), UnrecordedOutcomes(tmp_path)
        source = FromLedger(ledger, nothing_left, state, (), version="1")
        looked = 0
        hung_up = asyncio.ensure_future(source.refresh())
        await asyncio.sleep(0)
        hung_up.cancel()  # the rest is there all the same
        seen = set()
        refreshing = asyncio.ensure_future(source.refresh())
        while not refreshing.done():
            seen.add(len(source.store.servers))
            await asyncio.sleep(0)
        await refreshing
        assert len(seen) >= many // TAKEN  # others had their turn in between
        assert len(source.store.servers) == many
        assert {one.owner for one in source.store.servers.values()} == {"desk"}
        assert looked == 0

    asyncio.run(story())


# ── over a real socket ───────────────────────────────────────────────────────────────────────


def test_a_dead_viewer_is_cut_while_another_gets_every_change() -> None:
    async def story() -> None:
        source = Made(mixed())
        site = Site(source, Access(None), listen="127.0.0.1:0", period=0.001, pulse=60)
        await site.start()
        request = f"GET /events HTTP/1.1\r\nHost: 127.0.0.1:{site.port}\r\n\r\n".encode()
        try:
            narrow = socket.socket()
            narrow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
            narrow.connect(("127.0.0.1", site.port))
            _, dead = await asyncio.open_connection(sock=narrow, limit=1024)
            reader, writer = await asyncio.open_connection("127.0.0.1", site.port)
            dead.write(request)
            writer.write(request)
            seen = 0
            async with asyncio.timeout(PATIENCE):
                while site.hub.viewers < 2:  # noqa: ASYNC110  - nothing there tells when
                    await asyncio.sleep(0.01)
                dead.transport.pause_reading()  # type: ignore[attr-defined]
                listener = site._listener
                assert listener is not None
                assert listener.inside is not None
                for one in listener.inside.connections:
                    assert one.transport is not None
                    end = one.transport.get_extra_info("socket")
                    end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 2048)
                number = 0
                while not site.hub.dropped:
                    number += 1
                    source.put(
                        replace(source.store.servers["tokyo-1"], reason=f"{number} " * 4_000)
                    )
                    mark = f">{number} {number} ".encode()
                    while mark not in (line := await reader.readline()):
                        assert line, "the quick viewer was cut"
                    seen += 1
            assert seen == number
            assert site.hub.viewers == 1
            writer.close()
            dead.close()
        finally:
            await site.stop()
        assert site.hub.viewers == 0

    asyncio.run(story())
