"""When a server is looked at again, and when drift is corrected: tables and bounds."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler.controller import requeue
from reconciler.controller.requeue import CAP, FORGET, Corrections, QueueState
from reconciler.model.values import replace
from reconciler.system.timeouts import Timeouts

D = Timeouts()
NOW = 1_700_000_000.0
LUCKS = st.floats(0, 1, exclude_max=True)


@given(LUCKS, st.integers(0, 400))
def test_a_success_waits_an_interval_with_little_jitter(luck: float, failures: int) -> None:
    timing = requeue.succeeded(QueueState(failures=failures), NOW, D, lambda: luck)

    assert timing.failures == 0
    assert 0.9 * D.interval <= timing.due - NOW <= 1.1 * D.interval


@given(LUCKS, st.integers(0, 400))
def test_a_failure_backs_off_within_bounds(luck: float, failures: int) -> None:
    for most in (D.backoff_most, D.interval, 1.0):
        timing = requeue.failed(QueueState(failures=failures), NOW, most, D, lambda: luck)
        first = min(most, D.backoff)

        assert timing.failures == failures + 1
        wait = round(timing.due - NOW, 6)  # seconds since the epoch are coarse
        assert 0.1 * first <= wait <= min(most, first * 2 ** min(failures, 32))


def test_many_that_fail_together_do_not_come_back_together() -> None:
    luck = random.Random(7).random
    dues = [
        requeue.failed(QueueState(failures=6), NOW, D.backoff_most, D, luck).due - NOW
        for _ in range(500)
    ]
    busiest = max(sum(start <= due < start + 10 for due in dues) for start in range(0, 300, 5))

    assert busiest < 500 / 10  # full jitter: evenly over 300 s, about 17 in any 10 s


@given(st.floats(0, 3e9), LUCKS)
def test_a_restart_neither_storms_nor_forgets(due: float, luck: float) -> None:
    well = requeue.resumed(QueueState(due=due), NOW, D, lambda: luck)
    ill = requeue.resumed(QueueState(due=due, failures=3), NOW, D, lambda: luck)

    assert well.due <= NOW + D.interval
    assert ill.due == min(due, NOW + D.backoff_most)
    assert ill.failures == 3


@pytest.mark.parametrize(
    ("healing", "word"),
    [
        (Corrections(), ""),
        (Corrections(1, NOW - D.heal_cooldown - 1, NOW), ""),
        (Corrections(1, NOW - 1, NOW), "10 min"),
        (Corrections(2, NOW - D.heal_cooldown + 30, NOW), "30 s"),
        (Corrections(CAP, 0, 0), "contested"),
    ],
    ids=["never", "long ago", "just now", "soon", "too often"],
)
def test_when_drift_is_left_alone(healing: Corrections, word: str) -> None:
    why = requeue.rests(healing, NOW, D)

    assert (word in why) if word else not why


def test_corrections_are_forgotten_after_a_quiet_time_only() -> None:
    healing = requeue.corrected(requeue.corrected(Corrections(), NOW), NOW + 700)
    long = FORGET * D.heal_cooldown

    assert healing.count == 2
    assert requeue.looked(healing, NOW + 700 + long - 1, D, drifts=False) == healing
    assert requeue.looked(healing, NOW + 700 + long, D, drifts=False) is None
    again = requeue.looked(healing, NOW + 700 + long, D, drifts=True)
    assert again == replace(healing, drifted=NOW + 700 + long)


def test_healing_is_kept_by_exchange() -> None:
    timing = QueueState().with_healing("okx", Corrections(1)).with_healing("bybit", Corrections(2))

    assert timing.healed("okx") == Corrections(1)
    assert timing.with_healing("okx", None).healing == {"bybit": Corrections(2)}
