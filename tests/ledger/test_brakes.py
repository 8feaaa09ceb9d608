"""How far harm reaches: over a server always, over its JT-Trader version only with reason."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from reconciler.errors import LedgerError
from reconciler.ledger import Store
from reconciler.ledger.codec.records import write
from reconciler.ledger.codec.rows import brake_key
from reconciler.ledger.ledger import Ledger
from reconciler.ledger.stores.memory import MemoryStore
from reconciler.ledger.stores.sqlite import SqliteStore
from reconciler.model.recorded import Brake, Identity
from reconciler.model.target import Target
from reconciler.system.timeouts import Timeouts

VERSION, OTHER = "0.24.19", "0.25.0"
WHY = "robots stopped around a write"


class Clock:
    def __init__(self) -> None:
        self.now = datetime(2026, 11, 22, 9, tzinfo=UTC)


def open_ledger(store: Store, clock: Clock) -> Ledger:
    return Ledger(store, now=lambda: clock.now, timeouts=Timeouts(), writer="apply 1@test")


@pytest.fixture(params=["memory", "sqlite"])
def new(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Callable[[Clock], Ledger]]:
    """Return what opens the same ledger again and again, as processes do."""
    store: Store = (
        MemoryStore() if request.param == "memory" else SqliteStore.create(tmp_path / "ledger.db")
    )
    yield lambda clock: open_ledger(store, clock)
    store.close()


def pinned(ledger: Ledger, name: str, *, account: str = "0", host: str = "") -> Identity:
    return ledger.pin(Target(f"https://{host or name}.internal", account), name)


def over(ledger: Ledger) -> list[str]:
    return [held.over for held in ledger.brakes()]


def proven(ledger: Ledger, *names: str) -> None:
    for name in names:
        ledger.prove(VERSION, pinned(ledger, name))


def test_harm_on_an_unproven_version_stops_all_of_it(new: Callable[[Clock], Ledger]) -> None:
    ledger = new(Clock())
    proven(ledger, "osaka-1")
    whole = ledger.engage_brake(VERSION, pinned(ledger, "tokyo-1"), WHY)

    assert whole
    assert over(ledger) == [VERSION, "tokyo-1"]


def test_harm_on_a_proven_version_stops_that_server_alone(new: Callable[[Clock], Ledger]) -> None:
    clock = Clock()
    proven(new(clock), "osaka-1", "osaka-2")
    ledger = new(clock)  # the proof lasts
    whole = ledger.engage_brake(VERSION, pinned(ledger, "tokyo-1"), WHY)

    assert not whole
    assert over(new(clock)) == ["tokyo-1"]


def test_the_harmed_server_itself_is_no_proof(new: Callable[[Clock], Ledger]) -> None:
    ledger = new(Clock())
    proven(ledger, "osaka-1", "tokyo-1")

    assert ledger.engage_brake(VERSION, pinned(ledger, "tokyo-1"), WHY)


def test_of_three_that_were_well_two_are_others_whichever_is_harmed(
    new: Callable[[Clock], Ledger],
) -> None:
    ledger = new(Clock())
    proven(ledger, "osaka-1", "osaka-2", "osaka-3")

    assert not ledger.engage_brake(VERSION, pinned(ledger, "osaka-2"), WHY)


def test_another_version_is_not_proven_by_this_one(new: Callable[[Clock], Ledger]) -> None:
    ledger = new(Clock())
    proven(ledger, "osaka-1", "osaka-2", "osaka-3")

    assert ledger.engage_brake(OTHER, pinned(ledger, "tokyo-1"), WHY)
    assert over(ledger) == [OTHER, "tokyo-1"]


@pytest.mark.parametrize(("hours", "whole"), [(0, True), (23, True), (-23, True), (25, False)])
def test_a_second_server_within_a_day_stops_the_version(
    new: Callable[[Clock], Ledger], hours: int, *, whole: bool
) -> None:
    clock = Clock()
    ledger = new(clock)
    proven(ledger, "osaka-1", "osaka-2", "osaka-3")
    assert not ledger.engage_brake(VERSION, pinned(ledger, "tokyo-1"), WHY)
    clock.now += timedelta(hours=hours)

    assert ledger.engage_brake(VERSION, pinned(ledger, "tokyo-2"), WHY) is whole
    assert over(ledger) == [*([VERSION] if whole else []), "tokyo-1", "tokyo-2"]


def test_one_server_never_stops_a_proven_version_however_often(
    new: Callable[[Clock], Ledger],
) -> None:
    """Nor as another account of the same process, nor after it was released."""
    clock = Clock()
    ledger = new(clock)
    proven(ledger, "osaka-1", "osaka-2", "osaka-3")
    evil = pinned(ledger, "tokyo-1")
    twin = pinned(ledger, "tokyo-1b", account="7", host="tokyo-1")

    for _ in range(5):
        assert not ledger.engage_brake(VERSION, evil, WHY)
        assert not ledger.engage_brake(VERSION, twin, WHY)
        ledger.release_brake("tokyo-1", "it was told to behave")
        clock.now += timedelta(hours=1)

    assert over(ledger) == []


def test_one_process_proves_once(new: Callable[[Clock], Ledger]) -> None:
    ledger = new(Clock())
    ledger.prove(VERSION, pinned(ledger, "osaka-1"))
    ledger.prove(VERSION, pinned(ledger, "osaka-1b", account="7", host="osaka-1"))

    assert ledger.engage_brake(VERSION, pinned(ledger, "tokyo-1"), WHY)


def test_a_proof_that_is_known_costs_no_write(new: Callable[[Clock], Ledger]) -> None:
    ledger = new(Clock())
    proven(ledger, "osaka-1", "osaka-2", "osaka-3", "osaka-1")
    fourth = pinned(ledger, "osaka-4")
    before = ledger.sequence()
    ledger.prove(VERSION, fourth)
    ledger.prove(VERSION, fourth)

    assert ledger.sequence() == before


def test_release_of_a_server_leaves_the_version(new: Callable[[Clock], Ledger]) -> None:
    ledger = new(Clock())
    ledger.engage_brake(VERSION, pinned(ledger, "tokyo-1"), WHY)
    (released,) = ledger.release_brake("tokyo-1", "robots are back")

    assert (released.over, over(ledger)) == ("tokyo-1", [VERSION])


def test_release_of_a_version_releases_its_servers(new: Callable[[Clock], Ledger]) -> None:
    ledger = new(Clock())
    ledger.engage_brake(VERSION, pinned(ledger, "tokyo-1"), WHY)
    ledger.engage_brake(OTHER, pinned(ledger, "tokyo-2"), WHY)
    released = ledger.release_brake(VERSION, "it was a bad disk")

    assert [held.over for held in released] == [VERSION, "tokyo-1"]
    assert over(ledger) == [OTHER, "tokyo-2"]


def test_a_brake_is_over_a_server_and_not_over_a_name(new: Callable[[Clock], Ledger]) -> None:
    ledger = new(Clock())
    proven(ledger, "osaka-1", "osaka-2")
    ledger.engage_brake(VERSION, pinned(ledger, "tokyo-1"), WHY)
    ledger.pin(Target("https://tokyo-1.internal", "0"), "kyoto-1")
    ledger.pin(Target("https://new.internal", "0"), "tokyo-1", new=True)

    assert over(ledger) == ["kyoto-1"]
    with pytest.raises(LedgerError):
        ledger.release_brake("tokyo-1", "robots are back")
    ledger.release_brake("kyoto-1", "robots are back")
    assert over(ledger) == []


def test_it_holds_the_server_also_when_that_claims_another_version(
    new: Callable[[Clock], Ledger],
) -> None:
    ledger = new(Clock())
    proven(ledger, "osaka-1", "osaka-2")
    evil = pinned(ledger, "tokyo-1")
    ledger.engage_brake(VERSION, evil, WHY)
    (held,) = ledger.brakes()

    assert held.holds(evil.target, evil.uid, OTHER)
    assert held.holds(Target(evil.target.url, "7"), "", VERSION)
    assert held.holds(Target("https://moved.internal", "0"), evil.uid, VERSION)
    assert not held.holds(Target("https://osaka-1.internal", "0"), "", VERSION)


def test_a_brake_of_an_older_ledger_holds_the_whole_version() -> None:
    store, clock = MemoryStore(), Clock()
    ledger = open_ledger(store, clock)
    old = Brake(VERSION, "tokyo-1", WHY, "2026-11-22T08:00:00.000000Z", "apply 1@old")
    store.put(brake_key(VERSION), write(old), expect=0)

    assert over(ledger) == [VERSION]
    proven(ledger, "osaka-1", "osaka-2")
    assert over(ledger) == [VERSION]  # proof releases nothing
    ledger.release_brake(VERSION, "looked")
    assert over(ledger) == []
    assert not ledger.engage_brake(VERSION, pinned(ledger, "tokyo-1"), WHY)


def test_an_older_ledger_proves_nothing() -> None:
    store = MemoryStore()
    ledger = open_ledger(store, Clock())
    old = Brake(VERSION, "tokyo-9", WHY, "2026-01-01T00:00:00Z", "b", ("looked", "then", "me"))
    store.put(brake_key(VERSION), write(old), expect=0)

    assert over(ledger) == []
    assert ledger.engage_brake(VERSION, pinned(ledger, "tokyo-1"), WHY)


def test_a_brake_keeps_its_first_reason(new: Callable[[Clock], Ledger]) -> None:
    ledger = new(Clock())
    server = pinned(ledger, "tokyo-1")
    ledger.engage_brake(VERSION, server, "first")
    ledger.engage_brake(VERSION, server, "second")

    assert {held.brake.why for held in ledger.brakes()} == {"first"}


def test_only_a_brake_that_holds_can_be_released(new: Callable[[Clock], Ledger]) -> None:
    ledger = new(Clock())
    ledger.engage_brake(VERSION, pinned(ledger, "tokyo-1"), WHY)
    ledger.release_brake(VERSION, "because")
    for word in (VERSION, "tokyo-1", "nowhere"):
        with pytest.raises(LedgerError, match="no brake holds"):
            ledger.release_brake(word, "because")
