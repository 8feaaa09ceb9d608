"""`jtr validate`: check documents; contacts nothing."""

from collections.abc import Iterable

import click

from reconciler.cli import commands
from reconciler.cli.annotated import annotate, annotated_output
from reconciler.cli.exchange_hints import hints
from reconciler.documents.load import load
from reconciler.errors import InvalidConfig
from reconciler.model.annotations import Annotation


@click.command("validate")
@commands.paths
@annotated_output("text")
def command(paths: tuple[str, ...], form: str) -> int:
    """
    Check documents in files and directories; contacts neither Vault nor a server.

    PATH is the current directory unless given.

    All mistakes are shown at once, each with file, line and column, and what to do about it.
    """
    try:
        found = load(paths)
    except InvalidConfig as error:
        found_wrong = error
        annotate(form, lambda: _annotations(found_wrong))
        raise
    if not annotate(form, list):
        for hint in hints(found.state, paths):
            click.echo(hint, err=True)
        click.echo(found.summary(), nl=False)
    return 0


def _annotations(error: InvalidConfig) -> Iterable[Annotation]:
    from reconciler.render.annotate import of_mistakes  # noqa: PLC0415  - only where it is wanted

    return of_mistakes(error)
