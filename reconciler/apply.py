"""
The second half of a pass: do what the plans say.  The only module that writes to servers.

For each write: read the server anew and compare it with what was planned on; note the intent in
the ledger; send once; read back; count the robots; note the outcome.  Whatever is not known is
found out by reading again, never by sending again.
"""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack, suppress
from dataclasses import replace
from functools import partial

from reconciler.actions import Action, Consequence, DeleteExchange, Status, WriteExchange
from reconciler.brake import Brake, Braked
from reconciler.consequences import new_debts, remaining
from reconciler.diff import Shown, is_ours
from reconciler.drivers import Session
from reconciler.errors import (
    Blocked,
    DriverError,
    Exit,
    JtrError,
    LedgerError,
    ServerRefused,
)
from reconciler.ledger.book import Ledger
from reconciler.ledger.lease import held
from reconciler.lines import Consents
from reconciler.model import Presence
from reconciler.observed import ObservedExchange, ObservedServer
from reconciler.outcomes import Aftermath, Outcome, Report, Result, face
from reconciler.plan import recognised
from reconciler.reconcile import Means, Visit, refusal, see, view
from reconciler.remembered import ExchangeRecord, Observation, Remembered, Write

DUPLICATES = 5  # rows of one name that a delete is repeated for; docs/protocol.md, 3.5
RECONNECTS = 3  # after silence: a server that just lost us may need a moment


async def apply_all(
    visits: Sequence[Visit], consents: Consents, means: Means, brake: Brake
) -> list[Report]:
    """Apply every visit's plan, each server in its own order, at most `parallelism` at once."""
    gate = asyncio.Semaphore(means.parallelism)
    await _rename(visits, means)

    async def one(visit: Visit) -> Report:
        async with gate:
            return await apply_one(visit, consents, means, brake)

    return list(await asyncio.gather(*(one(visit) for visit in visits)))


async def _rename(visits: Sequence[Visit], means: Means) -> None:
    """Note new names of servers that stayed where they are, so that old names become free."""
    for visit in visits:
        known, server = visit.remembered.identity, visit.desired
        renamed = known is not None and known.target == server.target and known.name != server.name
        if renamed and means.ledger is not None and not visit.plan.held_code:
            await asyncio.to_thread(means.ledger.pin, server.target, server.name)


async def apply_one(visit: Visit, consents: Consents, means: Means, brake: Brake) -> Report:
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
    deeds = _Deeds(visit, means, brake, ledger, moves=moves)
    try:
        return await deeds.run()
    except JtrError as error:
        return Report(visit.plan, deeds.finished(), error)


class _Deeds:
    """The actions of one server in one pass."""

    def __init__(
        self, visit: Visit, means: Means, brake: Brake, ledger: Ledger, *, moves: bool
    ) -> None:
        self._visit = visit
        self._moves = moves
        self._means = means
        self._brake = brake
        self._ledger = ledger
        self._planned = self._seen
        self._outcomes: list[Outcome] = []
        self._check_lease: Callable[[], None] = lambda: None
        self._unrecorded: LedgerError | None = None

    async def run(self) -> Report:
        """Do all actions in order, then remember what the server shows."""
        visit, means = self._visit, self._means
        identity = await asyncio.to_thread(
            self._ledger.pin, visit.desired.target, visit.desired.name, move=self._moves
        )
        visit.remembered = replace(visit.remembered, identity=identity)
        async with AsyncExitStack() as stack:
            if visit.plan.actions:
                lease = await asyncio.to_thread(self._ledger.lease, identity.uid)
                self._check_lease = await stack.enter_async_context(
                    held(lease, means.durations.lease)
                )
            for action in visit.plan.actions:
                outcome = await self._attempt(action)
                self._outcomes.append(outcome)
                if outcome.code:
                    break
            if self._unrecorded is not None:
                raise self._unrecorded
            await self._remember()
        return Report(visit.plan, self.finished())

    def finished(self) -> tuple[Outcome, ...]:
        """Return the outcomes so far, and `not attempted` for every later action."""
        rest = self._visit.plan.actions[len(self._outcomes) :]
        return (*self._outcomes, *(Outcome(a, Result.NOT_ATTEMPTED) for a in rest))

    async def _attempt(self, action: Action) -> Outcome:
        try:
            async with self._brake.turn(self._seen.version):
                before = await self._unchanged(action.exchange)
                # Once more: another process may have engaged the brake since it was planned.
                why, remedy = await refusal(before.version, self._means)
                if why:
                    raise Blocked(why, remedy)
                if isinstance(action, DeleteExchange):
                    return await self._delete(action, before)
                return await self._write(action, before)
        except Braked as braked:
            return Outcome(
                action, Result.NOT_ATTEMPTED, f"stopped: {braked.why}", code=Exit.BLOCKED
            )
        except JtrError as error:
            return Outcome(action, Result.FAILED, error.what, error.remedy, error.exit_code)

    # ── writing ──────────────────────────────────────────────────────────────────────────

    async def _write(self, action: WriteExchange, before: ObservedServer) -> Outcome:
        visit, means, code = self._visit, self._means, action.exchange
        values = visit.values[code]
        write = means.resolver.write(
            values,
            _listed(before, code),
            visit.sources[code],
            means.fingerprints,
            uid=visit.uid,
            at=means.stamp(),
        )
        debts = new_debts(
            action,
            self._consequence(code),
            since=write.at,
            boot=before.log.boot,
            running=before.running(code),
        )
        # Durable before anything is sent: a process that dies now has left a note of it.
        await asyncio.to_thread(
            self._ledger.intend, visit.uid, code, write, debts, boot=before.log.boot
        )
        answered = True
        try:
            await self._brake.steady()
            self._check_lease()
            await self._session.save(code, values.fields)
        except (Braked, LedgerError, ServerRefused):  # nothing was sent
            await asyncio.to_thread(self._ledger.drop_intent, visit.uid, code)
            raise
        except DriverError:
            answered = False
        return await self._judge(action, write, await self._aftermath(before, answered=answered))

    async def _judge(self, action: WriteExchange, write: Write, end: Aftermath) -> Outcome:
        code = action.exchange
        values = self._visit.values[code].fields
        wrong: list[str] = []
        mute = proven = False
        if end.after is not None:
            was, now = face(end.before, code), face(end.after, code)
            wanted = {name: self._means.driver.mask(value) for name, value in values.items()}
            wrong = sorted(n for n, mask in wanted.items() if n not in now or now[n][1] != mask)
            # A changed value that shows the same mask as before proves nothing about this write.
            kept = self._unchanged_values(code, write)
            mute = any(was[n][1] == mask for n, mask in wanted.items() if n not in kept)
            # Without an answer, something must show that was not there before.
            proven = not wrong and (end.answered or (not mute and kept != wanted.keys()))
        bad = self._verdict(action, end)
        if proven and end.after is not None:
            await self._note(
                partial(self._ledger.commit, self._visit.uid, code, boot=end.after.log.boot),
                beside=bad is not None,
            )
        if bad is not None:
            return bad
        if not proven:
            shown = f"the server shows something else than was written: {', '.join(wrong)}"
            silent = "the server did not answer, and what it shows does not prove a whole write"
            return Outcome(
                action,
                Result.FAILED,
                shown if end.answered else silent,
                "its robots still run; look at its Config page and log; `jtr apply` writes again",
                Exit.SERVER,
                end.stopped,
            )
        weak = self._means.resolver.weak(self._visit.values[code])
        return Outcome(
            action,
            Result.NOT_VERIFIABLE if weak or mute else Result.DONE,
            "" if end.answered else "the answer was lost, read back",
            stopped=end.stopped,
        )

    def _unchanged_values(self, code: str, write: Write) -> frozenset[str]:
        """Return the fields whose value is the one that we wrote last."""
        record = self._visit.remembered.exchanges.get(code)
        last = None if record is None else record.written
        if last is None or last.key_id != write.key_id:
            return frozenset()
        return frozenset(n for n, value in write.values.items() if last.values.get(n) == value)

    def _consequence(self, code: str) -> Consequence | None:
        return next(line.consequence for line in self._visit.plan.lines if line.exchange == code)

    # ── deleting ─────────────────────────────────────────────────────────────────────────

    async def _delete(self, action: DeleteExchange, before: ObservedServer) -> Outcome:
        code = action.exchange
        if robots := before.running(code):
            names = ", ".join(robot.name for robot in robots)
            raise Blocked(f"robots run on it since the plan: {names}", "stop them, apply again")
        await asyncio.to_thread(self._ledger.intend_delete, self._visit.uid, code)
        end = Aftermath(before, before, answered=True)
        sent = False
        for name in action.fields:
            there = True
            for _ in range(DUPLICATES):
                try:
                    end = await self._delete_field(before, code, name)
                except (Braked, JtrError) as error:  # nothing was sent for this row
                    if not sent:
                        await asyncio.to_thread(self._ledger.drop_intent, self._visit.uid, code)
                    elif isinstance(error, Braked):
                        raise Blocked(
                            f"stopped half-way: {error.why}", "`jtr apply` deletes the rest"
                        ) from None
                    raise
                sent = True
                if bad := self._verdict(action, end):
                    return bad
                there = _shows(end.after, code, name)
                # Never again after silence: that delete may still be on its way, and a second one
                # would then delete what is gone, which is fatal there.
                if not there or not end.answered:
                    break
            if there:
                return Outcome(
                    action,
                    Result.FAILED,
                    f"{name} is still there after it was deleted",
                    "look at the server's Config page; `jtr apply` tries again",
                    Exit.SERVER,
                    end.stopped,
                )
        await asyncio.to_thread(self._ledger.deleted, self._visit.uid, code)
        return Outcome(action, Result.DONE, stopped=end.stopped)

    async def _delete_field(self, before: ObservedServer, code: str, name: str) -> Aftermath:
        """Delete one row of one field and look what became of it."""
        # What a later field shows must still be what was planned on; what shows under the name
        # itself may be a second row that the first delete brought to light.
        planned = face(before, code)
        now = {n: shown for n, shown in face(self._seen, code).items() if shown[1]}
        if any(planned.get(n) != shown for n, shown in now.items() if n != name):
            raise Blocked(f"{code} changed on the server meanwhile", "look at a new plan")
        await self._brake.steady()
        self._check_lease()
        answered = True
        try:
            await self._session.delete(code, name)
        except ServerRefused:  # nothing was sent
            raise
        except DriverError:
            answered = False
        return await self._aftermath(before, answered=answered)

    # ── looking ──────────────────────────────────────────────────────────────────────────

    @property
    def _session(self) -> Session:
        if self._visit.session is None:
            raise AssertionError
        return self._visit.session

    @property
    def _seen(self) -> ObservedServer:
        if self._visit.observed is None:
            raise AssertionError
        return self._visit.observed

    async def _unchanged(self, code: str) -> ObservedServer:
        """
        Read the server just before an action; raise Blocked when it is not as it was planned on.

        A connection that went away meanwhile is opened once more; nothing was asked on it.
        """
        try:
            await see(self._visit, self._means)
        except DriverError as error:
            if not error.transient:
                raise
            await self._visit.close()
            await see(self._visit, self._means)
        # What the plan was made from, not what was seen last: that may be newer than the plan.
        planned, fresh = self._planned, self._seen
        known = {robot.id for robot in planned.robots}
        if known and not any(robot.id in known for robot in fresh.robots):
            raise Blocked(
                "none of the robots is there that were there when it was planned",
                "see whether another server answers at this address",
            )
        if fresh.version != planned.version or face(fresh, code) != face(planned, code):
            raise Blocked(
                f"{code} changed on the server since it was planned", "look at a new plan"
            )
        return fresh

    async def _aftermath(self, before: ObservedServer, *, answered: bool) -> Aftermath:
        """Read everything after a write; engage the brake when the robots did not like it."""
        if answered:
            await asyncio.sleep(self._means.durations.quiesce)
            with suppress(DriverError):
                await see(self._visit, self._means)
                end = Aftermath(before, self._seen, answered=True)
                if end.harmed:
                    await self._engage("robots stopped around a write", before.version)
                return end
        async with self._brake.doubt():
            end = Aftermath(before, await self._return(), answered=False)
            if not end.calm:
                why = "robots stopped around a write" if end.harmed else "a write was not answered"
                await self._engage(why, before.version)
        return end

    async def _return(self) -> ObservedServer | None:
        for attempt in range(RECONNECTS):
            await self._visit.close()
            if attempt:
                await asyncio.sleep(self._means.durations.reconnect)
            with suppress(JtrError):  # Vault, too, may be away: its access secret cannot be read
                await see(self._visit, self._means)
                return self._seen
        return None

    async def _engage(self, why: str, version: str) -> None:
        name = self._visit.desired.name
        await self._brake.engage(f"{why} on {name} (JT-Trader {version})")
        await self._note(partial(self._ledger.engage_brake, version, name, why), beside=True)

    async def _note(self, note: Callable[[], None], *, beside: bool) -> None:
        """Write into the ledger; *beside* a worse thing a failure must not cover that one."""
        try:
            await asyncio.to_thread(note)
        except LedgerError as error:
            if not beside:
                raise
            self._unrecorded = error

    def _verdict(self, action: Action, end: Aftermath) -> Outcome | None:
        """Return the outcome when the robots or the silence decide it; else note a good write."""
        name, version = self._visit.desired.name, end.before.version
        if end.harmed:
            robots = ", ".join(r.name for r in end.stopped) or "the list shows none stopped"
            return Outcome(
                action,
                Result.HARM,
                f"robots stopped on {name}: {robots}",
                f"start them on the server's page; the brake stays on for JT-Trader {version}",
                Exit.HARM,
                end.stopped,
            )
        if not end.calm:
            return Outcome(
                action,
                Result.UNKNOWN,
                "the server did not answer and it is not known whether its robots still run",
                f"look at {name}; then `jtr ledger release-brake {version} --because TEXT`",
                Exit.SERVER,
                end.stopped,
            )
        if end.answered:
            self._brake.prove(version)
        return None

    # ── remembering ──────────────────────────────────────────────────────────────────────

    async def _remember(self) -> None:
        """Write down what was seen last, what it settles, and what was found."""
        visit, means = self._visit, self._means
        if self._outcomes and visit.session is not None:
            with suppress(DriverError):
                await see(visit, means)
        observation = view(visit, means)
        remembered = await asyncio.to_thread(
            self._ledger.load, visit.desired.target, visit.desired.name
        )
        for code, record in remembered.exchanges.items():
            rest = remaining(record.debts, observation)
            if rest != record.debts:
                await asyncio.to_thread(
                    self._ledger.settle_debts, visit.uid, code, rest, past_boot=observation.boot
                )
        for line in visit.plan.lines:
            if line.status is Status.FOUND and line.exchange in visit.values:
                await self._note_find(line.exchange)
        await self._let_go(remembered, observation)
        await asyncio.to_thread(self._ledger.observe, visit.uid, observation)

    async def _let_go(self, remembered: Remembered, observation: Observation) -> None:
        """Forget what is ours no longer."""
        visit = self._visit
        for exchange in visit.desired.exchanges:
            record = remembered.exchanges.get(exchange.code, ExchangeRecord(exchange.code))
            # Rows of an exchange that the server does not list are there, but invisible.
            masks = observation.masks.get(exchange.code)
            gone = masks is not None and not any(masks.values())
            whole = Shown.of(observation, exchange.code).is_all(record.written)
            if exchange.presence is Presence.ABSENT and gone and is_ours(record):
                await asyncio.to_thread(self._ledger.deleted, visit.uid, exchange.code)
            elif exchange.presence is Presence.PRESENT and record.deleting and whole:
                # Or what somebody removes later would look like our own unfinished delete.
                await asyncio.to_thread(self._ledger.keep, visit.uid, exchange.code)
        if self._moves:
            declared = {exchange.code for exchange in visit.desired.exchanges}
            for code in remembered.exchanges.keys() & observation.masks.keys() - declared:
                # Approved as it is, and nothing will be written there: ours no longer, or every
                # later plan would ask again whether this is another server.
                if not recognised(Shown.of(observation, code), remembered.exchanges[code]):
                    await asyncio.to_thread(self._ledger.disown, visit.uid, code)

    async def _note_find(self, code: str) -> None:
        visit, means = self._visit, self._means
        find = means.resolver.write(
            visit.values[code],
            _listed(self._seen, code),
            visit.sources[code],
            means.fingerprints,
            uid=visit.uid,
            at=means.stamp(),
        )
        await asyncio.to_thread(self._ledger.found, visit.uid, code, find)


def _listed(observed: ObservedServer, code: str) -> ObservedExchange:
    exchange = observed.exchange(code)
    if exchange is None:
        raise Blocked(f"the server no longer lists {code}", "look at a new plan")
    return exchange


def _shows(observed: ObservedServer | None, code: str, name: str) -> bool:
    # What is not listed any more may still be stored: Blocked.
    return observed is not None and any(
        f.name == name and f.mask for f in _listed(observed, code).fields
    )
