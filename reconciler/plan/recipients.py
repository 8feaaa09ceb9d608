"""
What a server would get that it never got before: said first, whatever else a plan says.
"""

from collections.abc import Iterable, Iterator

from reconciler.model.actions import Action, DeleteExchange, WriteExchange
from reconciler.model.desired import DesiredServer
from reconciler.model.recipients import NewRecipient, Novelty, Recipient, told
from reconciler.model.recorded import ExchangeRecord, Received, Recorded
from reconciler.model.references import SecretPath, SecretRef


def new_recipient(desired: DesiredServer, recorded: Recorded) -> tuple[NewRecipient, ...]:
    """Say in which way the server is a recipient that the ledger does not know."""
    return tuple(_new_recipient(Recipient.of(desired), recorded))


def _new_recipient(recipient: Recipient, recorded: Recorded) -> Iterator[NewRecipient]:
    identity, received = recorded.identity, recorded.received
    there = identity is not None and identity.target == recipient.target
    if identity is None:
        yield NewRecipient(Novelty.CONTACT, f"no server is known yet at {recipient.target}")
    elif not there:
        yield NewRecipient(Novelty.ADDRESS, f"{recipient.target}; it was {identity.target}")
    if not there:
        if recipient.login:
            logins = frozenset(ref.at for ref in recipient.login)
            yield NewRecipient(Novelty.LOGIN, told(recipient.login), logins)
        if recipient.paths:
            yield NewRecipient(Novelty.VALUES, told(recipient.paths), frozenset(recipient.paths))
        return
    # A ledger of an earlier version does not know the login; its next apply notes it.
    if received is not None:
        yield from _login("accessSecret", recipient.access_secret, received.access_secret)
        yield from _login("accessToken", recipient.access_token, received.access_token)
    known = _paths(recorded)
    if fresh := [path for path in recipient.paths if path not in known]:
        yield NewRecipient(Novelty.VALUES, told(fresh), frozenset(fresh))


def _login(name: str, wanted: SecretRef | None, known: SecretRef | None) -> Iterator[NewRecipient]:
    if wanted is not None and wanted != known:
        said = f"{name} {wanted}; it was {known or 'none'}"
        yield NewRecipient(Novelty.LOGIN, said, frozenset({wanted.at}))


def _paths(recorded: Recorded) -> frozenset[SecretPath]:
    """Return the paths of which it got, or may have got, values, or may by somebody's yes."""
    received = recorded.received.paths if recorded.received is not None else ()
    return _there(recorded.exchanges.values()).union(received)


def _there(records: Iterable[ExchangeRecord]) -> frozenset[SecretPath]:
    # Not what was found: it tells of one value that is there, and nobody's yes to send the next.
    writes = (
        write
        for record in records
        for write in (record.written, record.intent, *record.earlier)
        if write is not None
    )
    return frozenset(ref.at for write in writes for ref in write.sources.values())


def receiving(
    desired: DesiredServer,
    actions: Iterable[Action],
    recorded: Recorded,
    agreed: Iterable[SecretPath] = (),
) -> Received:
    """
    Return what is to be remembered of what a server got, before *actions* replace its records.

    What they send stands in the record of each write, from before it is sent.  *agreed* are the
    secrets of which it may get values and has them already, by another hand: nothing is sent.
    """
    touched = {
        action.exchange for action in actions if isinstance(action, WriteExchange | DeleteExchange)
    }
    known = recorded.received.paths if recorded.received is not None else ()
    left = _there(record for code, record in recorded.exchanges.items() if code in touched)
    paths = tuple(sorted(left.union(known, agreed)))
    return Received(desired.access_secret, desired.access_token, paths)
