"""`jtr schema`: print a JSON Schema."""

import click

from reconciler.documents import schema


@click.command("schema")
@click.argument(
    "which", type=click.Choice(["config", "settings", "policy", "plan"]), default="config"
)
def command(which: str) -> int:
    """
    Print the JSON Schema of documents (config), of the operator's settings and policy, or of plans.

    An editor with a YAML language server checks while you type when the first line of a file is:
    # yaml-language-server: $schema=PATH/TO/config.schema.json
    """
    click.echo(schema.text(which), nl=False)
    return 0
