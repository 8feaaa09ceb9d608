"""
One process at a time applies to one server: a lease in the ledger.

It saves work and spares people confusion; it is no guard.  A paused process cannot be stopped from
waking up (client-go says the same of its leases), so what keeps two processes apart is that every
write to the ledger names the revision that it was decided on.

Whether a holder is gone is never read off a wall clock.  Its lease has run out when its document
did not change for its whole duration on *our* clock, or at once when the holder ran on this host
and provably ended: its process, or within this process whoever held it.
"""

import asyncio
import os
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final, Self

from reconciler.errors import JtrError, LeaseHeld, LedgerError
from reconciler.ledger import Conflict, Store, Stored
from reconciler.ledger.codec.records import read, write
from reconciler.ledger.codec.rows import Holder, LeaseRow
from reconciler.model.timestamps import stamp
from reconciler.model.values import replace
from reconciler.system.clocks import this_boot

_POLLS: Final = 100  # looks in the time of one lease
_living: Final[set[str]] = set()  # nonces of this process's holders that have not ended


class Lease:
    """
    The right to apply to one server, from `with` to its end.

    Entering waits up to `wait` seconds, or as long as it takes to prove a holder gone whose time
    seems to be over, and raises LeaseHeld.  Blocking; in asyncio enter it in a thread.
    """

    def __init__(
        self,
        store: Store,
        key: str,
        *,
        label: str,
        doing: str = "is applying to",
        by: str,
        seconds: float,
        wait: float,
        now: Callable[[], datetime],
        clock: Callable[[], float],
        sleep: Callable[[float], None],
        watched: dict[str, tuple[int, float]],
        allowed: Callable[[], None],
    ) -> None:
        """
        Use `Ledger.lease`; *watched* outlives the lease: watching need not begin anew.

        *allowed* is called when the lease was taken; what it raises gives it back.
        """
        self._store: Final = store
        self._key: Final = key
        self._label: Final = label
        self._doing: Final = doing
        self._holder: Final = this_process(by)
        self._seconds: Final = seconds
        self._wait: Final = wait
        self._now: Final = now
        self._clock: Final = clock
        self._sleep: Final = sleep
        self._watched: Final = watched
        self._allowed: Final = allowed
        self._since = ""
        self._until = float("-inf")

    def __enter__(self) -> Self:
        _living.add(self._holder.nonce)
        try:
            self._enter()
        except BaseException:
            _living.discard(self._holder.nonce)
            raise
        try:
            self._allowed()
        except BaseException:
            self.__exit__()
            raise
        return self

    def _enter(self) -> None:
        began, poll = self._clock(), self._seconds / _POLLS
        while True:
            stored = self._store.get(self._key)
            row = read(LeaseRow, self._key, stored.text) if stored else None
            if stored is None or row is None or row.released or self._gone(stored, row):
                try:
                    self._since = stamp(self._now())
                    self._take(stored.revision if stored else 0)
                except Conflict:
                    continue  # somebody was quicker: look at that one
                return
            patience = began + self._wait
            if row.until < stamp(self._now()):
                # Probably a crash elsewhere: giving up earlier would make every later command
                # begin to watch anew, and none would ever see the lease end.
                over = self._watched[self._key][1] + self._term(row)
                patience = max(patience, over + 2 * poll)
            if self._clock() >= patience:
                raise LeaseHeld(
                    f"{row.holder.by} {self._doing} {self._label} since {row.since}",
                    "wait until it has finished",
                )
            self._sleep(poll)

    def __exit__(self, *_: object) -> None:
        # Nothing depends on it: it runs out by itself, or another one has it already.
        with suppress(LedgerError):
            self._put(released=True)
        self._until = float("-inf")
        _living.discard(self._holder.nonce)

    def held(self) -> bool:
        """Whether the lease has time left on our own clock."""
        return self._clock() < self._until

    def renew(self) -> None:
        """Begin the time anew; LeaseHeld when somebody else took the lease meanwhile."""
        began = self._clock()
        try:
            self._put(released=False)
        except Conflict:
            self._until = float("-inf")
            raise LeaseHeld(
                f"another process took over {self._label}: this one was silent for too long",
                "nothing more is sent from here; run it again",
            ) from None
        self._until = began + self._seconds

    def _take(self, expect: int) -> None:
        began = self._clock()  # before writing: our own time must end before the others' view of it
        self._store.put(self._key, self._text(released=False), expect=expect)
        self._until = began + self._seconds

    def _put(self, *, released: bool) -> None:
        """
        Write over our own row and no other; Conflict where it is not ours.

        What a write returned proves nothing: together with others it may have come to nothing, and
        the next revision be another process's row.
        """
        stored = self._store.get(self._key)
        if stored is None or read(LeaseRow, self._key, stored.text).holder != self._holder:
            raise Conflict(f"somebody else took {self._label}", "run it again")
        self._store.put(self._key, self._text(released=released), expect=stored.revision)

    def _text(self, *, released: bool) -> str:
        until = self._now() + timedelta(seconds=self._seconds)
        row = LeaseRow(self._holder, self._since, stamp(until), self._seconds)
        return write(replace(row, released=released))

    def _gone(self, stored: Stored, row: LeaseRow) -> bool:
        revision, since = self._watched.get(self._key, (0, 0.0))
        if revision != stored.revision:
            since = self._clock()
            self._watched[self._key] = (stored.revision, since)
        over = self._clock() - since > self._term(row)
        return over or ended(row.holder) or _left(row.holder)

    def _term(self, row: LeaseRow) -> float:
        return max(row.seconds, self._seconds)


def holder(store: Store, key: str, alive: datetime) -> str:
    """
    Return who has a lease, for people; empty when nobody has, or showed no life since *alive*.

    Nor does one that ran on this host and provably ended.  Nothing may depend on it that must not
    happen twice: it is read off a wall clock.
    """
    stored = store.get(key)
    row = read(LeaseRow, key, stored.text) if stored else None
    if row is None or row.released or ended(row.holder) or row.until < stamp(alive):
        return ""
    return row.holder.by


class Held:
    """A lease that is renewed in the background.  Asking never waits, and never asks the ledger."""

    def __init__(self, lease: Lease) -> None:
        self._lease: Final = lease
        self.taken: LeaseHeld | None = None  # another process has it: for good

    @property
    def now(self) -> bool:
        """Whether the lease is held at this moment."""
        return self.taken is None and self._lease.held()

    def __call__(self) -> None:
        """Raise LeaseHeld unless the lease is held at this moment."""
        if self.taken is not None:
            raise self.taken
        if not self.now:
            raise LeaseHeld("the lease on the server ran out", "nothing is sent; run it again")

    async def renew(self, over: asyncio.Event, seconds: float) -> None:
        """Renew until *over*, or until somebody else has it."""
        pause = seconds / 3
        while not await happens(over, pause):
            try:
                await asyncio.to_thread(self._lease.renew)
                pause = seconds / 3
            except LeaseHeld as error:
                self.taken = error
                return
            except JtrError:  # most of the lease may be left; and if not, it may still be free
                pause = seconds / 10


@asynccontextmanager
async def held(lease: Lease, seconds: float) -> AsyncIterator[Held]:
    """
    Hold *lease* in asyncio and renew it in time; yields a check that raises while it is not held.

    *seconds* is how long it lasts without being renewed.  A renewal that fails is tried again.
    Raises LeaseHeld when another process holds it.
    """
    await asyncio.to_thread(lease.__enter__)
    async with kept(lease, seconds) as check:
        yield check


@asynccontextmanager
async def kept(
    lease: Lease, seconds: float, leave: Callable[[Lease], None] | None = None
) -> AsyncIterator[Held]:
    """
    Do as `held` does with a lease that was entered just now.

    *leave* gives it back at the end, on a thread; what it raises is raised.
    """
    held, over = Held(lease), asyncio.Event()
    renewal = asyncio.create_task(held.renew(over, seconds))
    try:
        yield held
    finally:
        # Not cancelled: its thread would go on, and renew what was given back meanwhile.
        over.set()
        await asyncio.wait([renewal])
        await asyncio.to_thread(leave or _given_back, lease)


def _given_back(lease: Lease) -> None:
    lease.__exit__(None, None, None)


async def happens(event: asyncio.Event, within: float) -> bool:
    """Wait for *event*, at most so many seconds; return whether it is set."""
    with suppress(TimeoutError):
        async with asyncio.timeout(within):
            await event.wait()
    return event.is_set()


def this_process(by: str) -> Holder:
    """Describe this process so that a neighbour can tell whether it still lives."""
    pid = os.getpid()
    return Holder(uuid.uuid4().hex, by, this_boot(), _namespace(), pid, _state(pid)[1])


def ended(holder: Holder) -> bool:
    """Whether *holder* ran on this host and provably does not any more."""
    if not holder.boot or (holder.boot, holder.namespace) != (this_boot(), _namespace()):
        return False
    try:
        os.kill(holder.pid, 0)  # asks only; unlike /proc it also sees what `hidepid` hides
    except ProcessLookupError:
        return True
    except OSError:
        return False
    state, started = _state(holder.pid)
    return state == "Z" or (started != 0 and holder.started not in (0, started))


def _left(holder: Holder) -> bool:
    """Whether *holder* belonged to this very process, which could not give its lease back."""
    us = this_process(holder.by)
    return bool(us.boot) and us == replace(holder, nonce=us.nonce) and holder.nonce not in _living


def _namespace() -> str:
    try:
        return str(Path("/proc/self/ns/pid").readlink())
    except OSError:
        return ""


def _state(pid: int) -> tuple[str, int]:
    """Return a process's state and start time in clock ticks since boot; ("", 0) if hidden."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text("ascii", "replace")
    except OSError:
        return "", 0
    # The command's name stands in brackets and may hold anything, brackets and spaces as well.
    fields = text.rpartition(")")[2].split()
    return fields[0], int(fields[19])
