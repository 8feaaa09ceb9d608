"""`jtr ledger accept-restore`: go on with a ledger that may have forgotten something."""

from contextlib import closing

import click

from reconciler import bootstrap
from reconciler.cli.settings_source import SettingsSource, settings_options
from reconciler.errors import LedgerError
from reconciler.render.escape import plain
from reconciler.system.console import say


@click.command("accept-restore")
@click.option("--because", default="", metavar="TEXT", help="What you found out; it is kept.")
@settings_options
def command(because: str, source: SettingsSource) -> int:
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
                f"there is nothing to accept: {settings.ledger} is as this user saw it last on "
                "this host",
                "what the controller remembers is its own: on its host, jtr as-service ledger "
                "accept-restore",
            )
        ledger.accept_restore(because.strip())
        bootstrap.accept_ledger(settings, ledger.ledger_uid, ledger.sequence())
        who = ledger.controller()
    click.echo(f"accepted: {suspect}")
    click.echo("every reboot and invalidation asked for until now counts as handled")
    if who:
        say(f"{plain(who)} learns of it when it starts anew")
    return 0
