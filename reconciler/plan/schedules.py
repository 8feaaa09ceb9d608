"""
In which minutes a cron schedule begins, a week at a time.  Pure.

A week is a whole number with a bit for each of its minutes: what a schedule costs is then the same
whatever it says, and a year of fifty of them is a matter of milliseconds, not of each single begin.
"""

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta, tzinfo
from typing import Final

from msgspec import Struct

DAY: Final = 24 * 60  # minutes
WEEK: Final = 7 * DAY
_MINUTE: Final = timedelta(minutes=1)
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_FIRST: Final = _EPOCH.toordinal()


def minute_of(moment: datetime) -> tuple[int, timedelta]:
    """Return how many whole minutes passed since 1970 until *moment*, and what is left."""
    return divmod(moment - _EPOCH, _MINUTE)


def moment_of(minute: int) -> datetime:
    return _EPOCH + minute * _MINUTE


class _Stretch(Struct, frozen=True):
    """Minutes since 1970, from `begin` to before `end`, in which clocks are `ahead` of UTC."""

    begin: int
    end: int
    ahead: int
    before: int  # how far they were ahead just before it


class Zone:
    """How far the clocks of an IANA zone are ahead of UTC.  Raises what ZoneInfo does."""

    def __init__(self, name: str) -> None:
        # Imported here: most documents have no windows, and every command would pay.
        from zoneinfo import ZoneInfo  # noqa: PLC0415

        self._zone: Final[tzinfo] = ZoneInfo(name)
        self._known: dict[tuple[int, int], tuple[_Stretch, ...]] = {}

    def stretches(self, begin: int, end: int) -> tuple[_Stretch, ...]:
        """Cut the minutes from *begin* to before *end* where the clocks change."""
        if (begin, end) not in self._known:
            self._known[begin, end] = tuple(self._stretches(begin, end))
        return self._known[begin, end]

    def _stretches(self, begin: int, end: int) -> Iterator[_Stretch]:
        start, ahead, before = begin, self._ahead(begin), self._ahead(begin)
        for probe in (*range(begin + DAY, end, DAY), end):
            if (then := self._ahead(probe)) != ahead:
                change = self._change(probe - DAY, probe)
                yield _Stretch(start, change, ahead, before)
                start, ahead, before = change, then, ahead
        if start < end:
            yield _Stretch(start, end, ahead, before)

    def _change(self, low: int, high: int) -> int:
        """Return the first minute with the clocks of *high*, a day at most after *low*."""
        then = self._ahead(high)
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (low, middle) if self._ahead(middle) == then else (middle, high)
        return high

    def _ahead(self, minute: int) -> int:
        offset = moment_of(minute).astimezone(self._zone).utcoffset()
        return (offset or timedelta()) // _MINUTE


class Schedule:
    """
    A cron schedule in a zone.

    What it means where clocks change is what Debian's cron does.  With minute and hour written as
    numbers, a time that clocks skip begins right after the gap, and one that comes twice begins
    once, the first time.  With `*` at the beginning of minute or hour it follows the time that
    passes: nothing in the gap, and the hour that comes twice counts twice.
    """

    def __init__(self, schedule: str, zone: Zone) -> None:
        from cronsim import CronSim, CronSimError  # noqa: PLC0415  - as above

        self._zone: Final = zone
        minute, hour, *_ = schedule.split()
        self._fixed: Final = not minute.startswith("*") and not hour.startswith("*")
        self._times = 0
        try:
            self._cron = CronSim(schedule, _EPOCH)
        except CronSimError:
            return  # a day that no month has; its form was checked when the document was read
        minutes = sum(1 << number for number in self._cron.minutes)
        for number in self._cron.hours:
            self._times |= minutes << number * 60

    def week(self, number: int) -> int:
        """Return the begins in a week, counted from 1970: bit 0 is its first minute in UTC."""
        first = number * WEEK
        start, found = first - DAY, 0  # a time that comes twice may have come before the week did
        stretches = self._zone.stretches(start, first + WEEK) if self._times else ()
        for stretch in stretches:
            begin, ahead, before = stretch.begin, stretch.ahead, stretch.before
            if self._fixed and self._walls(begin + before, begin + ahead):
                found |= 1 << begin - start  # it was skipped
            once = begin + max(0, before - ahead) if self._fixed else begin
            found |= self._walls(once + ahead, stretch.end + ahead) << once - start
        return found >> DAY & (1 << WEEK) - 1

    def _walls(self, begin: int, end: int) -> int:
        """Return the times on the clock from *begin* to before *end* that match, from bit 0 on."""
        if begin >= end:
            return 0
        found, first = 0, begin // DAY
        for day in range(first, (end - 1) // DAY + 1):
            if self._comes(date.fromordinal(_FIRST + day)):
                found |= self._times << (day - first) * DAY
        return found >> begin % DAY & (1 << end - begin) - 1

    def _comes(self, day: date) -> bool:
        return day.month in self._cron.months and self._cron.match_day(day)
