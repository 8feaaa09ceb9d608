"""
OKX: `GET /api/v5/account/config`, which needs the permission to read.

Documented at okx.com/docs-v5 (account configuration, error codes).  Its permissions are coarse:
`trade` includes every market and transfers between wallets.
"""

from collections.abc import Mapping
from typing import Any, Final

from reconciler.exchanges import parse as take
from reconciler.exchanges.adapter import Adapter, Credentials
from reconciler.model.key_facts import Cap, Environment, KeyFacts, Status

_CODES: Final[Mapping[str, Status]] = {
    **dict.fromkeys(("50001", "50004", "50005", "50013", "50026"), Status.UNREACHABLE),
    **dict.fromkeys(("50011", "50040", "50061"), Status.RATE_LIMITED),
    **dict.fromkeys(("50030", "50120"), Status.DENIED),
    **dict.fromkeys(("50105", "50111", "50113"), Status.REJECTED),
    "50035": Status.DENIED,  # only a key that is bound may ask this
    "50101": Status.REJECTED,  # a key of the other environment
    "50102": Status.CLOCK,
    # A header got lost.
    **dict.fromkeys(("50103", "50104", "50106", "50107"), Status.INDETERMINATE),
    "50110": Status.IP_REFUSED,
    "50112": Status.CLOCK,  # ccxt takes it for a wrong key
    "50114": Status.INDETERMINATE,  # "invalid authorization": of what is not told
    "50119": Status.REJECTED,  # no such key, often one of another region; ccxt has no class for it
    "HTTP 429": Status.RATE_LIMITED,  # without an answer in it ccxt calls it "not available"
}

_CAPS: Final = {
    "read_only": {Cap.ACCOUNT_READ},
    "trade": {Cap.SPOT, Cap.PERPETUAL, Cap.DELIVERY, Cap.MARGIN, Cap.OPTION, Cap.TRANSFER},
    "withdraw": {Cap.WITHDRAW},
}
_LAPSES: Final = "after 14 days without use, for it is not bound to addresses"


class Okx(Adapter):
    """Neither expiry nor the key itself is told; demo trading is a header on the same host."""

    def facts(self, answer: Any, _ours: Credentials, environment: Environment, /) -> KeyFacts:
        data = take.entries(take.good(answer, "code", 0), "data")
        if len(data) != 1:
            raise take.NotUnderstood("data does not hold one account")
        account = take.mapping(data[0], "data")
        grants = take.grants(take.names(account, "perm"), _CAPS, reads=("read_only",))
        ip = take.addresses(account, "ip")
        read_only = take.only_reads(grants)
        lapses = not read_only and ip.bound is False and environment is Environment.LIVE
        return KeyFacts(
            grants=grants,
            ip=ip,
            read_only=read_only,
            environment=environment,
            master=_master(account),
            traits={
                **take.lacking(account, ("uid", "mainUid")),
                **({"lapses": _LAPSES} if lapses else {}),
            },
        )

    def raw_code(self, answer: Any) -> str:
        """Return `code`, of an answer about several things that of the first."""
        found = take.error_code(answer)
        data = answer.get("data") if isinstance(answer, dict) else None
        # 1 and 2: some or all of it failed, each for its own reason.
        if found in {"1", "2"} and isinstance(data, list) and data and isinstance(data[0], dict):
            return take.code(data[0].get("sCode")) or found
        return found


def _master(account: Mapping[str, Any]) -> bool | None:
    """Say whether this is the main account: only a sub-account has another number than its main."""
    if "uid" not in account or "mainUid" not in account:
        return None
    return take.text(account, "uid") == take.text(account, "mainUid")


_REGIONS: Final = ("okx", "myokx", "okxus")
ADAPTERS: Final = tuple(
    Okx(
        ccxt_id,
        method="privateGetAccountConfig",
        needs=("apiKey", "secret", "password"),
        names=_CAPS,
        codes=_CODES,
        version=2,
        other_environment=frozenset({"50101"}),
        siblings=_REGIONS,
        of_a_sibling=frozenset({"50119"}),
    )
    for ccxt_id in _REGIONS
)
