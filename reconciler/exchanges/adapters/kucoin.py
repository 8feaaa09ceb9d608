"""
KuCoin, with its id for futures alone: `GET /api/v1/user/api-key`.

One key serves both ids, so that their answers are the same.  Shapes after the exchange's own SDK
(kucoin-universal-sdk); names of permissions after kucoin.com/docs-new.  It has no test network.
"""

from collections.abc import Mapping
from typing import Any, Final

from reconciler.exchanges import parse as take
from reconciler.exchanges.adapter import Adapter, Credentials
from reconciler.model.key_facts import Cap, Environment, KeyFacts, Status

_CODES: Final[Mapping[str, Status]] = {
    **dict.fromkeys(("400003", "400004", "400005"), Status.REJECTED),
    "400001": Status.INDETERMINATE,  # a header got lost
    "400002": Status.CLOCK,
    "400006": Status.IP_REFUSED,  # ccxt takes it for a wrong key
    "400007": Status.DENIED,  # and this
    "429000": Status.RATE_LIMITED,
    "500000": Status.UNREACHABLE,
}

_CAPS: Final = {
    "General": {Cap.ACCOUNT_READ},
    "Spot": {Cap.SPOT},
    "Margin": {Cap.MARGIN},
    "Futures": {Cap.PERPETUAL, Cap.DELIVERY},
    "InnerTransfer": {Cap.TRANSFER},
    "FlexTransfers": {Cap.TRANSFER},
    "Withdrawal": {Cap.WITHDRAW},
    "Transfer": {Cap.WITHDRAW, Cap.TRANSFER},  # as the SDK still calls it
    "Earn": {Cap.EARN},
    "LeadtradeFutures": {Cap.COPY},
    "Unified": {Cap.UNIFIED},
    "Trade": {Cap.SPOT, Cap.MARGIN},  # of keys made before the two were apart
}


class Kucoin(Adapter):
    """The expiry of a key is not told; one that KuCoin knows is a live one, wherever it belongs."""

    def facts(self, answer: Any, ours: Credentials, _environment: Environment, /) -> KeyFacts:
        data = take.record(take.good(answer, "code", 200_000), "data")
        grants = take.grants(take.names(data, "permission"), _CAPS, reads=("General",))
        return KeyFacts(
            grants=grants,
            # Without a list it is bound to nothing.
            ip=take.addresses({"ipWhitelist": "", **data}, "ipWhitelist"),
            read_only=take.only_reads(grants),
            created_at=take.milliseconds(data, "createdAt"),
            environment=Environment.LIVE,
            master=take.flag(data, "isMaster") if "isMaster" in data else None,
            same_key=take.same_key(take.text(data, "apiKey"), ours["apiKey"]),
            traits=take.lacking(data, ("isMaster",)),
        )


ADAPTERS: Final = tuple(
    Kucoin(
        ccxt_id,
        method="privateGetUserApiKey",
        needs=("apiKey", "secret", "password"),
        names=_CAPS,
        codes=_CODES,
        version=2,
    )
    for ccxt_id in ("kucoin", "kucoinfutures")
)
