"""
Servers that operators paused: a suspension that stands in no document, put over those that do.

So one mechanism holds them back, whichever command or controller it is, up to the last look before
a send.  What a document says itself stays as it is.
"""

from collections.abc import Iterable
from datetime import datetime

from reconciler.model.desired import DesiredServer, DesiredState, Suspension
from reconciler.model.recorded import Pause
from reconciler.model.target import Target
from reconciler.model.values import replace


def paused(state: DesiredState, pauses: Iterable[Pause], now: datetime) -> DesiredState:
    """Return *state* with the pauses that hold at *now*."""
    held = [pause for pause in pauses if pause.until > now]
    if not held:
        return state
    over = _Over((*held, *followed(held, state)), now)
    return DesiredState(tuple(map(over.on, state.servers)), state.skipped, state.others)


def heeded(server: DesiredServer, pauses: Iterable[Pause], now: datetime) -> DesiredServer:
    """Return a server that the ledger knows at this address, with the pauses that hold at *now*."""
    return _Over((pause for pause in pauses if pause.until > now), now).on(server)


def followed(pauses: Iterable[Pause], state: DesiredState) -> tuple[Pause, ...]:
    """
    Return *pauses* with the addresses that *state* gives their servers.

    Where no document has the address any more it is the server of that name, as in the ledger: it
    is to move, and as long as nobody approved that the ledger knows the old address.
    """
    named = {server.name: server.target for server in (*state.servers, *state.others)}
    return tuple(
        pause
        if pause.target in state.targets
        else replace(pause, target=named.get(pause.name, pause.target))
        for pause in pauses
    )


class _Over:
    """Puts pauses over servers; of several of one server the one that holds longest."""

    def __init__(self, pauses: Iterable[Pause], now: datetime) -> None:
        self._now = now
        self._held = {one.target: one for one in sorted(pauses, key=lambda one: one.until)}
        self._at: dict[str, list[Target]] = {}  # accounts of one address share a process
        for target in sorted(self._held):
            self._at.setdefault(target.url, []).append(target)

    def on(self, server: DesiredServer) -> DesiredServer:
        target, held = server.target, self._held
        here = self._at.get(target.url)
        if here is None:
            return server
        others = tuple((one.account, _said(held[one])) for one in here if one != target)
        server = _suspended(server, held.get(target), self._now)
        if not others:
            return server
        documents = (one for one in server.suspended_accounts if not one[1].operator)
        return replace(server, suspended_accounts=(*documents, *others))


def _suspended(server: DesiredServer, pause: Pause | None, now: datetime) -> DesiredServer:
    own = server.suspend
    if pause is None or (own is not None and (own.until is None or own.until >= pause.until)):
        return server
    said = _said(pause)
    if own is not None and own.holds(now) and not own.operator:
        # Both hold, ours for longer: who reads it has to know of the document's, too.
        said = replace(said, reason=f"{pause.reason} (and its document: {own.reason})")
    return replace(server, suspend=said)


def _said(pause: Pause) -> Suspension:
    return Suspension(pause.reason, pause.by, pause.until, operator=True)
