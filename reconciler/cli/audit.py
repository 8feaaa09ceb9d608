"""`jtr audit`: ask the exchanges what each key may do.  Changes nothing anywhere."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import click

from reconciler import bootstrap
from reconciler.cli import options, output
from reconciler.cli.annotated import annotate, annotated_output
from reconciler.cli.look import look
from reconciler.cli.settings_source import SettingsSource, settings_options
from reconciler.documents.formats import duration
from reconciler.errors import Exit, JtrError, LedgerError, UsageError, worst
from reconciler.exchanges.cache import GOOD
from reconciler.model.desired import DesiredState
from reconciler.model.key_audits import Audited, Light
from reconciler.model.wording import counted
from reconciler.observe.context import PassContext
from reconciler.plan.inputs import Consents
from reconciler.reconcile.audit_keys import gather_keys
from reconciler.reconcile.recorded_audits import keep_audits, worth_keeping
from reconciler.render import audit as rendering
from reconciler.render.annotate import of_audits
from reconciler.settings.model import Settings
from reconciler.system.console import say
from reconciler.system.interrupts import run


@click.command("audit")
@click.argument("paths", nargs=-1, required=True, metavar="PATH...")
@options.selection
@click.option("--fresh", is_flag=True, help="Ask the exchanges even where an answer is remembered.")
@click.option(
    "--siblings",
    is_flag=True,
    help="Ask the other regions of an exchange about a key that this one does not know.",
)
@click.option(
    "--explain",
    is_flag=True,
    help="Say below each key what was asked, what came back, and why the verdict.",
)
@click.option(
    "--expiring",
    metavar="DURATION",
    help="Show only keys that expire within this time, such as 30d.",
)
@click.option(
    "--visit",
    is_flag=True,
    help="Visit the servers for the addresses that they leave from, and compare these, too.",
)
@options.visiting
@options.recipients
@annotated_output("text", "json", "markdown")
@settings_options
def command(  # noqa: PLR0917  - one parameter per option
    paths: tuple[str, ...],
    servers: tuple[str, ...],
    selector: str,
    fresh: bool,
    siblings: bool,
    explain: bool,
    expiring: str | None,
    visit: bool,
    parallelism: int,
    approve_recipient: tuple[str, ...],
    form: str,
    source: SettingsSource,
) -> int:
    """
    Ask the exchanges what the keys of PATH... may do, and hold that against `security`.

    Reads the declared keys from Vault and asks each exchange about its own; no order is placed and
    no key is changed.  What was answered lately is not asked again; the ledger notes it for the
    comments of pull requests.  Exits with 4 when a key must
    not be used as it is.  With --siblings those regions get to see the key.  --visit has a cost:
    see `jtr plan`.
    """
    within = _within(expiring)
    state, settings = source.inputs(*paths)
    state = options.Selection(servers, selector).of(state)
    consents = options.agreed(approve_recipient, state)
    with bootstrap.prepared(settings, "audit", parallelism=parallelism, writes=False) as context:
        if not context.fingerprints.lasting:
            say("there is no fingerprint key, so no answer of an exchange is remembered")
        found = run(
            lambda _: audited(
                state,
                context,
                settings,
                fresh=fresh,
                siblings=siblings,
                visit=consents if visit else None,
                keeps=True,
            )
        )
    now = bootstrap.now()
    rows, notes = _chosen(found.rows, now, within)
    code = worst([*(error.exit_code for error in found.failures), code_of(rows)])
    match form:
        case "json":
            output.show_json(rendering.audit_document(rows, now, code, explain=explain))
        case "markdown":
            output.show(rendering.audit_markdown(rows, now, notes))
        case _ if not annotate(form, lambda: of_audits(rows, state)):
            output.show_folded(rendering.audit_text(rows, now, notes, explain=explain))
    return code


def _within(expiring: str | None) -> timedelta | None:
    if expiring is None:
        return None
    seconds = duration(expiring)
    if seconds is None:
        raise UsageError(f"--expiring {expiring!a} is not a duration", "write --expiring 30d")
    return timedelta(seconds=seconds)


def code_of(rows: Sequence[Audited]) -> Exit:
    """Return the code that these keys alone would end a command with."""
    return worst(
        [
            *(row.failure.exit_code for row in rows if row.failure is not None),
            *(Exit.BLOCKED for row in rows if row.light is Light.BLOCKED),
        ]
    )


@dataclass(slots=True)
class Found:
    """The audited keys, and what kept servers from being looked at."""

    rows: list[Audited] = field(default_factory=list)
    failures: list[JtrError] = field(default_factory=list)  # of visits


async def audited(
    state: DesiredState,
    context: PassContext,
    settings: Settings,
    *,
    fresh: bool = False,
    siblings: bool = False,
    visit: Consents | None = None,
    keeps: bool = False,
) -> Found:
    """
    Read the keys of *state* and ask the exchanges; with the consents to *visit* servers, too.

    With *keeps* the ledger gets to know what was answered, for those who may read no key.
    """
    found = Found()
    outgoing = await _addresses(state, context, found, visit) if visit is not None else {}
    with output.progress(f"reading the keys of {counted(len(state.servers), 'server')}"):
        gathered = await gather_keys(
            state.servers, context, egress_of=settings.egress_of, outgoing=outgoing
        )
    auditor = bootstrap.auditor(settings, context)
    with output.progress(f"asking about {counted(len(gathered.keys), 'key')}"):
        results = await auditor.audit(
            gathered.keys, within=timedelta(0) if fresh else GOOD, siblings=siblings
        )
    wanted = {key.id: key.security for key in gathered.keys}
    rows = [
        Audited(key, answered, findings, sources=gathered.sources(key), security=wanted[key])
        for key, (answered, findings) in results.items()
    ]
    if keeps:
        try:
            await keep_audits(worth_keeping(rows, gathered), state.servers, context)
        except LedgerError as error:
            say(f"pull requests will not show what was answered: {error}")
    found.rows = sorted([*rows, *gathered.unread], key=lambda row: row.key)
    return found


async def _addresses(
    state: DesiredState, context: PassContext, found: Found, consents: Consents
) -> dict[str, tuple[str, ...]]:
    """Return from which addresses the servers say that they leave; what fails is said and kept."""
    visits = await look(state, context, consents)
    for visit in visits:
        if visit.observed is None:
            why = visit.plan.failure or visit.plan.held
            say(f"where {visit.desired.name} leaves from is not known: {why}")
        if visit.plan.failure is not None:
            found.failures.append(visit.plan.failure)
    return {visit.desired.name: visit.observed.log.outgoing for visit in visits if visit.observed}


def _chosen(
    rows: Sequence[Audited], now: datetime, within: timedelta | None
) -> tuple[list[Audited], list[str]]:
    if within is None:
        return list(rows), []
    shown, untold = [], 0
    for row in rows:
        facts = row.answered.facts if row.answered is not None else None
        if row.failure is not None or (
            facts and facts.expires_at and facts.expires_at <= now + within
        ):
            shown.append(row)
        elif facts is None or (facts.expires_at is None and not facts.never_expires):
            untold += 1
    notes = [f"{counted(untold, 'key')} without a known end"] if untold else []
    return shown, notes
