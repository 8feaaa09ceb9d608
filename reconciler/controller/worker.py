"""
Keeps one server: one held connection, one pass after another, never two at once.

A pass is what `jtr apply` does for one server: look, plan, do.  Events only wake a worker; what it
does follows from what it sees.
"""

import asyncio
import logging
import math
from contextlib import suppress
from typing import Final

from reconciler.controller import conditions, pass_log, pass_result, requeue
from reconciler.controller.events import applied_news
from reconciler.controller.held_session import HeldSession, farewell
from reconciler.controller.progress import Progress
from reconciler.controller.requeue import QueueState
from reconciler.controller.rest import Rest
from reconciler.controller.shared import SharedState
from reconciler.controller.status import Health, ServerStatus
from reconciler.errors import DriverError, JtrError, LedgerError, ServerUnreachable
from reconciler.model.desired import DesiredServer
from reconciler.model.observed import LogEntry, Robot
from reconciler.model.outcomes import Report
from reconciler.model.plan import Category
from reconciler.model.recorded import NOTHING_RECORDED, Observation, Recorded
from reconciler.model.values import replace
from reconciler.observe.visit import Visit, first_visit, see, view
from reconciler.plan.inputs import Consents
from reconciler.reconcile.apply import apply_one, rename
from reconciler.reconcile.survey import look

LOG: Final = logging.getLogger("reconciler.controller")


class ServerWorker:
    """One server of the documents, from its first pass until the controller stops or drops it."""

    def __init__(self, shared: SharedState, desired: DesiredServer, timing: QueueState) -> None:
        self.desired = desired
        self.timing = timing
        self._shared: Final = shared
        self._held: Final = HeldSession(self._reconnect)
        self._woken: Final = asyncio.Event()
        self._busy: Final = asyncio.Lock()
        self.retired = False
        self._visit: Visit | None = None  # the present one: whatever happens, it is left
        self._again: float | None = None  # while a look goes on: when to look once more
        self._progress: Final = Progress()
        self._task: asyncio.Task[None] | None = None  # of the present pass
        self._robots: tuple[Robot, ...] | None = None  # as seen last by us
        self._recorded = NOTHING_RECORDED  # what the ledger last said
        self._rest: Rest | None = None  # how the last pass left the server, if nothing is open
        self.passes = 0  # that came to an end
        self._seen_at = ""

    # ── from outside ─────────────────────────────────────────────────────────────────────────

    def wake(self, after: float = 0.0) -> None:
        """Make a pass *after* so many seconds, unless one is planned sooner anyway."""
        self._rest = None  # something may have moved that a glance does not show
        self.hasten(after)

    def hasten(self, after: float = 0.0) -> None:
        """Look as it would be looked when it is time, but sooner."""
        due = self._shared.seconds() + after
        if self._again is not None:
            self._again = min(self._again, due)
        else:
            self.timing = replace(self.timing, due=min(self.timing.due, due))
        self._woken.set()

    def declare(self, desired: DesiredServer) -> None:
        """Take another document of the same server; a change is looked at now."""
        if desired != self.desired or self.retired:
            self.desired, self.retired = desired, False
            self.wake()

    def retire(self) -> None:
        """Leave the server after the present pass."""
        self.retired = True
        self._woken.set()

    def nudge(self) -> None:
        """Look whether there is anything to do or to stop for."""
        self._woken.set()

    @property
    def overdue(self) -> float:
        """For how many seconds the next pass has been waiting to begin."""
        late = max(0.0, self._shared.seconds() - self.timing.due)
        return 0.0 if self._progress.under_way else late

    @property
    def stuck(self) -> bool:
        """Whether something must be wrong with this process; see `Progress.stuck`."""
        seen = self._visit.observed if self._visit is not None else None
        waits = self._shared.disruption_budget.waits(self._task)
        return self._progress.stuck(asyncio.get_running_loop().time(), seen, waits=waits)

    async def entries(self) -> tuple[LogEntry, ...] | None:
        """
        Read the server's system log between two passes, over the held connection.

        Raises DriverError when there is none, or when it takes too long: nobody who reads a log
        makes the controller knock at a server.
        """
        name = self.desired.name
        try:
            async with asyncio.timeout(2 * self._shared.context.timeouts.request), self._busy:
                desired = self.desired
                session = await self._held.take(desired)
                if session is None:
                    raise ServerUnreachable(f"{name} is not connected now", "see: jtr status")
                try:
                    return await session.entries()
                finally:
                    if not await self._held.keep(session, desired):
                        self._reconnect()
        except TimeoutError:
            raise ServerUnreachable(
                f"the log of {name} did not come in time: a pass over it may be under way",
                "try again in a moment",
            ) from None

    # ── the loop ─────────────────────────────────────────────────────────────────────────────

    async def run(self) -> None:
        """Look whenever it is time, until the controller stops or the server is dropped."""
        try:
            while await self._turn():
                try:
                    if not await self._glance():
                        await self._pass()
                except Exception as error:  # noqa: BLE001  - must not leave a server alone
                    self._stumbled(error)
        finally:
            await self._held.leave()

    def _stumbled(self, error: Exception) -> None:
        """Note a mistake of this program, and try again later."""
        shared, name = self._shared, self.desired.name
        LOG.error(
            "a pass failed by a mistake in jt-reconciler: %s",
            type(error).__name__,
            exc_info=error,
            extra={"fields": {"server": name}},
        )
        timeouts = shared.context.timeouts
        timing = requeue.failed(
            self.timing, shared.seconds(), timeouts.backoff_most, timeouts, shared.luck
        )
        self.timing = replace(timing, due=min(timing.due, self._woken_for()))
        why = f"internal error ({type(error).__name__}); the controller's log says where"
        status = replace(self._status, health=Health.DEGRADED, reason=why)
        self._show(replace(status, failures=self.timing.failures))
        shared.status_store.passes["failed"] += 1

    async def _turn(self) -> bool:
        """Wait for the next pass; False when there is none."""
        shared = self._shared
        while True:
            if shared.stopping or self.retired:
                return False
            self._woken.clear()
            if not shared.looking():
                await self._let_go()
                await self._woken.wait()
                continue
            wait = self.timing.due - shared.seconds()
            # A clock that was set back must not keep us from looking.
            wait = min(
                wait, max(shared.context.timeouts.backoff_most, shared.context.timeouts.interval)
            )
            if wait <= 0:
                return True
            self._show_next(wait)
            with suppress(TimeoutError):
                async with asyncio.timeout(wait):
                    await self._woken.wait()
                    continue
            return True

    def _show_next(self, wait: float) -> None:
        status, connected = self._status, self._held.connected
        planned = self._shared.moment(wait)
        if (status.next_pass, status.connected) != (planned, connected):
            same = status.connected == connected
            self._show(replace(status, next_pass=planned, connected=connected), renewed=same)

    def _show(self, status: ServerStatus, *, renewed: bool = False) -> None:
        """
        Let people see *status*, in which nothing but times is new if it is *renewed*.

        A worker that was left writes nothing: another server may have its name by now.
        """
        if self.retired:
            return
        servers = self._shared.status_store.servers
        if renewed and status.server in servers:
            servers.renew(status.server, status)
        else:
            servers[status.server] = status

    @property
    def _status(self) -> ServerStatus:
        known = self._shared.status_store.servers.get(self.desired.name)
        return conditions.before_first(self.desired, known)

    async def _pass(self) -> None:
        shared = self._shared
        async with self._busy:
            clock = asyncio.get_running_loop().time
            began = clock()
            self._progress.begin(began)
            self._task = asyncio.current_task()
            self._again, self._rest = math.inf, None
            desired, revision = self.desired, shared.revision
            try:
                consents = self._consents(desired)
                visit = await self._look(desired, consents)
                report = await self._act(visit, consents)
                recorded = await self._recall(visit, report)
                observation = view(visit, shared.context) if visit.observed is not None else None
                lost = await self._take_back(visit)
            finally:
                self._progress.end()
                await self._abandon()
            self._conclude(
                visit,
                report,
                recorded,
                observation,
                revision=revision,
                took=clock() - began,
                lost=lost,
            )

    # ── glancing ─────────────────────────────────────────────────────────────────────────────

    async def _glance(self) -> bool:
        """
        See over the held connection that nothing moved since a pass left nothing to do.

        False when a whole pass is needed: something moved, somebody woke us, it cannot be told, or
        the last pass was long ago.
        """
        rest, shared = self._rest, self._shared
        clock = asyncio.get_running_loop().time
        if rest is None or not rest.holds(self.desired, self._status, shared.newest, clock()):
            return False
        async with self._busy, shared.healthy:
            if (session := self._held.session) is None:
                return False
            self._again, began = math.inf, clock()
            self._progress.begin(began)
            try:
                same = await session.unchanged()
            except DriverError:
                return False  # a pass says what became of it
            finally:
                self._progress.end()
        if not same or self._rest is not rest:
            return False
        self._glanced(clock() - began)
        return True

    def _glanced(self, took: float) -> None:
        shared = self._shared
        timeouts = shared.context.timeouts
        timing = requeue.succeeded(self.timing, shared.seconds(), timeouts, shared.luck)
        self.timing = replace(timing, due=min(timing.due, self._woken_for()))
        moment = shared.context.stamp()
        seen = replace(
            self._status,
            seen_at=moment,
            last_pass=moment,
            last_success=moment,
            next_pass=shared.moment(self.timing.due - shared.seconds()),
            pass_seconds=round(took, 3),
        )
        self._show(seen, renewed=True)
        pass_log.glanced(shared.status_store, self.desired.name, took)
        self.passes += 1

    # ── looking ──────────────────────────────────────────────────────────────────────────────

    async def _look(self, desired: DesiredServer, consents: Consents) -> Visit:
        shared = self._shared
        context = shared.pass_context()
        async with shared.sick if self.timing.failures else shared.healthy:
            self._visit = visit = first_visit(desired)
            visit.session = await self._held.take(desired)
            visit.opened_at = self._held.opened_at
            held = visit.session is not None
            await look(visit, shared.state, consents, context)
            failure = visit.plan.failure
            if held and isinstance(failure, DriverError) and failure.transient:
                # The connection was held for long; that it is dead says nothing of the server.
                await visit.close()
                self._visit = visit = first_visit(desired)
                await look(visit, shared.state, consents, context)
            elif held and visit.observed is None and isinstance(failure, LedgerError):
                # Nothing can be planned; but robots that stop are noticed all the same.
                visit.recorded = self._recorded
                with suppress(JtrError):
                    await see(visit, context)
        shared.judge(visit)
        return visit

    def _consents(self, desired: DesiredServer) -> Consents:
        shared, now = self._shared, self._shared.seconds()
        resting = {}
        for code, healing in self.timing.healing.items():
            if why := requeue.rests(healing, now, shared.context.timeouts):
                resting[f"{desired.name}/{code}"] = why
        return Consents(quiet=shared.hush(desired.target), resting=resting)

    # ── doing ────────────────────────────────────────────────────────────────────────────────

    async def _act(self, visit: Visit, consents: Consents) -> Report:
        shared = self._shared
        # A pass's own: one for all passes would never forget that Vault was away, and knows no
        # login with which robots that we stopped can be started while it is.
        context = shared.pass_context()
        if not shared.acting() or context.ledger is None:
            return Report(visit.plan)
        try:
            await rename([visit], context)
        except JtrError as error:
            return Report(visit.plan, failure=error)
        return await apply_one(
            visit,
            consents,
            context,
            shared.brake,
            gate=shared.gate,
            disruption_budget=shared.disruption_budget,
        )

    async def _abandon(self) -> None:
        """Leave a session that a pass did not give back: it failed, or was cut off."""
        visit, self._visit = self._visit, None
        if visit is not None and visit.session is not None:
            session, visit.session = visit.session, None
            await farewell(session)

    async def _recall(self, visit: Visit, report: Report) -> Recorded:
        """Return what the ledger knows now: what was done may have left debts."""
        ledger = self._shared.context.ledger
        if not report.outcomes or ledger is None:
            return visit.recorded
        try:
            return await asyncio.to_thread(ledger.look, visit.desired.target, visit.desired.name)
        except JtrError:
            return visit.recorded  # what keeps it from being read is in the next pass's plan

    async def _take_back(self, visit: Visit) -> bool:
        """Hold the session for the next pass, not the values of secrets; whether it had ended."""
        session, visit.session = visit.session, None
        self._held.opened_at = visit.opened_at
        visit.forget_values()
        return session is not None and not await self._held.keep(session, visit.desired)

    def _reconnect(self) -> None:
        """Look again soon: it may have fallen, and nobody is registered there now."""
        self.wake(self._shared.context.timeouts.backoff * self._shared.luck())

    async def _let_go(self) -> None:
        """Leave the server while another controller acts."""
        async with self._busy:
            if (session := await self._held.take(self.desired)) is not None:
                await session.close()

    # ── concluding ───────────────────────────────────────────────────────────────────────────

    def _conclude(
        self,
        visit: Visit,
        report: Report,
        recorded: Recorded,
        seen: Observation | None,
        *,
        revision: str,
        took: float,
        lost: bool,
    ) -> None:
        shared, desired = self._shared, visit.desired
        now = shared.context.now()
        failing = pass_result.fails(report)
        if lost and not failing:
            self._reconnect()
        undisturbed = self._again == math.inf  # who woke us meanwhile wants a whole pass
        timing = self._timed(visit, report, failing=failing, revision=revision)
        stopped = self._unasked(recorded, seen)
        timing = replace(timing, stopped=tuple(robot.id for robot in stopped))
        timing = pass_result.healed(timing, report, shared.seconds(), shared.context.timeouts)
        fresh = [robot for robot in stopped if robot.id not in self.timing.stopped]
        pass_log.robots_stopped(shared.status_store, desired.name, fresh)
        drifting = {line.exchange for line in report.plan.select(Category.DRIFT) if line.asks}
        one = conditions.Pass(
            desired,
            report,
            recorded,
            seen,
            now,
            shared.context.over_by(),
            contested=tuple(
                code
                for code, healing in timing.healing.items()
                if code in drifting and requeue.contested(healing)
            ),
            unasked=stopped,
            connected=self._held.connected,
            secret_ages=pass_result.ages(visit.sources, now),
            outgoing=visit.observed.log.outgoing if visit.observed is not None else (),
        )
        before = self._status
        status = conditions.after(one, before)
        pass_log.drifted(desired.name, before.drifting, status.drifting)
        if status.outgoing != before.outgoing or pass_result.pushed(report):
            shared.keys_moved.set()
        moment = now.isoformat(timespec="seconds")
        self.timing = timing
        status = replace(
            status,
            server=self.desired.name,  # that of today: it may have been renamed meanwhile
            judged=desired == self.desired,
            last_pass=moment,
            last_success=status.last_success if failing else moment,
            pass_seconds=round(took, 3),
            failures=timing.failures,
        )
        self._show(status)
        if not self.retired:
            shared.status_store.reports[status.server] = pass_result.kept(report)
        result = "failed" if failing else str(status.health)
        pass_log.passed(shared.status_store, report, status, result, took)
        self.passes += 1
        self._recorded = recorded
        if undisturbed and pass_result.at_rest(desired, report, recorded, status):
            lasts = min(shared.context.timeouts.resync, pass_result.steady(desired, now))
            until = asyncio.get_running_loop().time() + lasts
            self._rest = Rest.after(visit, status, until)
        left = pass_result.left(desired, recorded, status.robots)
        shared.disturbed(desired, left, well=pass_result.undisturbed(report, recorded))
        shared.tell(applied_news(desired, report, now.isoformat()))
        shared.dirty()

    def _timed(self, visit: Visit, report: Report, *, failing: bool, revision: str) -> QueueState:
        shared, now = self._shared, self._shared.seconds()
        timeouts = shared.context.timeouts
        if failing:
            most = pass_result.longest(report, timeouts)
            timing = requeue.failed(self.timing, now, most, timeouts, shared.luck)
        else:
            timing = requeue.succeeded(self.timing, now, timeouts, shared.luck)
            timing = replace(timing, revision=revision)
        sooner = pass_result.sooner(visit.desired, report, now, timeouts, settled_in=visit.again_in)
        return replace(timing, due=min([timing.due, self._woken_for(), *sooner]))

    def _woken_for(self) -> float:
        """Return when to look at what became new during the look that ends now."""
        again, self._again = self._again, None
        return math.inf if again is None else again

    def _unasked(self, recorded: Recorded, seen: Observation | None) -> tuple[Robot, ...]:
        if seen is None:
            return tuple(r for r in self._status.stopped_robots if r.id in self.timing.stopped)
        known = recorded.observation
        if self._robots is not None:
            before, since = self._robots, self._seen_at
        elif known is not None:
            before, since = known.robots, known.at
        else:
            before, since = (), ""
        self._robots, self._seen_at = seen.robots, seen.at
        ours = pass_result.ours(recorded, since)
        return conditions.unasked(self.timing.stopped, before, seen.robots, ours)
