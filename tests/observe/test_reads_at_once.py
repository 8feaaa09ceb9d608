"""Who reads the ledger without a thread: a command, where a file of this machine is at hand."""

import asyncio
import threading
from pathlib import Path

import pytest

from reconciler import bootstrap
from reconciler.ledger.stores.sqlite import SqliteStore
from reconciler.ledger.stores.vault_kv import VaultStore
from reconciler.model.secret import Secret
from reconciler.model.values import replace
from reconciler.observe.context import PassContext
from reconciler.settings.model import (
    AuthMethod,
    Settings,
    SqliteLedger,
    VaultAuth,
    VaultSettings,
)
from reconciler.testing.stores import ledger_on


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    vault = VaultSettings(
        "http://127.0.0.1:9", auth=VaultAuth(AuthMethod.TOKEN, token=Secret("unused"))
    )
    return Settings(SqliteLedger(str(tmp_path / "ledger" / "ledger.db")), vault)


def thread_of(context: PassContext) -> int:
    """The thread in which the ledger is read."""
    return asyncio.run(context.asked(threading.get_ident))


def test_a_command_reads_a_ledger_that_is_at_hand_without_a_thread(settings: Settings) -> None:
    with bootstrap.prepared(settings, "apply", parallelism=1, writes=True, begin=True) as context:
        assert thread_of(context) == threading.get_ident()
    with bootstrap.prepared(settings, "plan", parallelism=1, writes=False) as context:
        assert thread_of(context) == threading.get_ident()


def test_a_command_waits_in_a_thread_while_another_one_writes(settings: Settings) -> None:
    with bootstrap.prepared(settings, "apply", parallelism=1, writes=True, begin=True) as context:
        assert context.ledger is not None
        file = settings.ledger.file
        assert file is not None
        store = SqliteStore.open(file)
        busy = replace(context, ledger=ledger_on(store))
        with store._using():  # as long as a write takes
            assert thread_of(busy) != threading.get_ident()
        assert thread_of(busy) == threading.get_ident()
        store.close()


def test_a_controller_never_waits_for_a_disk(settings: Settings) -> None:
    with bootstrap.prepared(
        settings, "controller", parallelism=1, writes=True, begin=True, lasting=True
    ) as context:
        assert thread_of(context) != threading.get_ident()


def test_a_ledger_in_vault_is_never_at_hand() -> None:
    assert not VaultStore.at_hand
