"""
A server's system log for people and programs: which entries, and how each one is written.

Pure.  The text is a server's, so every character of it passes `plain` or JSON's escapes.
"""

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

from reconciler.drivers.jt_trader.responses import ALARM
from reconciler.model.observed import LogEntry
from reconciler.render.escape import plain

LEVELS: Final = ("debug", "info", "warn", "error")

_MESSAGE: Final = 4_000  # characters shown of a message or of another key
_WORD: Final = 100
_LATEST: Final = 253_402_300_799_999  # ms; the end of the year 9999
_NAMED: Final = 5  # times that are named one by one


@dataclass(slots=True)
class Wanted:
    """
    Which entries are shown: those of *level* and worse, from *since* on (server's clock, ms).

    Works along one log: an entry without a time has that of the one before it.
    """

    level: str = "debug"
    since: int | None = None
    _last: int | None = field(default=None, init=False)

    def of(self, entries: Iterable[LogEntry]) -> Iterator[LogEntry]:
        for entry in entries:
            self._last = self._last if entry.time is None else entry.time
            late = self.since is None or (self._last is not None and self._last >= self.since)
            # A level that is none is like `info`, as for the server itself.
            level = entry.level if entry.level in LEVELS else "info"
            if late and LEVELS.index(level) >= LEVELS.index(self.level):
                yield entry


def news(before: Sequence[LogEntry], now: Sequence[LogEntry]) -> Sequence[LogEntry]:
    """
    Return what *now* has beyond *before*, which is an earlier answer or empty.

    A log only grows, until it is rotated: then it begins anew, perhaps with the end of the old one.
    Without anything in common all of it is new.
    """
    if tuple(before[: len(now)]) == tuple(now):
        return ()
    return now[_overlap(before, now) :]


def _overlap(before: Sequence[LogEntry], now: Sequence[LogEntry]) -> int:
    """
    Return with how many of its first entries *now* continues the end of *before*.

    By Knuth, Morris and Pratt: a server that writes one entry many times must not keep us busy.
    """
    back = [0] * (len(now) + 1)  # by length of a beginning: its longest beginning that is its end
    known = 0
    for place in range(1, len(now)):
        while known and now[place] != now[known]:
            known = back[known]
        known += now[place] == now[known]
        back[place + 1] = known
    known = 0
    for entry in before:
        if known == len(now):
            known = back[known]
        while known and entry != now[known]:
            known = back[known]
        known += entry == now[known]
    return known


def lines(entry: LogEntry, *, full: bool) -> Iterator[str]:
    """Yield an entry as lines for people: one, and with *full* one more for each other key."""
    level, origin = plain(entry.level, _WORD), plain(entry.origin, _WORD)
    yield f"{_time(entry) or '-':24}  {level:5}  {origin}  {plain(entry.message, _MESSAGE)}"
    if full:
        for key, value in entry.rest.items():
            yield f"    {plain(key, _WORD)}: {plain(_json(value), _MESSAGE)}"


def document(entry: LogEntry) -> dict[str, Any]:
    """Return an entry as JSON-able data, without its other keys."""
    return {
        "time": _time(entry) or None,
        "level": entry.level,
        "class": entry.origin,
        "message": entry.message,
    }


def row(entry: LogEntry, *, full: bool) -> str:
    return _json(document(entry) | ({"rest": dict(entry.rest)} if full else {}))


def exposed(entries: Iterable[LogEntry]) -> str:
    """Say what to do about entries that may hold a rejected key; empty when there is none."""
    found = [entry for entry in entries if entry.origin == ALARM]
    if not found:
        return ""
    times = list(dict.fromkeys(_time(entry) or "an unknown time" for entry in found))
    more = f" and {len(times) - _NAMED} more" if len(times) > _NAMED else ""
    some = "1 entry" if len(found) == 1 else f"{len(found)} entries"
    return (
        f"the log holds {some} that may contain a rejected key in plain text, readable by anybody"
        " who reaches the port (a reboot leaves one, too): rotate the keys that were written around"
        f" {', '.join(times[:_NAMED])}{more}, see docs/security.md"
    )


def _time(entry: LogEntry) -> str:
    if entry.time is None or entry.time > _LATEST:
        return ""
    moment = datetime.fromtimestamp(entry.time / 1000, UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _json(value: object) -> str:
    try:
        text = json.dumps(value, ensure_ascii=True)
    except RecursionError:
        return json.dumps("(nested too deeply)")
    return text.replace("\x7f", "\\u007f")  # the one control character that JSON leaves as it is
