"""The pauses of operators, as the controller knows them, and what they say anew."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from msgspec import Struct

from reconciler.errors import JtrError, LedgerError
from reconciler.ledger.ledger import Ledger
from reconciler.model.desired import DesiredState
from reconciler.model.pauses import followed, paused
from reconciler.model.recorded import HistoryEntry, Pause
from reconciler.model.target import Target
from reconciler.model.timestamps import spelled
from reconciler.model.values import replace
from reconciler.observe.context import PassContext


class PauseChange(Struct, frozen=True):
    """What an operator said of a server: to pause it, or with no `pause` to go on."""

    target: Target
    name: str
    by: str
    pause: Pause | None


class Noted(Struct, frozen=True):
    """
    What became of a change: it holds, whatever else is said here.

    `changed` is False where there was nothing to end; `trouble` says what could not be written or
    read besides.
    """

    changed: bool
    trouble: str = ""


class Pauses:
    """
    Those of a ledger, as far as they were read: `known` is None before the first time.

    *changed* is called whenever they are others than before.
    """

    def __init__(self, context: PassContext, ledger: Ledger, changed: Callable[[], None]) -> None:
        self._context: Final = context
        self._ledger: Final = ledger
        self._changed: Final = changed
        self._turn: Final = asyncio.Lock()  # or a late answer would cover a newer pause
        self._state = DesiredState(())  # over which they were put last
        self.known: tuple[Pause, ...] | None = None

    async def look(self) -> None:
        """Read them anew: another controller may have written some.  Raises LedgerError."""
        async with self._turn:
            await self._read()

    async def _read(self) -> None:
        before, self.known = self.known, await asyncio.to_thread(self._ledger.pauses.all)
        if before != self.known:
            self._changed()

    def over(self, state: DesiredState) -> DesiredState:
        """Return *state* with what is paused now."""
        self._state = state
        return paused(state, self.known or (), self._context.over_by())

    async def note(self, wish: PauseChange) -> Noted:
        """
        Write down what an operator said, in the history too; heed it.

        Raises Blocked, and LedgerError, when it does not hold.
        """
        async with self._turn:
            try:
                noted = await asyncio.to_thread(self._note, wish)
            except JtrError as error:
                with suppress(LedgerError):
                    await self._read()
                    if isinstance(error, LedgerError) and self._holds(wish):
                        return Noted(changed=True, trouble=str(error))
                raise
            try:
                await self._read()
            except LedgerError as error:
                return replace(noted, trouble=str(error))
            return noted

    def _holds(self, wish: PauseChange) -> bool:
        """Whether what was read last is as somebody wished."""
        known, over_by = self.known or (), self._context.over_by()
        if wish.pause is not None:
            return wish.pause in [replace(one, uid="", name=wish.pause.name) for one in known]
        places = self._places(wish.target)
        return not any(one.target in places and one.until > over_by for one in known)

    def _places(self, target: Target) -> set[Target]:
        """Return where the ledger may have the pause of a server: it may be about to move."""
        known = self.known or ()
        both = zip(known, followed(known, self._state), strict=True)
        return {target, *(one.target for one, now in both if now.target == target)}

    def _note(self, wish: PauseChange) -> Noted:
        ledger, pause, stamp = self._ledger, wish.pause, self._context.stamp()
        over_by = self._context.over_by()
        if pause is None:
            ended = {ledger.pauses.end(one, over_by) for one in self._places(wish.target)}
            if ended == {False}:
                return Noted(changed=False)
            deed = HistoryEntry(stamp, wish.by, "pause", "ended")
        else:
            ledger.pauses.begin(pause, over_by)
            words = f"until {spelled(pause.until)}: {pause.reason}"
            deed = HistoryEntry(stamp, wish.by, "pause", "begun", words)
        try:
            known = ledger.find(wish.target, wish.name)
            if known is not None and known.target == wish.target:
                ledger.record(known.uid, (deed,))
        except LedgerError as error:
            return Noted(changed=True, trouble=f"the history does not have it: {error}")
        return Noted(changed=True)
