"""
Where rows live: SQLite, Vault KV, memory.

Never knows what a row means; compare-and-set is all they promise.
"""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from reconciler.errors import UsageError
from reconciler.system.timeouts import Timeouts

if TYPE_CHECKING:
    from reconciler.ledger.stores.vault_kv import KeyValue
from reconciler.ledger import Store


def open_store(
    place: str,
    timeouts: Timeouts,
    *,
    create: bool = False,
    documents: "KeyValue | None" = None,
    closing: Callable[[], None] | None = None,
) -> Store:
    """
    Open the store that the setting `ledger` names, such as `sqlite:/var/lib/jtr/ledger.db`.

    For `vault:MOUNT/PATH` *documents* is what lies there, and *closing* is called when the store
    closes.  With *create* a new one is made, and it is an error when there already is a ledger.
    Raises LedgerMissing when there is none and *create* is False.
    """
    kind, _, rest = place.partition(":")
    if kind == "vault" and documents is not None:
        from reconciler.ledger.stores.vault_kv import VaultStore  # noqa: PLC0415  - only where it is used

        if create:
            return VaultStore.create(documents, closing=closing)
        return VaultStore.open(documents, closing=closing)
    if kind != "sqlite" or not rest:
        raise UsageError(
            "the setting ledger is not understood", "write sqlite:PATH or vault:MOUNT/PATH"
        )
    from reconciler.ledger.stores.sqlite import SqliteStore  # noqa: PLC0415  - only where it is used

    opener = SqliteStore.create if create else SqliteStore.open
    return opener(Path(rest).expanduser(), busy=timeouts.ledger_busy)
