"""
What was really done to a stand-in JT-Trader: the oracle of the tests.

A record never keeps a value, a mask or a secret: only who sent which event, and what it did.  It
is written by the stand-in's loop and may be read from any thread.
"""

import threading
from collections.abc import Callable
from dataclasses import dataclass

SINK: Callable[[str, str], None] | None = None
"""Called with (command, event) for every received event of every stand-in; from any thread."""


@dataclass(frozen=True, slots=True)
class Handshake:
    """One Socket.IO connection; *at* is monotonic seconds, *command* as in `Received`."""

    at: float
    connection: str
    command: str
    authorised: bool


@dataclass(frozen=True, slots=True)
class Received:
    """
    One `message` event.

    *command* is what stands in brackets in the handshake's `User-Agent: jt-reconciler/1.2 (plan)`,
    empty for every other client.  *event* is None where the message had none.
    """

    at: float
    connection: str
    command: str
    event: str | None
    authorised: bool


class Record:
    """Counters and lists since the stand-in was made; restarts do not clear them."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._handshakes: list[Handshake] = []
        self._received: list[Received] = []
        self._history: list[tuple[str, ...]] = []
        self.saves = 0
        """Requests to save, answered or not, also of unauthorised sockets."""
        self.deletes = 0
        """Requests to delete, likewise."""
        self.rows_written = 0
        self.rows_deleted = 0
        self.fatal_paths = 0
        """How often a request failed inside the server, which stops every robot."""
        self.robot_stops = 0
        """Robots that ran and were stopped by a fatal path or a reboot."""
        self.invalidations = 0
        self.reboots = 0

    @property
    def handshakes(self) -> list[Handshake]:
        """All connections in their order (a copy)."""
        with self._lock:
            return list(self._handshakes)

    @property
    def received(self) -> list[Received]:
        """All `message` events in their order (a copy)."""
        with self._lock:
            return list(self._received)

    @property
    def history(self) -> list[tuple[str, ...]]:
        """One entry per save or delete that finished: ("save" | "delete", account, *names)."""
        with self._lock:
            return list(self._history)

    def events(self, event: str) -> int:
        """Count the received messages with this event."""
        return sum(received.event == event for received in self.received)

    def add_handshake(self, handshake: Handshake) -> None:
        """Remember a connection."""
        with self._lock:
            self._handshakes.append(handshake)

    def add_received(self, received: Received) -> None:
        """Remember a message and tell the suite's collector."""
        with self._lock:
            self._received.append(received)
        if SINK is not None:
            SINK(received.command, received.event or "")

    def add_finished(self, kind: str, account: str, names: tuple[str, ...]) -> None:
        """Remember that a save or delete went through all of its rows."""
        with self._lock:
            self._history.append((kind, account, *names))
