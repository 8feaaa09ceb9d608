"""When windows are open in the days to come.  Pure."""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Final

from msgspec import Struct

from reconciler.model.desired import Window
from reconciler.plan.windows import standing

AHEAD: Final = timedelta(days=7)
MOST: Final = 60  # open times; a window that opens each minute is none to plan with
WIDTH: Final = 700.0  # of the picture


class Span(Struct, frozen=True):
    begin: str
    end: str
    x: str
    width: str


class Day(Struct, frozen=True):
    x: int
    word: str


def open_spans(windows: Sequence[Window], now: datetime) -> tuple[Span, ...]:
    """Return the times from *now* on in which what disrupts may happen."""
    return tuple(_spans(windows, now))


def _spans(windows: Sequence[Window], now: datetime) -> Iterator[Span]:
    at, last = now, now + AHEAD
    for _ in range(MOST):
        found = standing(windows, at)
        if not found.open:
            if found.opens is None or found.opens >= last or found.opens <= at:
                return
            at = found.opens
            found = standing(windows, at)
        end = min(found.until or last, last)
        if end <= at:
            return
        x, width = _x(at - now), max(_x(end - at), 1.0)
        yield Span(_spelled(at), _spelled(end), f"{x:.1f}", f"{width:.1f}")
        at = end
        if at >= last:
            return


def days(now: datetime) -> tuple[Day, ...]:
    """Return where the days begin in a picture of the week, in UTC."""
    first = now.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    found = (first + timedelta(days=number) for number in range(1, 8))
    return tuple(Day(round(_x(day - now)), f"{day:%a %d}") for day in found)


def _x(length: timedelta) -> float:
    return length / AHEAD * WIDTH


def _spelled(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="seconds")
