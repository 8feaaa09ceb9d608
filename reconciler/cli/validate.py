"""`jtr validate`: check documents; contacts nothing."""

import click

from reconciler import documents


@click.command("validate")
@click.argument("paths", nargs=-1, required=True, metavar="PATH...")
def command(paths: tuple[str, ...]) -> int:
    """
    Check documents in files and directories; contacts neither Vault nor a server.

    All mistakes are shown at once, each with file, line and column, and what to do about it.
    """
    loaded = documents.load(paths)
    servers = len(loaded.state.servers)
    exchanges = sum(len(server.exchanges) for server in loaded.state.servers)
    click.echo(
        f"valid: {_count(servers, 'server')}, {_count(exchanges, 'exchange')}, "
        f"{_count(len(loaded.files), 'file')}"
    )
    if loaded.state.skipped:
        click.echo(f"{_count(loaded.state.skipped, 'document')} of another apiVersion skipped")
    return 0


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
