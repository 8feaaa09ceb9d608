"""`jtr schema`: print a JSON Schema, or let editors know it."""

import click

from reconciler.documents import schema
from reconciler.documents.files import shown
from reconciler.errors import UsageError
from reconciler.model.wording import counted

NAMES = ("config", "settings", "policy", "plan")


@click.command("schema")
@click.argument("words", nargs=-1, metavar="[config|settings|policy|plan]")
@click.option(
    "--install",
    is_flag=True,
    help="Write the schema beside the documents of PATH..., and a line into each that names it.",
)
def command(words: tuple[str, ...], *, install: bool) -> int:
    """
    Print the JSON Schema of documents (config), of the operator's settings and policy, or of plans.

    With --install PATH... editors with a YAML language server check documents while you type, and
    offer what may be written.  The schema is written to .jtr/config.schema.json in PATH, and
    `# yaml-language-server: $schema=...` into every document; again changes nothing, but a schema
    of another version.  A line that names another schema stays.
    """
    if install:
        return _install(words or (".",))
    if len(words) > 1 or (words and words[0] not in NAMES):
        raise UsageError(
            f"{shown(' '.join(words))} is no schema", f"write one of {', '.join(NAMES)}"
        )
    click.echo(schema.text(words[0] if words else "config"), nl=False)
    return 0


def _install(paths: tuple[str, ...]) -> int:
    from reconciler.documents.modeline import marked, schema_of, write, write_schema  # noqa: PLC0415

    # All are looked at before the first is written.
    changes = {path: marked(path) for path in paths}
    for path, files in changes.items():
        if write_schema(path):
            click.echo(f"wrote {shown(schema_of(path))}")
        for change in files:
            if change.after != change.before:
                write(change)
                click.echo(f"wrote {shown(change.path)}")
            if change.others:
                number = counted(change.others, "document")
                click.echo(f"{shown(change.path)}: {number} with another schema, left alone")
    if not any(c.after != c.before or c.others for files in changes.values() for c in files):
        click.echo("every document names its schema already")
    return 0
