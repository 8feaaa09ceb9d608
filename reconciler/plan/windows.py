"""
Whether a server's windows allow disruptive actions at an instant, and when they will.  Pure.

A window begins at each match of its cron schedule in its zone (see `reconciler.plan.schedules`),
and lasts for its duration of real elapsed time.  A day matches when day of month and weekday both
do, if one of the two begins with `*`; else when either does.

A window begins at whole minutes only, so within a minute what it covers is the whole, nothing, or
the beginning: the rest of its duration.  Weeks of minutes are therefore judged at once, as numbers
with a bit for each, and that costs the same however many begins a schedule has.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Final

from msgspec import Struct

from reconciler.model.desired import Window, WindowKind
from reconciler.model.timestamps import spelled
from reconciler.plan.schedules import WEEK, Schedule, Zone, minute_of, moment_of

HORIZON: Final = timedelta(days=366)
SOON: Final = timedelta(days=8)  # how far the end of an open time is looked for
# Weeks of windows that one answer may look at, together: every pass asks, on the loop that holds
# all leases.  A year for seven windows, two months for the most that a document may have.
MOST_WEEKS: Final = 400
_MINUTE: Final = timedelta(minutes=1)
_AT_ONCE: Final = timedelta()
_ALL: Final = (1 << WEEK) - 1


class Opening(Struct, frozen=True):
    """
    Whether disruptive actions are allowed at an instant.

    `why` says what stands against it, and when they will be; empty while open.  `until` is when
    that ends: an open time closes (None: not within a week), a denied one is over.  `opens` is the
    next instant at which they are allowed, while closed (None: not within a year, or not found
    within the work that an answer may cost; `why` says which).
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
    if not windows:
        return Opening(open=True)
    try:
        zones = {name: Zone(name) for name in {window.zone for window in windows}}
    except (LookupError, ValueError, OSError):  # not there, not a name, or not readable
        return Opening(open=False, why="this machine does not know the time zone of its windows")
    return _Windows([_Fence(window, zones[window.zone]) for window in windows]).at(
        now.astimezone(UTC)
    )


def spelled_windows(windows: Sequence[Window]) -> tuple[str, ...]:
    """Return *windows* as words, in an order of their own: how a file orders them means nothing."""
    return tuple(sorted({str(window) for window in windows}))


class _Fence:
    """One window, and in which minutes it begins; `looked` counts the weeks that were asked for."""

    def __init__(self, window: Window, zone: Zone) -> None:
        self.window: Final = window
        self.looked = 0
        self.whole, self.rest = divmod(window.duration, _MINUTE)
        self._schedule: Final = Schedule(window.schedule, zone)
        self._known: dict[int, int] = {}

    def begins(self, number: int, reach: int) -> int:
        """Return the begins in a week and in *reach* weeks before it, whose bits come first."""
        found = 0
        for back in range(reach + 1):
            found |= self._begins(number - back) << (reach - back) * WEEK
        return found

    def covers(self, at: datetime) -> bool:
        minute, past = minute_of(at)
        before = minute - self.whole
        reach = minute // WEEK - before // WEEK
        begins = self.begins(minute // WEEK, reach) >> before % WEEK
        lasting = begins >> 1 & (1 << self.whole) - 1
        return bool(lasting or (begins & 1 and past < self.rest))

    def _begins(self, number: int) -> int:
        if number not in self._known:
            self.looked += 1
            self._known[number] = self._schedule.week(number)
        return self._known[number]


class _Kind:
    """All windows of a kind, and what they cover together."""

    def __init__(self, fences: Iterable[_Fence]) -> None:
        self.fences: Final = tuple(sorted(fences, key=lambda fence: -fence.whole))
        longest = max((fence.whole for fence in self.fences), default=0)
        self._reach: Final = -(-longest // WEEK)

    def week(self, number: int) -> tuple[int, dict[timedelta, int]]:
        """
        Return the minutes of a week that are covered wholly, and by rests of which length others.

        The longest windows last alone until the next ones would begin to, from then on together:
        so each minute that all of them last is gone through once, not for each of them.
        """
        whole, left = 0, 0
        rests: dict[timedelta, int] = {}
        here = self._reach * WEEK
        for fence in self.fences:
            begins = fence.begins(number, self._reach)
            if fence.rest:
                rests.setdefault(fence.rest, 0)
                rests[fence.rest] |= begins << fence.whole >> here & _ALL
            if fence.whole:
                whole = _spread(whole, left - fence.whole) | begins
                left = fence.whole
        return _spread(whole, left - 1) >> here & _ALL, rests


def _spread(minutes: int, more: int) -> int:
    """Return *minutes*, and *more* after each of them."""
    reached = 0
    while reached < more:
        step = min(reached + 1, more - reached)
        minutes |= minutes << step
        reached += step
    return minutes


class _Part(Struct, frozen=True):
    """From `past` on in each minute, to the next part: in which of a week it is allowed, denied."""

    past: timedelta
    allowed: int
    denied: int

    @property
    def open(self) -> int:
        return self.allowed & ~self.denied


class _Windows:
    def __init__(self, fences: Sequence[_Fence]) -> None:
        self._fences: Final = fences
        self._allow = [fence for fence in fences if fence.window.kind is WindowKind.ALLOW]
        self._deny = [fence for fence in fences if fence.window.kind is WindowKind.DENY]
        self._allowed, self._denied = _Kind(self._allow), _Kind(self._deny)
        # Within a minute nothing changes but at its beginning and where the rest of a window ends.
        self._pasts = sorted({_AT_ONCE, *(fence.rest for fence in fences)}, reverse=True)
        self._known: dict[int, list[_Part]] = {}

    def at(self, now: datetime) -> Opening:
        denied = next((fence for fence in self._deny if fence.covers(now)), None)
        allowed = not self._allow or any(fence.covers(now) for fence in self._allow)
        if allowed and not denied:
            closes, _ = self._first(now, now + SOON, lambda part: ~part.open)
            return Opening(open=True, until=closes)
        limit = now + HORIZON
        opens, tried = self._first(now, limit, lambda part: part.open)
        until = self._first(now, limit, lambda part: ~part.denied)[0] if denied else opens
        if denied:
            why = f"inside a deny window ({denied.window})"
            why += f" until {spelled(until)}" if until else ""
        else:
            why = self._outside(opens)
        if opens is None:
            never = tried >= limit
            why += "; no opening " + ("within a year" if never else f"before {spelled(tried)}")
        elif not denied or opens != until:
            why += f"; opens {spelled(opens)}"
        return Opening(open=False, why=why, until=until, opens=opens)

    def _outside(self, opens: datetime | None) -> str:
        through = next(
            (one for one in self._allow if opens is not None and one.covers(opens)), None
        )
        if through and len(self._allow) > 1:
            return f"outside its windows (next: {through.window})"
        if through or len(self._allow) == 1:
            return f"outside its window ({(through or self._allow[0]).window})"
        return f"outside its {len(self._allow)} allow windows"

    def _first(
        self, after: datetime, limit: datetime, wanted: Callable[[_Part], int]
    ) -> tuple[datetime | None, datetime]:
        """
        Return the first instant after *after* and before *limit* that is in *wanted*; how far.

        *after* itself must not be in it.
        """
        minute, past = minute_of(after)
        for number in range(minute // WEEK, minute_of(limit)[0] // WEEK + 1):
            first = number * WEEK
            if number not in self._known and self._looked() >= MOST_WEEKS:
                return None, moment_of(first)
            best = None
            for part in self._week(number):
                # This part of the present minute came already, unless it is still to come.
                gone = max(0, minute + (part.past <= past) - first)
                if bits := (wanted(part) & _ALL) >> gone << gone:
                    lowest = first + (bits & -bits).bit_length() - 1
                    best = min(best or (lowest, part.past), (lowest, part.past))
            if best is not None:
                found = moment_of(best[0]) + best[1]
                return (found, found) if found < limit else (None, limit)
        return None, limit

    def _looked(self) -> int:
        return sum(fence.looked for fence in self._fences)

    def _week(self, number: int) -> list[_Part]:
        if number not in self._known:
            self._known[number] = list(self._judged(number))
        return self._known[number]

    def _judged(self, number: int) -> Iterator[_Part]:
        """Yield the parts of the minutes of a week, the last one first."""
        allowed, allowing = self._allowed.week(number)
        denied, denying = self._denied.week(number)
        if not self._allow:
            allowed = _ALL
        for past in self._pasts:
            yield _Part(past, allowed, denied)
            allowed |= allowing.get(past, 0)
            denied |= denying.get(past, 0)
