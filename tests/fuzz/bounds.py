"""
What may come of any input: a result or an error of ours, soon, in little memory, and no secret.

Each test attacks one reader.  How many examples it takes is fixed, so that the suite costs the same
everywhere; the seed is new in every run and stands in the failure.
"""

import gc
import os
import random
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final, TypeVar

import pytest
from hypothesis import HealthCheck, given, seed, settings
from hypothesis.strategies import SearchStrategy

from reconciler.errors import InternalError, JtrError
from tests.support.canaries import canaries, find_leaks

T = TypeVar("T")

AT_ONCE: Final = 1.0
"""Seconds of the processor for one example: what takes less is not looked at any closer."""
MOST_ADDITIONS: Final = 60_000_000
"""For one example that takes longer: as many take a second and more where a processor is quick."""
MOST_GROWTH: Final = 160 * 2**20
"""Bytes: a fresh process with all of jtr imported has 96 MiB, and 256 MiB are the limit."""
SEED: Final = int(os.environ.get("JTR_FUZZ_SEED") or random.SystemRandom().getrandbits(48))
CANARIES: Final = canaries(SEED)
KEY: Final = next(canary.value for canary in CANARIES if canary.shape == "base62")
"""A made-up key, to be put where no key belongs."""

PATIENT: Final = pytest.mark.timeout(900)
"""For what takes seconds of the processor, which a busy machine may have for others."""

_RSS: Final = Path("/proc/self/status")
_FORGET_PEAK: Final = Path("/proc/self/clear_refs")


def examples(few: int, many: int) -> pytest.MarkDecorator:
    """Let a test take *few* examples in every run, and *many* in a long one."""
    long = pytest.param(many, marks=[pytest.mark.long, pytest.mark.timeout(3600)], id="many")
    short = pytest.param(few, marks=[PATIENT], id="few")
    return pytest.mark.parametrize("most", [short, long])


def attack(inputs: SearchStrategy[T], read: Callable[[T], object], most: int) -> None:
    """Give *read* so many of *inputs*, within all bounds; a failure says how to repeat it."""

    @seed(SEED)
    @settings(
        max_examples=most,
        deadline=None,
        database=None,
        print_blob=False,
        suppress_health_check=list(HealthCheck),
    )
    @given(inputs)
    def run(one: T) -> None:
        outcome(lambda: read(one))

    try:
        run()
    except BaseException as error:
        error.add_note(f"to repeat it: JTR_FUZZ_SEED={SEED}")
        raise


def outcome(read: Callable[[], T]) -> T | JtrError:
    """
    Return what *read* returns, or the error of ours that it raises; any other one goes on.

    Judges the time that it takes and what the error says.
    """
    found, took = _timed(read)
    if took >= AT_ONCE:  # by the same processor's own work, a busy or slow one is no defect of ours
        found, again = _timed(read)
        took, most = min(took, again), _additions()
        assert took < most, f"{took:.2f} s of the processor, where {most:.2f} s are the most"
    if isinstance(found, JtrError):
        assert_silent(str(found))
    return found


def _additions() -> float:
    """Return how many seconds of the processor so many additions take here and now."""
    total, began = 0, time.process_time()
    for number in range(MOST_ADDITIONS // 20):
        total += number
    return 20 * (time.process_time() - began)


def _timed(read: Callable[[], T]) -> tuple[T | JtrError, float]:
    """Return what came of *read*, and in how many seconds of the processor."""
    # What Hypothesis remembers of thousands of examples takes a second to look through.
    gc.disable()
    began = time.process_time()
    found: T | JtrError
    try:
        found = with_memory(read)
    except InternalError:
        raise
    except JtrError as error:
        found = error
    finally:
        took = time.process_time() - began
        gc.enable()
    return found, took


def assert_silent(text: str) -> None:
    """See that *text* can be printed anywhere and holds no trace of the made-up keys."""
    leaks = find_leaks(text.encode("utf-8", "surrogatepass"), CANARIES)
    assert not leaks, leaks
    assert len(text) < 200_000, f"{len(text)} characters"
    text.encode()


def with_memory(run: Callable[[], T]) -> T:
    """Do *run* and judge by how much it made the process grow at most."""
    if not sys.platform.startswith("linux"):
        return run()
    _FORGET_PEAK.write_text("5", "ascii")
    before = _memory("VmRSS")
    found = run()
    growth = _memory("VmHWM") - before
    assert growth < MOST_GROWTH, f"{growth / 2**20:.0f} MiB more"
    return found


def _memory(name: str) -> int:
    lines = _RSS.read_text("ascii").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{name}:"))
