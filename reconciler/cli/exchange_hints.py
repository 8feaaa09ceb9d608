"""
What a mistyped exchange may have been meant to be, by what servers of this host's ledger showed.

Only a hint: without settings, without a ledger on this host, or with one that cannot be read, there
is none.  The first servers that list all codes are enough, so most often one row is read.
"""

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from typing import TYPE_CHECKING

from reconciler.errors import JtrError
from reconciler.model.desired import DesiredExchange, DesiredState
from reconciler.model.wording import close_to
from reconciler.settings.paths import settings_file, xdg

if TYPE_CHECKING:
    from reconciler.settings.notifications import OwnKeys


def hints(state: DesiredState, paths: Sequence[str]) -> list[str]:
    """Return a line for each exchange that no server lists, if it is near to one that is listed."""
    try:
        return list(_hints(state, paths)) if _has_ledger() else []
    except (JtrError, OSError):
        return []  # validate says what is wrong with documents, and only that


def _has_ledger() -> bool:
    own = xdg(os.environ, "XDG_STATE_HOME", ".local/state") / "jtr" / "ledger.db"
    return own.exists() or settings_file(None, os.environ) is not None


def _hints(state: DesiredState, paths: Sequence[str]) -> Iterator[str]:
    declared = [exchange for server in state.servers for exchange in server.exchanges]
    listed = _listed({exchange.code for exchange in declared}, paths)
    for exchange in declared:
        if listed and exchange.code not in listed:
            yield from _hint(exchange, listed)


def _hint(exchange: DesiredExchange, listed: Iterable[str]) -> Iterator[str]:
    if near := close_to(exchange.code, listed):
        yield (
            f"{exchange.source}: no server of this ledger lists an exchange {exchange.code}; "
            f"did you mean {' or '.join(near)}?"
        )


def _own_keys(kind: str) -> "OwnKeys":
    from reconciler.notifications.senders import sender  # noqa: PLC0415  - only where there is one

    return sender(kind)


def _listed(wanted: set[str], paths: Sequence[str]) -> set[str]:
    """Return the codes that servers listed, as far as it takes to find all that are wanted."""
    from reconciler.ledger.codec.records import read  # noqa: PLC0415  - only where a ledger may be
    from reconciler.ledger.codec.rows import SERVERS, is_observation  # noqa: PLC0415
    from reconciler.ledger.stores import open_store  # noqa: PLC0415
    from reconciler.model.recorded import Observation  # noqa: PLC0415
    from reconciler.settings.load import read_settings  # noqa: PLC0415

    settings = read_settings(None, os.environ, paths, _own_keys)
    file = settings.ledger.file
    if file is None or not os.path.exists(file):  # noqa: PTH110  - a ledger in Vault is not asked
        return set()
    found: set[str] = set()
    with closing(open_store(str(settings.ledger), settings.timeouts, create=False)) as store:
        for key in filter(is_observation, store.keys(SERVERS)):
            if wanted <= found:
                break
            stored = store.get(key)
            found |= read(Observation, key, stored.text).masks.keys() if stored else set()
    return found
