"""`jtr status`: what was last seen of each server, and what is owed."""

from collections.abc import Iterable
from contextlib import closing
from typing import TYPE_CHECKING

import click

from reconciler import bootstrap
from reconciler.cli import options, output, suggestions
from reconciler.cli.look import look
from reconciler.cli.names import meant
from reconciler.cli.settings_source import SettingsSource, settings_options
from reconciler.documents.load import load
from reconciler.errors import Exit, JtrError, UsageError, worst
from reconciler.ledger.ledger import Ledger
from reconciler.ledger.servers import known_servers
from reconciler.model.desired import DesiredState
from reconciler.model.recorded import HeldBrake, Pause
from reconciler.model.target import Target
from reconciler.plan.inputs import Consents
from reconciler.reconcile.survey import plan_of
from reconciler.render import status as rendering
from reconciler.render.escape import plain
from reconciler.render.layout import View, folded
from reconciler.render.ledger import (
    Known,
    Moment,
    brake_rows,
    exchange_rows,
    ledger_document,
    ledger_rows,
    pause_rows,
    recorded_rows,
)
from reconciler.render.registry import plan_renderer
from reconciler.render.requests import open_code
from reconciler.render.status_fleet import ledger_fleet, served_fleet
from reconciler.settings.model import Settings
from reconciler.system.console import say
from reconciler.system.interrupts import run

if TYPE_CHECKING:
    from reconciler.controller.api.client import Controller


@click.command("status")
@click.argument("names", nargs=-1, metavar="[SERVER...]", shell_complete=suggestions.servers)
@options.server_names
@click.option("--wide", is_flag=True, help="Every server by itself, also what needs nobody.")
@click.option(
    "--live", is_flag=True, help="Visit the servers instead of asking controller or ledger."
)
@click.option(
    "--web",
    is_flag=True,
    help="Serve the page for people from the ledger, on this host only, until Ctrl-C.",
)
@click.option(
    "--from",
    "path",
    metavar="PATH",
    help="Where the documents are that say which servers there are (the current directory, if it "
    "has some).",
)
@options.visiting
@options.recipients
@options.output
@settings_options
def command(  # noqa: PLR0917  - one parameter per option
    names: tuple[str, ...],
    servers: tuple[str, ...],
    wide: bool,
    live: bool,
    web: bool,
    path: str | None,
    parallelism: int,
    approve_recipient: tuple[str, ...],
    form: str,
    source: SettingsSource,
) -> int:
    """
    Show what was last seen of the servers, and when; of SERVER..., all of it.

    Problems come first, and what needs nobody is one line.  Asks the controller that the settings
    name, else the ledger.  With --live the servers are visited, which has a cost: see `jtr plan`.
    Exits with 7 while a request is in doubt, and with 4 while robots are owed a start.
    """
    servers = (*names, *servers)
    if web:
        return _page(source, path, others=bool(servers or live or form != "text"))
    view = View(output.width(), wide=wide or bool(servers))
    if live:
        state, settings = source.inputs(path or ".")
        state = options.Selection(servers).of(state)
        consents = options.agreed(approve_recipient, state)
        return _visit(state, settings, consents, parallelism=parallelism, form=form, view=view)
    settings = source.settings()
    if settings.controller.url is not None:
        from reconciler.controller.api import client  # noqa: PLC0415  - only with a controller

        try:
            return _served(client.Controller(settings), settings, servers, form, view)
        except client.ControllerAway as error:
            say(f"{error.what}; this is what the ledger of the settings knows")
    moment = Moment(bootstrap.now(), settings.timeouts.stale)
    with closing(bootstrap.open_ledger(settings, "status")) as ledger:
        rows = _chosen(ledger, servers)
        code = worst(open_code(recorded.requests) for _, recorded in rows)
        if settings.controller.url is None and (who := ledger.controller()):
            say(
                f"{plain(who)} is the controller of this ledger and knows more: write its address "
                "into the settings, controller.url"
            )
        brakes, pauses = ledger.brakes(), ledger.pauses.all()
        if form == "json":
            output.show_json(ledger_document(brakes, pauses, rows, moment))
            return code
        shown = [*brake_rows(brakes), *pause_rows(pauses, rows, moment.now)]
        if view.wide or not rows:
            shown += ledger_rows(rows, moment)
        else:
            declared = _declared(path, rows)
            shown += ledger_fleet(rows, moment, view.width, declared)
    output.show(folded("\n".join(shown) + "\n", view.width))
    return code


def _page(source: SettingsSource, path: str | None, *, others: bool) -> int:
    if others:
        raise UsageError(
            "--web shows all servers, from the ledger, as a page", "leave the rest out"
        )
    from reconciler.cli.status_page import serve  # noqa: PLC0415  - heavy

    return serve(source.settings(*(() if path is None else (path,))), path)


def _declared(path: str | None, known: Known) -> frozenset[Target] | None:
    """
    Return the servers that the documents name; None where there are no documents of them.

    Without *path* nobody said that the documents are here: what is amiss with them is no matter.
    """
    if path is not None:
        return load((path,)).state.targets
    try:
        found = load((".",)).state.targets
    except (JtrError, OSError):
        return None
    return found if any(identity.target in found for identity, _ in known) else None


def _chosen(ledger: Ledger, names: Iterable[str]) -> Known:
    known = known_servers(ledger, bootstrap.unrecorded())
    there = {identity.name for identity, _ in known}
    wanted = meant(names, there, whose="the ledger", more="; `jtr apply` makes others known")
    return [pair for pair in known if not wanted or pair[0].name in wanted]


# ── with a controller ────────────────────────────────────────────────────────────────────────


def _served(
    controller: "Controller",
    settings: Settings,
    names: tuple[str, ...],
    form: str,
    view: View,
) -> Exit:
    """Show what a controller serves: its own words, and beside them what its ledger knows."""
    document = controller.status()
    moment = Moment(bootstrap.now(), settings.timeouts.stale)
    brakes, pauses, known = _its_ledger(controller, settings)
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
        output.show_json(ledger_document(brakes, pauses, known, moment) | {"controller": shown})
        return code
    rows = [*rendering.controller_rows(document, controller.url)]
    at = {(identity.target.url, identity.target.account): found for identity, found in known}
    exchanges: dict[str, list[str]] = {}
    for name, row in told.items():
        recorded = at.pop((str(row.get("url")), str(row.get("account"))), None)
        if recorded is not None and recorded.observation is not None:
            exchanges[name] = list(exchange_rows(recorded.observation, recorded, moment))
    if view.wide:
        for name, row in told.items():
            rows += ["", *rendering.server_rows(row, document), *exchanges.get(name, ())]
    else:
        rows += served_fleet(told, document, view.width, exchanges)
    for identity, recorded in known:
        if (identity.target.url, identity.target.account) in at:
            rows += ["", *recorded_rows(identity, recorded, moment)]
            rows.append("  in no document of the controller; its ledger remembers it")
    output.show(folded("\n".join(rows) + "\n", view.width))
    return code


def _its_ledger(
    controller: "Controller", settings: Settings
) -> tuple[list[HeldBrake], tuple[Pause, ...], Known]:
    """Return what the controller's ledger knows; a controller that waits cannot tell yet."""
    from reconciler.controller.api import client  # noqa: PLC0415  - only with a controller

    try:
        ledger = client.ledger_of(controller.ledger_documents(), settings, "status")
    except client.ControllerAway as error:
        say(f"without what its ledger knows: {error.what}")
        return [], (), []
    return ledger.brakes(), ledger.pauses.all(), known_servers(ledger, bootstrap.unrecorded())


# ── with a visit ─────────────────────────────────────────────────────────────────────────────


def _visit(
    state: DesiredState,
    settings: Settings,
    consents: Consents,
    *,
    parallelism: int,
    form: str,
    view: View,
) -> int:
    with bootstrap.prepared(settings, "status", parallelism=parallelism, writes=False) as context:
        visits = run(lambda _: look(state, context, consents))
    plan = plan_of(visits, state, skip_unreachable=False)
    failures: list[JtrError] = [server.failure for server in plan if server.failure]
    lines = [line for server in plan for line in server.disruptions]
    owed = [line.error for line in lines if line.kind is None or line.error is Exit.IN_DOUBT]
    held = [server.held_code for server in plan]
    code = worst([*(failure.exit_code for failure in failures), *owed, *held])
    output.show(plan_renderer(form).seen(view).plan(plan, code))
    return code
