"""A copy of a ledger reads like the ledger it was made of, whatever that is, and takes nothing."""

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from reconciler.errors import LedgerError, LedgerMissing
from reconciler.ledger import Store, Stored
from reconciler.ledger.ledger import Ledger
from reconciler.ledger.stores.memory import MemoryStore
from reconciler.ledger.stores.snapshot import SnapshotStore
from reconciler.ledger.stores.sqlite import SqliteStore
from reconciler.model.observed import Robot
from reconciler.model.recorded import Debt, Observation, Owed, Write
from reconciler.model.target import Target
from reconciler.model.values import replace
from reconciler.system.timeouts import Timeouts

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)
TARGET = Target("https://tokyo-1.internal:8443", "0")
WRITE = Write({}, {"key": "a"}, {"key": "b"}, "k1", "2026-11-22T12:00:00Z", api_key="h1")
SEEN = Observation(
    "2026-11-22T12:00:00+00:00",
    "apply 1@test",
    "0.6.1",
    {"bybit": {"key": "b"}},
    {"bybit": {"key": "apiKey"}},
    (Robot(1, "grid", "bybit", running=True),),
    5,
    "k1",
)


def ledger_on(store: Store) -> Ledger:
    return Ledger(store, now=lambda: NOON, timeouts=Timeouts(), writer="apply 1@test")


@pytest.fixture(params=["memory", "sqlite"])
def original(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    """A ledger in which something happened."""
    store: Store = (
        MemoryStore() if request.param == "memory" else SqliteStore.create(tmp_path / "l" / "l.db")
    )
    ledger = ledger_on(store)
    server = ledger.pin(TARGET, "tokyo-1")
    uid = server.uid
    ledger.load(TARGET, "tokyo-1")
    debt = Debt(Owed.REBOOT, "bybit", "2026-11-22T12:00:00+00:00", 5)
    ledger.intend(uid, "bybit", WRITE, [debt], boot=5)
    ledger.commit(uid, "bybit", boot=5)
    ledger.observe(uid, SEEN)
    ledger.engage_brake("0.6.1", server, "harm")
    yield store
    store.close()


def copied(original: Store) -> SnapshotStore:
    return SnapshotStore(ledger_on(original).documents())


def test_it_holds_the_same_documents(original: Store) -> None:
    copy = copied(original)

    for prefix in ("", "server/", "nothing/"):
        assert copy.keys(prefix) == original.keys(prefix)
    for key in copy.keys(""):
        ours, theirs = copy.get(key), original.get(key)
        assert ours is not None
        assert theirs is not None
        assert ours.text == theirs.text
    assert copy.get("server/nobody/identity") is None
    assert not copy.created
    assert copy.sequence() == len(copy.keys("")) > 3


def test_a_ledger_on_it_knows_the_same(original: Store) -> None:
    ours, theirs = ledger_on(copied(original)), ledger_on(original)

    assert ours.load(TARGET, "tokyo-1") == theirs.load(TARGET, "tokyo-1")
    assert ours.load(TARGET, "tokyo-1").observation == SEEN
    assert ours.servers() == theirs.servers()
    assert ours.brakes() == theirs.brakes()
    assert (ours.ledger_uid, ours.birth(), ours.baseline()) == (
        theirs.ledger_uid,
        theirs.birth(),
        theirs.baseline(),
    )
    assert not ours.born_now


@pytest.mark.parametrize("expect", [0, 1, 7])
def test_it_takes_nothing(original: Store, expect: int) -> None:
    copy = copied(original)
    before = {key: copy.get(key) for key in copy.keys("")}

    for key in ("birth", "new/one"):
        with pytest.raises(LedgerError, match="read only"):
            copy.put(key, "{}", expect=expect)

    assert {key: copy.get(key) for key in copy.keys("")} == before


def test_a_ledger_on_it_changes_nothing(original: Store) -> None:
    ledger = ledger_on(copied(original))
    uid = ledger.servers()[0].uid
    ledger.load(TARGET, "tokyo-1")

    for change in (
        lambda: ledger.observe(uid, replace(SEEN, version="0.7.0")),
        lambda: ledger.intend(uid, "okx", WRITE, []),
        lambda: ledger.pin(Target("https://new.internal", "0"), "new"),
        lambda: ledger.accept_restore("because"),
        lambda: ledger.lease(uid).__enter__(),
    ):
        with pytest.raises(LedgerError, match="read only"):
            change()


def test_it_may_be_closed_twice_and_still_reads() -> None:
    copy = SnapshotStore({"a/b": "1"})
    copy.close()
    copy.close()

    assert copy.get("a/b") == Stored(1, "1")


def test_what_is_no_ledger_is_none() -> None:
    with pytest.raises(LedgerMissing):
        ledger_on(SnapshotStore({}))
    for key in ("../x", "A", "", "a//b"):
        with pytest.raises(LedgerError, match="not what a ledger holds"):
            SnapshotStore({key: "{}"})
    with pytest.raises(ValueError, match="not a key"):
        SnapshotStore({}).get("../x")
