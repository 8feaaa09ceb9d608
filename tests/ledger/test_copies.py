"""A whole ledger as a value: what is read of it, in a file, and put into an empty place."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from reconciler.errors import LeaseHeld, LedgerError
from reconciler.ledger import Store, Stored, lease
from reconciler.ledger.codec.records import KINDS, PLACES, write
from reconciler.ledger.codec.rows import BIRTH, RESTORED, Restored, is_lease
from reconciler.ledger.copies import Heading, as_file, fill, from_file, judged, taken
from reconciler.ledger.ledger import Ledger
from reconciler.ledger.moving import left, move
from reconciler.ledger.stores.memory import MemoryStore
from reconciler.ledger.stores.sqlite import SqliteStore
from reconciler.model.recorded import Received, Write
from reconciler.model.references import SecretPath
from reconciler.model.target import Target
from reconciler.model.values import replace
from reconciler.system.timeouts import Timeouts

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)
LATER = NOON + timedelta(hours=3)
TARGET = Target("https://tokyo-1.internal:8443", "0")
WRITE = Write({}, {"key": "a"}, {"key": "b"}, "k1", "2026-11-22T12:00:00Z", api_key="h1")
HEADING = Heading("a" * 32, NOON, "ledger backup 1@test", "sqlite:/var/lib/jtr/ledger.db")
RESTORE = Restored(LATER, "the disk died", "ledger restore 1@test")
ELSEWHERE = "vault:jtr/ledger"


def ledger_on(store: Store, writer: str = "apply 1@test") -> Ledger:
    quick = replace(Timeouts(), lease=0.05, lease_wait=0.0)
    return Ledger(store, now=lambda: NOON, timeouts=quick, writer=writer)


def begun(store: Store) -> Store:
    ledger = ledger_on(store)
    uid = ledger.pin(TARGET, "tokyo-1").uid
    ledger.receive(uid, Received(None, None, (SecretPath("secret", "jt/tokyo-1/bybit"),)))
    ledger.intend(uid, "bybit", WRITE, ())
    ledger.commit(uid, "bybit")
    with ledger.lease(uid):
        ledger.note_applied("sha256:1-2")
    return store


@pytest.fixture(params=["memory", "sqlite"])
def empty(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    made = SqliteStore.create(tmp_path / "new.db") if request.param == "sqlite" else MemoryStore()
    yield made
    made.close()


@pytest.fixture
def original() -> Store:
    return begun(MemoryStore())


def ignored(_: int) -> None:
    """Nobody needs to know how far it has come."""


class Dying(MemoryStore):
    """A store whose process ends before a given write."""

    def __init__(self, left: int) -> None:
        super().__init__()
        self.left = left

    def put(self, key: str, text: str, *, expect: int) -> int:
        if self.left == 0:
            raise KeyboardInterrupt
        self.left -= 1
        return super().put(key, text, expect=expect)


# ── reading ──────────────────────────────────────────────────────────────────────────────────


def test_every_row_is_taken_and_understood(original: Store) -> None:
    rows = taken(original)

    assert sorted(rows) == [key for key in original.keys("") if not is_lease(key)]
    assert judged(rows).damaged == []
    assert judged(rows).rows == len(rows)
    assert judged(rows).keys == {"k1"}


def test_each_kind_of_row_has_its_place() -> None:
    assert PLACES.keys() == KINDS.keys()


@pytest.mark.parametrize(
    ("key", "text"),
    [
        ("server/x/requests", "{}"),
        ("server/x/requests", '{"format":1,"kind":"birth"}'),
        ("ledger/unheard-of", "{}"),
        ("server/x", "{}"),
        ("name/tokyo-1", "not JSON"),
    ],
)
def test_a_row_that_cannot_be_read_is_named(original: Store, key: str, text: str) -> None:
    found = judged(taken(original) | {key: text})

    assert [key in str(error) for error in found.damaged] == [True]


def test_a_row_in_the_place_of_another_kind_is_damage(original: Store) -> None:
    rows = taken(original)

    found = judged(rows | {"server/x/requests": rows[BIRTH]})

    assert len(found.damaged) == 1


def test_without_its_birth_it_is_only_a_part(original: Store) -> None:
    rows = {key: text for key, text in taken(original).items() if key != BIRTH}

    assert "part of a ledger" in str(judged(rows).damaged[0])


def test_a_moment_in_which_nobody_writes_is_looked_for() -> None:
    class Busy(MemoryStore):
        waiting = True

        def rows(self, prefix: str) -> dict[str, Stored]:
            found = super().rows(prefix)
            if self.waiting:  # another process, between two of our rows
                self.waiting = False
                self.put("a", "new", expect=1)
                self.put("b", "new", expect=1)
                found["b"] = super().rows(prefix)["b"]
            return found

    store = Busy()
    for name in "abc":
        store.put(name, "old", expect=0)

    assert taken(store) == {"a": "new", "b": "new", "c": "old"}


# ── as a file ────────────────────────────────────────────────────────────────────────────────


def test_a_file_holds_what_was_taken(original: Store) -> None:
    rows = taken(original)

    assert from_file(as_file(HEADING, rows)) == (HEADING, rows)


def test_every_byte_counts(original: Store) -> None:
    data = as_file(HEADING, taken(original))

    for place in range(len(data)):
        changed = bytearray(data)
        changed[place] ^= 1
        with pytest.raises(LedgerError):
            from_file(bytes(changed))


def test_every_cut_is_noticed(original: Store) -> None:
    data = as_file(HEADING, taken(original))

    for length in range(len(data) - 1):  # without its last line end it is whole
        with pytest.raises(LedgerError):
            from_file(data[:length])


@pytest.mark.parametrize("data", [b"", b"\n", b"{}\n{}\n", b"\xff" * 100, b"[]\n" * 9])
def test_what_is_no_backup_is_none(data: bytes) -> None:
    with pytest.raises(LedgerError, match="no backup"):
        from_file(data)


# ── restoring ────────────────────────────────────────────────────────────────────────────────


def test_a_restored_ledger_knows_the_same_and_does_nothing_again(
    original: Store, empty: Store
) -> None:
    told: list[int] = []
    fill(empty, taken(original), RESTORE, told.append)

    assert told == [empty.sequence() - 1]  # before its birth: what follows is more
    before, after = ledger_on(original), ledger_on(empty)
    ours, theirs = after.load(TARGET, "tokyo-1"), before.load(TARGET, "tokyo-1")
    assert (ours.identity, ours.exchanges) == (theirs.identity, theirs.exchanges)
    assert after.ledger_uid == before.ledger_uid
    assert before.baseline() == NOON
    assert after.baseline() == LATER  # every request up to then counts as handled


def test_cut_off_at_any_write_it_is_no_ledger_and_can_be_repeated(original: Store) -> None:
    rows = taken(original)
    for writes in range(len(rows) + 1):  # one more than rows: what counts as handled
        store = Dying(writes)
        with pytest.raises(KeyboardInterrupt):
            fill(store, rows, RESTORE, ignored)
        store.created = False
        with pytest.raises(LedgerError):
            ledger_on(store)

        store.left = -1
        fill(store, rows, replace(RESTORE, because="again"), ignored)

        assert sorted(taken(store)) == sorted({*rows, RESTORED})
        assert ledger_on(store).baseline() == LATER


def test_over_something_else_nothing_is_written(original: Store, empty: Store) -> None:
    begun(empty)
    before = taken(empty)

    with pytest.raises(LedgerError, match="something else lies there"):
        fill(empty, taken(original), RESTORE, ignored)

    assert taken(empty) == before


def test_over_a_newer_row_of_the_same_ledger_nothing_is_written(
    original: Store, empty: Store
) -> None:
    rows = taken(original)
    key = next(key for key in rows if key.endswith("/bybit"))
    empty.put(key, rows[key].replace("h1", "h2"), expect=0)

    with pytest.raises(LedgerError, match="something else lies there"):
        fill(empty, rows, RESTORE, ignored)

    assert empty.keys("") == [key]


def test_what_counts_as_handled_never_goes_back(original: Store, empty: Store) -> None:
    later = replace(RESTORE, at=LATER + timedelta(days=1))
    rows = taken(original) | {RESTORED: write(later)}

    fill(empty, rows, RESTORE, ignored)

    assert ledger_on(empty).baseline() == later.at
    ledger_on(empty).accept_restore("by a clock that is behind")
    assert ledger_on(empty).baseline() == later.at


def test_leases_are_no_part_of_a_copy(original: Store) -> None:
    assert any(map(is_lease, original.keys("")))
    assert not any(map(is_lease, taken(original)))


# ── moving ───────────────────────────────────────────────────────────────────────────────────


def away(store: Store, there: Store | None = None, to: str = ELSEWHERE) -> int:
    """Move a ledger; returns how many rows were copied."""
    quick = replace(Timeouts(), lease=0.05)
    place = MemoryStore() if there is None else there
    return move(
        store,
        place,
        to,
        now=lambda: NOON,
        timeouts=quick,
        writer="ledger move 1@test",
        arrives=lambda uid, writes: arrivals.append((uid, writes)),
    )


arrivals: list[tuple[str, int]] = []


def found(store: Store) -> MemoryStore:
    """What another process opens: the same rows, in a store that it did not make."""
    again = MemoryStore({key: stored for key in store.keys("") if (stored := store.get(key))})
    again.created = False
    return again


def test_a_ledger_that_was_left_says_where_it_is(original: Store) -> None:
    away(original)

    assert left(original)
    with pytest.raises(LedgerError, match="was moved to vault:jtr/ledger"):
        ledger_on(original)


def test_it_goes_on_there_and_no_host_takes_it_for_an_older_one(original: Store) -> None:
    before, there = ledger_on(original), MemoryStore()
    seen = before.sequence()
    arrivals.clear()

    assert away(original, there)

    after = ledger_on(found(there))
    assert (after.ledger_uid, after.baseline()) == (before.ledger_uid, before.baseline())
    assert after.sequence() > seen  # whatever another host remembers
    assert arrivals == [(after.ledger_uid, after.sequence() - 1)]


def test_a_second_time_nothing_is_copied_and_nothing_is_vouched_for(original: Store) -> None:
    there = MemoryStore()
    away(original, there)
    arrivals.clear()

    assert away(original, there) == 0

    assert arrivals == []


def test_another_ledger_at_the_new_place_is_not_taken_for_this_one(original: Store) -> None:
    with pytest.raises(LedgerError, match="another ledger was begun"):
        away(original, begun(MemoryStore()))

    with pytest.raises(LedgerError, match="is being moved"):  # it is nowhere else yet
        ledger_on(original)
    assert away(original)


def test_who_had_it_open_gets_no_lease_any_more(original: Store) -> None:
    ledger = ledger_on(original)
    uid = ledger.servers()[0].uid
    away(original)

    for right in (ledger.lease(uid), ledger.leadership()):
        with pytest.raises(LedgerError, match="moved to"), right:
            pytest.fail("a lease on a ledger that nobody uses any more")


def test_who_works_is_waited_for(original: Store) -> None:
    ledger, there = ledger_on(original), MemoryStore()

    with ledger.lease(ledger.servers()[0].uid), pytest.raises(LeaseHeld, match="run this again"):
        away(original, there)
    assert there.keys("") == []
    assert away(original, there)  # the same command once more


def test_what_was_lost_after_a_move_is_not_begun_anew_from_older_rows(original: Store) -> None:
    away(original)
    told, lost = list(arrivals), MemoryStore()

    with pytest.raises(LedgerError, match="what lies here is older"):
        away(original, lost)

    assert (lost.keys(""), arrivals) == ([], told)


def test_it_is_not_moved_to_two_places(original: Store) -> None:
    away(original)

    with pytest.raises(LedgerError, match="moved to vault:jtr/ledger"):
        away(original, to="sqlite:/elsewhere.db")


@pytest.mark.parametrize("side", ["here", "there"])
def test_cut_off_at_any_write_it_is_whole_somewhere_or_being_moved(side: str) -> None:
    """And the same command ends it."""
    cuts = 0
    for writes in range(60):
        here, there = Dying(-1), Dying(-1)
        begun(here)
        known = set(taken(here))
        (here if side == "here" else there).left = writes
        try:
            away(here, there)
        except KeyboardInterrupt:
            cuts += 1
            here.left = there.left = -1
            lease._living.clear()  # with its process it is gone
            if left(here):
                with pytest.raises(LedgerError, match=r"is being moved|was moved"):
                    ledger_on(found(here))
            else:
                assert ledger_on(found(here)).servers()
            away(here, there)
        assert set(taken(there)) == known
        assert ledger_on(found(there)).servers()
        with pytest.raises(LedgerError, match="was moved"):
            ledger_on(found(here))
    assert cuts > 2
