"""`jtr plan`: show what apply would do.  Writes nothing, but that it was shown with --propose."""

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click
from msgspec import Struct

from reconciler import bootstrap
from reconciler.cli import commands, options, output, told_costs
from reconciler.cli.look import look, served_ledger
from reconciler.cli.settings_source import SettingsSource, settings_options
from reconciler.errors import Exit, UsageError, worst
from reconciler.model.desired import DesiredState
from reconciler.model.key_audits import Audited
from reconciler.model.plan import Plan
from reconciler.model.values import replace
from reconciler.observe.context import PassContext
from reconciler.observe.visit import Visit
from reconciler.plan.inputs import Consents
from reconciler.reconcile.recall import recall
from reconciler.reconcile.survey import plan_of
from reconciler.render.audit import audit_document, audit_text, recalled_line, recalled_text
from reconciler.render.layout import View
from reconciler.render.registry import AuditPart, plan_renderer
from reconciler.settings.model import Settings
from reconciler.system.console import say
from reconciler.system.interrupts import run

if TYPE_CHECKING:
    from reconciler.ci.job import Job


@click.command("plan")
@commands.paths
@options.wishes
@options.visiting
@click.option(
    "--on-unreachable",
    type=click.Choice(["fail", "skip"]),
    default="fail",
    show_default=True,
    help="What a server that cannot be reached means; the others are shown in any case.",
)
@click.option(
    "--recorded",
    is_flag=True,
    help="Contact no trading server and read no secret value: compare with the last observations "
    "of the ledger, or of the controller that the settings name.  For pull requests.",
)
@click.option(
    "--propose",
    "proposes",
    is_flag=True,
    help="Note in the ledger that reviewers are shown this plan; see `jtr apply "
    "--expect-proposed`.  The commit and the pull request are those of the CI job.",
)
@click.option(
    "--audit",
    "asks",
    is_flag=True,
    help="Also ask the exchanges about the keys of servers that declare `security`; reads values.",
)
@options.plan_output
@options.viewing
@options.detailed
@settings_options
def command(  # noqa: PLR0917  - one parameter per option
    paths: tuple[str, ...],
    asked: options.Wishes,
    parallelism: int,
    on_unreachable: str,
    recorded: bool,
    proposes: bool,
    asks: bool,
    form: str,
    view: View,
    detailed_exitcode: bool,
    source: SettingsSource,
) -> int:
    """
    Show what apply would do to the servers of PATH..., why, and what it means for their robots.

    PATH is the current directory unless given.  Looks at the servers, which has a cost: see the
    last lines of its output.
    """
    if recorded and asks:
        raise UsageError(
            "--audit reads the values of keys, and --recorded reads none",
            "leave one of them out; `jtr audit` asks about keys without looking at servers",
        )
    state, settings = source.inputs(*paths)
    state, consents = asked.of(state)
    found = planned(
        state,
        settings,
        consents,
        paths=paths,
        parallelism=parallelism,
        recorded=recorded,
        skip=on_unreachable == "skip",
        asks=asks,
        quiet=view.quiet,
        job=_job() if proposes else None,
    )
    code = found.code
    if code is Exit.DONE and detailed_exitcode and any(server.differs for server in found.plan):
        code = Exit.CHANGES
    renderer = plan_renderer(form)
    if renderer.live and not recorded:
        view = told_costs.said_once(view, found.plan, bootstrap.now().date())
    output.show(renderer.seen(view).plan(found.plan, code, recorded=recorded, audit=found.audit))
    return code


class Planned(Struct, frozen=True):
    """A plan, what it alone would end a command with, and what an audit says beside it."""

    plan: Plan
    code: Exit
    audit: AuditPart | None = None
    keys: tuple[Audited, ...] = ()  # of servers that it changes, as far as they are remembered


def planned(
    state: DesiredState,
    settings: Settings,
    consents: Consents,
    *,
    paths: tuple[str, ...],
    parallelism: int,
    recorded: bool,
    skip: bool = False,
    asks: bool = False,
    quiet: bool = False,
    job: "Job | None" = None,
    recalls: bool = False,
) -> Planned:
    """
    Plan; with a *job* what it shows to its reviewers is noted in the ledger.

    With *recalls* the ledger's word on the keys stands beside it, which decides nothing.
    """
    # What is proposed is looked up in the ledger of the settings: no other one is asked.
    recalled, away = (None, None)
    if recorded and job is None:
        recalled, away = served_ledger(settings, "plan")
    with bootstrap.prepared(
        settings,
        "plan",
        parallelism=parallelism,
        writes=False,
        looks=not recorded,
        recalled=recalled,
    ) as context:
        if away is not None and context.ledger is None:
            raise away
        if recalled is None:  # what the controller told is what the controller would do
            consents = bootstrap.beside_controller(settings, context, state, consents)
        if recorded:
            visits, skip = run(lambda _: recall(state, consents, context)), False
        else:
            visits = run(lambda _: look(state, context, consents, brief=True, quiet=quiet))
        plan = plan_of(visits, state, skip_unreachable=skip)
        audit = _audit(state, context, settings) if asks else None
        keys: tuple[Audited, ...] = ()
        if recalls:
            keys, audit = run(lambda _: _recalled(visits, plan, context))
        if job is not None:
            from reconciler.cli.expectation import propose, told  # noqa: PLC0415  - as in _job

            say(f"proposed for {told(propose(plan, state, paths, context, job))}: {plan.id}")
    code = worst(server.exit_code for server in plan)
    return Planned(plan, code if audit is None else worst([code, audit.code]), audit, keys)


def _job() -> "Job":
    from reconciler.ci.job import find_job  # noqa: PLC0415  - only who proposes pays for it

    return find_job(os.environ)


async def _recalled(
    visits: Sequence[Visit], plan: Plan, context: PassContext
) -> tuple[tuple[Audited, ...], AuditPart]:
    """Return what the ledger knows of the keys of *plan*; it asks nobody and reads no key."""
    from reconciler.reconcile.recorded_audits import recall_audits  # noqa: PLC0415  - as below

    found = await recall_audits(visits, context)
    if found.trouble:
        say(f"what exchanges said of keys is not shown: {found.trouble}")
    now, rows = bootstrap.now(), found.rows if found.known else ()
    concerned = {server.server for server in plan if server.differs}
    return tuple(row for row in rows if row.key.server in concerned), AuditPart(
        Exit.DONE,
        recalled_text(rows, concerned, now),
        audit_document(rows, now, Exit.DONE),
        recalled_line(rows, known=found.known, whole=not found.trouble),
    )


def _audit(state: DesiredState, context: PassContext, settings: Settings) -> AuditPart:
    """Ask the exchanges about the keys for which the documents declare `security`."""
    from reconciler.cli.audit import audited, code_of  # noqa: PLC0415  - only who audits pays for it

    servers = tuple(
        replace(server, exchanges=tuple(e for e in server.exchanges if e.security.declared))
        for server in state.servers
    )
    chosen = replace(state, servers=tuple(server for server in servers if server.exchanges))
    rows = run(lambda _: audited(chosen, context, settings)).rows
    code, now = code_of(rows), bootstrap.now()
    return AuditPart(code, audit_text(rows, now, []), audit_document(rows, now, code))
