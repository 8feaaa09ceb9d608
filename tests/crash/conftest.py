"""What tests of real processes that die share."""

from collections.abc import Iterator

import pytest

from tests.crash.forkserver import Forks


@pytest.fixture(scope="session")
def forks() -> Iterator[Forks]:
    """One server for all runs of a worker."""
    with Forks() as forks:
        yield forks


@pytest.fixture
def ledger() -> str:
    """Where the ledger lies where a test does not say it: one of `LEDGERS`."""
    return "sqlite"
