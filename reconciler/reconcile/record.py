"""
What is written down of a server at the end of a pass.
"""

from collections.abc import Sequence
from datetime import datetime

from reconciler.apply.execution import Execution, listed
from reconciler.model.actions import told
from reconciler.model.desired import Presence
from reconciler.model.outcomes import Outcome, Result
from reconciler.model.plan import Status
from reconciler.model.recorded import ExchangeRecord, HistoryEntry, Observation, Recorded
from reconciler.model.values import replace
from reconciler.observe.evidence import write_of
from reconciler.plan.compare import Shown, is_ours
from reconciler.plan.consequences import remaining
from reconciler.plan.server import recognised


def note_seen(
    execution: Execution,
    known: Recorded,
    observation: Observation,
    outcomes: Sequence[Outcome],
    *,
    moves: bool,
) -> None:
    """Note what was seen last, what it settles, what was found, and what was done; blocking."""
    visit, ledger = execution.visit, execution.ledger
    for code, record in known.exchanges.items():
        rest = remaining(record.debts, observation)
        if rest != record.debts:
            ledger.settle_debts(visit.uid, code, rest, past_boot=observation.boot)
    for line in visit.plan.lines:
        if line.status is Status.FOUND and line.exchange in visit.values:
            _note_find(execution, line.exchange)
    _let_go(execution, known, observation, moves=moves)
    every = execution.context.remember_every
    if known.observation == visit.recorded.observation and _news(
        known.observation, observation, every
    ):
        ledger.observe(visit.uid, observation)
    ledger.record(visit.uid, _history(execution, outcomes))


def unmoved(now: Recorded, known: Recorded) -> Recorded:
    """
    Return of what the ledger says *now* the exchanges that stand as they were *known*.

    What another process noted since then, a sight of before it can neither settle nor end.
    """
    same = {code: one for code, one in now.exchanges.items() if one == known.exchanges.get(code)}
    return replace(now, exchanges=same)


def _history(execution: Execution, outcomes: Sequence[Outcome]) -> list[HistoryEntry]:
    context = execution.context
    return [
        context.deed(told(outcome.action), str(outcome.result), outcome.detail)
        for outcome in outcomes
        if outcome.result is not Result.NOT_ATTEMPTED
    ]


def _let_go(
    execution: Execution, recorded: Recorded, observation: Observation, *, moves: bool
) -> None:
    """Forget what is ours no longer."""
    visit = execution.visit
    for exchange in visit.desired.exchanges:
        record = recorded.exchanges.get(exchange.code, ExchangeRecord(exchange.code))
        # Rows of an exchange that the server does not list are there, but invisible.
        masks = observation.masks.get(exchange.code)
        gone = masks is not None and not any(masks.values())
        whole = Shown.of(observation, exchange.code).is_all(record.written)
        if exchange.presence is Presence.ABSENT and gone and is_ours(record):
            execution.ledger.deleted(visit.uid, exchange.code)
        elif exchange.presence is Presence.PRESENT and record.deleting and whole:
            # Or what somebody removes later would look like our own unfinished delete.
            execution.ledger.keep(visit.uid, exchange.code)
    if moves:
        declared = {exchange.code for exchange in visit.desired.exchanges}
        for code in recorded.exchanges.keys() & observation.masks.keys() - declared:
            # Approved as it is, and nothing will be written there: ours no longer, or every
            # later plan would ask again whether this is another server.
            if not recognised(Shown.of(observation, code), recorded.exchanges[code]):
                execution.ledger.disown(visit.uid, code)


def _note_find(execution: Execution, code: str) -> None:
    visit, context = execution.visit, execution.context
    find = write_of(
        context.driver,
        visit.values[code],
        listed(execution.seen, code),
        visit.sources[code],
        context.fingerprints,
        uid=visit.uid,
        at=context.stamp(),
    )
    execution.ledger.found(visit.uid, code, find)


def _news(known: Observation | None, seen: Observation, every: float) -> bool:
    """Whether a sight is worth writing down: it shows something new, or the last one is old."""
    if known is None or replace(known, at=seen.at, by=seen.by) != seen:
        return True
    age = datetime.fromisoformat(seen.at) - datetime.fromisoformat(known.at)
    return not 0 <= age.total_seconds() < every
