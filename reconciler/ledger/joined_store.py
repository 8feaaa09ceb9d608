"""
What a thread notes in the ledger at one moment becomes durable together.

SQLite makes it one commit and one wait for the disk.  Vault, which can write one document at a
time, gets them one after the other, so each beginning of the row must be as honest as the whole.
"""

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Final

from msgspec import Struct, field

from reconciler.ledger import Conflict, Put, Store, Stored
from reconciler.model.values import replace


class _Joined(Struct, eq=False):
    puts: dict[str, Put] = field(default_factory=dict)  # in the order in which they are written
    durable: list[Callable[[], None]] = field(default_factory=list)
    lost: list[Callable[[], None]] = field(default_factory=list)


class JoinedStore:
    """A store that keeps back what a thread puts while it is `joined`, and shows it that thread."""

    def __init__(self, store: Store) -> None:
        self._store: Final = store
        self._thread: Final = threading.local()

    @contextmanager
    def joined(self) -> Iterator[None]:
        """
        Write at the end, together, what this thread puts meanwhile.

        Nothing of it is durable before.  When this raises nothing counts as written, although some
        of it, or all, may be.  Within another one it ends with that.
        """
        if self._joined is not None:
            yield
            return
        joined = self._thread.joined = _Joined()
        try:
            try:
                yield
            finally:
                self._thread.joined = None
            if joined.puts:
                self._store.put_all(tuple(joined.puts.values()))
            for check in joined.durable:
                check()
        except BaseException:
            for undo in reversed(joined.lost):
                undo()
            raise

    def when_durable(self, check: Callable[[], None]) -> None:
        """Call *check* once all that was put is durable: at once where nothing is kept back."""
        if self._joined is None:
            check()
        else:
            self._joined.durable.append(check)

    def if_lost(self, undo: Callable[[], None]) -> None:
        """Call *undo* when what was put just now comes to nothing."""
        if self._joined is not None:
            self._joined.lost.append(undo)

    @property
    def _joined(self) -> _Joined | None:
        return getattr(self._thread, "joined", None)

    @property
    def created(self) -> bool:
        return self._store.created

    @property
    def at_hand(self) -> bool:
        return self._store.at_hand

    def get(self, key: str) -> Stored | None:
        kept = self._joined.puts.get(key) if self._joined is not None else None
        return self._store.get(key) if kept is None else Stored(kept.expect + 1, kept.text)

    def put(self, key: str, text: str, *, expect: int) -> int:
        if self._joined is None:
            return self._store.put(key, text, expect=expect)
        kept = self._joined.puts.get(key)
        if kept is None:
            self._joined.puts[key] = Put(key, text, expect)
            return expect + 1
        if expect != kept.expect + 1:
            raise Conflict(f"{key} changed in the ledger meanwhile", "try again")
        self._joined.puts[key] = replace(kept, text=text)  # both are one revision
        return expect

    def put_all(self, puts: Sequence[Put]) -> None:
        self._store.put_all(puts)

    def keys(self, prefix: str) -> list[str]:
        found = self._store.keys(prefix)
        if self._joined is None:
            return found
        return sorted({*found, *(key for key in self._joined.puts if key.startswith(prefix))})

    def rows(self, prefix: str) -> dict[str, Stored]:
        found = self._store.rows(prefix)
        if self._joined is None:
            return found
        kept = [one for key, one in self._joined.puts.items() if key.startswith(prefix)]
        found |= {one.key: Stored(one.expect + 1, one.text) for one in kept}
        return dict(sorted(found.items()))

    def sequence(self) -> int:
        return self._store.sequence()

    def close(self) -> None:
        self._store.close()
