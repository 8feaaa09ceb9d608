"""
Every adapter is held to the contract by a suite of its own; what it demands, the suites show.
"""

from reconciler.exchanges.registry import discovered
from tests.exchanges.contract import WatchedContract, collected, unmatched

SUITES = collected()


def test_every_adapter_has_its_contract_and_the_reverse() -> None:
    assert unmatched(discovered(), SUITES) == set()


def test_neither_an_adapter_nor_a_contract_may_stand_alone() -> None:
    first, *rest = SUITES
    ours = {one.ccxt_id for one in first.exchange.adapters}
    lost = first.exchange.adapter.ccxt_id

    assert unmatched({*discovered()} - {lost}, SUITES) == {lost}
    assert unmatched(discovered(), rest) == ours


def test_every_suite_has_its_secrets_watched() -> None:
    assert all(issubclass(suite, WatchedContract) for suite in SUITES)
