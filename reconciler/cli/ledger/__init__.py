"""`jtr ledger`: begin one, keep and restore copies of it, move it, and release a brake."""

from typing import Final

import click

from reconciler.cli.commands import Commands

SUBCOMMANDS: Final = {
    "init": "Begin the ledger, and make the fingerprint key where it is missing.",
    "check": "Read every row of the ledger, or of a backup, and say what is damaged.",
    "backup": "Copy the ledger into a file, also while others work with it.",
    "restore": "Make a ledger out of a backup; nothing asked for before is done again.",
    "move": "Go on with the ledger at another place.",
    "accept-restore": "Go on with a ledger that was restored by other means, or copied.",
    "release-brake": "Allow writes again, after one did harm or was not answered.",
}


@click.group("ledger", cls=Commands, package=__name__, helps=SUBCOMMANDS)
def command() -> None:
    """
    Begin the ledger, keep copies of it, move it, or release a brake.

    It remembers what no server can tell: what was written from which version, what was done, what
    is owed to robots.  It holds no secret.
    """
