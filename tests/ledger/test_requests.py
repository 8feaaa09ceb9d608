"""The requests of a server in the ledger: what may be sent, by whom, and what is kept of it."""

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest

from reconciler.errors import Blocked, LedgerError
from reconciler.ledger import Conflict, request_state
from reconciler.ledger.codec.records import read, write
from reconciler.ledger.codec.rows import requests_key
from reconciler.ledger.ledger import Ledger
from reconciler.ledger.stores.memory import MemoryStore
from reconciler.model.desired import Afterwards, RequestKind
from reconciler.model.observed import BootLine, Robot
from reconciler.model.recorded import (
    NO_REQUESTS,
    Attempt,
    HistoryEntry,
    PendingStarts,
    Request,
    Requests,
    Stage,
)
from reconciler.model.target import Target
from reconciler.model.values import replace
from reconciler.render.requests import history
from reconciler.system.timeouts import Timeouts

NOW = datetime(2026, 11, 22, 10, tzinfo=UTC)
BOOT = BootLine(1_700_000_000_000, 4121)
NEWER = BootLine(1_700_000_060_000, 4121)
GRID = Robot(1, "grid-btc", "bybit", running=True)
ARB = Robot(2, "arb-eth", "okx", running=True)
TARGET = Target("https://tokyo-1.internal:8443", "0")


def attempt(nonce: str = "nonce-1", by: str = "apply 1@ci") -> Attempt:
    """A try."""
    return Attempt(nonce, "2026-11-22T09:59:00.000+00:00", by, (BOOT,), BOOT.time + 5, "boot", 12.5)


def request(
    kind: RequestKind = RequestKind.REBOOT, at: datetime = NOW, nonce: str = "nonce-1"
) -> Request:
    """An intent; of a reboot whose robots are to be resumed."""
    base = Request(kind, at, "okx moved", Stage.OPEN, (attempt(nonce),))
    if kind is RequestKind.CACHE:
        return base
    return replace(base, robots=Afterwards.RESUME, ran=(GRID, ARB))


def halt(**changes: object) -> PendingStarts:
    """Robots that are owed."""
    base = PendingStarts(
        "restart on bybit", (GRID,), "2026-11-22T09:59:00.000+00:00", "apply 1@ci", 600
    )
    return replace(base, **changes)  # type: ignore[arg-type]


class Harness:
    """A ledger on a store in memory, and others on the same one."""

    def __init__(self) -> None:
        self.store = MemoryStore()
        self.one = self.ledger("apply 1@ci")
        self.uid = self.one.pin(TARGET, "tokyo-1").uid

    def ledger(self, writer: str) -> Ledger:
        """Open the ledger as another process does, and load the server."""
        ledger = Ledger(self.store, now=lambda: NOW, timeouts=Timeouts(), writer=writer)
        ledger.load(TARGET, "tokyo-1")
        return ledger

    def stored(self) -> Requests:
        """What really lies in the store."""
        stored = self.store.get(requests_key(self.uid))
        return read(Requests, "test", stored.text) if stored else NO_REQUESTS


@pytest.fixture
def harness() -> Harness:
    """A harness on which one server is known."""
    return Harness()


# ── one request, from its intent to its end ──────────────────────────────────────────────────


@pytest.mark.parametrize("kind", list(RequestKind))
def test_an_intent_is_durable_before_asking_returns(harness: Harness, kind: RequestKind) -> None:
    book = harness.one.requests(harness.uid)
    book.load()

    book.ask(request(kind))

    assert harness.stored().open == request(kind)
    book.confirm("nonce-1")
    with pytest.raises(Conflict):
        book.confirm("nonce-2")


def test_a_done_reboot_owes_its_robots_from_the_same_write_on(harness: Harness) -> None:
    book = harness.one.requests(harness.uid)
    book.load()
    book.ask(request())

    book.close(replace(request(), stage=Stage.DONE, boot=NEWER, evidence="boot line"))

    kept = harness.stored()
    assert (kept.open, kept.handled) == (None, {RequestKind.REBOOT: NOW})
    assert kept.halt is not None
    assert (kept.halt.robots, kept.halt.boot, kept.halt.within) == ((GRID, ARB), NEWER, 600)
    assert (kept.halt.host_boot, kept.halt.elapsed) == ("boot", 12.5)
    assert (kept.past[0].closed_by, kept.past[0].closed_at[:19]) == (
        "apply 1@ci",
        "2026-11-22T10:00:00",
    )


def test_a_closed_request_keeps_no_boot_lines_to_compare_with(harness: Harness) -> None:
    book = harness.one.requests(harness.uid)
    book.load()
    book.ask(request())
    assert harness.stored().open == request()
    assert request().attempts[0].boots

    book.close(replace(request(), stage=Stage.DONE, boot=NEWER, evidence="boot line"))

    (past,) = harness.stored().past
    assert past.attempts == (replace(attempt(), boots=()),)
    assert (past.boot, past.evidence) == (NEWER, "boot line")


@pytest.mark.parametrize("stage", [Stage.NOT_DONE, Stage.SATISFIED])
def test_only_a_reboot_of_ours_that_is_done_owes_robots(stage: Stage) -> None:
    opened = request_state.opened(NO_REQUESTS, request())

    assert request_state.closed(opened, replace(request(), stage=stage)).halt is None
    left = replace(request(), stage=Stage.DONE, robots=Afterwards.LEAVE)
    assert request_state.closed(opened, left).halt is None
    cache = request_state.opened(NO_REQUESTS, request(RequestKind.CACHE))
    assert (
        request_state.closed(cache, replace(request(RequestKind.CACHE), stage=Stage.DONE)).halt
        is None
    )


def test_taking_back_leaves_no_trace_and_allows_to_ask_again(harness: Harness) -> None:
    book = harness.one.requests(harness.uid)
    book.load()
    book.ask(request())
    book.unsend("nonce-1")

    assert harness.stored() == NO_REQUESTS
    book.ask(request(nonce="nonce-2"))
    with pytest.raises(LedgerError):
        book.unsend("nonce-1")


def test_taking_back_the_second_try_leaves_the_first(harness: Harness) -> None:
    book = harness.one.requests(harness.uid)
    book.load()
    book.ask(request())
    book.retry(attempt("nonce-2"), request().ran)
    book.unsend("nonce-2")

    assert harness.stored().open == request()


# ── what must not be asked ───────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("earlier", [timedelta(0), timedelta(microseconds=1), timedelta(days=9)])
@pytest.mark.parametrize("kind", list(RequestKind))
def test_nothing_is_asked_at_or_before_what_was_handled(
    kind: RequestKind, earlier: timedelta
) -> None:
    handled = request_state.noted(NO_REQUESTS, Request(kind, NOW, "", Stage.SATISFIED))

    with pytest.raises(Blocked):
        request_state.opened(handled, request(kind, NOW - earlier))
    assert request_state.opened(handled, request(kind, NOW + timedelta(microseconds=1))).open
    other = RequestKind.CACHE if kind is RequestKind.REBOOT else RequestKind.REBOOT
    assert request_state.opened(handled, request(other, NOW - earlier)).open


@pytest.mark.parametrize(
    "state",
    [request_state.opened(NO_REQUESTS, request()), request_state.halted(NO_REQUESTS, halt())],
    ids=["one is open", "robots are owed"],
)
def test_nothing_is_asked_or_halted_while_something_is_open(state: Requests) -> None:
    for kind in RequestKind:
        with pytest.raises(Blocked):
            request_state.opened(state, request(kind, NOW + timedelta(hours=1)))
    with pytest.raises(Blocked):
        request_state.halted(state, halt())


def test_a_reboot_is_tried_twice_and_an_invalidation_once() -> None:
    once = request_state.opened(NO_REQUESTS, request())
    twice = request_state.retried(once, attempt("nonce-2"), ())

    with pytest.raises(Blocked):
        request_state.retried(twice, attempt("nonce-3"), ())
    with pytest.raises(Blocked):
        request_state.retried(
            request_state.opened(NO_REQUESTS, request(RequestKind.CACHE)), attempt("nonce-2"), ()
        )
    with pytest.raises(LedgerError):
        request_state.retried(NO_REQUESTS, attempt(), ())


def test_what_was_handled_never_goes_backwards() -> None:
    state = NO_REQUESTS
    for hours in (3, 1, 2, 0):
        state = request_state.noted(
            state, Request(RequestKind.CACHE, NOW + timedelta(hours=hours), "", Stage.SATISFIED)
        )

    assert state.handled == {RequestKind.CACHE: NOW + timedelta(hours=3)}
    assert len(state.past) == 1


def test_what_was_handled_is_known_for_ever_though_its_record_is_dropped() -> None:
    state = NO_REQUESTS
    for hour in range(request_state.KEPT + 5):
        at = NOW + timedelta(hours=hour)
        state = request_state.closed(
            request_state.opened(state, request(RequestKind.CACHE, at)),
            replace(request(RequestKind.CACHE, at), stage=Stage.DONE),
        )

    assert len(state.past) == request_state.KEPT
    assert state.closed(RequestKind.CACHE, NOW) is None
    with pytest.raises(Blocked):
        request_state.opened(state, request(RequestKind.CACHE, NOW))


# ── several processes ────────────────────────────────────────────────────────────────────────

Change = Callable[[Ledger, str], None]
CHANGES: dict[str, Change] = {
    "ask": lambda ledger, uid: ledger.requests(uid).ask(request(nonce="nonce-9")),
    "note": lambda ledger, uid: ledger.requests(uid).note(
        replace(request(), stage=Stage.SATISFIED)
    ),
    "halt": lambda ledger, uid: ledger.requests(uid).halt(halt()),
}


@pytest.mark.parametrize("name", CHANGES)
def test_who_slept_while_another_one_worked_changes_nothing(harness: Harness, name: str) -> None:
    sleeper, other = harness.ledger("apply 2@ci"), harness.ledger("apply 3@ci")
    other.requests(harness.uid).ask(request())
    before = harness.stored()

    with pytest.raises(Conflict):
        CHANGES[name](sleeper, harness.uid)

    assert harness.stored() == before


def test_of_two_that_ask_at_once_one_may_send(harness: Harness) -> None:
    ledgers = [harness.ledger(f"apply {number}@ci") for number in range(5)]
    won = []
    for number, ledger in enumerate(ledgers):
        try:
            ledger.requests(harness.uid).ask(request(nonce=f"nonce-{number}"))
        except Conflict:
            continue
        won.append(number)

    assert won == [0]


def test_a_person_who_resolves_meanwhile_stops_the_sender(harness: Harness) -> None:
    book = harness.one.requests(harness.uid)
    book.load()
    book.ask(request())
    person = harness.ledger("request resolve 7@desk").requests(harness.uid)

    person.resolve(RequestKind.REBOOT, NOW, done=False, because="I pulled the plug")

    with pytest.raises(Conflict):
        book.confirm("nonce-1")
    with pytest.raises(Conflict):
        book.close(replace(request(), stage=Stage.DONE))


# ── a person's word ──────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(("done", "stage"), [(True, Stage.DONE), (False, Stage.NOT_DONE)])
def test_a_word_closes_a_request_and_owes_no_robot(
    harness: Harness, stage: Stage, *, done: bool
) -> None:
    book = harness.one.requests(harness.uid)
    book.load()
    book.ask(request())

    said = book.resolve(RequestKind.REBOOT, NOW, done=done, because="I looked")

    kept = harness.stored()
    assert (kept.open, kept.halt, kept.handled) == (None, None, {RequestKind.REBOOT: NOW})
    assert (kept.past[0].stage, kept.past[0].evidence) == (stage, "a person said so: I looked")
    assert said.ran == (GRID, ARB)


@pytest.mark.parametrize(
    ("kind", "at"),
    [(RequestKind.CACHE, NOW), (RequestKind.REBOOT, NOW + timedelta(microseconds=1))],
)
def test_a_word_about_anything_else_changes_nothing(
    harness: Harness, kind: RequestKind, at: datetime
) -> None:
    book = harness.one.requests(harness.uid)
    book.load()
    book.ask(request())

    with pytest.raises(LedgerError, match="not in doubt"):
        book.resolve(kind, at, done=True, because="x")

    assert harness.stored().open == request()


# ── robots that are owed ─────────────────────────────────────────────────────────────────────


def test_a_start_is_noted_before_it_is_sent_and_never_twice(harness: Harness) -> None:
    book = harness.one.requests(harness.uid)
    book.load()
    book.halt(halt(robots=(GRID, ARB)))
    book.begin(1)

    assert harness.stored().halt == halt(robots=(GRID, ARB), begun=(1,))
    for robot in (1, 7):
        with pytest.raises(Blocked):
            book.begin(robot)
    book.not_begun(1)
    book.begin(1)
    book.begin(2)
    book.leave("it hangs")
    with pytest.raises(Blocked):
        book.begin(2)


def test_a_person_may_have_them_started_after_all(harness: Harness) -> None:
    book = harness.one.requests(harness.uid)
    book.load()
    book.halt(halt())
    book.begin(1)
    book.leave("it hangs")

    book.reopen()
    assert harness.stored().halt == halt()
    book.begin(1)
    book.release()
    assert harness.stored().halt is None
    for change in (book.reopen, lambda: book.leave("x"), lambda: book.begin(1)):
        with pytest.raises(LedgerError):
            change()


# ── the document ─────────────────────────────────────────────────────────────────────────────

FULL = Requests(
    handled={RequestKind.REBOOT: NOW, RequestKind.CACHE: NOW - timedelta(hours=1)},
    open=replace(request(at=NOW + timedelta(microseconds=123456)), reason="läuft heiß"),
    past=(
        replace(request(), stage=Stage.DONE, boot=NEWER, evidence="boot line", closed_by="ci"),
        replace(request(RequestKind.CACHE), stage=Stage.NOT_DONE),
        Request(RequestKind.CACHE, NOW, "", Stage.BASELINED),
    ),
    halt=halt(others=(2, 3), begun=(1,), boot=BOOT, finding="hangs", host_boot="b", elapsed=1.5),
)


def test_what_is_written_is_read_again() -> None:
    assert read(Requests, "test", write(FULL)) == FULL
    assert read(Requests, "test", write(NO_REQUESTS)) == NO_REQUESTS


def _places(value: object, path: tuple[object, ...] = ()) -> list[tuple[object, ...]]:
    pairs: list[tuple[object, object]] = []
    if isinstance(value, dict):
        pairs = list(value.items())
    elif isinstance(value, list):
        pairs = list(enumerate(value))
    found = [path] if path else []
    for key, inner in pairs:
        found += _places(inner, (*path, key))
    return found


@pytest.mark.parametrize("wrong", [{"odd": 1}, True, -1.5], ids=str)
def test_a_damaged_document_is_refused_not_guessed(wrong: object) -> None:
    """Every value, one after the other, replaced by one of another type."""
    whole = json.loads(write(FULL))
    for path in _places(whole):
        damaged = json.loads(write(FULL))
        place = damaged
        for key in path[:-1]:
            place = place[key]
        if isinstance(place[path[-1]], (type(wrong), float)):
            continue
        place[path[-1]] = wrong
        with pytest.raises(LedgerError):
            read(Requests, "test", json.dumps(damaged))


# ── the history ──────────────────────────────────────────────────────────────────────────────


def test_a_history_tells_each_thing_once_in_its_order() -> None:
    name = "reboot 2026-11-22T10:00:00Z"
    deed = HistoryEntry("2026-11-22T10:01:00.000+00:00", "apply 1@ci", name, "in doubt")
    died = replace(
        request(RequestKind.CACHE), attempts=(attempt(by="apply 2@ci"),), stage=Stage.OPEN
    )
    resolved = replace(
        request(),
        stage=Stage.NOT_DONE,
        evidence="a person said so: no",
        closed_at="2026-11-22T10:05:00+00:00",
        closed_by="request resolve 9@desk",
    )

    told = history((deed,), Requests(open=died, past=(resolved,)))

    assert [(one.what.split()[0], one.by.split()[0], one.result) for one in told] == [
        ("invalidate-cache", "apply", "asked"),
        ("reboot", "apply", "in doubt"),
        ("reboot", "request", "NOT done"),
    ]


def test_deeds_are_kept_in_their_number(harness: Harness) -> None:
    for number in range(310):
        harness.one.record(
            harness.uid, [HistoryEntry(f"2026-11-22T10:00:00.{number:03d}+00:00", "x", "y", "z")]
        )

    kept = harness.one.history(harness.uid)
    assert (len(kept), kept[-1].at[-10:]) == (300, ".309+00:00")
