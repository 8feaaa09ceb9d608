"""
What a server would get that it never got before: said first, whatever else a plan says.
"""

from collections.abc import Iterable, Iterator

from reconciler.model.actions import Action, WriteExchange
from reconciler.model.desired import DesiredServer
from reconciler.model.recipients import News, Novelty, Recipient, told
from reconciler.model.recorded import Received, Recorded
from reconciler.model.references import SecretPath, SecretRef


def news(desired: DesiredServer, recorded: Recorded) -> tuple[News, ...]:
    """Say in which way the server is a recipient that the ledger does not know."""
    return tuple(_news(Recipient.of(desired), recorded))


def _news(recipient: Recipient, recorded: Recorded) -> Iterator[News]:
    identity, received = recorded.identity, recorded.received
    there = identity is not None and identity.target == recipient.target
    if identity is None:
        yield News(Novelty.CONTACT, f"no server is known yet at {recipient.target}")
    elif not there:
        yield News(Novelty.ADDRESS, f"{recipient.target}; it was {identity.target}")
    if not there:
        if recipient.login:
            yield News(Novelty.LOGIN, told(recipient.login))
        if recipient.paths:
            yield News(Novelty.VALUES, told(recipient.paths))
        return
    # A ledger of an earlier version does not know the login; its next apply notes it.
    if received is not None:
        yield from _login("accessSecret", recipient.access_secret, received.access_secret)
        yield from _login("accessToken", recipient.access_token, received.access_token)
    known = _paths(recorded)
    if fresh := [path for path in recipient.paths if path not in known]:
        yield News(Novelty.VALUES, told(fresh))


def _login(name: str, wanted: SecretRef | None, known: SecretRef | None) -> Iterator[News]:
    if wanted is not None and wanted != known:
        yield News(Novelty.LOGIN, f"{name} {wanted}; it was {known or 'none'}")


def _paths(recorded: Recorded) -> frozenset[SecretPath]:
    """Return the paths of which the server has, or may have, got values."""
    received = recorded.received
    writes = [
        write
        for record in recorded.exchanges.values()
        for write in (record.written, record.intent, *record.earlier)
        if write is not None
    ]
    found = {ref.at for write in writes for ref in write.sources.values()}
    return frozenset(found | set(received.paths if received is not None else ()))


def receiving(
    desired: DesiredServer, actions: Iterable[Action], before: Received | None
) -> Received:
    """Return what a server will have got once *actions* are done."""
    sent = {
        ref.at
        for action in actions
        if isinstance(action, WriteExchange)
        for _, ref in action.sources
    }
    paths = sent | set(before.paths if before is not None else ())
    return Received(desired.access_secret, desired.access_token, tuple(sorted(paths)))
