"""
Servers as the ledger knows them, for commands that read no documents or more than these.
"""

from reconciler.errors import UsageError
from reconciler.ledger.ledger import Ledger
from reconciler.ledger.unrecorded import UnrecordedOutcomes
from reconciler.model.recorded import Identity, Recorded

Known = tuple[Identity, Recorded]


def known_servers(ledger: Ledger, unrecorded: UnrecordedOutcomes) -> list[Known]:
    """Return every server with what is known of it, also what the ledger could not take."""
    return [_known(ledger, unrecorded, identity) for identity in ledger.servers()]


def first_known(ledger: Ledger, unrecorded: UnrecordedOutcomes, name: str) -> Known:
    """
    Return the server of this name, of several the one that has something open.

    Raises UsageError.
    """
    servers = ledger.servers()
    called = [identity for identity in servers if identity.name == name]
    if not called:
        names = ", ".join(sorted({identity.name for identity in servers})) or "none yet"
        raise UsageError(f"the ledger knows no server called {name}", f"known: {names}")

    def idle(pair: Known) -> bool:
        return pair[1].requests.open is None and pair[1].requests.halt is None

    return min((_known(ledger, unrecorded, identity) for identity in called), key=idle)


def _known(ledger: Ledger, unrecorded: UnrecordedOutcomes, identity: Identity) -> Known:
    recorded = ledger.load(identity.target, identity.name)
    return identity, unrecorded.known(ledger.ledger_uid, recorded)
