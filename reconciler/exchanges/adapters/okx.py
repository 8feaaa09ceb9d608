"""
OKX: `GET /api/v5/account/config`, which needs the permission to read.

Documented at okx.com/docs-v5 (account configuration, error codes).  Its permissions are coarse:
`trade` includes every market and transfers between wallets.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from reconciler.exchanges import parse as take
from reconciler.exchanges.adapter import Credentials, NotUnderstood
from reconciler.model.key_facts import Access, Cap, Environment, Grant, KeyFacts, Status

_CODES: Final[Mapping[str, Status]] = {
    "50001": Status.UNREACHABLE,  # maintenance
    "50004": Status.UNREACHABLE,  # timed out
    "50005": Status.UNREACHABLE,  # offline
    "50011": Status.RATE_LIMITED,
    "50013": Status.UNREACHABLE,  # busy
    "50026": Status.UNREACHABLE,  # their system failed
    "50030": Status.DENIED,
    "50035": Status.DENIED,  # only a key that is bound may ask this
    "50040": Status.RATE_LIMITED,
    "50061": Status.RATE_LIMITED,
    "50101": Status.REJECTED,  # a key of the other environment
    "50102": Status.CLOCK,
    "50103": Status.INDETERMINATE,  # 50103, 50104, 50106, 50107: a header got lost
    "50104": Status.INDETERMINATE,
    "50105": Status.REJECTED,
    "50106": Status.INDETERMINATE,
    "50107": Status.INDETERMINATE,
    "50110": Status.IP_REFUSED,
    "50111": Status.REJECTED,
    "50112": Status.CLOCK,  # ccxt takes it for a wrong key
    "50113": Status.REJECTED,
    "50114": Status.INDETERMINATE,  # "invalid authorization": of what is not told
    "50119": Status.REJECTED,  # no such key; ccxt has no class for it
    "50120": Status.DENIED,
    "HTTP 429": Status.RATE_LIMITED,  # without an answer in it ccxt calls it "not available"
}

_GRANTS: Final[Mapping[str, Grant]] = {
    "read_only": Grant("read_only", frozenset({Cap.ACCOUNT_READ}), access=Access.READ),
    "trade": Grant(
        "trade",
        frozenset(
            {Cap.SPOT, Cap.PERPETUAL, Cap.DELIVERY, Cap.MARGIN, Cap.OPTION, Cap.TRANSFER},
        ),
        separable=False,
    ),
    "withdraw": Grant("withdraw", frozenset({Cap.WITHDRAW})),
}
_LAPSES: Final = "after 14 days without use, for it is not bound to addresses"


@dataclass(frozen=True, slots=True)
class Okx:
    """Asks OKX about a key; neither expiry nor the key itself is told."""

    ccxt_id: str = "okx"
    version: int = 1
    disturbs_trading: bool = False

    @property
    def codes(self) -> Mapping[str, Status]:
        """`code` of the answer."""
        return _CODES

    def fetch(self, exchange: Any, environment: Environment) -> Sequence[Any]:
        """Ask with one request; demo trading is a header on the same host."""
        del environment
        return (exchange.privateGetAccountConfig(),)

    def parse(
        self, answers: Sequence[Any], credentials: Credentials, environment: Environment
    ) -> KeyFacts:
        """Return the facts; a key of the other environment is answered with 50101 only."""
        del credentials
        answer = take.only(answers)
        if take.integer(answer, "code") != 0:
            raise NotUnderstood("code is not 0")
        data = take.listing(take.member(answer, "data"), "data")
        if len(data) != 1:
            raise NotUnderstood("data does not hold one account")
        account = take.mapping(data[0], "data")
        grants = tuple(
            _GRANTS.get(raw, Grant(raw, frozenset({Cap.OTHER})))
            for raw in take.names(account, "perm")
        )
        ip = take.addresses(account, "ip")
        acts = any(grant.access is Access.WRITE for grant in grants)
        lapses = acts and ip.bound is False and environment is Environment.LIVE
        return KeyFacts(
            grants=grants,
            ip=ip,
            read_only=not acts,
            environment=environment,
            master=_master(account),
            traits={"lapses": _LAPSES} if lapses else {},
        )


def _master(account: Mapping[str, Any]) -> bool | None:
    """Say whether this is the main account: only a sub-account has another number than its main."""
    if "mainUid" not in account:
        return None
    return take.text(account, "uid") == take.text(account, "mainUid")


ADAPTER: Final = Okx()
