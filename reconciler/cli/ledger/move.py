"""`jtr ledger move`: the same ledger at another place."""

from contextlib import ExitStack, closing
from functools import partial

import click

from reconciler import bootstrap
from reconciler.cli.ledger.copy_file import key_place
from reconciler.cli.settings_source import SettingsSource, settings_options
from reconciler.errors import Blocked, LeaseHeld, LedgerError, LedgerMissing, UsageError
from reconciler.ledger import Store
from reconciler.ledger.copies import judged, taken
from reconciler.ledger.ledger import Ledger
from reconciler.ledger.moving import arrived, gone, left, move
from reconciler.model.values import replace
from reconciler.secrets.vault.backend import VaultBackend
from reconciler.settings.load import ledger_place
from reconciler.settings.model import Settings
from reconciler.system.console import say


@click.command("move")
@click.argument("place", metavar="sqlite:PATH|vault:MOUNT/PATH")
@settings_options
def command(place: str, source: SettingsSource) -> int:
    """
    Go on with the ledger of the settings at another place, where there must be none.

    Stop the controller first.  From the first moment nobody can begin anything with the old one,
    and whoever opens it is told where it is now.  If it is cut off, run the same command again.
    Nothing is forgotten, so what was asked for and not done yet is still done.
    """
    old = source.settings()
    new = replace(old, ledger=ledger_place(place))
    if str(new.ledger) == str(old.ledger):
        raise UsageError(f"the ledger is at {old.ledger} already", "name another place")
    with ExitStack() as stack:
        vault = bootstrap.backend(new) if old.ledger.at or new.ledger.at else None
        if vault is not None:
            stack.callback(vault.close)
        here = stack.enter_context(closing(bootstrap.ledger_store(old, vault=vault)))
        _check(old, here)
        there = stack.enter_context(closing(_opened(new, vault, here)))
        rows = move(
            here,
            there,
            str(new.ledger),
            now=bootstrap.now,
            timeouts=old.timeouts,
            writer=bootstrap.writer("ledger move"),
            arrives=partial(bootstrap.accept_ledger, new),
        )
    if rows:
        click.echo(f"moved {rows} rows from {old.ledger} to {new.ledger}")
    else:
        click.echo(f"the ledger was moved from {old.ledger} to {new.ledger} before")
    say(f"write it into every settings file that named the old one: ledger: {new.ledger}")
    say(f"the fingerprint key stays where it is: {key_place(new)}")
    return 0


def _check(settings: Settings, here: Store) -> None:
    """Refuse what must not be taken along, as long as nothing was begun."""
    if left(here):
        return
    ledger = Ledger(
        here, now=bootstrap.now, timeouts=settings.timeouts, writer=bootstrap.writer("ledger move")
    )
    if suspect := bootstrap.suspicion(settings, ledger, keep=False):
        raise Blocked(suspect, "find out what was done meanwhile, then: jtr ledger accept-restore")
    try:
        with ledger.leadership():
            pass  # no controller, or one that provably ended
    except LeaseHeld as held:
        raise Blocked(held.what, "stop it first") from None
    found = judged(taken(here))
    if found.damaged:
        raise LedgerError(found.damaged[0].what, "see all that is damaged: jtr ledger check")


def _opened(settings: Settings, vault: VaultBackend | None, here: Store) -> Store:
    """Open the new place: there is nothing, or, where the move was begun, a part of the rows."""
    try:
        store = bootstrap.ledger_store(settings, vault=vault)
    except LedgerMissing:
        if arrived(here):
            raise gone(str(settings.ledger)) from None
        return bootstrap.ledger_store(settings, create=True, vault=vault)
    if not left(here) and store.keys(""):
        store.close()
        raise LedgerError(
            f"something lies at {settings.ledger} already; nothing was changed",
            "name a place where there is no ledger",
        )
    return store
