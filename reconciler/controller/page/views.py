"""
The views that are kept up to date while somebody looks: the fleet, filtered, and one server.

Made once for all who look at the same, in slices, from rows that are kept as they were made.
"""

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Final

from reconciler.controller.page import actions, lists
from reconciler.controller.page.fleet import Filter, Fleet
from reconciler.controller.page.live import View
from reconciler.controller.page.server_view import server
from reconciler.controller.page.sources import Source
from reconciler.controller.page.templating import part
from reconciler.controller.page.view import Row
from reconciler.errors import JtrError
from reconciler.model.desired import DesiredServer

SLICE: Final = 25  # rows that are made before others on the event loop get their turn
ROWS: Final = 2_000  # rows that are kept as they were made
SECTIONS: Final = ("exchanges", "plan", "robots", "keys", "requests", "timeline", "commands")


class _Itself:
    """
    One object and no other, however alike, as a part of an edition.

    It is held, so that nothing new can take its place in memory and pass for it.
    """

    __slots__ = ("_one",)

    def __init__(self, one: object) -> None:
        self._one: Final = one

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Itself) and self._one is other._one

    def __hash__(self) -> int:
        return id(self._one)


class Views:
    """The views of one source.  Event loop only."""

    def __init__(self, source: Source, fleet: Fleet) -> None:
        self._source: Final = source
        self._fleet: Final = fleet
        self._made: Final[dict[tuple[Row, tuple[str, ...]], str]] = {}

    def title(self) -> str:
        """Return what a tab says of the fleet."""
        count = self._fleet.counts["attention"]
        if not count:
            return "All well - fleet"
        return f"{count} need attention - fleet" if count > 1 else "1 needs attention - fleet"

    def desired(self, name: str) -> DesiredServer | None:
        """Return the document in force of a server."""
        return next((one for one in self._source.declared().servers if one.name == name), None)

    def _standing(self) -> tuple[object, ...]:
        return self._source.store.controller, self._source.store.stuck

    # ── the fleet ────────────────────────────────────────────────────────────────────────────

    def fleet(self, wanted: Filter) -> View:
        return View(lambda: (self._fleet.edition, self._standing()), partial(self._rows, wanted))

    async def _rows(self, wanted: Filter) -> dict[str, str]:
        store, fleet = self._source.store, self._fleet
        found, columns = fleet.part(wanted), fleet.columns
        facts = lists.facts(store, len(fleet))
        parts: dict[str, str] = {
            "state": part("state", self.title(), lists.complaints(store), facts),
            "tiles": part("tiles", lists.tiles(fleet, wanted)),
            "paging": part("paging", found, wanted),
        }
        for number, one in enumerate(found.rows, 1):
            parts[f"row-{one.name}"] = self._row(one, columns)
            if number % SLICE == 0:
                await asyncio.sleep(0)
        return parts

    def _row(self, one: Row, columns: tuple[str, ...]) -> str:
        made = self._made.get((one, columns))
        if made is None:
            made = part("row", one, columns, self._fleet.more)
            while len(self._made) >= ROWS:
                del self._made[next(iter(self._made))]
            self._made[one, columns] = made
        return made

    # ── one server ───────────────────────────────────────────────────────────────────────────

    def server(self, name: str, *, operator: bool) -> View:
        clock: Callable[[], float] = asyncio.get_running_loop().time

        def edition() -> tuple[object, ...]:
            report = _Itself(self._source.store.reports.get(name))
            # Times move with every look at it; once a minute is often enough for these.
            state = _Itself(self._source.declared())
            return self._fleet.get(name), report, state, clock() // 60, self._standing()

        return View(edition, partial(self._sections, name, operator=operator))

    async def _sections(self, name: str, *, operator: bool) -> dict[str, str]:
        store = self._source.store
        status = store.servers.get(name)
        if status is None:
            return {"state": part("state", f"{name} - jtr", lists.left(name), ())}
        trouble, (recorded, deeds) = "", lists.NOTHING
        try:
            recorded, deeds = await self._source.recorded(name)
        except JtrError as error:
            trouble = f"{error.what}; {error.remedy}"
        desired = self.desired(name)
        shown = server(status, desired, store.reports.get(name), recorded, deeds)
        paused = desired is not None and desired.suspend is not None and desired.suspend.operator
        offered = actions.offered(paused=paused) if operator else ()
        complaints = (*lists.complaints(store), *lists.unread(trouble))
        parts: dict[str, str] = {
            "state": part("state", f"{status.health}: {name} - jtr", complaints, ()),
            "head": part("head", shown, offered),
        }
        for section in SECTIONS:
            parts[section] = part(section, shown)
            await asyncio.sleep(0)
        return parts
