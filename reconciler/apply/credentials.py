"""
Writing and deleting credentials on one server.

For each write: note the intent in the ledger; send once; read back; count the robots; note the
outcome.  Whatever is not known is found out by reading again, never by sending again.
"""

import asyncio
from functools import partial

from reconciler.apply import send
from reconciler.apply.circuit_breaker import CircuitOpen
from reconciler.apply.execution import Execution, listed
from reconciler.errors import Blocked, Exit, JtrError
from reconciler.model.actions import Consequence, DeleteExchange, WriteExchange
from reconciler.model.observed import ObservedServer
from reconciler.model.outcomes import Aftermath, Outcome, Result, face
from reconciler.model.recorded import ExchangeRecord, Write
from reconciler.observe.evidence import weak, write_of
from reconciler.plan.compare import is_ours
from reconciler.plan.consequences import new_debts
from reconciler.system.clocks import elapsed

DUPLICATES = 5  # rows of one name that a delete is repeated for; docs/protocol.md, 3.5


async def write(execution: Execution, action: WriteExchange, before: ObservedServer) -> Outcome:
    visit, context, code = execution.visit, execution.context, action.exchange
    values = visit.values[code]
    write = write_of(
        context.driver,
        values,
        listed(before, code),
        visit.sources[code],
        context.fingerprints,
        uid=visit.uid,
        at=context.stamp(),
    )
    debts = new_debts(
        action,
        _consequence(execution, code),
        since=write.at,
        boot=before.log.boot,
        running=before.running(code),
    )
    # Durable before anything is sent: a process that dies now has left a note of it.
    await asyncio.to_thread(
        execution.ledger.intend, visit.uid, code, write, debts, boot=before.log.boot
    )
    answered = True
    try:
        await execution.last_look()
        await send.save(execution, action)
    except send.Unanswered:
        answered = False
    except (CircuitOpen, JtrError):  # nothing was sent
        await asyncio.to_thread(execution.ledger.drop_intent, visit.uid, code)
        raise
    end = await execution.aftermath(before, answered=answered, more=True)
    return await _judge(execution, action, write, end)


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
    found = await asyncio.to_thread(execution.ledger.load, desired.target, desired.name)
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


async def _judge(
    execution: Execution, action: WriteExchange, write: Write, end: Aftermath
) -> Outcome:
    code = action.exchange
    values = execution.visit.values[code].fields
    wrong: list[str] = []
    mute = proven = False
    if end.after is not None:
        was, now = face(end.before, code), face(end.after, code)
        wanted = {name: execution.context.driver.mask(value) for name, value in values.items()}
        wrong = sorted(n for n, mask in wanted.items() if n not in now or now[n][1] != mask)
        # A changed value that shows the same mask as before proves nothing about this write.
        kept = _unchanged_values(execution, code, write)
        mute = any(was[n][1] == mask for n, mask in wanted.items() if n not in kept)
        # Without an answer, something must show that was not there before.
        proven = not wrong and (end.answered or (not mute and kept != wanted.keys()))
    bad = execution.verdict(action, end)
    if proven and end.after is not None:
        await execution.note(
            partial(
                execution.ledger.commit,
                execution.visit.uid,
                code,
                boot=end.after.log.boot,
            ),
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
            sent=True,
        )
    proves_little = weak(execution.context.driver, execution.visit.values[code])
    return Outcome(
        action,
        Result.NOT_VERIFIABLE if proves_little or mute else Result.DONE,
        "" if end.answered else "the answer was lost, read back",
        stopped=end.stopped,
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
