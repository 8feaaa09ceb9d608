"""
Whether a pass goes on: by what it sees of its server, never by how long it takes.  Pure.
"""

from typing import Final

STUCK: Final = 1_800.0  # seconds without a new sight of the server; each step has a deadline below


class Progress:
    """
    One worker's present pass; moments are the loop's clock.

    The robots of one server may need hours to start one after another, and whoever waits for them
    as long: neither is a fault of this process.
    """

    def __init__(self) -> None:
        self._at: float | None = None  # when the pass came on last
        self._seen: object = None

    @property
    def under_way(self) -> bool:
        return self._at is not None

    def begin(self, now: float) -> None:
        self._at, self._seen = now, None

    def end(self) -> None:
        self._at, self._seen = None, None

    def stuck(self, now: float, seen: object, *, waits: bool) -> bool:
        """
        Whether there was nothing new for too long; to be asked again and again.

        *seen* is the newest sight of the server; *waits* says that the pass waits for others.
        """
        if self._at is None:
            return False
        if seen is not self._seen or waits:
            self._at, self._seen = now, seen
        return now - self._at > STUCK
