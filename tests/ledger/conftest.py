"""A ledger in memory, at noon."""

from datetime import UTC, datetime

import pytest

from reconciler.ledger.ledger import Ledger
from reconciler.ledger.stores.memory import MemoryStore
from reconciler.model.target import Target
from reconciler.system.timeouts import Timeouts

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)
HOME = Target("https://tokyo-1.internal:8443", "0")
AWAY = Target("https://tokyo-9.internal:8443", "0")


def ledger_on(store: MemoryStore) -> Ledger:
    return Ledger(store, now=lambda: NOON, timeouts=Timeouts(), writer="apply 1@test")


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


@pytest.fixture
def ledger(store: MemoryStore) -> Ledger:
    return ledger_on(store)
