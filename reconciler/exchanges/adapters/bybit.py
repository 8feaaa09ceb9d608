"""
Bybit, its test network too: `GET /v5/user/query-api`, which any permission may call.

Documented at bybit-exchange.github.io/docs/v5/user/apikey-info; error codes at /docs/v5/error.
ccxt words 10005 as if the key needed transfer or withdrawal rights: the opposite is documented,
that text is never shown.
"""

from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any, Final

from reconciler.exchanges import parse as take
from reconciler.exchanges.adapter import Adapter, Credentials
from reconciler.model.key_facts import Cap, Environment, Grant, IpRule, KeyFacts, Status

_CODES: Final[Mapping[str, Status]] = {
    **dict.fromkeys(("10000", "10016"), Status.UNREACHABLE),
    **dict.fromkeys(("10006", "10018"), Status.RATE_LIMITED),
    "10002": Status.CLOCK,
    "10003": Status.REJECTED,  # no such key here: perhaps one of another region, or of a demo
    "10004": Status.REJECTED,
    "10005": Status.DENIED,
    "10007": Status.INDETERMINATE,  # "authentication failed": of what is not told
    "10009": Status.RATE_LIMITED,  # the address is banned for asking too often, not the key
    "10010": Status.IP_REFUSED,
    "33004": Status.REJECTED,  # expired
}

_CONTRACT: Final = frozenset({Cap.PERPETUAL, Cap.DELIVERY})
_CAPS: Final = {
    "ContractTrade.Order": _CONTRACT,
    "ContractTrade.Position": _CONTRACT,
    "Derivatives.DerivativesTrade": _CONTRACT,
    "Spot.SpotTrade": {Cap.SPOT},
    "Options.OptionsTrade": {Cap.OPTION, Cap.PERPETUAL},  # of USDC contracts
    "Wallet.AccountTransfer": {Cap.TRANSFER},
    "Wallet.SubMemberTransfer": {Cap.TRANSFER, Cap.SUBACCOUNT},
    "Wallet.SubMemberTransferList": {Cap.TRANSFER, Cap.SUBACCOUNT},
    "Wallet.Withdraw": {Cap.WITHDRAW},
    "Exchange.ExchangeHistory": {Cap.CONVERT},
    "Earn.Earn": {Cap.EARN},
    "FiatP2P.FiatP2POrder": {Cap.P2P},
    "FiatP2P.Advertising": {Cap.P2P},
    "Affiliate.Affiliate": {Cap.COMMISSION},
    "BlockTrade.BlockTrade": take.UNKNOWN,
    "FiatConvertBroker.FiatConvertBrokerOrder": take.UNKNOWN,
    "FiatBitPay.FaitPayOrder": take.UNKNOWN,  # sic
    "BitCard.BitCard": take.UNKNOWN,
    "ByXPost.ByXPost": take.UNKNOWN,
}
# Every one is told, empty where nothing of it is granted; deprecated ones are left out.
_GROUPS: Final = (
    *("ContractTrade", "Spot", "Wallet", "Options", "Derivatives", "BlockTrade", "Exchange"),
    *("Affiliate", "Earn", "FiatP2P", "FiatConvertBroker", "FiatGlobalPay", "FiatBitPay"),
    *("BitCard", "ByXPost"),
)
_FIELDS: Final = ("time", "isMaster", "deadlineDay", "expiredAt")
_ANYWHERE: Final = ("*",)
_NO_DEADLINE: Final = -2
_NO_EXPIRY: Final = datetime(1970, 1, 1, tzinfo=UTC)


class Bybit(Adapter):
    """
    Permissions, addresses, expiry and the master flag are all told.

    The host tells the environment: an answered call proves that the key belongs to it.
    """

    def facts(self, answer: Any, ours: Credentials, environment: Environment, /) -> KeyFacts:
        result = take.record(take.good(answer, "retCode", 0), "result")
        read_only = take.bit(result, "readOnly")
        ip = take.ip_rule(take.entries(result, "ips"), _ANYWHERE)
        expires_at, never_expires = _expiry(answer, result, ip)
        return KeyFacts(
            grants=tuple(_grants(result, read_only=read_only)),
            ip=ip,
            # Any permission lets a key read its account; which are for that alone is not told.
            unproven=frozenset({Cap.ACCOUNT_READ}),
            read_only=read_only,
            created_at=take.iso(result, "createdAt"),
            expires_at=expires_at,
            never_expires=never_expires,
            environment=environment,
            master=take.flag(result, "isMaster") if "isMaster" in result else None,
            same_key=take.same_key(take.text(result, "apiKey"), ours["apiKey"]),
            traits=take.lacking(
                {**answer, **result, **take.record(result, "permissions")}, (*_FIELDS, *_GROUPS)
            ),
        )


def _grants(result: Mapping[str, Any], *, read_only: bool) -> Iterator[Grant]:
    for group, granted in take.record(result, "permissions").items():
        group_name = take.name(group, "a group of permissions")
        for item in _items(group_name, granted):
            raw = f"{group_name}.{take.name(item, 'a permission')}"
            # Groups appear without notice: whatever is not in the table may be anything.
            yield take.grant(raw, _CAPS.get(raw, take.UNKNOWN), reads=read_only)


def _items(group: str, granted: Any) -> Iterable[Any]:
    """Return what is granted of a group; in a new one what is no list is something, too."""
    if not granted:
        return ()  # an empty list of theirs may be written as null
    if isinstance(granted, list) or group in _GROUPS:
        return take.listing(granted, "a group of permissions")
    return ("anything",)


def _expiry(
    answer: Mapping[str, Any], result: Mapping[str, Any], ip: IpRule
) -> tuple[datetime | None, bool | None]:
    """
    Return when the key ends, and whether it never does.

    Only an unbound key, or one whose owner changed the password, has an end; any other shows the
    year 1970 and -2 days left.
    """
    instant = take.iso(result, "expiredAt")
    days = take.integer(result, "deadlineDay") if "deadlineDay" in result else None
    if instant is not None and instant > _NO_EXPIRY:
        return instant, False
    if days is not None and days >= 0:
        asked_at = take.milliseconds(answer, "time")
        return (None if asked_at is None else take.later(asked_at, days=days)), False
    # An unbound key without an end contradicts the documentation: then it is not known.
    never = instant == _NO_EXPIRY and days == _NO_DEADLINE and ip.bound is True
    return None, True if never else None


_REGIONS: Final = ("bybit", "bybiteu", "bybitid")
ADAPTERS: Final = tuple(
    Bybit(
        ccxt_id,
        method="privateGetV5UserQueryApi",
        names=_CAPS,
        codes=_CODES,
        hints={"33004": "; it has expired"},
        siblings=(*_REGIONS, "bybit-testnet"),
        of_a_sibling=frozenset({"10003"}),
        version=2,
    )
    for ccxt_id in _REGIONS
)
