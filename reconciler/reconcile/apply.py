"""
The second half of a pass: do what the plans say, each server in its own order.

`credentials`, `robots` and `disrupt` are the only modules that change servers.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, nullcontext, suppress
from dataclasses import replace
from datetime import datetime

from reconciler.apply.audit_gate import ask_first
from reconciler.apply.circuit_breaker import Brake, Braked
from reconciler.apply.credentials import Credentials
from reconciler.apply.disruption_budget import Turnstile
from reconciler.apply.execution import Scene, listed
from reconciler.apply.requests import Disruptions
from reconciler.apply.robots import Robots
from reconciler.errors import DriverError, Exit, JtrError, WindowClosed
from reconciler.ledger.lease import held
from reconciler.ledger.request_state import newer
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
from reconciler.model.desired import Kind, Presence
from reconciler.model.outcomes import Outcome, Report, Result
from reconciler.model.plan import Disruption, Standing, Status
from reconciler.model.recorded import (
    Deed,
    ExchangeRecord,
    Observation,
    Remembered,
    Request,
    Stage,
)
from reconciler.observe.context import Means
from reconciler.observe.visit import Visit, see, view
from reconciler.plan.compare import Shown, is_ours
from reconciler.plan.consequences import remaining
from reconciler.plan.inputs import Consents
from reconciler.plan.server import recognised

# What stops robots or loses their data: few servers at a time, after their own credentials.
LATER = (RestartRobots, InvalidateCache, RebootServer)


async def apply_all(
    visits: Sequence[Visit],
    consents: Consents,
    means: Means,
    brake: Brake,
    turnstile: Turnstile | None = None,
) -> list[Report]:
    """
    Apply every visit's plan, each server in its own order, at most `parallelism` at once.

    *turnstile* decides how many servers at a time have their robots stopped (default: one).
    """
    gate = asyncio.Semaphore(means.parallelism)
    turnstile = turnstile or Turnstile()
    await rename(visits, means)
    return list(
        await asyncio.gather(
            *(
                apply_one(visit, consents, means, brake, gate=gate, turnstile=turnstile)
                for visit in visits
            )
        )
    )


async def rename(visits: Sequence[Visit], means: Means) -> None:
    """Note new names of servers that stayed where they are, so that old names become free."""
    for visit in visits:
        known, server = visit.remembered.identity, visit.desired
        renamed = known is not None and known.target == server.target and known.name != server.name
        if renamed and means.ledger is not None and not visit.plan.held_code:
            await asyncio.to_thread(means.ledger.pin, server.target, server.name)


async def apply_one(
    visit: Visit,
    consents: Consents,
    means: Means,
    brake: Brake,
    *,
    gate: asyncio.Semaphore,
    turnstile: Turnstile,
) -> Report:
    """
    Apply one server's plan and remember what was seen.

    A failure stops the later actions of this server only; the rest of them are reported as not
    attempted.
    """
    ledger = means.ledger
    if visit.plan.failure or visit.observed is None or visit.plan.held_code or ledger is None:
        return Report(visit.plan)
    # A consent moves only what was planned as the same server: not one that another new one's
    # name happens to have belonged to.
    moves = visit.desired.name in consents.targets and visit.remembered.identity is not None
    scene = Scene(visit, means, brake, ledger)
    scene.may_start = not consents.quiet and not visit.plan.held
    deeds = _Deeds(scene, moves=moves)
    # Who only looked needs no place: all places may wait for one server whose write is in doubt.
    place = gate if deeds.asks else nullcontext()
    try:
        async with place:
            await deeds.first()
        await deeds.then(turnstile)
        async with place:
            await deeds.remember()
    except JtrError as error:
        return Report(visit.plan, deeds.finished(), error)
    return Report(visit.plan, deeds.finished())


class _Deeds:
    """The actions of one server in one pass."""

    def __init__(self, scene: Scene, *, moves: bool) -> None:
        self._scene = scene
        self._moves = moves
        self._outcomes: list[Outcome] = []
        self._left = list(scene.visit.plan.actions)

    @property
    def asks(self) -> bool:
        """Whether any of this asks the server for something."""
        return bool(self._left) or bool(self._unfinished())

    def _unfinished(self) -> list[Disruption]:
        visit = self._scene.visit
        handled = visit.remembered.requests.handled
        return [line for line in visit.plan.disruptions if _to_note(line, handled)]

    async def first(self) -> None:
        """Bind the server, settle what earlier passes left open, and do its credentials."""
        scene = self._scene
        desired, visit = scene.desired, scene.visit
        identity = await asyncio.to_thread(
            scene.ledger.pin, desired.target, desired.name, move=self._moves
        )
        visit.remembered = replace(visit.remembered, identity=identity)
        unfinished = self._unfinished()
        mine = [action for action in self._left if not isinstance(action, LATER)]
        if not mine and not unfinished and not await asyncio.to_thread(self._waiting):
            return
        async with self._lease():
            await self._settle(unfinished)
            await self._do(mine)

    def _waiting(self) -> bool:
        """Whether an earlier run left what the ledger could not take."""
        scene = self._scene
        left = scene.means.emergencies
        return left is not None and left.waiting(scene.ledger.ledger_uid, scene.visit.uid)

    async def then(self, turnstile: Turnstile) -> None:
        """Do what stops robots, when this server's turn has come."""
        if not self._left or self._failed():
            return
        try:
            async with turnstile.turn(), self._lease():
                scene = self._scene
                await asyncio.to_thread(scene.ledger.requests(scene.visit.uid).load)
                await self._do(list(self._left))
                failure = self._failed()
                # A closed window, or the brake, says nothing against the next server.
                if failure and failure.result not in (Result.NOT_ATTEMPTED, Result.DONE):
                    turnstile.shut(f"{scene.desired.name}: {failure.result}")
        except Braked as braked:
            self._outcomes.append(
                Outcome(
                    self._left.pop(0),
                    Result.NOT_ATTEMPTED,
                    f"stopped: {braked.why}",
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
        scene = self._scene
        lease = await asyncio.to_thread(scene.ledger.lease, scene.visit.uid)
        async with held(lease, scene.means.durations.lease) as check:
            scene.check_lease = check
            yield

    async def _do(self, actions: Sequence[Action]) -> None:
        for action in actions:
            if self._failed():
                break
            self._left.remove(action)
            self._outcomes.append(await self._attempt(action))
        if self._scene.unrecorded is not None:
            raise self._scene.unrecorded

    async def _attempt(self, action: Action) -> Outcome:
        try:
            return await self._deed(action)
        except Braked as braked:
            return Outcome(
                action, Result.NOT_ATTEMPTED, f"stopped: {braked.why}", code=Exit.BLOCKED
            )
        except WindowClosed as closed:
            return Outcome(
                action, Result.NOT_ATTEMPTED, closed.what, closed.remedy, closed.exit_code
            )
        except JtrError as error:
            return Outcome(action, Result.FAILED, error.what, error.remedy, error.exit_code)

    async def _deed(self, action: Action) -> Outcome:
        scene = self._scene
        robots = Robots(scene)
        match action:
            case WriteExchange() | DeleteExchange():
                if isinstance(action, WriteExchange):
                    await ask_first(scene, action)
                async with scene.brake.turn(scene.seen.version):
                    before = await scene.unchanged(action.exchange)
                    if isinstance(action, DeleteExchange):
                        return await Credentials(scene).delete(action, before)
                    return await Credentials(scene).write(action, before)
            case ResumeRobots():
                return await robots.resume(action)
            case RestartRobots():
                return await robots.restart(action)
            case InvalidateCache():
                return await Disruptions(scene, robots).invalidate(action)
            case RebootServer():
                return await Disruptions(scene, robots).reboot(action)

    # ── what earlier passes left ─────────────────────────────────────────────────────────

    async def _settle(self, lines: Sequence[Disruption]) -> None:
        """Note what the plan found out about requests and robots; nothing is asked for it."""
        scene = self._scene
        if scene.means.emergencies is not None:
            await asyncio.to_thread(scene.means.emergencies.pick_up, scene.ledger, scene.visit.uid)
        book = scene.ledger.requests(scene.visit.uid)
        for line in lines:
            requests = await asyncio.to_thread(book.load)
            if line.standing is not Standing.FOUND_OUT:
                await asyncio.to_thread(book.note, _noted(line))
            elif line.kind is None and requests.halt is not None:
                await Robots(scene).settle(requests.halt)
            elif requests.open is not None:
                outcome = await Disruptions(scene, Robots(scene)).settle(requests.open)
                if outcome is not None:
                    self._outcomes.append(outcome)
        scene.visit.remembered = replace(
            scene.visit.remembered, requests=await asyncio.to_thread(book.load)
        )

    # ── remembering ──────────────────────────────────────────────────────────────────────

    async def remember(self) -> None:
        """Write down what was seen last, what it settles, what was found, and what was done."""
        if self._scene.unrecorded is not None:
            raise self._scene.unrecorded
        visit, means = self._scene.visit, self._scene.means
        if self._outcomes and visit.session is not None:
            with suppress(DriverError):
                await see(visit, means)
        observation = view(visit, means)
        remembered = visit.remembered
        if self._outcomes:
            remembered = await asyncio.to_thread(
                self._scene.ledger.load, visit.desired.target, visit.desired.name
            )
        for code, record in remembered.exchanges.items():
            rest = remaining(record.debts, observation)
            if rest != record.debts:
                await asyncio.to_thread(
                    self._scene.ledger.settle_debts,
                    visit.uid,
                    code,
                    rest,
                    past_boot=observation.boot,
                )
        for line in visit.plan.lines:
            if line.status is Status.FOUND and line.exchange in visit.values:
                await self._note_find(line.exchange)
        await self._let_go(remembered, observation)
        if _news(visit.remembered.observation, observation, means.remember_every):
            await asyncio.to_thread(self._scene.ledger.observe, visit.uid, observation)
        await asyncio.to_thread(self._scene.ledger.record, visit.uid, self._history())

    def _history(self) -> list[Deed]:
        means = self._scene.means
        return [
            Deed(
                means.stamp(),
                means.label,
                told(outcome.action),
                str(outcome.result),
                outcome.detail,
            )
            for outcome in self._outcomes
            if outcome.result is not Result.NOT_ATTEMPTED
        ]

    async def _let_go(self, remembered: Remembered, observation: Observation) -> None:
        """Forget what is ours no longer."""
        visit = self._scene.visit
        for exchange in visit.desired.exchanges:
            record = remembered.exchanges.get(exchange.code, ExchangeRecord(exchange.code))
            # Rows of an exchange that the server does not list are there, but invisible.
            masks = observation.masks.get(exchange.code)
            gone = masks is not None and not any(masks.values())
            whole = Shown.of(observation, exchange.code).is_all(record.written)
            if exchange.presence is Presence.ABSENT and gone and is_ours(record):
                await asyncio.to_thread(self._scene.ledger.deleted, visit.uid, exchange.code)
            elif exchange.presence is Presence.PRESENT and record.deleting and whole:
                # Or what somebody removes later would look like our own unfinished delete.
                await asyncio.to_thread(self._scene.ledger.keep, visit.uid, exchange.code)
        if self._moves:
            declared = {exchange.code for exchange in visit.desired.exchanges}
            for code in remembered.exchanges.keys() & observation.masks.keys() - declared:
                # Approved as it is, and nothing will be written there: ours no longer, or every
                # later plan would ask again whether this is another server.
                if not recognised(Shown.of(observation, code), remembered.exchanges[code]):
                    await asyncio.to_thread(self._scene.ledger.disown, visit.uid, code)

    async def _note_find(self, code: str) -> None:
        visit, means = self._scene.visit, self._scene.means
        find = means.resolver.write(
            visit.values[code],
            listed(self._scene.seen, code),
            visit.sources[code],
            means.fingerprints,
            uid=visit.uid,
            at=means.stamp(),
        )
        await asyncio.to_thread(self._scene.ledger.found, visit.uid, code, find)


def _news(known: Observation | None, seen: Observation, every: float) -> bool:
    """Whether a sight is worth writing down: it shows something new, or the last one is old."""
    if known is None or replace(known, at=seen.at, by=seen.by) != seen:
        return True
    age = datetime.fromisoformat(seen.at) - datetime.fromisoformat(known.at)
    return not 0 <= age.total_seconds() < every


def _to_note(line: Disruption, handled: Mapping[Kind, datetime]) -> bool:
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
