"""
`jtr request`: ask for a reboot or an invalidation, and see what became of what was asked.

Some subcommands only edit a document, others open the ledger.
"""

from typing import Final

import click

from reconciler.cli.commands import Commands

SUBCOMMANDS: Final = {
    "reboot": "Ask for one reboot of JT-Trader in the server's document.",
    "invalidate-cache": "Ask for one invalidation in the server's document.",
    "list": "Show where every request stands, and which robots are owed.",
    "resolve": "Say what became of a request that is in doubt.",
    "resume": "Start the robots that a restart or reboot left stopped.",
}


@click.group("request", cls=Commands, package=__name__, helps=SUBCOMMANDS)
def command() -> None:
    """
    Ask for a reboot or a cache invalidation, and see what became of it.

    Asking edits a document and contacts nothing.  Only `resume` visits a server.
    """
