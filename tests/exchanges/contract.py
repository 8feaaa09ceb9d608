"""
What every adapter's own file tells the contract suite: one `CONTRACT` each.

A file keeps its documented answers, what they mean and which error codes there are; `Contract` is
how it hands them over, and `test_contract.py` is what is demanded of all alike.  What only one
exchange does stays a test of its own file.
"""

import importlib
import pkgutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pytest
from _pytest.mark.structures import ParameterSet
from hypothesis.strategies import SearchStrategy

from reconciler.exchanges.adapter import Adapter
from reconciler.model.key_facts import Environment, KeyFacts, Status
from reconciler.model.key_policy import Security
from tests.exchanges import adapters as suites
from tests.exchanges import asking
from tests.exchanges.documented import WANTED, changed
from tests.exchanges.signing import Check, Reply
from tests.support.leaks import Watch

Rows = Sequence[ParameterSet]


@dataclass(frozen=True, slots=True)
class Good:
    """
    A good key at one network of an exchange: who asks for what, what is answered and what it means.

    `host` is the real one; `answers` makes the answers by their path for an API key; `paths` are
    asked for in this order and no others.
    """

    adapter: Adapter
    host: str
    paths: tuple[str, ...]
    answers: Callable[[str], Mapping[str, Any]]
    facts: KeyFacts
    environment: Environment = Environment.LIVE
    method: str = "GET"


@dataclass(frozen=True, slots=True)
class Contract:
    """
    One exchange; of several `adapters` for it the first answers for all in what does not differ.

    `rows`: answer, facts, findings.  `hostile`: answers that are not understood, besides those of
    another number.  `wrong`: the error code by what is wrong, a credential or the `clock`.
    `errors`: reply, code, status.  `sent`: credentials that a request shows.  `told_elsewhere`:
    codes of the adapter that a test of its own file, or trouble, shows.  `trouble`: reply, status;
    it comes after each of the replies in `before`.
    """

    adapters: tuple[Adapter, ...]
    check: Check
    made_up: Callable[[Watch], dict[str, str]]
    documented: Any
    mangled: SearchStrategy[Any]
    rows: Rows
    hostile: Rows
    good: tuple[Good, ...]
    wrong: Mapping[str, str]
    errors: Rows
    sent: frozenset[str] = frozenset({"apiKey"})
    told_elsewhere: frozenset[str] = frozenset()
    trouble: Rows = tuple(asking.TROUBLE)
    before: tuple[tuple[Reply, ...], ...] = ((),)
    wanted: Security = WANTED

    @property
    def adapter(self) -> Adapter:
        """The first adapter."""
        return self.adapters[0]


def collected() -> tuple[Contract, ...]:
    """Return the contract of every suite that stands in `tests/exchanges/adapters/`."""
    modules = (
        importlib.import_module(f"{suites.__name__}.{file.name}")
        for file in pkgutil.iter_modules(suites.__path__)
    )
    return tuple(module.CONTRACT for module in modules if hasattr(module, "CONTRACT"))


def unmatched(found: Iterable[str], contracts: Iterable[Contract]) -> set[str]:
    """Return the exchanges that have an adapter and no contract, or the reverse."""
    return set(found) ^ {one.ccxt_id for contract in contracts for one in contract.adapters}


def made_of(**shapes: str) -> Callable[[Watch], dict[str, str]]:
    """Return what makes up credentials of these shapes (see `tests.support.canaries`)."""
    return lambda watch: {name: watch.secret(shape) for name, shape in shapes.items()}


def spoilt(answer: Any, *changes: tuple[str, Any]) -> list[ParameterSet]:
    """Return the answers that each of these changes, a dotted path and a value, makes of one."""
    return [
        pytest.param([changed(answer, path, value)], id=f"{path} {ascii(value)[:40]}")
        for path, value in changes
    ]


def errors(
    shape: Callable[..., Reply], codes: Mapping[str, Status], *statuses: int
) -> list[ParameterSet]:
    """Return a row for every code, in the exchange's shape, with each of these HTTP statuses."""
    ways: list[tuple[int, ...]] = [(status,) for status in statuses] or [()]
    return [
        pytest.param(shape(code, *way), code, status, id="-".join((code, *map(str, way))))
        for way in ways
        for code, status in codes.items()
    ]
