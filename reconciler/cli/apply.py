"""`jtr apply`: make the servers as the documents say."""

import asyncio
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import click

from reconciler import bootstrap
from reconciler.apply.circuit_breaker import CircuitBreaker
from reconciler.apply.disruption_budget import DisruptionBudget
from reconciler.cli import commands, consent, options, output, told_costs
from reconciler.cli.prompt import confirm
from reconciler.cli.settings_source import SettingsSource, settings_options
from reconciler.documents.schema import PLAN, valid
from reconciler.errors import Blocked, Exit, UsageError, worst
from reconciler.model.actions import InvalidateCache, RebootServer, RestartRobots, ResumeRobots
from reconciler.model.codec import Malformed
from reconciler.model.desired import DesiredState
from reconciler.model.plan import (
    PLAN_ID,
    Category,
    Line,
    Plan,
    ServerPlan,
    Standing,
    recipients_digest,
)
from reconciler.model.recipients import Recipient
from reconciler.model.wording import counted
from reconciler.observe.context import PassContext
from reconciler.observe.visit import Visit
from reconciler.plan.inputs import Consents
from reconciler.reconcile.apply import apply_all
from reconciler.reconcile.survey import plan_of, survey
from reconciler.render.escape import plain
from reconciler.render.json_values import to_json
from reconciler.render.layout import View
from reconciler.render.plan_json import FILE_LIMIT, plan_document, read_sealed
from reconciler.render.registry import PlanRenderer, plan_renderer
from reconciler.system.console import say
from reconciler.system.descriptors import make_room_for
from reconciler.system.interrupts import Interruption, run


@click.command("apply")
@commands.paths
@click.option("--auto-approve", is_flag=True, help="Do not ask.  Never includes drift.")
@click.option(
    "--expect",
    metavar="PLANID|FILE",
    default="",
    help="Apply only this plan: its id, or the JSON file that `jtr plan -o json` wrote.",
)
@options.wishes
@options.visiting
@click.option(
    "--on-unreachable",
    type=click.Choice(["fail", "skip"]),
    default="fail",
    show_default=True,
    help="What a server that cannot be reached means; the others go on in any case.",
)
@commands.max_disruptive
@options.plan_output
@options.viewing
@options.detailed
@settings_options
def command(  # noqa: PLR0917  - one parameter per option
    paths: tuple[str, ...],
    asked: options.Wishes,
    auto_approve: bool,
    expect: str,
    parallelism: int,
    on_unreachable: str,
    max_disruptive: int,
    form: str,
    view: View,
    detailed_exitcode: bool,
    source: SettingsSource,
) -> int:
    """
    Make the servers of PATH... as the documents say; shows the plan and asks first.

    PATH is the current directory unless given.  Without a terminal it needs --auto-approve or
    --expect.  Neither of them corrects drift, takes over what somebody else connected, or accepts a
    changed address: these have their own options.  What a server would get that it never got needs
    --approve-recipient or --expect, or a policy.
    """
    renderer = plan_renderer(form)
    terminal = sys.stdin.isatty() and sys.stdout.isatty() and renderer.live
    if not (auto_approve or expect or terminal):
        raise UsageError(
            "nobody is there to approve the plan", "give --expect PLANID or --auto-approve"
        )
    expected = _expectation(expect) if expect else None
    state, settings = source.inputs(*paths)
    state, consents = asked.of(state)
    if expected is not None:
        expected.check(state)
        # Whoever expects a plan saw its recipients, which have just been compared.
        names = frozenset(server.name for server in state.servers)
        consents = replace(consents, recipients=names)
    with bootstrap.prepared(
        settings, "apply", parallelism=parallelism, writes=True, begin=terminal
    ) as context:
        consents = bootstrap.beside_controller(settings, context, state, consents)
        job = _Job(
            state=state,
            consents=consents,
            context=context,
            renderer=renderer.seen(view),
            view=view,
            asks=terminal and not auto_approve,
            expected=expected,
            most=max_disruptive,
            skip=on_unreachable == "skip",
            detailed=detailed_exitcode,
        )
        return run(job.run)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Job:
    state: DesiredState
    consents: Consents
    context: PassContext
    renderer: PlanRenderer
    view: View
    asks: bool
    expected: "_Expected | None"
    most: int  # servers at once whose robots may be stopped
    skip: bool
    detailed: bool

    async def run(self, interruption: Interruption) -> Exit:
        make_room_for(len(self.state.servers))
        consents = self.consents
        if self.asks:
            consents = await consent.agreed(self.state, consents, self.context)
        number = len(self.state.servers)
        text = f"looking at {counted(number, 'server')}"
        with output.progress(text, number, quiet=self.view.quiet) as watch:
            visits = await survey(self.state, consents, self.context, watch=watch)
        try:
            return await self._go_on(visits, interruption)
        finally:
            await asyncio.gather(*(visit.close() for visit in visits))

    async def _go_on(self, visits: Sequence[Visit], interruption: Interruption) -> Exit:
        plan = plan_of(visits, self.state, skip_unreachable=self.skip)
        if self.renderer.live:
            view = told_costs.said_once(self.view, plan, bootstrap.now().date())
            output.show(self.renderer.seen(view).plan(plan, Exit.DONE))
        if (code := await self._refused(plan)) is not None:
            return code
        if self.asks:
            wanted = plan.actions
            await self._ask(visits)
            plan = plan_of(visits, self.state, skip_unreachable=self.skip)
            if wanted and not plan.actions:
                output.show("Cancelled: nothing was written.\n")
                return worst([Exit.BLOCKED, *(server.exit_code for server in plan)])
        brake = CircuitBreaker()
        interruption.on_first = lambda: brake.stop("interrupted")
        sent = bool(plan.actions)
        busy = sum(bool(visit.plan.actions) for visit in visits)
        does = f"applying {counted(len(plan.actions), 'action')} to {counted(busy, 'server')}"
        with output.progress(does, busy, quiet=self.view.quiet) as watch:
            budget = DisruptionBudget(self.most)
            reports = await apply_all(
                visits, self.consents, self.context, brake, budget, watch=watch
            )
        reports = [report for report in reports if report.plan in plan.servers]
        code = worst(report.exit_code for report in reports)
        if sent and code is Exit.DONE and self.context.ledger is not None:
            await asyncio.to_thread(self.context.ledger.note_applied, plan.id)
        code = self._final(plan, code)
        stopped = interruption.error()
        now = bootstrap.now()
        if stopped is None or code in (Exit.HARM, Exit.IN_DOUBT):
            output.show(self.renderer.done(plan, reports, code, at=now))
            return code
        output.show(self.renderer.done(plan, reports, stopped.exit_code, at=now))
        raise stopped

    def _final(self, plan: Plan, code: Exit) -> Exit:
        """Return the command's own code: differences that were left count when asked for."""
        left = code is Exit.DONE and self.detailed and self._left(plan)
        return Exit.CHANGES if left else code

    def _left(self, plan: Plan) -> bool:
        """Whether differences are left alone, because nobody agreed or the server is held."""
        return any(
            line.asks or server.held
            for server in plan
            for category in Category
            for line in server.select(category)
        )

    async def _refused(self, plan: Plan) -> Exit | None:
        if self.expected is None or plan.id == self.expected.id:
            return None
        code = worst(server.exit_code for server in plan)
        if (
            not plan.actions
            and code is Exit.DONE
            and (not self._left(plan) or await self._was_applied(self.expected.id))
        ):
            code = self._final(plan, code)
            output.show(self.renderer.already(plan, code, at=bootstrap.now()))
            return code
        say(f"the plan is not the expected one: it is {plan.id}")
        _show(_differences(self.expected.actions, _actions(plan_document(plan, Exit.DONE))))
        code = worst([Exit.BLOCKED, code])
        if not self.renderer.live:
            output.show(self.renderer.refused(plan, code, at=bootstrap.now()))
        return code

    async def _was_applied(self, plan_id: str) -> bool:
        """Whether this ledger knows that a plan was done to its end: what is open came later."""
        if self.context.ledger is None:
            return False
        return plan_id in await asyncio.to_thread(self.context.ledger.applied)

    async def _ask(self, visits: Sequence[Visit]) -> None:
        """Ask for changes and for drift apart; what is declined is taken out of the plans."""
        plans = [visit.plan for visit in visits]
        changes = _count(plans, Category.CHANGE, asking=False)
        corrections = _count(plans, Category.DRIFT, asking=False)
        drift = _count(plans, Category.DRIFT, asking=True)
        if changes and not await confirm(f"Apply {counted(changes, 'change')}?"):
            _mark(visits, Category.CHANGE, "declined")
        if corrections and not await confirm(
            f"Correct {counted(corrections, 'drifted exchange')}?"
        ):
            _mark(visits, Category.DRIFT, "declined")
        elif drift and await confirm(f"Correct {counted(drift, 'drifted exchange')} as well?"):
            _mark(visits, Category.DRIFT, "")
        for visit in visits:
            await self._ask_robots(visit)

    async def _ask_robots(self, visit: Visit) -> None:
        """Ask for each thing that stops robots, or starts them, on its own, naming them."""
        plan = visit.plan
        if plan.held:
            return
        lines = []
        for line in plan.disruptions:
            if line.ready is not None:
                robots = ", ".join(plain(robot.name) for robot in line.robots) or "no robot"
                does = _DOES[type(line.ready)]
                question = f"{plan.server}: {plain(line.what)} ({does}: {robots})?"
                if not await confirm(question):
                    line = replace(line, standing=Standing.HELD, why="declined")  # noqa: PLW2901
            lines.append(line)
        visit.plan = replace(plan, disruptions=tuple(lines))


_DOES = {
    ResumeRobots: "starts",
    RestartRobots: "stops and starts",
    InvalidateCache: "robots' stored data; stops",
    RebootServer: "stops",
}


def _count(plans: Sequence[ServerPlan], category: Category, *, asking: bool) -> int:
    return sum(
        line.action is not None and bool(line.asks) is asking and not plan.held
        for plan in plans
        for line in plan.select(category)
    )


def _mark(visits: Sequence[Visit], category: Category, asks: str) -> None:
    """Let lines of *category* go ahead, or with *asks* take out those that would."""

    def marked(line: Line) -> Line:
        meant = line.category is category and (line.ready is not None or not asks)
        return replace(line, asks=asks) if meant else line

    for visit in visits:
        visit.plan = replace(visit.plan, lines=tuple(map(marked, visit.plan.lines)))


@dataclass(frozen=True, slots=True)
class _Expected:
    """The plan that may be applied: its id, and what a file told of it, as lines for people."""

    id: str
    recipients: tuple[str, ...] = ()
    actions: tuple[str, ...] = ()

    def check(self, state: DesiredState) -> None:
        """Raise Blocked, before anything is contacted, when the documents name other recipients."""
        recipients = tuple(map(Recipient.of, state.servers))
        if self.id.startswith(f"sha256:{recipients_digest(recipients)}-"):
            return
        say("the documents name other recipients than the expected plan:")
        _show(_differences(self.recipients, _recipients({"recipients": to_json(recipients)})))
        raise Blocked(
            "who would get what is not as in the expected plan: nothing was contacted",
            "look at a new plan, and expect that one",
        )


def _expectation(expected: str) -> _Expected:
    """Read what --expect was given.  Raises UsageError."""
    if PLAN_ID.fullmatch(expected):
        return _Expected(expected)
    try:
        with Path(expected).open("rb") as file:
            document = read_sealed(file.read(FILE_LIMIT + 1))
        if valid(document, PLAN):
            return _Expected(document["planId"], _recipients(document), _actions(document))
    except Malformed as problem:
        raise UsageError(
            f"{plain(expected)} is not what `jtr plan -o json` wrote: {problem}",
            "look at a new plan, and expect that one",
        ) from None
    except (OSError, ValueError):
        pass  # said below
    raise UsageError(
        "--expect takes a plan's id, sha256:..., or the file of `jtr plan -o json`",
        "give one of them, of this version of jtr",
    )


def _recipients(document: dict[str, Any]) -> tuple[str, ...]:
    return tuple(
        f"{one['server']}: {one['url']} (account {one['account']}), "
        f"login {_listed(one['login'])}, values of {_listed(one['paths'])}"
        for one in document["recipients"]
    )


def _listed(references: list[str]) -> str:
    return ", ".join(map(str, references)) or "none"


def _actions(document: dict[str, Any]) -> tuple[str, ...]:
    return tuple(
        _action(server["server"], action)
        for server in document["servers"]
        for action in server["actions"]
    )


def _action(server: str, action: dict[str, Any]) -> str:
    sources = action.get("sources")
    origin = f" from {_listed(sources)}" if sources else ""
    what = action.get("exchange") or action.get("instant") or "robots"
    return f"{server}: {action['kind']} {what}{origin}"


def _differences(known: Sequence[str], present: Sequence[str]) -> list[str]:
    if not known:
        return [f"  now: {row}" for row in present]
    gone = [f"- {row}" for row in known if row not in present]
    return gone + [f"+ {row}" for row in present if row not in known]


def _show(rows: Iterable[str]) -> None:
    for row in rows:
        click.echo(f"     {plain(row, 2000)}", err=True)
