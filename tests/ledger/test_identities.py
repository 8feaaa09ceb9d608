"""
Who is who, as several processes work on one ledger, some of them of an older release.

The judge reads every row, as that release did at every first contact.
"""

from collections.abc import Callable
from contextlib import suppress
from datetime import datetime, timedelta

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from reconciler.errors import Blocked
from reconciler.ledger.codec.records import read_identity, write
from reconciler.ledger.codec.rows import SERVERS, ForgottenRow, IdentityRow, identity_key
from reconciler.ledger.identities import Identities
from reconciler.ledger.identity_index import FRESH
from reconciler.ledger.stores.memory import MemoryStore
from reconciler.model.recorded import Identity
from reconciler.model.target import Target
from reconciler.model.values import replace
from reconciler.testing.virtual_time import Clock
from tests.crash.crash_points import Killed, Life, MortalStore
from tests.ledger.conftest import AWAY, HOME, NOON, ledger_on

UID = "0" * 32
NAMES = ("tokyo-1", "tokyo-2", "tokyo-3")
TARGETS = tuple(Target(f"https://tokyo-{number}.internal", "0") for number in (1, 2, 3))
Found = tuple[Identity | None, datetime | None]


def everybody(store: MemoryStore) -> list[IdentityRow | ForgottenRow]:
    found = [(key, store.get(key)) for key in store.keys(SERVERS) if key.endswith("/identity")]
    return [read_identity(key, stored.text) for key, stored in found if stored is not None]


def judged(store: MemoryStore, target: Target, name: str) -> Found:
    """Who that is, and since when nobody knows what was done, by all rows."""
    rows = everybody(store)
    known = [row for row in rows if isinstance(row, IdentityRow)]
    gone = [row for row in rows if isinstance(row, ForgottenRow)]
    since = [
        row.at
        for row in gone
        if row.identity.name == name or target in (row.identity.target, *row.retired)
    ]
    at = [row.identity for row in known if row.identity.target == target]
    named = [row for row in known if row.identity.name == name]
    if at:
        return at[0], max(since, default=None)
    if named:
        newest = max(named, key=lambda row: row.label_order)
        return newest.identity, max(since, default=None)
    return None, max(since, default=None)


def agrees(store: MemoryStore, process: Identities, target: Target, name: str) -> bool:
    row, since = process.look(target, name)
    identity, told = judged(store, target, name)
    if identity is not None and identity.target == target:
        told = since  # a server that is where it first was is found without the others
    return (row and row[1].identity, since) == (identity, told)


def test_a_server_is_found_by_a_name_that_another_one_had_since() -> None:
    store, clock = MemoryStore(), Clock()
    known, other = Identities(store, UID, clock), Identities(store, UID, clock)
    known.look(TARGETS[0], "tokyo-1")  # from now on it goes by hints

    first = other.pin(TARGETS[0], "tokyo-1")
    other.pin(TARGETS[1], "tokyo-1", new=True)
    other.pin(TARGETS[1], "tokyo-2")

    found, _ = known.look(TARGETS[2], "tokyo-1")
    assert found is not None
    assert found[1].identity == first


class Everybody(RuleBasedStateMachine):
    """Two processes of this release, one of an older one, and time that passes."""

    def __init__(self) -> None:
        super().__init__()
        self.store = MemoryStore()
        self.clock = Clock()
        self.processes = [Identities(self.store, UID, self.clock) for _ in range(2)]
        self.moment = NOON
        self.numbers = 0
        self.unhinted = False  # the older one wrote since the others may have read all rows

    names = st.sampled_from(NAMES)
    addresses = st.sampled_from(TARGETS)
    which = st.integers(0, 1)

    @rule(which=which, address=addresses, name=names, move=st.booleans(), new=st.booleans())
    def pin(self, which: int, address: Target, name: str, *, move: bool, new: bool) -> None:
        identity, _ = judged(self.store, address, name)
        process = self.processes[which]
        if self.unhinted:
            return
        if identity is not None and identity.target != address and not (move or new):
            with pytest.raises(Blocked):
                process.pin(address, name)
            return
        pinned = process.pin(address, name, move=move, new=new)
        assert (pinned.target, pinned.name) == (address, name)
        if identity is not None and (identity.target == address or not new):
            assert pinned.uid == identity.uid
        found, _ = judged(self.store, Target("https://elsewhere.internal", "0"), name)
        if identity is None or identity.name != name:
            assert found == pinned, "who got a name last has it"

    @rule(address=addresses, name=names)
    def dies_before_its_row(self, address: Target, name: str) -> None:
        """The hint is there, and the row is not."""
        dying = Identities(MortalStore(self.store, Life(1)), UID, self.clock)
        with suppress(Killed, Blocked):
            dying.pin(address, name)

    @precondition(lambda self: bool(everybody(self.store)))
    @rule(which=which, data=st.data())
    def forget(self, which: int, data: st.DataObject) -> None:
        rows = [row for row in everybody(self.store) if isinstance(row, IdentityRow)]
        if rows:
            row = data.draw(st.sampled_from(rows))
            self.moment += timedelta(seconds=1)
            self.processes[which].forget(row.identity.uid, self.moment, "gone", "test")

    @rule(address=addresses, name=names)
    def older_release(self, address: Target, name: str) -> None:
        """It writes a row and no hint; of what it met first it computes the same uid."""
        identity, _ = judged(self.store, address, name)
        process = Identities(self.store, UID, self.clock)
        highest = max((getattr(row, "label_order", 0) for row in everybody(self.store)), default=0)
        key = identity_key(process._index.uid(address, 0))
        if identity is None and self.store.get(key) is None:
            row = IdentityRow(Identity(key.split("/")[1], address, name), highest + 1)
            self.store.put(key, write(row), expect=0)
            self.unhinted = True
        elif identity is not None and identity.target == address and identity.name != name:
            key = identity_key(identity.uid)
            stored = self.store.get(key)
            assert stored is not None
            row = read_identity(key, stored.text)  # type: ignore[assignment]
            row = replace(row, identity=replace(identity, name=name), label_order=highest + 1)
            self.store.put(key, write(row), expect=stored.revision)
            self.unhinted = True

    @rule()
    def time_passes(self) -> None:
        self.clock.sleep(FRESH + 1)
        self.unhinted = False

    @invariant()
    def nobody_is_overlooked(self) -> None:
        fresh = Identities(self.store, UID, self.clock)
        for process in (fresh, *(() if self.unhinted else self.processes)):
            for target in TARGETS:
                for name in NAMES:
                    assert agrees(self.store, process, target, name)


TestEverybody = Everybody.TestCase
TestEverybody.settings = settings(max_examples=50, stateful_step_count=15)


def test_a_name_that_another_process_gave_away_meanwhile_is_known(store: MemoryStore) -> None:
    one, two = ledger_on(store), ledger_on(store)
    assert one.find(AWAY, "tokyo-1") is None
    pinned = two.pin(HOME, "tokyo-1")

    assert one.find(AWAY, "tokyo-1") == pinned
    with pytest.raises(Blocked, match="is pinned to"):
        one.pin(AWAY, "tokyo-1")


def test_a_server_that_another_process_moved_meanwhile_is_known(store: MemoryStore) -> None:
    one, two = ledger_on(store), ledger_on(store)
    assert one.find(AWAY, "osaka-1") is None
    two.pin(HOME, "tokyo-1")
    moved = two.pin(AWAY, "tokyo-1", move=True)

    assert one.find(AWAY, "osaka-1") == moved


def test_rows_of_an_older_release_are_known_at_once_or_soon(store: MemoryStore) -> None:
    clock = Clock()
    process = Identities(store, UID, clock)
    assert process.find(AWAY, "tokyo-1") is None
    identity = Identity(process._index.uid(HOME, 0), HOME, "tokyo-1")
    store.put(identity_key(identity.uid), write(IdentityRow(identity, 7)), expect=0)

    assert process.find(HOME, "another") is not None, "by its address at once"
    clock.sleep(FRESH + 1)
    assert process.find(AWAY, "tokyo-1") is not None
    process.pin(AWAY, "tokyo-1", new=True)
    found = process.find(Target("https://elsewhere.internal", "0"), "tokyo-1")
    assert found is not None
    assert found[1].identity.target == AWAY, "its number is higher than any of that name"


def test_an_address_that_an_older_release_left_is_not_forgotten(store: MemoryStore) -> None:
    process = Identities(store, UID, Clock())
    left, now = TARGETS[1:]
    identity = Identity(process._index.uid(HOME, 0), now, "tokyo-1")
    row = IdentityRow(identity, 1, (HOME, left))
    store.put(identity_key(identity.uid), write(row), expect=0)
    process.forget(identity.uid, NOON, "gone", "test")

    assert process.look(left, "osaka-1") == (None, NOON)


def test_who_took_the_place_of_a_forgotten_one_meanwhile_is_known(store: MemoryStore) -> None:
    one, two = ledger_on(store), ledger_on(store)
    two.forget(two.pin(HOME, "tokyo-1").uid, "gone")
    assert one.find(AWAY, "osaka-1") is None
    pinned = two.pin(AWAY, "tokyo-1")  # under its second uid: the first one tells nothing of before

    assert one.find(AWAY, "osaka-1") == pinned


def test_of_two_at_one_address_all_mean_the_one_that_was_first_met_there(
    store: MemoryStore,
) -> None:
    first = Identities(store, UID, Clock()).pin(HOME, "tokyo-1")
    # Another process moved one there at the very same moment.
    other = IdentityRow(Identity("f" * 32, HOME, "tokyo-2"), 1, (AWAY,))
    store.put(identity_key("f" * 32), write(other), expect=0)

    assert Identities(store, UID, Clock()).pin(HOME, "osaka-1").uid == first.uid


@pytest.mark.parametrize("moment", range(4))
def test_who_dies_while_it_meets_a_server_leaves_nothing_that_misleads(
    store: MemoryStore, moment: int
) -> None:
    ledger_on(store)
    life = Life(moment)
    with pytest.raises(Killed):
        Identities(MortalStore(store, life), UID, Clock()).pin(HOME, "tokyo-1")

    survivor = Identities(store, UID, Clock())
    assert (survivor.find(HOME, "tokyo-1") is not None) == (moment == 3)
    pinned = survivor.pin(HOME, "tokyo-1")
    assert survivor.all() == [pinned]
    assert life.trace[-1].endswith(("tokyo-1", "identity"))


def test_meeting_one_server_more_costs_the_same_however_many_there_are() -> None:
    def cost(servers: int) -> int:
        store = MemoryStore()
        process = Identities(store, UID, Clock())
        counted = 0

        def get(key: str, known: Callable[[str], object] = store.get) -> object:
            nonlocal counted
            counted += 1
            return known(key)

        for number in range(servers):
            process.pin(Target(f"https://tokyo-{number}.internal", "0"), f"tokyo-{number}")
        store.get = get  # type: ignore[method-assign, assignment]
        process.pin(AWAY, "one-more")
        return counted

    assert cost(5) == cost(50)
