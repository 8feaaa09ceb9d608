"""
Of several controllers on one ledger one acts, the others wait and say so.

The place is a lease in the ledger.  It spares servers a second visitor and people two of every
message; it is no guard: what must not happen twice is guarded by the ledger's own documents.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Final

from reconciler.errors import JtrError, LeaseHeld
from reconciler.ledger.lease import Held, held
from reconciler.ledger.ledger import Ledger
from reconciler.system.timeouts import Timeouts

LOG: Final = logging.getLogger("reconciler.controller")


class Leadership:
    """
    Holds the place while it can; `changed` is called whenever that begins or ends.

    It begins only once `confirm` has returned, under the lease: whoever had the place before may
    have said something that we did not hear yet.

    `unrivalled` stays true while only the ledger is away: nobody can have taken the place that we
    know of, so servers may still be looked at, though nothing may be done.
    """

    def __init__(
        self,
        ledger: Ledger,
        timeouts: Timeouts,
        changed: Callable[[str, str], None],
        confirm: Callable[[], Awaitable[None]],
    ) -> None:
        """*changed* gets who else is there, and what is wrong with the ledger; empty for none."""
        self._ledger: Final = ledger
        self._timeouts: Final = timeouts
        self._changed: Final = changed
        self._confirm: Final = confirm
        self._check: Held | None = None
        self._told = ""
        self.unrivalled = False

    @property
    def held(self) -> bool:
        return self._check is not None and self._check.now

    async def run(self) -> None:
        """Take the place, keep it, take it again when it was lost; until cancelled."""
        while True:
            rival, trouble = "", ""
            try:
                lease = self._ledger.leadership()
                async with held(lease, self._timeouts.lease) as check:
                    await self._confirm()
                    self._check = check
                    self.unrivalled = True
                    await self._watch(check)
            except LeaseHeld as error:
                self.unrivalled = False
                rival = error.what
            except JtrError as error:
                trouble = str(error)
            finally:
                self._check = None
            self._tell(rival, trouble)
            await asyncio.sleep(self._timeouts.lease / 3)

    async def _watch(self, check: Held) -> None:
        """Tell when the place is not ours for a while, until another one has it for good."""
        before: bool | None = None
        while check.taken is None:
            if check.now is not before:
                before = check.now
                self._tell("", "" if before else "the ledger does not answer in time")
            await asyncio.sleep(self._timeouts.lease / 10)
        raise check.taken

    def _tell(self, rival: str, trouble: str) -> None:
        why = rival or trouble
        if why and why != self._told:
            LOG.warning("waiting: %s", why)
        elif self._told and not why:
            LOG.info("acting again")
        self._told = why
        self._changed(rival, trouble)
