"""
The rows of exchanges: each change names the revision that this process knows.
"""

import uuid
from collections.abc import Callable
from functools import partial
from typing import Final

from reconciler.errors import LedgerError
from reconciler.ledger import Conflict
from reconciler.ledger.codec.records import read, write
from reconciler.ledger.codec.rows import ExchangeRow, exchange_key, exchanges_prefix
from reconciler.ledger.joined_store import JoinedStore
from reconciler.model.recorded import ExchangeRecord
from reconciler.model.values import replace

Change = Callable[[ExchangeRow], ExchangeRow]


class ExchangeRows:
    """
    The rows in one ledger; *writer* names this process to people.

    `known` are the revisions that this process knows, by server and key; the table of a server
    stays one object.
    """

    def __init__(self, store: JoinedStore, writer: str) -> None:
        self._store: Final = store
        self._writer: Final = writer
        self.known: Final[dict[str, dict[str, int]]] = {}
        self._own: dict[str, str] = {}  # nonces of our own intents, by key

    def read(self, uid: str, *, base: bool) -> dict[str, ExchangeRecord]:
        """Return all records of a server, and with *base* base later changes on them."""
        found = self._store.rows(exchanges_prefix(uid))
        records = [read(ExchangeRow, key, stored.text).record for key, stored in found.items()]
        if base:
            table = self.known.setdefault(uid, {})
            table.clear()
            table.update({key: stored.revision for key, stored in found.items()})
        return {record.code: record for record in records}

    def change(self, uid: str, code: str, change: Change) -> None:
        """Change a row, if nobody else did since it was loaded; else Conflict."""
        key = exchange_key(uid, code)
        known = self.known.setdefault(uid, {})
        expect = known.get(key, 0)
        stored = self._store.get(key)
        if (stored.revision if stored else 0) != expect:
            raise _moved_on(code)
        old = read(ExchangeRow, key, stored.text) if stored else ExchangeRow(ExchangeRecord(code))
        new = change(old)
        if new == old:
            return
        try:
            known[key] = self._store.put(key, write(new), expect=expect)
        except Conflict:
            raise _moved_on(code) from None
        self._store.if_lost(partial(known.__setitem__, key, expect))

    def promise(self, uid: str, code: str, change: Change) -> None:
        """Write an intent under a nonce of its own and make sure that it is the one that stands."""
        nonce = uuid.uuid4().hex
        self.change(uid, code, lambda row: replace(change(row), nonce=nonce, by=self._writer))
        self._store.when_durable(partial(self._check_stands, uid, code, nonce))

    def conclude(self, uid: str, code: str, change: Change) -> None:
        """Change a row, after which no intent of ours stands there."""
        self.change(uid, code, change)
        key = exchange_key(uid, code)
        nonce = self._own.pop(key, None)
        if nonce is not None:
            self._store.if_lost(partial(self._own.__setitem__, key, nonce))

    def drop(self, uid: str, code: str) -> None:
        """Take back our own newest intent; LedgerError when it is none of ours."""

        def change(row: ExchangeRow) -> ExchangeRow:
            if row.before is None or self._own.get(exchange_key(uid, code)) != row.nonce:
                raise LedgerError(f"this process intends nothing for {code}", "plan again")
            return replace(row, record=row.before, before=None)

        self.conclude(uid, code, change)

    def _check_stands(self, uid: str, code: str, nonce: str) -> None:
        key = exchange_key(uid, code)
        revision, row = self._row(key)
        if (revision, row.nonce) != (self.known[uid][key], nonce):
            raise _moved_on(code)
        self._own[key] = nonce

    def _row(self, key: str) -> tuple[int, ExchangeRow]:
        stored = self._store.get(key)
        if stored is None:
            raise LedgerError(f"the ledger's row {key} vanished", "restore it from a backup")
        return stored.revision, read(ExchangeRow, key, stored.text)


def _moved_on(code: str) -> Conflict:
    return Conflict(f"another process worked on {code} of this server meanwhile", "plan again")
