"""What is noted together becomes durable together, and counts for nothing where it does not."""

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from reconciler.errors import LedgerError
from reconciler.ledger import Conflict, Put, Stored
from reconciler.ledger.joined_store import JoinedStore
from reconciler.ledger.ledger import Ledger
from reconciler.ledger.stores.memory import MemoryStore
from reconciler.ledger.stores.sqlite import SqliteStore
from reconciler.system.timeouts import Timeouts
from reconciler.testing.stores import NOON, TARGET, WRITE


class Noted(MemoryStore):
    """Tells what it is asked to write, call by call; *meanwhile* comes just before a call."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[list[str]] = []
        self.meanwhile: Callable[[], None] = lambda: None

    def put(self, key: str, text: str, *, expect: int) -> int:
        self.calls.append([key])
        return super().put(key, text, expect=expect)

    def put_all(self, puts: Sequence[Put]) -> None:
        self.meanwhile()
        self.calls.append([one.key for one in puts])
        for one in puts:
            super().put(one.key, one.text, expect=one.expect)


@pytest.fixture
def store() -> Noted:
    return Noted()


def opened(store: Noted) -> Ledger:
    return Ledger(store, now=lambda: NOON, timeouts=Timeouts(), writer="apply 1@test")


def test_what_is_joined_is_seen_within_and_written_at_the_end(store: Noted) -> None:
    joined = JoinedStore(store)
    with joined.joined():
        assert joined.put("a/b", "1", expect=0) == 1
        assert joined.put("a/c", "1", expect=0) == 1
        assert joined.put("a/b", "2", expect=1) == 1  # one document, one revision
        assert joined.keys("a/") == ["a/b", "a/c"]
        assert joined.rows("a/") == {"a/b": Stored(1, "2"), "a/c": Stored(1, "1")}
        assert store.get("a/b") is None

    assert store.calls == [["a/b", "a/c"]]
    assert {key: stored.text for key, stored in store.documents().items()} == {
        "a/b": "2",
        "a/c": "1",
    }


def test_a_block_that_fails_writes_nothing(store: Noted) -> None:
    joined = JoinedStore(store)

    def fails() -> None:
        with joined.joined():
            joined.put("a", "1", expect=0)
            raise LedgerError("made up", "")

    with pytest.raises(LedgerError):
        fails()

    assert store.calls == []
    assert joined.put("a", "1", expect=0) == 1  # at once again


def test_a_server_is_met_and_its_writes_are_intended_by_one_commit(store: Noted) -> None:
    ledger = opened(store)
    store.calls.clear()
    with ledger.together():
        uid = ledger.pin(TARGET, "tokyo-1").uid
        lease = ledger.lease(uid)
        lease.__enter__()
        for code in ("bybit", "okx"):
            ledger.intend(uid, code, WRITE, [])

    (keys,) = store.calls
    assert [key.rpartition("/")[2] for key in keys] == [
        "tokyo-1",
        "identity",
        "lease",
        "bybit",
        "okx",
    ]
    record = ledger.load(TARGET, "tokyo-1")
    assert {code: one.intent for code, one in record.exchanges.items()} == {
        "bybit": WRITE,
        "okx": WRITE,
    }
    lease.__exit__(None, None, None)


def test_an_intent_that_others_overtook_is_none(store: Noted) -> None:
    ours, others = opened(store), opened(store)
    uid = ours.pin(TARGET, "tokyo-1").uid
    for one in (ours, others):
        one.load(TARGET, "tokyo-1")
    store.meanwhile = lambda: others.intend(uid, "okx", WRITE, [])

    def intend() -> None:
        with ours.together():
            ours.intend(uid, "okx", WRITE, [])
            ours.intend(uid, "bybit", WRITE, [])

    with pytest.raises(Conflict):
        intend()

    assert list(opened(store).load(TARGET, "tokyo-1").exchanges) == ["okx"]
    with pytest.raises(LedgerError):  # the other one's is not ours to drop
        ours.drop_intent(uid, "okx")
    store.meanwhile = lambda: None
    ours.intend(uid, "bybit", WRITE, [])  # of which nothing was noted, and that is known


def test_an_intent_is_dropped_and_had_anew_in_one_commit(store: Noted) -> None:
    ledger = opened(store)
    uid = ledger.pin(TARGET, "tokyo-1").uid
    ledger.intend(uid, "okx", WRITE, [])
    store.calls.clear()
    with ledger.together():
        ledger.drop_intent(uid, "okx")
        ledger.intend(uid, "okx", WRITE, [], boot=7)

    assert len(store.calls) == 1
    ledger.drop_intent(uid, "okx")  # the new one is ours
    assert ledger.load(TARGET, "tokyo-1").exchanges["okx"].intent is None


def test_sqlite_writes_all_of_several_or_none(tmp_path: Path) -> None:
    store = SqliteStore.create(tmp_path / "ledger.db")
    with pytest.raises(Conflict):
        store.put_all((Put("a", "1", 0), Put("b", "1", 1)))

    assert store.keys("") == []
    store.close()
