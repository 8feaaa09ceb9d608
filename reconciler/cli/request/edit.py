"""What `jtr request reboot` and `invalidate-cache` share: a request goes into the document."""

import os
from collections.abc import Iterator
from datetime import UTC, datetime

import click

from reconciler.cli import commands, options, suggestions
from reconciler.cli.free_text import explained
from reconciler.cli.output import coloured, show_json
from reconciler.documents import edit
from reconciler.documents.edit_position import RequestBlock
from reconciler.documents.files import shown
from reconciler.documents.formats import duration, instant
from reconciler.documents.validate import MOST_EXPIRY, MOST_RESUME
from reconciler.errors import UsageError
from reconciler.model.desired import Afterwards, Mode, RequestKind
from reconciler.model.timestamps import spelled
from reconciler.render.escape import plain
from reconciler.system.console import say

asking = options.together(
    click.argument("server", shell_complete=suggestions.servers),
    commands.documents,
    click.option(
        "--at",
        metavar="INSTANT",
        help="Not before this moment, such as 2026-11-22T09:30:00Z; else now.",
    ),
    click.option(
        "--reason", required=True, metavar="TEXT", help="Why; shown in plans and the history."
    ),
    click.option(
        "--expires-after",
        metavar="DURATION",
        help="How long after that moment it may still be done (24h; at most 30d).",
    ),
)


def _moment(at: str | None) -> datetime:
    if at is None:
        # Whole seconds would make two requests of one second the same, and one asked for right
        # after the ledger began older than it.
        now = datetime.now(UTC)
        return now.replace(microsecond=now.microsecond // 1000 * 1000)
    moment = instant(at)
    if moment is None:
        raise UsageError(
            "--at is no instant", "write date, time and zone, such as 2026-11-22T09:30:00Z"
        )
    return moment


def _length(option: str, text: str | None, most: float, words: str) -> str:
    if text is None:
        return ""
    seconds = duration(text)
    if seconds is None or not 0 < seconds <= most:
        raise UsageError(
            f"{option} is no duration, or out of range",
            f"write such as 12h or 1h30m: more than 0, at most {words}",
        )
    return text


def ask(  # noqa: PLR0917  - as the options are called
    kind: RequestKind,
    server: str,
    path: str,
    at: str | None,
    reason: str,
    expires_after: str | None,
    form: str,
    robots: Afterwards | None = None,
    resume_within: str | None = None,
) -> int:
    wish = RequestBlock(
        kind,
        _moment(at),
        explained("--reason", reason),
        robots,
        _length("--expires-after", expires_after, MOST_EXPIRY, "30d"),
        _length("--resume-within", resume_within, MOST_RESUME, "1d"),
    )
    now = datetime.now(UTC)
    proposal = edit.propose(path, server, wish, now)
    file = shown(os.path.relpath(proposal.path))
    change = edit.difference(proposal, file)
    edit.write(proposal)
    if form == "json":
        show_json(
            {
                "file": file,
                "server": server,
                "kind": str(wish.kind),
                "instant": spelled(proposal.wish.instant),
                "expires": spelled(proposal.wish.instant + proposal.wish.expires_after),
                "diff": change,
            }
        )
        if proposal.server.mode is Mode.OBSERVE:
            say(_observed(server))
        return 0
    for line in change.rstrip("\n").split("\n"):
        click.echo(_painted(plain(line.removesuffix("\r"), 10_000)), color=coloured())
    click.echo()
    for line in _words(proposal, file, now):
        click.echo(line)
    return 0


def _painted(line: str) -> str:
    colour = {"+": "green", "-": "red"}.get(line[:1])
    return click.style(line, fg=colour) if colour and coloured() else line


def _words(proposal: edit.Proposal, file: str, now: datetime) -> Iterator[str]:
    """Say what was asked, until when it counts, and what it will do to trading."""
    wish, server = proposal.wish, proposal.server
    begins, ends = spelled(wish.instant), spelled(wish.instant + wish.expires_after)
    yield f"wrote into {file}: {wish.kind} {begins} of {server.name}"
    yield "  nothing is sent by this; it is done once, by the apply that finds it"
    yield f"  commit and merge it until {ends}; after that it is expired and not done any more"
    if wish.instant > now:
        yield f"  it is a schedule: not done before {begins}"
    if proposal.replaced is not None:
        yield f"  it takes the place of the request of {spelled(proposal.replaced.instant)}"
    if wish.kind is RequestKind.CACHE:
        yield "  robots store data in the cache; what stopped robots saved there is lost"
    else:
        yield "  it restarts the JT-Trader process: all robots of all accounts stop"
        yield f"  {_afterwards(proposal)}"
    if server.mode is Mode.OBSERVE:
        yield f"  {_observed(server.name)}"


def _afterwards(proposal: edit.Proposal) -> str:
    wish = proposal.wish
    if wish.robots is Afterwards.LEAVE:
        return "robots: leave: they stay stopped until somebody starts them"
    minutes = f"{wish.resume_within.total_seconds() / 60:g} min"
    others = "" if proposal.server.sole_account else "; those of other accounts stay stopped"
    return f"robots: resume: those that ran are started again within {minutes} of the boot{others}"


def _observed(server: str) -> str:
    return f"mode: observe: nothing is done on {server} while it is only observed"
