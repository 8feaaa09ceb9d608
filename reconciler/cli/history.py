"""`jtr history`: what was done on servers, when, by whom, and what came of it."""

from collections.abc import Iterator
from contextlib import closing

import click

from reconciler import bootstrap
from reconciler.cli import options, output, suggestions
from reconciler.cli.names import is_pattern, meant
from reconciler.cli.settings_source import SettingsSource, settings_options
from reconciler.documents.load import load
from reconciler.errors import UsageError
from reconciler.ledger.codec.rows import ForgottenRow
from reconciler.ledger.ledger import Ledger
from reconciler.ledger.servers import Known, first_known, known_servers
from reconciler.model.recorded import HistoryEntry
from reconciler.render.escape import plain
from reconciler.render.json_values import to_json
from reconciler.render.requests import deed_row, history


@click.command("history")
@click.argument("server", required=False, shell_complete=suggestions.servers)
@click.option(
    "--from", "path", metavar="PATH", help="Only servers of the documents there (else all)."
)
@click.option(
    "--limit",
    type=click.IntRange(1, 10_000),
    default=50,
    show_default=True,
    help="How many of the newest of each server.",
)
@click.option(
    "--forgotten", is_flag=True, help="Of the servers that `jtr forget` ended, and why that was."
)
@options.output
@settings_options
def command(
    *,
    server: str | None,
    path: str | None,
    limit: int,
    forgotten: bool,
    form: str,
    source: SettingsSource,
) -> int:
    """
    Show what was done on SERVER, or on every server of the ledger, newest last.

    SERVER may be a pattern such as 'tokyo-*'.

    From the ledger alone: what people do on a server's own page is not in it.
    """
    if forgotten and path is not None:
        raise UsageError("no document names what is forgotten", "leave --from out")
    settings = source.settings(*(() if path is None else (path,)))
    with closing(bootstrap.open_ledger(settings, "history")) as ledger:
        if forgotten:
            found = [(name, deeds[-limit:]) for name, deeds in _forgotten(ledger, server)]
        else:
            found = [
                (identity.name, history(ledger.history(identity.uid), known.requests)[-limit:])
                for identity, known in _chosen(ledger, server, path)
            ]
    if form == "json":
        output.show_json(
            {
                "formatVersion": 1,
                "servers": [{"server": name, "deeds": to_json(deeds)} for name, deeds in found],
            }
        )
    else:
        output.show_folded("\n".join(_text(found)) + "\n")
    return 0


def _chosen(ledger: Ledger, name: str | None, path: str | None) -> list[Known]:
    if name is not None and not is_pattern(name):
        return [first_known(ledger, bootstrap.unrecorded(), name)]
    known = known_servers(ledger, bootstrap.unrecorded())
    if name is not None:
        wanted = meant((name,), {identity.name for identity, _ in known}, whose="the ledger")
        return [one for one in known if one[0].name in wanted]
    if path is None:
        return known
    targets = {server.target for server in load((path,)).state.servers}
    return [one for one in known if one[0].target in targets]


def _forgotten(ledger: Ledger, name: str | None) -> Iterator[tuple[str, tuple[HistoryEntry, ...]]]:
    rows = ledger.forgotten()
    names = {row.identity.name for row in rows}
    wanted = names if name is None else meant((name,), names)
    for row in rows:
        if row.identity.name in wanted:
            requests = ledger.requests(row.identity.uid).load()
            yield (
                row.identity.name,
                (*history(ledger.history(row.identity.uid), requests), _end(row)),
            )


def _end(row: ForgottenRow) -> HistoryEntry:
    return HistoryEntry(row.at.isoformat(), row.by, "forget", "forgotten", row.because)


def _text(found: list[tuple[str, tuple[HistoryEntry, ...]]]) -> Iterator[str]:
    rows = [(name, deed) for name, deeds in found for deed in deeds]
    if not rows:
        yield "Nothing was done yet."
    for name, deeds in found:
        if deeds:
            yield plain(name)
            for deed in deeds:
                yield f"  {deed_row(deed)}"
