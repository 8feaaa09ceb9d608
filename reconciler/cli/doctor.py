"""`jtr doctor`: look at everything that `jtr` rests on, and say what to mend.  Changes nothing."""

import click

from reconciler.cli import options, output
from reconciler.cli.settings_source import SettingsSource, settings_options
from reconciler.doctor.diagnosis import check
from reconciler.doctor.findings import conclusion
from reconciler.doctor.probe_host import look_at_documents, look_at_settings
from reconciler.doctor.report import checkup_document, checkup_text
from reconciler.errors import UsageError
from reconciler.model.desired import DesiredState
from reconciler.model.wording import counted
from reconciler.system import log_setup
from reconciler.system.interrupts import run


@click.command("doctor")
@click.argument("paths", nargs=-1, metavar="[PATH...]")
@click.option("--from", "path", metavar="PATH", help="Where the documents are, instead of PATH.")
@options.server_names
@click.option(
    "--visit/--no-visit",
    default=None,
    help="Log in to every server, or to none and look at address, certificate and clock alone; "
    "else to those that no running controller holds.",
)
@options.visiting
@options.recipients
@options.output
@settings_options
def command(  # noqa: PLR0917  - one parameter per option
    paths: tuple[str, ...],
    path: str | None,
    servers: tuple[str, ...],
    visit: bool | None,
    parallelism: int,
    approve_recipient: tuple[str, ...],
    form: str,
    source: SettingsSource,
) -> int:
    """
    Check settings, Vault, ledger, controller and every server of PATH..., and say what to mend.

    PATH is the current directory unless given.  Goes on after each failure, changes nothing and
    shows no secret.  Looking at servers has a cost: see `jtr plan`; --no-visit avoids it.  Ends
    with the code that other commands would end with, and with 0 if there are only warnings.
    """
    if paths and path is not None:
        raise UsageError("both PATH and --from were given", "give one of them")
    log_setup.ensure()
    named = paths or ((path,) if path is not None else ())
    places = named or (".",)
    documents, state = look_at_documents(places, needed=bool(named or servers))
    chosen = options.Selection(servers).of(state).servers if state is not None else ()
    consents = options.agreed(approve_recipient, state or DesiredState(()))
    findings, settings = look_at_settings(places, source.file, in_repo=source.in_repo)
    if settings is None:
        findings += documents
    else:
        with output.progress(f"looking at Vault, the ledger and {counted(len(chosen), 'server')}"):
            findings += run(
                lambda _: check(
                    settings,
                    state,
                    chosen,
                    documents,
                    visit=visit,
                    parallelism=parallelism,
                    consents=consents,
                )
            )
    code = conclusion(findings)
    if form == "json":
        output.show_json(checkup_document(findings, code))
    else:
        output.show_folded(checkup_text(findings))
    return code
