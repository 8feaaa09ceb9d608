"""
Where the controller writes down how things stand, for whoever asks: status, metrics, notifications.

Written and read on the event loop only.
"""

import bisect
from collections import Counter
from dataclasses import dataclass, field, replace
from typing import Any, Final

from reconciler.controller.status import ControllerStatus, ServerStatus

BUCKETS: Final = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0)


@dataclass(slots=True)
class PassHistogram:
    """How long passes took: a histogram with upper bounds `BUCKETS`, in seconds."""

    counts: list[int] = field(default_factory=lambda: [0] * (len(BUCKETS) + 1))
    total: float = 0.0

    def add(self, seconds: float) -> None:
        self.counts[bisect.bisect_left(BUCKETS, seconds)] += 1
        self.total += seconds


@dataclass(slots=True)
class StatusStore:
    """
    The newest status of everything, and what was counted since the start.

    `applies` counts actions by result, `passes` passes by result, `restarts` what stopped robots by
    (server, kind: robots, reboot), `stops` robots that stopped without our asking, by server,
    `notifications` by (target, result).  `tick` is when the loop last said that it is alive, and
    `last_pass` when a pass last ended, both on the monotonic clock of the event loop.  `stuck`
    names a server whose pass has not ended for far too long.  `tasks` are those of the event loop:
    more and more of them would be a leak.
    """

    controller: ControllerStatus
    servers: dict[str, ServerStatus] = field(default_factory=dict)
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
    ready: bool = False  # documents, ledger and Vault were all there once

    def note(self, **changes: Any) -> None:
        """Change the controller's own status."""
        self.controller = replace(self.controller, **changes)

    def still(self) -> "StatusStore":
        """Return a copy that nothing changes any more, for whoever reads it in a thread."""
        return replace(
            self,
            servers=dict(self.servers),
            applies=Counter(self.applies),
            passes=Counter(self.passes),
            restarts=Counter(self.restarts),
            stops=Counter(self.stops),
            notifications=Counter(self.notifications),
            pass_seconds=PassHistogram(list(self.pass_seconds.counts), self.pass_seconds.total),
        )
