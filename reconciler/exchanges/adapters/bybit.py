"""
Bybit, its test network too: `GET /v5/user/query-api`, which any permission may call.

Documented at bybit-exchange.github.io/docs/v5/user/apikey-info; error codes at /docs/v5/error.
ccxt words 10005 as if the key needed transfer or withdrawal rights: the opposite is documented,
that text is never shown.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from reconciler.exchanges import parse as take
from reconciler.exchanges.adapter import Credentials, NotUnderstood
from reconciler.model.key_facts import Access, Cap, Environment, Grant, IpRule, KeyFacts, Status

_CODES: Final[Mapping[str, Status]] = {
    "10000": Status.UNREACHABLE,  # their server timed out
    "10002": Status.CLOCK,
    "10003": Status.REJECTED,  # also a key of the other environment: Bybit does not tell them apart
    "10004": Status.REJECTED,
    "10005": Status.DENIED,
    "10006": Status.RATE_LIMITED,
    "10007": Status.INDETERMINATE,  # "authentication failed": of what is not told
    "10009": Status.RATE_LIMITED,  # the address is banned for asking too often, not the key
    "10010": Status.IP_REFUSED,
    "10016": Status.UNREACHABLE,  # their server failed
    "10018": Status.RATE_LIMITED,
    "33004": Status.REJECTED,  # expired
}

_CONTRACT: Final = frozenset({Cap.PERPETUAL, Cap.DELIVERY})
_CAPS: Final[Mapping[tuple[str, str], frozenset[Cap]]] = {
    ("ContractTrade", "Order"): _CONTRACT,
    ("ContractTrade", "Position"): _CONTRACT,
    ("Derivatives", "DerivativesTrade"): _CONTRACT,
    ("Spot", "SpotTrade"): frozenset({Cap.SPOT}),
    ("Options", "OptionsTrade"): frozenset({Cap.OPTION}),
    ("Wallet", "AccountTransfer"): frozenset({Cap.TRANSFER}),
    ("Wallet", "SubMemberTransfer"): frozenset({Cap.TRANSFER, Cap.SUBACCOUNT}),
    ("Wallet", "SubMemberTransferList"): frozenset({Cap.TRANSFER, Cap.SUBACCOUNT}),
    ("Wallet", "Withdraw"): frozenset({Cap.WITHDRAW}),
    ("Exchange", "ExchangeHistory"): frozenset({Cap.CONVERT}),
    ("Earn", "Earn"): frozenset({Cap.EARN}),
    ("FiatP2P", "FiatP2POrder"): frozenset({Cap.P2P}),
    ("FiatP2P", "Advertising"): frozenset({Cap.P2P}),
    ("Affiliate", "Affiliate"): frozenset({Cap.COMMISSION}),
    ("CopyTrading", "CopyTrading"): frozenset({Cap.COPY}),
}
# Groups appear without notice: whatever is not in the table is Cap.OTHER.
_UNKNOWN: Final = frozenset({Cap.OTHER})

_ANYWHERE: Final = ("*",)
_NO_DEADLINE: Final = -2
_NO_EXPIRY: Final = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Bybit:
    """Asks Bybit about a key; permissions, addresses, expiry and the master flag are all told."""

    ccxt_id: str = "bybit"
    version: int = 1
    disturbs_trading: bool = False

    @property
    def codes(self) -> Mapping[str, Status]:
        """`retCode` of the answer."""
        return _CODES

    def fetch(self, exchange: Any, environment: Environment) -> Sequence[Any]:
        """Ask with one request; the host tells the environment."""
        del environment
        return (exchange.privateGetV5UserQueryApi(),)

    def parse(
        self, answers: Sequence[Any], credentials: Credentials, environment: Environment
    ) -> KeyFacts:
        """Return the facts; an answered call proves that the key belongs to *environment*."""
        answer = take.only(answers)
        if take.integer(answer, "retCode") != 0:
            raise NotUnderstood("retCode is not 0")
        result = take.mapping(take.member(answer, "result"), "result")
        read_only = _read_only(result)
        access = Access.READ if read_only else Access.WRITE
        ip = take.ip_rule(take.listing(take.member(result, "ips"), "ips"), _ANYWHERE)
        expires_at, never_expires = _expiry(answer, result, ip)
        return KeyFacts(
            grants=tuple(_grants(result, access)),
            ip=ip,
            # Any permission lets a key read its account; which are for that alone is not told.
            unproven=frozenset({Cap.ACCOUNT_READ}),
            read_only=read_only,
            created_at=take.iso(result, "createdAt"),
            expires_at=expires_at,
            never_expires=never_expires,
            environment=environment,
            master=take.flag(result, "isMaster") if "isMaster" in result else None,
            same_key=take.same_key(take.text(result, "apiKey"), credentials["apiKey"]),
        )


def _read_only(result: Mapping[str, Any]) -> bool:
    value = take.integer(result, "readOnly")
    if value not in {0, 1}:
        raise NotUnderstood("readOnly is neither 0 nor 1")
    return value == 1


def _grants(result: Mapping[str, Any], access: Access) -> Iterator[Grant]:
    groups = take.mapping(take.member(result, "permissions"), "permissions")
    for group, granted in groups.items():
        group_name = take.name(group, "a group of permissions")
        # An empty list of theirs may be written as null.
        for item in () if granted is None else take.listing(granted, "a group of permissions"):
            item_name = take.name(item, "a permission")
            caps = _CAPS.get((group_name, item_name), _UNKNOWN)
            yield Grant(f"{group_name}.{item_name}", caps, access=access, separable=len(caps) == 1)


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


ADAPTER: Final = Bybit()
