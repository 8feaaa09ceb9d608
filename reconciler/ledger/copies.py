"""
A whole ledger as a value: read out of a store, judged row by row, and put into an empty store.

Rows are independent of one another (no decision needs two to change together), so a copy that was
read while others wrote is no worse than one of a moment between.  What a copy cannot know is what
was done since.  So putting one into a store counts every request up to that moment as handled, and
`ledger/birth`, without which nothing is a ledger, is written last.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Final

from msgspec import Struct

from reconciler.errors import LedgerError, LedgerMissing
from reconciler.ledger import Store, Stored, checked
from reconciler.ledger.codec.records import CODEC, KINDS, read, read_any, read_birth, write
from reconciler.ledger.codec.rows import BIRTH, RESTORED, Birth, ExchangeRow, Restored, is_lease
from reconciler.ledger.compare_and_set import update
from reconciler.model.codec import Malformed, parsed
from reconciler.model.recorded import Observation

FORMAT: Final = 1
_KIND: Final = "jtr-ledger-backup"
_TRIES: Final = 3  # readings, to find a moment in which nobody wrote

Rows = Mapping[str, str]


class Heading(Struct, frozen=True):
    """What a backup says of itself: which ledger, when and by whom it was read, and from where."""

    ledger: str
    at: datetime
    by: str
    place: str


class Judgement(Struct, frozen=True):
    """
    What is in a copy: how many rows of each kind, and the error of each that cannot be read.

    `keys` are the ids of the fingerprint keys that its rows were made with.
    """

    kinds: Mapping[str, int]
    damaged: Sequence[LedgerError]
    keys: frozenset[str]

    @property
    def rows(self) -> int:
        return sum(self.kinds.values()) + len(self.damaged)


def taken(store: Store) -> dict[str, str]:
    """
    Return every row but the leases, if possible of one moment; raises LedgerError.

    A lease is about a process that works there, and nobody does where the copy comes to lie.
    """
    found: dict[str, Stored] = {}
    for _ in range(_TRIES):
        before = store.sequence()
        found = store.rows("")
        if sum(stored.revision for stored in found.values()) == before:
            break
    return {key: stored.text for key, stored in found.items() if not is_lease(key)}


def judged(rows: Rows) -> Judgement:
    """Read every row as strictly as it is read when something depends on it."""
    kinds: Counter[str] = Counter()
    damaged: list[LedgerError] = []
    keys: set[str] = set()
    for key, text in sorted(rows.items()):
        try:
            row = read_any(key, text)
        except LedgerError as error:
            damaged.append(error)
            continue
        kinds[KINDS[type(row)]] += 1
        keys.update(_fingerprint_keys(row))
    if BIRTH not in rows:
        damaged.append(never_begun(rows))
    return Judgement(kinds, damaged, frozenset(keys))


def _fingerprint_keys(row: object) -> Iterator[str]:
    match row:
        case ExchangeRow(record=record):
            known = (record.written, record.intent, record.found, *record.earlier)
            yield from (one.key_id for one in known if one is not None)
        case Observation(key_id=key_id):
            yield key_id


def never_begun(keys: Collection[str]) -> LedgerError:
    """Return what is to be said of a store without a birth, in which rows lie under *keys*."""
    if keys:
        return LedgerError(
            "this is only a part of a ledger: restoring or moving it was cut off",
            "run the same `jtr ledger restore` or `move` again",
        )
    return LedgerMissing("this ledger was never begun", "jtr ledger init")


def fill(store: Store, rows: Rows, restored: Restored | None, whole: Callable[[int], None]) -> None:
    """
    Put *rows* into a store in which nothing lies but, perhaps, a part of them.

    With *restored* every request up to then counts as handled.  When all but its birth is there,
    *whole* is told how many writes the store has seen.  Until this returns it is no ledger, and it
    may be repeated.  Raises LedgerError where something else lies there.
    """
    there = {key: stored.text for key, stored in store.rows("").items() if key != RESTORED}
    for key, text in sorted(there.items()):
        if rows.get(key) != text:
            raise LedgerError(
                f"something else lies there already (the row {key}); nothing of it was changed",
                "name a place where there is no ledger",
            )
    for key in rows.keys() - there.keys() - {BIRTH, RESTORED}:
        store.put(key, rows[key], expect=0)
    if before := rows.get(RESTORED):
        known = read(Restored, RESTORED, before)
        restored = known if restored is None or restored.at < known.at else restored
    if restored is not None:
        kept = write(restored)
        update(store, RESTORED, lambda _: kept)
    whole(store.sequence())
    store.put(BIRTH, rows[BIRTH], expect=0)


# ── as a file ────────────────────────────────────────────────────────────────────────────────


def as_file(heading: Heading, rows: Rows) -> bytes:
    """
    Return a copy as lines of JSON: the heading, a line for each row, a digest of all of them.

    Like the ledger it holds paths, versions and keyed fingerprints; no value and no mask.
    """
    head = CODEC.write(heading, format=FORMAT, kind=_KIND)
    lines = [head, *({"key": key, "text": text} for key, text in sorted(rows.items()))]
    body = "".join(json.dumps(line, separators=(",", ":")) + "\n" for line in lines).encode()
    return body + json.dumps(_ending(len(rows), body)).encode() + b"\n"


def from_file(data: bytes) -> tuple[Heading, dict[str, str]]:
    """Read what `as_file` returned.  Raises LedgerError, also when a byte of it was changed."""
    body, _, end = data.removesuffix(b"\n").rpartition(b"\n")
    first, *lines = body.decode("ascii", "replace").split("\n")
    try:
        heading = CODEC.read(Heading, parsed(first), "it", format=FORMAT, kind=_KIND)
    except Malformed as problem:
        raise LedgerError(
            f"this is no backup of a ledger that this jtr knows: {problem}",
            "name a file that `jtr ledger backup` wrote",
        ) from None
    try:
        ending = parsed(end.decode("ascii", "replace"))
        rows = dict(_row(parsed(line)) for line in lines)
    except Malformed:
        ending, rows = None, {}
    if ending != _ending(len(lines), body + b"\n"):
        raise LedgerError(
            "the backup is cut off, or was changed after it was written", "use another one"
        )
    return heading, rows


def _ending(rows: int, body: bytes) -> dict[str, object]:
    return {"rows": rows, "sha256": hashlib.sha256(body).hexdigest()}


def _row(line: object) -> tuple[str, str]:
    match line:
        case {"key": str(key), "text": str(text)}:
            try:
                return checked(key), text
            except ValueError:
                pass
    raise Malformed("is no row")


def born(rows: Rows) -> Birth:
    """Return the birth in a copy.  Raises LedgerError."""
    return read_birth(rows.get(BIRTH, ""))
