"""
What a running controller serves as its status, as text for people.  Pure.

The document came over a network: whatever is missing or of another kind is left out, and every
text in it passes `plain`.
"""

from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from typing import Any, Final

from reconciler.errors import Exit, worst
from reconciler.model.observed import Robot
from reconciler.model.recorded import Debt, Owed
from reconciler.model.target import Target
from reconciler.model.wording import counted
from reconciler.render.escape import plain
from reconciler.render.phrases import (
    INDENT,
    age_text,
    debt_text,
    robot_names,
    running_line,
    server_line,
)

_LONG: Final = 600
_BY_ITSELF: Final = ("healthy", "progressing", "suspended")  # nobody has to do anything
_IN_ORDER: Final = "ok"  # the light of a key of which everything was verified

Row = Mapping[str, Any]


def served_servers(document: Row) -> list[Row]:
    return [row for row in _list(document, "servers") if isinstance(row, dict)]


def served_code(servers: Iterable[Row]) -> Exit:
    """Return what a status of these servers ends with: 7 in doubt, 4 while robots are owed."""
    return worst(
        Exit.IN_DOUBT
        if _number(row, "requestsInDoubt")
        else Exit.BLOCKED
        if _list(row, "robotsOwed")
        else Exit.DONE
        for row in servers
    )


def controller_rows(document: Row, url: str) -> Iterator[str]:
    found = document.get("controller")
    status: Row = found if isinstance(found, dict) else {}
    does = "acts" if status.get("acting") is True else "does not act"
    since = _since(status.get("startedAt"), document)
    began = f", started {since} ago" if since else ""
    revision = _text(status, "revision")
    force = f", documents {revision[:12]}" if revision else ""
    yield f"{_text(status, 'label') or 'controller'} at {url}: {does}{began}{force}"
    for key, what in (
        ("waiting", "it waits: "),
        ("rival", "another controller acts: "),
        ("stuck", ""),
        ("documents", "the newest documents are not in force: "),
        ("secrets", "Vault: "),
        ("ledger", "ledger: "),
        ("state", "its own state file: "),
        ("clock", "its own clock: "),
    ):
        if text := _text(status, key):
            since = _since(status.get("documentsSince"), document) if key == "documents" else ""
            yield f"  ! {what}{text}{f' (for {since})' if since else ''}"
    if status.get("stopping") is True:
        yield "  ! it is stopping"
    for brake in _list(status, "brakes"):
        if isinstance(brake, dict):
            over = _text(brake, "over") or _text(brake, "version")  # of an older controller
            whole = brake.get("wholeVersion", True) is True
            subject = f"JT-Trader {over}" if whole else over
            yield f"  ! the brake is on for {subject}: {_text(brake, 'why')}"
            yield f"{INDENT}`jtr ledger release-brake {over} --because TEXT` after you looked"


def server_rows(row: Row, document: Row) -> Iterator[str]:
    """Yield what the controller says of one server, without its exchanges."""
    name = _text(row, "server")
    target = Target(_text(row, "url"), _text(row, "account"))
    yield server_line(name, target, _text(row, "version"), _text(row, "owner"))
    mode = "" if _text(row, "mode") != "observe" else " (observed only)"
    reason = _text(row, "reason")
    said = f": {reason}" if reason else ""
    yield f"  {_text(row, 'sync')}, {_text(row, 'health')}{mode}{said}"
    yield f"  {_times(row, document)}"
    yield from _standing(row, name)
    yield from _open(row, name)
    for debt in debts_of(row):
        age = _since(debt.since, document)
        yield f"  owed{f' for {age}' if age else ''}: {debt_text(debt)}"
    yield running_line(_robots(row, "robots"))


def needs_rows(row: Row) -> Iterator[str]:
    """
    Yield what somebody may have to think of, each line with its sign, without what is owed.

    Nothing of a server that is as it should be.
    """
    name = _text(row, "server")
    sync, health, reason = _text(row, "sync"), _text(row, "health"), _text(row, "reason")
    failures = _number(row, "failures")
    parts = _differs(row)
    worse = health not in _BY_ITSELF
    if worse or reason or failures or (sync != "synced" and not parts):
        said = f": {reason}" if reason else ""
        more = f", failed {counted(failures, 'time')} in a row" if failures else ""
        yield f"  {'!' if worse else '~'} {sync}, {health}{said}{more}"
    if parts:
        yield f"  {'!' if _number(row, 'blocked') else '~'} {parts}"
    yield from _held(row, name)
    yield from _open(row, name)


def _times(row: Row, document: Row) -> str:
    seen, success = (_since(row.get(key), document) for key in ("observedAt", "lastSuccess"))
    parts = [
        f"seen {seen} ago" if seen else "never seen",
        f"last success {success} ago" if success else "no success yet",
    ]
    if coming := _until(row, "nextPass", document):
        parts.append(f"next pass in {coming}")
    if failures := _number(row, "failures"):
        parts.append(f"failed {counted(failures, 'time')} in a row")
    parts.append("connected" if row.get("connected") is True else "not connected")
    return ", ".join(parts)


def _standing(row: Row, name: str) -> Iterator[str]:
    """Yield what differs, and what keeps it from being changed."""
    if parts := _differs(row):
        yield f"  {parts}"
    yield from _held(row, name)
    window = row.get("window")
    if isinstance(window, dict):
        state = "open" if window.get("open") is True else "closed"
        why = _text(window, "why")
        yield f"  window {state}{f': {why}' if why else ''}"


def _differs(row: Row) -> str:
    changes, drift = _number(row, "changes"), _number(row, "drift")
    blocked = _number(row, "blocked")
    parts = [counted(changes, "change")] if changes else []
    parts += [f"drift on {counted(drift, 'exchange')}"] if drift else []
    parts += [f"{blocked} blocked until a person decides"] if blocked else []
    return f"{', '.join(parts)}; see: jtr plan" if parts else ""


def _held(row: Row, name: str) -> Iterator[str]:
    if contested := [plain(code) for code in _list(row, "contested") if isinstance(code, str)]:
        yield f"  ! contested, somebody keeps changing it back: {', '.join(contested)}"
        yield f"{INDENT}`jtr apply --server {name} --correct-drift` corrects it once more"
    suspended = row.get("suspended")
    if isinstance(suspended, dict):
        until = f" until {_text(suspended, 'until')}" if suspended.get("until") else ""
        by = _text(suspended, "by")
        yield f"  suspended by {by}{until}: {_text(suspended, 'reason')}"
    for text in _list(row, "deferred"):
        yield f"  later: {plain(str(text), _LONG)}"


def _open(row: Row, name: str) -> Iterator[str]:
    if _number(row, "requestsInDoubt"):
        yield "  ? a request is in doubt; see: jtr request list"
    if owed := _robots(row, "robotsOwed"):
        yield f"  ! robots owed a start: {robot_names(owed)}"
        yield f"{INDENT}jtr request resume {name}"
    if stopped := _robots(row, "robotsStoppedUnasked"):
        yield f"  ! robots stopped without our asking: {robot_names(stopped)}"
        yield f"{INDENT}look at the server; nobody starts them again"
    yield from _keys(row)


def _keys(row: Row) -> Iterator[str]:
    """Yield what the audit says of keys that are not in order."""
    for key in _list(row, "keys"):
        if not isinstance(key, dict) or key.get("light") == _IN_ORDER:
            continue
        found = [one for one in _list(key, "findings") if isinstance(one, dict)]
        worth = [
            one for one in found if _text(one, "severity") != "info" and not one.get("accepted")
        ]
        sign = "!" if key.get("light") == "blocked" else "~"
        codes = ", ".join(_text(one, "code") for one in worth) or "could not be verified"
        yield f"  {sign} key of {_text(key, 'exchange')}: {codes}; see: jtr audit"


# ── below ────────────────────────────────────────────────────────────────────────────────────


def _text(row: Row, key: str) -> str:
    value = row.get(key)
    return plain(value, _LONG) if isinstance(value, str) else ""


def _number(row: Row, key: str) -> int:
    value = row.get(key)
    return int(value) if isinstance(value, int) else 0


def _list(row: Row, key: str) -> list[Any]:
    value = row.get(key)
    return value if isinstance(value, list) else []


def _robots(row: Row, key: str) -> list[Robot]:
    return [
        Robot(
            _number(found, "id"),
            str(found.get("name", "")),
            str(found.get("exchange", "")),
            found.get("running") is True,
        )
        for found in _list(row, key)
        if isinstance(found, dict)
    ]


def debts_of(row: Row) -> Iterator[Debt]:
    for found in _list(row, "debts"):
        if isinstance(found, dict) and found.get("owed") in set(Owed):
            yield Debt(
                Owed(found["owed"]),
                _text(found, "exchange"),
                _text(found, "since"),
                None,
                _number(found, "robotId"),
                str(found.get("robotName", "")),
            )


def _moment(text: object) -> datetime | None:
    try:
        moment = datetime.fromisoformat(text) if isinstance(text, str) else None
    except ValueError:
        return None
    return moment if moment is not None and moment.tzinfo is not None else None


def _seconds(text: object, document: Row) -> float | None:
    """Return how long ago that was by the controller's clock, when it answered."""
    moment, now = _moment(text), _moment(document.get("at"))
    return None if moment is None or now is None else (now - moment).total_seconds()


def _since(text: object, document: Row) -> str:
    seconds = _seconds(text, document)
    return "" if seconds is None else age_text(seconds)


def _until(row: Row, key: str, document: Row) -> str:
    seconds = _seconds(row.get(key), document)
    return "" if seconds is None else age_text(-seconds)
