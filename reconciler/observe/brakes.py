"""
The ledger's brakes, as far as planning needs them: read once for all servers of a moment.

Whoever sends reads them anew (`observe.terms.refusal`).
"""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Final

from reconciler.model.recorded import HeldBrake

MOMENT: Final = 0.5  # seconds


class RecentBrakes:
    """One for all passes of a process.  Used on event loops, one at a time."""

    def __init__(self) -> None:
        self._reading: asyncio.Future[list[HeldBrake]] | None = None
        self._at = 0.0

    async def held(
        self, read: Callable[[], Coroutine[Any, Any, list[HeldBrake]]]
    ) -> Sequence[HeldBrake]:
        """Return what holds, as of a moment ago, by *read*.  Raises LedgerError."""
        loop = asyncio.get_running_loop()
        reading = self._reading
        if reading is None or reading.get_loop() is not loop or loop.time() - self._at > MOMENT:
            reading = asyncio.ensure_future(read())
            self._reading, self._at = reading, loop.time()
        return await asyncio.shield(reading)
