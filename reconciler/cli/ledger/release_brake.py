"""`jtr ledger release-brake`: allow writes again."""

from contextlib import closing

import click

from reconciler import bootstrap
from reconciler.cli import suggestions
from reconciler.cli.settings_source import SettingsSource, settings_options
from reconciler.errors import UsageError
from reconciler.system.console import say


@click.command("release-brake")
@click.argument("over", metavar="SERVER|VERSION", shell_complete=suggestions.servers)
@click.option("--because", required=True, metavar="TEXT", help="What you found out.")
@settings_options
def command(over: str, because: str, source: SettingsSource) -> int:
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
