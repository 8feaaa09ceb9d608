"""`jtr request resolve`: a person's word on what became of a request."""

from collections.abc import Iterator
from contextlib import closing

import click

from reconciler import bootstrap
from reconciler.cli import suggestions
from reconciler.cli.free_text import explained
from reconciler.cli.settings_source import SettingsSource, settings_options
from reconciler.documents import formats
from reconciler.errors import UsageError
from reconciler.ledger.servers import first_known
from reconciler.model.desired import Afterwards, RequestKind
from reconciler.model.recorded import Request
from reconciler.model.timestamps import spelled
from reconciler.plan.requests import how_to_ask, named
from reconciler.render.phrases import robot_names


@click.command("resolve")
@click.argument("server", shell_complete=suggestions.servers)
@click.argument("kind", type=click.Choice([kind.value for kind in RequestKind]))
@click.argument("instant", shell_complete=suggestions.instants)
@click.option("--done", is_flag=True, help="It took effect.")
@click.option("--not-done", is_flag=True, help="It did not.")
@click.option("--because", default="", metavar="TEXT", help="How you found out; it is kept.")
@settings_options
def command(
    *,
    server: str,
    kind: str,
    instant: str,
    done: bool,
    not_done: bool,
    because: str,
    source: SettingsSource,
) -> int:
    """
    Say what became of SERVER's request KIND INSTANT, which is in doubt.

    SERVER is a name in the ledger.  Contacts no server, and nothing is ever sent again for that
    instant.
    """
    if done == not_done:
        raise UsageError("it was either done or not", "give one of --done and --not-done")
    words = explained("--because", because)
    at = formats.instant(instant)
    if at is None:
        raise UsageError("INSTANT is none", "write it as `jtr request list` does")
    settings = source.settings()
    with closing(bootstrap.open_ledger(settings, "request resolve")) as ledger:
        uid = first_known(ledger, bootstrap.unrecorded(), server)[0].uid
        with ledger.lease(uid):
            # What an earlier run found out and could not note comes before anybody's word.
            bootstrap.unrecorded().pick_up(ledger, uid)
            request = ledger.requests(uid).resolve(RequestKind(kind), at, done=done, because=words)
    for row in _follows(server, request, done=done):
        click.echo(row)
    return 0


def _follows(server: str, request: Request, *, done: bool) -> Iterator[str]:
    """Say what a person's word means from now on."""
    word = "done" if done else "NOT done"
    yield f"noted: {named(request.kind, request.instant)} of {server} is {word}"
    yield f"  nothing is ever sent again for {spelled(request.instant)}; to have it done, ask anew:"
    yield f"  {how_to_ask(request.kind, server)}"
    if request.kind is RequestKind.REBOOT and request.ran:
        wished = (
            "were to be started again, but are" if request.robots is Afterwards.RESUME else "are"
        )
        yield (
            f"  robots that ran when it was asked {wished} not started by this: "
            f"{robot_names(request.ran)}"
        )
        yield "  see on the server's page whether they run"
