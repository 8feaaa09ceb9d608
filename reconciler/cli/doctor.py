"""`jtr doctor`: look at everything that `jtr` rests on, and say what to mend.  Changes nothing."""

import asyncio
import os
from collections.abc import Sequence
from dataclasses import dataclass

import click

from reconciler import bootstrap
from reconciler.cli import options, output
from reconciler.doctor import findings as checkup
from reconciler.doctor.findings import Finding
from reconciler.doctor.probe_controller import look_at_controller
from reconciler.doctor.probe_host import files, look_at_key, look_at_ledger, unknown_zones
from reconciler.doctor.probe_server import Rounds, driver, look_at_servers
from reconciler.doctor.probe_vault import VaultLook, look_at_vault
from reconciler.doctor.report import checkup_document, checkup_text
from reconciler.doctor.server import server_findings
from reconciler.documents.load import load
from reconciler.errors import InvalidConfig, JtrError, UsageError
from reconciler.ledger.ledger import Ledger
from reconciler.model.desired import DesiredServer, DesiredState
from reconciler.model.wording import counted
from reconciler.observe.resolver import Resolver
from reconciler.settings.load import load_settings
from reconciler.settings.model import Settings
from reconciler.settings.paths import refuse_in_tree
from reconciler.settings.paths import settings_file as settings_place
from reconciler.system import log_setup
from reconciler.system.console import say
from reconciler.system.interrupts import run


@click.command("doctor")
@click.argument("paths", nargs=-1, metavar="[PATH...]")
@click.option("--from", "path", metavar="PATH", help="Where the documents are, instead of PATH.")
@click.option("--server", "servers", multiple=True, metavar="NAME", help="Only this server.")
@click.option(
    "--visit/--no-visit",
    default=None,
    help="Log in to every server, or to none and look at address, certificate and clock alone; "
    "else to those that no running controller holds.",
)
@options.visiting
@options.output
@options.settings
def command(  # noqa: PLR0917  - one parameter per option
    paths: tuple[str, ...],
    path: str | None,
    servers: tuple[str, ...],
    visit: bool | None,
    parallelism: int,
    form: str,
    settings_file: str | None,
    settings_in_repo: bool,
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
    desk = _documents(named, servers)
    findings, settings = _settings(named or (".",), settings_file, in_repo=settings_in_repo)
    if settings is None:
        findings += _told(desk)
    else:
        with output.progress(_activity(desk)):
            found = settings  # for the closure: it is there
            findings += run(lambda _: _examine(found, desk, visit=visit, parallelism=parallelism))
    code = checkup.conclusion(findings)
    if form == "json":
        output.show_json(checkup_document(findings, code))
    else:
        output.show(checkup_text(findings))
    return code


@dataclass(frozen=True, slots=True)
class _Desk:
    """The documents, or why there are none; `chosen` are the servers to look at."""

    state: DesiredState | None = None
    chosen: tuple[DesiredServer, ...] = ()
    trouble: JtrError | None = None


def _documents(paths: Sequence[str], names: tuple[str, ...]) -> _Desk:
    try:
        state = load(paths or (".",)).state
    except InvalidConfig as error:
        return _Desk(trouble=error)
    except UsageError as error:
        if paths or names:
            raise
        # Nobody named any: Vault and ledger can be looked at without.
        return _Desk(trouble=error)
    return _Desk(state, options.Selection(names).of(state).servers)


def _settings(
    paths: Sequence[str], flag: str | None, *, in_repo: bool
) -> tuple[list[Finding], Settings | None]:
    """Read the settings; None where they cannot be used: then nobody may be asked anything."""
    beside = ""
    try:
        place = settings_place(flag, os.environ)
        if place is not None:
            try:
                refuse_in_tree(place, paths)
            except UsageError as error:
                if not in_repo:
                    return [checkup.of_error("settings.place", error)], None
                beside = error.what
        settings = load_settings(flag, os.environ, paths, in_repo_allowed=in_repo)
    except InvalidConfig as error:
        wrong = [
            checkup.failed("settings.file", str(problem), "", error.exit_code)
            for problem in error.problems
        ]
        return wrong, None
    except UsageError as error:
        return [checkup.of_error("settings.file", error)], None
    found = checkup.settings_findings(settings.source, files(settings), beside=beside)
    return list(found), settings


def _activity(desk: _Desk) -> str:
    return f"looking at Vault, the ledger and {counted(len(desk.chosen), 'server')}"


def _told(desk: _Desk) -> list[Finding]:
    zones = unknown_zones(desk.state) if desk.state is not None else []
    return list(checkup.document_findings(desk.state, desk.trouble, zones, bootstrap.now()))


async def _examine(
    settings: Settings, desk: _Desk, *, visit: bool | None, parallelism: int
) -> list[Finding]:
    """Look at everything but the settings; what one thing hides, another one may show."""
    vault, controller = await asyncio.gather(
        look_at_vault(settings, desk.state, parallelism=parallelism), look_at_controller(settings)
    )
    ledger: Ledger | None = None
    try:
        book = await asyncio.to_thread(
            look_at_ledger, settings, vault.backend, vault.ledger, desk.state
        )
        ledger = book.ledger
        key = await asyncio.to_thread(
            look_at_key, settings, vault.backend, ledger=ledger is not None
        )
        rounds = Rounds(
            settings=settings,
            ledger=ledger,
            secrets=_secrets(settings, vault),
            why=book.why,
            visit=visit,
            held=controller.held,
            parallelism=parallelism,
        )
        servers: list[Finding] = []
        if desk.state is not None:
            for facts in await look_at_servers(desk.state, desk.chosen, rounds):
                servers += server_findings(facts)
    finally:
        if ledger is not None:
            ledger.close()
        vault.close()
    role = str(settings.role or "")
    return [
        *vault.findings,
        key,
        *book.findings,
        *checkup.controller_findings(controller.facts, role),
        *_told(desk),
        *servers,
    ]


def _secrets(settings: Settings, vault: VaultLook) -> Resolver | None:
    if vault.backend is None:
        return None
    return Resolver(vault.backend, driver(settings), settings.timeouts, say)
