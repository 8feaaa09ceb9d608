"""
How the suites of `tests/exchanges/adapters/` are held to `AdapterContract`, and which there are.

What only one exchange does stays a test of its own file.
"""

import importlib
import inspect
import pkgutil
from collections.abc import Callable, Iterable

import pytest

from reconciler.testing.adapters import AdapterContract, MakesSecrets
from tests.exchanges import adapters as suites
from tests.support.leaks import Watch

Suite = type[AdapterContract]


class WatchedContract(AdapterContract):
    """The contract with secrets that are searched for afterwards."""

    @pytest.fixture
    def made_up_secret(self, watch: Watch) -> MakesSecrets:
        return watch.secret


def made_of(**shapes: str) -> Callable[[MakesSecrets], dict[str, str]]:
    """Return what makes up credentials of these shapes (see `tests.support.canaries`)."""
    return lambda secret: {name: secret(shape) for name, shape in shapes.items()}


def collected() -> tuple[Suite, ...]:
    """Return every suite that stands in `tests/exchanges/adapters/`."""
    modules = (
        importlib.import_module(f"{suites.__name__}.{file.name}")
        for file in pkgutil.iter_modules(suites.__path__)
    )
    return tuple(
        suite
        for module in modules
        for name, suite in inspect.getmembers(module, inspect.isclass)
        if name.startswith("Test") and issubclass(suite, AdapterContract)
    )


def unmatched(found: Iterable[str], held: Iterable[Suite]) -> set[str]:
    """Return the exchanges that have an adapter and no suite, or the reverse."""
    return set(found) ^ {one.ccxt_id for suite in held for one in suite.exchange.adapters}
