"""
`jtr request`: ask for a reboot or an invalidation, and see what became of what was asked.

Each subcommand has a file of its own, imported only when it is called: some only edit a document,
others open the ledger.
"""

import importlib
from typing import Final

import click

# name: (module, help); the module holds a click command of that name.
SUBCOMMANDS: Final = {
    "reboot": ("edit", "Ask for one reboot of JT-Trader in the server's document."),
    "invalidate-cache": ("edit", "Ask for one invalidation in the server's document."),
    "list": ("resolve", "Show where every request stands, and which robots are owed."),
    "resolve": ("resolve", "Say what became of a request that is in doubt."),
    "resume": ("resume", "Start the robots that a restart or reboot left stopped."),
}


class Subcommands(click.Group):
    """A group whose subcommands are imported when they are called, never to be listed."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        del ctx
        return list(SUBCOMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        del ctx
        if cmd_name not in SUBCOMMANDS:
            return None
        module = importlib.import_module(f"reconciler.cli.request.{SUBCOMMANDS[cmd_name][0]}")
        held = (value for value in vars(module).values() if isinstance(value, click.Command))
        return next((command for command in held if command.name == cmd_name), None)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        del ctx
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in SUBCOMMANDS.items()])


@click.group("request", cls=Subcommands)
def command() -> None:
    """
    Ask for a reboot or a cache invalidation, and see what became of it.

    Asking edits a document and contacts nothing.  Only `resume` visits a server.
    """
