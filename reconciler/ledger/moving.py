"""
Leaving a place for another: a ledger that was copied must not go on in both.

First nobody can begin anything here (a lease looks whether the ledger is still here, after it was
taken), then whoever began before is waited out, and only then is it copied.  Every step may be
repeated, so a move that was cut off is ended by the same command.
"""

import time
from collections.abc import Callable
from datetime import datetime

from reconciler.errors import LeaseHeld, LedgerError
from reconciler.ledger import Store
from reconciler.ledger.codec.records import read_any, read_birth, read_identity, write
from reconciler.ledger.codec.rows import BIRTH, CONTROLLER, SERVERS, Birth, Moved, is_lease
from reconciler.ledger.compare_and_set import update
from reconciler.ledger.copies import fill, taken
from reconciler.ledger.lease import Lease
from reconciler.model.values import replace
from reconciler.system.clocks import elapsed
from reconciler.system.timeouts import Timeouts


def move(
    here: Store,
    there: Store,
    to: str,
    *,
    now: Callable[[], datetime],
    timeouts: Timeouts,
    writer: str,
    arrives: Callable[[str, int], None],
) -> int:
    """
    Let the ledger in *here* go on in *there*, which is called *to*; return how many rows it has.

    0 where that was done before.  *arrives* is told its name and how many writes it has seen,
    before it is a ledger there.  Raises LedgerError when it was moved elsewhere, another ledger
    lies there, or it had come there and is gone, and LeaseHeld while somebody still works here:
    call it again when that one has finished.
    """
    birth = _leave(here, to, now, timeouts, writer)
    stored = there.get(BIRTH)
    rows: dict[str, str] = {}
    if stored is None:
        if arrived(here):
            raise gone(to)
        earlier = birth.earlier + here.sequence()
        rows = taken(here) | {BIRTH: write(replace(birth, earlier=earlier))}
        fill(there, rows, None, lambda writes: arrives(birth.uid, earlier + writes))
    elif read_birth(stored.text).uid != birth.uid:
        raise LedgerError(
            f"another ledger was begun at {to} meanwhile; this one is where it was, and closed",
            f"move that one away, then run `jtr ledger move {to}` again",
        )
    update(here, BIRTH, lambda text: write(replace(_moved(text or ""), there=True)))
    return len(rows)


def left(store: Store) -> bool:
    """Whether the ledger in *store* was left, or is being left, for another place."""
    stored = store.get(BIRTH)
    return stored is not None and isinstance(read_any(BIRTH, stored.text), Moved)


def arrived(store: Store) -> bool:
    """Whether all that was in *store* has come to another place: what was done since is there."""
    stored = store.get(BIRTH)
    row = read_any(BIRTH, stored.text) if stored is not None else None
    return isinstance(row, Moved) and row.there


def gone(to: str) -> LedgerError:
    """Say that a ledger was moved and lost: the rows that it left do not know what it did since."""
    return LedgerError(
        f"this ledger went to {to} before, and there is none any more; what lies here is older",
        "find it, or restore its newest copy: jtr ledger restore; nothing was changed",
    )


def _leave(
    store: Store, to: str, now: Callable[[], datetime], timeouts: Timeouts, writer: str
) -> Birth:
    """Let nobody begin anything here any more, and wait until nobody works; return the birth."""

    def change(text: str | None) -> str:
        row = read_any(BIRTH, text or "")
        if isinstance(row, Moved) and row.to == to:
            return text or ""
        return write(Moved(read_birth(text or ""), to, now(), writer))

    update(store, BIRTH, change)
    for key, label in _leases(store).items():
        lease = Lease(
            store,
            key,
            label=label,
            by=writer,
            seconds=timeouts.lease,
            wait=0.0,
            now=now,
            clock=elapsed,
            sleep=time.sleep,
            watched={},
            allowed=lambda: None,
        )
        try:
            with lease:
                pass  # whoever had it is gone, and nobody gets it any more
        except LeaseHeld as held:
            raise LeaseHeld(
                held.what,
                "nothing new begins here any more: when that one has finished, run this again",
            ) from None
    stored = store.get(BIRTH)
    return _moved(stored.text if stored else "").birth


def _moved(text: str) -> Moved:
    row = read_any(BIRTH, text)
    if not isinstance(row, Moved):
        raise LedgerError("somebody else changed where the ledger is", "look at it, and try again")
    return row


def _leases(store: Store) -> dict[str, str]:
    """Return the keys of all leases that there are, and what each is called."""
    found = {CONTROLLER: "this ledger"} if store.get(CONTROLLER) is not None else {}
    for key in filter(is_lease, store.keys(SERVERS)):
        about = key.rpartition("/")[0] + "/identity"
        stored = store.get(about)
        found[key] = read_identity(about, stored.text).identity.name if stored else about
    return found
