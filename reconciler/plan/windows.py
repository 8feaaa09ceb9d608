"""
Whether a server's windows allow disruptive actions at an instant, and when they will.  Pure.

A window begins at each match of its cron schedule in its zone, and lasts for its duration of real
elapsed time.  What a schedule means where clocks change is what Debian's cron does, as `cronsim`
computes it.  With minute and hour written as numbers, a time that clocks skip begins right after
the gap, and one that comes twice begins once, the first time.  With `*` at the beginning of minute
or hour the schedule follows the time that passes: nothing in the gap, and the hour that comes
twice counts twice.  A day matches when day of month and weekday both do, if one of the two begins
with `*`; else when either does.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from reconciler.model.desired import Window, WindowKind
from reconciler.model.timestamps import spelled

HORIZON: Final = timedelta(days=366)
SOON: Final = timedelta(days=8)  # how far the end of an open time is looked for
MOST_STEPS: Final = 2_000  # each at least to the next begin or end: years, for any sane windows
# How far to look back for the last begin: dense schedules are met soon, sparse ones have few.
LOOKBACKS: Final = tuple(timedelta(minutes=m) for m in (10, 60, 600, 3_600))


@dataclass(frozen=True, slots=True)
class Opening:
    """
    Whether disruptive actions are allowed at an instant.

    `why` says what stands against it, and when they will be; empty while open.  `until` is when
    that ends: an open time closes (None: not within a week), a denied one is over.  `opens` is the
    next instant at which they are allowed, while closed (None: not within a year).
    """

    open: bool
    why: str = ""
    until: datetime | None = None
    opens: datetime | None = None


def standing(windows: Sequence[Window], now: datetime) -> Opening:
    """
    Say whether *windows* allow disruptive actions at *now*, which has a zone.

    A deny window wins.  With an allow window only the time inside of one is open; without any, all
    time that is not denied.  A zone that this machine does not know leaves everything closed.
    """
    try:
        fences = [_Fence(window) for window in windows]
    except (LookupError, ValueError, OSError):  # not there, not a name, or not readable
        return Opening(open=False, why="this machine does not know the time zone of its windows")
    return _Windows(fences).at(now.astimezone(UTC))


class _Fence:
    """One window, ready to be asked about instants in UTC."""

    def __init__(self, window: Window) -> None:
        # Imported here: most documents have no windows, and every command would pay.
        from zoneinfo import ZoneInfo  # noqa: PLC0415

        self.window = window
        self._zone = ZoneInfo(window.zone)

    def _begins(self, after: datetime) -> Iterator[datetime]:
        """Yield every begin later than *after*, in order, and perhaps a few just before it."""
        from cronsim import CronSim, CronSimError  # noqa: PLC0415  - as above

        try:
            found = CronSim(self.window.schedule, after.astimezone(self._zone))
        except CronSimError:
            return  # a day that no month has; its form was checked when the document was read
        for begin in found:
            yield begin.astimezone(UTC)

    def end(self, at: datetime) -> datetime | None:
        """Return the end of the last begin that covers *at*; None where none does."""
        length = self.window.duration
        for back in (*(back for back in LOOKBACKS if back < length), length):
            last = None
            for begin in self._begins(at - back):
                if begin > at:
                    break
                last = begin
            if last is not None and last + length > at:
                return last + length
        return None

    def begin(self, after: datetime, before: datetime) -> datetime | None:
        """Return the first begin between two instants."""
        for begin in self._begins(after):
            if begin >= before:
                return None
            if begin > after:
                return begin
        return None


class _Windows:
    def __init__(self, fences: Sequence[_Fence]) -> None:
        self._allow = [fence for fence in fences if fence.window.kind is WindowKind.ALLOW]
        self._deny = [fence for fence in fences if fence.window.kind is WindowKind.DENY]

    def at(self, now: datetime) -> Opening:
        opens, tried, through = self._search(now)
        if opens == now:
            return Opening(open=True, until=self._closes(now))
        denied = next((fence for fence in self._deny if fence.end(now)), None)
        until = self._over(now) if denied else opens
        if denied:
            why = f"inside a deny window ({denied.window})"
            why += f" until {spelled(until)}" if until else ""
        elif through and len(self._allow) > 1:
            why = f"outside its windows (next: {through.window})"
        elif through or len(self._allow) == 1:
            why = f"outside its window ({(through or self._allow[0]).window})"
        else:
            why = f"outside its {len(self._allow)} allow windows"
        if opens is None:
            never = tried >= now + HORIZON
            why += "; no opening " + ("within a year" if never else f"before {spelled(tried)}")
        elif not denied or opens != until:
            why += f"; opens {spelled(opens)}"
        return Opening(open=False, why=why, until=until, opens=opens)

    def _search(self, now: datetime) -> tuple[datetime | None, datetime, _Fence | None]:
        """Return the first open instant from *now* on, how far was looked, and what opens it."""
        limit, at = now + HORIZON, now
        for _ in range(MOST_STEPS):
            if at >= limit:
                return None, limit, None
            if ends := _ends(self._deny, at):
                at = max(ends)
                continue
            allowing = next((fence for fence in self._allow if fence.end(at)), None)
            if allowing or not self._allow:
                return at, at, allowing
            begins = [begin for fence in self._allow if (begin := fence.begin(at, limit))]
            at = min(begins, default=limit)
        return None, at, None

    def _over(self, now: datetime) -> datetime | None:
        """Return when what is denied *now* is not any more."""
        at = now
        for _ in range(MOST_STEPS):
            ends = _ends(self._deny, at)
            if not ends or at >= now + HORIZON:
                break
            at = max(ends)
        return None if _ends(self._deny, at) else at

    def _closes(self, now: datetime) -> datetime | None:
        """Return when the open time around *now* ends."""
        limit = now + SOON
        denied = [begin for fence in self._deny if (begin := fence.begin(now, limit))]
        close, at = min(denied, default=limit), now
        if self._allow:
            for _ in range(MOST_STEPS):
                ends = _ends(self._allow, at)
                if not ends or at >= close:
                    break
                at = max(ends)
            else:
                return None
            close = min(at, close)
        return close if close < limit else None


def _ends(fences: Sequence[_Fence], at: datetime) -> list[datetime]:
    return [end for fence in fences if (end := fence.end(at))]
