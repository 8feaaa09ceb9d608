"""`jtr status`: what was last seen of each server, and what is owed."""

from collections.abc import Iterable
from contextlib import closing
from typing import TYPE_CHECKING

import click

from reconciler import bootstrap
from reconciler.cli import options, output
from reconciler.cli.look import look
from reconciler.cli.names import meant
from reconciler.cli.settings_source import SettingsSource, settings_options
from reconciler.errors import Exit, JtrError, worst
from reconciler.ledger.ledger import Ledger
from reconciler.ledger.servers import known_servers
from reconciler.model.desired import DesiredState
from reconciler.model.recorded import HeldBrake
from reconciler.plan.inputs import Consents
from reconciler.reconcile.survey import plan_of
from reconciler.render import status as rendering
from reconciler.render.ledger import (
    Known,
    exchange_rows,
    ledger_document,
    ledger_rows,
    recorded_rows,
)
from reconciler.render.registry import plan_renderer
from reconciler.render.requests import open_code
from reconciler.settings.model import Settings
from reconciler.system.console import say
from reconciler.system.interrupts import run

if TYPE_CHECKING:
    from reconciler.controller.api.client import Controller


@click.command("status")
@options.server_names
@click.option(
    "--live", is_flag=True, help="Visit the servers instead of asking controller or ledger."
)
@click.option(
    "--from",
    "path",
    default=".",
    show_default=True,
    metavar="PATH",
    help="Where the documents are; for --live only.",
)
@options.visiting
@options.recipients
@options.output
@settings_options
def command(  # noqa: PLR0917  - one parameter per option
    servers: tuple[str, ...],
    live: bool,
    path: str,
    parallelism: int,
    approve_recipient: tuple[str, ...],
    form: str,
    source: SettingsSource,
) -> int:
    """
    Show each server as it was last seen, with the age of that sight.

    Asks the controller that the settings name, else the ledger.  With --live the servers are
    visited, which has a cost: see `jtr plan`.  Exits with 7 while a request is in doubt, and with 4
    while robots are owed a start.
    """
    if live:
        state, settings = source.inputs(path)
        state = options.Selection(servers).of(state)
        consents = options.agreed(approve_recipient, state)
        return _visit(state, settings, consents, parallelism, form)
    settings = source.settings()
    if settings.controller.url is not None:
        from reconciler.controller.api import client  # noqa: PLC0415  - only with a controller

        try:
            return _served(client.Controller(settings), settings, servers, form)
        except client.ControllerAway as error:
            say(f"{error.what}; this is what the ledger of the settings knows")
    with closing(bootstrap.open_ledger(settings, "status")) as ledger:
        rows = _chosen(ledger, servers)
        code = worst(open_code(recorded.requests) for _, recorded in rows)
        if form == "json":
            output.show_json(ledger_document(ledger.brakes(), rows))
        else:
            output.show("\n".join(ledger_rows(ledger.brakes(), rows, bootstrap.now())) + "\n")
    return code


def _chosen(ledger: Ledger, names: Iterable[str]) -> Known:
    known = known_servers(ledger, bootstrap.unrecorded())
    there = {identity.name for identity, _ in known}
    wanted = meant(names, there, whose="the ledger", more="; `jtr apply` makes others known")
    return [pair for pair in known if not wanted or pair[0].name in wanted]


# ── with a controller ────────────────────────────────────────────────────────────────────────


def _served(
    controller: "Controller", settings: Settings, names: tuple[str, ...], form: str
) -> Exit:
    """Show what a controller serves: its own words, and beside them what its ledger knows."""
    document = controller.status()
    brakes, known = _its_ledger(controller, settings)
    told = {str(row.get("server")): row for row in rendering.served_servers(document)}
    there = told.keys() | {identity.name for identity, _ in known}
    wanted = meant(names, there, whose="the controller")
    told = {name: row for name, row in told.items() if not wanted or name in wanted}
    known = [pair for pair in known if not wanted or pair[0].name in wanted]
    code = worst(
        [
            rendering.served_code(told.values()),
            *(open_code(recorded.requests) for _, recorded in known),
        ]
    )
    if form == "json":
        shown = document | {"servers": list(told.values())}
        output.show_json(ledger_document(brakes, known) | {"controller": shown})
        return code
    rows = [*rendering.controller_rows(document, controller.url)]
    at = {(identity.target.url, identity.target.account): found for identity, found in known}
    for row in told.values():
        rows += ["", *rendering.server_rows(row, document)]
        recorded = at.pop((str(row.get("url")), str(row.get("account"))), None)
        if recorded is not None and recorded.observation is not None:
            rows += exchange_rows(recorded.observation, recorded)
    for identity, recorded in known:
        if (identity.target.url, identity.target.account) in at:
            rows += ["", *recorded_rows(identity, recorded, bootstrap.now())]
            rows.append("  in no document of the controller; its ledger remembers it")
    output.show("\n".join(rows) + "\n")
    return code


def _its_ledger(controller: "Controller", settings: Settings) -> tuple[list[HeldBrake], Known]:
    """Return what the controller's ledger knows; a controller that waits cannot tell yet."""
    from reconciler.controller.api import client  # noqa: PLC0415  - only with a controller

    try:
        ledger = client.ledger_of(controller.ledger_documents(), settings, "status")
    except client.ControllerAway as error:
        say(f"without what its ledger knows: {error.what}")
        return [], []
    return ledger.brakes(), known_servers(ledger, bootstrap.unrecorded())


# ── with a visit ─────────────────────────────────────────────────────────────────────────────


def _visit(
    state: DesiredState, settings: Settings, consents: Consents, parallelism: int, form: str
) -> int:
    with bootstrap.prepared(settings, "status", parallelism=parallelism, writes=False) as context:
        visits = run(lambda _: look(state, context, consents))
    plan = plan_of(visits, state, skip_unreachable=False)
    failures: list[JtrError] = [server.failure for server in plan if server.failure]
    lines = [line for server in plan for line in server.disruptions]
    owed = [line.error for line in lines if line.kind is None or line.error is Exit.IN_DOUBT]
    held = [server.held_code for server in plan]
    code = worst([*(failure.exit_code for failure in failures), *owed, *held])
    output.show(plan_renderer(form).plan(plan, code))
    return code
