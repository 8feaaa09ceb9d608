"""`jtr request list`: where requests stand, as far as the ledger knows it."""

from collections.abc import Iterator
from contextlib import ExitStack, closing
from datetime import datetime
from functools import partial

import click

from reconciler import bootstrap
from reconciler.cli import options, output
from reconciler.cli.settings_source import SettingsSource, settings_options
from reconciler.errors import LedgerMissing, UsageError, worst
from reconciler.ledger.ledger import Ledger
from reconciler.ledger.servers import known_servers
from reconciler.model.desired import DesiredServer, DesiredState, Mode
from reconciler.model.pauses import paused
from reconciler.model.recorded import Recorded
from reconciler.model.source import NOWHERE
from reconciler.observe.terms import recorded_terms
from reconciler.plan.requests import request_lines
from reconciler.render.requests import Listed, requests_document, requests_text
from reconciler.settings.model import Settings


@click.command("list")
@click.argument("paths", nargs=-1, metavar="[PATH...]")
@click.option("--from", "path", metavar="PATH", help="Where documents are (else the directory).")
@options.output
@settings_options
def command(
    *,
    paths: tuple[str, ...],
    path: str | None,
    form: str,
    source: SettingsSource,
) -> int:
    """
    Show where every request of the documents and the ledger stands, and which robots are owed.

    Contacts no server and reads no secret, so it cannot tell what only a server's log proves.
    """
    if paths and path is not None:
        raise UsageError("both PATH and --from are given", "give one of them")
    places = paths or (path or ".",)
    state, settings = source.inputs(*places)
    with ExitStack() as stack:
        try:
            ledger = stack.enter_context(closing(bootstrap.open_ledger(settings, "request list")))
        except LedgerMissing:
            ledger = None
        servers = tuple(_listed(state, settings, ledger))
    code = worst(one.exit_code for one in servers)
    if form == "json":
        output.show_json(requests_document(servers, code))
    else:
        output.show_folded(requests_text(servers))
    return code


def _listed(state: DesiredState, settings: Settings, ledger: Ledger | None) -> Iterator[Listed]:
    suspect = bootstrap.suspicion(settings, ledger, keep=False) if ledger is not None else ""
    now = bootstrap.now()
    baseline = None
    if ledger is not None:
        state = paused(state, ledger.pauses.all(), now)
        baseline = ledger.baseline()
    terms_of = partial(
        recorded_terms,
        ledger=ledger,
        now=now,
        baseline=baseline,
        suspect=suspect,
        only=settings.only_ledger,
    )
    seen: set[str] = set()
    for server in state.servers:
        known = _recorded(server, state, ledger)
        if known.identity is not None:
            seen.add(known.identity.uid)
        terms = terms_of(known)
        robots = known.observation.robots if known.observation else ()
        lines = request_lines(server, known.requests, robots, terms, quiet=None, refuses=None)
        name = known.identity.name if known.identity else server.name
        held = _held(server, now)
        yield Listed(name, server.target, known.requests, tuple(lines), held)
    for identity, known in (
        known_servers(ledger, bootstrap.unrecorded()) if ledger is not None else ()
    ):
        requests = known.requests
        if identity.uid in seen or (requests.open is None and requests.halt is None):
            continue
        nothing = DesiredServer(identity.name, identity.target.url, NOWHERE)
        terms = terms_of(known)
        lines = request_lines(nothing, requests, (), terms, quiet=None, refuses=None)
        yield Listed(identity.name, identity.target, requests, tuple(lines), declared=False)


def _recorded(server: DesiredServer, state: DesiredState, ledger: Ledger | None) -> Recorded:
    """Return what is known of a server, but not of another one that only had its name."""
    if ledger is None:
        return Recorded()
    found = ledger.look(server.target, server.name)
    others = {other.target for other in state.servers} - {server.target}
    if found.identity is None or found.identity.target in others:
        return Recorded(since=found.since)
    return bootstrap.unrecorded().known(ledger.ledger_uid, found)


def _held(server: DesiredServer, now: datetime) -> str:
    suspension = server.suspend
    if suspension is not None and suspension.holds(now):
        return f"suspended by {suspension.by}: {suspension.reason}"
    return "mode: observe" if server.mode is Mode.OBSERVE else ""
