"""`jtr ledger init`: begin a ledger."""

from contextlib import ExitStack, closing

import click

from reconciler import bootstrap
from reconciler.cli.settings_source import SettingsSource, settings_options
from reconciler.errors import LedgerMissing
from reconciler.ledger.stores.vault_kv import insists_on_cas
from reconciler.secrets.vault.backend import VaultBackend
from reconciler.secrets.vault.kv_documents import VaultDocuments
from reconciler.settings.model import Settings
from reconciler.settings.paths import key_file
from reconciler.system.console import say


@click.command("init")
@settings_options
def command(source: SettingsSource) -> int:
    """
    Begin the ledger that the settings name, and make the fingerprint key where it is missing.

    The ledger remembers what no server can tell: what was written from which version, what is
    owed to robots.  It holds no secret.
    """
    settings = source.settings()
    with ExitStack() as stack:
        # One login for both: a secret id may be good for one use only.
        vault = bootstrap.ledger_backend(settings)
        if vault is not None:
            stack.callback(vault.close)
        there = _is_there(settings, vault)
        # The key first: where it cannot be made, no ledger is left half begun.
        if bootstrap.make_fingerprint_key(settings, vault):
            click.echo(f"made a fingerprint key: {settings.fingerprint_key or key_file()}")
        if there:
            say(f"there already is a ledger: {settings.ledger}")
        else:
            _begin(settings, vault)
    return 0


def _is_there(settings: Settings, vault: VaultBackend | None) -> bool:
    try:
        bootstrap.open_ledger(settings, "ledger init", vault=vault).close()
    except LedgerMissing:
        return False
    return True


def _begin(settings: Settings, vault: VaultBackend | None) -> None:
    place = settings.ledger
    ledger = bootstrap.open_ledger(settings, "ledger init", create=True, vault=vault)
    with closing(ledger):
        if trouble := bootstrap.suspicion(settings, ledger, keep=True):
            say(trouble)
    click.echo(f"began a ledger: {place}")
    if vault is not None and place.at:
        _advise(VaultDocuments(vault, place.at), place.at.mount)


def _advise(documents: VaultDocuments, mount: str) -> None:
    """Say what the operator can do so that nobody overwrites rows by accident."""
    insists = insists_on_cas(documents)
    if insists is None:
        say(
            f"could not see whether {mount} refuses writes without check-and-set, as the mount of "
            f"a ledger should: bao read {mount}/config"
        )
    elif not insists:
        say(
            f"{mount} takes writes without check-and-set, so that a slip of somebody's hand could "
            "damage a row; give the ledger a mount of its own and: "
            f"bao write {mount}/config cas_required=true"
        )
