"""
Any history of two servers, two documents and two processes of ours is harmless, and comes to rest.

What a history is stands in `tests.support.histories.play`, what must never happen in its `judge`.
A failure prints the history, which can be pasted into `KNOWN`, and its story moment by moment.
"""

import logging
import os
from collections.abc import Iterator
from typing import Final

import pytest
from hypothesis import HealthCheck, given, settings

from reconciler.sandbox.jt_trader import server as jt_trader
from tests.support.histories.environment import Beginning
from tests.support.histories.play import History, Step, beginning, histories, lived

PARTS: Final = 4  # so that several workers share them
FEW: Final = 80  # for who waits
HISTORIES: Final = 2_000
MANY: Final = int(os.environ.get("JTR_HISTORIES", "") or 50_000)
STORIES: Final = settings(
    deadline=None,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)


SERVED: Final = ("controller", "apply")
WRITING: Final = Step("rotate", "b", "bybit", wait=45.0)
KNOWN: Final = {
    "suspended while a write is under way": History(
        (WRITING, Step("edit", "b", "suspend", wait=0.3)), SERVED, (0.5,)
    ),
    "only observed while a write is under way": History(
        (WRITING, Step("edit", "b", "observe", wait=0.3)), SERVED, (0.5,)
    ),
    "dropped while a write is under way": History(
        (WRITING, Step("edit", "b", "drop bybit", wait=0.3)), SERVED, (0.5,)
    ),
    "a document that goes while a write is under way": History(
        (WRITING, Step("remove", "b", wait=0.3)), SERVED, (0.5,)
    ),
    "addresses exchanged while a write is under way": History(
        (WRITING, Step("swap", "addresses", wait=0.3)), SERVED, (0.5,)
    ),
    "wanted again while a delete reads once more": History(
        (
            Step("edit", "b", "delete mexc", wait=45.0),
            Step("edit", "b", "want mexc", wait=2.0),
        ),
        SERVED,
        (0.1,),
    ),
    "taken back while a reboot is under way": History(
        (Step("edit", "b", "ask reboot", wait=45.0), Step("edit", "b", "unask", wait=0.3)),
        SERVED,
        (0.5,),
    ),
    "a request that stays where it was": History(
        (Step("edit", "a", "ask both"), Step("go", "0"), Step("go", "0", wait=45.0))
    ),
    "a request whose document gets another address and comes back": History(
        (
            Step("edit", "a", "ask both"),
            Step("go", "0"),
            Step("move", "a", "https://spare.test", wait=45.0),
            Step("go", "0", "approve"),
            Step("move", "a", "https://one.test", wait=45.0),
            Step("go", "0", "approve"),
        )
    ),
    "dies before it stops a robot that a hand stops then": History(
        (
            Step("rotate", "a", "bybit"),
            Step("go", "0", dies_at=27),
            Step("hand", "https://one.test", "stop 2", wait=3.0),
            Step("go", "1", wait=45.0),
        )
    ),
    "a restart is found out while another process dies in the next one": History(
        (
            Step("rotate", "a", "bybit", wait=1.0),
            Step("go", "0", dies_at=35),
            Step("go", "1", wait=3.0),
            Step("wait", wait=250.0),
        ),
        ("controller", "controller"),
        (0.1, 2.0),
    ),
    **{
        f"a hand stops a robot {into} s after a reboot was asked for at {wait} s": History(
            (
                Step("edit", "a", "ask reboot", wait=wait),
                Step("hand", "https://one.test", "stop 1", wait=into),
            ),
            SERVED,
            (0.5,),
        )
        for wait, into in (
            *((wait, 9.0) for wait in (4.5, 5.0, 6.0, 7.0, 9.0)),
            *((5.0, into) for into in (8.0, 8.5, 9.5, 10.0)),
        )
    },
    "a hand stops a robot after a death before a reboot was sent": History(
        (
            Step("edit", "a", "ask reboot"),
            Step("go", "0"),
            Step("crash", "0", wait=45.0),
            Step("hand", "https://one.test", "stop 1"),
        ),
        pace=(0.0, 0.0, 7.0, 0.0),
    ),
    "a hand starts a robot after a death before a reboot was sent": History(
        (
            Step("hand", "https://one.test", "stop 2"),
            Step("edit", "a", "ask reboot"),
            Step("go", "0", dies_at=5),
            Step("hand", "https://one.test", "start 2", wait=45.0),
            Step("go", "1", wait=45.0),
            Step("wait", wait=45.0),
        )
    ),
    "dies while it restarts robots": History(
        (Step("rotate", "a", "bybit"), Step("go", "0", dies_at=15))
    ),
}
"""What histories found, or find when the code is broken on purpose."""


@pytest.fixture(scope="module")
def begins() -> Beginning:
    """Where all histories begin."""
    return beginning()


@pytest.fixture(autouse=True)
def nothing_is_kept(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Keep neither servers nor log lines of so many histories: the judge saw all of it."""
    monkeypatch.setattr(jt_trader, "on_created", None)
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


@pytest.mark.parametrize("name", KNOWN)
def test_a_known_history_does_no_harm(begins: Beginning, name: str) -> None:
    lived(KNOWN[name], begins)


@settings(STORIES, max_examples=FEW)
@given(history=histories())
def test_a_few_histories_do_no_harm(begins: Beginning, history: History) -> None:
    lived(history, begins)


@pytest.mark.volume
@pytest.mark.timeout(900)
@pytest.mark.parametrize("part", range(PARTS))
@settings(STORIES, max_examples=HISTORIES // PARTS)
@given(history=histories())
def test_no_history_does_harm_and_each_comes_to_rest(
    begins: Beginning, history: History, part: int
) -> None:
    del part
    lived(history, begins)


@pytest.mark.long
@pytest.mark.parametrize("part", range(PARTS))
@settings(STORIES, max_examples=MANY // PARTS)
@given(history=histories(most=14))
def test_no_long_history_does_harm(begins: Beginning, history: History, part: int) -> None:
    del part
    lived(history, begins)
