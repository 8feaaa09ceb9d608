"""
What the lists of the page show: tiles, requests, windows, keys, and the controller itself.

Long ones are gathered a slice at a time, so that others on the event loop get their turn.
"""

import asyncio
from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final

from msgspec import Struct

from reconciler.controller.api.responses import missing, trouble
from reconciler.controller.page.fleet import PAGE, SLICE, Filter, Fleet
from reconciler.controller.page.live import Hub
from reconciler.controller.page.server_view import Asked, server
from reconciler.controller.page.sources import Source
from reconciler.controller.page.view import TILES
from reconciler.controller.page.week import Day, Span, days, open_spans
from reconciler.controller.status_store import StatusStore
from reconciler.model.desired import DesiredState
from reconciler.model.key_audits import Light
from reconciler.model.recorded import NOTHING_RECORDED, HistoryEntry, Recorded
from reconciler.plan.windows import standing
from reconciler.render.phrases import age_text

Deeds = list[tuple[str, HistoryEntry]]
NOTHING: Final[tuple[Recorded, tuple[HistoryEntry, ...]]] = (NOTHING_RECORDED, ())
PERIOD: Final = 5.0  # seconds within which the controller's loop gives a sign of life
STALE: Final = 600.0  # seconds without any pass after which what is shown is old


class Tile(Struct, frozen=True):
    word: str
    count: str
    query: str
    on: bool
    tone: str


_TONES: Final = {
    "attention": "bad",
    "doubt": "bad",
    "unreachable": "bad",
    "blocked": "bad",
    "drift": "warn",
    "changes": "wait",
    "owed": "warn",
    "findings": "warn",
    "suspended": "mute",
    "healthy": "ok",
}


def tiles(fleet: Fleet, wanted: Filter) -> list[Tile]:
    """Return the tiles above the fleet: all of it, and what there is any of."""
    found = [Tile("servers", f"{len(fleet):,}", wanted.query(show=(), page=1), not wanted.show, "")]
    for name, word in TILES.items():
        count, on = fleet.counts[name], name in wanted.show
        if count or on or name == "attention":
            tone = _TONES[name] if count else ""
            found.append(Tile(word, f"{count:,}", wanted.toggled(name), on, tone))
    return found


class Chip(Struct, frozen=True):
    word: str
    query: str


def chips(wanted: Filter) -> list[Chip]:
    found = [Chip(TILES[name], wanted.toggled(name)) for name in wanted.show]
    if wanted.text:
        found.append(Chip(f"“{wanted.text}”", wanted.query(q="", page=1)))
    if wanted.exchange:
        found.append(Chip(wanted.exchange, wanted.query(exchange="", page=1)))
    return found


# ── the controller ───────────────────────────────────────────────────────────────────────────


class Complaint(Struct, frozen=True):
    what: str
    why: str
    tone: str


def complaints(store: StatusStore) -> list[Complaint]:
    """Return what is wrong with the controller itself, so that nobody trusts what is old."""
    status = store.controller
    found = [
        ("The controller waits.", status.waiting, "warn"),
        ("It is stopping.", "Nothing new begins." if status.stopping else "", "warn"),
        ("It hangs.", store.stuck, "bad"),
        ("Another controller acts.", status.rival, "wait"),
        ("The newest documents are not in force.", status.documents, "bad"),
        ("Vault:", status.secrets, "bad"),
        ("The ledger:", status.ledger, "bad"),
        ("Its state file:", status.state, "warn"),
        ("Its clock:", status.clock, "warn"),
    ]
    shown = [Complaint(what, why, tone) for what, why, tone in found if why]
    shown += [
        Complaint(f"The brake is on for {held.subject}.", held.brake.why, "bad")
        for held in status.brakes
    ]
    return shown


def left(name: str) -> list[Complaint]:
    return [Complaint(f"{name} is in no document any more.", "It was left as it is.", "wait")]


def unread(why: str) -> list[Complaint]:
    return [Complaint("What the ledger knows cannot be read now.", why, "warn")] if why else []


def old(store: StatusStore, clock: float) -> str:
    """Say why what is shown may be old; empty when it is not."""
    if why := trouble(store, clock, PERIOD):
        return why
    if store.last_pass is not None and clock - store.last_pass > STALE:
        return f"no pass ended for {age_text(clock - store.last_pass)}"
    return ""


def facts(store: StatusStore, servers: int) -> list[str]:
    status = store.controller
    found = [f"{servers:,} {'server' if servers == 1 else 'servers'}", status.label]
    if status.revision:
        found.append(f"documents {status.revision[:12]}")
    found.append("this controller acts" if status.acting else "nothing acts from here")
    return found


def controller(source: Source, clock: float, hub: Hub) -> dict[str, Any]:
    """Return what the page of the controller shows."""
    store = source.store
    status, ended = store.controller, store.last_pass
    left_on_it = "not known, or without an end"
    if status.token_seconds is not None:
        left_on_it = f"{age_text(status.token_seconds)} left"
    shown = [
        ("Controller", status.label),
        ("Version", status.version),
        ("Started", status.started_at),
        ("Leader", "this one acts" if status.acting else status.rival or "none that we know of"),
        ("Ready", missing(store) or "yes"),
        ("Documents in force", status.revision or "none"),
        ("Vault", status.secrets or "answers"),
        ("Vault token", left_on_it),
        ("Ledger", status.ledger or "answers"),
        ("Last pass", "none yet" if ended is None else f"{age_text(clock - ended)} ago"),
        ("Passes", _counts(store.passes)),
        ("Actions", _counts(store.applies)),
        ("Robots that stopped unasked", str(sum(store.stops.values()))),
        ("Brake", "on" if status.brakes else "off"),
        ("Viewers of this page", f"{hub.viewers}, {hub.dropped} let go since the start"),
    ]
    if source.running is None:
        only = ("Started", "Version", "Ledger", "Brake", "Viewers of this page")
        shown = [("Source", status.label), *(pair for pair in shown if pair[0] in only)]
    return {
        "facts": shown,
        "complaints": complaints(store),
        "brakes": [
            (held.subject, f"jtr ledger release-brake {held.over} --because TEXT")
            for held in status.brakes
        ],
    }


def _counts(found: Any) -> str:
    return ", ".join(f"{count:,} {name}" for name, count in sorted(found.items())) or "none yet"


# ── requests, windows, keys ──────────────────────────────────────────────────────────────────


async def requests(store: StatusStore) -> list[tuple[str, tuple[Asked, ...]]]:
    """Return what is open by server: asked for, scheduled, in doubt, robots owed a start."""
    found = []
    for number, (name, status) in enumerate(sorted(store.servers.items()), 1):
        if number % SLICE == 0:
            await asyncio.sleep(0)
        report = store.reports.get(name)
        asks = report is not None and any(line.kind for line in report.plan.disruptions)
        if not (asks or status.in_doubt or status.owed_robots):
            continue
        shown = list(server(status, None, report, *NOTHING).requests)
        if status.in_doubt and not shown:
            shown.append(Asked("a request", "in doubt", "bad", "see the page of the server"))
        if status.owed_robots:
            names = tuple(robot.name for robot in status.owed_robots)
            shown.append(
                Asked(
                    "robots",
                    "owed a start",
                    "bad",
                    "",
                    "",
                    "",
                    names,
                    (f"jtr request resume {name}",),
                )
            )
        found.append((name, tuple(shown)))
    found.sort(key=lambda one: not any(asked.tone == "bad" for asked in one[1]))
    return found[: 2 * PAGE]


class WindowGroup(Struct, frozen=True):
    rules: tuple[str, ...]
    names: tuple[str, ...]
    now: str
    spans: tuple[Span, ...]
    days: tuple[Day, ...]


async def windows(state: DesiredState, now: datetime) -> list[WindowGroup]:
    """Return the next days of all windows, servers with the same ones together."""
    groups: dict[tuple[str, ...], list[Any]] = {}
    for number, one in enumerate(state.servers, 1):
        if number % SLICE == 0:
            await asyncio.sleep(0)
        if one.windows:
            groups.setdefault(tuple(map(str, one.windows)), []).append(one)
    found = []
    for rules, servers in sorted(groups.items())[:PAGE]:
        await asyncio.sleep(0)
        present = standing(servers[0].windows, now)
        word = "Open now" if present.open else f"Closed now: {present.why}"
        names = tuple(one.name for one in servers)
        found.append(
            WindowGroup(rules, names, word, open_spans(servers[0].windows, now), days(now))
        )
    return found


class KeyRow(Struct, frozen=True):
    server: str
    exchange: str
    light: str
    tone: str
    expires: str
    withdraw: str
    withdraw_tone: str
    findings: tuple[str, ...]


_LIGHTS: Final = {Light.BLOCKED: (0, "bad"), Light.ATTENTION: (1, "warn"), Light.OK: (2, "ok")}
_SHOWS: Final = {
    "withdraw": "may withdraw",
    "expires": "expire",
    "blocked": "blocked",
    "attention": "attention",
    "ok": "in order",
}


async def keys(store: StatusStore, show: Sequence[str], page: str) -> dict[str, Any]:
    """Return the audited keys, the worst first, then those that expire soonest."""
    rows: list[KeyRow] = []
    for number, (name, status) in enumerate(list(store.servers.items()), 1):
        if number % SLICE == 0:
            await asyncio.sleep(0)
        for code, key in status.keys.items():
            codes = {one.code for one in key.findings if not one.accepted}
            may = "PERM_WITHDRAW" in codes
            unknown = any(
                one.data.get("permission") == "withdraw" and one.code != "PERM_WITHDRAW"
                for one in key.findings
            )
            word = "yes" if may else "not known" if unknown or key.light is not Light.OK else "no"
            tone = "bad" if may else "warn" if word == "not known" else "ok"
            rows.append(
                KeyRow(
                    name,
                    code,
                    str(key.light),
                    _LIGHTS[key.light][1],
                    key.expires_at,
                    word,
                    tone,
                    tuple(f"{one.code}: {one.what}" for one in key.findings if not one.accepted),
                )
            )
    order = {str(light): place for light, (place, _) in _LIGHTS.items()}
    rows.sort(key=lambda one: (order[one.light], one.expires or "~", one.server, one.exchange))
    chosen = next((one for one in show if one in _SHOWS), "")
    counts = {name: sum(_shows(one, name) for one in rows) for name in _SHOWS}
    wanted = [one for one in rows if not chosen or _shows(one, chosen)]
    number = int(page) if page.isascii() and page.isdigit() and len(page) < 6 else 1  # noqa: PLR2004
    first = max(0, number - 1) * PAGE
    found = [Tile("keys", f"{len(rows):,}", "?", not chosen, "")]
    tones = {
        "withdraw": "bad",
        "blocked": "bad",
        "expires": "warn",
        "attention": "warn",
        "ok": "ok",
    }
    found += [
        Tile(
            word,
            f"{counts[name]:,}",
            f"?show={name}",
            name == chosen,
            tones[name] if counts[name] else "",
        )
        for name, word in _SHOWS.items()
    ]
    more = f"?show={chosen}&page={number + 1}" if len(wanted) > first + PAGE else ""
    return {
        "tiles": found,
        "keys": wanted[first : first + PAGE],
        "total": len(wanted),
        "more": more,
    }


def _shows(one: KeyRow, name: str) -> bool:
    if name == "withdraw":
        return one.withdraw == "yes"
    return bool(one.expires) if name == "expires" else one.light == name
