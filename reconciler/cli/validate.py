"""`jtr validate`: check documents; contacts nothing."""

import click

from reconciler.cli import commands
from reconciler.documents.load import load


@click.command("validate")
@commands.paths
def command(paths: tuple[str, ...]) -> int:
    """
    Check documents in files and directories; contacts neither Vault nor a server.

    PATH is the current directory unless given.

    All mistakes are shown at once, each with file, line and column, and what to do about it.
    """
    click.echo(load(paths).summary(), nl=False)
    return 0
