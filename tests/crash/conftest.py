"""Fixtures of processes that die."""

import pytest


@pytest.fixture
def ledger() -> str:
    """Where the ledger lies where a test does not say it: one of `LEDGERS`."""
    return "sqlite"
