"""
The second half of a pass: do what the plans say, each server in its own order.

`apply/` holds the only modules that change servers.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, nullcontext, suppress
from dataclasses import replace
from datetime import datetime

from reconciler.apply import credentials
from reconciler.apply.audit_gate import ask_first
from reconciler.apply.circuit_breaker import CircuitBreaker, CircuitOpen
from reconciler.apply.disruption_budget import DisruptionBudget
from reconciler.apply.execution import Execution, listed
from reconciler.apply.requests import MEANWHILE, RequestRunner
from reconciler.apply.robots import RobotStarter
from reconciler.errors import DriverError, Exit, InternalError, JtrError, WindowClosed
from reconciler.ledger import Conflict
from reconciler.ledger.lease import held
from reconciler.ledger.request_state import newer, pending
from reconciler.model.actions import (
    Action,
    DeleteExchange,
    InvalidateCache,
    RebootServer,
    RestartRobots,
    ResumeRobots,
    WriteExchange,
    told,
)
from reconciler.model.desired import Presence, RequestKind
from reconciler.model.outcomes import Aftermath, Outcome, Report, Result
from reconciler.model.plan import Disruption, Standing, Status
from reconciler.model.recorded import (
    ExchangeRecord,
    HistoryEntry,
    Observation,
    Recorded,
    Request,
    Stage,
)
from reconciler.observe.context import PassContext
from reconciler.observe.evidence import write_of
from reconciler.observe.visit import Visit, see, view
from reconciler.plan.compare import Shown, is_ours
from reconciler.plan.consequences import remaining
from reconciler.plan.inputs import Consents
from reconciler.plan.recipients import receiving
from reconciler.plan.server import recognised
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
        self._outcomes: list[Outcome] = []
        self._left = list(execution.visit.plan.actions)

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
        execution = self._execution
        desired, visit = execution.desired, execution.visit
        identity = await asyncio.to_thread(
            execution.ledger.pin,
            desired.target,
            desired.name,
            move=self._moves,
            new=visit.recorded.identity is None,
        )
        known = visit.recorded.identity
        if known is not None and known.uid != identity.uid:
            raise Conflict(f"{desired.name} was forgotten since it was planned", "plan again")
        visit.recorded = replace(visit.recorded, identity=identity)
        received = receiving(desired, self._left, visit.recorded)
        if received != visit.recorded.received:
            await asyncio.to_thread(execution.ledger.receive, visit.uid, received)
        unfinished = self._unfinished()
        mine = [action for action in self._left if not isinstance(action, LATER)]
        if not mine and not unfinished and not await asyncio.to_thread(self._waiting):
            return
        async with self._lease():
            await self._settle(unfinished)
            await self._do(mine)

    def _waiting(self) -> bool:
        """Whether an earlier run left what the ledger could not take."""
        execution = self._execution
        left = execution.context.unrecorded
        return left is not None and left.waiting(execution.ledger.ledger_uid, execution.visit.uid)

    async def disruptive_phase(self, disruption_budget: DisruptionBudget) -> None:
        """Do what stops robots, when this server's turn has come."""
        try:
            async with disruption_budget.turn(), self._lease():
                execution = self._execution
                await asyncio.to_thread(execution.ledger.requests(execution.visit.uid).load)
                await self._do(list(self._left))
                failure = self._failed()
                # A closed window, or the brake, says nothing against the next server.
                if failure and failure.result not in (Result.NOT_ATTEMPTED, Result.DONE):
                    why = f"{execution.desired.name}: {failure.result}"
                    disruption_budget.shut(why, execution.desired.target)
        except CircuitOpen as opened:
            self._outcomes.append(
                Outcome(
                    self._left.pop(0),
                    Result.NOT_ATTEMPTED,
                    f"stopped: {opened.why}",
                    code=Exit.BLOCKED,
                )
            )

    def finished(self) -> tuple[Outcome, ...]:
        """Return the outcomes so far, and `not attempted` for every later action."""
        return (*self._outcomes, *(Outcome(a, Result.NOT_ATTEMPTED) for a in self._left))

    def _failed(self) -> Outcome | None:
        return next((outcome for outcome in self._outcomes if outcome.code), None)

    @asynccontextmanager
    async def _lease(self) -> AsyncIterator[None]:
        execution = self._execution
        lease = await asyncio.to_thread(execution.ledger.lease, execution.visit.uid)
        async with held(lease, execution.context.timeouts.lease) as check:
            # Whoever forgets a server holds its lease: what was pinned before may be gone.
            await asyncio.to_thread(execution.ledger.check_known, execution.visit.uid)
            execution.check_lease = check
            yield

    async def _do(self, actions: Sequence[Action]) -> None:
        for action in actions:
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

    async def _attempt(self, action: Action) -> Outcome:
        try:
            return await self._deed(action)
        except CircuitOpen as opened:
            return Outcome(
                action, Result.NOT_ATTEMPTED, f"stopped: {opened.why}", code=Exit.BLOCKED
            )
        except WindowClosed as closed:
            return Outcome(
                action, Result.NOT_ATTEMPTED, closed.what, closed.remedy, closed.exit_code
            )
        except JtrError as error:
            return Outcome(action, Result.FAILED, error.what, error.remedy, error.exit_code)

    async def _deed(self, action: Action) -> Outcome:
        execution = self._execution
        robots = RobotStarter(execution)
        match action:
            case WriteExchange() | DeleteExchange():
                if isinstance(action, WriteExchange):
                    await ask_first(execution, action)
                async with execution.turn():
                    before = await execution.fresh(anew=False)
                    if await credentials.done_meanwhile(execution, action):
                        return Outcome(action, Result.DONE, MEANWHILE)
                    if isinstance(action, DeleteExchange):
                        return await credentials.delete(execution, action, before)
                    return await credentials.write(execution, action, before)
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
        if self._execution.unrecorded is not None:
            raise self._execution.unrecorded
        visit, context = self._execution.visit, self._execution.context
        if self._outcomes and visit.session is not None and not self._execution.lately_read:
            with suppress(DriverError):
                await see(visit, context)
        observation = view(visit, context)
        recorded = visit.recorded
        if self._outcomes:
            recorded = await asyncio.to_thread(
                self._execution.ledger.load, visit.desired.target, visit.desired.name
            )
        for code, record in recorded.exchanges.items():
            rest = remaining(record.debts, observation)
            if rest != record.debts:
                await asyncio.to_thread(
                    self._execution.ledger.settle_debts,
                    visit.uid,
                    code,
                    rest,
                    past_boot=observation.boot,
                )
        for line in visit.plan.lines:
            if line.status is Status.FOUND and line.exchange in visit.values:
                await self._note_find(line.exchange)
        await self._let_go(recorded, observation)
        if _news(visit.recorded.observation, observation, context.remember_every):
            await asyncio.to_thread(self._execution.ledger.observe, visit.uid, observation)
        await asyncio.to_thread(self._execution.ledger.record, visit.uid, self._history())

    def _history(self) -> list[HistoryEntry]:
        context = self._execution.context
        return [
            HistoryEntry(
                context.stamp(),
                context.label,
                told(outcome.action),
                str(outcome.result),
                outcome.detail,
            )
            for outcome in self._outcomes
            if outcome.result is not Result.NOT_ATTEMPTED
        ]

    async def _let_go(self, recorded: Recorded, observation: Observation) -> None:
        """Forget what is ours no longer."""
        visit = self._execution.visit
        for exchange in visit.desired.exchanges:
            record = recorded.exchanges.get(exchange.code, ExchangeRecord(exchange.code))
            # Rows of an exchange that the server does not list are there, but invisible.
            masks = observation.masks.get(exchange.code)
            gone = masks is not None and not any(masks.values())
            whole = Shown.of(observation, exchange.code).is_all(record.written)
            if exchange.presence is Presence.ABSENT and gone and is_ours(record):
                await asyncio.to_thread(self._execution.ledger.deleted, visit.uid, exchange.code)
            elif exchange.presence is Presence.PRESENT and record.deleting and whole:
                # Or what somebody removes later would look like our own unfinished delete.
                await asyncio.to_thread(self._execution.ledger.keep, visit.uid, exchange.code)
        if self._moves:
            declared = {exchange.code for exchange in visit.desired.exchanges}
            for code in recorded.exchanges.keys() & observation.masks.keys() - declared:
                # Approved as it is, and nothing will be written there: ours no longer, or every
                # later plan would ask again whether this is another server.
                if not recognised(Shown.of(observation, code), recorded.exchanges[code]):
                    await asyncio.to_thread(self._execution.ledger.disown, visit.uid, code)

    async def _note_find(self, code: str) -> None:
        visit, context = self._execution.visit, self._execution.context
        find = write_of(
            context.driver,
            visit.values[code],
            listed(self._execution.seen, code),
            visit.sources[code],
            context.fingerprints,
            uid=visit.uid,
            at=context.stamp(),
        )
        await asyncio.to_thread(self._execution.ledger.found, visit.uid, code, find)


def _news(known: Observation | None, seen: Observation, every: float) -> bool:
    """Whether a sight is worth writing down: it shows something new, or the last one is old."""
    if known is None or replace(known, at=seen.at, by=seen.by) != seen:
        return True
    age = datetime.fromisoformat(seen.at) - datetime.fromisoformat(known.at)
    return not 0 <= age.total_seconds() < every


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
