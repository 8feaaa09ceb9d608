"""
Where we remember what no server can tell us: the contract of a store.

The ledger has two layers.  A *store* keeps small documents under keys and changes one of them at a
time with compare-and-set; it knows nothing of servers.  `reconciler.ledger.ledger.Ledger` holds all
meaning and works on any store.  No decision ever needs two documents to change together, because a
key-value store has no such transaction: what belongs together lies in one document.

Never deletes a document: a store that could forget a key would let "create only" succeed a second
time, and with it a deed that must not happen twice.
"""

import re
from collections.abc import Sequence
from typing import Final, Protocol

from msgspec import Struct

from reconciler.errors import Exit, LedgerError

_KEY: Final = re.compile(r"[a-z0-9_.-]+(?:/[a-z0-9_.-]+)*")
KEY_LIMIT: Final = 512


class Conflict(LedgerError):
    """
    A document changed since it was read, so nothing was written.

    Somebody else works on the same server: read again, plan again.
    """

    exit_code = Exit.BLOCKED  # like what changed on the server since it was planned
    transient = True


class Stored(Struct, frozen=True):
    """A document as it lies in a store; revisions of a key count 1, 2, 3 and never go back."""

    revision: int
    text: str


class Put(Struct, frozen=True):
    """A document to be written if its revision still is `expect`; see `Store.put`."""

    key: str
    text: str
    expect: int


class Store(Protocol):
    """
    Keeps documents; blocking, and safe to call from several threads.

    Keys are `checked`; values are JSON text.  Every failure is a `LedgerError` whose message says
    what to do; after any of them `put` may or may not have taken place, except after `Conflict`,
    which says that it did not.
    """

    @property
    def created(self) -> bool:
        """Whether this very object made the store, instead of finding one."""
        ...

    @property
    def at_hand(self) -> bool:
        """Whether reading it now waits for no network, and for no thread that writes."""
        ...

    def get(self, key: str) -> Stored | None:
        """Return the newest document under *key*; None when there never was one."""
        ...

    def put(self, key: str, text: str, *, expect: int) -> int:
        """
        Write a document if its revision still is *expect*, and return its new revision.

        0 means that there must be none yet.  The document is durable when this returns.  Raises
        Conflict when the revision is another one.
        """
        ...

    def put_all(self, puts: Sequence[Put]) -> None:
        """
        Write several documents, each as `put` does; all are durable when this returns.

        A store that can do so makes all of them durable at once, or none.  Another one writes them
        in this order and stops at the first that fails: those before it have taken place.
        """
        ...

    def keys(self, prefix: str) -> list[str]:
        """Return all keys that begin with *prefix*, sorted; it is empty or ends with a slash."""
        ...

    def rows(self, prefix: str) -> dict[str, Stored]:
        """Return the newest documents under all `keys` that begin with *prefix*, in that order."""
        ...

    def sequence(self) -> int:
        """
        Return how many writes ever took place: the sum of all revisions.

        It grows with every `put`.  Whoever remembers the highest one notices a ledger that was
        restored from an older copy.  No backend needs to store it, so it cannot contradict the
        documents.
        """
        ...

    def close(self) -> None:
        """Give the store back; calling twice is allowed."""
        ...


def checked(key: str) -> str:
    """Return *key* if a store may use it; anything else is a mistake of the caller."""
    if len(key) > KEY_LIMIT or _KEY.fullmatch(key) is None or {".", ".."} & set(key.split("/")):
        raise ValueError("not a key of the ledger")
    return key
