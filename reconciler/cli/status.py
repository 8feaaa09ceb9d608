"""`jtr status`: what was last seen of each server, and what is owed."""

import asyncio
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any

import click

from reconciler import bootstrap
from reconciler.cli import options, output
from reconciler.errors import Exit, JtrError, UsageError, worst
from reconciler.ledger.codec.rows import Brake
from reconciler.ledger.ledger import Ledger
from reconciler.ledger.servers import known_servers
from reconciler.model.desired import DesiredState
from reconciler.model.recorded import Identity, Observation, Recorded
from reconciler.model.wording import counted
from reconciler.observe.context import PassContext
from reconciler.plan.compare import Shown, is_ours
from reconciler.plan.consequences import open_debts
from reconciler.plan.inputs import Consents
from reconciler.reconcile.survey import plan_of, survey
from reconciler.render import status as rendering
from reconciler.render.escape import plain
from reconciler.render.json_values import to_json
from reconciler.render.lines import age_text, debt_text, running_line, server_line
from reconciler.render.registry import plan_renderer
from reconciler.render.requests import doubt_row, halt_rows, open_code, open_document
from reconciler.settings.load import load_settings
from reconciler.settings.model import Settings
from reconciler.system.console import say
from reconciler.system.interrupts import run

if TYPE_CHECKING:
    from reconciler.controller.api.client import Controller


@click.command("status")
@click.option("--server", "servers", multiple=True, metavar="NAME", help="Only this server.")
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
@options.output
@options.settings
def command(  # noqa: PLR0917  - one parameter per option
    servers: tuple[str, ...],
    live: bool,
    path: str,
    parallelism: int,
    form: str,
    settings_file: str | None,
    settings_in_repo: bool,
) -> int:
    """
    Show each server as it was last seen, with the age of that sight.

    Asks the controller that the settings name, else the ledger.  With --live the servers are
    visited, which has a cost: see `jtr plan`.  Exits with 7 while a request is in doubt, and with 4
    while robots are owed a start.
    """
    if live:
        return _visit(servers, path, parallelism, form, settings_file, in_repo=settings_in_repo)
    settings = load_settings(settings_file, _environ(), (), in_repo_allowed=settings_in_repo)
    if settings.controller.url is not None:
        from reconciler.controller.api import client  # noqa: PLC0415  - only with a controller

        try:
            return _served(client.Controller(settings), settings, servers, form)
        except client.ControllerAway as error:
            say(f"{error.what}; this is what the ledger of the settings knows")
    ledger = bootstrap.open_ledger(settings, "status")
    try:
        rows = _chosen(ledger, servers)
        code = worst(open_code(recorded.requests) for _, recorded in rows)
        if form == "json":
            output.show_json(_document(ledger.brakes(), rows))
        else:
            output.show("\n".join(_text(ledger, rows)) + "\n")
    finally:
        ledger.close()
    return code


def _environ() -> dict[str, str]:
    import os  # noqa: PLC0415  - keeps the one use visible

    return dict(os.environ)


Known = list[tuple[Identity, Recorded]]


def _chosen(ledger: Ledger, names: Iterable[str]) -> Known:
    known = known_servers(ledger, bootstrap.unrecorded())
    wanted = set(names) or {identity.name for identity, _ in known}
    if unknown := sorted(wanted - {identity.name for identity, _ in known}):
        names = ", ".join(sorted(identity.name for identity, _ in known)) or "none yet"
        raise UsageError(
            f"the ledger knows no server called {', '.join(unknown)}",
            f"known: {names}; `jtr apply` makes others known",
        )
    return [(identity, recorded) for identity, recorded in known if identity.name in wanted]


def _text(ledger: Ledger, rows: Known) -> Iterator[str]:
    for version, brake in ledger.brakes().items():
        yield f"! the brake is on for JT-Trader {version}: {brake.why} ({brake.server})"
        yield f"      `jtr ledger release-brake {version} --because TEXT` after you looked"
    if not rows:
        yield "The ledger knows no server yet; `jtr apply` makes them known."
    for identity, recorded in rows:
        yield from _server_text(identity, recorded)


def _server_text(identity: Identity, recorded: Recorded) -> Iterator[str]:
    yield server_line(identity.name, identity.target)
    if recorded.requests.open is not None:
        yield doubt_row(recorded.requests.open)
    if recorded.requests.halt is not None:
        yield from halt_rows(identity.name, recorded.requests.halt)
    seen = recorded.observation
    if seen is None:
        yield "  never seen"
        return
    age = (bootstrap.now() - datetime.fromisoformat(seen.at)).total_seconds()
    yield f"  seen {age_text(age)} ago by {plain(seen.by)}, JT-Trader {plain(seen.version)}"
    yield from _exchanges(seen, recorded)
    yield running_line(seen.robots)
    for debt in open_debts(recorded, seen):
        yield f"  owed: {debt_text(debt)}"


def _exchanges(seen: Observation, recorded: Recorded) -> Iterator[str]:
    for code in sorted(seen.masks.keys() | recorded.exchanges.keys()):
        shown, record = Shown.of(seen, code), recorded.exchanges.get(code)
        if record is not None and is_ours(record):
            state = _state(shown, recorded, code)
        elif shown.present:
            found = record is not None and record.found is not None
            state = "found, looks as desired" if found else "connected by somebody else"
        else:
            continue
        yield f"  {plain(code)}: {state}"


def _state(shown: Shown, recorded: Recorded, code: str) -> str:
    record = recorded.exchanges[code]
    if record.intent is not None:
        return "a write did not finish; `jtr apply` writes it again"
    if record.written is None:
        return "unknown"
    origin = ", ".join(sorted({f"{r.at}@{r.version}" for r in record.written.sources.values()}))
    if shown.is_all(record.written):
        return f"written from {origin}"
    if record.written.key_id != shown.key_id:
        return f"written from {origin}, under another fingerprint key"
    return f"drifted: written from {origin}, the server shows something else"


def _document(brakes: Mapping[str, Brake], rows: Known) -> dict[str, Any]:
    return {
        "formatVersion": 1,
        "brakes": [
            {"version": brake.version, "server": brake.server, "why": brake.why}
            for brake in brakes.values()
        ],
        "servers": [_server(identity, recorded) for identity, recorded in rows],
    }


def _server(identity: Identity, recorded: Recorded) -> dict[str, Any]:
    seen = recorded.observation
    document: dict[str, Any] = {
        "server": identity.name,
        "url": identity.target.url,
        "account": identity.target.account,
        "observedAt": None if seen is None else seen.at,
        "inDoubt": open_document(recorded.requests.open),
        "robotsOwed": to_json(recorded.requests.halt),
    }
    if seen is None:
        return document
    return document | {
        "version": seen.version,
        "exchanges": {
            code: sorted({f"{r.at}@{r.version}" for r in record.written.sources.values()})
            for code, record in sorted(recorded.exchanges.items())
            if record.written is not None
        },
        "robots": to_json(seen.robots),
        "debts": to_json(open_debts(recorded, seen)),
    }


# ── with a controller ────────────────────────────────────────────────────────────────────────


def _served(
    controller: "Controller", settings: Settings, names: tuple[str, ...], form: str
) -> Exit:
    """Show what a controller serves: its own words, and beside them what its ledger knows."""
    document = controller.status()
    brakes, known = _its_ledger(controller, settings)
    told = {str(row.get("server")): row for row in rendering.served_servers(document)}
    there = told.keys() | {identity.name for identity, _ in known}
    if unknown := sorted(set(names) - there):
        raise UsageError(
            f"the controller knows no server called {', '.join(unknown)}",
            f"known: {', '.join(map(plain, sorted(there))) or 'none yet'}",
        )
    told = {name: row for name, row in told.items() if not names or name in names}
    known = [pair for pair in known if not names or pair[0].name in names]
    code = worst(
        [
            rendering.served_code(told.values()),
            *(open_code(recorded.requests) for _, recorded in known),
        ]
    )
    if form == "json":
        shown = document | {"servers": list(told.values())}
        output.show_json(_document(brakes, known) | {"controller": shown})
        return code
    rows = [*rendering.controller_rows(document, controller.url)]
    at = {(identity.target.url, identity.target.account): found for identity, found in known}
    for row in told.values():
        rows += ["", *rendering.server_rows(row, document)]
        recorded = at.pop((str(row.get("url")), str(row.get("account"))), None)
        if recorded is not None and recorded.observation is not None:
            rows += _exchanges(recorded.observation, recorded)
    for identity, recorded in known:
        if (identity.target.url, identity.target.account) in at:
            rows += ["", *_server_text(identity, recorded)]
            rows.append("  in no document of the controller; its ledger remembers it")
    output.show("\n".join(rows) + "\n")
    return code


def _its_ledger(controller: "Controller", settings: Settings) -> tuple[Mapping[str, Brake], Known]:
    """Return what the controller's ledger knows; a controller that waits cannot tell yet."""
    from reconciler.controller.api import client  # noqa: PLC0415  - only with a controller

    try:
        ledger = client.ledger_of(controller.ledger_documents(), settings, "status")
    except client.ControllerAway as error:
        say(f"without what its ledger knows: {error.what}")
        return {}, []
    return ledger.brakes(), known_servers(ledger, bootstrap.unrecorded())


# ── with a visit ─────────────────────────────────────────────────────────────────────────────


def _visit(
    servers: tuple[str, ...],
    path: str,
    parallelism: int,
    form: str,
    settings_file: str | None,
    *,
    in_repo: bool,
) -> int:
    loaded = bootstrap.load((path,), settings_file, in_repo=in_repo)
    state = options.Selection(servers).of(loaded.documents.state)

    async def look(context: PassContext, state: DesiredState) -> Exit:
        with output.progress(f"looking at {counted(len(state.servers), 'server')}"):
            visits = await survey(state, Consents(), context)
        await asyncio.gather(*(visit.close() for visit in visits))
        plan = plan_of(visits, state, skip_unreachable=False)
        failures: list[JtrError] = [server.failure for server in plan if server.failure]
        lines = [line for server in plan for line in server.disruptions]
        owed = [line.error for line in lines if line.kind is None or line.error is Exit.IN_DOUBT]
        code = worst([*(failure.exit_code for failure in failures), *owed])
        output.show(plan_renderer(form).plan(plan, code))
        return code

    with bootstrap.prepared(
        loaded.settings, "status", parallelism=parallelism, writes=False
    ) as context:
        return run(lambda _: look(context, state))
