"""
What an audit found, for people on a terminal, for programs and for pull requests.  Pure.

Holds names, dates, addresses and words; never a part of a key, its fingerprint or its mask.
"""

from collections.abc import Collection, Iterable, Iterator, Sequence
from datetime import datetime
from typing import Final

from reconciler.errors import Exit
from reconciler.model.key_audits import Audited, Light
from reconciler.model.key_facts import Access, Answered, IpRule, KeyFacts, Status
from reconciler.model.key_policy import KeyFinding
from reconciler.model.wording import counted
from reconciler.render.audit_explain import explanation
from reconciler.render.escape import plain
from reconciler.render.json_values import Document, shown, to_json
from reconciler.render.phrases import INDENT, age_text, below

FORMAT_VERSION: Final = 1
_SIGN: Final = {Light.OK: "✓", Light.ATTENTION: "~", Light.BLOCKED: "!"}
_LAMP: Final = {Light.OK: "🟢", Light.ATTENTION: "🟠", Light.BLOCKED: "🔴"}
_HEAD: Final = ("key", "result", "may", "bound to", "expires", "asked")
_NOT_TOLD: Final = "not told"
_FRESH: Final = 60.0  # seconds
_RECALLED: Final = 30  # keys in a comment

# ── text ─────────────────────────────────────────────────────────────────────────────────────


def audit_text(
    rows: Sequence[Audited], now: datetime, notes: Iterable[str] = (), *, explain: bool = False
) -> str:
    """
    Return a table with a line for each key, what was found below it, and a summary.

    With *explain* the evidence for it stands below as well.
    """
    return "\n".join([*_table(rows, now, explain=explain), *notes, summary(rows)]) + "\n"


def _table(rows: Sequence[Audited], now: datetime, *, explain: bool = False) -> list[str]:
    if not rows:
        return []
    cells = [_HEAD, *(_cells(row, now) for row in rows)]
    widths = [max(len(line[column]) for line in cells) for column in range(len(_HEAD))]
    signs = [" ", *(_SIGN[row.light] for row in rows)]
    lines = []
    for number, (sign, line) in enumerate(zip(signs, cells, strict=True)):
        padded = (cell.ljust(width) for cell, width in zip(line, widths, strict=True))
        lines.append(f"{sign} {'  '.join(padded)}".rstrip())
        if number:
            lines += _below(rows[number - 1])
            if explain:
                lines += (f"{INDENT}| {plain(one, 400)}" for one in explanation(rows[number - 1]))
    return lines


def recalled_text(rows: Sequence[Audited], concerned: Collection[str], now: datetime) -> str:
    """
    Return a table of the keys on *concerned* servers and of all that are unwell, the worst first.

    What there is no room for is counted; empty where nothing is to be told.
    """
    chosen = [row for row in rows if row.key.server in concerned or row.light is not Light.OK]
    chosen.sort(key=lambda row: (-_gravity(row), row.key))
    shown, rest = chosen[:_RECALLED], chosen[_RECALLED:]
    if not shown:
        return ""
    more = [f"and {counted(len(rest), 'more key')}: {_lights(rest)}"] if rest else []
    return "\n".join([*_table(shown, now), *more]) + "\n"


def _gravity(row: Audited) -> int:
    """Return how early somebody should see a key; one that was never asked about is no trouble."""
    if row.light is Light.ATTENTION and row.answered is None and row.failure is None:
        return 1
    return {Light.OK: 0, Light.ATTENTION: 2, Light.BLOCKED: 3}[row.light]


def recalled_line(rows: Sequence[Audited], *, known: bool, whole: bool) -> str:
    """Return in a line what is remembered of keys; not *whole*: some of it could not be read."""
    if not whole:
        return "Keys: what exchanges said of them could not be read; see the job's log."
    if not known:
        return (
            "Keys: no answer of an exchange is remembered; `jtr audit`, or a controller on the "
            "same ledger, asks."
        )
    return f"Keys, as exchanges answered last (nobody was asked now): {summary(rows)}."


def summary(rows: Sequence[Audited]) -> str:
    unread = sum(row.failure is not None for row in rows)
    more = f"; {counted(unread, 'key')} could not be read" if unread else ""
    return f"{counted(len(rows), 'key')}: {_lights(rows)}{more}"


def _lights(rows: Iterable[Audited]) -> str:
    lights = [row.light for row in rows]
    return ", ".join(f"{lights.count(light)} {light}" for light in Light)


def _cells(row: Audited, now: datetime) -> tuple[str, ...]:
    name = plain(str(row.key))
    if row.answered is None:
        return (name, str(row.light), "not asked", "", "", "")
    facts = row.answered.facts
    return (
        name,
        str(row.light),
        _may(row.answered),
        _NOT_TOLD if facts is None else _bound(facts.ip),
        _NOT_TOLD if facts is None else _end(facts),
        _asked(row.answered, now),
    )


def _below(row: Audited) -> Iterator[str]:
    if row.failure is not None:
        yield f"{INDENT}not read: {plain(row.failure.what, 400)}"
        yield from (f"  {line}" for line in below(row.failure.remedy))
    for finding in _ordered(row.findings):
        yield f"{INDENT}{_severity(finding)} {finding.code}: {plain(finding.what, 400)}"
        if finding.accepted:
            yield f"{INDENT}  accepted: {plain(finding.accepted, 400)}"
        else:
            yield from (f"  {line}" for line in below(finding.remedy))


def _ordered(findings: Iterable[KeyFinding]) -> list[KeyFinding]:
    return sorted(findings, key=lambda f: (-f.severity, bool(f.accepted), f.code))


def _severity(finding: KeyFinding) -> str:
    return finding.severity.name.lower()


def _may(answered: Answered) -> str:
    facts = answered.facts
    if facts is None:
        return "valid" if answered.status is Status.VALID else str(answered.status)
    if facts.grants is None:
        return _NOT_TOLD
    acts = {cap for grant in facts.grants if grant.access is Access.WRITE for cap in grant.caps}
    reads = {cap for grant in facts.grants for cap in grant.caps} - acts
    names = [*sorted(map(str, acts)), *(f"{cap} (read)" for cap in sorted(map(str, reads)))]
    return ", ".join(names) or "nothing"


def _bound(rule: IpRule) -> str:
    if rule.bound is None:
        return _NOT_TOLD
    if not rule.bound:
        return "nothing: any address"
    if not rule.networks:
        return "addresses that are not shown"
    return ", ".join(_network(str(network)) for network in rule.networks)


def _network(text: str) -> str:
    return text.removesuffix("/32" if ":" not in text else "/128")


def _end(facts: KeyFacts) -> str:
    if facts.expires_at is not None:
        return facts.expires_at.date().isoformat()
    return "never" if facts.never_expires else _NOT_TOLD


def _asked(answered: Answered, now: datetime) -> str:
    if answered.status in {Status.UNSUPPORTED, Status.MALFORMED}:
        return "never"
    age = (now - answered.at).total_seconds()
    when = "just now" if age < _FRESH else f"{age_text(age)} ago"
    return when if answered.egress in ("", "here") else f"{when} through {plain(answered.egress)}"


# ── Markdown ─────────────────────────────────────────────────────────────────────────────────


def audit_markdown(rows: Sequence[Audited], now: datetime, notes: Iterable[str] = ()) -> str:
    lines = ["### Audit of API keys", ""]
    if rows:
        lines += [
            "| result | key | may | bound to | expires | asked | findings |",
            "|---|---|---|---|---|---|---|",
        ]
    for row in rows:
        name, light, *cells = _cells(row, now)
        found = "<br>".join(_found(row)) or "none"
        shown = [f"{_LAMP[row.light]} {light}", name, *cells]
        lines.append(f"| {' | '.join(_cell(text) for text in shown)} | {found} |")
    return "\n".join([*lines, *([""] if rows else []), *notes, summary(rows)]) + "\n"


def _found(row: Audited) -> Iterator[str]:
    if row.failure is not None:
        yield _cell(f"not read: {row.failure.what}; {row.failure.remedy}")
    for finding in _ordered(row.findings):
        more = f" (accepted: {finding.accepted})" if finding.accepted else ""
        if finding.remedy and not more:
            more = f"; {finding.remedy}"
        yield f"**{_severity(finding)}** `{finding.code}`: {_cell(finding.what + more)}"


def _cell(text: str) -> str:
    """Return *text* so that it can neither end a cell nor be a link or a tag."""
    safe = plain(text, 600).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    for sign in "\\|`*_[]":
        safe = safe.replace(sign, f"\\{sign}")
    return safe


# ── JSON ─────────────────────────────────────────────────────────────────────────────────────


def audit_document(
    rows: Sequence[Audited], now: datetime, code: Exit, *, explain: bool = False
) -> Document:
    """
    Return everything for programs; *code* is what the command ends with.

    With *explain* each key has its evidence, in the words of the text.
    """
    lights = [row.light for row in rows]
    return {
        "formatVersion": FORMAT_VERSION,
        "at": now.isoformat(),
        "exitCode": int(code),
        "summary": {"keys": len(rows), **{str(light): lights.count(light) for light in Light}},
        "keys": [_row(row) | (_evidence(row) if explain else {}) for row in rows],
    }


def _row(row: Audited) -> Document:
    answered = row.answered
    return {
        "server": row.key.server,
        "exchange": row.key.exchange,
        "light": str(row.light),
        "status": None if answered is None else str(answered.status),
        "code": "" if answered is None else answered.code,
        "askedAt": None if answered is None else answered.at.isoformat(),
        "askedFrom": None if answered is None else answered.egress,
        "sources": list(row.sources),
        "facts": None if answered is None or answered.facts is None else _facts(answered.facts),
        "findings": to_json(_ordered(row.findings)),
        "failure": None if row.failure is None else shown(row.failure, "what remedy"),
    }


def _evidence(row: Audited) -> Document:
    requests = () if row.answered is None else row.answered.requests
    lines = [plain(one, 400) for one in explanation(row)]
    return {"evidence": {"requests": list(requests), "explanation": lines}}


def _facts(facts: KeyFacts) -> Document:
    document = shown(
        facts,
        "grants notKnowable=unproven bound=ip.bound addresses=ip.networks readOnly createdAt"
        " expiresAt neverExpires environment master traits",
    )
    for name, moment in (("createdAt", facts.created_at), ("expiresAt", facts.expires_at)):
        document[name] = None if moment is None else moment.isoformat()
    return document
