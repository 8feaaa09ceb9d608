"""Changing a document of a store in which the newest writer is right."""

from collections.abc import Callable
from typing import Final

from reconciler.errors import LedgerError
from reconciler.ledger import Conflict, Store

TRIES: Final = 20


def update(store: Store, key: str, change: Callable[[str | None], str]) -> None:
    """
    Replace the text under *key* by what *change* makes of it, however often others are quicker.

    *change* gets None where there is no document yet.  Raises LedgerError.
    """
    for _ in range(TRIES):
        stored = store.get(key)
        text = change(stored.text if stored else None)
        if stored is not None and stored.text == text:
            return
        try:
            store.put(key, text, expect=stored.revision if stored else 0)
        except Conflict:
            continue
        return
    raise restless(key)


def restless(what: str) -> LedgerError:
    """Return the error of a document that could not be caught."""
    return LedgerError(f"{what} changes faster than it can be written", "try again later")
