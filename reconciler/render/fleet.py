"""
The plan of many servers in few lines: problems first, alike changes together, the rest in one line.

What is alike of several servers is said once, with all their names.  Only what is in sync, finished
or not ours is counted instead of named.
"""

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Final

from reconciler.model.plan import Plan, ServerPlan, Status
from reconciler.render.escape import plain
from reconciler.render.items import NAME, ROBOTS, Item, Section, away_item, items
from reconciler.render.layout import (
    View,
    columns,
    name_order,
    ranges,
    servers_short,
    servers_text,
    some_of,
)
from reconciler.render.phrases import age_text, clock_text, instant_text
from reconciler.render.server_text import FINISHED, finished, having, server_text
from reconciler.render.verdicts import WORST_FIRST, Level, level

FEW: Final = 3
"""Servers of which something is to be said, and which are shown one by one."""
_MOST_ROBOTS: Final = 12  # named for a group, of those that go on running
_ANY: Final = "{server}"
_BELOW: Final = " " * 4

Member = tuple[str, Item]


def fleet_text(plan: Plan, view: View) -> str:
    """Return all but the summary; empty where nothing is to be said."""
    loud: list[ServerPlan] = []
    calm: list[ServerPlan] = []
    for server in plan:
        (calm if level(server) is Level.NOTHING else loud).append(server)
    parts: list[str] = []
    if len(plan.servers) == 1 and not view.changes_only:
        loud, calm = list(plan.servers), []
    few = len(loud) + len(plan.not_visited) <= FEW
    if few:
        parts.extend(f"! not visited: {plain(name, 400)}\n" for name in plan.not_visited)
        worst_first = sorted(loud, key=lambda one: (WORST_FIRST.index(level(one)), one.server))
        parts.extend(server_text(server, brief=True) for server in worst_first)
        told = calm
    else:
        parts.append("\n".join(_sections(plan, loud, view.width)) + "\n")
        told = list(plan.servers)
    tail = "" if view.changes_only else "".join(f"{row}\n" for row in _tail(told, calm))
    return ("\n" if few else "").join(part for part in (*parts, tail) if part)


# ── sections ─────────────────────────────────────────────────────────────────────────────────


def _sections(plan: Plan, loud: Sequence[ServerPlan], width: int | None) -> Iterator[str]:
    members: list[Member] = [away_item(name) for name in plan.not_visited]
    for server in loud:
        found = list(items(server))
        # Nothing is left out because we have no words for it.
        found = found or [Item(Section.PROBLEMS, "!", f"{level(server).words}; see --wide")]
        members.extend((server.server, item) for item in found)
    yield from grouped(members, width)


def grouped(members: Iterable[Member], width: int | None) -> Iterator[str]:
    """Yield all items under the titles of their sections, alike ones of several servers once."""
    members = list(members)
    for section in Section:
        groups: dict[Item, list[Member]] = defaultdict(list)
        for name, item in members:
            if item.section is section:
                groups[item.alike].append((name, item))
        if groups:
            ordered = sorted(groups.items(), key=lambda one: _place(*one))
            yield section.value
            for alike, group in ordered:
                yield from _joined(list(_group(alike, group)), width)


def _joined(rows: Sequence[str], width: int | None) -> Iterator[str]:
    """Yield *rows*; two that fit into one line as one."""
    if len(rows) == 2:  # noqa: PLR2004
        line = f"{rows[0]}  {rows[1].lstrip(' ')}"
        if width is None or columns(line) <= width:
            yield line
            return
    yield from rows


def _place(alike: Item, group: Sequence[Member]) -> tuple[object, ...]:
    what = alike.head if alike.does else ""
    first = min(name_order(name) for name, _ in group)
    return alike.rank, what, first, alike.head, alike.sign, alike.below


def _group(alike: Item, group: Sequence[Member]) -> Iterator[str]:
    """Yield what alike items of several servers say, with what differs between them."""
    names = {name for name, _ in group}
    only = plain(group[0][0]) if len(names) == 1 else _ANY
    head = _of(alike.head, only)
    if alike.does:
        yield f"  {alike.sign} {head}{_done_to(group)}"
    else:
        yield f"  {alike.sign} {servers_text(names)}: {head}{_since(group)}"
    by_robots: dict[str, set[str]] = defaultdict(set)
    for name, item in group:
        by_robots[", ".join(item.robots)].add(name)
    same = next(iter(by_robots)) if len(by_robots) == 1 else ""
    told = False
    for row in alike.below:
        if ROBOTS not in row or same:
            told = told or ROBOTS in row
            yield f"{_BELOW}{_of(row, only).replace(ROBOTS, same)}"
        elif row != ROBOTS:
            yield f"{_BELOW}{_of(row, only).replace(ROBOTS, 'those below')}"
    if any(by_robots) and not told:
        most = len(by_robots) if alike.stops else _MOST_ROBOTS
        yield f"{_BELOW}{alike.meaning or 'robots'}: {_robots(by_robots, most)}"


def _of(text: str, name: str) -> str:
    return text.replace(NAME, name)


def _done_to(group: Sequence[Member]) -> str:
    """Return the versions and the servers; of several versions each with its own."""
    by_version: dict[str, set[str]] = defaultdict(set)
    for name, item in group:
        by_version[item.at].add(name)
    names = {name for name, _ in group}
    number = f"{len(names)} servers: " if len(names) > FEW else ""
    if len(by_version) == 1:
        return f"{group[0][1].at} -> {number}{', '.join(ranges(names))}{_since(group)}"
    parts = [f"{version} {', '.join(ranges(of))}" for version, of in sorted(by_version.items())]
    return f" -> {number}{'; '.join(parts)}{_since(group)}"


def _robots(by_robots: Mapping[str, Collection[str]], most: int) -> str:
    if len(by_robots) == 1:
        ((listed, names),) = by_robots.items()
        return listed if len(names) == 1 else f"{listed} on each"
    parts = [
        f"{listed or 'none'} on {', '.join(ranges(names))}"
        for listed, names in sorted(by_robots.items())
    ]
    return some_of(parts, most, "such groups (--wide names all)", "; ")


def _since(group: Sequence[Member]) -> str:
    times = sorted({item.since for _, item in group if item.since})
    if not times:
        return ""
    oldest = "the oldest " if len(times) > 1 else ""
    if group[0][1].section is Section.DRIFT:
        return f", {oldest}seen since {clock_text(times[0])}"
    return f", {oldest}from before {instant_text(times[0])}"


# ── what is calm ─────────────────────────────────────────────────────────────────────────────


def _tail(told: Sequence[ServerPlan], calm: Sequence[ServerPlan]) -> Iterator[str]:
    ages = [server.age for server in told if server.age is not None]
    if ages:
        yield f"= by what was last seen, the oldest sight {age_text(max(ages))} ago"
    notes: dict[str, list[str]] = defaultdict(list)
    for server in told:
        for note in server.notes:
            notes[plain(note, 400)].append(server.server)
    for note, names in sorted(notes.items()):
        everywhere = len(names) == len(told) > 1
        where = "all servers" if everywhere else servers_short(names)
        yield f"note: {where}: {note}"
    for status, words in (
        (Status.FOUND, "found, looks as desired"),
        (Status.LEFT_ON_SERVER, "left on the server (declare state: absent to delete)"),
        (Status.NOT_MANAGED, "not managed, untouched"),
    ):
        if where := _exchanges(told, status):
            yield f"= {words}: {where}"
    if over := _over(told):
        yield over
    if len(calm) == 1:
        yield f"= in sync: {plain(calm[0].server)}"
    elif calm:
        listed = ranges(server.server for server in calm)
        which = f": {', '.join(listed)}" if len(listed) <= FEW else " (--wide names them)"
        yield f"= {len(calm)} servers in sync{which}"


def _exchanges(told: Iterable[ServerPlan], status: Status) -> str:
    found: dict[str, list[str]] = defaultdict(list)
    for server in told:
        for line in having(server, status):
            found[plain(line.exchange)].append(server.server)
    parts = [f"{code} ({servers_short(names)})" for code, names in sorted(found.items())]
    return some_of(parts, _MOST_ROBOTS, "exchanges")


def _over(told: Iterable[ServerPlan]) -> str:
    """Say how many requests are finished, in one line until they leave their documents."""
    found = [(server.server, line) for server in told for line in finished(server)]
    if not found:
        return ""
    if len(found) == 1:
        ((name, line),) = found
        return f"= finished request: {plain(name)} {plain(line.what)}  {line.standing}"
    counts = [
        f"{number} {standing}"
        for standing in FINISHED
        if (number := sum(line.standing is standing for _, line in found))
    ]
    names = {name for name, _ in found}
    return f"= {len(found)} finished requests on {servers_short(names)}: {', '.join(counts)}"
