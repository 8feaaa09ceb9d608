"""Whether our clock is believed: also while several threads ask at once."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest

from reconciler.system.clocks import CALM, SteadyClock

NOW = datetime(2026, 11, 22, 10, tzinfo=UTC)
HOUR = 3600.0
RIGHT = timedelta()


class Hands:
    """A clock on the wall and seconds since a boot; *between* is called at one look at these."""

    def __init__(self) -> None:
        self.wall, self.seconds, self.looks = 0.0, 0.0, 0
        self.at = -1
        self.between: Callable[[], object] = list

    def now(self) -> datetime:
        return NOW + timedelta(seconds=self.wall)

    def elapsed(self) -> float:
        self.looks += 1
        if self.looks == self.at:
            self.between()
        return self.seconds

    def passes(self, seconds: float) -> None:
        self.wall, self.seconds = self.wall + seconds, self.seconds + seconds

    def next_look(self, number: int, between: Callable[[], object]) -> None:
        """Let another thread do something at that look from now on."""
        self.at, self.between = self.looks + number, between


def test_a_jump_is_said_until_the_clock_is_right_again_or_was_calm_for_long() -> None:
    hands = Hands()
    clock = SteadyClock(hands.now, hands.elapsed, forgiving=True)
    strict = SteadyClock(hands.now, hands.elapsed)
    assert clock.jumped() == strict.jumped() == RIGHT

    hands.wall += HOUR
    assert clock.jumped() == strict.jumped() == timedelta(hours=1)
    hands.passes(CALM - 1)
    assert clock.jumped()
    hands.wall += HOUR  # another jump: calm begins anew
    assert clock.jumped()
    hands.passes(CALM - 1)
    assert clock.jumped()
    hands.passes(1)
    assert clock.jumped() == RIGHT
    assert strict.jumped() == timedelta(hours=2)
    hands.wall -= 2 * HOUR
    assert strict.jumped() == RIGHT


@pytest.mark.parametrize("number", [1, 2, 3])
@pytest.mark.parametrize("forgiving", [False, True])
@pytest.mark.parametrize("before", [False, True], ids=["a new jump", "one that is known"])
def test_the_clock_is_set_right_and_another_thread_asks_in_the_middle_of_an_answer(
    number: int, *, forgiving: bool, before: bool
) -> None:
    hands = Hands()
    clock = SteadyClock(hands.now, hands.elapsed, forgiving=forgiving)
    hands.wall += HOUR
    if before:
        assert clock.jumped()
        hands.passes(CALM)

    def set_right() -> None:
        hands.wall -= HOUR
        assert clock.jumped() == RIGHT, "what the other thread is told"

    hands.next_look(number, set_right)
    assert clock.jumped() in (RIGHT, timedelta(hours=1))  # of before or after it
