"""
Of several controllers on one ledger one acts, the others wait and say so.

The place is a lease in the ledger.  It spares servers a second visitor and people two of every
message; it is no guard: what must not happen twice is guarded by the ledger's own documents.
"""

import asyncio
import logging
from collections.abc import Callable
from typing import Final

from reconciler.errors import JtrError, LeaseHeld
from reconciler.ledger.lease import held
from reconciler.ledger.ledger import Ledger
from reconciler.system.timeouts import Timeouts

LOG: Final = logging.getLogger("reconciler.controller")


class Leadership:
    """Holds the place while it can; `changed` is called whenever that begins or ends."""

    def __init__(
        self, ledger: Ledger, timeouts: Timeouts, changed: Callable[[str, str], None]
    ) -> None:
        """*changed* gets who else is there, and what is wrong with the ledger; empty for none."""
        self._ledger: Final = ledger
        self._timeouts: Final = timeouts
        self._changed: Final = changed
        self._check: Callable[[], None] | None = None

    @property
    def held(self) -> bool:
        if self._check is None:
            return False
        try:
            self._check()
        except JtrError:
            return False
        return True

    async def run(self) -> None:
        """Take the place, keep it, take it again when it was lost; until cancelled."""
        told = ""
        while True:
            rival, trouble = "", ""
            try:
                lease = self._ledger.leadership()
                async with held(lease, self._timeouts.lease) as self._check:
                    told = ""
                    self._changed("", "")
                    await self._watch()
            except LeaseHeld as error:
                rival = error.what
            except JtrError as error:
                trouble = str(error)
            finally:
                self._check = None
            self._changed(rival, trouble)
            if (rival or trouble) and (rival or trouble) != told:
                told = rival or trouble
                LOG.warning("waiting: %s", told)
            await asyncio.sleep(self._timeouts.lease / 3)

    async def _watch(self) -> None:
        while self._check is not None:
            self._check()
            await asyncio.sleep(self._timeouts.lease / 10)
