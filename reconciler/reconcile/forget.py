"""
A server is gone: what the ledger says of it ends.  Contacts neither the server nor Vault's secrets.
"""

from collections.abc import Iterator

from reconciler.errors import Blocked
from reconciler.ledger.ledger import Ledger
from reconciler.ledger.unrecorded import UnrecordedOutcomes
from reconciler.model.recorded import HeldBrake, Identity, Recorded
from reconciler.plan.requests import named


def forget(
    ledger: Ledger, unrecorded: UnrecordedOutcomes, identity: Identity, because: str
) -> None:
    """
    Let the ledger forget a server, of which nothing is open.

    Raises Blocked where something is, and LeaseHeld where somebody applies to it.
    """
    with ledger.lease(identity.uid):
        refuse_unsettled(ledger, unrecorded, identity)
        ledger.forget(identity.uid, because)


def refuse_unsettled(ledger: Ledger, unrecorded: UnrecordedOutcomes, identity: Identity) -> None:
    """Raise Blocked for a server of which the ledger still has something to see through."""
    recorded = unrecorded.known(ledger.ledger_uid, ledger.load(identity.target, identity.name))
    if found := next(_unsettled(identity, recorded, ledger.brakes()), None):
        what, remedy = found
        raise Blocked(f"{identity.name} is not forgotten: {what}", remedy)


def _unsettled(
    identity: Identity, recorded: Recorded, brakes: list[HeldBrake]
) -> Iterator[tuple[str, str]]:
    name, requests = identity.name, recorded.requests
    if (request := requests.open) is not None:
        called = named(request.kind, request.instant)
        word = f"{name} {request.kind} INSTANT --done|--not-done --because TEXT"
        yield f"{called} is in doubt", f"say what became of it: jtr request resolve {word}"
    if requests.halt is not None:
        yield (
            "robots are owed a start",
            f"start them, or: jtr request resume {name} --leave --because TEXT",
        )
    for held in brakes:
        if held.harmed is not None and held.harmed.uid == identity.uid:
            yield (
                f"the brake is on: {held.brake.why}",
                f"look into it, then: jtr ledger release-brake {held.over} --because TEXT",
            )
    for code, record in sorted(recorded.exchanges.items()):
        if record.intent is not None or record.deleting:
            yield (
                f"a write of {code} is in doubt: nobody knows which key the server has",
                "declare it once more and `jtr apply`, which finds out",
            )
        if record.debts:
            yield (
                f"{code} owes its robots a restart, or the server a reboot",
                "declare it once more and `jtr apply` after that was done",
            )
