"""`jtr request list|resolve`: what became of requests, as far as the ledger knows it."""

import os
from collections.abc import Iterator
from datetime import datetime

import click

from reconciler import bootstrap
from reconciler.cli import options, output
from reconciler.cli.free_text import explained
from reconciler.documents.formats import instant as parsed_instant
from reconciler.errors import LedgerMissing, UsageError, worst
from reconciler.ledger.ledger import Ledger
from reconciler.ledger.servers import first_known, known_servers
from reconciler.model.desired import Afterwards, DesiredServer, DesiredState, Mode, RequestKind
from reconciler.model.recorded import Recorded, Request
from reconciler.model.source import NOWHERE
from reconciler.model.timestamps import spelled
from reconciler.observe.terms import recorded_terms
from reconciler.plan.requests import named, request_lines
from reconciler.render.lines import robot_names
from reconciler.render.requests import Listed, requests_document, requests_text
from reconciler.settings.load import load_settings
from reconciler.settings.model import Settings


@click.command("list")
@click.argument("paths", nargs=-1, metavar="[PATH...]")
@click.option("--from", "path", metavar="PATH", help="Where documents are (else the directory).")
@options.output
@options.settings
def show(
    *,
    paths: tuple[str, ...],
    path: str | None,
    form: str,
    settings_file: str | None,
    settings_in_repo: bool,
) -> int:
    """
    Show where every request of the documents and the ledger stands, and which robots are owed.

    Contacts no server and reads no secret, so it cannot tell what only a server's log proves.
    """
    if paths and path is not None:
        raise UsageError("both PATH and --from are given", "give one of them")
    places = paths or (path or ".",)
    loaded = bootstrap.load(places, settings_file, in_repo=settings_in_repo)
    state, settings = loaded.documents.state, loaded.settings
    try:
        ledger: Ledger | None = bootstrap.open_ledger(settings, "request list")
    except LedgerMissing:
        ledger = None
    try:
        servers = tuple(_listed(state, settings, ledger))
    finally:
        if ledger is not None:
            ledger.close()
    code = worst(one.exit_code for one in servers)
    if form == "json":
        output.show_json(requests_document(servers, code))
    else:
        output.show(requests_text(servers))
    return code


def _listed(state: DesiredState, settings: Settings, ledger: Ledger | None) -> Iterator[Listed]:
    suspect = bootstrap.suspicion(settings, ledger, keep=False) if ledger is not None else ""
    now = bootstrap.now()
    seen: set[str] = set()
    for server in state.servers:
        known = _recorded(server, state, ledger)
        if known.identity is not None:
            seen.add(known.identity.uid)
        terms = recorded_terms(known, ledger, now, suspect=suspect, only=settings.only_ledger)
        robots = known.observation.robots if known.observation else ()
        lines = request_lines(server, known.requests, robots, terms, quiet="", refuses=("", ""))
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
        terms = recorded_terms(known, ledger, now, suspect=suspect, only=settings.only_ledger)
        lines = request_lines(nothing, requests, (), terms, quiet="", refuses=("", ""))
        yield Listed(identity.name, identity.target, requests, tuple(lines), declared=False)


def _recorded(server: DesiredServer, state: DesiredState, ledger: Ledger | None) -> Recorded:
    """Return what is known of a server, but not of another one that only had its name."""
    if ledger is None:
        return Recorded()
    found = ledger.load(server.target, server.name)
    others = {other.target for other in state.servers} - {server.target}
    if found.identity is None or found.identity.target in others:
        return Recorded()
    return bootstrap.unrecorded().known(ledger.ledger_uid, found)


def _held(server: DesiredServer, now: datetime) -> str:
    suspension = server.suspend
    if suspension is not None and (suspension.until is None or now < suspension.until):
        return f"suspended by {suspension.by}: {suspension.reason}"
    return "mode: observe" if server.mode is Mode.OBSERVE else ""


# ── a person's word ──────────────────────────────────────────────────────────────────────────


@click.command("resolve")
@click.argument("server")
@click.argument("kind", type=click.Choice([kind.value for kind in RequestKind]))
@click.argument("instant")
@click.option("--done", is_flag=True, help="It took effect.")
@click.option("--not-done", is_flag=True, help="It did not.")
@click.option("--because", default="", metavar="TEXT", help="How you found out; it is kept.")
@options.settings
def resolve(
    *,
    server: str,
    kind: str,
    instant: str,
    done: bool,
    not_done: bool,
    because: str,
    settings_file: str | None,
    settings_in_repo: bool,
) -> int:
    """
    Say what became of SERVER's request KIND INSTANT, which is in doubt.

    SERVER is a name in the ledger.  Contacts no server, and nothing is ever sent again for that
    instant.
    """
    if done == not_done:
        raise UsageError("it was either done or not", "give one of --done and --not-done")
    words = explained("--because", because)
    at = parsed_instant(instant)
    if at is None:
        raise UsageError("INSTANT is none", "write it as `jtr request list` does")
    settings = load_settings(settings_file, os.environ, (), in_repo_allowed=settings_in_repo)
    ledger = bootstrap.open_ledger(settings, "request resolve")
    try:
        uid = first_known(ledger, bootstrap.unrecorded(), server)[0].uid
        with ledger.lease(uid):
            # What an earlier run found out and could not note comes before anybody's word.
            bootstrap.unrecorded().pick_up(ledger, uid)
            request = ledger.requests(uid).resolve(RequestKind(kind), at, done=done, because=words)
    finally:
        ledger.close()
    for row in _follows(server, request, done=done):
        click.echo(row)
    return 0


def _follows(server: str, request: Request, *, done: bool) -> Iterator[str]:
    """Say what a person's word means from now on."""
    word = "done" if done else "NOT done"
    yield f"noted: {named(request.kind, request.instant)} of {server} is {word}"
    yield f"  nothing is ever sent again for {spelled(request.instant)}; to have it done, ask anew:"
    if request.kind is RequestKind.CACHE:
        yield f"  jtr request invalidate-cache {server} --reason TEXT"
        return
    yield f"  jtr request reboot {server} --robots resume|leave --reason TEXT"
    if request.ran:
        wished = (
            "were to be started again, but are" if request.robots is Afterwards.RESUME else "are"
        )
        yield (
            f"  robots that ran when it was asked {wished} not started by this: "
            f"{robot_names(request.ran)}"
        )
        yield "  see on the server's page whether they run"
