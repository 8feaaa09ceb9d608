"""
What a ledger knows of its servers, as text for people and as JSON.
"""

import math
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any, Final

from msgspec import Struct

from reconciler.model.recorded import HeldBrake, Identity, Observation, Pause, Recorded
from reconciler.model.timestamps import spelled
from reconciler.plan.compare import Shown, is_ours
from reconciler.plan.consequences import open_debts
from reconciler.render.escape import plain
from reconciler.render.json_values import to_json
from reconciler.render.phrases import (
    age_text,
    debt_text,
    running_line,
    server_line,
    since_text,
)
from reconciler.render.requests import doubt_row, halt_rows, open_document

Known = Sequence[tuple[Identity, Recorded]]


def brake_rows(brakes: Sequence[HeldBrake]) -> Iterator[str]:
    for held in brakes:
        on = f" ({held.brake.server})" if held.harmed is None else ""
        yield f"! the brake is on for {held.subject}: {held.brake.why}{on}"
        yield f"      `jtr ledger release-brake {held.over} --because TEXT` after you looked"


def pause_rows(pauses: Sequence[Pause], rows: Known, now: datetime) -> Iterator[str]:
    names = {identity.target: identity.name for identity, _ in rows}
    for pause in pauses:
        if pause.until > now:
            name = names.get(pause.target) or pause.name or str(pause.target)
            until = spelled(pause.until)
            yield f"! {name} is paused by {plain(pause.by)} until {until}: {plain(pause.reason)}"


class Moment(Struct, frozen=True):
    """When a status is told, and how many seconds a sight of a server is believed."""

    now: datetime
    believed: float = math.inf

    def age(self, seen: Observation) -> float:
        return (self.now - datetime.fromisoformat(seen.at)).total_seconds()

    def stale(self, seen: Observation) -> bool:
        return self.age(seen) > self.believed


def ledger_rows(rows: Known, moment: Moment) -> Iterator[str]:
    if not rows:
        yield "The ledger knows no server yet; `jtr apply` makes them known."
    for identity, recorded in rows:
        yield from recorded_rows(identity, recorded, moment)


def recorded_rows(identity: Identity, recorded: Recorded, moment: Moment) -> Iterator[str]:
    yield server_line(identity.name, identity.target)
    if recorded.requests.open is not None:
        yield doubt_row(recorded.requests.open)
    if recorded.requests.halt is not None:
        yield from halt_rows(identity.name, recorded.requests.halt)
    seen = recorded.observation
    if seen is None:
        yield "  never seen"
        return
    ago = f"{age_text(moment.age(seen))} ago"
    yield f"  seen {ago} by {plain(seen.by)}, JT-Trader {plain(seen.version)}"
    if moment.stale(seen):
        yield f"  ? stale: so it was {ago}, and nobody looked since; jtr plan looks"
    yield from exchange_rows(seen, recorded, moment)
    yield running_line(seen.robots)
    for debt in open_debts(recorded, seen):
        yield f"  owed: {debt_text(debt)}"


CALM_STATES: Final = ("written", "found", "connected by somebody else")
"""How a state begins that needs nobody."""
DRIFTED: Final = "drifted"


def exchange_rows(
    seen: Observation, recorded: Recorded, moment: Moment | None = None
) -> Iterator[str]:
    for code, state in exchange_states(seen, recorded):
        since = ""
        if moment is not None and state.startswith(DRIFTED):
            since = since_text(seen.since.get(code, ""), moment.now)
        yield f"  {plain(code)}: {state}{f'; {since}' if since else ''}"


def exchange_states(seen: Observation, recorded: Recorded) -> Iterator[tuple[str, str]]:
    """Yield how each exchange stood that holds something, or did."""
    for code in sorted(seen.masks.keys() | recorded.exchanges.keys()):
        shown, record = Shown.of(seen, code), recorded.exchanges.get(code)
        if record is not None and is_ours(record):
            state = _state(shown, recorded, code)
        elif shown.present:
            found = record is not None and record.found is not None
            state = "found, looks as desired" if found else "connected by somebody else"
        else:
            continue
        yield code, state


def _state(shown: Shown, recorded: Recorded, code: str) -> str:
    record = recorded.exchanges[code]
    if record.intent is not None:
        return "a write did not finish; `jtr apply` writes it again"
    if record.written is None:
        return "unknown"
    origin = ", ".join(sorted({f"{r.at}@{r.version}" for r in record.written.sources.values()}))
    if shown.is_all(record.written):
        return f"written from {origin}"
    if record.written.key_id != shown.key_id:
        return f"written from {origin}, under another fingerprint key"
    return f"{DRIFTED}: written from {origin}, the server shows something else"


def ledger_document(
    brakes: Sequence[HeldBrake], pauses: Sequence[Pause], rows: Known, moment: Moment
) -> dict[str, Any]:
    return {
        "formatVersion": 1,
        "brakes": [brake_document(held) for held in brakes],
        "pauses": [_pause(pause) for pause in pauses if pause.until > moment.now],
        "servers": [_server(identity, recorded, moment) for identity, recorded in rows],
    }


def brake_document(held: HeldBrake) -> dict[str, Any]:
    """Return a brake as it stands in every document; `over` is what to release."""
    brake = held.brake
    return {
        "over": held.over,
        "wholeVersion": held.harmed is None,
        "version": brake.version,
        "server": brake.server,
        "why": brake.why,
    }


def _pause(pause: Pause) -> dict[str, Any]:
    return {
        "url": pause.target.url,
        "account": pause.target.account,
        "by": pause.by,
        "reason": pause.reason,
        "at": pause.at,
        "until": spelled(pause.until),
    }


def _server(identity: Identity, recorded: Recorded, moment: Moment) -> dict[str, Any]:
    seen = recorded.observation
    document: dict[str, Any] = {
        "server": identity.name,
        "url": identity.target.url,
        "account": identity.target.account,
        "observedAt": None if seen is None else seen.at,
        "ageSeconds": None if seen is None else max(0.0, moment.age(seen)),
        "stale": seen is not None and moment.stale(seen),
        "inDoubt": open_document(recorded.requests.open),
        "robotsOwed": to_json(recorded.requests.halt),
    }
    if seen is None:
        return document
    return document | {
        "version": seen.version,
        "exchanges": {
            code: sorted({f"{r.at}@{r.version}" for r in record.written.sources.values()})
            for code, record in sorted(recorded.exchanges.items())
            if record.written is not None
        },
        "robots": to_json(seen.robots),
        "debts": to_json(open_debts(recorded, seen)),
    }
