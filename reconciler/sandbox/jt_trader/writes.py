"""
Saves and deletes of a stand-in JT-Trader: row by row, no transaction, the first refusal ends it.

Source: the protocol reference, sections 3.3 and 3.4.
"""

from typing import Final

from reconciler.sandbox.jt_trader.faults import Write
from reconciler.sandbox.jt_trader.rows import ABSENT, Rejected, value_text
from reconciler.sandbox.jt_trader.state import ServerState

_CUT_OFF: Final = ("drop-midway", "crash-midway")


async def write(state: ServerState, kind: str, account: str, payload: object, fault: Write) -> None:
    """
    Save or delete the rows of *payload*; raise Rejected at the first bad one, keeping the others.

    Only the faults that lose rows matter here: the rest concerns the answer.
    """
    # A text is walked through character by character, as the real server does.
    if not isinstance(payload, list | str):
        raise Rejected("payload is not iterable")
    todo = list(payload)
    if fault in _CUT_OFF:
        todo = todo[: max(1, len(todo) // 2)]
    elif fault == "lose-last-row":
        todo = todo[:-1]
    change = _save_row if kind == "save" else _delete_row
    names = [await change(state, account, row) for row in todo]
    if fault not in _CUT_OFF:
        state.record.add_finished(kind, account, tuple(names))


async def _save_row(state: ServerState, account: str, row: object) -> str:
    if not isinstance(row, dict):
        raise Rejected("Cannot read properties of an absent row")
    name = row.get("name", ABSENT)
    await state.pause()
    if state.behaviour.synchronous:
        await state.pause()
    found = state.rows.find_first(account, name)
    value = value_text(row)
    if not state.behaviour.synchronous:
        # Whoever saves the same new name in this gap makes a second row.
        await state.pause()
    if found is None:
        state.rows.insert(account, name, row.get("type"), value)
    else:
        state.rows.update(found, value)
    state.record.rows_written += 1
    return name if isinstance(name, str) else ""


async def _delete_row(state: ServerState, account: str, name: object) -> str:
    await state.pause()
    found = state.rows.find_first(account, name)
    if found is None:
        raise Rejected("Cannot read properties of an absent row")
    await state.pause()
    state.rows.delete(found)
    state.record.rows_deleted += 1
    return name if isinstance(name, str) else ""
