"""
What the ledger means: identities, intents, debts, observations, brakes, leases.

Works on any `Store`.  Every decision is one write of one document.  A write of an exchange's
document names the revision that was loaded, so a process that slept while another one worked gets
`Conflict` instead of covering what it never saw.
"""

import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from functools import partial
from typing import Final, TypeVar

from reconciler.errors import LedgerError
from reconciler.ledger import Conflict, Store
from reconciler.ledger.brakes import Brakes
from reconciler.ledger.codec.records import read, read_birth, write
from reconciler.ledger.codec.rows import (
    APPLIED,
    BIRTH,
    CONTROLLER,
    RESTORED,
    Applied,
    AuditsRow,
    Birth,
    Restored,
    audits_key,
    lease_key,
    observation_key,
    received_key,
)
from reconciler.ledger.compare_and_set import update
from reconciler.ledger.copies import never_begun
from reconciler.ledger.exchange_rows import ExchangeRows
from reconciler.ledger.exchange_state import (
    adopted,
    committed,
    deleting,
    emptied,
    intended,
    settled,
)
from reconciler.ledger.identities import Identities
from reconciler.ledger.joined_store import JoinedStore
from reconciler.ledger.lease import Lease, holder
from reconciler.ledger.pauses import Pauses
from reconciler.ledger.proposals import Proposals
from reconciler.ledger.requests import RequestLog, add_deeds, read_deeds
from reconciler.ledger.revisions import Revisions
from reconciler.model.recorded import (
    Debt,
    HeldBrake,
    HistoryEntry,
    Identity,
    Observation,
    Received,
    Recorded,
    RecordedAudit,
    Write,
)
from reconciler.model.target import Target
from reconciler.model.values import replace
from reconciler.system.clocks import elapsed
from reconciler.system.timeouts import Timeouts

PLANS_KEPT: Final = 100  # ids of applied plans that are remembered
AUDITS_KEPT: Final = 200  # keys of one server
T = TypeVar("T")


class Ledger:
    """
    The ledger; blocking, and safe to call from several threads as long as each server has one.

    `load` a server before changing what is remembered of its exchanges: what was loaded is what the
    changes are based on.  Everything has become durable when a method returns.
    """

    def __init__(
        self,
        store: Store,
        *,
        now: Callable[[], datetime],
        timeouts: Timeouts,
        writer: str,
        clock: Callable[[], float] = elapsed,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """
        Read the ledger's birth, or write it if *store* was created just now.

        *writer* names this process to people.  Raises LedgerMissing when the store holds none.
        """
        self._store: Final = JoinedStore(store)
        self._now: Final = now
        self._timeouts: Final = timeouts
        self._writer: Final = writer
        self._clock: Final = clock
        self._sleep: Final = sleep
        self._birth, self.born_now = self._born()
        self._identities: Final = Identities(self._store, self._birth.uid, clock)
        self.forgotten: Final = self._identities.forgotten
        self._brakes: Final = Brakes(self._store, now, writer)
        self.proposals: Final = Proposals(self._store)
        self.revisions: Final = Revisions(self._store)
        self.pauses: Final = Pauses(self._store, self._identities)
        self._exchanges: Final = ExchangeRows(self._store, writer)
        self._watched: dict[str, tuple[int, float]] = {}

    @property
    def ledger_uid(self) -> str:
        """The ledger's own name, for ever."""
        return self._birth.uid

    @property
    def writer(self) -> str:
        return self._writer

    @property
    def at_hand(self) -> bool:
        """Whether it is read at once; see `Store.at_hand`."""
        return self._store.at_hand

    def birth(self) -> datetime:
        """Return when the ledger began; nothing older than that can be known."""
        return self._birth.at

    def baseline(self) -> datetime:
        """Return the moment before which every request counts as handled: never run it."""
        stored = self._store.get(RESTORED)
        born = self._birth.at
        return max(born, read(Restored, RESTORED, stored.text).at) if stored else born

    def accept_restore(self, because: str) -> None:
        """Count every request up to now as handled: some may be forgotten; open ones stay open."""

        def change(text: str | None) -> str:
            at = (
                self._now() if text is None else max(self._now(), read(Restored, RESTORED, text).at)
            )
            return write(Restored(at, because, self._writer))

        update(self._store, RESTORED, change)

    def sequence(self) -> int:
        """Return how many writes there ever were, also before it moved; see `Store.sequence`."""
        return self._birth.earlier + self._store.sequence()

    def documents(self) -> dict[str, str]:
        """Return every document as it lies there: paths, versions, fingerprints; no value."""
        return {key: stored.text for key, stored in self._store.rows("").items()}

    @contextmanager
    def together(self) -> Iterator[None]:
        """
        Make what this thread notes meanwhile durable together, at the end, in this order.

        One commit where the store can; else one document after the other.  When this raises count
        nothing as noted and send nothing: some of it may lie there all the same.
        """
        with self._store.joined():
            yield

    def close(self) -> None:
        self._store.close()

    # ── servers ──────────────────────────────────────────────────────────────────────────────

    def servers(self) -> list[Identity]:
        """Return every server that was ever pinned and is not forgotten, by name."""
        return self._identities.all()

    def find(self, target: Target, name: str) -> Identity | None:
        """Return the server at *target*, else the one that last had *name*: compare the targets."""
        found = self._identities.find(target, name)
        return found[1].identity if found else None

    def pin(self, target: Target, name: str, *, move: bool = False, new: bool = False) -> Identity:
        """
        Bind a server to its address and account, and note its newest name.

        A server that is known by name at another address is moved with its history if *move*, else
        Blocked; the address that it left is remembered as retired.  Its pauses go with it.  With
        *new* the name counts for nothing: the server that last had it goes on under another one.
        """
        if move and (known := self.find(target, name)) is not None and known.target != target:
            self.pauses.bind(known)
        identity = self._identities.pin(target, name, move=move, new=new)
        # A server that was never loaded is one of which this process believes to know nothing.
        self._exchanges.known.setdefault(identity.uid, {})
        return identity

    def load(self, target: Target, name: str) -> Recorded:
        """Return all that is known of a server, and base later changes on it."""
        return self._read(target, name, base=True)

    def look(self, target: Target, name: str) -> Recorded:
        """
        Return all that is known of a server by now; changes stay based on what was loaded.

        For whoever looks while a plan is carried out: what was decided on an older row must not
        pass for a decision on this one.
        """
        return self._read(target, name, base=False)

    def _read(self, target: Target, name: str, *, base: bool) -> Recorded:
        found, since = self._identities.look(target, name)
        if found is None:
            return Recorded(since=since)
        row = found[1]
        uid = row.identity.uid
        return Recorded(
            identity=row.identity,
            exchanges=self._exchanges.read(uid, base=base),
            observation=self._maybe(Observation, observation_key(uid)),
            retired=row.retired,
            requests=self.requests(uid).read(base=base),
            received=self._maybe(Received, received_key(uid)),
            since=since,
        )

    def forget(self, uid: str, because: str) -> None:
        """
        Let a server be none any more; one change of one document, so nothing is ever half said.

        What stands there later is new, and no request of before is done.  Hold the lease.
        """
        requests = self.requests(uid).load()
        asked = [*requests.handled.values(), *([requests.open.instant] if requests.open else [])]
        at = max([self._now(), *(one + timedelta(milliseconds=1) for one in asked)])
        self._identities.forget(uid, at, because, self._writer)

    def check_known(self, uid: str) -> None:
        """Raise Conflict for a server that was forgotten since it was loaded."""
        self._identities.check_known(uid)

    def requests(self, uid: str) -> RequestLog:
        """Return the requests of one server; changing them is based on what was loaded last."""
        known = self._exchanges.known.setdefault(uid, {})
        return RequestLog(self._store, uid, known=known, now=self._now, writer=self._writer)

    def history(self, uid: str) -> tuple[HistoryEntry, ...]:
        """Return what was done on a server, oldest first, as far as it is kept."""
        return read_deeds(self._store, uid)

    def record(self, uid: str, deeds: Sequence[HistoryEntry]) -> None:
        if deeds:
            add_deeds(self._store, uid, deeds)

    def observe(self, uid: str, observation: Observation) -> None:
        """Remember what a server shows; the newest call wins."""
        update(self._store, observation_key(uid), lambda _: write(observation))

    def receive(self, uid: str, received: Received) -> None:
        """Remember what a server is about to get; what it ever got stays known."""
        key = received_key(uid)

        def change(text: str | None) -> str:
            before = read(Received, key, text).paths if text is not None else ()
            paths = tuple(sorted({*before, *received.paths}))
            return write(replace(received, paths=paths))

        update(self._store, key, change)

    def audits(self, uid: str) -> Mapping[str, RecordedAudit]:
        """Return what exchanges said of a server's keys last, by the code of the exchange."""
        found = self._maybe(AuditsRow, audits_key(uid))
        return found.keys if found is not None else {}

    def note_audits(self, uid: str, audits: Mapping[str, RecordedAudit]) -> None:
        """Remember what was said of these keys; of others stays what was, of so many in all."""
        key = audits_key(uid)

        def change(text: str | None) -> str:
            before = read(AuditsRow, key, text).keys if text is not None else {}
            return write(AuditsRow(dict(list({**before, **audits}.items())[-AUDITS_KEPT:])))

        update(self._store, key, change)

    # ── plans ────────────────────────────────────────────────────────────────────────────────

    def applied(self) -> tuple[str, ...]:
        """Return the ids of the plans that were applied to their end last, newest last."""
        found = self._maybe(Applied, APPLIED)
        return found.plans if found is not None else ()

    def note_applied(self, plan_id: str) -> None:
        def change(text: str | None) -> str:
            before = read(Applied, APPLIED, text).plans if text is not None else ()
            plans = (*(known for known in before if known != plan_id), plan_id)
            return write(Applied(plans[-PLANS_KEPT:]))

        update(self._store, APPLIED, change)

    # ── one exchange, one document ───────────────────────────────────────────────────────────

    def intend(
        self, uid: str, code: str, write: Write, debts: Sequence[Debt], *, boot: int | None = None
    ) -> None:
        """
        Record that *write* is about to be sent and what it will leave to be done.

        Durable, read again and compared before this returns; whatever it raises, send nothing.
        *boot* is the newest boot line that was seen (server's clock, ms).  An intent that is still
        there may have been sent, so its keys are counted as written.
        """
        self._exchanges.promise(uid, code, lambda row: intended(row, write, debts, boot))

    def intend_delete(self, uid: str, code: str) -> None:
        """Record that an exchange's fields are about to be deleted; as strict as `intend`."""
        self._exchanges.promise(uid, code, deleting)

    def commit(self, uid: str, code: str, *, boot: int | None = None) -> None:
        """
        Record that the intended write took place.

        *boot* is the newest boot line seen afterwards.
        """
        self._exchanges.conclude(uid, code, lambda row: committed(row, boot))

    def deleted(self, uid: str, code: str) -> None:
        """
        Record that the exchange is empty on the server by our own doing.

        What appears there later is foreign.  Debts and past keys stay: the process still has them.
        """
        self._exchanges.conclude(uid, code, emptied)

    def keep(self, uid: str, code: str) -> None:
        """Record that a delete, begun once, is wanted no longer and has left nothing undone."""
        self._exchanges.change(
            uid, code, lambda row: replace(row, record=replace(row.record, deleting=False))
        )

    def disown(self, uid: str, code: str) -> None:
        """Record that people know what is there now to be another hand's; debts stay."""
        self._exchanges.conclude(uid, code, emptied)

    def drop_intent(self, uid: str, code: str) -> None:
        """
        Take back our own newest intent, of a write or a delete, because nothing was sent.

        The record becomes what it was before, less what was settled meanwhile; an older intent
        that may have been sent is there again.  An intent of another process cannot be dropped:
        nobody can prove that it sent nothing.
        """
        self._exchanges.drop(uid, code)

    def found(self, uid: str, code: str, write: Write) -> None:
        """Record that somebody else's value looks like the desired one."""
        self._exchanges.change(
            uid, code, lambda row: replace(row, record=replace(row.record, found=write))
        )

    def adopt(self, uid: str, code: str, write: Write, *, boot: int | None) -> None:
        """Record that *write*, of another hand, counts as ours from now on; see `found`."""
        self._exchanges.conclude(uid, code, lambda row: adopted(row, write, boot))

    def settle_debts(
        self, uid: str, code: str, debts: Sequence[Debt], *, past_boot: int | None = None
    ) -> None:
        """
        Keep only *debts*, because an observation proved that the others are paid.

        *past_boot* is the newest boot line seen: a newer one than before ends the past keys, too.
        """
        self._exchanges.change(uid, code, lambda row: settled(row, debts, past_boot))

    # ── brakes ───────────────────────────────────────────────────────────────────────────────

    def brakes(self) -> list[HeldBrake]:
        """Return the brakes that hold, whole versions first; servers by the names they have now."""
        return [
            replace(one, harmed=self._now_called(one.harmed)) if one.harmed is not None else one
            for one in self._brakes.held()
        ]

    def _now_called(self, known: Identity) -> Identity:
        return self._identities.called(known.uid) or known

    def engage_brake(self, version: str, harmed: Identity, why: str) -> bool:
        """
        Stop all writes to a server, and to all of *version* where that one is to blame.

        Returns whether it is: as long as writes to two others did not prove it, and when another
        one was harmed within a day.
        """
        return self._brakes.engage(version, harmed, why)

    def prove(self, version: str, server: Identity) -> None:
        """Note that a write to a server of *version* did no harm; nothing once that is known."""
        self._brakes.prove(version, server)

    def release_brake(self, word: str, because: str) -> list[HeldBrake]:
        """
        Allow writes again to the server called *word*, or to all servers of that version.

        With a version, the servers whose harm engaged it are let go as well.  Returns what held;
        LedgerError when nothing did.
        """
        held = self.brakes()
        found = [one for one in held if one.over == word]
        if any(one.harmed is None for one in found):
            found = [one for one in held if one.brake.version == word]
        if not found:
            raise LedgerError(f"no brake holds for {word}", "see: jtr status")
        self._brakes.release(found, because)
        return found

    # ── lease ────────────────────────────────────────────────────────────────────────────────

    def lease(self, uid: str, *, wait: float | None = None) -> Lease:
        """Return the right to apply to a server, for `with`; *wait*: seconds, else `lease_wait`."""
        found = self._identities.called(uid)
        label = found.name if found is not None else uid
        wait = self._timeouts.lease_wait if wait is None else wait
        return self._lease(lease_key(uid), label, "is applying to", wait)

    def leadership(self) -> Lease:
        """Return the right to be the controller that acts on this ledger; nobody is waited for."""
        return self._lease(CONTROLLER, "this ledger", "is the controller of", 0.0)

    def controller(self) -> str:
        """
        Return who the controller of this ledger is, for people; empty when there is none.

        One that did not say goodbye counts for a day after its last sign of life.
        """
        return holder(self._store, CONTROLLER, self._now() - timedelta(days=1))

    def _lease(self, key: str, label: str, doing: str, wait: float) -> Lease:
        return Lease(
            self._store,
            key,
            label=label,
            doing=doing,
            by=self._writer,
            seconds=self._timeouts.lease,
            wait=wait,
            now=self._now,
            clock=self._clock,
            sleep=self._sleep,
            watched=self._watched,
            # Whoever moves the ledger must see the lease, or we that it was moved.
            allowed=partial(self._store.when_durable, self._check_here),
        )

    def _check_here(self) -> None:
        """Raise LedgerError when the ledger was moved since it was opened."""
        read_birth(stored.text if (stored := self._store.get(BIRTH)) else "")

    # ── below ────────────────────────────────────────────────────────────────────────────────

    def _born(self) -> tuple[Birth, bool]:
        stored = self._store.get(BIRTH)
        if stored is not None:
            return read_birth(stored.text), False
        if not self._store.created:
            raise never_begun(self._store.keys(""))
        birth = Birth(uuid.uuid4().hex, self._now(), self._writer)
        try:
            self._store.put(BIRTH, write(birth), expect=0)
        except Conflict:  # two at once: the other one's birth is ours
            stored = self._store.get(BIRTH)
            return read_birth(stored.text if stored else ""), True
        return birth, True

    def _maybe(self, kind: type[T], key: str) -> T | None:
        stored = self._store.get(key)
        return read(kind, key, stored.text) if stored is not None else None
