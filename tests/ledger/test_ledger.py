"""What the ledger remembers of servers, writes, debts and brakes."""

from collections.abc import Callable

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from reconciler.errors import Blocked, LedgerError
from reconciler.ledger import Conflict, Stored
from reconciler.ledger.codec.rows import exchange_key, identity_key
from reconciler.ledger.ledger import Ledger
from reconciler.ledger.stores.memory import MemoryStore
from reconciler.model.observed import Robot
from reconciler.model.recorded import (
    NOTHING_RECORDED,
    Debt,
    ExchangeRecord,
    Observation,
    Owed,
    Write,
)
from reconciler.model.target import Target
from reconciler.model.values import replace
from tests.ledger.conftest import AWAY, HOME, ledger_on


def write(number: int, key: str = "h1") -> Write:
    return Write({}, {"key": f"v{number}"}, {}, "k1", f"t{number}", api_key=key, companions="c")


def restart(robot: int, since: str = "t", boot: int | None = 100) -> Debt:
    return Debt(Owed.RESTART, "bybit", since, boot, robot, f"robot {robot}")


REBOOT = Debt(Owed.REBOOT, "bybit", "t", 100)


@pytest.fixture
def uid(ledger: Ledger) -> str:
    return ledger.pin(HOME, "tokyo-1").uid


@pytest.fixture
def record(store: MemoryStore) -> Callable[[], ExchangeRecord]:
    """Return what a process that starts now would load."""
    return lambda: ledger_on(store).load(HOME, "tokyo-1").exchanges["bybit"]


# ── servers ──────────────────────────────────────────────────────────────────────────────────


def test_a_server_never_seen_is_unknown_and_looking_writes_nothing(
    ledger: Ledger, store: MemoryStore
) -> None:
    before = store.sequence()
    assert ledger.find(HOME, "tokyo-1") is None
    assert ledger.load(HOME, "tokyo-1") == NOTHING_RECORDED
    assert ledger.servers() == []
    assert ledger.brakes() == []
    assert store.sequence() == before


def test_pinning_twice_is_pinning_once(ledger: Ledger, store: MemoryStore) -> None:
    first = ledger.pin(HOME, "tokyo-1")
    sequence = store.sequence()
    assert ledger.pin(HOME, "tokyo-1") == first
    assert store.sequence() == sequence


def test_two_processes_that_meet_a_server_agree_on_its_uid(store: MemoryStore) -> None:
    one, two = ledger_on(store), ledger_on(store)
    assert one.find(HOME, "tokyo-1") is None
    assert two.find(HOME, "tokyo-1") is None
    assert one.pin(HOME, "tokyo-1") == two.pin(HOME, "tokyo-1")


def test_losing_the_race_for_a_new_server_finds_the_winner() -> None:
    class Racing(MemoryStore):
        """Lets another process pin the same server right before our own write."""

        rival: Ledger | None = None

        def put(self, key: str, text: str, *, expect: int) -> int:
            rival, self.rival = self.rival, None
            if rival is not None:
                rival.pin(HOME, "tokyo-1")
            return super().put(key, text, expect=expect)

    store = Racing()
    ledger = ledger_on(store)
    store.rival = ledger_on(store)
    pinned = ledger.pin(HOME, "tokyo-1")
    assert ledger.servers() == [pinned]


def test_address_and_account_together_are_the_server(ledger: Ledger) -> None:
    other_account = Target(HOME.url, "7")
    assert ledger.pin(HOME, "a").uid != ledger.pin(other_account, "b").uid
    assert [server.name for server in ledger.servers()] == ["a", "b"]


def test_a_renamed_server_keeps_its_history(ledger: Ledger, uid: str) -> None:
    ledger.intend(uid, "bybit", write(1), ())
    renamed = ledger.pin(HOME, "osaka-1")

    assert (renamed.uid, renamed.name) == (uid, "osaka-1")
    assert ledger.load(HOME, "anything").exchanges["bybit"].intent == write(1)
    assert ledger.find(AWAY, "tokyo-1") is None


def test_another_address_under_a_known_name_is_shown_to_the_caller(
    ledger: Ledger, uid: str
) -> None:
    found = ledger.find(AWAY, "tokyo-1")
    assert found is not None
    assert (found.uid, found.target) == (uid, HOME)
    with pytest.raises(Blocked, match="--approve-target-change tokyo-1"):
        ledger.pin(AWAY, "tokyo-1")
    assert ledger.find(HOME, "tokyo-1") == found


def test_a_moved_server_keeps_history_and_the_address_it_left(ledger: Ledger, uid: str) -> None:
    ledger.intend(uid, "bybit", write(1), ())
    moved = ledger.pin(AWAY, "tokyo-1", move=True)

    assert (moved.uid, moved.target) == (uid, AWAY)
    recorded = ledger.load(AWAY, "tokyo-1")
    assert recorded.retired == (HOME,)
    assert recorded.exchanges["bybit"].intent == write(1)

    assert ledger.pin(HOME, "tokyo-1", move=True).uid == uid
    assert ledger.load(HOME, "tokyo-1").retired == (AWAY,)


def test_a_new_server_at_a_left_address_is_another_one(ledger: Ledger, uid: str) -> None:
    ledger.pin(AWAY, "tokyo-1", move=True)
    newcomer = ledger.pin(HOME, "fresh")

    assert newcomer.uid != uid
    assert ledger.load(HOME, "fresh").exchanges == {}
    assert ledger.find(HOME, "whatever") == newcomer
    assert ledger.pin(HOME, "fresh") == newcomer


def test_a_name_belongs_to_the_server_that_got_it_last(ledger: Ledger) -> None:
    first = ledger.pin(HOME, "a")
    second = ledger.pin(AWAY, "b")
    ledger.pin(AWAY, "a")  # b's document took a's name, a's is gone

    found = ledger.find(Target("https://new.internal", "0"), "a")
    assert found is not None
    assert found.uid == second.uid != first.uid


# ── intents ──────────────────────────────────────────────────────────────────────────────────


def test_an_intent_and_its_debts_are_one_write(
    ledger: Ledger, store: MemoryStore, uid: str, record: Callable[[], ExchangeRecord]
) -> None:
    before = store.sequence()
    ledger.intend(uid, "bybit", write(1), [restart(1), REBOOT])

    assert store.sequence() == before + 1
    assert record().intent == write(1)
    assert record().debts == (restart(1), REBOOT)
    assert record().written is None


def test_committing_makes_the_intent_what_was_written(
    ledger: Ledger, uid: str, record: Callable[[], ExchangeRecord]
) -> None:
    ledger.found(uid, "bybit", write(0))
    ledger.intend_delete(uid, "bybit")
    ledger.intend(uid, "bybit", write(1), [REBOOT])
    ledger.commit(uid, "bybit")

    assert record() == ExchangeRecord(
        "bybit",
        written=write(1),
        debts=(REBOOT,),
        past_keys=(("h1", "c"),),
        past_boot=100,
        ever=True,
    )


def test_what_is_adopted_is_like_written(
    ledger: Ledger, uid: str, record: Callable[[], ExchangeRecord]
) -> None:
    ledger.found(uid, "bybit", write(0))
    ledger.adopt(uid, "bybit", write(0), boot=100)

    assert record() == ExchangeRecord(
        "bybit", written=write(0), past_keys=(("h1", "c"),), past_boot=100, ever=True
    )


def test_nothing_is_adopted_while_a_write_is_open_or_of_weak_values(
    ledger: Ledger, uid: str, record: Callable[[], ExchangeRecord]
) -> None:
    ledger.intend(uid, "bybit", write(1), [])
    with pytest.raises(LedgerError, match="did not finish"):
        ledger.adopt(uid, "bybit", write(0), boot=None)
    with pytest.raises(LedgerError, match="too little"):
        ledger.adopt(uid, "okx", replace(write(0), weak=True), boot=None)

    assert record().intent == write(1)
    assert record().written is None


def test_nothing_intended_cannot_be_committed(ledger: Ledger, uid: str) -> None:
    with pytest.raises(LedgerError, match="no write of bybit is intended"):
        ledger.commit(uid, "bybit")


def test_what_was_intended_by_a_dead_process_can_be_committed_after_loading(
    ledger: Ledger, store: MemoryStore, uid: str, record: Callable[[], ExchangeRecord]
) -> None:
    ledger.intend(uid, "bybit", write(1), ())
    heir = ledger_on(store)
    with pytest.raises(Conflict):
        heir.commit(uid, "bybit")  # it has not looked yet
    heir.load(HOME, "tokyo-1")
    heir.commit(uid, "bybit")
    assert record().written == write(1)


def test_a_dropped_intent_takes_only_its_own_debts_along(
    ledger: Ledger, uid: str, record: Callable[[], ExchangeRecord]
) -> None:
    ledger.intend(uid, "bybit", write(1), [restart(1)])
    ledger.commit(uid, "bybit")
    kept = record()
    ledger.intend(uid, "bybit", write(2, "h2"), [restart(1, boot=200), restart(2), REBOOT])
    ledger.drop_intent(uid, "bybit")

    assert record() == kept


def test_dropping_brings_back_an_older_intent_that_may_have_been_sent(
    ledger: Ledger, store: MemoryStore, uid: str, record: Callable[[], ExchangeRecord]
) -> None:
    ledger.intend(uid, "bybit", write(1), [restart(1)])
    heir = ledger_on(store)
    heir.load(HOME, "tokyo-1")
    heir.intend(uid, "bybit", write(2, "h2"), [restart(2)])
    assert record().past_keys == (("h1", "c"),)
    heir.drop_intent(uid, "bybit")

    assert record().intent == write(1)
    assert record().debts == (restart(1),)


def test_the_intent_of_another_process_cannot_be_dropped(
    ledger: Ledger, store: MemoryStore, uid: str
) -> None:
    ledger.intend(uid, "bybit", write(1), ())
    heir = ledger_on(store)
    heir.load(HOME, "tokyo-1")
    with pytest.raises(LedgerError, match="intends nothing"):
        heir.drop_intent(uid, "bybit")


def test_an_intent_is_dropped_once(ledger: Ledger, uid: str) -> None:
    ledger.intend(uid, "bybit", write(1), ())
    ledger.drop_intent(uid, "bybit")
    with pytest.raises(LedgerError, match="intends nothing"):
        ledger.drop_intent(uid, "bybit")


def test_a_dropped_delete_leaves_no_trace(
    ledger: Ledger, uid: str, record: Callable[[], ExchangeRecord]
) -> None:
    ledger.intend(uid, "bybit", write(1), ())
    ledger.commit(uid, "bybit")
    kept = record()
    ledger.intend_delete(uid, "bybit")
    assert record().deleting
    ledger.drop_intent(uid, "bybit")
    assert record() == kept


def test_after_our_delete_what_appears_is_foreign_and_debts_stay(
    ledger: Ledger, uid: str, record: Callable[[], ExchangeRecord]
) -> None:
    ledger.found(uid, "bybit", write(0))
    ledger.intend(uid, "bybit", write(1), [REBOOT])
    ledger.intend_delete(uid, "bybit")
    ledger.deleted(uid, "bybit")

    assert record() == ExchangeRecord(
        "bybit", debts=(REBOOT,), past_keys=(("h1", "c"),), past_boot=100, ever=True
    )


def test_a_paused_process_does_not_cover_what_it_never_saw(
    ledger: Ledger, store: MemoryStore, uid: str, record: Callable[[], ExchangeRecord]
) -> None:
    paused = ledger_on(store)
    paused.load(HOME, "tokyo-1")
    ledger.intend(uid, "bybit", write(1), ())
    ledger.commit(uid, "bybit")

    changes: list[Callable[[], None]] = [
        lambda: paused.intend(uid, "bybit", write(2), ()),
        lambda: paused.intend_delete(uid, "bybit"),
        lambda: paused.deleted(uid, "bybit"),
        lambda: paused.found(uid, "bybit", write(2)),
        lambda: paused.settle_debts(uid, "bybit", ()),
    ]
    for change in changes:
        with pytest.raises(Conflict, match="plan again"):
            change()
    assert record().written == write(1)

    paused.load(HOME, "tokyo-1")
    paused.intend(uid, "bybit", write(2), ())
    assert record().intent == write(2)


def test_an_intent_that_does_not_stand_is_not_promised(uid: str, store: MemoryStore) -> None:
    class Forgetful(MemoryStore):
        """Acknowledges a write that another one covered, as after a failover."""

        def put(self, key: str, text: str, *, expect: int) -> int:
            revision = super().put(key, text, expect=expect)
            if key == exchange_key(uid, "bybit"):
                self._documents[key] = Stored(revision, text.replace('"nonce":"', '"nonce":"x'))
            return revision

    forgetful = Forgetful()
    forgetful._documents = store._documents
    ledger = ledger_on(forgetful)
    ledger.pin(HOME, "tokyo-1")
    with pytest.raises(Conflict):
        ledger.intend(uid, "bybit", write(1), ())


# ── debts and past keys ──────────────────────────────────────────────────────────────────────


def test_settling_removes_what_was_proven_and_adds_nothing(
    ledger: Ledger, uid: str, record: Callable[[], ExchangeRecord]
) -> None:
    ledger.intend(uid, "bybit", write(1), [restart(1), restart(2), REBOOT])
    ledger.commit(uid, "bybit")
    ledger.settle_debts(uid, "bybit", [restart(2), REBOOT, restart(9)])
    assert record().debts == (restart(2), REBOOT)
    assert record().past_keys == (("h1", "c"),)


def test_a_debt_settled_meanwhile_does_not_come_back_with_a_dropped_intent(
    ledger: Ledger, uid: str, record: Callable[[], ExchangeRecord]
) -> None:
    ledger.intend(uid, "bybit", write(1), [restart(1), restart(2)])
    ledger.commit(uid, "bybit")
    ledger.intend(uid, "bybit", write(2), [restart(3)])
    ledger.settle_debts(uid, "bybit", [restart(2), restart(3)])
    ledger.drop_intent(uid, "bybit")
    assert record().debts == (restart(2),)


def test_settling_what_is_already_so_writes_nothing(
    ledger: Ledger, store: MemoryStore, uid: str
) -> None:
    before = store.sequence()
    ledger.settle_debts(uid, "okx", ())
    assert store.sequence() == before
    assert store.keys(f"server/{uid}/exchange/") == []


def test_an_older_debt_keeps_its_time_unless_a_boot_had_paid_it(
    ledger: Ledger, uid: str, record: Callable[[], ExchangeRecord]
) -> None:
    ledger.intend(uid, "bybit", write(1), [restart(1, "mon"), restart(2, "mon")])
    ledger.intend(uid, "bybit", write(2), [restart(1, "tue"), restart(2, "tue", boot=200)])
    assert record().debts == (restart(1, "mon"), restart(2, "tue", boot=200))


@pytest.mark.parametrize(
    ("boots", "kept"),
    [
        ((100, 100), 2),  # both keys since one boot
        ((100, 200), 1),  # the boot in between ended the first
        ((200, 100), 2),  # a log that was cut proves nothing
        ((None, 200), 2),  # the first key may be younger than the boot
        ((100, None), 2),
        ((None, None), 2),
    ],
)
def test_only_a_newer_boot_ends_past_keys(
    ledger: Ledger,
    uid: str,
    record: Callable[[], ExchangeRecord],
    boots: tuple[int | None, int | None],
    kept: int,
) -> None:
    for number, boot in enumerate(boots):
        ledger.intend(uid, "bybit", write(number, f"h{number}"), (), boot=boot)
        ledger.commit(uid, "bybit")
    assert len(record().past_keys) == kept
    assert record().past_keys[-1] == ("h1", "c")


def test_a_boot_seen_after_the_write_keeps_its_own_key(
    ledger: Ledger, uid: str, record: Callable[[], ExchangeRecord]
) -> None:
    ledger.intend(uid, "bybit", write(1, "h1"), (), boot=100)
    ledger.commit(uid, "bybit", boot=100)
    ledger.intend(uid, "bybit", write(2, "h2"), (), boot=100)
    ledger.commit(uid, "bybit", boot=200)
    assert (record().past_keys, record().past_boot) == ((("h2", "c"),), 200)

    ledger.settle_debts(uid, "bybit", (), past_boot=200)
    assert record().past_keys == (("h2", "c"),)
    ledger.settle_debts(uid, "bybit", (), past_boot=300)
    assert (record().past_keys, record().past_boot) == ((), 300)


def test_observations_are_remembered(ledger: Ledger, uid: str) -> None:
    seen = Observation(
        at="2026-11-22T09:00:00Z",
        by="b",
        version="4.2",
        masks={"bybit": {"key": "m"}},
        credentials={"bybit": {"key": "apiKey"}},
        robots=(Robot(1, "maker \ud800", "bybit", running=True),),
        boot=100,
        key_id="k1",
    )
    ledger.observe(uid, seen)
    ledger.observe(uid, replace(seen, at="2026-11-22T09:01:00Z"))
    assert ledger.load(HOME, "tokyo-1").observation == replace(seen, at="2026-11-22T09:01:00Z")


def test_a_document_that_is_not_understood_stops_the_server_only(
    ledger: Ledger, store: MemoryStore, uid: str
) -> None:
    ledger.intend(uid, "bybit", write(1), ())
    other = ledger.pin(AWAY, "tokyo-9")
    store.put(exchange_key(uid, "okx"), "{}", expect=0)

    with pytest.raises(LedgerError, match=f"server/{uid}/exchange/okx"):
        ledger.load(HOME, "tokyo-1")
    assert ledger.load(AWAY, "tokyo-9").identity == other
    assert store.get(exchange_key(uid, "okx")) == Stored(1, "{}")


def test_an_identity_that_is_not_understood_is_never_replaced(
    ledger: Ledger, store: MemoryStore, uid: str
) -> None:
    key = identity_key(uid)
    store.put(key, '{"format":2}', expect=1)
    with pytest.raises(LedgerError, match="format"):
        ledger.pin(HOME, "tokyo-1")
    assert store.get(key) == Stored(2, '{"format":2}')


# ── any history ──────────────────────────────────────────────────────────────────────────────


class Histories(RuleBasedStateMachine):
    """Two processes that work, die and come back; a model says what must be remembered."""

    def __init__(self) -> None:
        super().__init__()
        self.store = MemoryStore()
        self.ledgers = [ledger_on(self.store), ledger_on(self.store)]
        self.uid = self.ledgers[0].pin(HOME, "tokyo-1").uid
        self.ledgers[1].pin(HOME, "tokyo-1")
        self.fresh = [True, True]
        self.written: Write | None = None
        self.intents: list[tuple[int, Write]] = []  # who, what; older ones below
        self.number = 0

    def _attempt(self, who: int, deed: Callable[[], None]) -> bool:
        """A process that did not look since the other one's write must be refused."""
        if not self.fresh[who]:
            with pytest.raises(Conflict):
                deed()
            return False
        deed()
        self.fresh[1 - who] = False
        return True

    @rule(who=st.integers(0, 1))
    def load(self, who: int) -> None:
        self.ledgers[who].load(HOME, "tokyo-1")
        self.fresh[who] = True

    @rule(who=st.integers(0, 1))
    def die(self, who: int) -> None:
        self.ledgers[who] = ledger_on(self.store)
        self.load(who)
        self.intents = [(-1 if by == who else by, what) for by, what in self.intents]

    @rule(who=st.integers(0, 1))
    def intend(self, who: int) -> None:
        self.number += 1
        wanted = write(self.number)
        if self._attempt(who, lambda: self.ledgers[who].intend(self.uid, "bybit", wanted, ())):
            self.intents = [*self.intents[-1:], (who, wanted)]

    @rule(who=st.integers(0, 1))
    @precondition(lambda self: self.intents)
    def commit(self, who: int) -> None:
        if self._attempt(who, lambda: self.ledgers[who].commit(self.uid, "bybit")):
            self.written = self.intents[-1][1]
            self.intents = []

    @rule(who=st.integers(0, 1))
    @precondition(lambda self: self.intents)
    def drop(self, who: int) -> None:
        deed = self.ledgers[who].drop_intent
        if self.fresh[who] and self.intents[-1][0] != who:
            with pytest.raises(LedgerError):
                deed(self.uid, "bybit")
        elif self._attempt(who, lambda: deed(self.uid, "bybit")):
            # What lies below is there again, but nobody can drop it any more.
            self.intents = [(-1, what) for _, what in self.intents[:-1]]

    @invariant()
    def everything_is_remembered(self) -> None:
        record = ledger_on(self.store).load(HOME, "tokyo-1").exchanges.get("bybit")
        assert (record.written if record else None) == self.written
        expected = self.intents[-1][1] if self.intents else None
        assert (record.intent if record else None) == expected


TestHistories = Histories.TestCase
TestHistories.settings = settings(deadline=None, max_examples=60, stateful_step_count=25)
