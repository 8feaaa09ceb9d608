"""What is said of a server that would get something for the first time, on values alone."""

import pytest

from reconciler.model.actions import DeleteExchange, WriteExchange
from reconciler.model.recipients import Novelty
from reconciler.model.recorded import ExchangeRecord, Purpose, Received, Recorded
from reconciler.model.references import SecretRef
from reconciler.model.target import Target
from reconciler.model.values import replace
from reconciler.plan.recipients import new_recipient, receiving
from tests.support import factories as f

LOGIN = SecretRef(f.path("login"), "access_secret")
DESIRED = f.server(f.exchange(), access_secret=LOGIN)
WRITE = WriteExchange("bybit", (), tuple(f.sources(2).items()), Purpose.CHANGE)
BEFORE = ExchangeRecord("bybit", written=f.write(1, "before"))


def kinds(recorded: Recorded) -> list[Novelty]:
    return [one.kind for one in new_recipient(DESIRED, recorded)]


def known(*records: ExchangeRecord, received: Received | None = None) -> Recorded:
    return replace(f.recorded(*records), received=received)


def test_a_server_that_nobody_knows_gets_all_of_it_for_the_first_time() -> None:
    everything = [Novelty.LOGIN, Novelty.VALUES]
    moved = replace(f.recorded(ExchangeRecord("bybit", written=f.write())), received=None)
    identity = moved.identity
    assert identity is not None
    moved = replace(moved, identity=replace(identity, target=Target("https://old.test", "0")))

    assert kinds(Recorded()) == [Novelty.CONTACT, *everything]
    assert kinds(moved) == [Novelty.ADDRESS, *everything]


@pytest.mark.parametrize(
    "record",
    [
        ExchangeRecord("bybit", written=f.write()),
        ExchangeRecord("bybit", intent=f.write()),
    ],
    ids=["written", "intent"],
)
def test_values_that_are_there_or_may_be_are_not_new(record: ExchangeRecord) -> None:
    assert kinds(known(record)) == []
    assert kinds(known(BEFORE)) == [Novelty.VALUES]


def test_what_was_found_there_is_no_yes_to_send_the_next() -> None:
    record = ExchangeRecord("bybit", found=f.write())

    assert kinds(known(record)) == [Novelty.VALUES]
    assert kinds(known(record, received=Received(None, None, (f.path(),)))) == [Novelty.LOGIN]
    assert receiving(DESIRED, [WRITE], known(record)).paths == ()
    assert receiving(DESIRED, [], known(record), agreed={f.path()}).paths == (f.path(),)


def test_another_login_is_new_once_the_ledger_knows_any() -> None:
    record = ExchangeRecord("bybit", written=f.write())

    assert kinds(known(record, received=Received(LOGIN, None, ()))) == []
    assert kinds(known(record, received=Received(None, None, ()))) == [Novelty.LOGIN]
    assert kinds(known(record)) == [], "a ledger of an earlier version"


@pytest.mark.parametrize("action", [WRITE, DeleteExchange("bybit", ("bybit_api_key",))])
def test_what_a_record_told_is_remembered_before_it_is_replaced(
    action: WriteExchange | DeleteExchange,
) -> None:
    found = receiving(DESIRED, [action], known(BEFORE, received=Received(None, None, ())))

    assert found == Received(LOGIN, None, (f.path("before"),))


def test_what_was_planned_and_not_sent_stays_new() -> None:
    nothing_sent = known(received=receiving(DESIRED, [WRITE], known()))

    assert kinds(nothing_sent) == [Novelty.VALUES]
