"""
What the page shows of a server: the one place that turns what is known into words for it.  Pure.

Whatever the model learns to say of a server comes in here.  References, versions and names only.
"""

import functools
from collections.abc import Iterator, Mapping
from operator import attrgetter
from typing import Final

from msgspec import Struct, field

from reconciler.controller.status import Health, ServerStatus, Sync
from reconciler.model.key_audits import Light
from reconciler.model.plan import AS_DESIRED, Category, Line, Status
from reconciler.model.recorded import Identity, Recorded
from reconciler.model.wording import counted
from reconciler.plan.consequences import open_debts
from reconciler.render.ledger import CALM_STATES, exchange_states

DAY: Final = 86_400.0


# ── the fleet ────────────────────────────────────────────────────────────────────────────────


class Cell(Struct, frozen=True):
    """
    One exchange of one server.

    `tone` says how much it needs a person: ok, wait, warn, bad, mute.  `owed` are consequences of
    a write, `findings` counts what the audit holds against the key, `days` is the age of its
    secret.
    """

    exchange: str
    state: str
    tone: str
    why: str = ""
    owed: tuple[str, ...] = ()
    findings: int = 0
    days: int | None = None


class Row(Struct, frozen=True):
    """
    One server of the fleet.  `seen` is set only where it was not seen lately.

    `flags` name the tiles that count it; the lower its `rank`, the sooner somebody has to look.
    """

    name: str
    url: str
    owner: str
    labels: tuple[tuple[str, str], ...]
    sync: str
    health: str
    tone: str
    reason: str
    version: str
    running: int
    robots: int
    seen: str
    cells: Mapping[str, Cell] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    flags: frozenset[str] = frozenset()
    rank: int = 0
    text: str = ""  # in which a search looks

    def __hash__(self) -> int:
        return hash((self.name, self.health, self.sync, self.reason))


TILES: Final[Mapping[str, str]] = {
    "attention": "need attention",
    "doubt": "in doubt",
    "unreachable": "unreachable",
    "blocked": "blocked",
    "drift": "drift",
    "changes": "to change",
    "owed": "owed",
    "findings": "audit findings",
    "suspended": "suspended",
    "healthy": "healthy",
}
"""What the tiles above the fleet count, in the order of urgency; the word for people."""

_TONES: Final = {
    Health.HEALTHY: "ok",
    Health.PROGRESSING: "wait",
    Health.SUSPENDED: "mute",
    Health.DEGRADED: "bad",
    Health.UNREACHABLE: "bad",
}
_RANKS: Final = {
    Health.DEGRADED: 10,
    Health.UNREACHABLE: 20,
    Health.SUSPENDED: 50,
    Health.PROGRESSING: 60,
    Health.HEALTHY: 70,
}
_DRIFTED: Final = 40  # after what is amiss, before what somebody chose
_STATES: Final[Mapping[Status, tuple[str, str]]] = {
    Status.WRITE: ("to write", "wait"),
    Status.DELETE: ("to delete", "wait"),
    Status.IN_SYNC: ("in sync", "ok"),
    Status.FOUND: ("in sync, found", "ok"),
    Status.LEFT_ALONE: ("drift", "warn"),
    Status.BLOCKED: ("blocked", "bad"),
    Status.FAILED: ("not known", "bad"),
    Status.SETTLING: ("settling", "wait"),
    Status.NOT_COMPARED: ("not compared", "mute"),
    Status.NOT_MANAGED: ("not managed", "mute"),
    Status.LEFT_ON_SERVER: ("left there", "mute"),
}


_TIMES: Final = {"last_pass", "last_success", "pass_seconds", "next_pass", "outgoing", "connected"}
_UNSHOWN: Final = _TIMES | {"seen_at", "judged"}
shown_of: Final = attrgetter(
    *(name for name in ServerStatus.__struct_fields__ if name not in _UNSHOWN)
)
"""What of a status decides what the fleet shows, but for when it was seen."""


def row(status: ServerStatus) -> Row:
    """Return what the fleet shows of a server."""
    cells = {cell.exchange: cell for cell in _cells(status)}
    flags = _flagged(tuple(_flags(status)))
    away = status.health is Health.UNREACHABLE or status.sync is Sync.UNKNOWN
    rank = _RANKS[status.health]
    if status.in_doubt or status.owed_robots:
        rank = 0
    elif status.drift:
        rank = min(rank, _DRIFTED)
    labels = tuple(sorted(status.labels.items()))
    words = [status.server, status.owner, status.url, status.version, *cells]
    words += [f"{key}={value}" for key, value in labels]
    return Row(
        status.server,
        status.url,
        status.owner,
        labels,
        str(status.sync),
        str(status.health),
        "bad" if rank == 0 else _TONES[status.health],
        status.reason,
        status.version,
        sum(robot.running for robot in status.robots),
        len(status.robots),
        status.seen_at if away else "",
        cells,
        tuple(_notes(status)),
        flags,
        rank,
        " ".join(words).lower(),
    )


def _cells(status: ServerStatus) -> Iterator[Cell]:
    lines = {line.exchange: line for line in status.lines}
    codes = lines.keys() | status.keys.keys() | status.secret_ages.keys()
    owed: dict[str, set[str]] = {}
    for debt in status.debts:
        owed.setdefault(debt.exchange, set()).add(str(debt.owed))
    for code in sorted(codes | owed.keys()):
        line, key, age = lines.get(code), status.keys.get(code), status.secret_ages.get(code)
        state, tone = exchange_state(line)
        if code in owed and tone == "ok":
            tone = "warn"
        findings = 0
        if key is not None and key.light is not Light.OK:
            findings = max(1, sum(one.stops for one in key.findings))
            tone = "bad" if key.light is Light.BLOCKED else tone
        yield _cell(
            code,
            state,
            tone,
            "" if line is None else line.why,
            tuple(sorted(owed[code])) if code in owed else (),
            findings,
            None if age is None else int(age // DAY),
        )


# Most cells of a fleet are alike: one of each is enough, and ten thousand fewer to keep track of.
_cell: Final = functools.lru_cache(maxsize=8192)(Cell)
_flagged: Final = functools.lru_cache(maxsize=1024)(frozenset[str])


def exchange_state(line: Line | None) -> tuple[str, str]:
    if line is None:
        return "not compared", "mute"
    if line.category is Category.DRIFT and line.status in (Status.WRITE, Status.LEFT_ALONE):
        return "drift", "warn"
    if line.asks and line.status in (Status.WRITE, Status.DELETE):
        return "asks for a yes", "warn"
    return _STATES[line.status]


def _flags(status: ServerStatus) -> Iterator[str]:
    stopped = any(f.stops for key in status.keys.values() for f in key.findings)
    found = {
        "attention": status.health in (Health.DEGRADED, Health.UNREACHABLE)
        or bool(status.in_doubt or status.owed_robots or status.blocked),
        "doubt": bool(status.in_doubt),
        "unreachable": status.health is Health.UNREACHABLE,
        "blocked": bool(status.blocked),
        "drift": bool(status.drift),
        "changes": bool(status.changes),
        "owed": bool(status.debts or status.owed_robots),
        "findings": stopped or any(key.light is not Light.OK for key in status.keys.values()),
        "suspended": bool(status.suspended),
        "healthy": status.health is Health.HEALTHY,
    }
    return (name for name, holds in found.items() if holds)


def _notes(status: ServerStatus) -> Iterator[str]:
    if status.in_doubt:
        yield "a request is in doubt"
    if status.owed_robots:
        yield f"{counted(len(status.owed_robots), 'robot')} owed a start"
    if status.stopped_robots:
        yield f"{counted(len(status.stopped_robots), 'robot')} stopped unasked"
    if status.contested:
        yield f"contested: {', '.join(status.contested)}"
    if status.mode != "enforce":
        yield "only observed"
    if status.window_open is False:
        yield "window closed"
    yield from status.deferred


# ── without a controller ─────────────────────────────────────────────────────────────────────


def remembered(identity: Identity, recorded: Recorded) -> ServerStatus:
    """Return as a status what a ledger alone knows of a server."""
    seen, requests = recorded.observation, recorded.requests
    status = ServerStatus(
        identity.name,
        identity.target.url,
        identity.target.account,
        health=Health.PROGRESSING,
        reason="never seen",
        in_doubt=int(requests.open is not None),
        owed_robots=requests.halt.robots if requests.halt is not None else (),
    )
    if seen is None:
        return status
    states = dict(exchange_states(seen, recorded))
    lines = tuple(_remembered_line(code, state) for code, state in states.items())
    drift = tuple(line.exchange for line in lines if line.category is Category.DRIFT)
    blocked = sum(line.status is Status.FAILED for line in lines)
    amiss = bool(status.in_doubt or status.owed_robots or blocked)
    return ServerStatus(
        identity.name,
        identity.target.url,
        identity.target.account,
        sync=Sync.OUT_OF_SYNC if drift or blocked else Sync.SYNCED,
        health=Health.DEGRADED if amiss else Health.HEALTHY,
        reason="a write did not finish" if blocked else "",
        version=seen.version,
        drifting=drift,
        blocked=blocked,
        debts=open_debts(recorded, seen),
        in_doubt=status.in_doubt,
        owed_robots=status.owed_robots,
        robots=seen.robots,
        seen_at=seen.at,
        lines=lines,
    )


def _remembered_line(code: str, state: str) -> Line:
    if state.startswith("drifted"):
        return Line(
            code, Status.LEFT_ALONE, category=Category.DRIFT, condition=AS_DESIRED.says(state)
        )
    if state.startswith("connected by"):
        return Line(code, Status.NOT_MANAGED, condition=AS_DESIRED.says(state))
    if state.startswith(CALM_STATES):
        return Line(code, Status.IN_SYNC, condition=AS_DESIRED.says(state))
    return Line(code, Status.FAILED, condition=AS_DESIRED.says(state))
