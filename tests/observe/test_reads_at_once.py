"""Who reads the ledger without a thread: a command that only looks, on this machine's own file."""

import asyncio
import threading
from pathlib import Path

import pytest

from reconciler import bootstrap
from reconciler.model.references import SecretPath
from reconciler.model.secret import Secret
from reconciler.model.values import replace
from reconciler.observe.context import PassContext
from reconciler.settings.model import (
    AuthMethod,
    Settings,
    SqliteLedger,
    VaultAuth,
    VaultLedger,
    VaultSettings,
)


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


def test_a_plan_reads_a_ledger_on_this_machine_without_a_thread(settings: Settings) -> None:
    with bootstrap.prepared(settings, "apply", parallelism=1, writes=True, begin=True) as context:
        assert thread_of(context) != threading.get_ident()  # another one may be writing
    with bootstrap.prepared(settings, "plan", parallelism=1, writes=False) as context:
        assert context.ledger is not None
        assert thread_of(context) == threading.get_ident()


def test_a_controller_never_waits_for_a_disk(settings: Settings) -> None:
    with bootstrap.prepared(
        settings, "controller", parallelism=1, writes=True, begin=True, lasting=True
    ) as context:
        assert thread_of(context) != threading.get_ident()


def test_a_ledger_in_vault_is_waited_for_in_a_thread(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bootstrap, "_ledger", lambda *_args, **_options: None)  # nobody is there
    settings = replace(settings, ledger=VaultLedger(SecretPath("secret", "jtr")))

    with bootstrap.prepared(settings, "plan", parallelism=1, writes=False) as context:
        assert thread_of(context) != threading.get_ident()
