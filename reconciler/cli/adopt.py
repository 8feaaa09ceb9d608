"""`jtr adopt`: documents for servers that people configured by hand."""

import asyncio
import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import click
from msgspec import Struct

from reconciler import bootstrap
from reconciler.cli import commands, consent, options, output, suggestions
from reconciler.cli.secret_patterns import checked_login, checked_paths, login_of
from reconciler.cli.settings_source import SettingsSource, settings_options
from reconciler.documents.files import shown
from reconciler.documents.load import load
from reconciler.documents.new import file_of, holds_documents, new_document, write_new
from reconciler.errors import JtrError, UsageError, worst
from reconciler.model.desired import DesiredState
from reconciler.model.references import SecretRef
from reconciler.model.wording import counted
from reconciler.observe.context import PassContext
from reconciler.plan.inputs import Consents
from reconciler.reconcile.adopt import Adoption, adopt, record
from reconciler.render.adopt import adopt_document, adopt_text
from reconciler.render.escape import plain
from reconciler.system.descriptors import make_room_for
from reconciler.system.interrupts import run

_NAMED_URL: Final = re.compile(r"(?P<name>[^=:]*)=(?P<url>https?://.*)", re.DOTALL)
_HOST: Final = re.compile(r"https?://(?P<name>[a-z0-9-]{1,63})(?=[.:/]|$)")


@click.command("adopt")
@click.argument(
    "targets",
    nargs=-1,
    required=True,
    metavar="SERVER|[NAME=]URL...",
    shell_complete=suggestions.servers,
)
@commands.documents
@click.option(
    "--paths",
    "pattern",
    default="",
    metavar="PATTERN",
    help="Where in Vault the keys are: secret/jt/{server}/{exchange}.",
)
@click.option(
    "--access-secret",
    default="",
    metavar="PATTERN#FIELD",
    help="Where the login of a URL is: secret/jt/{server}#access_secret.",
)
@click.option("--account", default="0", metavar="ID", help="The account of each URL.")
@click.option(
    "--out", metavar="DIR", help="Where the documents of URLs are written; never over a file."
)
@click.option(
    "--record",
    "recording",
    is_flag=True,
    help="Note in the ledger that what was recognised is ours at that version: it rotates like "
    "any other key from then on.",
)
@options.recipients
@options.visiting
@options.output
@settings_options
def command(  # noqa: PLR0917  - one parameter per option
    targets: tuple[str, ...],
    path: str,
    pattern: str,
    access_secret: str,
    account: str,
    out: str | None,
    recording: bool,
    approve_recipient: tuple[str, ...],
    parallelism: int,
    form: str,
    source: SettingsSource,
) -> int:
    """
    Make documents of servers that were configured by hand, and recognise their keys.

    Only reads the servers, and compares what they show with the secrets at --paths.  A URL gets a
    document in --out, called NAME or like its host.  A SERVER has one already, below --from, which
    stays as it is.  What a server shows of a weak value proves too little: such keys, and those
    that no path has, are named, with what to do.  Ends with 4 when there are any.
    """
    pattern = checked_paths(pattern)
    login = checked_login(access_secret)
    drafts = _drafts(targets, out, login=login, account=account)
    texts = {draft.path: draft.text() for draft in drafts}
    known = [name for name in targets if _named(name) is None]
    state, folders = _state(known, path, out, texts)
    settings = source.settings(*folders)
    settings.policy.check_fits(state)
    consents = options.agreed(approve_recipient, state)
    with bootstrap.prepared(
        settings, "adopt", parallelism=parallelism, writes=recording
    ) as context:
        job = _Job(state, consents, context, pattern, drafts, recording, form)
        return run(lambda _: job.run())


class _Draft(Struct, frozen=True):
    """A server without a document: what its new one says before its exchanges are known."""

    name: str
    url: str
    account: str
    login: SecretRef | None
    path: str

    def text(self) -> str:
        return new_document(self.name, self.url, account=self.account, access_secret=self.login)

    def of(self, adoption: Adoption) -> str:
        """Return the document with what was recognised; the rest stands there as comments."""
        keys = [key for key in adoption.keys if key.secret is not None]
        return new_document(
            self.name,
            self.url,
            account=self.account,
            access_secret=self.login,
            exchanges={key.code: key.secret for key in keys if key.recognised and key.secret},
            left_out=[
                (key.code, key.secret, f"not recognised: {plain(key.why, 400)}")
                for key in keys
                if not key.recognised and key.secret
            ],
        )


def _named(target: str) -> tuple[str, str] | None:
    """
    Return name and address of a server without a document; None for one that has its document.

    A URL alone gives its host's first label as the name.  Raises UsageError where that is none.
    """
    if match := _NAMED_URL.fullmatch(target):
        return match["name"], match["url"]
    if "://" not in target:
        return None
    host = _HOST.match(target)
    if host is None or host["name"] == "localhost" or host["name"].isdigit():
        raise UsageError(
            f"{shown(target)} gives no name, by which its document would be called",
            f"write NAME=URL: tokyo-1={shown(target)}",
        )
    return host["name"], target


def _drafts(
    targets: Sequence[str], out: str | None, *, login: str, account: str
) -> tuple[_Draft, ...]:
    if len(set(targets)) != len(targets):
        raise UsageError("a server is named twice", "name each once")
    drafts: list[_Draft] = []
    for target in targets:
        found = _named(target)
        if found is None:
            continue
        name, url = found
        if out is None:
            raise UsageError(
                f"nobody said where the document of {shown(name)} goes", "give --out DIR"
            )
        path = file_of(out, name)
        if any(one.name == name for one in drafts):
            raise UsageError(f"{name} is named twice", "give each server a name of its own")
        ref = login_of(login, name)
        drafts.append(_Draft(name, url, account, ref, path))
    return tuple(drafts)


def _state(
    known: Sequence[str], path: str, out: str | None, texts: dict[str, str]
) -> tuple[DesiredState, list[str]]:
    """
    Return the servers that are meant among all documents, drafts included, and where these lie.

    The ordinary loader judges the drafts beside what is there, before anything is contacted.
    """
    folders = [path] if known else []
    if out is not None and texts:
        folders += [out] if holds_documents(out) else []
    judged = load([*folders, *texts], {os.path.realpath(f): t.encode() for f, t in texts.items()})
    names = {Path(file).stem for file in texts}
    wanted = options.Selection((*known, *sorted(names))).of(judged.state)
    return wanted, [*folders, *texts] or [path]


class _Job(Struct, frozen=True):
    state: DesiredState
    consents: Consents
    context: PassContext
    pattern: str
    drafts: tuple[_Draft, ...]
    recording: bool
    form: str

    async def run(self) -> int:
        make_room_for(len(self.state.servers))
        consents = self.consents
        if self.form == "text" and sys.stdin.isatty() and sys.stdout.isatty():
            later = f"and later the values at {self.pattern}" if self.recording else ""
            consents = await consent.agreed(self.state, consents, self.context, later)
        drafted = {draft.name: draft for draft in self.drafts}
        gate = asyncio.Semaphore(self.context.parallelism)
        adoptions = [
            Adoption.of(server, drafted=server.name in drafted) for server in self.state.servers
        ]

        async def looked(one: Adoption) -> None:
            async with gate:
                await adopt(one, self.state, self.pattern, consents, self.context)

        async def recorded(one: Adoption) -> None:
            async with gate:
                await record(one, self.state, consents, self.context)

        try:
            with output.progress(f"looking at {counted(len(adoptions), 'server')}"):
                await asyncio.gather(*map(looked, adoptions))
            files = self._write(adoptions, drafted)
            if self.recording:
                await asyncio.gather(*map(recorded, adoptions))
        finally:
            await asyncio.gather(*(one.visit.close() for one in adoptions))
        code = worst(one.exit_code for one in adoptions)
        if self.form == "json":
            output.show_json(adopt_document(adoptions, files, code))
        else:
            output.show_folded(adopt_text(adoptions, files, recording=self.recording))
        return code

    def _write(self, adoptions: Sequence[Adoption], drafted: dict[str, _Draft]) -> dict[str, str]:
        """
        Write the document of each new server that was read; returns the files written, by name.

        What could not be written is said with its server, and the others are written all the same.
        """
        texts = {
            adoption.visit.desired.name: drafted[adoption.visit.desired.name].of(adoption)
            for adoption in adoptions
            if adoption.drafted and adoption.settled
        }
        # The ordinary loader judges all of them before the first is written.
        for name, text in texts.items():
            path = drafted[name].path
            load([path], {os.path.realpath(path): text.encode()})
        files = {}
        for adoption in adoptions:
            name = adoption.visit.desired.name
            if name not in texts:
                continue
            try:
                write_new(drafted[name].path, texts[name])
            except JtrError as error:
                adoption.failure = error
            else:
                files[name] = drafted[name].path
        return files
