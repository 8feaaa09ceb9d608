"""`jtr apply`: make the servers as the documents say."""

import asyncio
import sys
from collections.abc import Callable, Sequence

import click
from msgspec import Struct

from reconciler import bootstrap
from reconciler.apply.circuit_breaker import CircuitBreaker
from reconciler.apply.disruption_budget import DisruptionBudget
from reconciler.cli import commands, consent, options, output, told_costs
from reconciler.cli.expectation import Expectation, Proposed, expectation, proposed, show, told
from reconciler.cli.origin import job_here, origin_of
from reconciler.cli.prompt import confirm
from reconciler.cli.settings_source import SettingsSource, settings_options
from reconciler.errors import Blocked, Exit, UsageError, worst
from reconciler.model.actions import InvalidateCache, RebootServer, RestartRobots, ResumeRobots
from reconciler.model.conditions import Code, Condition
from reconciler.model.desired import DesiredState
from reconciler.model.origin import Origin
from reconciler.model.plan import Category, Line, Plan, ServerPlan, Standing
from reconciler.model.proposals import Proposal
from reconciler.model.values import replace
from reconciler.model.wording import counted
from reconciler.observe.context import PassContext
from reconciler.observe.visit import Visit
from reconciler.plan.inputs import Consents
from reconciler.reconcile.apply import apply_all
from reconciler.reconcile.survey import plan_of, survey
from reconciler.render.escape import plain
from reconciler.render.layout import View
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
@click.option(
    "--expect-proposed",
    is_flag=True,
    help="Apply only what merged pull requests proposed (`jtr plan --recorded --propose`).",
)
@click.option(
    "--allow-rollback",
    is_flag=True,
    help="With --expect-proposed: this checkout need not come after what was applied last.",
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
    expect_proposed: bool,
    allow_rollback: bool,
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

    PATH is the current directory unless given.  Without a terminal it needs --auto-approve,
    --expect or --expect-proposed.  None of them corrects drift, takes over what somebody else
    connected, or accepts a changed address: these have their own options.  What a server would get
    that it never got needs --approve-recipient, --expect or --expect-proposed, or a policy.
    """
    renderer = plan_renderer(form)
    terminal = sys.stdin.isatty() and sys.stdout.isatty() and renderer.live
    if expect and expect_proposed:
        raise UsageError("--expect and --expect-proposed name two plans", "give one of them")
    if allow_rollback and not expect_proposed:
        raise UsageError("--allow-rollback belongs to --expect-proposed", "leave it out")
    if not (auto_approve or expect or expect_proposed or terminal):
        raise UsageError(
            "nobody is there to approve the plan", "give --expect PLANID or --auto-approve"
        )
    expected: Expectation | None = expectation(expect) if expect else None
    state, settings = source.inputs(*paths)
    state, consents = asked.of(state)
    if expected is not None:
        expected.check(state)
    with bootstrap.prepared(
        settings, "apply", parallelism=parallelism, writes=True, begin=terminal
    ) as context:
        told_of: list[Proposal] = []
        if expect_proposed:
            expected = merged_proposals(
                context, state, paths, told_of.append, allow_rollback=allow_rollback
            )
        if expected is not None:
            agreed = consents.recipients | expected.agreed(state)
            consents = replace(consents, recipients=agreed)
        consents = bootstrap.beside_controller(settings, context, state, consents)
        job = ApplyJob(
            state=state,
            consents=consents,
            context=context,
            origin=lambda asked: origin_of(job_here(), paths, next(iter((*asked, *told_of)), None)),
            renderer=renderer.seen(view),
            view=view,
            asks=terminal and not auto_approve,
            expected=expected,
            most=max_disruptive,
            skip=on_unreachable == "skip",
            detailed=detailed_exitcode,
        )
        return run(job.run)


def merged_proposals(
    context: PassContext,
    state: DesiredState,
    paths: Sequence[str],
    about: Callable[[Proposal], None] = lambda _: None,
    *,
    allow_rollback: bool = False,
) -> Expectation:
    """Return what merged pull requests proposed, once it fits who would get what; *about* whom."""

    async def looked_up(_: Interruption) -> Proposed:
        return await asyncio.to_thread(
            proposed, context.ledger, state, paths, allow_rollback=allow_rollback
        )

    found = run(looked_up)
    about(found.merged.newest)
    found.check(state)
    say(f"expecting what {told(found.merged.newest)} proposed")
    return found


class ApplyJob(Struct, frozen=True, kw_only=True):
    """
    One apply, from the look at the servers to the report.

    `origin` is told which proposals ask for what is about to be done, the newest first, and says
    where that comes from.
    """

    state: DesiredState
    consents: Consents
    context: PassContext
    origin: Callable[[Sequence[Proposal]], Origin]
    renderer: PlanRenderer
    view: View
    asks: bool
    expected: Expectation | None
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
        await self._note_begun()
        if self.asks:
            wanted = plan.actions
            await self._ask(visits)
            plan = plan_of(visits, self.state, skip_unreachable=self.skip)
            if wanted and not plan.actions:
                output.show("Cancelled: nothing was written.\n")
                return worst([Exit.BLOCKED, *(server.exit_code for server in plan)])
        asked = () if self.expected is None else tuple(reversed(self.expected.asked(plan)))
        context = replace(self.context, origin=self.origin(asked), outrun=self._outrun)
        brake = CircuitBreaker()
        interruption.on_first = lambda: brake.stop("interrupted")
        sent = bool(plan.actions)
        busy = sum(bool(visit.plan.actions) for visit in visits)
        does = f"applying {counted(len(plan.actions), 'action')} to {counted(busy, 'server')}"
        with output.progress(does, busy, quiet=self.view.quiet) as watch:
            budget = DisruptionBudget(self.most)
            reports = await apply_all(visits, self.consents, context, brake, budget, watch=watch)
        reports = [report for report in reports if report.plan in plan.servers]
        code = worst(report.exit_code for report in reports)
        if code is Exit.DONE:
            await self._note_applied(plan, visits, sent=sent)
        code = self._final(plan, code)
        stopped = interruption.error()
        now = bootstrap.now()
        if stopped is None and not sent and code in (Exit.DONE, Exit.CHANGES) and self._settled:
            output.show(self.renderer.already(plan, code, at=now))
            return code
        if stopped is not None and code not in output.GRAVE:
            output.show(self.renderer.done(plan, reports, stopped.exit_code, at=now))
            raise stopped
        with output.concluding(code):
            output.show(self.renderer.done(plan, reports, code, at=now))
        return code

    @property
    def _settled(self) -> bool:
        return self.expected is not None and self.expected.settled

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
        if self.expected is None or self.expected.fits(plan):
            return None
        code = worst(server.exit_code for server in plan)
        if (
            not plan.actions
            and code is Exit.DONE
            and (not self._left(plan) or await self._was_applied(self.expected.ids))
        ):
            await self._note_begun()
            code = self._final(plan, code)
            output.show(self.renderer.already(plan, code, at=bootstrap.now()))
            return code
        say(f"the plan is not the expected one: it is {plan.id}")
        show(self.expected.moved(plan))
        code = worst([Exit.BLOCKED, code])
        if not self.renderer.live:
            output.show(self.renderer.refused(plan, code, at=bootstrap.now()))
        return code

    async def _was_applied(self, ids: Sequence[str]) -> bool:
        """Whether this ledger knows that one was done to its end: what is open came later."""
        if self.context.ledger is None:
            return False
        return bool(set(ids) & set(await asyncio.to_thread(self.context.ledger.applied)))

    async def _note_begun(self) -> None:
        """Note what is in force from now on: before anything is done, for whoever comes later."""
        if self.expected is not None and self.context.ledger is not None:
            await asyncio.to_thread(self.expected.begun, self.context.ledger)

    def _outrun(self) -> Blocked | None:
        """Return why this is overtaken by what somebody else began to apply.  Blocking."""
        if self.expected is None or self.context.ledger is None:
            return None
        return self.expected.outrun(self.context.ledger)

    async def _note_applied(self, plan: Plan, visits: Sequence[Visit], *, sent: bool) -> None:
        ledger = self.context.ledger
        if ledger is None:
            return
        if sent:
            await asyncio.to_thread(ledger.note_applied, plan.id)
        # What only waits for its time was agreed to as well, and is still to come.
        later = any(server.later for server in plan) or any(map(_held_back, visits))
        later = later or any(map(_restarts_later, plan))
        if self.expected is not None and not later:
            await asyncio.to_thread(self.expected.applied, ledger)

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
                    line = replace(line, standing=Standing.HELD, condition=_DECLINED)  # noqa: PLW2901
            lines.append(line)
        visit.plan = replace(plan, disruptions=tuple(lines))


def _held_back(visit: Visit) -> bool:
    """Whether an operator's pause, of which no reviewer knew, holds something back."""
    suspension = visit.desired.suspend
    return suspension is not None and suspension.operator and visit.plan.differs


def _restarts_later(server: ServerPlan) -> bool:
    """Whether robots are restarted, or started again, once what stands against it is over."""
    return any(
        line.kind is None and line.standing is Standing.HELD and line.to_come
        for line in server.disruptions
    )


_DECLINED = Condition(Code.DECLINED, "declined")
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
