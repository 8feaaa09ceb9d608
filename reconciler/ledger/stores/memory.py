"""A ledger's store that forgets everything with the process: for tests, and for plain looking."""

import threading
from bisect import bisect_left
from collections.abc import Mapping, Sequence

from reconciler.ledger import Conflict, Put, Stored, checked


class MemoryStore:
    """
    Keeps documents in a dictionary.

    Two ledgers on one object are like two processes on one file.  It begins with *documents*.
    """

    at_hand = True

    def __init__(self, documents: Mapping[str, Stored] | None = None) -> None:
        self._documents = dict(documents or {})
        self.created = not self._documents
        self._sorted: list[str] = []
        self._lock = threading.Lock()

    def get(self, key: str) -> Stored | None:
        with self._lock:
            return self._documents.get(checked(key))

    def put(self, key: str, text: str, *, expect: int) -> int:
        with self._lock:
            stored = self._documents.get(checked(key))
            if (stored.revision if stored else 0) != expect:
                raise Conflict(f"{key} changed in the ledger meanwhile", "try again")
            self._documents[key] = Stored(expect + 1, text)
            return expect + 1

    def put_all(self, puts: Sequence[Put]) -> None:
        for one in puts:  # as a store does that cannot write several at once
            self.put(one.key, one.text, expect=one.expect)

    def keys(self, prefix: str) -> list[str]:
        with self._lock:
            return self._below(prefix)

    def rows(self, prefix: str) -> dict[str, Stored]:
        with self._lock:
            return {key: self._documents[key] for key in self._below(prefix)}

    def _below(self, prefix: str) -> list[str]:
        if len(self._sorted) != len(self._documents):  # nothing is ever removed
            self._sorted = sorted(self._documents)
        # "0" follows "/" in ASCII; keys are ASCII.
        end = bisect_left(self._sorted, prefix[:-1] + "0") if prefix else None
        return self._sorted[bisect_left(self._sorted, prefix) : end]

    def sequence(self) -> int:
        with self._lock:
            return sum(stored.revision for stored in self._documents.values())

    def documents(self) -> dict[str, Stored]:
        """Return all of them, by key."""
        with self._lock:
            return dict(self._documents)

    def close(self) -> None:
        """Keep everything: whoever holds the object may go on."""
