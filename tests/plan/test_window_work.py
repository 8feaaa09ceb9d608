"""What an answer about windows costs, whatever is declared; and that it is the one of the rules."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from cronsim import CronSim
from hypothesis import given, settings
from hypothesis import strategies as st

from reconciler.model.desired import Window, WindowKind
from reconciler.plan import windows as judged
from reconciler.plan.schedules import Schedule
from reconciler.plan.windows import Opening, standing
from tests.support import factories as f

NOW = datetime(2026, 11, 22, 10, tzinfo=UTC)
HOUR = timedelta(hours=1)
BERLIN = "Europe/Berlin"
MOST = 50  # windows of one document, by its schema


# ── work ─────────────────────────────────────────────────────────────────────────────────────


def many(kind: str, *schedules: str, seconds: float) -> tuple[Window, ...]:
    """As many windows as a document may have, no two of them of one length."""
    turns = (schedules[number % len(schedules)] for number in range(MOST))
    return tuple(
        f.window(kind, schedule, BERLIN, seconds=seconds + number / 1000)
        for number, schedule in enumerate(turns)
    )


CHAIN = ("0-59/2 * * * *", "1-59/2 * * * *")
COSTLY = {
    "a chain of minutes": many("deny", *CHAIN, seconds=61),
    "a chain of weeks": many("deny", *CHAIN, seconds=604_000),
    "slots that are denied": (
        *many("allow", "* * * * *", seconds=20)[: MOST // 2],
        *many("deny", "* * * * *", seconds=30)[: MOST // 2],
    ),
    "mondays": many("deny", "* * * * 1", seconds=604_000),
    "leap days": many("allow", "0 3 29 2 */7", seconds=60),
    "no day at all": many("allow", "0 3 30 2 *", seconds=60),
    "one pair": many("deny", *CHAIN, seconds=61)[:2],
}


@pytest.mark.parametrize("windows", COSTLY.values(), ids=COSTLY)
def test_an_answer_costs_a_bounded_number_of_weeks_and_not_a_single_match(
    windows: tuple[Window, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The event loop that holds every lease asks; walking from match to match took seconds."""
    weeks = 0
    week = Schedule.week

    def counted(schedule: Schedule, number: int) -> int:
        nonlocal weeks
        weeks += 1
        return week(schedule, number)

    def walked(_: CronSim) -> datetime:
        raise AssertionError("walks from match to match")

    monkeypatch.setattr(Schedule, "week", counted)
    monkeypatch.setattr(CronSim, "__next__", walked)

    found = standing(windows, NOW)

    assert not found.open
    # What was begun within the limit is finished: a week of each window.
    assert 0 < weeks < judged.MOST_WEEKS + MOST


def test_who_may_not_look_further_says_how_far_it_looked() -> None:
    many_windows = COSTLY["a chain of minutes"]
    found = standing(many_windows, NOW)

    assert found.opens is None
    assert found.why == (
        f"inside a deny window ({many_windows[0]}); no opening before 2027-01-07T00:00:00Z"
    )
    assert standing(many_windows[:7], NOW).why.endswith("no opening within a year")


def test_it_looks_further_than_a_request_can_wait() -> None:
    """Else "it expires before that" would be a guess."""
    month = NOW + timedelta(days=30)
    daily = many("deny", "0 0 * * *", seconds=86_400)[:-1]
    until = f.window("deny", f"0 0 {month.day} {month.month} *", seconds=1)

    found = standing((*daily, until), NOW)

    assert found.opens is None
    assert "no opening before 2027" in found.why


# ── the same answers as by the simple definition ─────────────────────────────────────────────


def begins(window: Window, first: datetime, last: datetime) -> Iterator[datetime]:
    """Every begin of a window, one after the other."""
    for begin in CronSim(window.schedule, first.astimezone(ZoneInfo(window.zone))):
        if begin.astimezone(UTC) > last:
            return
        yield begin.astimezone(UTC)


def simple(windows: tuple[Window, ...], now: datetime, last: datetime) -> Opening:
    """What the windows say by trying every instant at which one begins or ends."""
    spans = [
        (window.kind, begin, begin + window.duration)
        for window in windows
        for begin in begins(window, now - window.duration - HOUR, last)
        if begin + window.duration > now
    ]

    def inside(kind: WindowKind, at: datetime) -> bool:
        return any(which is kind and begin <= at < end for which, begin, end in spans)

    allows = any(window.kind is WindowKind.ALLOW for window in windows)

    def is_open(at: datetime) -> bool:
        allowed = not allows or inside(WindowKind.ALLOW, at)
        return allowed and not inside(WindowKind.DENY, at)

    edges = sorted({edge for _, *both in spans for edge in both if now < edge <= last})
    if is_open(now):
        return Opening(open=True, until=next((at for at in edges if not is_open(at)), None))
    opens = next((at for at in edges if is_open(at)), None)
    until = opens
    if inside(WindowKind.DENY, now):
        until = next((at for at in edges if not inside(WindowKind.DENY, at)), None)
    return Opening(open=False, until=until, opens=opens)


SCHEDULES = (
    *("* * * * *", "*/7 * * * *", "30 2 * * *", "0,30 1-3 * * *", "15 */3 * * 6,7", "59 23 * * *"),
    *(*CHAIN, "0 0 29 * 1", "0 3 25 10 *"),
)
LENGTHS = (0.001, 0.5, 1, 59, 59.999, 60, 61, 90.5, 1_800, 3_600, 5_430.25, 90_000)
ZONES = (BERLIN, "America/New_York", "Asia/Kolkata", "America/Sao_Paulo", "UTC")
STARTS = (
    "2026-03-29T00:00", "2026-10-25T00:00", "2026-03-08T06:00", "2026-11-01T05:00",
    "2026-12-31T23:00", "2026-11-22T23:59",
)  # fmt: skip


@settings(max_examples=60, deadline=None)
@given(
    windows=st.lists(
        st.builds(
            lambda kind, schedule, zone, seconds: f.window(kind, schedule, zone, seconds=seconds),
            st.sampled_from(["allow", "deny"]),
            st.sampled_from(SCHEDULES),
            st.sampled_from(ZONES),
            st.sampled_from(LENGTHS),
        ),
        min_size=1,
        max_size=3,
    ).map(tuple),
    start=st.sampled_from(STARTS),
    seconds=st.one_of(st.integers(0, 90).map(lambda n: n * 60.0), st.floats(0, 3_600)),
)
def test_to_the_microsecond_it_is_what_trying_every_edge_says(
    windows: tuple[Window, ...], start: str, seconds: float
) -> None:
    now = datetime.fromisoformat(start).replace(tzinfo=UTC) + timedelta(seconds=seconds)
    last = now + 4 * HOUR
    expected = simple(windows, now, last)

    found = standing(windows, now)

    assert found.open is expected.open
    for known, tried in ((found.until, expected.until), (found.opens, expected.opens)):
        assert tried == (known if known and known <= last else None)
