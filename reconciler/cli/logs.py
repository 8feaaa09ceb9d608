"""`jtr logs SERVER`: the system log of a trading server, as the Config page shows it, and safer."""

import asyncio
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import click

from reconciler import bootstrap
from reconciler.cli import commands, options, output, suggestions
from reconciler.cli.names import is_pattern, meant, one_only
from reconciler.cli.settings_source import SettingsSource, settings_options
from reconciler.documents.formats import duration, instant
from reconciler.errors import Blocked, DriverError, JtrError, UsageError
from reconciler.model.desired import DesiredState
from reconciler.model.observed import LogEntry
from reconciler.observe.context import PassContext
from reconciler.observe.visit import Visit, agree, enter, first_visit
from reconciler.plan.inputs import Consents
from reconciler.reconcile.survey import moved, remember
from reconciler.render import logs as rendering
from reconciler.render.status import served_servers
from reconciler.system.console import say
from reconciler.system.interrupts import run, stopping
from reconciler.system.timeouts import Timeouts

if TYPE_CHECKING:
    from reconciler.controller.api.client import Controller


@click.command("logs")
@click.argument("server", shell_complete=suggestions.servers)
@commands.documents
@click.option("-f", "--follow", is_flag=True, help="Go on with what is new, until interrupted.")
@click.option(
    "--level",
    type=click.Choice(rendering.LEVELS),
    default="debug",
    show_default=True,
    help="Only entries of this level and worse.",
)
@click.option(
    "--since",
    metavar="DURATION|INSTANT",
    help="Only entries from then on: 15m, or 2026-11-22T09:00:00Z on the server's clock.",
)
@click.option(
    "--full",
    is_flag=True,
    help="Show every key of an entry; on a terminal only, for they may hold anything.",
)
@click.option(
    "--visit", is_flag=True, help="Visit the server even if the settings name a controller."
)
@options.recipients
@options.output
@settings_options
def command(  # noqa: PLR0917  - one parameter per option
    server: str,
    path: str,
    follow: bool,
    level: str,
    since: str | None,
    full: bool,
    visit: bool,
    approve_recipient: tuple[str, ...],
    form: str,
    source: SettingsSource,
) -> int:
    """
    Print the system log of SERVER, oldest entry first, with times of the server's own clock.

    What the server noted of a fatal error is cut: it can hold a rejected key in plain text.
    Asks the controller that the settings name; there --since DURATION counts by this host's clock.
    Without a controller, with --visit and with --full the server is visited, which has a cost: see
    `jtr plan`.
    """
    if full and not sys.stdout.isatty():
        raise UsageError(
            "--full shows keys that may hold anything, so it prints on a terminal only",
            "leave --full out",
        )
    start = _start(since)
    printer = _Printer(rendering.Wanted(level), form, full=full)
    settings = source.settings(path)
    if settings.controller.url is not None and not (visit or full):
        from reconciler.controller.api import client  # noqa: PLC0415  - only with a controller

        controller = client.Controller(settings)
        told = _Told(controller, server, settings.timeouts, printer)
        try:
            told.server = _called(controller, server)
            return told.read(start, follow=follow)
        except client.ControllerAway as error:
            if told.answered:
                raise
            say(f"{error.what}; visiting the server instead")
    state, settings = source.inputs(path)
    new = first_visit(options.named(state, server))
    consents = options.agreed(approve_recipient, state)
    with bootstrap.prepared(settings, "logs", parallelism=1, writes=False) as context:
        reader = _Reader(new, context, printer, consents)
        run(lambda _: reader.read(state, start, follow=follow))
    return 0


def _called(controller: "Controller", word: str) -> str:
    """Return the one server of the controller that *word* means; a plain name is not looked up."""
    if not is_pattern(word):
        return word
    known = {str(row.get("server")) for row in served_servers(controller.status())}
    found = meant((word,), known, whose="the controller")
    if len(found) > 1:
        raise one_only(word, found)
    return next(iter(found))


def _start(since: str | None) -> timedelta | datetime | None:
    if since is None:
        return None
    seconds, moment = duration(since), instant(since)
    if seconds is not None:
        return timedelta(seconds=seconds)
    if moment is None:
        raise UsageError(
            f"--since {since!a} is neither a duration nor an instant with its zone",
            "write --since 15m or --since 2026-11-22T09:00:00Z",
        )
    return moment


@dataclass(slots=True)
class _Printer:
    """Prints what is new in each answer, and says what to do about keys that the log exposes."""

    wanted: rendering.Wanted
    form: str
    full: bool
    _before: Sequence[LogEntry] = field(default=(), init=False)

    def show(self, entries: Sequence[LogEntry]) -> None:
        news = rendering.news(self._before, entries)
        self._before = entries
        for entry in self.wanted.of(news):
            if self.form == "json":
                click.echo(rendering.row(entry, full=self.full))
            else:
                click.echo("\n".join(rendering.lines(entry, full=self.full)))
        if text := rendering.exposed(news):
            say(text)


@dataclass(slots=True)
class _Told:
    """Reads one server's log over the controller, which holds a connection to it anyway."""

    controller: "Controller"
    server: str
    timeouts: Timeouts
    printer: _Printer
    answered: bool = field(default=False, init=False)

    def read(self, start: timedelta | datetime | None, *, follow: bool) -> int:
        """Print what there is, and with *follow* what comes.  Raises JtrError."""
        moment = bootstrap.now() - start if isinstance(start, timedelta) else start
        if moment is not None:
            self.printer.wanted.since = int(moment.timestamp() * 1000)
        with output.progress(f"reading the log of {self.server}"):
            entries = self.controller.logs(self.server)
        self.answered = True
        self.printer.show(entries)
        if follow:
            with stopping():
                self._follow()
        return 0

    def _follow(self) -> None:
        """Print what is new, for ever; a controller or server away for too long ends it."""
        seen, away = time.monotonic(), False
        while True:
            time.sleep(self.timeouts.follow)
            try:
                entries = self.controller.logs(self.server)
            except JtrError as error:
                if not error.transient or time.monotonic() - seen > self.timeouts.ready:
                    raise
                if not away:
                    say(f"{error.what}; looking for it again")
                away = True
                continue
            seen, away = time.monotonic(), False
            self.printer.show(entries)


@dataclass(slots=True)
class _Reader:
    """Reads one server's log, on one connection for as long as that lives."""

    visit: Visit
    context: PassContext
    printer: _Printer
    consents: Consents

    async def read(
        self, state: DesiredState, start: timedelta | datetime | None, *, follow: bool
    ) -> None:
        await self._refuse(state)
        self.printer.wanted.since = await self._since(start)
        try:
            with output.progress(f"reading the log of {self.visit.desired.name}"):
                entries = await self._entries()
            if entries is None:
                raise DriverError(
                    f"{self.visit.desired.target.url} does not show its system log: a line of the "
                    "file is not JSON",
                    "look at the file on the server's own machine; the next rotation heals it",
                )
            self.printer.show(entries)
            if follow:
                await self._follow()
        finally:
            await self.visit.close()

    async def _follow(self) -> None:
        """Print what is new, for ever; a server that is away for too long ends it."""
        clock = asyncio.get_running_loop().time
        timeouts = self.context.timeouts
        seen, away, readable = clock(), False, True
        while True:
            await asyncio.sleep(timeouts.follow)
            try:
                entries = await self._entries()
            except DriverError as error:
                await self.visit.close()
                if not error.transient or clock() - seen > timeouts.ready:
                    raise
                if not away:
                    say(f"{error.what}; looking for it again")
                away = True
                continue
            seen, away = clock(), False
            if entries is not None:
                self.printer.show(entries)
            elif readable:
                say("the log cannot be read until it is rotated: a line is not JSON")
            readable = entries is not None

    async def _entries(self) -> tuple[LogEntry, ...] | None:
        if self.visit.session is None:
            await enter(self.visit, self.context)
        if self.visit.session is None:
            raise AssertionError
        return await self.visit.session.entries()

    async def _since(self, start: timedelta | datetime | None) -> int | None:
        """Return the beginning on the server's clock, which may be another than ours."""
        if isinstance(start, timedelta):
            target = self.visit.desired.target
            clock = await self.context.driver.clock(target, self.context.trust(target.url))
            ahead = timedelta(seconds=clock.ahead if clock else 0.0)
            start = self.context.now() + ahead - start
        return None if start is None else int(start.timestamp() * 1000)

    async def _refuse(self, state: DesiredState) -> None:
        """Show no login at an address that policy, ledger and people do not know for the server."""
        await remember(self.visit, state, self.context)
        if (elsewhere := moved(self.visit)) is not None:
            remedy = "`jtr plan` says what that means, and how to agree to it"
            raise Blocked(f"{self.visit.desired.name}: {elsewhere.held}", remedy)
        await agree(self.visit, self.consents, self.context.policy, self.context.resolver)
