"""
Plans and reports for reviewers: a comment of a pull request that is understood in ten seconds.

The worst is on top; below it, collapsed, each server's lines as `-o text` prints them.  It fits
into a comment: what is cut is the least important, and is counted.
"""

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from typing import Final

from msgspec import Struct

from reconciler.errors import Exit
from reconciler.model.actions import DeleteExchange, InvalidateCache, ResumeRobots, WriteExchange
from reconciler.model.outcomes import Report, Result
from reconciler.model.plan import Plan, ServerPlan, Standing, Status
from reconciler.model.timestamps import spelled
from reconciler.model.wording import counted
from reconciler.render.escape import plain
from reconciler.render.layout import folded
from reconciler.render.markdown import (
    code,
    codes,
    collapsed,
    fenced_within,
    fitting,
    html_code,
)
from reconciler.render.phrases import age_text
from reconciler.render.plan_text import (
    counts_text,
    outcomes_text,
    radius_text,
    report_text,
)
from reconciler.render.registry import AuditPart, PlanRenderer
from reconciler.render.server_text import recipient_text, server_text
from reconciler.render.verdicts import (
    CALM,
    WORST_FIRST,
    Level,
    keeping,
    level,
    not_compared,
    stops,
    tally,
)
from reconciler.render.verdicts import worst_level as worst_of

LIMIT: Final = 60_000
"""Characters of a document; GitHub takes 65,536, and whoever posts it adds some."""
MARKER: Final = "<!-- jtr plan -->"
"""The first line, by which whoever edits a comment in place finds it."""

_RECIPIENTS_ROOM: Final = 8_000
_TABLE_ROOM: Final = 24_000
_AUDIT_ROOM: Final = 8_000
_FENCE_COLUMNS: Final = 100  # what forges show of a block of code without a scroll bar
_SPARE: Final = 600  # for what is said of that which had to go
_NAMES: Final = 6  # of robots or exchanges, in one cell
_NOT_ENOUGH: Final = 300  # characters in which nobody could say anything of a server


class _Row(Struct, frozen=True):
    """One server with its verdict and, after an apply, what became of it."""

    server: ServerPlan
    level: Level
    report: Report | None = None


class _Head(Struct, frozen=True):
    """What stands above the table."""

    level: Level
    title: str
    lines: Sequence[str]


class PlanMarkdown(PlanRenderer):
    live = False

    def plan(
        self, plan: Plan, code: Exit, *, recorded: bool = False, audit: AuditPart | None = None
    ) -> str:
        rows = _rows(plan)
        worst = _worst(plan, rows, code)
        lines = [*_radius(plan), *_basis(plan, recorded=recorded), *_id(plan)]
        head = _Head(worst, f"jtr plan: {_title(plan, rows, worst)}", lines)
        return _document(plan, head, rows, code, audit)

    def already(self, plan: Plan, code: Exit, *, at: datetime | None = None) -> str:
        rows = _rows(plan)
        worst = _worst(plan, rows, code)
        head = _Head(worst, f"jtr apply: already applied{_when(at)}", [counts_text(plan)])
        return _document(plan, head, rows, code)

    def refused(self, plan: Plan, code: Exit, *, at: datetime | None = None) -> str:
        rows = _rows(plan)
        worst = min((Level.BLOCKED, _worst(plan, rows, code)), key=WORST_FIRST.index)
        lines = [
            "Nothing was done: this plan is not the one that was expected. Review it anew.",
            *_radius(plan),
            *_id(plan),
        ]
        head = _Head(worst, f"jtr apply: refused{_when(at)}", lines)
        return _document(plan, head, rows, code)

    def done(
        self, plan: Plan, reports: Sequence[Report], code: Exit, *, at: datetime | None = None
    ) -> str:
        rows = _rows(plan, reports)
        worst = _worst(plan, rows, code)
        title = f"jtr apply: {_became(reports, worst)}{_when(at)}"
        servers = _levels(plan, rows)
        told = [f"{counted(len(servers), 'server')}: {tally(servers)}.", outcomes_text(reports)]
        if plan.actions:
            told.append(f"Plan `{plan.id}`")
        return _document(plan, _Head(worst, title, told), rows, code)


# ── the verdict ──────────────────────────────────────────────────────────────────────────────


def _rows(plan: Plan, reports: Iterable[Report] = ()) -> list[_Row]:
    """Return the servers, the worst first and then by name."""
    by_name = {report.plan.server: report for report in reports}
    rows = [
        _Row(server, level(server, report), report)
        for server in plan
        for report in (by_name.get(server.server),)
    ]
    return sorted(rows, key=lambda row: (WORST_FIRST.index(row.level), row.server.server))


def _levels(plan: Plan, rows: Iterable[_Row]) -> list[Level]:
    return [*(Level.NOT_VISITED for _ in plan.not_visited), *(row.level for row in rows)]


def _worst(plan: Plan, rows: Iterable[_Row], code: Exit) -> Level:
    """Return the worst of all servers; a command that ends badly is no good news in any case."""
    found = worst_of(_levels(plan, rows))
    if found in CALM and code not in (Exit.DONE, Exit.CHANGES):
        return Level.BLOCKED if code is Exit.BLOCKED else Level.FAILED
    return found


def _title(plan: Plan, rows: Sequence[_Row], worst: Level) -> str:
    levels = _levels(plan, rows)
    if not levels:
        return "no server was compared"
    if set(levels) == {Level.NOTHING} and worst is Level.NOTHING:
        return f"nothing to do on {counted(len(levels), 'server')}"
    return f"{counted(len(levels), 'server')}: {tally(levels)}"


def _became(reports: Sequence[Report], worst: Level) -> str:
    results = {outcome.result for report in reports for outcome in report.outcomes}
    if worst in (Level.HARM, Level.IN_DOUBT):
        return worst.words
    some = bool(results & {Result.DONE, Result.NOT_VERIFIABLE})
    if worst in (Level.FAILED, Level.NOT_VISITED, Level.BLOCKED):
        if some:
            return f"applied in part, {worst.words} in part"
        return "refused, nothing was done" if worst is Level.BLOCKED else worst.words
    return "applied" if some else "nothing was done"


def _when(at: datetime | None) -> str:
    return f", {spelled(at.replace(microsecond=0))}" if at is not None else ""


def _radius(plan: Plan) -> Iterator[str]:
    """Yield what happens to trading: counts, and the robots that stop."""
    yield counts_text(plan)
    yield radius_text(plan)
    halted = [f"{code(server.server)} ({_halted(server)})" for server in plan if stops(server)]
    if halted:
        more = f" and {len(halted) - _NAMES} more servers" if len(halted) > _NAMES else ""
        yield f"**Robots stop** on {', '.join(halted[:_NAMES])}{more}."


def _halted(server: ServerPlan) -> str:
    """Return who stops; nobody knows yet where nothing runs now, or others have robots as well."""
    return codes(_stopping(server), _NAMES) or "whatever runs there"


def _stopping(server: ServerPlan) -> list[str]:
    return list(dict.fromkeys(robot.name for stop in stops(server) for robot in stop.robots))


def _id(plan: Plan) -> Iterator[str]:
    if any(map(not_compared, plan)):
        yield f"Plan id `{plan.id}`; it may be another one once everything is compared."
    elif plan.actions or any(server.new_recipient for server in plan):
        yield f"Apply exactly this: `jtr apply --expect {plan.id}`"


def _basis(plan: Plan, *, recorded: bool) -> Iterator[str]:
    ages = [server.age for server in plan if server.age is not None]
    if recorded:
        oldest = f"; the oldest observation is {age_text(max(ages))} old" if ages else ""
        yield f"No server was contacted: compared with what the ledger last saw{oldest}."
    unseen = sum(map(not_compared, plan))
    if unseen:
        yield f"**{unseen} not compared: more may be written than is counted here.**"
    if plan.skipped:
        yield f"{counted(plan.skipped, 'document')} of another apiVersion skipped."


# ── the document ─────────────────────────────────────────────────────────────────────────────


def _document(
    plan: Plan, head: _Head, rows: Sequence[_Row], code_: Exit, audit: AuditPart | None = None
) -> str:
    parts = [f"{MARKER}\n### {head.level.sign} {head.title}\n"]
    parts.append("".join(f"\n{line}\n" for line in head.lines))
    if code_ is not Exit.DONE:
        parts.append(f"\nExit code {int(code_)}.\n")
    parts.extend(_new_recipients(rows))
    parts.extend(_table(plan, rows))
    if audit is not None:
        parts.extend(_audit(audit))
    room = LIMIT - _SPARE - sum(map(len, parts))
    parts.append(_details(plan, rows, room))
    return "".join(parts)


def _audit(audit: AuditPart) -> Iterator[str]:
    if audit.line:
        yield f"\n{audit.line}\n"
    if audit.text:
        yield "\n" + _block("What the exchanges say of the keys", audit.text, _AUDIT_ROOM)


def _new_recipients(rows: Sequence[_Row]) -> Iterator[str]:
    news = [(row.server.server, one) for row in rows for one in row.server.new_recipient]
    if not news:
        return
    yield "\n**New recipients** get secrets or a login that they never got:\n\n"
    items = (f"- {code(name)} {code(recipient_text(one), 600)}\n" for name, one in news)
    taken = fitting(items, _RECIPIENTS_ROOM)
    yield from taken
    if left := len(news) - len(taken):
        yield f"- **and {left} more that are not listed here**\n"


def _table(plan: Plan, rows: Sequence[_Row]) -> Iterator[str]:
    """Yield a row for each server of which something is to be said, the worst first."""
    told: list[tuple[Level, str | _Row]] = [(Level.NOT_VISITED, name) for name in plan.not_visited]
    told.extend((row.level, row) for row in rows if row.level is not Level.NOTHING)
    told.sort(key=lambda one: WORST_FIRST.index(one[0]))
    if not told:
        return
    yield "\n| | server | what happens | robots |\n|---|---|---|---|\n"
    taken = fitting((_cells(row) for _, row in told), _TABLE_ROOM)
    yield from taken
    if left := len(told) - len(taken):
        rest = tally(one for one, _ in told[len(taken) :])
        yield f"\n**{counted(left, 'more server')} not in this table: {rest}.**\n"


def _cells(row: _Row | str) -> str:
    """Return one row; a server that was not visited is a name with the reason."""
    if isinstance(row, str):
        away = Level.NOT_VISITED
        return f"| {away.sign} {away.words} | {code(row, 200)} | | |\n"
    does = "; ".join(_happens(row.server, row.report))
    robots = "; ".join(_robots(row))
    name = code(row.server.server)
    return f"| {row.level.sign} {row.level.words} | {name} | {does} | {robots} |\n"


def _happens(server: ServerPlan, report: Report | None) -> Iterator[str]:
    """Yield what a server's row says, what keeps it from being done first."""
    if report is not None:
        yield from _results(report)
    yield from _kept_from(server, report)
    for status in (Status.FAILED, Status.BLOCKED):
        lines = [line for line in server.lines if line.status is status]
        if lines:
            first = f"{lines[0].exchange}: {lines[0].why}"
            yield f"{status} {code(first, 160)}{_more(lines)}"
    for standing in _LOUD:
        found = [line.what for line in server.disruptions if line.standing is standing]
        if found:
            yield f"{standing}: {codes(found, _NAMES)}"
    if report is None:
        yield from _does(server)


def _kept_from(server: ServerPlan, report: Report | None) -> Iterator[str]:
    """Yield what stands against the whole server."""
    if server.failure is not None:
        yield code(server.failure.what, 160)
    if report is None and not server.lines and not_compared(server):
        yield "**not compared**: all that its document names may be written, restarted, rebooted"
    elif server.held:
        yield f"nothing is applied: {code(server.held, 160)}"
    if server.violations:
        what = server.violations[0].what.removeprefix("policy: ")
        yield f"policy: {code(what, 160)}{_more(server.violations)}"


_LOUD: Final = (Standing.IN_DOUBT, Standing.BLOCKED, Standing.EXPIRED, Standing.NOT_DONE)


def _more(found: Sequence[object]) -> str:
    return f" and {len(found) - 1} more" if len(found) > 1 else ""


def _does(server: ServerPlan) -> Iterator[str]:
    actions = server.actions
    writes = [one.exchange for one in actions if isinstance(one, WriteExchange)]
    deletes = [one.exchange for one in actions if isinstance(one, DeleteExchange)]
    if writes:
        yield f"writes {codes(writes, _NAMES)}"
    if deletes:
        yield f"**deletes** {codes(deletes, _NAMES)}"
    if any(isinstance(one, InvalidateCache) for one in actions):
        yield "empties the cache"
    for stop in stops(server):
        when = "" if stop.standing is Standing.DUE else f" ({stop.standing})"
        yield f"{code(stop.what)}{when}"
    for words, status in (
        ("left alone", Status.LEFT_ALONE),
        ("not compared", Status.NOT_COMPARED),
        ("stale", Status.STALE),
    ):
        found = [line.exchange for line in server.lines if line.status is status]
        if found:
            yield f"{words}: {codes(found, _NAMES)}"
    if server.debts:
        yield f"{len(server.debts)} restarts or reboots owed"


def _results(report: Report) -> Iterator[str]:
    for result in Result:
        number = sum(outcome.result is result for outcome in report.outcomes)
        if number:
            yield f"{number} {result}"
    if report.failure is not None and report.plan.failure is None:
        yield code(report.failure.what, 160)


def _robots(row: _Row) -> Iterator[str]:
    server, report = row.server, row.report
    if report is not None:
        stopped = [robot.name for one in report.outcomes for robot in one.stopped]
        if stopped:
            yield f"**stopped meanwhile:** {codes(stopped, _NAMES)}"
        return
    if stops(server):
        yield f"**stop:** {_halted(server)}"
    names = _stopping(server)
    keep = [robot.name for robot in keeping(server) if robot.name not in names]
    if keep:
        yield f"keep the old key, or none: {codes(keep, _NAMES)}"
    resumed = [one for one in server.actions if isinstance(one, ResumeRobots)]
    started = [robot.name for one in resumed for robot in one.robots]
    if started:
        yield f"started again: {codes(started, _NAMES)}"


# ── the details ──────────────────────────────────────────────────────────────────────────────


def _details(plan: Plan, rows: Sequence[_Row], room: int) -> str:
    """Return every server's own lines, the worst first, as far as there is room."""
    loud = [row for row in rows if row.level is not Level.NOTHING]
    quiet = [row for row in rows if row.level is Level.NOTHING]
    sections = bool(plan.not_visited) + len(loud) + bool(quiet)
    parts: list[str] = []
    for title, text in _blocks(plan, loud, quiet):
        block = "\n" + _block(title, text, room - _NOT_ENOUGH)
        if len(block) > room or room < 2 * _NOT_ENOUGH:
            break
        room -= len(block)
        parts.append(block)
    if left := sections - len(parts):
        parts.append(
            f"\n**{left} of {counted(sections, 'section')} had no room here**; "
            "`-o text` and `-o json` have all.\n"
        )
    return "".join(parts)


def _blocks(plan: Plan, loud: Sequence[_Row], quiet: Sequence[_Row]) -> Iterator[tuple[str, str]]:
    """Yield the title of each section, as HTML, and its lines."""
    if plan.not_visited:
        text = "\n".join(f"! not visited: {plain(name, 400)}" for name in plan.not_visited)
        yield f"{Level.NOT_VISITED.sign} {len(plan.not_visited)} not visited", text
    for row in loud:
        title = f"{row.level.sign} {html_code(row.server.server)} {row.level.words}"
        text = server_text(row.server)
        if row.report is not None and (row.report.outcomes or row.report.failure):
            text = f"{report_text([row.report])}\nThe plan was:\n{text}"
        yield title, text
    if quiet:
        title = f"{Level.NOTHING.sign} {counted(len(quiet), 'server')} with nothing to do"
        taken = fitting((f"{server_text(row.server)}\n" for row in quiet), LIMIT)
        left = len(quiet) - len(taken)
        yield title, "".join(taken) + (f"... and {counted(left, 'more server')}" if left else "")


def _block(title: str, text: str, room: int) -> str:
    inner = fenced_within(folded(text, _FENCE_COLUMNS), room)
    return collapsed(title, inner if inner is not None else "Too long to be shown here.")


RENDERER: Final = PlanMarkdown()
