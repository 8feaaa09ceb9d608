"""
The requests of one server in the ledger: what may be sent, and what became of it.

Every change is one compare-and-set of one document, and names the revision that was loaded: a
process that slept while another one worked gets `Conflict` and sends nothing.
"""

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Final

from reconciler.errors import LedgerError
from reconciler.ledger import Conflict, Store, request_state
from reconciler.ledger.codec.records import read, write
from reconciler.ledger.codec.rows import History, history_key, requests_key
from reconciler.ledger.compare_and_set import update
from reconciler.model.desired import RequestKind
from reconciler.model.observed import Robot
from reconciler.model.recorded import (
    NO_REQUESTS,
    Attempt,
    HistoryEntry,
    PendingStarts,
    Request,
    Requests,
    Stage,
)
from reconciler.model.timestamps import spelled, stamp
from reconciler.model.values import replace

DEEDS_KEPT: Final = 300


class RequestLog:
    """The requests of one server; use `Ledger.requests`.  Blocking."""

    def __init__(
        self,
        store: Store,
        uid: str,
        *,
        known: dict[str, int],
        now: Callable[[], datetime],
        writer: str,
    ) -> None:
        self._store: Final = store
        self._key: Final = requests_key(uid)
        self._known: Final = known
        self._now: Final = now
        self._writer: Final = writer

    def load(self) -> Requests:
        """Return the requests, and base later changes on them."""
        return self.read(base=True)

    def read(self, *, base: bool = False) -> Requests:
        """Return the requests; changes stay based on what was loaded, unless with *base*."""
        stored = self._store.get(self._key)
        if base:
            self._known[self._key] = stored.revision if stored else 0
        return read(Requests, self._key, stored.text) if stored else NO_REQUESTS

    # ── sending ──────────────────────────────────────────────────────────────────────────────

    def ask(self, request: Request) -> None:
        """
        Record that *request* is about to be sent; durable, and read again before this returns.

        Whatever it raises, send nothing.
        """
        self._promise(lambda requests: request_state.opened(requests, request))

    def retry(self, attempt: Attempt, ran: tuple[Robot, ...]) -> None:
        """
        Record that the open reboot is about to be sent a second time; as strict as `ask`.

        *ran* are all robots that one of both tries stops.
        """
        self._promise(lambda requests: request_state.retried(requests, attempt, ran))

    def confirm(self, nonce: str) -> None:
        """
        Read once more whether the attempt *nonce* is still the one that may be sent.

        Raises Conflict when somebody closed or resolved it meanwhile, for example while this
        process was stopped.
        """
        stored = self._store.get(self._key)
        requests = read(Requests, self._key, stored.text) if stored else NO_REQUESTS
        request = requests.open
        if request is None or not request.attempts or request.attempts[-1].nonce != nonce:
            raise _moved_on()

    def unsend(self, nonce: str) -> None:
        """Take our own attempt back, because nothing of it was sent."""
        self._change(lambda requests: request_state.unsent(requests, nonce))

    def close(self, request: Request) -> None:
        """Record what became of the open request; its robots may be owed afterwards."""
        self._change(lambda requests: request_state.closed(requests, self._stamped(request)))

    def note(self, request: Request) -> None:
        """Record a request that needed no sending: satisfied, or older than the ledger."""
        self._change(lambda requests: request_state.noted(requests, self._stamped(request)))

    def resolve(self, kind: RequestKind, instant: datetime, *, done: bool, because: str) -> Request:
        """
        Close a request in doubt as a person says, and return it.

        Nothing is ever sent again for its instant.  Raises LedgerError when it is not open.
        """
        request = self.load().open
        if request is None or (request.kind, request.instant) != (kind, instant):
            raise LedgerError(
                f"{kind} {spelled(instant)} is not in doubt on this server",
                "see: jtr request list",
            )
        said = replace(
            request,
            stage=Stage.DONE if done else Stage.NOT_DONE,
            evidence=f"a person said so: {because}",
        )
        # A person's word is no evidence of a boot of ours: no robot is started because of it.
        self._change(lambda requests: request_state.dismissed(requests, self._stamped(said)))
        return said

    # ── robots ───────────────────────────────────────────────────────────────────────────────

    def halt(self, halt: PendingStarts) -> None:
        """Record which robots are about to be stopped; as strict as `ask`."""
        self._promise(lambda requests: request_state.halted(requests, halt))

    def begin(self, robot: int) -> None:
        """Record that a robot is about to be started; as strict as `ask`."""
        self._promise(lambda requests: request_state.beginning(requests, robot))

    def not_begun(self, robot: int) -> None:
        """Take that back, because nothing was sent."""
        self._change(lambda requests: request_state.not_begun(requests, robot))

    def reopen(self) -> None:
        """Let the robots of a finding be started, because a person asked for it."""
        self._change(request_state.reopened)

    def release(self) -> None:
        """Owe no robots any more."""
        self._change(request_state.released)

    def leave(self, finding: str) -> None:
        """Leave the robots that are still stopped to people."""
        self._change(lambda requests: request_state.left(requests, finding))

    # ── below ────────────────────────────────────────────────────────────────────────────────

    def _stamped(self, request: Request) -> Request:
        return replace(request, closed_at=stamp(self._now()), closed_by=self._writer)

    def _promise(self, change: Callable[[Requests], Requests]) -> None:
        self._change(change)
        revision = self._known[self._key]
        stored = self._store.get(self._key)
        if stored is None or stored.revision != revision:
            raise _moved_on()

    def _change(self, change: Callable[[Requests], Requests]) -> None:
        expect = self._known.get(self._key, 0)
        stored = self._store.get(self._key)
        if (stored.revision if stored else 0) != expect:
            raise _moved_on()
        old = read(Requests, self._key, stored.text) if stored else NO_REQUESTS
        new = change(old)
        if new == old:
            return
        try:
            self._known[self._key] = self._store.put(self._key, write(new), expect=expect)
        except Conflict:
            raise _moved_on() from None


def read_deeds(store: Store, uid: str) -> tuple[HistoryEntry, ...]:
    """Return what was done on a server, oldest first."""
    key = history_key(uid)
    stored = store.get(key)
    return read(History, key, stored.text).deeds if stored else ()


def add_deeds(store: Store, uid: str, deeds: Sequence[HistoryEntry]) -> None:
    """Add to what was done on a server; the oldest are dropped after some hundred."""
    key = history_key(uid)

    def change(text: str | None) -> str:
        old = read(History, key, text).deeds if text is not None else ()
        return write(History((*old, *deeds)[-DEEDS_KEPT:]))

    update(store, key, change)


def _moved_on() -> Conflict:
    return Conflict("another process worked on the requests of this server", "plan again")
