"""
The second half of a pass: do what the plans say, each server in its own order.

`apply/` holds the only modules that change servers.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import (
    AbstractContextManager,
    ExitStack,
    asynccontextmanager,
    nullcontext,
    suppress,
)
from datetime import datetime
from functools import partial
from itertools import groupby, takewhile

from reconciler.apply import credentials
from reconciler.apply.circuit_breaker import CircuitBreaker, CircuitOpen
from reconciler.apply.credentials import MEANWHILE, Writes
from reconciler.apply.disruption_budget import DisruptionBudget
from reconciler.apply.execution import Execution
from reconciler.apply.requests import RequestRunner
from reconciler.apply.robots import RobotStarter
from reconciler.errors import DriverError, InternalError, JtrError, WindowClosed
from reconciler.ledger import Conflict
from reconciler.ledger.lease import Lease, kept
from reconciler.ledger.request_state import newer, pending
from reconciler.model.actions import (
    Action,
    DeleteExchange,
    InvalidateCache,
    RebootServer,
    RestartRobots,
    ResumeRobots,
    WriteExchange,
)
from reconciler.model.desired import RequestKind
from reconciler.model.outcomes import Aftermath, Outcome, Report, Result
from reconciler.model.plan import Disruption, Standing
from reconciler.model.recorded import (
    Observation,
    Recorded,
    Request,
    Stage,
)
from reconciler.model.values import replace
from reconciler.observe.context import PassContext
from reconciler.observe.visit import Visit, see, view
from reconciler.plan.inputs import Consents
from reconciler.plan.recipients import receiving
from reconciler.reconcile.record import note_seen, unmoved
from reconciler.reconcile.watch import Watch, nobody

# What stops robots or loses their data: few servers at a time, after their own credentials.
LATER = (RestartRobots, InvalidateCache, RebootServer)
DEEDS = (Result.DONE, Result.NOT_VERIFIABLE)


async def apply_all(
    visits: Sequence[Visit],
    consents: Consents,
    context: PassContext,
    brake: CircuitBreaker,
    disruption_budget: DisruptionBudget | None = None,
    *,
    watch: Watch = nobody,
) -> list[Report]:
    """
    Apply every visit's plan, each server in its own order, at most `parallelism` at once.

    *disruption_budget* decides how many servers at a time have their robots stopped (default: one).
    *watch* is told of each server with something to do when it begins, and when it is done.
    """
    gate = asyncio.Semaphore(context.parallelism)
    disruption_budget = disruption_budget or DisruptionBudget()
    await rename(visits, context)

    async def one(visit: Visit) -> Report:
        busy = bool(visit.plan.actions)
        if busy:
            watch(visit.desired.name, True)
        try:
            return await apply_one(
                visit, consents, context, brake, gate=gate, disruption_budget=disruption_budget
            )
        finally:
            if busy:
                watch(visit.desired.name, False)

    return list(await asyncio.gather(*map(one, visits)))


async def rename(visits: Sequence[Visit], context: PassContext) -> None:
    """Note new names of servers that stayed where they are, so that old names become free."""
    for visit in visits:
        known, server = visit.recorded.identity, visit.desired
        renamed = known is not None and known.target == server.target and known.name != server.name
        if renamed and context.ledger is not None and not visit.plan.held_code:
            await asyncio.to_thread(context.ledger.pin, server.target, server.name)


async def apply_one(
    visit: Visit,
    consents: Consents,
    context: PassContext,
    brake: CircuitBreaker,
    *,
    gate: asyncio.Semaphore,
    disruption_budget: DisruptionBudget,
) -> Report:
    """
    Apply one server's plan and remember what was seen.

    A failure stops the later actions of this server only; the rest of them are reported as not
    attempted.
    """
    ledger = context.ledger
    if visit.plan.failure or visit.observed is None or visit.plan.held_code or ledger is None:
        return Report(visit.plan)
    # A consent moves only what was planned as the same server: not one that another new one's
    # name happens to have belonged to.
    moves = visit.desired.name in consents.targets and visit.recorded.identity is not None
    execution = Execution(visit, context, brake, ledger)
    apply = ServerApply(execution, moves=moves)
    # Who only looked needs no place: all places may wait for one server whose write is in doubt.
    place = gate if apply.asks else nullcontext()
    try:
        async with place:
            await apply.credentials_phase()
            if not (disturbs := apply.disturbs):  # at once, or all that was seen would be old
                await apply.record_phase()
        if disturbs:
            await apply.disruptive_phase(disruption_budget)
            async with place:
                await apply.record_phase()
    except JtrError as error:
        return Report(visit.plan, apply.finished(), error)
    except Exception as error:  # noqa: BLE001  - the others go on, and what was done is told
        return Report(visit.plan, apply.finished(), InternalError(error))
    return Report(visit.plan, apply.finished())


class ServerApply:
    def __init__(self, execution: Execution, *, moves: bool) -> None:
        self._execution = execution
        self._moves = moves
        self._planned_as = execution.visit.recorded.identity
        self._outcomes: list[Outcome] = []
        self._left = list(execution.visit.plan.actions)
        self._parting: tuple[Recorded, Observation] | None = None  # to be noted with the lease
        self._recorded = False

    @property
    def asks(self) -> bool:
        return bool(self._left) or bool(self._unfinished())

    @property
    def disturbs(self) -> bool:
        """Whether something that stops robots is left to do."""
        return bool(self._left) and not self._failed()

    def _unfinished(self) -> list[Disruption]:
        visit = self._execution.visit
        handled = visit.recorded.requests.handled
        return [line for line in visit.plan.disruptions if _to_note(line, handled)]

    async def credentials_phase(self) -> None:
        """Bind the server, settle what earlier passes left open, and do its credentials."""
        unfinished = self._unfinished()
        mine = [action for action in self._left if not isinstance(action, LATER)]
        if not mine and not unfinished and await asyncio.to_thread(self._bound):
            return
        writes = None
        if not unfinished and (first := _writes(takewhile(_is_write, mine))):
            writes = Writes(self._execution, first)
            await writes.ask_first()
        async with self._lease(partial(self._begin, writes)):
            await self._settle(unfinished)
            await self._do(mine, writes)
            if not self.disturbs:
                self._parting = await self._look_back()

    def _begin(self, writes: Writes | None) -> Lease:
        """
        Bind the server and take its lease; note in the same commit what is about to be written.

        Where another process was here meanwhile, each of it comes for itself, and the intents only
        after a look at what that one did.  Blocking.
        """
        with suppress(Conflict):
            return self._entered(self._execution.ledger.together(), writes)
        if writes is not None:
            writes.forget()
        return self._entered(nullcontext(), None)

    def _entered(self, noting: AbstractContextManager[None], writes: Writes | None) -> Lease:
        with ExitStack() as undo:
            with noting:
                self._bind()
                undo.push(lease := self._taken())
                if writes is not None:
                    writes.note()
            undo.pop_all()
        return lease

    def _taken(self) -> Lease:
        """Take the server's lease."""
        ledger, uid = self._execution.ledger, self._execution.visit.uid
        with ExitStack() as undo:
            lease = undo.enter_context(ledger.lease(uid))
            # Whoever forgets a server holds its lease: what was pinned before may be gone.
            ledger.check_known(uid)
            undo.pop_all()
        return lease

    def _bind(self) -> None:
        """Bind the server to its address and account, and note what it is about to receive."""
        execution = self._execution
        desired, visit, known = execution.desired, execution.visit, self._planned_as
        identity = execution.ledger.pin(
            desired.target, desired.name, move=self._moves, new=known is None
        )
        if known is not None and known.uid != identity.uid:
            raise Conflict(f"{desired.name} was forgotten since it was planned", "plan again")
        visit.recorded = replace(visit.recorded, identity=identity)
        received = receiving(desired, self._left, visit.recorded, visit.agreed_finds)
        if received != visit.recorded.received:
            execution.ledger.receive(visit.uid, received)

    def _bound(self) -> bool:
        """Bind the server, unless an earlier run left what the ledger could not take; blocking."""
        execution = self._execution
        left, ledger_uid = execution.context.unrecorded, execution.ledger.ledger_uid
        if left is not None and left.waiting(ledger_uid, execution.visit.uid):
            return False
        with suppress(Conflict), execution.ledger.together():
            self._bind()
            return True
        self._bind()  # another process was here meanwhile
        return True

    async def disruptive_phase(self, disruption_budget: DisruptionBudget) -> None:
        """Do what stops robots, when this server's turn has come."""
        try:
            execution = self._execution
            turn = disruption_budget.turn(execution.desired.target)
            async with turn, self._lease(self._taken):
                await asyncio.to_thread(execution.ledger.requests(execution.visit.uid).load)
                with disruption_budget.judging(execution, self._outcomes):
                    await self._do(list(self._left))
        except CircuitOpen as opened:
            self._outcomes.append(_failure(self._left.pop(0), opened))

    def finished(self) -> tuple[Outcome, ...]:
        """Return the outcomes so far, and `not attempted` for every later action."""
        return (*self._outcomes, *(Outcome(a, Result.NOT_ATTEMPTED) for a in self._left))

    def _failed(self) -> Outcome | None:
        return next((outcome for outcome in self._outcomes if outcome.code), None)

    @asynccontextmanager
    async def _lease(self, take: Callable[[], Lease]) -> AsyncIterator[None]:
        execution = self._execution
        async with execution.brake.process():
            lease = await asyncio.to_thread(take)
            async with kept(lease, execution.context.timeouts.lease, self._leave) as check:
                execution.check_lease = check
                yield

    async def _do(self, actions: Sequence[Action], writes: Writes | None = None) -> None:
        for alike, some in groupby(actions, _is_write):
            if self._failed():
                break
            if alike:
                await self._write(_writes(some), writes)
                continue
            for action in some:
                if self._failed():
                    break
                self._left.remove(action)
                self._outcomes.append(await self._attempt(action))
        if (end := await self._execution.late_harm()) is not None:
            self._note_late(end)
        if self._execution.unrecorded is not None:
            raise self._execution.unrecorded

    def _note_late(self, end: Aftermath) -> None:
        """Let the last write that was sent have done what came of them all."""
        sent = [n for n, one in enumerate(self._outcomes) if one.result in DEEDS or one.sent]
        last = sent[-1] if sent else -1  # one of several fields was deleted, and the rest was not
        outcome = self._outcomes[last]
        self._outcomes[last] = self._execution.verdict(outcome.action, end) or outcome

    async def _write(self, actions: Sequence[WriteExchange], writes: Writes | None) -> None:
        if writes is None:
            writes = Writes(self._execution, actions)
            await writes.ask_first()
        try:
            await writes.send()
        except (CircuitOpen, JtrError) as error:
            rest = [outcome for outcome in writes.outcomes if outcome.action != writes.at]
            writes.outcomes = [*rest, _failure(writes.at, error)]
        finally:  # what was done is told, whatever ended it
            self._outcomes += writes.outcomes
            tried = {outcome.action for outcome in writes.outcomes} | {writes.at}
            self._left = [action for action in self._left if action not in tried]

    async def _attempt(self, action: Action) -> Outcome:
        before = self._execution.sends
        try:
            outcome = await self._deed(action)
        except (CircuitOpen, JtrError) as error:
            outcome = _failure(action, error)
        return replace(outcome, sent=outcome.sent or self._execution.sends > before)

    async def _deed(self, action: Action) -> Outcome:
        execution = self._execution
        robots = RobotStarter(execution)
        match action:
            case WriteExchange():
                raise AssertionError  # several at a time: see `_write`
            case DeleteExchange():
                async with execution.turn():
                    before = await execution.fresh(anew=False)
                    if await credentials.done_meanwhile(execution, action):
                        return Outcome(action, Result.DONE, MEANWHILE)
                    return await credentials.delete(execution, action, before)
            case ResumeRobots():
                return await robots.resume(action)
            case RestartRobots():
                return await robots.restart(action)
            case InvalidateCache() | RebootServer():
                runner = RequestRunner(execution, robots)
                if outcome := await runner.done_meanwhile(action):
                    return outcome
                if isinstance(action, InvalidateCache):
                    return await runner.invalidate(action)
                return await runner.reboot(action)

    # ── what earlier passes left ─────────────────────────────────────────────────────────

    async def _settle(self, lines: Sequence[Disruption]) -> None:
        """Note what the plan found out about requests and robots; nothing is sent for it."""
        execution = self._execution
        if execution.context.unrecorded is not None:
            await asyncio.to_thread(
                execution.context.unrecorded.pick_up, execution.ledger, execution.visit.uid
            )
        book = execution.ledger.requests(execution.visit.uid)
        planned = pending(execution.visit.recorded.requests)
        # Robots last: a request that is closed may leave some owed that run already.
        for line in sorted(lines, key=lambda line: line.kind is None):
            requests = await asyncio.to_thread(book.load)
            if line.standing is not Standing.FOUND_OUT:
                await asyncio.to_thread(book.note, _noted(line))
            elif line.kind is None:
                # Another process may have stopped others since, before it gave its lease away.
                halt = requests.halt
                if halt is not None and planned is not None and halt.at == planned.at:
                    await RobotStarter(execution).settle(halt)
            elif requests.open is not None:
                outcome = await RequestRunner(execution, RobotStarter(execution)).settle(
                    requests.open
                )
                if outcome is not None:
                    self._outcomes.append(outcome)
        execution.visit.recorded = replace(
            execution.visit.recorded, requests=await asyncio.to_thread(book.load)
        )

    # ── remembering ──────────────────────────────────────────────────────────────────────

    async def record_phase(self) -> None:
        """Write down what was seen last, what it settles, what was found, and what was done."""
        if not self._recorded:
            known, observation = await self._look_back()
            await asyncio.to_thread(self._record, _nothing, known, observation)

    async def _look_back(self) -> tuple[Recorded, Observation]:
        """Return what the ledger knows by now, and what the server showed last."""
        if self._execution.unrecorded is not None:
            raise self._execution.unrecorded
        visit, context = self._execution.visit, self._execution.context
        if self._outcomes and visit.session is not None and not self._execution.lately_read:
            with suppress(DriverError):
                await see(visit, context)
        observation = view(visit, context)
        if not self._outcomes:
            return visit.recorded, observation
        return await context.asked(self._known), observation

    def _known(self) -> Recorded:
        desired = self._execution.desired
        return self._execution.ledger.load(desired.target, desired.name)

    def _leave(self, lease: Lease) -> None:
        """Give the lease back, and note in the same commit what is to be recorded; blocking."""

        give_back = partial(lease.__exit__, None, None, None)
        if self._parting is None:
            give_back()
            return
        try:
            self._record(give_back, *self._parting)
        except BaseException:
            give_back()
            raise

    def _record(
        self,
        last: Callable[[], object],
        known: Recorded,
        observation: Observation,
    ) -> None:
        """
        Note all of it together with what is noted *last*; blocking.

        A lease is given back last: a store may write one document after the other, and nobody else
        may work here before all are there.
        """
        execution, moves = self._execution, self._moves
        try:
            with execution.ledger.together():
                note_seen(execution, known, observation, self._outcomes, moves=moves)
                last()
        except Conflict:  # another process noted something meanwhile: each for itself then
            again = unmoved(self._known(), known)
            note_seen(execution, again, observation, self._outcomes, moves=moves)
            last()
        self._recorded = True


def _nothing() -> None:
    """Note nothing else."""


def _is_write(action: Action) -> bool:
    return isinstance(action, WriteExchange)


def _writes(actions: Iterable[Action]) -> list[WriteExchange]:
    return [action for action in actions if isinstance(action, WriteExchange)]


def _failure(action: Action, error: CircuitOpen | JtrError) -> Outcome:
    kept = isinstance(error, CircuitOpen | WindowClosed)
    result = Result.NOT_ATTEMPTED if kept else Result.FAILED
    return Outcome(action, result, error.what, error.remedy, error.exit_code)


def _to_note(line: Disruption, handled: Mapping[RequestKind, datetime]) -> bool:
    """Whether the plan found out something that is not in the ledger yet."""
    if line.standing is Standing.FOUND_OUT:
        return True
    if line.standing not in (Standing.SATISFIED, Standing.BASELINED):
        return False
    return (
        line.kind is not None
        and line.instant is not None
        and newer(handled, line.kind, line.instant)
    )


def _noted(line: Disruption) -> Request:
    if line.kind is None or line.instant is None:
        raise AssertionError
    stage = Stage.SATISFIED if line.standing is Standing.SATISFIED else Stage.BASELINED
    return Request(line.kind, line.instant, "", stage, evidence=line.why)
