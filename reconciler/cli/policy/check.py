"""`jtr policy check`: what documents ask for and the policy does not allow."""

import click

from reconciler.cli import output
from reconciler.cli.annotated import annotate, annotated_output
from reconciler.cli.policy.source import policy_options
from reconciler.cli.settings_source import SettingsSource
from reconciler.documents.load import load
from reconciler.errors import Exit
from reconciler.render.annotate import of_violations
from reconciler.render.policy import check_document, check_text


@click.command("check")
@click.argument("paths", nargs=-1, required=True, metavar="PATH...")
@annotated_output("text", "json")
@policy_options
def command(paths: tuple[str, ...], form: str, file: str | None, source: SettingsSource) -> int:
    """
    Say what the documents in PATH... ask for and the policy does not allow.

    Contacts nothing, so it needs no login: for pull requests.  Exits with 4 when something is
    denied.
    """
    state = load(paths).state
    policy = source.policy(file, *paths)
    policy.check_fits(state)
    found = [(server, policy.violations(server)) for server in state.servers]
    code = Exit.BLOCKED if any(violations for _, violations in found) else Exit.DONE
    if form == "json":
        output.show_json(check_document(policy, found, code))
    elif not annotate(form, lambda: of_violations(found)):
        output.show_folded(check_text(policy, found))
    return code
