"""
One server of a plan as text for people, whole: what, why, what it means for the robots, what to do.

Every line begins with a sign, so that colour only repeats what the sign says:
`+` written for the first time, `~` written again, `-` deleted, `≠` drift, `!` stopped, `=` in sync,
`»` a new recipient, `↻` robots restarted, `⏻` rebooted, `∅` invalidated, `▶` started again,
`…` later, `?` in doubt.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from reconciler.errors import JtrError
from reconciler.model.actions import (
    DeleteExchange,
    InvalidateCache,
    Need,
    Reason,
    RebootServer,
    RestartRobots,
    WriteExchange,
)
from reconciler.model.desired import Afterwards, RequestKind
from reconciler.model.plan import Category, Disruption, Line, ServerPlan, Standing, Status
from reconciler.model.recipients import NewRecipient, Novelty
from reconciler.model.recorded import Owed, due
from reconciler.plan.requests import how_to_ask
from reconciler.render.escape import plain
from reconciler.render.phrases import (
    INDENT,
    age_text,
    below,
    debt_text,
    robots_text,
    server_line,
    since_text,
)

FINISHED: Final = (
    Standing.DONE,
    Standing.SATISFIED,
    Standing.SUPERSEDED,
)
"""
Requests of which nothing more comes, however long they stay in the document.

Not one that is older than the ledger: it is never done, and somebody may still expect it.
"""


def server_text(plan: ServerPlan, *, brief: bool = False) -> str:
    """Return all that is to be said of one server; *brief* has its finished requests in a line."""
    rows = [server_line(plan.server, plan.target, plan.version, plan.owner)]
    if plan.age is not None:
        rows.append(f"  seen {age_text(plan.age)} ago")
    rows.extend(recipient_rows(plan.new_recipient))
    rows.extend(_policy(plan))
    if plan.failure is not None:
        rows.extend(failure_rows(plan.failure))
        if plan.disruptions:
            rows.append("  By the ledger")
            rows.extend(row for line in plan.disruptions for row in _disruption(line, plan.server))
        return "\n".join(rows) + "\n"
    if plan.held:
        rows.append(f"  ! nothing is applied: {plain(plan.held, 400)}")
        rows.extend(below(plan.held_remedy))
    held = " (held back)" if plan.held else ""
    for title, lines in (
        (f"Changes{held}", plan.select(Category.CHANGE)),
        (f"Drift{held}", plan.select(Category.DRIFT)),
        ("Failed", having(plan, Status.FAILED)),
        ("Blocked", having(plan, Status.BLOCKED)),
    ):
        if lines:
            rows.append(f"  {title}")
            rows.extend(row for line in lines for row in _line(line, plan))
    over = finished(plan) if brief else ()
    if open_ := [line for line in plan.disruptions if line not in over]:
        rows.append(f"  Robots and requests{held}")
        rows.extend(row for line in open_ for row in _disruption(line, plan.server))
    rows.extend(_quiet(plan))
    if over:
        told = ", ".join(f"{plain(line.what)} {line.standing}" for line in over)
        rows.append(f"  = finished requests: {told}")
    rows.extend(_owed(plan))
    rows.extend(f"  note: {plain(note, 400)}" for note in plan.notes)
    return "\n".join(rows) + "\n"


def recipient_rows(news: Sequence[NewRecipient]) -> Iterator[str]:
    if news:
        yield "  NEW RECIPIENT"
    for one in news:
        yield f"    » {plain(recipient_text(one), 2000)}"


def recipient_text(one: NewRecipient) -> str:
    """Return what is new, unescaped."""
    return f"{_NEWS[one.kind]}{one.what}"


def _policy(plan: ServerPlan) -> Iterator[str]:
    """Yield what the document may not ask for; what keeps the server from being seen is told."""
    if plan.failure is not None or not plan.violations:
        return
    yield "  POLICY"
    for one in plan.violations:
        yield f"    ! {plain(one.what, 600)}"
    for remedy in dict.fromkeys(one.remedy for one in plan.violations):
        yield from below(remedy)


_NEWS = {
    Novelty.CONTACT: "first contact: ",
    Novelty.ADDRESS: "another address: ",
    Novelty.LOGIN: "gets as its login: ",
    Novelty.VALUES: "gets values of: ",
}


def failure_rows(error: JtrError) -> Iterator[str]:
    yield f"  ! {plain(error.what, 400)}"
    yield from below(error.remedy)


def finished(plan: ServerPlan) -> tuple[Disruption, ...]:
    return tuple(line for line in plan.disruptions if line.standing in FINISHED)


def having(plan: ServerPlan, *statuses: Status) -> tuple[Line, ...]:
    return tuple(line for line in plan.lines if line.status in statuses)


def sign(line: Line) -> str:
    if line.status in (Status.BLOCKED, Status.FAILED):
        return "!"
    if line.category is Category.DRIFT:
        return "≠"
    if isinstance(line.action, DeleteExchange):
        return "-"
    if isinstance(line.action, WriteExchange):
        return "+" if line.reason is Reason.ABSENT else "~"
    return "="


def _line(line: Line, plan: ServerPlan) -> Iterator[str]:
    said = [plain(line.exchange)] if line.exchange else []
    if line.status in (Status.BLOCKED, Status.FAILED):
        said.append(f"{line.status}: {plain(line.why, 400)}")
    elif isinstance(line.action, DeleteExchange):
        said.append(f"delete {', '.join(map(plain, line.action.fields))}")
        said.append(f"({plain(line.why, 400)})")
    elif isinstance(line.action, WriteExchange):
        said.append(f"write {', '.join(plain(name) for name, _ in line.action.fields)}")
        said.append(f"from {', '.join(plain(ref, 2000) for ref in line.sources)}")
        said.append(f"({plain(why_text(line), 400)})")
    yield f"    {sign(line)} {'  '.join(said)}"
    if line.category is Category.DRIFT and plan.judged_at is not None:
        yield from below(since_text(line.since, plan.judged_at))
    if line.asks and line.status is Status.LEFT_ALONE:
        # What holds the whole server back comes first: no other command would help now.
        yield f"{INDENT}left alone" + ("" if plan.hold else f": {plain(line.remedy, 600)}")
    elif line.remedy:
        yield from below(line.remedy, 600)
    if line.ready is not None:
        yield from _meaning(line)
    yield from below(line.note)


def _disruption(line: Disruption, server: str) -> Iterator[str]:
    yield f"    {mark(line)} {plain(line.what)}  {line.standing}"
    yield from below(line.why, 600)
    yield from below(line.remedy.replace("SERVER", server))


def mark(line: Disruption) -> str:
    if line.standing is Standing.DUE:
        return _DUE.get(type(line.action), "▶")
    return _MARKS.get(line.standing, "=")


_DUE: Final[Mapping[type, str]] = {RestartRobots: "↻", InvalidateCache: "∅", RebootServer: "⏻"}
_MARKS = {
    **dict.fromkeys((Standing.SCHEDULED, Standing.WAITING, Standing.HELD), "…"),
    **dict.fromkeys((Standing.BLOCKED, Standing.EXPIRED, Standing.NOT_DONE), "!"),
    Standing.IN_DOUBT: "?",
}


def why_text(line: Line) -> str:
    both = line.reason and line.why and line.reason is not Reason.DIFFERS
    return f"{line.reason}: {line.why}" if both else (line.why or line.reason)


def _meaning(line: Line) -> Iterator[str]:
    if line.consequence is None:
        return
    robots, need = line.consequence.robots, line.consequence.need
    if robots:
        one = len(robots) == 1
        if line.reason is Reason.ABSENT:
            does = "runs without a key" if one else "run without a key"
        else:
            does = "keeps the old key" if one else "keep the old key"
        yield f"{INDENT}{robots_text(robots)} {does} until {_UNTIL[need]}"
    elif need is Need.REBOOT:
        yield f"{INDENT}robots that are started there use the old key until {_UNTIL[need]}"


_UNTIL = {
    Need.RESTART: "restarted",
    Need.REBOOT: "JT-Trader is rebooted: it caches what belongs to the same API key",
    Need.EITHER: "restarted, or until JT-Trader is rebooted if the API key is the same",
    Need.NOTHING: "",
}


def _quiet(plan: ServerPlan) -> Iterator[str]:
    in_sync = [plain(line.exchange) for line in having(plan, Status.IN_SYNC)]
    if in_sync:
        yield f"  = in sync: {', '.join(in_sync)}"
    for status in (Status.FOUND, Status.NOT_COMPARED, Status.SETTLING, Status.STALE):
        for line in having(plan, status):
            yield f"  = {status}: {plain(line.exchange)} ({plain(line.why, 400)})"
    for line in having(plan, Status.LEFT_ON_SERVER):
        yield f"  = left on the server: {plain(line.exchange)}; {plain(line.remedy, 600)}"
    foreign = [plain(line.exchange) for line in having(plan, Status.NOT_MANAGED)]
    if foreign:
        yield f"  = not managed, untouched: {', '.join(foreign)}"


def _owed(plan: ServerPlan) -> Iterator[str]:
    reboots = due(plan.debts, Owed.REBOOT)
    for debt in (*due(plan.debts, Owed.RESTART), *reboots):
        yield f"  owed: {debt_text(debt)}"
    if reboots and not any(
        line.kind is RequestKind.REBOOT and line.action for line in plan.disruptions
    ):
        asked = how_to_ask(RequestKind.REBOOT, plain(plan.server), robots=Afterwards.RESUME)
        yield f"{INDENT}{asked}"
