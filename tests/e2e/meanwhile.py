"""
What happens to a server at one moment of a command: when it has received something.

The moment is the server's own, before it does or answers anything, so no wait can miss it.
"""

import itertools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Event, Thread
from typing import Final

from reconciler.sandbox.jt_trader.record import Received
from reconciler.sandbox.jt_trader.server import StandInThread
from tests.support.processes import PATIENCE

LOOK: Final = "logs-list-request"  # the last one of a look
SAVE: Final = "exchange-config-save"
DELETE: Final = "exchange-config-delete"
HELD: Final = 3600.0
"""Seconds of a delay of the stand-in that somebody ends: nobody waits for so long."""


@contextmanager
def when_asked(
    server: StandInThread,
    event: str,
    act: Callable[[], object],
    *others: StandInThread,
    nth: int = 1,
) -> Iterator[None]:
    """
    Call *act* once, on the server's own thread, at the *nth* event that any receives from now on.

    It must not call anything that waits for that thread, such as `stop`.
    """
    first, count = iter((act,)), itertools.count(1)
    before = [(one.record, one.record.add_received) for one in (server, *others)]

    def noting(note: Callable[[Received], None]) -> Callable[[Received], None]:
        def noted(received: Received) -> None:
            note(received)
            if received.event == event and next(count) == nth:
                for todo in first:
                    todo()

        return noted

    for record, note in before:
        record.add_received = noting(note)  # type: ignore[method-assign,assignment]
    try:
        yield
        assert not list(first), f"{event} never came"
    finally:
        for record, note in before:
            record.add_received = note  # type: ignore[method-assign]


@contextmanager
def beside(server: StandInThread, event: str, act: Callable[[], object]) -> Iterator[None]:
    """Call *act* on a thread of its own from the first *event* on; the block waits for its end."""
    begun = Event()

    def acting() -> None:
        if begun.wait(PATIENCE):
            act()

    thread = Thread(target=acting)
    thread.start()
    try:
        with when_asked(server, event, begun.set):
            yield
    finally:
        thread.join(PATIENCE)


@contextmanager
def going_down(server: StandInThread, event: str) -> Iterator[None]:
    """Stop the server at the first *event*; from then on it answers nobody."""

    def silenced() -> None:
        server.behaviour.answer_delay = server.behaviour.login_delay = HELD

    with beside(server, event, server.stop), when_asked(server, event, silenced):
        yield
    server.behaviour.answer_delay = server.behaviour.login_delay = 0.0
