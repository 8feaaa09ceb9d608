"""
What every store of the ledger promises, as a suite that whoever writes one can import.

    class TestMyStore(StoreContract):
        @pytest.fixture
        def place(self, tmp_path: Path) -> Place:
            return MyPlace(tmp_path)  # with `shared`, `create` and `open`
"""

import os
import signal
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime
from functools import partial
from typing import Final, Protocol

import pytest

from reconciler.errors import LedgerError, LedgerMissing
from reconciler.ledger import Conflict, Put, Store, Stored
from reconciler.ledger.ledger import Ledger
from reconciler.model.recorded import Write
from reconciler.model.target import Target
from reconciler.system.timeouts import Timeouts

NOON: Final = datetime(2026, 11, 22, 12, tzinfo=UTC)
TARGET: Final = Target("https://tokyo-1.internal:8443", "0")
WRITE: Final = Write({}, {"key": "a"}, {"key": "b"}, "k1", "2026-11-22T12:00:00Z", api_key="h1")


class Place(Protocol):
    """Where a store lies: `create` once, `open` as often as there are users."""

    shared: bool  # several processes can open it

    def create(self) -> Store: ...
    def open(self) -> Store: ...


class StoreContract:
    """
    The promises of `reconciler.ledger.Store`, and the ledger on a store.

    A subclass gives `place`: a new one for every test, with nothing in it.  Processes are forked
    and open it each for itself where it says that it is `shared`.
    """

    @pytest.fixture
    def place(self) -> Place:
        """Return where the store of one test lies."""
        raise NotImplementedError

    @pytest.fixture
    def store(self, place: Place) -> Iterator[Store]:
        made = place.create()
        yield made
        made.close()

    def test_what_was_never_written_is_not_there(self, store: Store) -> None:
        assert store.get("server/a/identity") is None
        assert store.keys("") == []
        assert store.sequence() == 0

    def test_revisions_count_from_one(self, store: Store) -> None:
        assert store.put("a/b", "{}", expect=0) == 1
        assert store.put("a/b", '{"x":1}', expect=1) == 2
        assert store.get("a/b") == Stored(2, '{"x":1}')

    def test_creating_twice_is_a_conflict_and_changes_nothing(self, store: Store) -> None:
        store.put("a/b", "1", expect=0)

        with pytest.raises(Conflict) as caught:
            store.put("a/b", "2", expect=0)

        assert "a/b" in str(caught.value)
        assert caught.value.transient
        assert store.get("a/b") == Stored(1, "1")
        assert store.sequence() == 1

    @pytest.mark.parametrize("expect", [1, 3, 7])
    def test_a_revision_that_is_not_the_newest_is_a_conflict(
        self, store: Store, expect: int
    ) -> None:
        store.put("a/b", "1", expect=0)
        store.put("a/b", "2", expect=1)

        with pytest.raises(Conflict):
            store.put("a/b", "3", expect=expect)

        assert store.get("a/b") == Stored(2, "2")

    def test_expecting_a_revision_of_nothing_is_a_conflict(self, store: Store) -> None:
        with pytest.raises(Conflict):
            store.put("a/b", "1", expect=1)
        assert store.get("a/b") is None

    def test_after_a_conflict_the_store_goes_on(self, store: Store) -> None:
        store.put("a", "1", expect=0)
        for _ in range(3):
            with pytest.raises(Conflict):
                store.put("a", "2", expect=0)
        assert store.put("a", "2", expect=1) == 2

    def test_several_documents_are_written_by_one_call(self, store: Store) -> None:
        store.put("b", "1", expect=0)

        store.put_all((Put("c", "3", 0), Put("b", "2", 1), Put("a", "1", 0)))

        found = {key: store.get(key) for key in store.keys("")}
        assert found == {"a": Stored(1, "1"), "b": Stored(2, "2"), "c": Stored(1, "3")}
        assert store.sequence() == 4

    @pytest.mark.parametrize("prefix", ["", "a/", "a/b/", "a/b-c/", "z/"])
    def test_rows_are_what_lies_under_the_keys(self, store: Store, prefix: str) -> None:
        for key in ("a/b/d", "a/b/c", "a/b-c/d", "a0/b", "b"):
            store.put(key, f'"{key}"', expect=0)
        store.put("a/b/c", '"newer"', expect=1)

        rows = store.rows(prefix)

        assert list(rows) == store.keys(prefix)
        assert rows == {key: store.get(key) for key in rows}

    @pytest.mark.parametrize("stale", [0, 1, 2])
    def test_of_several_nothing_is_written_after_a_conflict(self, store: Store, stale: int) -> None:
        puts = [Put(key, "1", int(number == stale)) for number, key in enumerate("abc")]

        with pytest.raises(Conflict):
            store.put_all(puts)

        assert store.keys("") in (["a", "b", "c"][:stale], [])
        store.put("d", "1", expect=0)  # and the store goes on

    def test_another_user_of_the_place_sees_every_write_at_once(
        self, place: Place, store: Store
    ) -> None:
        other = place.open()
        try:
            for revision in range(5):
                store.put("a", str(revision), expect=revision)
                assert other.get("a") == Stored(revision + 1, str(revision))
        finally:
            other.close()

    def test_documents_outlive_the_store(self, place: Place) -> None:
        first = place.create()
        first.put("a/b", "kept", expect=0)
        first.close()

        second = place.open()
        try:
            assert second.get("a/b") == Stored(1, "kept")
            assert second.sequence() == 1
        finally:
            second.close()

    def test_where_no_ledger_is_it_is_missing(self, place: Place) -> None:
        if not place.shared:
            pytest.skip("this store belongs to one process")
        with pytest.raises(LedgerMissing, match="jtr ledger init"):
            place.open()

    def test_a_ledger_is_not_begun_anew(self, place: Place, store: Store) -> None:
        if not place.shared:
            pytest.skip("this store belongs to one process")
        store.put("a", "kept", expect=0)

        with pytest.raises(LedgerError):
            place.create()

        assert store.get("a") == Stored(1, "kept")

    def test_keys_are_sorted_and_stop_at_the_slash(self, store: Store) -> None:
        for key in ("s/b/x", "s/a/y", "s/a/x", "s/ab/x", "s/a-b/x", "s/a.b/x", "s/a_b/x", "t/a/x"):
            store.put(key, "{}", expect=0)

        assert store.keys("s/a/") == ["s/a/x", "s/a/y"]
        assert store.keys("s/") == sorted(store.keys("s/"))
        assert len(store.keys("s/")) == 7
        assert len(store.keys("")) == 8
        assert store.keys("nothing/") == []

    @pytest.mark.parametrize(
        "text",
        [
            "",
            "ключ 鍵 🔑",
            '{"a":"\\ud800"}',
            "line\nline\r\n\ttab",
            "x" * 300_000,
            "' ; DROP TABLE",
            "\0",
        ],
        ids=["empty", "unicode", "escaped-surrogate", "lines", "long", "quotes", "nul"],
    )
    def test_text_comes_back_as_it_went_in(self, place: Place, store: Store, text: str) -> None:
        store.put("a", text, expect=0)
        other = place.open()
        try:
            assert other.get("a") == Stored(1, text)
        finally:
            other.close()

    @pytest.mark.parametrize(
        "key", ["", "/", "a/", "/a", "a//b", "A", "a b", "a/../b", ".", "..", "ä", "a\n", "x" * 513]
    )
    def test_a_key_outside_the_alphabet_is_a_mistake(self, store: Store, key: str) -> None:
        with pytest.raises(ValueError, match="not a key"):
            store.get(key)
        with pytest.raises(ValueError, match="not a key"):
            store.put(key, "{}", expect=0)

    def test_the_sequence_counts_every_write(self, store: Store) -> None:
        for number in range(4):
            store.put(f"k{number}", "{}", expect=0)
        store.put("k0", "{}", expect=1)
        store.put("k0", "{}", expect=2)
        with suppress(Conflict):
            store.put("k0", "{}", expect=0)

        assert store.sequence() == 6

    def test_eight_threads_racing_have_one_winner_each_time(self, store: Store) -> None:
        rounds, racers = 40, 8
        gate = threading.Barrier(racers)
        wins: list[list[int]] = [[] for _ in range(rounds)]

        def race(racer: int) -> None:
            for number in range(rounds):
                gate.wait(30)
                try:
                    store.put(f"race/{number}", str(racer), expect=0)
                except Conflict:
                    continue
                wins[number].append(racer)

        threads = [threading.Thread(target=race, args=(racer,)) for racer in range(racers)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)

        assert [len(winners) for winners in wins] == [1] * rounds
        for number, (winner,) in enumerate(wins):
            assert store.get(f"race/{number}") == Stored(1, str(winner))

    def test_eight_threads_counting_together_lose_nothing(self, store: Store) -> None:
        store.put("count", "0", expect=0)

        def count() -> None:
            done = 0
            while done < 10:
                stored = store.get("count")
                assert stored is not None
                with suppress(Conflict):
                    store.put("count", str(int(stored.text) + 1), expect=stored.revision)
                    done += 1

        threads = [threading.Thread(target=count) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)

        assert store.get("count") == Stored(81, "80")

    def test_four_processes_racing_have_one_winner_each_time(
        self, place: Place, store: Store
    ) -> None:
        if not place.shared:
            pytest.skip("this store belongs to one process")
        rounds = 50
        store.put("start", "{}", expect=0)
        ready, go = os.pipe(), os.pipe()
        children: list[tuple[int, int]] = []
        for racer in range(4):
            results = os.pipe()
            work = partial(_compete, place, racer, rounds, ready=ready[1], go=go[0], out=results[1])
            pid = _forked(work)
            os.close(results[1])
            children.append((pid, results[0]))
        for _ in children:
            assert os.read(ready[0], 1) == b"r"
        os.write(go[1], b"g" * len(children))

        wins: list[int] = []
        for pid, results_from in children:
            with os.fdopen(results_from) as lines:
                wins.extend(int(line) for line in lines)
            assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
        for handle in (*ready, *go):
            os.close(handle)

        assert sorted(wins) == list(range(rounds))
        assert store.sequence() == rounds + 1

    # ── the ledger on a store ────────────────────────────────────────────────────────────────

    def test_the_ledger_is_born_once(self, place: Place, store: Store) -> None:
        first = ledger_on(store)
        assert first.born_now
        assert first.birth() == NOON

        other = place.open()
        try:
            second = ledger_on(other)
            assert not second.born_now
            assert (second.ledger_uid, second.birth()) == (first.ledger_uid, NOON)
        finally:
            other.close()

    def test_an_exchange_lives_through_its_states(self, place: Place, store: Store) -> None:
        ledger = ledger_on(store)
        uid = ledger.pin(TARGET, "tokyo-1").uid
        ledger.intend(uid, "bybit", WRITE, ())
        ledger.commit(uid, "bybit")

        other = place.open()
        try:
            record = ledger_on(other).load(TARGET, "tokyo-1").exchanges["bybit"]
        finally:
            other.close()
        assert record.written == WRITE
        assert record.intent is None

    def test_of_two_processes_only_one_gets_its_intent_in(self, place: Place, store: Store) -> None:
        other = place.open()
        try:
            ours, theirs = ledger_on(store), ledger_on(other)
            uid = ours.pin(TARGET, "tokyo-1").uid
            ours.load(TARGET, "tokyo-1")
            theirs.load(TARGET, "tokyo-1")

            theirs.intend(uid, "bybit", WRITE, ())
            with pytest.raises(Conflict, match="plan again"):
                ours.intend(uid, "bybit", WRITE, ())
            theirs.commit(uid, "bybit")
            with pytest.raises(LedgerError):
                ours.commit(uid, "bybit")
        finally:
            other.close()


def ledger_on(store: Store) -> Ledger:
    """Return the ledger that *store* holds, at noon of a day."""
    return Ledger(store, now=lambda: NOON, timeouts=Timeouts(), writer="apply 1@test")


def _compete(place: Place, racer: int, rounds: int, *, ready: int, go: int, out: int) -> None:
    store = place.open()
    os.write(ready, b"r")
    os.read(go, 1)
    for number in range(rounds):
        try:
            store.put(f"race/{number}", str(racer), expect=0)
        except Conflict:
            continue
        os.write(out, f"{number}\n".encode())
    store.close()


def _forked(work: Callable[[], None]) -> int:
    """Run *work* in a child that ends without the test's own clean-up; return its pid."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # the test process may have threads
        pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        signal.alarm(60)
        work()
        code = 0
    finally:
        os._exit(code)
