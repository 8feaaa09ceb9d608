"""
Which server is which: the ledger's own names, bound to addresses and accounts.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime
from typing import Final

from reconciler.errors import Blocked
from reconciler.ledger import Conflict, Store, Stored
from reconciler.ledger.codec.records import read_identity, write
from reconciler.ledger.codec.rows import SERVERS, ForgottenRow, IdentityRow, identity_key
from reconciler.ledger.compare_and_set import TRIES, restless
from reconciler.ledger.exchange_state import moved
from reconciler.model.recorded import Identity
from reconciler.model.target import Target


class Identities:
    """The identities in one ledger, which is named by *ledger_uid*."""

    def __init__(self, store: Store, ledger_uid: str) -> None:
        self._store: Final = store
        self._ledger_uid: Final = ledger_uid

    def all(self) -> list[Identity]:
        """Return every server that was ever pinned and is not forgotten, by name."""
        found = [row.identity for _, row in self._rows()]
        return sorted(found, key=lambda identity: (identity.name, identity.uid))

    def pin(self, target: Target, name: str, *, move: bool = False, new: bool = False) -> Identity:
        """
        Bind a server to its address and account, and note its newest name.

        A server that is known by name at another address is moved with its history if *move*, else
        Blocked; the address that it left is remembered as retired.  With *new* the name counts for
        nothing.
        """
        for _ in range(TRIES):
            found, since = self.look(target, name)
            if new and found is not None and found[1].identity.target != target:
                found = None
            if found is None:
                # The first uid is looked up without the others, and so without who was forgotten.
                uid = self._free_uid(target, 0 if since is None else 1)
                row = IdentityRow(Identity(uid, target, name), self._next_label())
                expect = 0
            else:
                expect, row = found
                if row.identity.target != target:
                    if not move:
                        raise Blocked(
                            f"{name} is pinned to {row.identity.target}, not {target}",
                            f"if the old server is off: --approve-target-change {name}",
                        )
                    row = moved(row, target)
                if row.identity.name != name:
                    identity = replace(row.identity, name=name)
                    row = replace(row, identity=identity, label_order=self._next_label())
                if row == found[1]:
                    return row.identity
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
        key = identity_key(self._uid(target, 0))
        stored = self._store.get(key)
        if stored is not None:
            row = read_identity(key, stored.text)
            # Nearly always: it never moved, and none like it was forgotten before it began.
            if isinstance(row, IdentityRow) and row.identity.target == target:
                return (stored.revision, row), None
        at: tuple[int, IdentityRow] | None = None
        named: tuple[int, IdentityRow] | None = None
        since: datetime | None = None
        for revision, row in self._everything():
            if isinstance(row, ForgottenRow):
                if row.identity.name == name or target in (row.identity.target, *row.retired):
                    since = row.at if since is None else max(since, row.at)
            elif row.identity.target == target:
                at = revision, row
            elif row.identity.name == name and (
                named is None or row.label_order > named[1].label_order
            ):
                named = revision, row
        return at or named, since

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

    def _rows(self) -> Iterator[tuple[int, IdentityRow]]:
        for revision, row in self._everything():
            if isinstance(row, IdentityRow):
                yield revision, row

    def _everything(self) -> Iterator[tuple[int, IdentityRow | ForgottenRow]]:
        for key in self._store.keys(SERVERS):
            if key.endswith("/identity"):
                stored = self._store.get(key)
                if stored is not None:
                    yield stored.revision, read_identity(key, stored.text)

    def _uid(self, target: Target, number: int) -> str:
        # Computed, not drawn: two processes that meet a server for the first time want the same
        # key, and the store lets one of them have it.
        text = "\0".join((self._ledger_uid, target.url, target.account, str(number)))
        return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:32]

    def _free_uid(self, target: Target, number: int) -> str:
        """
        Return the first uid of *target* from *number* on that no server ever had.

        One that moved away keeps its own, and so does one that was forgotten.
        """
        while self._store.get(identity_key(self._uid(target, number))) is not None:
            number += 1
        return self._uid(target, number)

    def _next_label(self) -> int:
        return 1 + max((row.label_order for _, row in self._rows()), default=0)
