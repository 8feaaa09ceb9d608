"""
Which server is which: the ledger's own names, bound to addresses and accounts.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import replace
from typing import Final

from reconciler.errors import Blocked
from reconciler.ledger import Conflict, Store
from reconciler.ledger.codec.records import read, write
from reconciler.ledger.codec.rows import SERVERS, IdentityRow, identity_key
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
        """Return every server that was ever pinned, by name."""
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
            found = self.find(target, "" if new else name)
            if found is None:
                row = IdentityRow(
                    Identity(self._free_uid(target), target, name), self._next_label()
                )
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
        key = identity_key(self._uid(target, 0))
        stored = self._store.get(key)
        if stored is not None:
            row = read(IdentityRow, key, stored.text)
            if row.identity.target == target:  # nearly always: it never moved
                return stored.revision, row
        named: tuple[int, IdentityRow] | None = None
        for revision, row in self._rows():
            if row.identity.target == target:
                return revision, row
            if row.identity.name == name and (
                named is None or row.label_order > named[1].label_order
            ):
                named = revision, row
        return named

    def _rows(self) -> Iterator[tuple[int, IdentityRow]]:
        for key in self._store.keys(SERVERS):
            if key.endswith("/identity"):
                stored = self._store.get(key)
                if stored is not None:
                    yield stored.revision, read(IdentityRow, key, stored.text)

    def _uid(self, target: Target, number: int) -> str:
        # Computed, not drawn: two processes that meet a server for the first time want the same
        # key, and the store lets one of them have it.
        text = "\0".join((self._ledger_uid, target.url, target.account, str(number)))
        return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:32]

    def _free_uid(self, target: Target) -> str:
        """Return the first uid of *target* that no server has; one that moved away keeps its."""
        number = 0
        while self._store.get(identity_key(self._uid(target, number))) is not None:
            number += 1
        return self._uid(target, number)

    def _next_label(self) -> int:
        return 1 + max((row.label_order for _, row in self._rows()), default=0)
