"""`jtr show SERVER`: the effective document, each value with its origin."""

import json

import click

from reconciler.cli import commands, options, suggestions
from reconciler.documents.effective import BUILT_IN, EffectiveValue
from reconciler.documents.load import load
from reconciler.render.escape import plain


@click.command("show")
@click.argument("server", shell_complete=suggestions.servers)
@commands.documents
@options.output
def command(server: str, path: str, form: str) -> int:
    """Print what the documents say of SERVER after defaults were merged, and where it is said."""
    loaded = load((path,))
    effective = loaded.effective[options.named(loaded.state, server).name]
    if form == "json":
        click.echo(json.dumps(effective.as_document(), indent=2, ensure_ascii=True))
        return 0
    rows = effective.values
    width = max((len(row.path) for row in rows), default=0)
    for row in rows:
        click.echo(f"{row.path:{width}}  {plain(row.value, 300)}  # {_origin(row)}")
    return 0


def _origin(row: EffectiveValue) -> str:
    if row.from_default == BUILT_IN:
        return "when nothing is said"
    default = f" (Defaults {row.from_default})" if row.from_default else ""
    return f"{row.origin}{default}"
