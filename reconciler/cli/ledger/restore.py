"""`jtr ledger restore`: a ledger out of a backup."""

from contextlib import closing
from functools import partial

import click

from reconciler import bootstrap
from reconciler.cli.free_text import explained
from reconciler.cli.ledger.copy_file import key_place, read_backup
from reconciler.cli.settings_source import SettingsSource, settings_options
from reconciler.errors import LedgerError, LedgerMissing
from reconciler.ledger import Store
from reconciler.ledger.codec.rows import BIRTH, Restored
from reconciler.ledger.copies import Heading, fill, judged
from reconciler.model.timestamps import stamp
from reconciler.render.escape import plain
from reconciler.settings.model import Settings
from reconciler.system.console import say


@click.command("restore")
@click.argument("file", metavar="FILE")
@click.option("--because", required=True, metavar="TEXT", help="What happened; it is kept.")
@settings_options
def command(file: str, because: str, source: SettingsSource) -> int:
    """
    Make the ledger of the settings out of FILE, which `jtr ledger backup` wrote.

    Stop the controller first.  There must be no ledger: move a damaged one away, with its -wal and
    -shm.  What was done since the backup is not known any more, so every reboot and invalidation
    that was asked for until now counts as handled; to have one done, ask anew.  What was open in
    the backup stays open.
    """
    words = explained("--because", because)
    settings = source.settings()
    heading, rows = read_backup(file)
    found = judged(rows)
    if found.damaged:
        raise LedgerError(f"in this backup {found.damaged[0].what}", "use another backup")
    at, who = bootstrap.now(), bootstrap.writer("ledger restore")
    if at < heading.at:
        raise LedgerError(
            f"this backup is of {stamp(heading.at)}, later than this host's clock",
            "set the clock: what counts as handled depends on it",
        )
    with closing(_empty(settings)) as store:
        fill(
            store,
            rows,
            Restored(at, f"{words} (backup of {stamp(heading.at)})", who),
            partial(bootstrap.accept_ledger, settings, heading.ledger),
        )
    click.echo(f"restored {settings.ledger}: {found.rows} rows as of {stamp(heading.at)}")
    click.echo("every reboot and invalidation asked for until now counts as handled")
    click.echo(
        "not known any more: brakes, owed reboots and robots left stopped since then; look at the "
        "servers, then: jtr status --live"
    )
    _advise(settings, heading)
    return 0


def _empty(settings: Settings) -> Store:
    """Open the place of the settings' ledger, where there must be none, or a part of one."""
    try:
        store = bootstrap.ledger_store(settings)
    except LedgerMissing:
        return bootstrap.ledger_store(settings, create=True)
    if store.get(BIRTH) is None:
        return store
    store.close()
    raise LedgerError(
        f"there already is a ledger: {settings.ledger}",
        "move it away first, or name another place in the settings; nothing was written",
    )


def _advise(settings: Settings, heading: Heading) -> None:
    say(f"the fingerprint key is not in a backup: {key_place(settings)} must be the one of then")
    if heading.place != str(settings.ledger):
        say(f"the ledger was at {plain(heading.place)}: nothing may use that one any more")
