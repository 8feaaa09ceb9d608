"""
The status of many servers in few lines, by the ledger or by a controller: problems first.  Pure.

As in the plan of a fleet, what is alike is said once with all its servers, and only what needs
nobody is counted instead of named.
"""

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

from reconciler.model.recorded import Identity, Recorded
from reconciler.model.target import Target
from reconciler.plan.consequences import open_debts
from reconciler.render.escape import plain
from reconciler.render.fleet import FEW, Member, grouped
from reconciler.render.items import Item, Section, named_items, owed_items
from reconciler.render.layout import ranges, servers_short
from reconciler.render.ledger import (
    CALM_STATES,
    DRIFTED,
    Moment,
    exchange_states,
    recorded_rows,
)
from reconciler.render.phrases import age_text, since_text
from reconciler.render.requests import doubt_row, halt_rows
from reconciler.render.status import debts_of, needs_rows, server_rows

_SIGNS: Final = {"?": 0, "!": 1}
Pair = tuple[Identity, Recorded]


def ledger_fleet(
    known: Sequence[Pair], moment: Moment, width: int | None, declared: Collection[Target] | None
) -> Iterator[str]:
    """
    Yield what the ledger knows of its servers, those first of which something is to be said.

    *declared* are the addresses that the documents name; None where there are no documents.
    """
    here = [one for one in known if declared is None or one[0].target in declared]
    gone = [one for one in known if one not in here]
    told = {identity.name: list(_items(identity, recorded, moment)) for identity, recorded in here}
    loud = [one for one in here if told[one[0].name]]
    calm = [one for one in here if not told[one[0].name]]
    open_ = [one for one in gone if one[1].requests.open or one[1].requests.halt]
    if len(here) == 1:
        loud, calm = here, []
    if len(loud) + len(open_) <= FEW:
        for identity, recorded in (*loud, *open_):
            yield from recorded_rows(identity, recorded, moment)
    else:
        members = [(name, item) for name, items in told.items() for item in items]
        for identity, recorded in open_:
            members += [(identity.name, item) for item in _open(identity.name, recorded)]
        yield from grouped(members, width)
    yield from _calm([(identity.name, recorded) for identity, recorded in calm], moment)
    if declared is not None:
        yield from _elsewhere(known, gone, declared)


def _elsewhere(
    known: Sequence[Pair], gone: Sequence[Pair], declared: Collection[Target]
) -> Iterator[str]:
    if new := len(declared) - len({one.target for one, _ in known if one.target in declared}):
        yield f"= {new} declared that the ledger does not know yet; `jtr apply` makes them known"
    if gone:
        names = ", ".join(ranges(identity.name for identity, _ in gone))
        more = "more server is" if len(gone) == 1 else "more servers are"
        yield f"{len(gone)} {more} only in the ledger: {names}; jtr forget SERVER"


def _items(identity: Identity, recorded: Recorded, moment: Moment) -> Iterator[Item]:
    """Yield what is to be said of a server beyond that it is as we wrote it."""
    yield from _open(identity.name, recorded)
    seen = recorded.observation
    if seen is None:
        yield Item(Section.PROBLEMS, "?", "never seen", rank=3)
        return
    for code, state in exchange_states(seen, recorded):
        if state.startswith(DRIFTED):
            since = seen.since.get(code, "")
            known = since if since_text(since, moment.now) else ""
            drift = Item(Section.DRIFT, "≠", plain(code), (state,), does=True, since=known)
            yield from named_items(identity.name, drift)
        elif not state.startswith(CALM_STATES):
            yield Item(Section.PROBLEMS, "!", f"{plain(code)}: {state}", rank=2)
    yield from owed_items(identity.name, open_debts(recorded, seen), asked=False)


def _open(name: str, recorded: Recorded) -> Iterator[Item]:
    rows: list[str] = []
    if recorded.requests.open is not None:
        rows.append(doubt_row(recorded.requests.open))
    if recorded.requests.halt is not None:
        rows += halt_rows(name, recorded.requests.halt)
    yield from items_of(name, rows)


def items_of(name: str, rows: Iterable[str]) -> Iterator[Item]:
    """Yield items of lines that say all of one server, each with its sign and what is below it."""
    item: Item | None = None
    for row in rows:
        bare = row.lstrip(" ")
        if len(row) - len(bare) > 2 and item is not None:  # noqa: PLR2004
            item = Item(item.section, item.sign, item.head, (*item.below, bare), rank=item.rank)
            continue
        if item is not None:
            yield from named_items(name, item)
        sign, text = (bare[0], bare[2:]) if bare[1:2] == " " else ("~", bare)
        section = Section.PROBLEMS if sign in _SIGNS else Section.CHANGES
        item = Item(section, sign, text, rank=_SIGNS.get(sign, 2))
    if item is not None:
        yield from named_items(name, item)


# ── what needs nobody ────────────────────────────────────────────────────────────────────────


def _calm(calm: Sequence[tuple[str, Recorded]], moment: Moment) -> Iterator[str]:
    seen = [(name, one.observation) for name, one in calm if one.observation is not None]
    found: dict[str, list[str]] = defaultdict(list)
    for name, recorded in calm:
        if recorded.observation is not None and not moment.stale(recorded.observation):
            for _, state in exchange_states(recorded.observation, recorded):
                if not state.startswith("written"):
                    found[state].append(name)
    for state, names in sorted(found.items()):
        yield f"= {state}: {servers_short(set(names))}"
    if old := [name for name, one in seen if moment.stale(one)]:
        least = age_text(moment.believed)
        yield f"? stale, not seen for more than {least}: {', '.join(ranges(old))}"
    fresh = [(name, one) for name, one in seen if not moment.stale(one)]
    ages = {name: moment.age(one) for name, one in fresh}
    if ages:
        running = sum(robot.running for _, one in fresh for robot in one.robots)
        span = _span(list(ages.values()))
        robots = f"; {running} robots running" if running else ""
        yield f"= {_called(list(ages))} as we last wrote them, seen {span}{robots}"


def _called(names: Sequence[str]) -> str:
    listed = ranges(names)
    if len(names) == 1:
        return listed[0]
    which = f": {', '.join(listed)};" if len(listed) <= FEW else " (--wide names them)"
    return f"{len(names)} servers{which}"


def _span(ages: Sequence[float]) -> str:
    newest, oldest = age_text(min(ages)), age_text(max(ages))
    return f"{newest} ago" if newest == oldest else f"{newest} to {oldest} ago"


# ── by a controller ──────────────────────────────────────────────────────────────────────────


def served_fleet(
    rows: Mapping[str, Mapping[str, Any]],
    document: Mapping[str, Any],
    width: int | None,
    exchanges: Mapping[str, Sequence[str]],
) -> Iterator[str]:
    """Yield what a controller says of its servers; *exchanges* are lines for those shown whole."""
    told = {
        name: [
            *items_of(name, needs_rows(row)),
            *owed_items(name, list(debts_of(row)), asked=False),
        ]
        for name, row in rows.items()
    }
    loud = [name for name in rows if told[name]]
    calm = [name for name in rows if not told[name]]
    if len(rows) == 1:
        loud, calm = list(rows), []
    if len(loud) <= FEW:
        for name in loud:
            yield from ("", *server_rows(rows[name], document), *exchanges.get(name, ()))
        if loud and calm:
            yield ""
    else:
        members: list[Member] = [(name, item) for name in loud for item in told[name]]
        yield from grouped(members, width)
    if calm:
        yield f"= {_called(calm)} synced and healthy"
