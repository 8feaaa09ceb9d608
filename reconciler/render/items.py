"""
What is to be said of one server, as items of which many servers may have the same.  Pure.

In an item the server's own name is a mark, so that what differs by nothing else is alike.  Nothing
is left out here but what is in sync: whoever groups items has to name every server and every robot.
"""

import enum
import re
from collections.abc import Iterator, Sequence
from typing import Final

from msgspec import Struct

from reconciler.model.actions import DeleteExchange, Need, Reason, RestartRobots, WriteExchange
from reconciler.model.desired import Afterwards, RequestKind
from reconciler.model.observed import Robot
from reconciler.model.plan import Category, Disruption, Line, ServerPlan, Standing, Status
from reconciler.model.recorded import Debt, Owed, due
from reconciler.model.values import replace
from reconciler.plan.requests import how_to_ask
from reconciler.render.escape import plain
from reconciler.render.phrases import since_text
from reconciler.render.server_text import FINISHED, mark, recipient_text, sign, why_text
from reconciler.render.verdicts import not_compared

NAME: Final = "\x00"
"""Stands for the server's own name; no text that is shown can hold it."""
ROBOTS: Final = "\x01"
"""Stands for the names of the item's robots."""


class Section(enum.Enum):
    """The parts of a fleet's plan, or of what was done, in the order in which they are shown."""

    HARM = "HARM"
    RECIPIENTS = "NEW RECIPIENTS"
    PROBLEMS = "Problems"
    UNSEEN = "Not compared: more may be written than is counted"
    CHANGES = "Changes"
    DRIFT = "Drift"
    ROBOTS = "Robots and requests"
    HELD = "Held back"
    OWED = "Owed"
    DONE = "Done"


class Item(Struct, frozen=True):
    """
    One thing to be said of a server.

    `does` is followed by the servers it is done to; else these come first.  `at` (a version) and
    `since` may differ between alike items; so may `robots`, of which `meaning` says what becomes of
    them.  `stops` says that every single one of them has to be named.  `alone` is the server of
    one that is never shown together with others.
    """

    section: Section
    sign: str
    head: str
    below: tuple[str, ...] = ()
    does: bool = False
    at: str = ""
    since: str = ""
    robots: tuple[str, ...] = ()
    meaning: str = ""
    stops: bool = False
    alone: str = ""
    rank: int = 0

    @property
    def alike(self) -> "Item":
        """What servers have in common that have the same to be said of them."""
        return replace(self, at="", since="", robots=())


def items(server: ServerPlan) -> Iterator[Item]:
    """Yield all that is to be said of a server but what is in sync or finished."""
    yield from named_items(server.server, *_items(server))


def named_items(server: str, *found: Item) -> Iterator[Item]:
    """Yield items with a mark instead of the server's own name, and without empty lines."""
    name = re.compile(rf"(?<![A-Za-z0-9-]){re.escape(plain(server))}(?![A-Za-z0-9-])")
    for item in found:
        below = tuple(name.sub(NAME, row) for row in item.below if row)
        yield replace(item, head=name.sub(NAME, item.head), below=below)


def away_item(text: str) -> tuple[str, Item]:
    """Return which server was not visited, and why."""
    name, _, why = text.partition(": ")
    return name, Item(Section.PROBLEMS, "!", f"not visited: {plain(why, 400)}", rank=1)


def _items(server: ServerPlan) -> Iterator[Item]:
    for new in server.new_recipient:
        yield Item(Section.RECIPIENTS, "»", plain(recipient_text(new), 2000))
    if server.failure is not None:
        what, remedy = plain(server.failure.what, 400), plain(server.failure.remedy)
        yield Item(Section.PROBLEMS, "!", f"failed: {what}", (remedy,), rank=1)
        for left in server.disruptions:
            yield replace(_disruption(left, server), section=Section.PROBLEMS)
        return
    for violation in server.violations:
        remedy = plain(violation.remedy, 400)
        yield Item(Section.PROBLEMS, "!", plain(violation.what, 600), (remedy,), rank=2)
    if server.held:
        yield _held(server)
    for line in server.lines:
        yield from _line(line, server)
    waiting = _waiting(server)
    for one in server.disruptions:
        if one.standing not in FINISHED and one not in waiting:
            yield _disruption(one, server)
    asked = any(line.kind is RequestKind.REBOOT and line.action for line in server.disruptions)
    yield from _owed(server.server, server.debts, asked=asked)


def _held(server: ServerPlan) -> Item:
    """Say why nothing is applied, and what is not."""
    if server.held_code:
        section, rank = Section.PROBLEMS, 2
    elif not server.lines and not_compared(server):
        section, rank = Section.UNSEEN, 0
    else:
        section, rank = Section.HELD, 0
    waiting = [
        f"{sign(line)} {plain(line.exchange)}{_versions(line)}"
        for category in Category
        for line in server.select(category)
    ]
    waiting += [f"{mark(one)} {plain(one.what)}" for one in _waiting(server)]
    return Item(
        section,
        "!" if section is not Section.HELD else "…",
        f"nothing is applied: {plain(server.held, 400)}",
        (plain(server.held_remedy, 400), f"held back: {', '.join(waiting)}" if waiting else ""),
        rank=rank,
    )


def _waiting(server: ServerPlan) -> list[Disruption]:
    """Return what happens to robots once the server is not held any more."""
    if not server.held:
        return []
    open_ = (line for line in server.disruptions if line.standing not in FINISHED)
    return [line for line in open_ if not _is_bad(line)]


# ── exchanges ────────────────────────────────────────────────────────────────────────────────


def _line(line: Line, server: ServerPlan) -> Iterator[Item]:
    code = plain(line.exchange)
    note = plain(line.note, 400)
    if line.status in (Status.BLOCKED, Status.FAILED):
        remedy = plain(line.remedy, 600)
        said = f"{code}  {line.status}: {plain(line.why, 400)}"
        yield Item(Section.PROBLEMS, "!", said, (remedy, note), rank=2)
    elif line.status in (Status.NOT_COMPARED, Status.SETTLING, Status.STALE):
        yield Item(Section.UNSEEN, "=", code, (plain(line.why, 400), note), does=True)
    elif line.action is not None and not server.held:
        yield _action(line, server, note)


def _action(line: Line, server: ServerPlan, note: str) -> Item:
    section = Section.DRIFT if line.category is Category.DRIFT else Section.CHANGES
    asks = bool(line.asks) and line.status is Status.LEFT_ALONE
    remedy = f"left alone: {plain(line.remedy, 600)}" if asks else plain(line.remedy, 600)
    head, below = plain(line.exchange), f"{plain(why_text(line), 400)}{_from(line)}"
    if isinstance(line.action, DeleteExchange):
        head = f"delete {head}"
        below = plain(line.why, 400)
    robots, meaning, rest = _meaning(line, server)
    if meaning and not robots:
        below = f"{below}; {meaning}"
    return Item(
        section,
        sign(line),
        head,
        (below, remedy, rest, note),
        does=True,
        at=_versions(line) if isinstance(line.action, WriteExchange) else "",
        since=_since(line, server) if section is Section.DRIFT else "",
        robots=robots,
        meaning=meaning,
        rank=0 if isinstance(line.action, DeleteExchange) else 1,
    )


def _since(line: Line, server: ServerPlan) -> str:
    earlier = server.judged_at is not None and since_text(line.since, server.judged_at)
    return line.since if earlier else ""


def _versions(line: Line) -> str:
    found = {version for _, _, version in (ref.rpartition("@") for ref in line.sources)}
    return f"@{'/'.join(sorted(map(plain, found)))}" if found else ""


def _from(line: Line) -> str:
    paths = {path for path, _, _ in (ref.rpartition("@") for ref in line.sources)}
    return f", from {', '.join(plain(path, 2000) for path in sorted(paths))}" if paths else ""


def _meaning(line: Line, server: ServerPlan) -> tuple[tuple[str, ...], str, str]:
    """Return the robots that a write concerns, what it means for them, and for those to come."""
    if line.ready is None or line.consequence is None:
        return (), "", ""
    robots, need = line.consequence.robots, line.consequence.need
    restarted = {robot.id for robot in _restarted(line.exchange, server)}
    if robots and {robot.id for robot in robots} <= restarted:
        return (), "robots restart", ""
    if robots:
        does = "run without a key" if line.reason is Reason.ABSENT else "keep the old key"
        return _named(robots), f"robots {does} until {UNTIL[need]}", ""
    rest = f"robots that are started there use the old key until {UNTIL[need]}"
    return (), "", rest if need is Need.REBOOT else ""


def _restarted(exchange: str, server: ServerPlan) -> Iterator[Robot]:
    for one in server.disruptions:
        if isinstance(one.ready, RestartRobots) and one.ready.exchange == exchange:
            yield from one.robots


UNTIL: Final = {
    Need.RESTART: "restarted",
    Need.REBOOT: "JT-Trader is rebooted (same API key)",
    Need.EITHER: "restarted, or rebooted if the API key is the same",
    Need.NOTHING: "",
}


def _named(robots: Sequence[Robot]) -> tuple[str, ...]:
    return tuple(plain(robot.name) for robot in robots)


# ── robots, requests, debts ──────────────────────────────────────────────────────────────────

_BAD: Final = (Standing.IN_DOUBT, Standing.BLOCKED, Standing.EXPIRED, Standing.NOT_DONE)


def _is_bad(line: Disruption) -> bool:
    return line.standing in _BAD or bool(line.error)


def _disruption(line: Disruption, server: ServerPlan) -> Item:
    joined = ", ".join(robot.name for robot in line.robots)
    before, found, after = line.why.partition(joined) if joined else (line.why, "", "")
    why = f"{plain(before, 600)}{ROBOTS if found else ''}{plain(after, 600)}"
    if _is_bad(line):
        section, rank = Section.PROBLEMS, 0 if line.standing is Standing.IN_DOUBT else 2
    else:
        section, rank = Section.ROBOTS, 0 if line.ready is not None else 1
    return Item(
        section,
        mark(line),
        f"{plain(line.what)}  {line.standing}",
        (why, plain(line.remedy.replace("SERVER", server.server), 400)),
        robots=_named(line.robots),
        # Who stops, or is to be started, is named in any case, also where the reason does not.
        meaning="" if found else "robots",
        stops=True,
        rank=rank,
    )


def owed_items(server: str, debts: Sequence[Debt], *, asked: bool) -> Iterator[Item]:
    """Yield what is owed since a write; *asked* says that a reboot is on its way."""
    yield from named_items(server, *_owed(server, debts, asked=asked))


def _owed(server: str, found: Sequence[Debt], *, asked: bool) -> Iterator[Item]:
    restarts, reboots = due(found, Owed.RESTART), due(found, Owed.REBOOT)
    for exchange in sorted({debt.exchange for debt in restarts}):
        debts = [debt for debt in restarts if debt.exchange == exchange]
        names = tuple(f"{plain(debt.robot_name)}" for debt in debts)
        yield Item(
            Section.OWED,
            "↻",
            f"restart: robots hold an old {plain(exchange)} key",
            since=min(debt.since for debt in debts),
            robots=names,
            meaning="robots",
        )
    for debt in reboots:
        hint = how_to_ask(RequestKind.REBOOT, plain(server), robots=Afterwards.RESUME)
        yield Item(
            Section.OWED,
            "⏻",
            f"reboot: the server caches an old {plain(debt.exchange)} key",
            ("" if asked else hint,),
            since=debt.since,
        )
