"""
Binance, with its ids for futures alone: `GET /sapi/v1/account/apiRestrictions`, weight 1.

Documented at developers.binance.com/docs/wallet/account/api-key-permission.  It says whether a key
is bound, not to what.  The test networks have no such endpoint: there a balance proves that a key
lives, and nothing else is known.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from reconciler.exchanges import parse as take
from reconciler.exchanges.adapter import Adapter, Credentials
from reconciler.model.key_facts import Cap, Environment, IpRule, KeyFacts, Status

_CODES: Final[Mapping[str, Status]] = {
    **dict.fromkeys(("-1001", "-1006", "-1007", "-1016"), Status.UNREACHABLE),
    **dict.fromkeys(("-1003", "-1008", "-1015"), Status.RATE_LIMITED),
    **dict.fromkeys(("-1022", "-2008", "-2014"), Status.REJECTED),
    "-1002": Status.INDETERMINATE,  # "not authorized": by what is not told
    "-1021": Status.CLOCK,
    # Key, address or permission, and a ban for asking too often as well: Binance does not tell.
    "-2015": Status.INDETERMINATE,
    "HTTP 403": Status.RATE_LIMITED,  # its firewall, of too many or odd requests
}

_CAPS: Final = {
    "enableReading": {Cap.ACCOUNT_READ},
    # One permission for orders on both; borrowing is enableMargin.
    "enableSpotAndMarginTrading": {Cap.SPOT, Cap.MARGIN},
    "enableMargin": {Cap.MARGIN},
    "enableFutures": {Cap.PERPETUAL, Cap.DELIVERY},
    "enableVanillaOptions": {Cap.OPTION},
    "enableWithdrawals": {Cap.WITHDRAW},
    "enableInternalTransfer": {Cap.TRANSFER, Cap.SUBACCOUNT},
    "permitsUniversalTransfer": {Cap.TRANSFER},
    "enablePortfolioMarginTrading": {Cap.UNIFIED},
    "enableFixReadOnly": {Cap.ACCOUNT_READ},
    "enableFixApiTrade": {Cap.SPOT},  # FIX takes orders there only
}
_READS: Final = ("enableReading", "enableFixReadOnly")
_PROMISED: Final = ("enableReading", "enableWithdrawals", "enableSpotAndMarginTrading")
_BOUND: Final = "ipRestrict"


@dataclass(frozen=True, kw_only=True)
class Binance(Adapter):
    """
    `balance` is ccxt's implicit method for the balance of this id's own test network, and `sums`
    the field that holds a list of balances there; empty when the whole answer is the list.
    """

    balance: str
    sums: str

    def fetch(self, exchange: Any, environment: Environment, /) -> Sequence[Any]:
        if environment is Environment.LIVE:
            return super().fetch(exchange, environment)
        # ccxt refuses to speak to the futures test network unless told so.
        exchange.options["disableFuturesSandboxWarning"] = True
        return (getattr(exchange, self.balance)(),)

    def facts(self, answer: Any, _ours: Credentials, environment: Environment, /) -> KeyFacts:
        if environment is Environment.TEST:
            return self._lives(answer)
        told = take.mapping(answer, "the answer")
        bound = take.flag(told, _BOUND)
        switches = {key: value for key, value in told.items() if key != _BOUND}
        on = take.switched_on(switches, _PROMISED, _CAPS, like=("enable", "permits"))
        grants = take.grants(on, _CAPS, reads=_READS)
        return KeyFacts(
            grants=grants,
            ip=IpRule(bound=bound),
            read_only=take.only_reads(grants),
            created_at=take.milliseconds(told, "createTime"),
            # Strictly, when trading lapses; told only of unbound keys.
            expires_at=take.milliseconds(told, "tradingAuthorityExpirationTime"),
            environment=environment,
            traits=take.lacking(told, _CAPS),
        )

    def _lives(self, answer: Any) -> KeyFacts:
        if self.sums:
            answer = take.member(take.mapping(answer, "the answer"), self.sums)
        take.listing(answer, "the balances")
        # canTrade and canWithdraw beside them are about the account, not the key.
        return KeyFacts(environment=Environment.TEST)


ADAPTERS: Final = tuple(
    Binance(
        ccxt_id,
        method="sapiGetAccountApiRestrictions",
        names=_CAPS,
        balance=balance,
        sums=sums,
        codes=_CODES,
        version=2,
        hints={
            "-2015": "; it says so of a wrong key, address or permission alike",
            "HTTP 451": "; it does not serve the place that it was asked from",
        },
    )
    for ccxt_id, balance, sums in (
        ("binance", "privateGetAccount", "balances"),
        ("binanceusdm", "fapiPrivateV3GetBalance", ""),
        ("binancecoinm", "dapiPrivateGetBalance", ""),
    )
)
