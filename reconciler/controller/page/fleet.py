"""
All servers in the order in which somebody has to look at them: counted, filtered, page by page.

Kept up to date by what changed since the last look, so that ten thousand servers cost a glance.
"""

import asyncio
from collections import Counter
from collections.abc import Iterable
from operator import attrgetter
from typing import Final
from urllib.parse import urlencode

from msgspec import Struct

from reconciler.controller.page.view import TILES, Row, row, shown_of
from reconciler.controller.status import ServerStatus
from reconciler.controller.status_store import Servers

PAGE: Final = 100  # rows
SLICE: Final = 200  # servers that are looked at before others on the event loop get their turn
COLUMNS: Final = 6  # exchanges that have a column of their own
LONGEST: Final = 100  # characters of a search
MOST: Final = 8  # chips


class Filter(Struct, frozen=True):
    """What is shown of the fleet, as the address says it: all of `show` must hold of a server."""

    show: tuple[str, ...] = ()
    text: str = ""
    exchange: str = ""
    page: int = 1

    @staticmethod
    def of(pairs: Iterable[tuple[str, str]]) -> "Filter":
        """Read the query of an address; what it does not know is left out."""
        show: dict[str, None] = {}
        text, exchange, page = "", "", 1
        for key, value in pairs:
            if key == "show" and value in TILES and len(show) < MOST:
                show[value] = None
            elif key == "q":
                text = value[:LONGEST].strip()
            elif key == "exchange":
                exchange = value[:LONGEST]
            elif key == "page" and value.isascii() and value.isdigit() and len(value) < 6:  # noqa: PLR2004
                page = max(1, int(value))
        return Filter(tuple(sorted(show)), text, exchange, page)

    def query(self, **changes: object) -> str:
        """Return the query of an address that shows this, with *changes*."""
        found = {
            "show": self.show,
            "q": self.text,
            "exchange": self.exchange,
            "page": self.page,
        } | changes
        pairs = [("show", one) for one in found.pop("show")]  # type: ignore[attr-defined]
        pairs += [
            (key, str(value))
            for key, value in found.items()
            if value and (key, value) != ("page", 1)
        ]
        return f"?{urlencode(pairs)}" if pairs else "?"

    def toggled(self, name: str) -> str:
        """Return the query with *name* among what must hold, or without it."""
        show = tuple(one for one in self.show if one != name)
        return self.query(show=show if name in self.show else (*self.show, name), page=1)

    def takes(self, one: Row) -> bool:
        if any(flag not in one.flags for flag in self.show):
            return False
        if self.exchange and self.exchange not in one.cells:
            return False
        return all(word in one.text for word in self.text.lower().split())


class Part(Struct, frozen=True):
    """One page of what a filter lets through: `total` rows in all, on `pages` pages."""

    rows: tuple[Row, ...]
    total: int
    page: int
    pages: int


class Fleet:
    """
    The rows of all *servers*.  Event loop only.

    `edition` grows whenever anything that is shown changed.
    """

    def __init__(self, servers: Servers) -> None:
        self._servers: Final = servers
        self._moved: Final = servers.follow()
        self.edition = 0
        self.counts: Counter[str] = Counter()
        self.exchanges: Counter[str] = Counter()
        self._known: dict[str, ServerStatus] = {}
        self._rows: dict[str, Row] = {}
        self._order: list[Row] = []
        self._lock: Final = asyncio.Lock()

    def __len__(self) -> int:
        return len(self._order)

    def get(self, name: str) -> Row | None:
        return self._rows.get(name)

    @property
    def columns(self) -> tuple[str, ...]:
        """The exchanges that most servers have, by name."""
        return tuple(sorted(code for code, _ in self.exchanges.most_common(COLUMNS)))

    @property
    def more(self) -> bool:
        """Whether there are exchanges without a column of their own."""
        return len(self.exchanges) > COLUMNS

    async def refresh(self) -> None:
        """Take over what changed, a slice at a time; what did not is not even looked at."""
        async with self._lock:
            if self._moved:
                await self._refresh()

    async def _refresh(self) -> None:
        known, servers = self._known, self._servers
        moved = sorted(self._moved)
        changed = False
        try:
            for number, name in enumerate(moved, 1):
                if number % SLICE == 0:
                    await asyncio.sleep(0)
                self._moved.discard(name)  # what moves again from here on is for the next time
                status = servers.get(name)
                if status is None:
                    known.pop(name, None)
                    changed |= self._put(name, None)
                    continue
                earlier, known[name] = known.get(name), status
                if earlier is not None and shown_of(earlier) == shown_of(status):
                    continue  # a look at it that found all as it was
                changed |= self._put(name, row(status))
        finally:  # also for the half of it, if whoever waits for it hangs up
            if changed:
                self.edition += 1
                self._order = sorted(self._rows.values(), key=attrgetter("name"))
                self._order.sort(key=attrgetter("rank"))  # keeps names in order

    def _put(self, name: str, made: Row | None) -> bool:
        """Show a server so, or no more; say whether that is anything new."""
        before = self._rows.pop(name, None) if made is None else self._rows.get(name)
        if before == made:
            return False
        self._count(before, -1)
        self._count(made, 1)
        if made is not None:
            self._rows[name] = made
        return True

    def _count(self, one: Row | None, step: int) -> None:
        if one is None:
            return
        for counter, names in ((self.counts, one.flags), (self.exchanges, one.cells)):
            for name in names:
                counter[name] += step
                if not counter[name]:
                    del counter[name]

    def part(self, wanted: Filter) -> Part:
        """Return the rows of one page."""
        all_of_it = not (wanted.show or wanted.text or wanted.exchange)
        found = self._order if all_of_it else [one for one in self._order if wanted.takes(one)]
        pages = max(1, -(-len(found) // PAGE))
        page = min(wanted.page, pages)
        return Part(tuple(found[(page - 1) * PAGE : page * PAGE]), len(found), page, pages)
