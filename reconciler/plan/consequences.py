"""
What a credential write means for the robots: what they need, what stays owed, what is settled.

Pure.  A robot takes a new API key when it restarts; the server caches its exchange client by API
key for the life of its process (docs/protocol.md, 8).
"""

from collections.abc import Iterable, Sequence

from reconciler.model.actions import Consequence, Need, WriteExchange
from reconciler.model.evidence import Evidence
from reconciler.model.observed import Robot
from reconciler.model.recorded import Debt, ExchangeRecord, Observation, Owed, Purpose, Recorded
from reconciler.model.values import replace
from reconciler.plan.compare import Shown


def running_on(robots: Iterable[Robot], exchange: str) -> tuple[Robot, ...]:
    return tuple(sorted(r for r in robots if r.running and r.exchange == exchange))


def needed(
    record: ExchangeRecord, shown: Shown, evidence: Evidence | None, boot: int | None
) -> Need:
    """
    Say what robots need before they use the new credential.

    A robot takes a new API key when it restarts.  The server caches its client by API key for the
    life of its process: with the same API key, or one written since the last boot with other
    companions, only a reboot helps (docs/protocol.md, 8).  What the server shows counts as well:
    another hand may have stored that API key with other companions, and a robot started with them.
    """
    if evidence is None:
        return Need.EITHER if shown.present or record.past_keys else Need.RESTART
    mixed = _mixed(record, shown)
    if evidence.unchanged and not mixed:
        return Need.NOTHING
    booted = record.past_boot is not None and boot is not None and boot > record.past_boot
    past = () if booted else record.past_keys
    # A first write to an empty exchange: nothing is cached under any key yet.
    cached = any(
        key == evidence.api_key and companions != evidence.companions for key, companions in past
    )
    # What may be on the server may be cached, whenever it was booted; that holds for writes of
    # unknown outcome, too.
    there = [w for w in (record.written, record.intent, *record.earlier) if w is not None]
    if any(w.api_key == evidence.api_key and w.companions != evidence.companions for w in there):
        cached = True
    elif (mixed or (record.written is None and shown.present)) and evidence.same_api_key:
        cached = True  # another hand's key that may be the same one
    return Need.REBOOT if cached else Need.RESTART


def _mixed(record: ExchangeRecord, shown: Shown) -> bool:
    """Whether a server shows what no single write of ours left: another hand's, or a torn pair."""
    ours = [w for w in (record.written, record.intent, *record.earlier) if w is not None]
    if any(write.key_id != shown.key_id for write in ours):
        return False  # nobody can tell
    return bool(ours) and not any(shown.like(write) == shown.present for write in ours)


def new_debts(
    action: WriteExchange,
    consequence: Consequence | None,
    *,
    since: str,
    boot: int | None,
    running: Sequence[Robot],
) -> tuple[Debt, ...]:
    """Return what a write leaves owed; a correction leaves nothing that acts."""
    if action.purpose is Purpose.CORRECTION or consequence is None:
        return ()
    debts = [
        Debt(Owed.RESTART, action.exchange, since, boot, robot.id, robot.name) for robot in running
    ]
    if consequence.need in (Need.REBOOT, Need.EITHER):
        debts.append(Debt(Owed.REBOOT, action.exchange, since, boot))
    return tuple(debts)


def open_debts(recorded: Recorded, observation: Observation) -> tuple[Debt, ...]:
    """Return the debts that *observation* does not prove to be settled."""
    return tuple(
        debt
        for code in sorted(recorded.exchanges)
        for debt in remaining(recorded.exchanges[code].debts, observation)
    )


def remaining(debts: Iterable[Debt], observation: Observation) -> tuple[Debt, ...]:
    """Drop the debts that are proved settled; log lines are compared with log lines only."""
    running = {robot.id for robot in observation.robots if robot.running}
    kept = []
    for debt in debts:
        booted = (
            debt.boot is not None and observation.boot is not None and observation.boot > debt.boot
        )
        stopped = debt.owed is Owed.RESTART and debt.robot_id not in running
        if not booted and not stopped:
            # Without a boot line to compare with, the first one seen becomes the baseline.
            kept.append(debt if debt.boot is not None else replace(debt, boot=observation.boot))
    return tuple(kept)
