"""
What the ledger says of all servers together, as far as planning needs it: read once for all of
them in a moment.

Whoever sends reads the brakes anew (`observe.terms.refusal`).
"""

import asyncio
from collections.abc import Sequence
from datetime import datetime
from typing import Final

from msgspec import Struct

from reconciler.ledger.ledger import Ledger
from reconciler.model.recorded import HeldBrake

MOMENT: Final = 0.5  # seconds


class OfAll(Struct, frozen=True):
    """Which brakes are on, and the moment before which every request counts as handled."""

    brakes: Sequence[HeldBrake]
    baseline: datetime


class RecentLedger:
    """One for all passes of a process.  Used on event loops, one at a time."""

    def __init__(self) -> None:
        self._reading: asyncio.Future[OfAll] | None = None
        self._at = 0.0

    async def of_all(self, ledger: Ledger) -> OfAll:
        """Return what holds, as of a moment ago.  Raises LedgerError."""
        loop = asyncio.get_running_loop()
        reading = self._reading
        if reading is None or reading.get_loop() is not loop or loop.time() - self._at > MOMENT:
            reading = asyncio.ensure_future(asyncio.to_thread(_read, ledger))
            self._reading, self._at = reading, loop.time()
        return await asyncio.shield(reading)


def _read(ledger: Ledger) -> OfAll:
    return OfAll(ledger.brakes(), ledger.baseline())
