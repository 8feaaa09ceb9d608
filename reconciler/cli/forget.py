"""`jtr forget SERVER`: a server is gone, and what the ledger says of it ends."""

import sys
from contextlib import closing

import click

from reconciler import bootstrap
from reconciler.cli import commands, output, suggestions
from reconciler.cli.free_text import explained
from reconciler.cli.names import is_pattern, some, unknown
from reconciler.cli.settings_source import SettingsSource, settings_options
from reconciler.documents.load import load
from reconciler.errors import Blocked, UsageError
from reconciler.ledger.ledger import Ledger
from reconciler.model.desired import DesiredState
from reconciler.model.recorded import Identity
from reconciler.reconcile.forget import forget, refuse_unsettled
from reconciler.render.escape import plain
from reconciler.system.console import say


@click.command("forget")
@click.argument("server", shell_complete=suggestions.servers)
@commands.documents
@click.option("--because", default="", metavar="TEXT", help="Why it is gone; it is kept.")
@click.option(
    "--write-off",
    is_flag=True,
    help="What is still open of it ends as well: a request in doubt, robots owed a start, a "
    "restart or a reboot, a write in doubt.  It is kept what that was.",
)
@click.option("--auto-approve", is_flag=True, help="Do not ask.")
@settings_options
def command(
    *,
    server: str,
    path: str,
    because: str,
    write_off: bool,
    auto_approve: bool,
    source: SettingsSource,
) -> int:
    """
    Let the ledger forget SERVER, which is gone and is declared in no document any more.

    SERVER is a name in the ledger, or the address where several have it.  Reads no secret and
    contacts no server: keys that it holds stay there.  What stands at its address later is a new
    server, to which somebody has to agree.  Refused while something of it is open, unless that is
    written off.
    """
    words = explained("--because", because)
    terminal = sys.stdin.isatty() and sys.stdout.isatty()
    if not (auto_approve or terminal):
        raise UsageError("nobody is there to approve it", "give --auto-approve")
    state = load((path,)).state
    settings = source.settings(path)
    left = bootstrap.unrecorded()
    with closing(bootstrap.open_ledger(settings, "forget")) as ledger:
        identity = _meant(ledger, server, state)
        open_ends = refuse_unsettled(ledger, left, identity, write_off=write_off)
        called = f"{plain(identity.name)} ({identity.target})"
        if who := ledger.controller():
            say(f"{plain(who)} is the controller of this ledger: its documents must not declare it")
        for one in open_ends:
            say(f"to be written off: {plain(one.what, 600)}")
        if not auto_approve and not click.confirm(f"Is {called} gone for good?"):
            click.echo("Cancelled: nothing was written.")
            return Blocked.exit_code
        written_off = forget(ledger, left, identity, words, open_ends)
    rows = [
        f"forgotten: {called}",
        *(f"  written off: {plain(one.what, 600)}" for one in written_off),
        "  keys that it holds are still valid: revoke them at the exchanges",
    ]
    output.show_folded("\n".join(rows) + "\n")
    return 0


def _meant(ledger: Ledger, word: str, state: DesiredState) -> Identity:
    """Return the server that *word* means and no document declares.  Raises UsageError, Blocked."""
    servers = ledger.servers()
    found = [one for one in servers if word in (one.name, one.target.url, str(one.target))]
    if not found:
        if is_pattern(word):
            raise UsageError(f"{plain(word)} is a pattern", "servers are forgotten one by one")
        raise unknown([word], {one.name for one in servers}, whose="the ledger")
    gone = [one for one in found if one.target not in state.targets]
    # Of two with one name the declared one has it: the other one only had it once.
    named = {server.name for server in state.servers} if len(gone) == len(found) else set()
    if not gone or gone[0].name in named:
        raise Blocked(
            f"{plain(word)} is declared in the documents",
            "take its document away first, so that nobody puts it back",
        )
    if len(gone) > 1:
        raise UsageError(
            f"the ledger knows {len(gone)} servers called {plain(word)}",
            f"name its address: {some(str(one.target) for one in gone)}",
        )
    return gone[0]
