"""
Where rows live, a file for each kind of store; the one with a `SCHEME` is found by it.

Never knows what a row means; compare-and-set is all they promise.
"""

import functools
from collections.abc import Callable, Mapping
from importlib import import_module
from pkgutil import iter_modules
from types import ModuleType
from typing import TYPE_CHECKING

from reconciler.errors import UsageError
from reconciler.ledger import Store
from reconciler.system.timeouts import Timeouts

if TYPE_CHECKING:
    from reconciler.ledger.stores.vault_kv import KeyValue


@functools.cache
def stores() -> Mapping[str, ModuleType]:
    """Return the modules whose stores the setting `ledger` can name, by its first word."""
    found = [import_module(f"{__name__}.{module.name}") for module in iter_modules(__path__)]
    return {module.SCHEME: module for module in found if hasattr(module, "SCHEME")}


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
    scheme, _, rest = place.partition(":")
    if scheme not in stores() or not rest:
        raise UsageError(
            "the setting ledger is not understood", "write sqlite:PATH or vault:MOUNT/PATH"
        )
    store: Store = stores()[scheme].open_at(
        rest, create=create, timeouts=timeouts, documents=documents, closing=closing
    )
    return store
