"""
`jtr request resume`: start the robots that a restart or a reboot of ours left stopped.

A person's word replaces the time limit, a finding, and the rule that nobody else changed robots.
What protects the robots that run stays: see `reconciler.apply.robots`.
"""

import asyncio
import sys
from contextlib import closing

import click
from msgspec import Struct

from reconciler import bootstrap
from reconciler.apply.circuit_breaker import CircuitBreaker
from reconciler.cli import commands, options, output, suggestions
from reconciler.cli.free_text import explained
from reconciler.cli.prompt import confirm
from reconciler.cli.settings_source import SettingsSource, settings_options
from reconciler.errors import Blocked, Exit, UsageError, worst
from reconciler.ledger.servers import first_known
from reconciler.model.actions import ResumeRobots, told
from reconciler.model.conditions import Code, Condition
from reconciler.model.desired import DesiredServer, DesiredState
from reconciler.model.plan import Disruption, ServerPlan, Standing
from reconciler.model.recorded import HistoryEntry, PendingStarts, Requests
from reconciler.model.values import replace
from reconciler.observe.context import PassContext
from reconciler.observe.visit import Visit
from reconciler.plan.inputs import Consents
from reconciler.plan.requests import named
from reconciler.reconcile.apply import apply_all
from reconciler.reconcile.survey import survey
from reconciler.render.phrases import robot_names
from reconciler.render.plan_text import report_text
from reconciler.settings.model import Settings
from reconciler.system.console import say
from reconciler.system.interrupts import Interruption, run


@click.command("resume")
@click.argument("server", shell_complete=suggestions.servers)
@commands.documents
@click.option("--auto-approve", is_flag=True, help="Do not ask.")
@click.option("--leave", is_flag=True, help="Start none: they shall stay stopped.")
@click.option("--because", default="", metavar="TEXT", help="With --leave: why; it is kept.")
@settings_options
def command(
    *,
    server: str,
    path: str,
    auto_approve: bool,
    leave: bool,
    because: str,
    source: SettingsSource,
) -> int:
    """
    Start the robots of SERVER that a restart or a reboot of ours left stopped, one by one.

    With --leave nothing is contacted: the ledger owes them no start any more.
    """
    if leave:
        words = explained("--because", because)
        return _leave(source.settings(), server, words)
    if because:
        raise UsageError("--because says why robots are left", "give --leave as well, or drop it")
    terminal = sys.stdin.isatty() and sys.stdout.isatty()
    if not (auto_approve or terminal):
        raise UsageError("nobody is there to approve it", "give --auto-approve")
    state, settings = source.inputs(path)
    desired = options.named(state, server)
    with bootstrap.prepared(settings, "request", parallelism=1, writes=True) as context:
        return run(_Resumption(desired, context, asks=not auto_approve).run)


def _leave(settings: Settings, name: str, because: str) -> int:
    with closing(bootstrap.open_ledger(settings, "request resume")) as ledger:
        uid = first_known(ledger, bootstrap.unrecorded(), name)[0].uid
        with ledger.lease(uid):
            book = ledger.requests(uid)
            halt = book.load().halt
            if halt is None:
                output.show(f"No robot of {name} is owed a start.\n")
                return Exit.DONE
            book.release()
            deed = HistoryEntry(
                bootstrap.now().isoformat(timespec="milliseconds"),
                ledger.writer,
                f"leave robots stopped ({halt.origin})",
                "done",
                f"{', '.join(robot.name for robot in halt.robots)}: {because}",
            )
            ledger.record(uid, [deed])
    output.show(f"noted: they get no start any more: {robot_names(halt.robots)}\n")
    return Exit.DONE


class _Resumption(Struct, frozen=True):
    server: DesiredServer
    context: PassContext
    asks: bool

    async def run(self, interruption: Interruption) -> Exit:
        requests = await asyncio.to_thread(self._recorded)
        if requests.halt is None:
            return self._nothing(requests)
        # Nothing but the robots is looked at, so that a broken secret does not stand in the way.
        alone = replace(self.server, exchanges=(), cache=None, reboot=None)
        with output.progress(f"looking at {self.server.name}"):
            (visit,) = await survey(DesiredState((alone,)), Consents(), self.context)
        try:
            return await self._go_on(visit, interruption)
        finally:
            await visit.close()

    def _recorded(self) -> Requests:
        ledger = self.context.ledger
        if ledger is None:
            raise AssertionError
        found = ledger.load(self.server.target, self.server.name)
        if self.context.unrecorded is not None:
            found = self.context.unrecorded.known(ledger.ledger_uid, found)
        return found.requests

    def _nothing(self, requests: Requests) -> Exit:
        output.show(f"No robot of {self.server.name} is owed a start.\n")
        if requests.open is None:
            return Exit.DONE
        called = named(requests.open.kind, requests.open.instant)
        say(f"{called} is in doubt; see: jtr request list")
        return Exit.IN_DOUBT

    async def _tell_of_brake(self, visit: Visit, version: str) -> None:
        """Say that a brake is on; it holds writes, and a start is none."""
        if self.context.ledger is None:
            return
        for held in await asyncio.to_thread(self.context.ledger.brakes):
            if held.holds(visit.desired.target, visit.uid, version):
                say(
                    f"the brake is on for {held.subject}: {held.brake.why}; it holds writes, and "
                    "robots are started all the same"
                )

    async def _go_on(self, visit: Visit, interruption: Interruption) -> Exit:
        plan, halt = visit.plan, visit.recorded.requests.halt
        if plan.failure is not None:
            raise plan.failure
        if plan.held:
            raise Blocked(f"nothing is started on {plan.server}: {plan.held}", plan.held_remedy)
        if halt is None or visit.observed is None:
            raise AssertionError
        if not self.context.driver.tested(plan.version):
            raise Blocked(
                f"JT-Trader {plan.version} is outside the tested range",
                "an operator who tried it adds it to acceptVersions in the settings",
            )
        await self._tell_of_brake(visit, plan.version)
        visit.plan = _only_robots(plan, halt)
        for action in visit.plan.actions:
            if self.asks and not await confirm(f"{plan.server}: {_question(visit.plan)}"):
                output.show("Nothing was started.\n")
                return Exit.DONE
            say(f"{plan.server}: {told(action)}")
        brake = CircuitBreaker()
        interruption.on_first = lambda: brake.stop("interrupted", starts=True)
        with output.progress("starting robots"):
            reports = await apply_all([visit], Consents(), self.context, brake)
        code = worst(report.exit_code for report in reports)
        with output.concluding(code):
            if visit.plan.actions:
                output.show_folded(report_text(reports))
            else:
                called = robot_names(halt.robots)
                output.show(f"They run: {called}; none is owed a start any more.\n")
        if (stopped := interruption.error()) is not None and code is not Exit.HARM:
            raise stopped
        return code


def _only_robots(plan: ServerPlan, halt: PendingStarts) -> ServerPlan:
    """Return the plan that starts the robots that are owed, because a person asked, and no more."""
    running = {robot.id for robot in plan.robots if robot.running}
    left = tuple(robot for robot in halt.robots if robot.id not in running)
    title, asked = f"robots owed a start ({halt.origin})", ResumeRobots(left, halt.at, asked=True)
    if left:
        line = Disruption(title, Standing.DUE, action=asked, robots=left)
    else:
        line = Disruption(title, Standing.FOUND_OUT, Condition(Code.FOUND_OUT))
    return replace(plan, lines=(), disruptions=(line,))


def _question(plan: ServerPlan) -> str:
    robots = robot_names(plan.disruptions[0].robots)
    return f"start robots that trade: {robots}?"
