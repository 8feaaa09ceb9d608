"""
Which server is which: the ledger's own names, bound to addresses and accounts.
"""

from collections.abc import Callable, Iterable
from datetime import datetime
from typing import Final

from reconciler.errors import Blocked
from reconciler.ledger import Conflict, Store, Stored
from reconciler.ledger.codec.records import read_identity, write
from reconciler.ledger.codec.rows import ForgottenRow, IdentityRow, identity_key
from reconciler.ledger.compare_and_set import TRIES, restless
from reconciler.ledger.exchange_state import moved
from reconciler.ledger.identity_index import IdentityIndex, Row
from reconciler.model.recorded import Identity
from reconciler.model.target import Target
from reconciler.model.values import replace


class Identities:
    """The identities in one ledger, which is named by *ledger_uid*."""

    def __init__(self, store: Store, ledger_uid: str, clock: Callable[[], float]) -> None:
        self._store: Final = store
        self._index: Final = IdentityIndex(store, ledger_uid, clock)

    def all(self) -> list[Identity]:
        """Return every server that was ever pinned and is not forgotten, by name."""
        rows = (row for _, row in self._index.everything())
        found = [row.identity for row in rows if isinstance(row, IdentityRow)]
        return sorted(found, key=lambda identity: (identity.name, identity.uid))

    def pin(self, target: Target, name: str, *, move: bool = False, new: bool = False) -> Identity:
        """
        Bind a server to its address and account, and note its newest name.

        A server that is known by name at another address is moved with its history if *move*, else
        Blocked; the address that it left is remembered as retired.  With *new* the name counts for
        nothing.
        """
        for _ in range(TRIES):
            found = self._quickly(target)
            if found is not None and found[1].identity.name == name:
                return found[1].identity
            rows = self._index.about(target, name)
            found = found or _chosen(rows, target, name)
            if found is None or (new and found[1].identity.target != target):
                expect, before, row = 0, None, self._first(target, name, rows)
            else:
                expect, before = found
                row = _renewed(before, target, name, rows, move=move)
                if row == before:
                    return row.identity
            # Never after it: whoever finds no hint takes the server for one that was never met.
            self._index.announce(before, row)
            try:
                self._store.put(identity_key(row.identity.uid), write(row), expect=expect)
            except Conflict:
                continue
            return row.identity
        raise restless(f"the identity of {name}")

    def find(self, target: Target, name: str) -> tuple[int, IdentityRow] | None:
        """Return the row of the server at *target*, else of the one that last had *name*."""
        return self.look(target, name)[0]

    def look(
        self, target: Target, name: str
    ) -> tuple[tuple[int, IdentityRow] | None, datetime | None]:
        """
        Return what `find` does, and until when requests may have been done that nobody knows of.

        The latter is when a server of that address or name was forgotten last: it may come back
        with its old document, and what that asks for must not be done a second time.
        """
        found = self._quickly(target)
        if found is not None:
            return found, None
        rows = self._index.about(target, name)
        return _chosen(rows, target, name), _forgotten(rows, target, name)

    def _quickly(self, target: Target) -> tuple[int, IdentityRow] | None:
        """Nearly always: it never moved, and none like it was forgotten before it began."""
        key = identity_key(self._index.uid(target, 0))
        stored = self._store.get(key)
        if stored is None:
            return None
        row = read_identity(key, stored.text)
        if isinstance(row, IdentityRow) and row.identity.target == target:
            return stored.revision, row
        return None

    def called(self, uid: str) -> Identity | None:
        """Return what is, or was last, known of the server that the ledger calls *uid*."""
        key = identity_key(uid)
        stored = self._store.get(key)
        return read_identity(key, stored.text).identity if stored is not None else None

    def forgotten(self) -> list[ForgottenRow]:
        """Return every server that was forgotten, by name, oldest first."""
        found = [row for _, row in self._index.everything() if isinstance(row, ForgottenRow)]
        return sorted(found, key=lambda row: (row.identity.name, row.at))

    def forget(self, uid: str, at: datetime, because: str, by: str) -> None:
        """Let a server be none any more, in one change; Conflict where it is forgotten already."""
        key = identity_key(uid)
        stored = self._store.get(key)
        row = self._known(uid, stored)
        gone = ForgottenRow(row.identity, at, because, by, row.retired)
        self._store.put(key, write(gone), expect=stored.revision if stored else 0)

    def check_known(self, uid: str) -> None:
        """Raise Conflict for a server that was forgotten meanwhile."""
        self._known(uid, self._store.get(identity_key(uid)))

    def _known(self, uid: str, stored: Stored | None) -> IdentityRow:
        row = read_identity(identity_key(uid), stored.text) if stored else None
        if isinstance(row, IdentityRow):
            return row
        name = row.identity.name if row else uid
        raise Conflict(f"{name} was forgotten meanwhile: it is a new server now", "plan again")

    def _first(self, target: Target, name: str, rows: Iterable[tuple[int, Row]]) -> IdentityRow:
        """
        Return the row of a server that is new, under the first uid that no server ever had.

        One that moved away keeps its own, and so does one that was forgotten.  The very first one
        is looked up without the others, and so without who was forgotten.
        """
        number = 0 if _forgotten(rows, target, name) is None else 1
        while self._store.get(identity_key(self._index.uid(target, number))) is not None:
            number += 1
        identity = Identity(self._index.uid(target, number), target, name)
        return IdentityRow(identity, _next_label(rows, name))


def _renewed(
    row: IdentityRow, target: Target, name: str, rows: Iterable[tuple[int, Row]], *, move: bool
) -> IdentityRow:
    """Return the row of a known server with its newest address and name.  Raises Blocked."""
    if row.identity.target != target:
        if not move:
            raise Blocked(
                f"{name} is pinned to {row.identity.target}, not {target}",
                f"if the old server is off: --approve-target-change {name}",
            )
        row = moved(row, target)
    if row.identity.name != name:
        identity = replace(row.identity, name=name)
        row = replace(row, identity=identity, label_order=_next_label(rows, name))
    return row


def _chosen(
    rows: Iterable[tuple[int, Row]], target: Target, name: str
) -> tuple[int, IdentityRow] | None:
    """Return the row of the server at *target*, else of the one that got *name* last."""
    at: tuple[int, IdentityRow] | None = None
    named: tuple[int, IdentityRow] | None = None
    for revision, row in rows:
        if isinstance(row, ForgottenRow):
            continue
        if row.identity.target == target:
            at = revision, row
        elif row.identity.name == name and (
            named is None or row.label_order > named[1].label_order
        ):
            named = revision, row
    return at or named


def _forgotten(rows: Iterable[tuple[int, Row]], target: Target, name: str) -> datetime | None:
    """Return when a server of that address or name was forgotten last."""
    return max(
        (
            row.at
            for _, row in rows
            if isinstance(row, ForgottenRow)
            and (row.identity.name == name or target in (row.identity.target, *row.retired))
        ),
        default=None,
    )


def _next_label(rows: Iterable[tuple[int, Row]], name: str) -> int:
    """Return one that is higher than those of all servers called *name*."""
    labels = (
        row.label_order
        for _, row in rows
        if isinstance(row, IdentityRow) and row.identity.name == name
    )
    return 1 + max(labels, default=0)
