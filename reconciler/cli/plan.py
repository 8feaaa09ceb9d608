"""`jtr plan`: show what apply would do.  Writes nothing, but that it was shown with --propose."""

import os
from dataclasses import dataclass, replace

import click

from reconciler import bootstrap
from reconciler.ci.job import Job, find_job
from reconciler.cli import commands, options, output, told_costs
from reconciler.cli.expectation import propose, told
from reconciler.cli.look import look
from reconciler.cli.settings_source import SettingsSource, settings_options
from reconciler.errors import Exit, JtrError, UsageError, worst
from reconciler.model.desired import DesiredState
from reconciler.model.plan import Plan
from reconciler.observe.context import PassContext
from reconciler.plan.inputs import Consents
from reconciler.reconcile.recall import recall
from reconciler.reconcile.survey import plan_of
from reconciler.render.audit import audit_document, audit_text
from reconciler.render.layout import View
from reconciler.render.registry import AuditPart, plan_renderer
from reconciler.settings.model import Settings
from reconciler.system.console import say
from reconciler.system.interrupts import run


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
        job=find_job(os.environ) if proposes else None,
    )
    code = found.code
    if code is Exit.DONE and detailed_exitcode and any(server.differs for server in found.plan):
        code = Exit.CHANGES
    renderer = plan_renderer(form)
    if renderer.live and not recorded:
        view = told_costs.said_once(view, found.plan, bootstrap.now().date())
    output.show(renderer.seen(view).plan(found.plan, code, recorded=recorded, audit=found.audit))
    return code


@dataclass(frozen=True, slots=True)
class Planned:
    """A plan, what it alone would end a command with, and what an audit says beside it."""

    plan: Plan
    code: Exit
    audit: AuditPart | None = None


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
    job: Job | None = None,
) -> Planned:
    """Plan; with a *job* what it shows to its reviewers is noted in the ledger."""
    # What is proposed is looked up in the ledger of the settings: no other one is asked.
    recalled, away = _served(settings) if recorded and job is None else (None, None)
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
            visits = run(lambda _: look(state, context, consents, quiet=quiet))
        plan = plan_of(visits, state, skip_unreachable=skip)
        audit = _audit(state, context, settings) if asks else None
        if job is not None:
            say(f"proposed for {told(propose(plan, state, paths, context, job))}: {plan.id}")
    code = worst(server.exit_code for server in plan)
    return Planned(plan, code if audit is None else worst([code, audit.code]), audit)


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


def _served(settings: Settings) -> tuple[bootstrap.Recalled | None, JtrError | None]:
    """Return the ledger of the controller that the settings name, or why it does not tell."""
    if settings.controller.url is None:
        return None, None
    from reconciler.controller.api import client  # noqa: PLC0415  - only with a controller

    try:
        return client.recalled(settings, "plan"), None
    except client.ControllerAway as error:
        say(f"{error.what}; comparing with the ledger of the settings, if there is one")
        return None, error
