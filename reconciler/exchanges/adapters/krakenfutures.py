"""
Kraken Futures: `GET /api/auth/v1/api-keys/v3/check`, for which any permission is enough.

Documented at docs.kraken.com (futures, check v3 API key; authentication).  ccxt does not know that
address, but signs it as its others of the kind.  Two permissions are told, each with a tier; what
their names cover is told on the form for new keys (support.kraken.com).  Neither its end is told
nor whether it is a sub-account's.  The demo is another host, with keys of its own.  It takes no
nonce that must grow.

What that address says of a wrong key is not documented word for word: where it refuses in a word
that nobody knows, the balances are asked for, which say no more than whether a key is valid.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from reconciler.exchanges import parse as take
from reconciler.exchanges import shapes
from reconciler.exchanges.adapter import Credentials
from reconciler.exchanges.adapters.signed_read import SignedRead
from reconciler.exchanges.classify import classify
from reconciler.model.key_facts import Cap, Environment, Grant, IpRule, KeyFacts, Status

_CHECK: Final = "api-keys/v3/check"
_READS: Final = {"general": frozenset({Cap.ACCOUNT_READ}), "transfer": frozenset({Cap.TRANSFER})}
_WRITES: Final = {
    # Orders, and transfers between the account's own wallets.
    "general": frozenset({Cap.PERPETUAL, Cap.DELIVERY, Cap.TRANSFER}),
    "transfer": frozenset({Cap.WITHDRAW, Cap.TRANSFER}),
}
_NONE: Final = "NO_ACCESS"
_TIERS: Final = {"READ_ONLY": (True, False), "FULL_ACCESS": (True, True)}


class KrakenFutures(SignedRead):
    """The host tells the environment: an answered call proves that the key belongs to it."""

    def malformed(self, ours: Credentials, /) -> str:
        return super().malformed(ours) or shapes.not_base64(ours, "secret")

    def fetch(self, exchange: Any, environment: Environment, /) -> Sequence[Any]:
        """Ask with one request, and with another where the exchange refused it in a new word."""
        urls, options = exchange.urls["api"], exchange.options
        urls["auth"] = urls["history"].replace("/history/", "/auth/")
        options["versions"]["auth"] = {"GET": {_CHECK: "v1"}}
        options["access"]["auth"] = {"GET": {_CHECK: "private"}}
        try:
            return (exchange.request(_CHECK, ["auth"], "GET", {}),)
        except Exception as error:
            status, code = classify(error, exchange.last_http_response, self)
            if status is not Status.INDETERMINATE or " " in code or not code:
                raise
        return super().fetch(exchange, environment)

    def facts(self, answer: Any, ours: Credentials, environment: Environment, /) -> KeyFacts:
        told = take.mapping(answer, "the answer")
        if "permissions" not in told:
            return super().facts(answer, ours, environment)
        permissions = take.record(told, "permissions")
        for promised in _WRITES:
            take.text(permissions, promised)
        grants = tuple(grant for name in permissions for grant in _grants(permissions, name))
        return KeyFacts(
            grants=grants,
            ip=_ip(told),
            read_only=take.only_reads(grants),
            created_at=take.iso(told, "createdAt"),
            environment=environment,
            traits=take.lacking(told, ("allowedCidrBlock",)),
            same_key=take.same_key(take.text(told, "apiKey"), ours["apiKey"]),
        )


def _grants(permissions: Mapping[str, Any], name: str) -> Iterator[Grant]:
    raw, tier = take.name(name, "a permission"), permissions[name]
    if tier == _NONE:
        return
    # A tier that nobody knows may be any of the greater ones.
    reads, writes = _TIERS.get(tier, (True, True)) if isinstance(tier, str) else (True, True)
    caps = _READS.get(raw, take.UNKNOWN), _WRITES.get(raw, take.UNKNOWN)
    yield from take.scope(raw, caps, reads=reads, writes=writes)


def _ip(told: Mapping[str, Any]) -> IpRule:
    """Return the rule; the older, single network may stand beside the list."""
    single = told.get("allowedCidrBlock")
    return take.ip_rule([*take.entries(told, "allowedCidrBlocks"), *([single] if single else [])])


ADAPTERS: Final = (
    KrakenFutures(
        "krakenfutures",
        method="privateGetAccounts",
        names=_WRITES,
        holds="accounts",
        says=("result", "success"),
        codes={
            "authenticationError": Status.REJECTED,
            **dict.fromkeys(("nonceBelowThreshold", "nonceDuplicate"), Status.CLOCK),
            "apiLimitExceeded": Status.RATE_LIMITED,
            **dict.fromkeys(("Unavailable", "unavailable"), Status.UNREACHABLE),
        },
        disturbs_trading=False,
        version=2,
    ),
)
