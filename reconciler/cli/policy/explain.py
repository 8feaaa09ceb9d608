"""`jtr policy explain`: what one document asks for, and which rule decides."""

import click

from reconciler.cli import commands, options, output, suggestions
from reconciler.cli.policy.source import policy_options
from reconciler.cli.settings_source import SettingsSource
from reconciler.documents.load import load
from reconciler.errors import Exit
from reconciler.render.policy import explain_document, explain_text


@click.command("explain")
@click.argument("server", shell_complete=suggestions.servers)
@commands.documents
@options.output
@policy_options
def command(server: str, path: str, form: str, file: str | None, source: SettingsSource) -> int:
    """
    Say of all that the document of SERVER asks for which rule allows or denies it, and why.

    Where no rule allows something, it says of each rule what keeps it from doing so.
    """
    state = load((path,)).state
    policy = source.policy(file, path)
    desired = options.named(state, server)
    code = Exit.BLOCKED if policy.violations(desired) else Exit.DONE
    if form == "json":
        output.show_json(explain_document(policy, desired, code))
    else:
        output.show_folded(explain_text(policy, desired))
    return code
