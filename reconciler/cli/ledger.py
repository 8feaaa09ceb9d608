"""`jtr ledger`: begin one, accept a restored one, release a brake."""

from contextlib import ExitStack, closing

import click

from reconciler import bootstrap
from reconciler.cli.settings_source import SettingsSource, settings_options
from reconciler.errors import LedgerError, LedgerMissing, UsageError
from reconciler.ledger.stores.vault_kv import insists_on_cas
from reconciler.secrets.vault.backend import VaultBackend
from reconciler.secrets.vault.kv_documents import VaultDocuments
from reconciler.settings.model import Settings
from reconciler.settings.paths import key_file
from reconciler.system.console import say


@click.group("ledger")
def command() -> None:
    """Begin a ledger, accept a restored one, or release a brake."""


@command.command("init")
@settings_options
def init(source: SettingsSource) -> int:
    """
    Begin the ledger that the settings name, and make the fingerprint key where it is missing.

    The ledger remembers what no server can tell: what was written from which version, what is
    owed to robots.  It holds no secret.
    """
    settings = source.settings()
    with ExitStack() as stack:
        # One login for both: a secret id may be good for one use only.
        vault = None
        if settings.fingerprint_key is not None or settings.ledger.at:
            vault = bootstrap.backend(settings)
            stack.callback(vault.close)
        _begin(settings, vault)
        if bootstrap.make_fingerprint_key(settings, vault):
            click.echo(f"made a fingerprint key: {settings.fingerprint_key or key_file()}")
    return 0


def _begin(settings: Settings, vault: VaultBackend | None) -> None:
    place = settings.ledger
    try:
        bootstrap.open_ledger(settings, "ledger init", vault=vault).close()
        say(f"there already is a ledger: {place}")
        return
    except LedgerMissing:
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


@command.command("accept-restore")
@click.option("--because", default="", metavar="TEXT", help="What you found out; it is kept.")
@settings_options
def accept_restore(because: str, source: SettingsSource) -> int:
    """
    Go on with a ledger that was restored, moved or copied.

    It may have forgotten what was done since, so every reboot and invalidation that was asked for
    until now counts as handled; to have one done, ask anew.  Make sure that no other copy of the
    ledger is used.
    """
    settings = source.settings()
    with closing(bootstrap.open_ledger(settings, "ledger accept-restore")) as ledger:
        suspect = bootstrap.suspicion(settings, ledger, keep=False)
        if not suspect:
            raise LedgerError(
                f"there is nothing to accept: {settings.ledger} is as this host saw it last",
                "see `jtr status`",
            )
        ledger.accept_restore(because.strip())
        bootstrap.accept_ledger(settings, ledger)
    click.echo(f"accepted: {suspect}")
    click.echo("every reboot and invalidation asked for until now counts as handled")
    return 0


@command.command("release-brake")
@click.argument("over", metavar="SERVER|VERSION")
@click.option("--because", required=True, metavar="TEXT", help="What you found out.")
@settings_options
def release_brake(over: str, because: str, source: SettingsSource) -> int:
    """
    Allow writes again, after one did harm or was not answered.

    To SERVER alone, or to every server of JT-Trader VERSION, those that were harmed among them.
    """
    if not because.strip():
        raise UsageError("--because is empty", "say what you found out; it is kept")
    settings = source.settings()
    with closing(bootstrap.open_ledger(settings, "ledger release-brake")) as ledger:
        released = ledger.release_brake(over, because.strip())
        names = {one.brake.server for one in released}
        still = [held for held in ledger.brakes() if held.harmed is None]
    for one in released:
        click.echo(f"released: {one.subject} (it was: {one.brake.why} on {one.brake.server})")
    for held in still:
        if held.brake.server in names:
            say(
                f"the brake is still on for {held.subject}, every server of that version: "
                f"`jtr ledger release-brake {held.over} --because TEXT`"
            )
    return 0
