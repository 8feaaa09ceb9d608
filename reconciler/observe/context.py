"""
What a pass works with, made once for each command.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Protocol, TypeVar

from msgspec import Struct, field

from reconciler.drivers import Driver, Trust
from reconciler.errors import Blocked
from reconciler.ledger.ledger import Ledger
from reconciler.ledger.unrecorded import UnrecordedOutcomes
from reconciler.model.desired import DesiredServer
from reconciler.model.fingerprints import Fingerprints
from reconciler.model.origin import NO_ORIGIN, Origin
from reconciler.model.recorded import HeldBrake, HistoryEntry
from reconciler.model.timestamps import over_by
from reconciler.observe.brakes import RecentBrakes
from reconciler.observe.resolver import Resolver
from reconciler.policy.model import ANYTHING, Policy
from reconciler.system.timeouts import Timeouts

if TYPE_CHECKING:
    from reconciler.exchanges.auditor import KeyToAsk  # only who audits pays for it
    from reconciler.model.key_audits import Egress, Results

T = TypeVar("T")


class Audit(Protocol):
    """Asks exchanges about keys; see `reconciler.exchanges.auditor`."""

    def __call__(
        self,
        keys: Sequence["KeyToAsk"],
        *,
        within: timedelta | None = None,
        again: bool = True,
    ) -> Awaitable["Results"]:
        """
        Answers that are older than *within* are asked for again; by default than a day.

        Without *again* not those to a key that was rejected: whoever tries it again and again locks
        its owner out.
        """
        ...


class PassContext(Struct, frozen=True):
    """Everything that a pass works with; made once per command."""

    driver: Driver
    resolver: Resolver
    fingerprints: Fingerprints
    timeouts: Timeouts
    ledger: Ledger | None
    label: str
    policy: Policy = ANYTHING
    trust: Callable[[str], Trust] = lambda _url: Trust()
    max_unknown_writes: int = 20
    parallelism: int = 4
    now: Callable[[], datetime] = lambda: datetime.now(UTC)
    jumped: Callable[[], timedelta] = timedelta  # by how much `now` is off what is believed of it
    unrecorded: UnrecordedOutcomes | None = None
    ledger_suspect: str = ""  # why the ledger may have forgotten what was done
    sole_writer: bool = False  # the operator's word that no other ledger knows these servers
    ledger_shared: bool = False  # everybody uses this one
    audit: Audit | None = None  # asks exchanges about keys before they are pushed
    egress_of: Callable[[str, str], "Egress"] | None = None  # from where, by server's name and URL
    # The document in force for the server of a planned one, None once it is gone; by default the
    # documents that were planned are those in force.
    in_force: Callable[[DesiredServer], DesiredServer | None] = lambda planned: planned
    # Asks the ledger why what is applied has been overtaken by something newer; None: nothing can.
    outrun: Callable[[], Blocked | None] | None = None
    brakes: RecentBrakes = field(default_factory=RecentBrakes)
    origin: Origin = NO_ORIGIN  # which commit asks for what is done
    remember_every: float = 0.0  # seconds for which an unchanged sight is not written down again
    # This process serves nobody who would notice a slow disk: a ledger that is at hand is read
    # without a thread.
    reads_at_once: bool = False

    async def asked(self, read: Callable[[], T]) -> T:
        """
        Return what *read* finds in the ledger, in a thread where that may have to wait.

        A thread that reads beside a busy event loop waits for the interpreter at each of its steps:
        that costs ten times as much as the reading.
        """
        if self.reads_at_once and self.ledger is not None and self.ledger.at_hand:
            return read()
        return await asyncio.to_thread(read)

    async def recent_brakes(self) -> Sequence[HeldBrake]:
        """Return the brakes that hold, as of a moment ago: for plans, which send nothing."""
        if self.ledger is None:
            return ()
        return await self.brakes.held(partial(self.asked, self.ledger.brakes))

    def unsteady(self) -> str:
        """Say why our own clock is not believed; empty while it is."""
        jump = self.jumped()
        return f"our own clock jumped by {jump.total_seconds():.0f} s" if jump else ""

    def over_by(self) -> datetime:
        """Return the moment by which a suspension or a pause must have ended to be over."""
        # It may be set between two looks at it, either way: the earlier of both counts.
        before, jumped = self.now(), self.jumped()
        return over_by(min(before, self.now()), jumped)

    def stamp(self) -> str:
        """Return the present moment as RFC 3339 text."""
        return self.now().astimezone(UTC).isoformat(timespec="milliseconds")

    def deed(self, what: str, result: str, detail: str = "") -> HistoryEntry:
        """Return what was just done, for the history."""
        return HistoryEntry(self.stamp(), self.label, what, result, detail, self.origin)
