"""
Writing and deleting credentials on one server.

All writes of a server are noted in the ledger first.  Then each is sent once, read back, and the
robots are counted; that reading is the last look before the next one, and nothing is awaited
between the two.  At the end it is noted what became of them.  Whatever is not known is found out by
reading again, never by sending again.
"""

import asyncio
from collections.abc import Sequence

from msgspec import Struct

from reconciler.apply import send
from reconciler.apply.audit_gate import ask_first
from reconciler.apply.circuit_breaker import CircuitOpen
from reconciler.apply.execution import Execution, listed
from reconciler.errors import Blocked, Exit, JtrError
from reconciler.model.actions import Consequence, DeleteExchange, WriteExchange
from reconciler.model.observed import ObservedServer
from reconciler.model.outcomes import Aftermath, Outcome, Result, face
from reconciler.model.recorded import Debt, ExchangeRecord, Write
from reconciler.observe.evidence import weak, write_of
from reconciler.plan.compare import is_ours
from reconciler.plan.consequences import new_debts
from reconciler.system.clocks import elapsed

MEANWHILE = "another process did it meanwhile"
TRIES = 3  # to note what is seen before it changes again
DUPLICATES = 5  # rows of one name that a delete is repeated for; docs/protocol.md, 3.5


class Intent(Struct, frozen=True):
    """What the ledger holds of one write before it is sent."""

    code: str
    write: Write
    debts: tuple[Debt, ...]
    boot: int | None


class Writes:
    """
    Writes of several exchanges of one server, one after the other.

    One commit holds the intents of all of them before the first is sent, and one what became of
    them.  A process that dies in between leaves intents without an outcome, of writes that were
    never sent among them: the next one looks, and writes those exchanges whole.

    `outcomes` are of those that came to an end, `at` is the one that is being written.
    """

    def __init__(self, execution: Execution, actions: Sequence[WriteExchange]) -> None:
        self._execution = execution
        self._left = list(actions)
        self._noted: dict[str, Intent] = {}
        self._writes: dict[str, Write] = {}
        self._proven: dict[str, int | None] = {}  # newest boot lines seen after writes that stand
        self._refused: tuple[WriteExchange, JtrError] | None = None
        self.outcomes: list[Outcome] = []
        self.at = actions[0]

    async def ask_first(self) -> None:
        """Ask exchanges about the keys; from the first that must not be used nothing is written."""
        for number, action in enumerate(self._left):
            try:
                await ask_first(self._execution, action)
            except JtrError as error:
                self._refused = action, error
                del self._left[number:]
                return

    def note(self) -> None:
        """
        Note what is about to be written, as it follows from what was seen last; blocking.

        Durable when this returns, or when `Ledger.together` does around it.
        """
        ledger, uid = self._execution.ledger, self._execution.visit.uid
        intents = {action.exchange: self._intent(action) for action in self._left}
        with ledger.together():
            for one in intents.values():
                if one.code in self._noted:
                    ledger.drop_intent(uid, one.code)
                ledger.intend(uid, one.code, one.write, one.debts, boot=one.boot)
        self._noted = intents

    def forget(self) -> None:
        """Count nothing as noted, because that failed."""
        self._noted = {}

    async def send(self) -> None:
        """
        Write all, as far as nothing goes wrong, and note what became of them.

        Raises CircuitOpen and JtrError of the one at `at`.
        """
        try:
            await self._each()
        except (CircuitOpen, JtrError):
            await self._conclude()
            raise
        await self._conclude()
        if self._refused is not None and not any(one.code for one in self.outcomes):
            self.at, error = self._refused
            raise error

    async def _each(self) -> None:
        execution = self._execution
        while self._left:
            self.at = self._left[0]
            async with execution.turn():
                await self._prepare()
                # The first to a version goes alone, and is judged before others get their turn.
                for action in self._left[: None if execution.brake.proven else 1]:
                    self.at = action
                    self.outcomes.append(outcome := await self._write(action))
                    if outcome.code:
                        return

    async def _prepare(self) -> None:
        """Look, and leave out what another process did."""
        execution = self._execution
        if self._noted:
            await execution.allowed()
            await execution.last_look(log=True)
            return
        await execution.fresh(anew=False)
        for action in tuple(self._left):
            if await done_meanwhile(execution, action):
                self.outcomes.append(Outcome(action, Result.DONE, MEANWHILE))
                self._left.remove(action)

    async def _agree(self) -> None:
        """
        Look until the ledger holds what follows from the last look; awaits nothing where it does.

        Robots that came or went since, or a boot: a debt would be missing, or one too many.
        """
        execution = self._execution
        for _ in range(TRIES):
            holds = all(self._noted.get(one.exchange) == self._intent(one) for one in self._left)
            if holds and execution.looked:
                return
            if not holds:
                await asyncio.to_thread(self.note)
            await execution.last_look(log=True)
        raise Blocked("its robots start and stop all the time", "look at a new plan")

    async def _write(self, action: WriteExchange) -> Outcome:
        execution, answered = self._execution, True
        execution.check_allowed()
        await self._agree()
        before = execution.seen
        try:
            await send.save(execution, action)
        except send.Unanswered:
            answered = False
        self._left.remove(action)  # of all others nothing was sent
        end = await execution.aftermath(before, answered=answered, more=True)
        return self._judged(action, end)

    async def _conclude(self) -> None:
        grave = any(one.result in (Result.HARM, Result.UNKNOWN) for one in self.outcomes)
        await self._execution.note(self._note_outcomes, beside=grave)

    def _note_outcomes(self) -> None:
        ledger, uid = self._execution.ledger, self._execution.visit.uid
        with ledger.together():
            for code, boot in self._proven.items():
                ledger.commit(uid, code, boot=boot)
            for action in self._left:
                if action.exchange in self._noted:
                    ledger.drop_intent(uid, action.exchange)

    def _intent(self, action: WriteExchange) -> Intent:
        execution, code = self._execution, action.exchange
        visit, context, seen = execution.visit, execution.context, execution.seen
        if code not in self._writes:
            self._writes[code] = write_of(
                context.driver,
                visit.values[code],
                listed(seen, code),
                visit.sources[code],
                context.fingerprints,
                uid=visit.uid,
                at=context.stamp(),
            )
        write = self._writes[code]
        debts = new_debts(
            action,
            _consequence(execution, code),
            since=write.at,
            boot=seen.log.boot,
            running=seen.running(code),
        )
        return Intent(code, write, debts, seen.log.boot)

    def _judged(self, action: WriteExchange, end: Aftermath) -> Outcome:
        execution, code = self._execution, action.exchange
        values = execution.visit.values[code].fields
        wrong: list[str] = []
        mute = proven = False
        if end.after is not None:
            was, now = face(end.before, code), face(end.after, code)
            wanted = {name: execution.context.driver.mask(value) for name, value in values.items()}
            wrong = sorted(n for n, mask in wanted.items() if n not in now or now[n][1] != mask)
            # A changed value that shows the same mask as before proves nothing about this write.
            kept = _unchanged_values(execution, code, self._noted[code].write)
            mute = any(was[n][1] == mask for n, mask in wanted.items() if n not in kept)
            # Without an answer, something must show that was not there before.
            proven = not wrong and (end.answered or (not mute and kept != wanted.keys()))
            if proven:
                self._proven[code] = end.after.log.boot
        if bad := execution.verdict(action, end):
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
                sent=True,
            )
        proves_little = weak(execution.context.driver, execution.visit.values[code])
        return Outcome(
            action,
            Result.NOT_VERIFIABLE if proves_little or mute else Result.DONE,
            "" if end.answered else "the answer was lost, read back",
            stopped=end.stopped,
        )


async def done_meanwhile(execution: Execution, action: WriteExchange | DeleteExchange) -> bool:
    """
    Whether another process did just this since it was planned.

    By the ledger it wrote the very version that is wanted here, or deleted; and by its masks the
    server has it.
    """
    visit, desired, code = execution.visit, execution.desired, action.exchange
    shown = face(execution.seen, code)
    if shown == face(execution.planned, code):
        return False
    found = await asyncio.to_thread(execution.ledger.look, desired.target, desired.name)
    record = found.exchanges.get(code, ExchangeRecord(code))
    if isinstance(action, DeleteExchange):
        return not is_ours(record) and not any(mask for _, mask in shown.values())
    values = visit.values[code]
    wanted = write_of(
        execution.context.driver,
        values,
        listed(execution.seen, code),
        visit.sources[code],
        execution.context.fingerprints,
        uid=visit.uid,
        at="",
    )
    return (
        record.written is not None
        and (record.written.key_id, record.written.values) == (wanted.key_id, wanted.values)
        and all(
            name in shown and shown[name][1] == execution.context.driver.mask(value)
            for name, value in values.fields.items()
        )
    )


def _unchanged_values(execution: Execution, code: str, write: Write) -> frozenset[str]:
    """Return the fields whose value is the one that we wrote last."""
    record = execution.visit.recorded.exchanges.get(code)
    last = None if record is None else record.written
    if last is None or last.key_id != write.key_id:
        return frozenset()
    return frozenset(n for n, value in write.values.items() if last.values.get(n) == value)


def _consequence(execution: Execution, code: str) -> Consequence | None:
    return next(line.consequence for line in execution.visit.plan.lines if line.exchange == code)


async def delete(execution: Execution, action: DeleteExchange, before: ObservedServer) -> Outcome:
    code = action.exchange
    await asyncio.to_thread(execution.ledger.intend_delete, execution.visit.uid, code)
    end = Aftermath(before, before, answered=True)
    sent = False
    for name in action.fields:
        there = True
        for row in range(DUPLICATES):
            try:
                end = await _delete_field(execution, action, before, name, again=row > 0)
            except (CircuitOpen, JtrError) as error:  # nothing was sent for this row
                if not sent:
                    await asyncio.to_thread(execution.ledger.drop_intent, execution.visit.uid, code)
                elif isinstance(error, CircuitOpen):
                    raise Blocked(
                        f"stopped half-way: {error.why}", "`jtr apply` deletes the rest"
                    ) from None
                raise
            sent = True
            if bad := execution.verdict(action, end):
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
                sent=True,
            )
    await asyncio.to_thread(execution.ledger.deleted, execution.visit.uid, code)
    return Outcome(action, Result.DONE, stopped=end.stopped)


async def _delete_field(
    execution: Execution,
    action: DeleteExchange,
    before: ObservedServer,
    name: str,
    *,
    again: bool,
) -> Aftermath:
    await execution.last_look()
    answered, patience, sent_at = True, execution.session.patience, elapsed()
    try:
        await send.delete(execution, action, name, again=again)
    except send.Unanswered:
        answered = False
    end = await execution.aftermath(before, answered=answered, more=True)
    if not answered and end.calm and _shows(end.after, action.exchange, name):
        # It may be under way still, and the next plan would delete what is gone by then: fatal.
        return await execution.landed(before, sent_at, patience)
    return end


def _shows(observed: ObservedServer | None, code: str, name: str) -> bool:
    # What is not listed any more may still be stored: Blocked.
    return observed is not None and any(
        f.name == name and f.mask for f in listed(observed, code).fields
    )
