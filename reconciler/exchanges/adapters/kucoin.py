"""
KuCoin, with its id for futures alone: `GET /api/v1/user/api-key`.

One key serves both ids, so that their answers are the same.  Shapes after the exchange's own SDK
(kucoin-universal-sdk); names of permissions after kucoin.com/docs-new.  It has no test network.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from reconciler.exchanges import parse as take
from reconciler.exchanges.adapter import Credentials, NotUnderstood
from reconciler.model.key_facts import Access, Cap, Environment, Grant, KeyFacts, Status

_OK: Final = 200_000
_CODES: Final[Mapping[str, Status]] = {
    "400001": Status.INDETERMINATE,  # a header got lost
    "400002": Status.CLOCK,
    "400003": Status.REJECTED,
    "400004": Status.REJECTED,
    "400005": Status.REJECTED,
    "400006": Status.IP_REFUSED,  # ccxt takes it for a wrong key
    "400007": Status.DENIED,  # and this
    "429000": Status.RATE_LIMITED,
    "500000": Status.UNREACHABLE,
}

_CAPS: Final[Mapping[str, frozenset[Cap]]] = {
    "General": frozenset({Cap.ACCOUNT_READ}),
    "Spot": frozenset({Cap.SPOT}),
    "Margin": frozenset({Cap.MARGIN}),
    "Futures": frozenset({Cap.PERPETUAL, Cap.DELIVERY}),
    "InnerTransfer": frozenset({Cap.TRANSFER}),
    "Transfer": frozenset({Cap.WITHDRAW, Cap.TRANSFER}),
    "Earn": frozenset({Cap.EARN}),
    "Trade": frozenset({Cap.SPOT, Cap.MARGIN}),  # of keys made before the two were apart
}
_UNKNOWN: Final = frozenset({Cap.OTHER})


@dataclass(frozen=True, slots=True)
class Kucoin:
    """Asks KuCoin about a key; its expiry is not told."""

    ccxt_id: str
    version: int = 1
    disturbs_trading: bool = False

    @property
    def codes(self) -> Mapping[str, Status]:
        """`code` of the answer."""
        return _CODES

    def fetch(self, exchange: Any, environment: Environment) -> Sequence[Any]:
        """Ask with one request."""
        del environment
        return (exchange.privateGetUserApiKey(),)

    def parse(
        self, answers: Sequence[Any], credentials: Credentials, environment: Environment
    ) -> KeyFacts:
        """Return the facts; a key that KuCoin knows is a live one, wherever it should belong."""
        del environment
        answer = take.only(answers)
        if take.integer(answer, "code") != _OK:
            raise NotUnderstood("code is not 200000")
        data = take.mapping(take.member(answer, "data"), "data")
        grants = tuple(_grant(raw) for raw in take.names(data, "permission"))
        return KeyFacts(
            grants=grants,
            ip=take.addresses(data, "ipWhitelist"),
            read_only=all(grant.access is Access.READ for grant in grants),
            created_at=take.milliseconds(data, "createdAt"),
            environment=Environment.LIVE,
            master=take.flag(data, "isMaster") if "isMaster" in data else None,
            same_key=take.same_key(take.text(data, "apiKey"), credentials["apiKey"]),
        )


def _grant(raw: str) -> Grant:
    caps = _CAPS.get(raw, _UNKNOWN)
    access = Access.READ if raw == "General" else Access.WRITE
    return Grant(raw, caps, access=access, separable=len(caps) == 1)


ADAPTER: Final = Kucoin("kucoin")
FUTURES: Final = Kucoin("kucoinfutures")
