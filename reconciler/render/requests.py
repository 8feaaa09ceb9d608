"""
Requests and the history as text for people and as JSON: what is open, owed, handled, and by whom.

The signs are those of `reconciler.render.server_text`.
"""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Final

from msgspec import Struct

from reconciler.errors import Exit, worst
from reconciler.model.plan import Disruption, Standing
from reconciler.model.recorded import HistoryEntry, PendingStarts, Request, Requests, Stage
from reconciler.model.target import Target
from reconciler.model.timestamps import spelled
from reconciler.plan.requests import named
from reconciler.render.escape import plain
from reconciler.render.json_values import Document, shown, to_json
from reconciler.render.phrases import INDENT, below, instant_text, robot_names, server_line
from reconciler.render.server_text import mark

NEWEST: Final = 5  # handled requests that a list shows of each server


class Listed(Struct, frozen=True):
    """
    The requests of one server: those of its document as `lines`, the rest from the ledger.

    `held` says why nothing is applied to it; `declared` is False when no document names it.
    """

    server: str
    target: Target
    requests: Requests
    lines: tuple[Disruption, ...] = ()
    held: str = ""
    declared: bool = True

    @property
    def exit_code(self) -> Exit:
        """The code that this server alone would end a command with."""
        return worst([*(line.error for line in self.lines), open_code(self.requests)])


def open_code(requests: Requests) -> Exit:
    """Return the code that stands for what the ledger holds open of one server."""
    if requests.open is not None:
        return Exit.IN_DOUBT
    return Exit.DONE if requests.halt is None else Exit.BLOCKED


# ── as text ──────────────────────────────────────────────────────────────────────────────────


def requests_text(servers: Sequence[Listed]) -> str:
    """Return what is open, owed and handled, server by server, as far as there is anything."""
    parts = ["\n".join(_server(one)) + "\n" for one in servers if _says_something(one)]
    return "\n".join(parts) if parts else "No requests.\n"


def _says_something(one: Listed) -> bool:
    requests = one.requests
    return bool(one.lines or requests.open or requests.halt or requests.past)


def _server(one: Listed) -> Iterator[str]:
    yield server_line(one.server, one.target)
    if not one.declared:
        yield "  in no document here; the ledger remembers it"
    if one.held:
        yield f"  ! nothing is applied: {plain(one.held, 400)}"
    for line in one.lines:
        yield from _line(one.server, line)
    if one.requests.halt is not None:
        yield from halt_rows(one.server, one.requests.halt)
    closed = one.requests.past[::-1][:NEWEST]
    if closed:
        yield "  handled, newest first"
    for request in closed:
        by = f"  {instant_text(request.closed_at)} by {plain(request.closed_by)}"
        yield f"    {_called(request)}  {request.stage}{by}"
        yield from (f"  {row}" for row in below(request.evidence))


def _line(server: str, line: Disruption) -> Iterator[str]:
    yield f"  {mark(line)} {plain(line.what)}  {line.standing}"
    yield from below(line.why, 600)
    if line.standing is Standing.IN_DOUBT:
        yield from _doubt(server, line)
    else:
        yield from below(line.remedy)


def _doubt(server: str, line: Disruption) -> Iterator[str]:
    if line.robots:
        yield f"{INDENT}robots that ran when it was asked: {robot_names(line.robots)}"
    yield f"{INDENT}find out on the server, then one of:"
    for command in resolving(server, line):
        yield f"{INDENT}  {command}"


def resolving(server: str, line: Disruption) -> tuple[str, ...]:
    """Return the command lines that settle a request in doubt; one of them is true."""
    if line.kind is None or line.instant is None:
        return ()
    known = f"jtr request resolve {server} {line.kind} {spelled(line.instant)}"
    return tuple(f"{known} {outcome} --because TEXT" for outcome in ("--done", "--not-done"))


def doubt_row(request: Request) -> str:
    since = f" since {instant_text(request.asked_at)}" if request.asked_at else ""
    return f"  ? in doubt{since}: {_called(request)}; see: jtr request list"


def halt_rows(server: str, halt: PendingStarts) -> Iterator[str]:
    """Say which robots are owed a start, why they have not got it, and what to type."""
    yield f"  ! robots owed a start ({plain(halt.origin)}): {robot_names(halt.robots)}"
    yield f"{INDENT}stopped {instant_text(halt.at)} by {plain(halt.by)}"
    yield from below(halt.finding, 600)
    if not halt.finding:
        yield (
            f"{INDENT}the next `jtr apply` starts them within {halt.within:g} s of that, "
            "if nobody else changed robots"
        )
    yield f"{INDENT}jtr request resume {server}"
    yield f"{INDENT}jtr request resume {server} --leave --because TEXT"


def _called(request: Request) -> str:
    return named(request.kind, request.instant)


# ── as JSON ──────────────────────────────────────────────────────────────────────────────────


def requests_document(servers: Sequence[Listed], code: Exit) -> Document:
    """Return the same as JSON-able data; *code* is what the command ends with."""
    return {
        "formatVersion": 1,
        "exitCode": int(code),
        "servers": [
            {
                **shown(one, "server url=target.url account=target.account declared held exitCode"),
                "requests": [
                    to_json(line) | {"resolve": _settled_by(one.server, line)} for line in one.lines
                ],
                "robotsOwed": to_json(one.requests.halt),
                "handled": to_json(one.requests.past[::-1]),
            }
            for one in servers
        ],
    }


def _settled_by(server: str, line: Disruption) -> list[str]:
    return list(resolving(server, line)) if line.standing is Standing.IN_DOUBT else []


def open_document(request: Request | None) -> Document | None:
    if request is None:
        return None
    by = request.attempts[-1].by if request.attempts else ""
    return {**shown(request, "kind instant askedAt"), "by": by, "robotsRan": to_json(request.ran)}


# ── the history ──────────────────────────────────────────────────────────────────────────────


def history(deeds: Sequence[HistoryEntry], requests: Requests) -> tuple[HistoryEntry, ...]:
    """
    Merge what was done with what was asked, oldest first.

    A pass that ends tells of its requests itself; one that died, and a person who resolved
    something, leave it to the request.
    """
    told = {(deed.what, deed.by) for deed in deeds}
    found = list(deeds)
    for request in (*requests.past, *([requests.open] if requests.open else [])):
        name = _called(request)
        found += [
            HistoryEntry(
                attempt.at, attempt.by, name, "asked", "and did not note what became of it"
            )
            for attempt in request.attempts
            if (name, attempt.by) not in told
        ]
        closed = request.stage is not Stage.OPEN and bool(request.closed_at)
        if closed and (name, request.closed_by) not in told:
            result = _STAGES.get(request.stage, str(request.stage))
            found.append(
                HistoryEntry(request.closed_at, request.closed_by, name, result, request.evidence)
            )
    return tuple(sorted(found, key=lambda deed: datetime.fromisoformat(deed.at)))


_STAGES: Final = {Stage.DONE: str(Standing.DONE), Stage.NOT_DONE: str(Standing.NOT_DONE)}


def deed_row(deed: HistoryEntry) -> str:
    detail = f": {plain(deed.detail, 2000)}" if deed.detail else ""
    head = f"{_time(deed.at)}  {plain(deed.by)}  {plain(deed.what)}"
    origin = f" ({plain(str(deed.origin), 200)})" if str(deed.origin) else ""
    return f"{head}  {plain(deed.result)}{detail}{origin}"


def _time(stamp: str) -> str:
    """Return a time of the ledger as all others are shown: UTC, to the millisecond."""
    moment = datetime.fromisoformat(stamp).astimezone(UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
