"""
Which rows may be about a server of some name or address, without reading those of all servers.

What is found this way is read and compared all the same, so one row too many does no harm; one too
few would let a server under a known name pass for a new one.  Three things together leave none out:
all rows as they were a moment ago, the hints that other processes wrote since before they wrote a
row, and the uids that are computed from the address itself.
"""

import hashlib
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Final

from reconciler.ledger import Store
from reconciler.ledger.codec.records import read, read_identity, write
from reconciler.ledger.codec.rows import (
    SERVERS,
    ForgottenRow,
    Hint,
    IdentityRow,
    address_hint_key,
    identity_key,
    name_hint_key,
)
from reconciler.ledger.compare_and_set import update
from reconciler.model.target import Target

Row = IdentityRow | ForgottenRow
FRESH: Final = 300.0
"""Seconds after which all rows are read anew: jtr up to 1.0 writes rows without hints."""


class IdentityIndex:
    """Finds rows of identities in one ledger, which is named by *ledger_uid*."""

    def __init__(self, store: Store, ledger_uid: str, clock: Callable[[], float]) -> None:
        self._store: Final = store
        self._ledger_uid: Final = ledger_uid
        self._clock: Final = clock
        self._lock: Final = threading.Lock()
        self._read_at = float("-inf")
        self._known: dict[str | Target, tuple[str, ...]] = {}  # uids by names and addresses

    def everything(self) -> Iterator[tuple[int, Row]]:
        """Read the rows of all servers."""
        for key in self._store.keys(SERVERS):
            if key.endswith("/identity"):
                found = self._read(key)
                if found is not None:
                    yield found

    def about(self, target: Target, name: str) -> list[tuple[int, Row]]:
        """
        Read every row that is, or ever was, about that address or that name, in the order of uids.

        Those of a process that died before it wrote a row are not there.
        """
        uids = {*self._remembered(target, name), *self._own(target)}
        for key in (name_hint_key(name), address_hint_key(target)):
            stored = self._store.get(key)
            if stored is not None:
                uids.update(read(Hint, key, stored.text).uids)
        rows = (self._read(identity_key(uid)) for uid in sorted(uids))
        return [found for found in rows if found is not None]

    def announce(self, before: IdentityRow | None, row: IdentityRow) -> None:
        """
        Write down that *row* is about to be written, for processes that have read all rows already.

        An address needs that only where a server moved to it.
        """
        identity = row.identity
        if before is None or before.identity.name != identity.name:
            self._hint(name_hint_key(identity.name), identity.uid)
        if before is not None and before.identity.target != identity.target:
            self._hint(address_hint_key(identity.target), identity.uid)

    def uid(self, target: Target, number: int) -> str:
        """
        Return the name that the server met at *target* gets, the first one for *number* 0.

        Computed, not drawn: two processes that meet a server for the first time want the same key,
        and the store lets one of them have it.
        """
        text = "\0".join((self._ledger_uid, target.url, target.account, str(number)))
        return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:32]

    def _own(self, target: Target) -> Iterator[str]:
        """Return the uids of servers that were first met at *target*, and the first unused one."""
        yield self.uid(target, 0)
        number = 1  # the first one may be left out: see `Identities._first`
        while self._store.get(identity_key(self.uid(target, number))) is not None:
            yield self.uid(target, number)
            number += 1

    def _hint(self, key: str, uid: str) -> None:
        def change(text: str | None) -> str:
            known = read(Hint, key, text).uids if text is not None else ()
            return write(Hint(tuple(sorted({*known, uid}))))

        update(self._store, key, change)

    def _read(self, key: str) -> tuple[int, Row] | None:
        stored = self._store.get(key)
        return (stored.revision, read_identity(key, stored.text)) if stored is not None else None

    def _remembered(self, *about: str | Target) -> list[str]:
        """Return the uids that all rows give for names and addresses, as of a moment ago."""
        with self._lock:  # whoever comes meanwhile needs the same
            now = self._clock()
            if now - self._read_at > FRESH:
                known: dict[str | Target, tuple[str, ...]] = {}
                for _, row in self.everything():
                    for one in _about(row):
                        known[one] = (*known.get(one, ()), row.identity.uid)
                self._known, self._read_at = known, now
            return [uid for one in about for uid in self._known.get(one, ())]


def _about(row: Row) -> Iterable[str | Target]:
    return {row.identity.name, row.identity.target, *row.retired}
