"""
Where the controller writes down how things stand, for whoever asks: status, metrics, notifications.

Written and read on the event loop only.
"""

import bisect
import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any, Final, Self

from reconciler.controller.document_source import Reading
from reconciler.controller.status import ControllerStatus, ServerStatus
from reconciler.model.outcomes import Report
from reconciler.model.values import replace

BUCKETS: Final = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0)


@dataclass(slots=True)
class PassHistogram:
    """How long passes took: a histogram with upper bounds `BUCKETS`, in seconds."""

    counts: list[int] = field(default_factory=lambda: [0] * (len(BUCKETS) + 1))
    total: float = 0.0

    def add(self, seconds: float) -> None:
        self.counts[bisect.bisect_left(BUCKETS, seconds)] += 1
        self.total += seconds


class Servers(dict[str, ServerStatus]):
    """
    Statuses by name, which tell whoever follows them what was written: nobody has to look at all.

    Every way in which a dict changes is one of these here; `renew` is for a status that says what
    it said before, with newer times.
    """

    def __init__(self, known: Mapping[str, ServerStatus] = MappingProxyType({})) -> None:
        super().__init__(known)
        self._followers: list[set[str]] = []
        self._timeless: list[set[str]] = []

    def follow(self, *, times: bool = True) -> set[str]:
        """
        Return the names that changed, at first all; whoever follows takes out what it saw.

        Without *times* not those that were renewed.
        """
        moved = set(self)
        (self._followers if times else self._timeless).append(moved)
        return moved

    def renew(self, name: str, status: ServerStatus) -> None:
        super().__setitem__(name, status)
        for one in self._followers:
            one.add(name)

    def _moved(self, names: Iterable[str]) -> None:
        for one in (*self._followers, *self._timeless):
            one.update(names)

    def __setitem__(self, name: str, status: ServerStatus) -> None:
        super().__setitem__(name, status)
        self._moved((name,))

    def __delitem__(self, name: str) -> None:
        super().__delitem__(name)
        self._moved((name,))

    def pop(self, name: str, *default: Any) -> Any:
        self._moved((name,))
        return super().pop(name, *default)

    def popitem(self) -> tuple[str, ServerStatus]:
        found = super().popitem()
        self._moved(found[:1])
        return found

    def clear(self) -> None:
        self._moved(self)
        super().clear()

    def setdefault(self, name: str, status: Any = None) -> ServerStatus:
        self._moved((name,))
        return super().setdefault(name, status)

    def update(self, *given: Any, **named: ServerStatus) -> None:
        found: dict[str, ServerStatus] = dict(*given, **named)
        super().update(found)
        self._moved(found)

    def __ior__(self, given: Any) -> Self:  # type: ignore[override,misc]
        self.update(given)
        return self


@dataclass(slots=True)
class StatusStore:
    """
    The newest status of everything, and what was counted since the start.

    `applies` counts actions by result, `passes` passes by result, `restarts` what stopped robots by
    (server, kind: robots, reboot), `stops` robots that stopped without our asking, by server,
    `notifications` by (target, result).  `tick` is when the loop last said that it is alive, and
    `last_pass` when a pass last ended, both on the monotonic clock of the event loop.  `stuck`
    names a server whose pass has not ended for far too long.  `tasks` are those of the event loop:
    more and more of them would be a leak.  `reports` are what the last whole pass over each server
    planned and did.
    """

    controller: ControllerStatus
    servers: Servers = field(default_factory=Servers)
    applies: Counter[str] = field(default_factory=Counter)
    passes: Counter[str] = field(default_factory=Counter)
    restarts: Counter[tuple[str, str]] = field(default_factory=Counter)
    stops: Counter[str] = field(default_factory=Counter)
    notifications: Counter[tuple[str, str]] = field(default_factory=Counter)
    pass_seconds: PassHistogram = field(default_factory=PassHistogram)
    tick: float = 0.0
    last_pass: float | None = None
    stuck: str = ""
    tasks: int = 0
    believed: float = math.inf  # seconds for which a sight of a server is believed
    reports: dict[str, Report] = field(default_factory=dict)
    ready: bool = False  # documents, ledger and Vault were all there once

    def standing(self, now: float) -> list[ServerStatus]:
        """Return the servers by name as they are to be told at *now*, seconds since the epoch."""
        return [self.servers[name].as_of(now, self.believed) for name in sorted(self.servers)]

    def note(self, **changes: Any) -> None:
        """Change the controller's own status."""
        self.controller = replace(self.controller, **changes)

    def note_documents(self, reading: Reading, *, moved: bool) -> None:
        """Note what is in force, and why the newest documents are not; *moved*: it is another."""
        now = datetime.now(UTC).isoformat(timespec="milliseconds")
        status = self.controller
        self.note(
            in_force_since=now if moved else status.in_force_since,
            revision=reading.revision,
            attempted=reading.attempted,
            documents=reading.trouble,
            refusal=reading.refusal,
            documents_since=(status.documents_since or now) if reading.trouble else "",
        )

    def still(self) -> "StatusStore":
        """Return a copy that nothing changes any more, for whoever reads it in a thread."""
        return replace(
            self,
            servers=Servers(self.servers),
            reports={},
            applies=Counter(self.applies),
            passes=Counter(self.passes),
            restarts=Counter(self.restarts),
            stops=Counter(self.stops),
            notifications=Counter(self.notifications),
            pass_seconds=PassHistogram(list(self.pass_seconds.counts), self.pass_seconds.total),
        )
