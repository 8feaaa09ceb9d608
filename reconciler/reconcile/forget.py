"""
A server is gone: what the ledger says of it ends.  Contacts neither the server nor Vault's secrets.
"""

from collections.abc import Collection, Iterator
from typing import NamedTuple

from reconciler.errors import Blocked
from reconciler.ledger.ledger import Ledger
from reconciler.ledger.unrecorded import UnrecordedOutcomes
from reconciler.model.recorded import HeldBrake, Identity, Owed, Recorded, due
from reconciler.plan.requests import named


class Unsettled(NamedTuple):
    """What is still open of a server; what is `lost` with the machine a person may write off."""

    what: str
    remedy: str
    lost: bool = True


def forget(
    ledger: Ledger,
    unrecorded: UnrecordedOutcomes,
    identity: Identity,
    because: str,
    shown: Collection[Unsettled],
) -> tuple[Unsettled, ...]:
    """
    Let the ledger forget a server of which nothing is open but what was *shown* to be written off.

    Returns what was written off.  Raises Blocked where more is open by now, and LeaseHeld where
    somebody applies to it.
    """
    with ledger.lease(identity.uid):
        found = _open_ends(ledger, unrecorded, identity)
        for one in found:
            if one not in shown:
                raise _refused(identity, one, f"meanwhile {one.what}")
        words = [because, *(f"written off: {one.what}" for one in found)]
        ledger.forget(identity.uid, "; ".join(words))
        return found


def refuse_unsettled(
    ledger: Ledger, unrecorded: UnrecordedOutcomes, identity: Identity, *, write_off: bool = False
) -> tuple[Unsettled, ...]:
    """
    Raise Blocked for a server of which the ledger still has something to see through.

    With *write_off* what only the machine itself could settle is returned instead.
    """
    found = _open_ends(ledger, unrecorded, identity)
    for one in found:
        if not (write_off and one.lost):
            raise _refused(identity, one, one.what)
    return found


def _refused(identity: Identity, one: Unsettled, what: str) -> Blocked:
    gone = "; if the machine is gone for good: --write-off" if one.lost else ""
    return Blocked(f"{identity.name} is not forgotten: {what}", f"{one.remedy}{gone}")


def _open_ends(
    ledger: Ledger, unrecorded: UnrecordedOutcomes, identity: Identity
) -> tuple[Unsettled, ...]:
    recorded = unrecorded.known(ledger.ledger_uid, ledger.load(identity.target, identity.name))
    return tuple(_unsettled(identity, recorded, ledger.brakes()))


def _unsettled(
    identity: Identity, recorded: Recorded, brakes: list[HeldBrake]
) -> Iterator[Unsettled]:
    name, requests = identity.name, recorded.requests
    for held in brakes:
        if held.harmed is not None and held.harmed.uid == identity.uid:
            yield Unsettled(
                f"the brake is on: {held.brake.why}",
                f"look into it, then: jtr ledger release-brake {held.over} --because TEXT",
                lost=False,  # it says something about every server like it
            )
    if (request := requests.open) is not None:
        called = named(request.kind, request.instant)
        word = f"{name} {request.kind} INSTANT --done|--not-done --because TEXT"
        yield Unsettled(
            f"{called} is in doubt", f"say what became of it: jtr request resolve {word}"
        )
    if (halt := requests.halt) is not None:
        robots = ", ".join(f"{robot.name} ({robot.id})" for robot in halt.robots)
        yield Unsettled(
            f"robots are owed a start: {robots}",
            f"start them, or: jtr request resume {name} --leave --because TEXT",
        )
    for code, record in sorted(recorded.exchanges.items()):
        if record.intent is not None or record.deleting:
            yield Unsettled(
                f"a write of {code} is in doubt: nobody knows which key the server has",
                "declare it once more and `jtr apply`, which finds out",
            )
        for owed, what in (
            (Owed.RESTART, f"a restart of its robots is owed since a write of {code}"),
            (Owed.REBOOT, f"a reboot is owed since a write of {code}"),
        ):
            if due(record.debts, owed):
                yield Unsettled(what, "declare it once more and `jtr apply` after that was done")
