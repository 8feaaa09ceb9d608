"""When windows allow disruptive actions: tables, clock changes, and a brute-force count beside."""

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from functools import cache
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from cronsim import CronSim
from hypothesis import given, settings
from hypothesis import strategies as st

from reconciler.documents.formats import is_cron
from reconciler.errors import Exit
from reconciler.model.conditions import Code, blocked
from reconciler.model.desired import OneShot, RequestKind, Window
from reconciler.model.observed import BootLine, Logbook
from reconciler.model.plan import Plan, ServerPlan, Standing
from reconciler.model.recorded import (
    NO_REQUESTS,
    Attempt,
    PendingStarts,
    Recorded,
    Request,
    Requests,
    Stage,
)
from reconciler.model.values import replace
from reconciler.plan.inputs import NO_DISRUPTIVE, Consents, Facts, Terms
from reconciler.plan.server import plan_server
from reconciler.plan.windows import Opening, standing
from tests.support import factories as f

BERLIN, YORK, TOKYO = "Europe/Berlin", "America/New_York", "Asia/Tokyo"
MINUTE = timedelta(minutes=1)
HOUR = timedelta(hours=1)
NIGHTS = f.window("allow", "0 2 * * 1-5", BERLIN, hours=2)


def at(text: str) -> datetime:
    """Read an instant, UTC unless it says otherwise."""
    moment = datetime.fromisoformat(text)
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def open_at(text: str, *windows: Window) -> bool:
    """Whether windows are open at an instant."""
    return standing(windows, at(text)).open


NOW = at("2026-11-22T10:00")


# ── the rules ────────────────────────────────────────────────────────────────────────────────


def test_without_windows_it_is_always_open() -> None:
    assert standing((), at("2026-11-22T10:00")) == Opening(open=True)


def test_an_allow_window_is_open_from_its_begin_to_just_before_its_end() -> None:
    assert not open_at("2026-11-23T00:59:59.999999", NIGHTS)
    assert open_at("2026-11-23T01:00", NIGHTS)
    assert open_at("2026-11-23T02:59:59.999999", NIGHTS)
    assert not open_at("2026-11-23T03:00", NIGHTS)


def test_a_deny_window_is_closed_from_its_begin_to_just_before_its_end() -> None:
    noon = f.window("deny", "0 12 * * *")

    assert open_at("2026-11-23T11:59:59.999999", noon)
    assert not open_at("2026-11-23T12:00", noon)
    assert not open_at("2026-11-23T12:59:59.999999", noon)
    assert open_at("2026-11-23T13:00", noon)


def test_deny_wins_and_the_next_opening_skips_denied_time() -> None:
    monday = f.window("deny", "0 0 * * 1", days=1)

    found = standing((NIGHTS, monday), at("2026-11-22T10:00"))

    assert found.opens == at("2026-11-24T01:00")
    assert not open_at("2026-11-23T01:30", NIGHTS, monday)
    cut = f.window("deny", "30 1 * * *", minutes=30)
    assert standing((NIGHTS, cut), at("2026-11-23T01:00")).until == at("2026-11-23T01:30")
    assert standing((NIGHTS, cut), at("2026-11-23T01:30")).opens == at("2026-11-23T02:00")


def test_windows_that_overlap_or_touch_are_one() -> None:
    first = f.window("allow", "0 1 * * *", hours=2)
    second = f.window("allow", "0 2 * * *", hours=2)
    third = f.window("allow", "0 4 * * *", hours=1)
    windows = (third, first, second)

    assert standing(windows, at("2026-11-23T01:00")).until == at("2026-11-23T05:00")
    assert standing(windows, at("2026-11-23T05:00")).opens == at("2026-11-24T01:00")
    denied = tuple(replace(w, kind=f.window("deny", "0 0 * * *").kind) for w in windows)
    assert standing(denied, at("2026-11-23T01:00")).until == at("2026-11-23T05:00")


def test_a_window_lasts_across_midnight_and_up_to_seven_days() -> None:
    late = f.window("allow", "0 23 * * 5", TOKYO, hours=3)  # Friday 14:00 to 17:00 UTC
    week = f.window("deny", "0 0 1 * *", days=7)

    assert open_at("2026-11-27T16:59", late)
    assert not open_at("2026-11-27T17:00", late)
    assert not open_at("2026-12-07T23:59", week)
    assert open_at("2026-12-08T00:00", week)


def test_a_window_may_begin_again_before_it_ended() -> None:
    always = f.window("allow", "*/30 * * * *", hours=1)

    assert standing((always,), at("2026-11-22T10:15")) == Opening(open=True)
    assert (
        standing(
            (replace(always, kind=f.window("deny", "0 0 * * *").kind),), at("2026-11-22T10:15")
        ).opens
        is None
    )


@pytest.mark.parametrize(
    ("schedule", "opens"),
    [
        ("0 0 29 2 *", "2028-02-29T00:00"),  # a leap day
        ("0 0 13 * 5", "2027-04-02T00:00"),  # day of month or weekday, as in Debian
        ("0 0 */13 * 5", "2027-05-14T00:00"),  # both, because one begins with a star
    ],
)
def test_days_that_are_rare(schedule: str, opens: str) -> None:
    window = f.window("allow", schedule)

    assert standing((window,), at(opens)).open
    assert standing((window,), at(opens) - MINUTE).opens == at(opens)


@pytest.mark.parametrize("schedule", ["0 0 31 2 *", "0 0 30 2 *", "0 0 31 4,6,9,11 *"])
def test_a_schedule_that_never_comes(schedule: str) -> None:
    found = standing((f.window("allow", schedule),), at("2026-11-22T10:00"))

    assert found == Opening(
        open=False,
        why=f"outside its window (allow {schedule} for 1h UTC); no opening within a year",
    )
    assert standing((f.window("deny", schedule),), at("2026-11-22T10:00")) == Opening(open=True)


def test_a_leap_day_that_is_years_away_is_no_opening_within_a_year() -> None:
    found = standing((f.window("allow", "0 0 29 2 *"),), at("2026-11-22T10:00"))

    assert (found.opens, "no opening within a year" in found.why) == (None, True)


def test_a_zone_that_this_machine_does_not_know_leaves_it_closed() -> None:
    for kind in ("allow", "deny"):
        found = standing((f.window(kind, "0 0 * * *", "Mars/Phobos"),), at("2026-11-22T10:00"))
        assert (found.open, found.opens) == (False, None)
        assert "time zone" in found.why


@pytest.mark.parametrize(
    ("windows", "why"),
    [
        (
            (NIGHTS,),
            (
                "outside its window (allow 0 2 * * 1-5 for 2h Europe/Berlin); "
                "opens 2026-11-23T01:00:00Z"
            ),
        ),
        (
            (NIGHTS, f.window("allow", "0 12 * * *", TOKYO, minutes=90)),
            (
                "outside its windows (next: allow 0 2 * * 1-5 for 2h Europe/Berlin); "
                "opens 2026-11-23T01:00:00Z"
            ),
        ),
        (
            (f.window("allow", "0 0 31 2 *"), f.window("allow", "0 0 30 2 *")),
            "outside its 2 allow windows; no opening within a year",
        ),
        (
            (f.window("deny", "0 0 * * 0", days=2),),
            "inside a deny window (deny 0 0 * * 0 for 2d UTC) until 2026-11-24T00:00:00Z",
        ),
        (
            (f.window("deny", "0 9 * * *", hours=1.5), NIGHTS),
            (
                "inside a deny window (deny 0 9 * * * for 1h30m UTC) until 2026-11-22T10:30:00Z; "
                "opens 2026-11-23T01:00:00Z"
            ),
        ),
        (
            (f.window("deny", "* * * * *", days=7),),
            "inside a deny window (deny * * * * * for 7d UTC); no opening within a year",
        ),
        (
            (f.window("deny", "* * * * *", minutes=1),),
            ("inside a deny window (deny * * * * * for 1m UTC); no opening within a year"),
        ),
    ],
)
def test_what_it_says(windows: tuple[Window, ...], why: str) -> None:
    assert standing(windows, at("2026-11-22T10:00")).why == why


# ── where clocks change ──────────────────────────────────────────────────────────────────────

# Clocks go forward: Berlin 2026-03-29 02:00 -> 03:00 (01:00 UTC), New York 2026-03-08 02:00 ->
# 03:00 (07:00 UTC).  Back: Berlin 2026-10-25 03:00 -> 02:00 (01:00 UTC), New York 2026-11-01
# 02:00 -> 01:00 (06:00 UTC).
CHANGES = [
    # a time that is skipped: right after the gap, once
    ("30 2 * * *", BERLIN, "2026-03-29", ["01:00"]),
    ("0,30 2 * * *", BERLIN, "2026-03-29", ["01:00"]),
    ("0 3 * * *", BERLIN, "2026-03-29", ["01:00"]),
    ("30 2 * * *", YORK, "2026-03-08", ["07:00"]),
    ("30 1 * * *", YORK, "2026-03-08", ["06:30"]),
    # with a star the schedule follows the time that passes: nothing happens in the gap
    ("*/30 2 * * *", BERLIN, "2026-03-29", []),
    ("30 * * * *", YORK, "2026-03-08", [f"{hour:02}:30" for hour in range(24)]),
    # a time that comes twice: once, the first time
    ("30 2 * * *", BERLIN, "2026-10-25", ["00:30"]),
    ("30 1 * * *", YORK, "2026-11-01", ["05:30"]),
    ("0 3 * * *", BERLIN, "2026-10-25", ["02:00"]),
    # with a star it counts twice
    ("*/30 2 * * *", BERLIN, "2026-10-25", ["00:00", "00:30", "01:00", "01:30"]),
    ("30 */1 * * *", YORK, "2026-11-01", [f"{hour:02}:30" for hour in range(24)]),
    # zones whose clocks never change
    ("30 2 * * *", "UTC", "2026-03-29", ["02:30"]),
    ("30 2 * * *", "UTC", "2026-10-25", ["02:30"]),
    ("30 2 * * *", TOKYO, "2026-03-29", ["17:30"]),
    ("*/30 2 * * *", TOKYO, "2026-10-25", ["17:00", "17:30"]),
]


@pytest.mark.parametrize(("schedule", "zone", "day", "begins"), CHANGES)
def test_begins_around_a_clock_change(
    schedule: str, zone: str, day: str, begins: list[str]
) -> None:
    window = f.window("allow", schedule, zone, minutes=1)
    start = at(day)

    found = [
        f"{moment:%H:%M}"
        for minute in range(24 * 60)
        if standing((window,), moment := start + minute * MINUTE).open
    ]

    assert found == begins


@pytest.mark.parametrize(
    ("zone", "schedule", "begin"),
    [
        (BERLIN, "0 23 * * 6", "2026-03-28T22:00"),
        (BERLIN, "0 23 * * 6", "2026-10-24T21:00"),
        (YORK, "0 23 * * 6", "2026-03-08T04:00"),
        (YORK, "0 23 * * 6", "2026-11-01T03:00"),
        (TOKYO, "0 23 * * 6", "2026-03-28T14:00"),
        ("UTC", "0 23 * * 6", "2026-03-28T23:00"),
    ],
)
@pytest.mark.parametrize("length", [6 * HOUR, 24 * HOUR, 7 * 24 * HOUR - 2 * HOUR])
def test_a_window_across_a_change_lasts_its_real_time(
    zone: str, schedule: str, begin: str, length: timedelta
) -> None:
    window = f.window("allow", schedule, zone, seconds=length.total_seconds())

    assert standing((window,), at(begin) - MINUTE).opens == at(begin)
    assert standing((window,), at(begin)).until == at(begin) + length
    assert not standing((window,), at(begin) + length).open


# ── a brute-force count beside ───────────────────────────────────────────────────────────────

FIELDS = ((0, 59), (0, 23), (1, 31), (1, 12), (0, 7))


def numbers(field: str, low: int, high: int) -> set[int]:
    """What a field of a schedule stands for."""
    found: set[int] = set()
    for item in field.split(","):
        span, _, step = item.partition("/")
        first, _, last = span.partition("-")
        values = range(low, high + 1) if span == "*" else range(int(first), int(last or first) + 1)
        found.update(values[:: int(step or 1)])
    return found


class Cron:
    """What Debian's cron would do, minute by minute."""

    def __init__(self, schedule: str, zone: str) -> None:
        parts = schedule.split(" ")
        spans = zip(parts, FIELDS, strict=True)
        self.minute, self.hour, self.day, self.month, self.week = (
            numbers(part, *span) for part, span in spans
        )
        self.week = {day % 7 for day in self.week}
        self.both = parts[2].startswith("*") or parts[4].startswith("*")
        self.fixed = not parts[0].startswith("*") and not parts[1].startswith("*")
        self.zone = ZoneInfo(zone)

    def _day(self, day: date) -> bool:
        matches = (day.day in self.day, day.isoweekday() % 7 in self.week)
        return day.month in self.month and (all(matches) if self.both else any(matches))

    def _matches(self, wall: datetime) -> bool:
        return wall.minute in self.minute and wall.hour in self.hour and self._day(wall.date())

    def begins(self, first: datetime, last: datetime) -> Iterator[datetime]:
        """Yield the begins from *first* to *last*."""
        moment = first
        while moment <= last:
            wall = moment.astimezone(self.zone)
            before = (moment - MINUTE).astimezone(self.zone)
            skipped = wall.replace(tzinfo=None) - before.replace(tzinfo=None) - MINUTE
            missed = range(1, skipped // MINUTE + 1) if self.fixed else ()
            again = self.fixed and wall.fold
            if (self._matches(wall) and not again) or any(
                self._matches(before.replace(tzinfo=None) + n * MINUTE) for n in missed
            ):
                yield moment
            moment += MINUTE


@cache
def minutes_of(
    schedule: str, zone: str, length: timedelta, first: datetime, last: datetime
) -> frozenset[datetime]:
    """Every minute from *first* to *last* inside of a window."""
    found: set[datetime] = set()
    after = first  # each minute once: a week from every minute on would be a hundred million
    for begin in Cron(schedule, zone).begins(first - length, last):
        moment = max(begin, after)
        end = min(begin + length, last + MINUTE)
        while moment < end:
            found.add(moment)
            moment += MINUTE
        after = max(after, moment)
    return frozenset(found)


def brute(windows: tuple[Window, ...], first: datetime, last: datetime) -> dict[datetime, bool]:
    """Whether each minute from *first* to *last* is open."""
    sets: dict[str, list[frozenset[datetime]]] = {"allow": [], "deny": []}
    for w in windows:
        sets[w.kind].append(minutes_of(w.schedule, w.zone, w.duration, first, last))
    found, moment = {}, first
    while moment <= last:
        allowed = not sets["allow"] or any(moment in one for one in sets["allow"])
        found[moment] = allowed and not any(moment in one for one in sets["deny"])
        moment += MINUTE
    return found


STARTS = [
    at(text)
    for text in (
        *("2026-03-28T20:00", "2026-10-24T20:00", "2026-03-08T00:00", "2026-11-01T00:00"),
        *("2028-02-28T12:00", "2026-12-31T12:00", "2026-11-22T10:00"),
    )
]


@st.composite
def cron_fields(draw: st.DrawFn, low: int, high: int) -> str:
    """One field of a schedule."""
    form = draw(st.sampled_from(["*", "*", "number", "range", "step", "list"]))
    a, b = sorted((draw(st.integers(low, high)), draw(st.integers(low, high))))
    every = draw(st.integers(1, 30))
    return {
        "*": "*",
        "number": str(a),
        "range": f"{a}-{b}",
        "step": f"*/{every}",
        "list": f"{a},{b}",
    }[form]


def schedules() -> st.SearchStrategy[str]:
    """Schedules that often match: any time of day, days and months that are mostly stars."""
    day = st.sampled_from(["*", "*", "*", "29", "1-15", "*/2"])
    month = st.sampled_from(["*", "*", "*", "10-12", "3"])
    week = st.sampled_from(["*", "*", "*", "0", "1-5", "6,7"])
    return st.builds(" ".join, st.tuples(cron_fields(0, 59), cron_fields(0, 23), day, month, week))


def any_window() -> st.SearchStrategy[Window]:
    """Windows of every kind, zone and length."""
    length = st.sampled_from([1, 7, 30, 60, 95, 600, 1_500, 10_080])
    return st.builds(
        lambda kind, schedule, zone, minutes: f.window(kind, schedule, zone, minutes=minutes),
        st.sampled_from(["allow", "deny"]),
        schedules(),
        st.sampled_from([BERLIN, YORK, TOKYO, "UTC"]),
        length,
    )


_MOMENTS = given(
    windows=st.lists(any_window(), min_size=1, max_size=3).map(tuple),
    start=st.sampled_from(STARTS),
    offset=st.integers(0, 1_000),
)


@settings(max_examples=12, deadline=None)
@_MOMENTS
def test_it_agrees_with_a_count_of_every_minute(
    windows: tuple[Window, ...], start: datetime, offset: int
) -> None:
    agrees(windows, start, offset)


@pytest.mark.long
@settings(max_examples=200, deadline=None)
@_MOMENTS
def test_it_agrees_with_a_count_of_every_minute_for_long(
    windows: tuple[Window, ...], start: datetime, offset: int
) -> None:
    agrees(windows, start, offset)


def agrees(windows: tuple[Window, ...], start: datetime, offset: int) -> None:
    """Assert what windows say of a moment by looking at every minute of two days."""
    last = start + timedelta(days=2)
    minutes = brute(windows, start, last)
    now = start + offset * MINUTE

    found = standing(windows, now)

    assert found.open is minutes[now]
    opening = next((m for m in minutes if m >= now and minutes[m]), None)
    if found.open:
        closing = next((m for m in minutes if m > now and not minutes[m]), None)
        assert closing == (found.until if found.until and found.until <= last else None)
    elif opening is not None:
        assert found.opens == opening
        assert standing(windows, opening).open
        assert not standing(windows, opening - timedelta(microseconds=1)).open
    else:
        assert found.opens is None or found.opens > last


@given(st.tuples(*(cron_fields(*span) for span in FIELDS)).map(" ".join))
def test_what_validates_is_a_schedule_wherever_its_day_exists(schedule: str) -> None:
    minute, hour, _, _, week = schedule.split(" ")

    assert is_cron(schedule)
    assert next(CronSim(f"{minute} {hour} * * {week}", NOW)) > NOW


def test_names_of_days_and_months_count() -> None:
    named = f.window("allow", "0 2 * nov mon-fri")

    assert is_cron(named.schedule)
    assert open_at("2026-11-23T02:00", named)
    assert not open_at("2026-11-22T02:00", named)
    assert not open_at("2026-12-01T02:00", named)


# ── in plans ─────────────────────────────────────────────────────────────────────────────────

BOOT = BootLine(1_700_000_000_000, 4121)
LOG = Logbook(readable=True, boot=BOOT.time, boots=(BOOT,), newest=BOOT.time + 5_000)
TERMS = Terms(NOW, log=LOG, baseline=at("2026-11-01T00:00"))
INSIDE = replace(TERMS, now=at("2026-11-23T01:30"))


def wish(kind: RequestKind = RequestKind.REBOOT, moment: datetime = NOW, **changes: Any) -> OneShot:
    """A wish for *kind*."""
    return replace(OneShot(kind, moment, "okx moved", f.SOURCE), **changes)


def plan(
    shot: OneShot,
    *windows: Window,
    known: Requests = NO_REQUESTS,
    terms: Terms = TERMS,
    disruptive: bool = True,
) -> ServerPlan:
    """Plan a server with one wish and these windows."""
    field = "cache" if shot.kind is RequestKind.CACHE else "reboot"
    changes: dict[str, Any] = {field: shot}
    return plan_server(
        f.server(supervised=True, windows=windows, **changes),
        f.observed(robots=(f.GRID,)),
        replace(Recorded(), requests=known),
        Facts({}, {}, terms=terms),
        Consents(quiet=None if disruptive else NO_DISRUPTIVE),
    )


@pytest.mark.parametrize("kind", tuple(RequestKind))
def test_a_request_waits_for_its_window_and_keeps_the_plans_id(kind: RequestKind) -> None:
    waits, comes = plan(wish(kind), NIGHTS), plan(wish(kind), NIGHTS, terms=INSIDE)
    (line,) = waits.disruptions

    assert (line.standing, line.error, waits.actions) == (Standing.WAITING, Exit.DONE, ())
    assert "outside its window (allow 0 2 * * 1-5 for 2h Europe/Berlin); opens " in line.why
    assert (len(comes.actions), comes.disruptions[0].standing) == (1, Standing.DUE)
    assert Plan((waits,)).id == Plan((comes,)).id
    others = [(), (f.window("deny", "0 2 * * 1-5"),), (NIGHTS, f.window("allow", "0 3 * * *"))]
    ids = [Plan((plan(wish(kind), *windows),)).id for windows in others]
    assert len({Plan((waits,)).id, *ids}) == 4
    assert ids[2] == Plan((plan(wish(kind), *reversed(others[2])),)).id
    assert waits.differs


def test_it_says_when_it_would_expire_before() -> None:
    short = wish(expires_after=timedelta(hours=15) - MINUTE)
    (line,) = plan(short, NIGHTS).disruptions

    assert "it expires before that, 2026-11-23T00:59:00Z" in line.why
    assert line.remedy == "raise its expiresAfter, or ask within a window"
    assert plan(replace(short, expires_after=15 * HOUR), NIGHTS).disruptions[0].remedy == ""
    never = plan(wish(), f.window("allow", "0 0 31 2 *")).disruptions[0]
    assert "no opening within a year; it expires before that" in never.why


def test_a_schedule_says_that_it_will_have_to_wait() -> None:
    later = plan(wish(moment=NOW + HOUR), NIGHTS).disruptions[0]
    fitting = plan(wish(moment=at("2026-11-23T01:30")), NIGHTS).disruptions[0]

    assert later.standing is fitting.standing is Standing.SCHEDULED
    assert "then outside its window" in later.why
    assert "window" not in fitting.why


def test_a_window_comes_after_what_else_stands_against_it() -> None:
    unsteady = replace(INSIDE, unsteady="our own clock jumped by 7200 s")
    refused = replace(
        TERMS, refused=blocked(Code.LEDGER_CANNOT_TELL, "another ledger might know of it", "")
    )

    assert plan(wish(), NIGHTS, terms=unsteady).disruptions[0].standing is Standing.HELD
    assert plan(wish(), NIGHTS, terms=refused).disruptions[0].standing is Standing.BLOCKED
    assert plan(wish(), NIGHTS, disruptive=False).disruptions[0].standing is Standing.HELD
    old = wish(moment=NOW - 30 * HOUR)
    assert plan(old, NIGHTS).disruptions[0].standing is Standing.EXPIRED


def test_a_second_try_waits_as_well() -> None:
    tries = (Attempt("n", "2026-11-22T09:00:00+00:00", "apply 1@ci", (BOOT,), LOG.newest),)
    sent = Request(RequestKind.REBOOT, NOW, "x", Stage.OPEN, tries, ran=(f.GRID,))

    found = plan(wish(), NIGHTS, known=Requests(open=sent))

    assert found.disruptions[0].standing is Standing.WAITING
    assert "second and last try" in found.disruptions[0].why
    assert len(plan(wish(), NIGHTS, known=Requests(open=sent), terms=INSIDE).actions) == 1


def test_robots_that_are_owed_a_start_wait_for_no_window() -> None:
    asleep = replace(f.GRID, running=False)
    halt = PendingStarts("restart on bybit", (f.GRID,), "x", "ci", 600, exchange="bybit", boot=BOOT)
    found = plan_server(
        f.server(windows=(NIGHTS,)),
        f.observed(robots=(asleep,)),
        replace(Recorded(), requests=Requests(halt=halt)),
        Facts({}, {}, terms=replace(TERMS, since_halt=5.0)),
        Consents(),
    )

    assert [line.standing for line in found.disruptions] == [Standing.DUE]
    assert len(found.actions) == 1
