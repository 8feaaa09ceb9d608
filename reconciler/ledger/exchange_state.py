"""
How a row of the ledger changes: pure functions from one row to the next.

An intent is one change with everything that follows from it, because a store can write no more than
one document at a time.
"""

from collections.abc import Iterable, Mapping, Sequence

from reconciler.errors import LedgerError
from reconciler.ledger.codec.rows import ExchangeRow, IdentityRow
from reconciler.model.recorded import Debt, ExchangeRecord, Owed, Write
from reconciler.model.target import Target
from reconciler.model.values import replace

PastKeys = tuple[tuple[str, str], ...]


def moved(row: IdentityRow, target: Target) -> IdentityRow:
    """Give a server another address; the one that it leaves is retired, not forgotten."""
    left = row.identity.target
    retired = tuple(old for old in row.retired if old not in (left, target))
    return replace(row, identity=replace(row.identity, target=target), retired=(*retired, left))


def intended(
    row: ExchangeRow, write: Write, debts: Sequence[Debt], boot: int | None
) -> ExchangeRow:
    """
    Add an intent and the debts that it brings.

    An intent that is replaced may have been sent: it is kept, and its keys count as written.
    """
    record = row.record
    seen = boot if boot is not None else _newest(debt.boot for debt in debts)
    keys, past_boot = _since(record, seen)
    earlier = record.earlier
    if record.intent is not None:
        keys = _with(keys, record.intent)
        earlier = (*earlier, record.intent)
    after = replace(
        record,
        intent=write,
        # The same values sent twice leave the same on the server.
        earlier=tuple(old for old in earlier if _effect(old) != _effect(write)),
        debts=_merged(record.debts, debts),
        past_keys=keys,
        past_boot=past_boot,
        ever=True,
    )
    return replace(row, record=after, before=record)


def deleting(row: ExchangeRow) -> ExchangeRow:
    return replace(row, record=replace(row.record, deleting=True), before=row.record)


def committed(row: ExchangeRow, boot: int | None) -> ExchangeRow:
    record = row.record
    if record.intent is None:
        raise LedgerError(f"no write of {record.code} is intended", "plan again")
    keys, past_boot = record.past_keys, record.past_boot
    if boot is not None:
        keys, past_boot = _since(record, boot)
    after = replace(
        record,
        written=record.intent,
        intent=None,
        earlier=(),
        found=None,
        deleting=False,
        past_keys=_with(keys, record.intent),
        past_boot=past_boot,
    )
    return replace(row, record=after, before=None)


def adopted(row: ExchangeRow, write: Write, boot: int | None) -> ExchangeRow:
    """
    Count as written by us what another hand wrote, because a person said so.

    The running process may have its client cached, as after a write of ours.  Raises LedgerError
    while a write of our own is open, for nobody knows yet what that left; and for weak values, of
    which nobody can tell whose they are.
    """
    record = row.record
    if write.weak:
        raise LedgerError(
            f"what the server shows of {record.code} proves too little", "take it over instead"
        )
    if record.intent is not None or record.deleting:
        raise LedgerError(
            f"an earlier change of {record.code} did not finish",
            "`jtr apply` finds out what it left",
        )
    keys, past_boot = _since(record, boot)
    after = replace(
        record,
        written=write,
        found=None,
        past_keys=_with(keys, write),
        past_boot=past_boot,
        ever=True,
    )
    return replace(row, record=after, before=None)


def emptied(row: ExchangeRow) -> ExchangeRow:
    """Forget what was written; debts and past keys stay, for the running process still has them."""
    record = row.record
    keys = record.past_keys if record.intent is None else _with(record.past_keys, record.intent)
    after = replace(
        record,
        written=None,
        intent=None,
        earlier=(),
        found=None,
        deleting=False,
        past_keys=keys,
    )
    return replace(row, record=after, before=None)


def settled(row: ExchangeRow, debts: Sequence[Debt], boot: int | None) -> ExchangeRow:
    """Keep only *debts*, as they stand there, also in what an intent would fall back to."""
    rest = {_place(debt): debt for debt in debts}

    def kept(record: ExchangeRecord) -> ExchangeRecord:
        keys, past_boot = record.past_keys, record.past_boot
        if boot is not None:
            keys, past_boot = _since(record, boot)
        left = tuple(rest[_place(debt)] for debt in record.debts if _place(debt) in rest)
        return replace(record, debts=left, past_keys=keys, past_boot=past_boot)

    return replace(row, record=kept(row.record), before=kept(row.before) if row.before else None)


def _place(debt: Debt) -> tuple[Owed, str, int | None]:
    return debt.owed, debt.exchange, debt.robot_id


def _effect(write: Write) -> tuple[Mapping[str, str], str]:
    return write.values, write.key_id


def _newest(boots: Iterable[int | None]) -> int | None:
    return max((boot for boot in boots if boot is not None), default=None)


def _since(record: ExchangeRecord, boot: int | None) -> tuple[PastKeys, int | None]:
    """
    Return the past keys that a process booted at *boot* may hold, and the boot they count from.

    Only a boot known to be newer than the one that the keys count from has ended them; with either
    of the two unknown they stay.
    """
    if boot is None:
        return record.past_keys, None
    if record.past_boot is None:
        return record.past_keys, boot
    # An older one than before comes from a log that was cut: it proves nothing.
    keys = () if boot > record.past_boot else record.past_keys
    return keys, max(boot, record.past_boot)


def _with(keys: PastKeys, write: Write) -> PastKeys:
    pair = (write.api_key, write.companions)
    return keys if not write.api_key or pair in keys else (*keys, pair)


def _merged(old: Sequence[Debt], new: Sequence[Debt]) -> tuple[Debt, ...]:
    """
    Return both without doubles.

    Of two debts of one kind the newer one's boot counts, because only a later boot pays it; the
    older one's time stays unless a boot in between had paid that one.
    """
    merged = {_place(debt): debt for debt in old}
    for debt in new:
        place = _place(debt)
        known = merged.get(place)
        if known and (None in (known.boot, debt.boot) or known.boot == debt.boot):
            merged[place] = replace(debt, since=known.since)
        else:
            merged[place] = debt
    return tuple(merged.values())
