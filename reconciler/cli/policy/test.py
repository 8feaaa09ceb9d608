"""`jtr policy test`: a team's own cases for its policy."""

import click

from reconciler.cli import options, output
from reconciler.cli.policy.source import policy_options
from reconciler.cli.settings_source import SettingsSource
from reconciler.errors import Exit
from reconciler.policy.cases import run_cases
from reconciler.render.policy import cases_document, cases_text


@click.command("test")
@click.argument("folder", metavar="DIR")
@options.output
@policy_options
def command(folder: str, form: str, file: str | None, source: SettingsSource) -> int:
    """
    Judge the cases below DIR: documents, and what must become of what they ask for.

    A case is a directory with documents/ and expected.yaml, a list of rows such as
    {server: tokyo-1, action: write, exchange: bybit, verdict: allowed, rule: desk-asia}; the action
    may also be contact or login.  What is denied and in no row fails as well.  Exits with 1 when
    something is not as expected.
    """
    policy = source.policy(file)
    results = run_cases(folder, policy)
    code = Exit.ERROR if any(result.failures for result in results) else Exit.DONE
    if form == "json":
        output.show_json(cases_document(results, code))
    else:
        output.show_folded(cases_text(results))
    return code
