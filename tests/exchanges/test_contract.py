"""
What is demanded of every adapter alike: its answers mean what its own file says and nothing else is
believed, real ccxt asks the documented question, and no trouble is taken for a wrong key.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import Any
from urllib.parse import unquote

import pytest
from _pytest.mark.structures import ParameterSet
from hypothesis import given, settings
from hypothesis import strategies as st

from reconciler.exchanges.adapter import Adapter
from reconciler.exchanges.registry import discovered
from reconciler.model.key_facts import KeyFacts, Status
from tests.exchanges import asking, signing
from tests.exchanges.contract import Contract, Good, collected, unmatched
from tests.exchanges.documented import check, findings, refuse, survives
from tests.exchanges.signing import Reply
from tests.support.leaks import Watch

CONTRACTS = collected()


def rows(of: Callable[[Contract], Iterable[ParameterSet]]) -> list[ParameterSet]:
    """Return the rows of every contract, each behind its contract."""
    return [
        pytest.param(contract, *row.values, id=f"{contract.adapter.ccxt_id}-{row.id}")
        for contract in CONTRACTS
        for row in of(contract)
    ]


def adapters(contract: Contract) -> Iterator[ParameterSet]:
    """Yield who asks this exchange."""
    for adapter in contract.adapters:
        yield pytest.param(adapter, id=adapter.ccxt_id)


def good(contract: Contract) -> Iterator[ParameterSet]:
    """Yield the good keys of all its networks."""
    for one in contract.good:
        yield pytest.param(one, id=f"{one.adapter.ccxt_id}-{one.environment.value}")


def wrong(contract: Contract) -> Iterator[ParameterSet]:
    """Yield what can be wrong with a key at each network, and its code."""
    for one in contract.good:
        if one.adapter is contract.adapter:
            for what, code in contract.wrong.items():
                yield pytest.param(one, what, code, id=f"{one.environment.value}-{what}")


def trouble(contract: Contract) -> Iterator[ParameterSet]:
    """Yield the trouble of each request."""
    for before in contract.before:
        for row in contract.trouble:
            later = f" after {len(before)}" if before else ""
            yield pytest.param(before, *row.values, id=f"{row.id}{later}")


def other_numbers(contract: Contract) -> Iterator[ParameterSet]:
    """Yield answers that are too few, too many or of another type than any."""
    told = contract.documented
    numbers: list[list[Any]] = [[], [None], [[]], ["hostile"], [told, told]]
    for answers in numbers:
        yield pytest.param(answers, id=f"{len(answers)} {ascii(answers)[:20]}")


EVERY = pytest.mark.parametrize("contract", CONTRACTS, ids=lambda one: one.adapter.ccxt_id)
MEANINGS = rows(lambda contract: contract.rows)


def test_every_adapter_has_its_contract_and_the_reverse() -> None:
    assert unmatched(discovered(), CONTRACTS) == set()


@pytest.mark.parametrize(("contract", "answer", "expected", "found"), MEANINGS)
def test_a_documented_answer_means_exactly_this(
    contract: Contract, answer: Any, expected: KeyFacts, found: list[str]
) -> None:
    for adapter in contract.adapters:
        check(adapter, answer, expected)
    assert findings(contract.adapter, expected, wanted=contract.wanted) == found


@pytest.mark.parametrize(("contract", "answers"), rows(lambda contract: contract.hostile))
def test_a_hostile_answer_is_not_understood(contract: Contract, answers: list[Any]) -> None:
    refuse(contract.adapter, answers)


@pytest.mark.parametrize(("contract", "answers"), rows(other_numbers))
def test_neither_is_another_number_of_answers(contract: Contract, answers: list[Any]) -> None:
    refuse(contract.adapter, answers)


@EVERY
@settings(deadline=None)
@given(data=st.data())
def test_no_answer_at_all_does_harm(contract: Contract, data: st.DataObject) -> None:
    survives(contract.adapter, data.draw(contract.mangled))


@pytest.mark.parametrize(("contract", "one"), rows(good))
def test_real_ccxt_is_understood_and_sends_no_secret(
    contract: Contract, one: Good, watch: Watch
) -> None:
    credentials = contract.made_up(watch)
    answers = one.answers(credentials.get("apiKey", ""))
    with signing.serving(contract.check, credentials, answers, one.environment) as server:
        asked = asking.ask(one.adapter, server.url, credentials, one.environment)

    assert (asked.status, asked.facts) == (Status.VALID, one.facts)
    assert [(call.method, call.path) for call in server.calls] == [
        (one.method, path) for path in one.paths
    ]
    if one.method == "GET":
        assert not any(call.body for call in server.calls)
    sent = "\n".join(
        "\n".join((unquote(call.target), *call.headers.values(), unquote(call.body.decode())))
        for call in server.calls
    )
    assert {name for name, value in credentials.items() if value in sent} <= contract.sent


@pytest.mark.parametrize(("contract", "one"), rows(good))
def test_the_real_address_is_the_documented_one(
    contract: Contract, one: Good, watch: Watch
) -> None:
    credentials = contract.made_up(watch)
    answers = one.answers(credentials.get("apiKey", ""))
    meant: list[str] = []
    with signing.serving(contract.check, credentials, answers, one.environment) as server:
        asked = asking.ask(one.adapter, server.url, credentials, one.environment, meant=meant)

    assert (asked.status, asked.facts) == (Status.VALID, one.facts)
    assert meant == [f"https://{one.host}{path}" for path in one.paths]


@pytest.mark.parametrize(("contract", "one", "what", "code"), rows(wrong))
def test_what_is_wrong_with_a_key_is_told_apart(
    contract: Contract, one: Good, what: str, code: str, watch: Watch
) -> None:
    credentials = contract.made_up(watch)
    ours, skew = asking.swapped(credentials, contract.made_up(watch), what)
    answers = one.answers(credentials["apiKey"])
    with signing.serving(contract.check, credentials, answers, one.environment) as server:
        asked = asking.ask(one.adapter, server.url, ours, one.environment, skew_ms=skew)

    assert (asked.status, asked.code) == (asking.expected(what), code)
    assert server.paths() == [one.paths[0]]


@pytest.mark.parametrize(
    ("contract", "reply", "code", "status"), rows(lambda contract: contract.errors)
)
def test_an_error_code_has_its_status(
    contract: Contract, reply: Reply, code: str, status: Status, watch: Watch
) -> None:
    credentials = contract.made_up(watch)
    with signing.serving(contract.check, credentials, {}) as server:
        server.script.append(reply)
        asked = asking.ask(contract.adapter, server.url, credentials)

    assert (asked.status, asked.code) == (status, code)
    assert len(server.calls) == 1


@pytest.mark.parametrize(("contract", "adapter"), rows(adapters))
def test_every_code_of_an_adapter_is_in_the_table(contract: Contract, adapter: Adapter) -> None:
    shown = {row.values[1] for row in contract.errors}
    assert set(adapter.codes) - contract.told_elsewhere <= shown


@pytest.mark.parametrize(("contract", "before", "reply", "status"), rows(trouble))
def test_trouble_on_the_way_is_never_a_wrong_key(
    contract: Contract, before: tuple[Reply, ...], reply: Any, status: Status, watch: Watch
) -> None:
    credentials = contract.made_up(watch)
    with signing.serving(contract.check, credentials, {}) as server:
        server.script += [*before, reply]
        timeout = asking.patience(reply)
        asked = asking.ask(contract.adapter, server.url, credentials, timeout=timeout)

    assert asked.status is status
