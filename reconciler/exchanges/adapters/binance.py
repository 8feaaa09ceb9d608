"""
Binance, with its ids for futures alone: `GET /sapi/v1/account/apiRestrictions`, weight 1.

Documented at developers.binance.com/docs/wallet/account/api-key-permission.  It says whether a key
is bound, not to what.  The test networks have no such endpoint: there a balance proves that a key
lives, and nothing else is known.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from reconciler.exchanges import parse as take
from reconciler.exchanges.adapter import Credentials, NotUnderstood
from reconciler.model.key_facts import Access, Cap, Environment, Grant, IpRule, KeyFacts, Status

_CODES: Final[Mapping[str, Status]] = {
    "-1001": Status.UNREACHABLE,  # their system is disconnected
    "-1002": Status.INDETERMINATE,  # "not authorized": by what is not told
    "-1003": Status.RATE_LIMITED,
    "-1006": Status.UNREACHABLE,
    "-1007": Status.UNREACHABLE,
    "-1008": Status.RATE_LIMITED,  # overloaded
    "-1015": Status.RATE_LIMITED,
    "-1016": Status.UNREACHABLE,  # shutting down
    "-1021": Status.CLOCK,
    "-1022": Status.REJECTED,
    "-2008": Status.REJECTED,
    "-2014": Status.REJECTED,
    # Key, address or permission, and a ban for asking too often as well: Binance does not tell.
    "-2015": Status.INDETERMINATE,
}

_OTHER: Final = frozenset({Cap.OTHER})
_CAPS: Final[Mapping[str, frozenset[Cap]]] = {
    "enableReading": frozenset({Cap.ACCOUNT_READ}),
    # One permission for orders on both; borrowing is enableMargin.
    "enableSpotAndMarginTrading": frozenset({Cap.SPOT, Cap.MARGIN}),
    "enableMargin": frozenset({Cap.MARGIN}),
    "enableFutures": frozenset({Cap.PERPETUAL, Cap.DELIVERY}),
    "enableVanillaOptions": frozenset({Cap.OPTION}),
    "enableWithdrawals": frozenset({Cap.WITHDRAW}),
    "enableInternalTransfer": frozenset({Cap.TRANSFER, Cap.SUBACCOUNT}),
    "permitsUniversalTransfer": frozenset({Cap.TRANSFER}),
    "enablePortfolioMarginTrading": _OTHER,
    "enableFixApiTrade": _OTHER,
    "enableFixReadOnly": _OTHER,
}
_READS: Final = frozenset({"enableReading", "enableFixReadOnly"})
_SWITCHES: Final = ("enable", "permits")
_NO_PERMISSION: Final = frozenset({"ipRestrict"})


@dataclass(frozen=True, slots=True)
class Binance:
    """
    Asks Binance about a key.

    `balance` is ccxt's implicit method for the balance of this id's own test network, and *sums*
    the field that holds a list of balances there; empty when the whole answer is the list.
    """

    ccxt_id: str
    balance: str
    sums: str
    version: int = 1
    disturbs_trading: bool = False

    @property
    def codes(self) -> Mapping[str, Status]:
        """`code` of the answer, a negative number."""
        return _CODES

    def fetch(self, exchange: Any, environment: Environment) -> Sequence[Any]:
        """Ask with one request."""
        if environment is Environment.LIVE:
            return (exchange.sapiGetAccountApiRestrictions(),)
        # ccxt refuses to speak to the futures test network unless told so.
        exchange.options["disableFuturesSandboxWarning"] = True
        return (getattr(exchange, self.balance)(),)

    def parse(
        self, answers: Sequence[Any], credentials: Credentials, environment: Environment
    ) -> KeyFacts:
        """Return the facts; of a key of the test network only that it lives."""
        del credentials
        if environment is Environment.TEST:
            return self._lives(answers)
        answer = take.only(answers)
        bound = take.flag(answer, "ipRestrict")
        grants = tuple(_grants(answer))
        return KeyFacts(
            grants=grants,
            ip=IpRule(bound=bound),
            read_only=all(grant.access is Access.READ for grant in grants),
            created_at=take.milliseconds(answer, "createTime"),
            # Strictly, when trading lapses; told only of unbound keys.
            expires_at=take.milliseconds(answer, "tradingAuthorityExpirationTime"),
            environment=environment,
        )

    def _lives(self, answers: Sequence[Any]) -> KeyFacts:
        if len(answers) != 1:
            raise NotUnderstood(f"expected one answer, got {len(answers)}")
        balances = take.member(take.only(answers), self.sums) if self.sums else answers[0]
        take.listing(balances, "the balances")
        # canTrade and canWithdraw beside them are about the account, not the key.
        return KeyFacts(environment=Environment.TEST)


def _grants(answer: Mapping[str, Any]) -> Iterator[Grant]:
    """Give what is switched on; a switch that we do not know counts as one."""
    for promised in ("enableReading", "enableWithdrawals", "enableSpotAndMarginTrading"):
        take.flag(answer, promised)
    for key, value in answer.items():
        if key in _NO_PERMISSION or not (key.startswith(_SWITCHES) or isinstance(value, bool)):
            continue
        raw = take.name(key, "a permission")
        if take.flag(answer, key):
            caps = _CAPS.get(raw, _OTHER)
            access = Access.READ if raw in _READS else Access.WRITE
            yield Grant(raw, caps, access=access, separable=len(caps) == 1)


ADAPTER: Final = Binance("binance", balance="privateGetAccount", sums="balances")
USDM: Final = Binance("binanceusdm", balance="fapiPrivateV3GetBalance", sums="")
COINM: Final = Binance("binancecoinm", balance="dapiPrivateGetBalance", sums="")
