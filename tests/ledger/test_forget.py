"""A server that is forgotten: one change, nothing done twice, and no old hand on a new server."""

from datetime import timedelta

import pytest

from reconciler.ledger import Conflict
from reconciler.ledger.ledger import Ledger
from reconciler.ledger.stores.memory import MemoryStore
from reconciler.model.desired import RequestKind
from reconciler.model.recorded import Attempt, Received, Request, Stage
from reconciler.model.target import Target
from tests.ledger.conftest import AWAY, HOME, NOON, ledger_on

LATER = NOON + timedelta(hours=1)


@pytest.fixture
def uid(ledger: Ledger) -> str:
    uid = ledger.pin(HOME, "tokyo-1").uid
    ledger.receive(uid, Received(None, None, ()))
    requests = ledger.requests(uid)
    requests.load()
    requests.note(Request(RequestKind.CACHE, LATER, "stale", Stage.SATISFIED))
    return uid


def test_it_is_one_write_and_everything_else_stays_where_it_is(
    store: MemoryStore, ledger: Ledger, uid: str
) -> None:
    before, keys = store.sequence(), store.keys("")

    ledger.forget(uid, "gone")

    assert store.sequence() == before + 1
    assert store.keys("") == keys
    assert ledger.servers() == []
    assert ledger.find(HOME, "tokyo-1") is None


@pytest.mark.parametrize(
    ("target", "name"), [(HOME, "tokyo-1"), (HOME, "another"), (AWAY, "tokyo-1")]
)
def test_who_comes_back_is_new_and_no_old_request_is_done(
    store: MemoryStore, ledger: Ledger, uid: str, target: Target, name: str
) -> None:
    ledger.forget(uid, "gone")
    before = ledger_on(store).load(target, name)
    back = ledger.pin(target, name)
    after = ledger_on(store).load(target, name)

    assert (before.identity, before.received, after.received) == (None, None, None)
    assert back.uid != uid
    # Later than our clock: what was handled counts, whatever the clock says.
    assert before.since is not None
    assert before.since > LATER
    assert after.since == before.since


def test_what_is_open_is_not_done_later_either(
    store: MemoryStore, ledger: Ledger, uid: str
) -> None:
    much_later = LATER + timedelta(hours=1)
    attempt = Attempt("n1", NOON.isoformat(), "apply 1@ci", (), None)
    requests = ledger.requests(uid)
    requests.load()
    requests.ask(Request(RequestKind.CACHE, much_later, "stale", Stage.OPEN, (attempt,)))

    ledger.forget(uid, "gone")

    since = ledger_on(store).load(HOME, "tokyo-1").since
    assert since is not None
    assert since > much_later
    (row,) = ledger_on(store).forgotten()
    assert (row.identity.name, row.because) == ("tokyo-1", "gone")


def test_another_server_knows_nothing_of_it(ledger: Ledger, uid: str) -> None:
    ledger.forget(uid, "gone")

    assert ledger.load(AWAY, "osaka-1").since is None


def test_an_address_that_it_left_is_known_as_well(ledger: Ledger, uid: str) -> None:
    ledger.pin(AWAY, "tokyo-1", move=True)
    ledger.forget(uid, "gone")

    assert ledger.load(HOME, "osaka-1").since is not None


def test_who_worked_on_it_notices(store: MemoryStore, ledger: Ledger, uid: str) -> None:
    other = ledger_on(store)
    other.load(HOME, "tokyo-1")
    other.check_known(uid)
    ledger.forget(uid, "gone")

    with pytest.raises(Conflict, match="forgotten meanwhile"):
        other.check_known(uid)
    with pytest.raises(Conflict, match="forgotten meanwhile"):
        other.forget(uid, "gone")
