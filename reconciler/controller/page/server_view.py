"""
What the page of one server shows: desired beside live, plan, robots, requests, and their words.

Pure.  References, versions and names only.
"""

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Final

from msgspec import Struct

from reconciler.controller.page.view import Cell, Row, exchange_state, row
from reconciler.controller.status import ServerStatus
from reconciler.model.actions import told
from reconciler.model.desired import (
    Afterwards,
    DesiredExchange,
    DesiredServer,
    Presence,
    RequestKind,
)
from reconciler.model.observed import Robot
from reconciler.model.outcomes import Report
from reconciler.model.plan import Category, Disruption, Line, Standing, Status
from reconciler.model.recorded import Debt, ExchangeRecord, HistoryEntry, Owed, Recorded
from reconciler.plan.requests import how_to_ask, named
from reconciler.render import requests as requests_text
from reconciler.render.ledger import exchange_states


class Pair(Struct, frozen=True):
    """
    One exchange of a server, desired beside live: paths with versions, never a value.

    `desired` is what the document names, `planned` the version that the last pass took, `live` what
    the ledger knows to have been written.
    """

    cell: Cell
    desired: tuple[str, ...]
    planned: tuple[str, ...]
    live: tuple[str, ...]
    standing: str  # how it stands on the server, in the ledger's words
    written_at: str
    remedy: str = ""
    note: str = ""
    consequence: str = ""


class RobotRow(Struct, frozen=True):
    name: str
    exchange: str
    running: bool
    holds: str


class Step(Struct, frozen=True):
    """One line of the plan: `mark` is its sign, `tone` how much it needs a person."""

    mark: str
    what: str
    state: str
    why: str
    tone: str


class Asked(Struct, frozen=True):
    """A request: where it stands, the evidence for it, and what a person would type."""

    what: str
    state: str
    tone: str
    why: str
    at: str = ""
    by: str = ""
    robots: tuple[str, ...] = ()
    commands: tuple[str, ...] = ()


class Command(Struct, frozen=True):
    """What a person would type for something, and what it would do."""

    purpose: str
    line: str


class Server(Struct, frozen=True):
    """Everything that the page of one server shows."""

    row: Row
    status: ServerStatus
    pairs: tuple[Pair, ...]
    steps: tuple[Step, ...]
    robots: tuple[RobotRow, ...]
    requests: tuple[Asked, ...]
    timeline: tuple[HistoryEntry, ...]
    commands: tuple[Command, ...]
    source: str  # where its document stands


def server(
    status: ServerStatus,
    desired: DesiredServer | None,
    report: Report | None,
    recorded: Recorded,
    deeds: tuple[HistoryEntry, ...],
) -> Server:
    shown = row(status)
    timeline = requests_text.history(deeds, recorded.requests)
    return Server(
        shown,
        status,
        tuple(_pairs(shown, status, desired, recorded)),
        tuple(_steps(report)),
        tuple(_robots(status)),
        tuple(_requests(status.server, report, recorded)),
        timeline[::-1],
        tuple(_commands(status)),
        "" if desired is None else str(desired.source),
    )


def _pairs(
    shown: Row, status: ServerStatus, desired: DesiredServer | None, recorded: Recorded
) -> Iterator[Pair]:
    lines = {line.exchange: line for line in status.lines}
    wanted = {} if desired is None else {one.code: one for one in desired.exchanges}
    seen = recorded.observation
    states = dict(exchange_states(seen, recorded)) if seen is not None else {}
    for code in sorted(shown.cells.keys() | wanted.keys() | states.keys()):
        line, record = lines.get(code), recorded.exchanges.get(code)
        cell = shown.cells.get(code) or Cell(code, "not compared", "mute")
        written = record.written if record is not None else None
        yield Pair(
            cell,
            _wanted(wanted.get(code)),
            _versions(line, wanted.get(code)),
            _written(record),
            _standing(states.get(code, "nothing stored there that we know of"), _written(record)),
            "" if written is None else written.at,
            "" if line is None else line.remedy,
            "" if line is None else line.note,
            _consequence(line),
        )


def _standing(state: str, live: tuple[str, ...]) -> str:
    """Return how an exchange stands, without what is shown beside it."""
    return "as it was written" if state == f"written from {', '.join(live)}" else state


def _versions(line: Line | None, wanted: DesiredExchange | None) -> tuple[str, ...]:
    """Return which versions the last pass took."""
    if line is None:
        return ()
    if wanted is not None and wanted.secret is not None and len(line.sources) == 1:
        return (f"version {line.sources[0].rpartition('@')[2]}",)
    return tuple(f"took {source}" for source in line.sources)


def _wanted(exchange: DesiredExchange | None) -> tuple[str, ...]:
    if exchange is None:
        return ()
    if exchange.presence is Presence.ABSENT:
        return ("absent",)
    if exchange.secret is not None:
        return (str(exchange.secret),)
    return tuple(f"{name}: {ref}" for name, ref in sorted(exchange.fields.items()))


def _written(record: ExchangeRecord | None) -> tuple[str, ...]:
    if record is None or record.written is None:
        return ()
    return tuple(sorted({f"{ref.at}@{ref.version}" for ref in record.written.sources.values()}))


def _consequence(line: Line | None) -> str:
    if line is None or line.consequence is None or not line.consequence.robots:
        return ""
    names = ", ".join(robot.name for robot in line.consequence.robots)
    return f"{names} keep the old key until a {line.consequence.need}"


_SIGNS: Final = {Status.WRITE: "+", Status.DELETE: "-", Status.BLOCKED: "!", Status.FAILED: "!"}
_LATER: Final = (Standing.SCHEDULED, Standing.WAITING, Standing.HELD)


def _steps(report: Report | None) -> Iterator[Step]:
    if report is None:
        return
    plan = report.plan
    for new in plan.new_recipient:
        yield Step("!", "new recipient", "asks for a yes", new.what, "warn")
    for violation in plan.violations:
        yield Step("!", "policy", "refused", f"{violation.what}; {violation.remedy}", "bad")
    if plan.held:
        more = f"; {plan.held_remedy}" if plan.held_remedy else ""
        yield Step("!", "nothing is applied", "held", plan.held + more, "warn")
    for line in plan.lines:
        if line.status in (Status.IN_SYNC, Status.NOT_MANAGED):
            continue
        state, tone = exchange_state(line)
        why = "; ".join(text for text in (line.why, line.remedy, _consequence(line)) if text)
        sign = "≠" if line.category is Category.DRIFT else _SIGNS.get(line.status, "~")
        yield Step(sign, line.exchange, state, why, tone)
    for wish in plan.disruptions:
        yield Step("!", wish.what, str(wish.standing), _because(wish), _tone(wish))
    for outcome in report.outcomes:
        tone = "bad" if outcome.code else "ok"
        text = "; ".join(part for part in (outcome.detail, outcome.remedy) if part)
        yield Step(
            "✓" if not outcome.code else "!", told(outcome.action), str(outcome.result), text, tone
        )
    for note in plan.notes:
        yield Step("·", note, "", "", "mute")


def _because(wish: Disruption) -> str:
    return "; ".join(text for text in (wish.why, wish.remedy) if text)


def _tone(wish: Disruption) -> str:
    if wish.error:
        return "bad"
    return "wait" if wish.standing is Standing.DUE or wish.standing in _LATER else "mute"


def _robots(status: ServerStatus) -> Iterator[RobotRow]:
    restart = {debt.robot_id: debt for debt in status.debts if debt.owed is Owed.RESTART}
    reboot = {debt.exchange: debt for debt in status.debts if debt.owed is Owed.REBOOT}
    owed = {robot.id for robot in status.owed_robots}
    unasked = {robot.id for robot in status.stopped_robots}
    for robot in sorted(status.robots, key=lambda one: (one.exchange, one.name, one.id)):
        yield RobotRow(
            robot.name, robot.exchange, robot.running, _holds(robot, restart, reboot, owed, unasked)
        )


def _holds(
    robot: Robot,
    restart: Mapping[int | None, Debt],
    reboot: Mapping[str, Debt],
    owed: set[int],
    unasked: set[int],
) -> str:
    if robot.id in owed:
        return "owed a start by us"
    if robot.id in unasked:
        return "stopped without our asking"
    if not robot.running:
        return "nothing: it takes the key when it starts"
    if robot.id in restart:
        return f"the key from before {_time(restart[robot.id].since)}; a restart is owed"
    if robot.exchange in reboot:
        return f"the secret from before {_time(reboot[robot.exchange].since)}; a reboot is owed"
    return "the present key, as far as is known"


def _time(text: str) -> str:
    try:
        return f"{datetime.fromisoformat(text).astimezone(UTC):%Y-%m-%d %H:%M}Z"
    except ValueError:
        return text


def _requests(name: str, report: Report | None, recorded: Recorded) -> Iterator[Asked]:
    lines = report.plan.disruptions if report is not None else ()
    for line in lines:
        if line.kind is not None:
            yield Asked(
                line.what,
                str(line.standing),
                _tone(line),
                _because(line),
                robots=tuple(robot.name for robot in line.robots),
                commands=requests_text.resolving(name, line)
                if line.standing is Standing.IN_DOUBT
                else (),
            )
    known = {(line.kind, line.instant) for line in lines}
    requests = recorded.requests
    if requests.open is not None and (requests.open.kind, requests.open.instant) not in known:
        one = requests.open
        yield Asked(named(one.kind, one.instant), "in doubt", "bad", one.reason, one.asked_at)
    if requests.halt is not None:
        halt = requests.halt
        yield Asked(
            f"robots owed a start ({halt.origin})",
            "owed",
            "bad",
            halt.finding,
            halt.at,
            halt.by,
            tuple(robot.name for robot in halt.robots),
            (
                f"jtr request resume {name}",
                f"jtr request resume {name} --leave --because TEXT",
            ),
        )
    for request in reversed(requests.past):
        yield Asked(
            named(request.kind, request.instant),
            str(request.stage),
            "mute",
            "; ".join(text for text in (request.reason, request.evidence) if text),
            request.closed_at,
            request.closed_by,
            tuple(robot.name for robot in request.ran),
        )


def _commands(status: ServerStatus) -> Iterator[Command]:
    name = status.server
    yield Command("look at it now, side by side", f"jtr plan --server {name}")
    if status.changes:
        yield Command("write what differs", f"jtr apply --server {name}")
    if status.drift or status.contested:
        yield Command("put drift back", f"jtr apply --server {name} --correct-drift")
    if status.owed_robots:
        yield Command("start the robots that are owed it", f"jtr request resume {name}")
    if any(debt.owed is Owed.REBOOT for debt in status.debts):
        typed = how_to_ask(RequestKind.REBOOT, name, robots=Afterwards.RESUME)
        yield Command("ask for the reboot that is owed", typed)
    if status.keys:
        yield Command("ask the exchanges about its keys", f"jtr audit --server {name}")
    yield Command("follow its log", f"jtr logs {name} --follow")
    yield Command("what was done on it", f"jtr history {name}")
