"""
The servers that operators paused: one document, changed by compare-and-set.

Whichever controller acts on the ledger finds them there, also after a restart.  A pause belongs to
a server, not to an address: it names the server as the ledger does, and where that one is now is
looked up at every reading.  So no move of a server leaves its pause behind, whichever of the two
was written first.
"""

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Final

from reconciler.errors import Blocked
from reconciler.ledger import Store
from reconciler.ledger.codec.records import read, write
from reconciler.ledger.codec.rows import PAUSES, PausesRow
from reconciler.ledger.compare_and_set import update
from reconciler.ledger.identities import Identities
from reconciler.model.recorded import Identity, Pause
from reconciler.model.target import Target
from reconciler.model.timestamps import spelled
from reconciler.model.values import replace

KEPT: Final = timedelta(days=7)  # what is over: whoever writes next may have a clock that is wrong


class Pauses:
    """
    Blocking; every method raises LedgerError.  What is over counts for nothing.

    Each *now* is the moment by which a pause must have ended to be over: `PassContext.over_by`.
    """

    def __init__(self, store: Store, identities: Identities) -> None:
        self._store: Final = store
        self._identities: Final = identities

    def all(self) -> tuple[Pause, ...]:
        """Return what is remembered, also what is over, with where its server is today."""
        stored = self._store.get(PAUSES)
        return self._read(stored.text if stored is not None else None)

    def _read(self, text: str | None) -> tuple[Pause, ...]:
        known = read(PausesRow, PAUSES, text).pauses if text is not None else ()
        return tuple(map(self._today, known))

    def _today(self, pause: Pause) -> Pause:
        identity = self._identities.called(pause.uid) if pause.uid else None
        if identity is None:
            return pause
        return replace(pause, target=identity.target, name=identity.name)

    def begin(self, pause: Pause, now: datetime) -> None:
        """
        Remember *pause* in the place of an earlier one of its server; forget what ended long ago.

        Raises Blocked where that one holds for longer: nobody shortens it without knowing of it.
        """

        def new(held: Pause | None) -> tuple[Pause, ...]:
            if held is not None and held.until > pause.until:
                raise Blocked(
                    f"{held.by} paused it already, until {spelled(held.until)}: {held.reason}",
                    "choose a later end, or end that pause first",
                )
            found = self._identities.find(pause.target, pause.name)
            identity = found[1].identity if found is not None else None
            if identity is None or identity.target != pause.target:
                return (pause,)  # its name may have been another server's
            return (replace(pause, uid=identity.uid),)

        self._change(pause.target, new, now)

    def end(self, target: Target, now: datetime) -> bool:
        """Let the server that is at *target* go on; whether it was paused."""
        ended = False

        def new(held: Pause | None) -> tuple[Pause, ...]:
            nonlocal ended
            ended = held is not None
            return ()

        self._change(target, new, now)
        return ended

    def bind(self, identity: Identity) -> None:
        """
        Let the pauses of a server that is about to move follow it.

        Only one that began before the ledger knew the server does not do so by itself.
        """
        if all(one.uid or one.target != identity.target for one in self.all()):
            return

        def text(before: str | None) -> str:
            bound = (
                replace(one, uid=identity.uid)
                if not one.uid and one.target == identity.target
                else one
                for one in self._read(before)
            )
            return write(PausesRow(tuple(bound)))

        update(self._store, PAUSES, text)

    def _change(
        self, target: Target, new: Callable[[Pause | None], tuple[Pause, ...]], now: datetime
    ) -> None:
        """Put what *new* makes of the pause that a server has in its place."""

        def text(before: str | None) -> str:
            known = self._read(before)
            mine = [one for one in known if one.target == target and one.until > now]
            held = max(mine, key=lambda one: one.until, default=None)
            kept = (one for one in known if one.target != target and one.until > now - KEPT)
            return write(PausesRow((*kept, *new(held))))

        update(self._store, PAUSES, text)
