"""
From documents to keys that an exchange can be asked about: the declared versions, read from Vault.

Nothing here asks an exchange, and no trading server is needed.
"""

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence

from msgspec import Struct

from reconciler.errors import JtrError
from reconciler.exchanges import registry
from reconciler.exchanges.auditor import KeyToAsk
from reconciler.model.desired import DesiredExchange, DesiredServer, Presence
from reconciler.model.key_audits import HERE, Audited, Egress, KeyId
from reconciler.model.policy import PolicyAction
from reconciler.model.references import FrozenRef
from reconciler.model.secret import Secret
from reconciler.observe.context import PassContext

EgressOf = Callable[[str, str], Egress]
_AT_ONCE = 8  # servers whose secrets are read


class Gathered(Struct, frozen=True):
    """
    Keys with their values, and a row for each that could not be read.

    `frozen` are the references to each key's credentials, with versions.
    """

    keys: tuple[KeyToAsk, ...]
    unread: tuple[Audited, ...]
    frozen: Mapping[KeyId, Mapping[str, FrozenRef]]

    def sources(self, key: KeyId) -> tuple[str, ...]:
        """Return a key's references with versions, for people."""
        return tuple(sorted({f"{ref.at}@{ref.version}" for ref in self.frozen[key].values()}))


async def gather_keys(
    servers: Iterable[DesiredServer],
    context: PassContext,
    *,
    wanted: Callable[[DesiredExchange], bool] = lambda _exchange: True,
    egress_of: EgressOf = lambda _name, _url: HERE,
    outgoing: Mapping[str, Sequence[str]] | None = None,
) -> Gathered:
    """
    Read every *wanted* key of the documents, the newest settled version or the pinned one.

    *outgoing* are addresses by server that it says it leaves from, as far as they are known.
    """
    gate = asyncio.Semaphore(_AT_ONCE)

    async def one(
        server: DesiredServer, exchange: DesiredExchange
    ) -> tuple[KeyToAsk | Audited, Mapping[str, FrozenRef]]:
        key = KeyId(server.name, exchange.code)
        try:
            async with gate:
                context.policy.check(server, PolicyAction.WRITE, exchange.code)
                values, frozen = await _read(server, exchange, context)
        except JtrError as error:
            return Audited(key, failure=error), {}
        found = KeyToAsk(
            key,
            values,
            exchange.security,
            egress_of(server.name, server.target.url),
            tuple((outgoing or {}).get(server.name, ())),
        )
        return found, frozen

    results = await asyncio.gather(
        *(
            one(server, exchange)
            for server in servers
            for exchange in server.exchanges
            if exchange.presence is Presence.PRESENT
            and registry.has_keys(exchange.code)
            and wanted(exchange)
        )
    )
    return Gathered(
        keys=tuple(found for found, _ in results if isinstance(found, KeyToAsk)),
        unread=tuple(found for found, _ in results if isinstance(found, Audited)),
        frozen={found.id: frozen for found, frozen in results if isinstance(found, KeyToAsk)},
    )


async def _read(
    server: DesiredServer, exchange: DesiredExchange, context: PassContext
) -> tuple[Mapping[str, Secret], Mapping[str, FrozenRef]]:
    frozen = await context.resolver.freeze(exchange, server.target)
    # Of an exchange that ccxt does not know nobody can say what its key consists of.
    required = registry.entry(exchange.code).required or ()
    values = await context.resolver.credentials(exchange, frozen, required)
    return values, frozen
