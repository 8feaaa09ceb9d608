"""
Bitget: `GET /api/v2/spot/account/info`, for unified accounts `GET /api/v3/account/info`; 1/s.

Documented at bitget.com/api-doc (account information, error codes).  Permissions are told apart by
market, and reading from writing by the last letter of their codes; of unified accounts in four
coarse words.  The key itself, its age and expiry are not told.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from reconciler.exchanges import parse as take
from reconciler.exchanges.adapter import Adapter, Credentials
from reconciler.exchanges.classify import classify
from reconciler.model.key_facts import (
    Access,
    Cap,
    Environment,
    Grant,
    GrantEvidence,
    IpRule,
    KeyFacts,
    Status,
)

_UNIFIED: Final = "40085"  # a unified account, asked in the classic way
_CODES: Final[Mapping[str, Status]] = {
    **dict.fromkeys(("429", "30007"), Status.RATE_LIMITED),
    **dict.fromkeys(("40016", "40084"), Status.INDETERMINATE),
    # A header got lost.
    **dict.fromkeys(("40001", "40002", "40003", "40011"), Status.INDETERMINATE),
    **dict.fromkeys(("40004", "40005", "40008"), Status.CLOCK),
    **dict.fromkeys(("40006", "40009", "40012", "40037"), Status.REJECTED),
    "40010": Status.INDETERMINATE,  # timed out by its documentation, a wrong signature by ccxt's
    "40013": Status.INDETERMINATE,  # the user's state, not the key's
    "40014": Status.DENIED,
    "40015": Status.UNREACHABLE,  # their system
    "40018": Status.IP_REFUSED,
    "40036": Status.REJECTED,  # wrong passphrase; ccxt has no class for it
    "40038": Status.IP_REFUSED,  # nor for this
    _UNIFIED: Status.INDETERMINATE,
    "40099": Status.REJECTED,  # a key of the other environment
}

_CONTRACT: Final = frozenset({Cap.PERPETUAL, Cap.DELIVERY})
_SUBJECTS: Final = {
    "coo": _CONTRACT,  # orders
    "cpo": _CONTRACT,  # positions
    "sto": {Cap.SPOT},
    "smo": {Cap.MARGIN},
    "tto": {Cap.COPY},
    "wto": {Cap.TRANSFER},
    "tax": {Cap.TAX},
    "cho": {Cap.SUBACCOUNT},
    "p2p": {Cap.P2P},
    "pll": {Cap.LOAN},
    "wwo": {Cap.WITHDRAW},
}
_SUFFIXES: Final = {"r": True, "w": False}
_ALL_MARKETS: Final = frozenset({Cap.SPOT, Cap.PERPETUAL, Cap.DELIVERY, Cap.MARGIN})
# The example of the documentation still shows these, older words; what they include is not told.
_OLDER: Final[Mapping[str, Grant]] = {
    "readonly": Grant(
        "readonly",
        frozenset({Cap.ACCOUNT_READ}),
        access=Access.READ,
        evidence=GrantEvidence.INFERRED,
    ),
    "trade": Grant(
        "trade",
        _ALL_MARKETS | {Cap.TRANSFER},
        separable=False,
        evidence=GrantEvidence.INFERRED,
    ),
}
_UNIFIED_CAPS: Final = {
    "uta_trade": _ALL_MARKETS,
    "uta_mgt": {Cap.UNIFIED},  # leverage, hold mode, repayment
    "withdraw": {Cap.WITHDRAW},
    "copy_futures_position": {Cap.COPY},
    "copy_futures_order": {Cap.COPY},
}
_DOCUMENTED: Final = {
    name: _SUBJECTS[name[:3]]
    for name in (
        *("coor", "cpor", "stor", "smor", "ttor", "wtor", "taxr", "chor", "p2pr", "pllr"),
        *("coow", "cpow", "stow", "smow", "ttow", "wtow", "taxw", "chow", "p2p", "pllw", "wwow"),
    )
}
_COPY: Final = "copy_futures_"
_PERM_TYPES: Final = {"read-only": True, "read-and-write": False}


class Bitget(Adapter):
    """A key is asked about in the way of its kind of account; the answer does not repeat it."""

    def fetch(self, exchange: Any, environment: Environment, /) -> Sequence[Any]:
        """Ask with one request, a unified account with two; demo trading is a header."""
        try:
            return super().fetch(exchange, environment)
        except Exception as error:
            _, code = classify(error, exchange.last_http_response, self)
            if code != _UNIFIED:
                raise
        return (exchange.privateUtaGetV3AccountInfo(),)

    def facts(self, answer: Any, _ours: Credentials, environment: Environment, /) -> KeyFacts:
        data = take.record(take.good(answer, "code", 0), "data")
        grants = _unified(data) if "permType" in data else _classic(data)
        return KeyFacts(
            grants=grants,
            ip=_ip(data),
            # Every key may read its account; which are for that alone is not told.
            unproven=frozenset({Cap.ACCOUNT_READ}),
            read_only=take.only_reads(grants),
            environment=environment,
            master=_master(data),
            traits=take.lacking(data, ("userId", "parentId")),
        )


def _classic(data: Mapping[str, Any]) -> tuple[Grant, ...]:
    listed = take.entries(data, "authorities")
    return tuple(_authority(take.name(raw, "an authority")) for raw in listed)


def _authority(raw: str) -> Grant:
    if raw in _OLDER:
        return _OLDER[raw]
    if raw == "p2p":  # writes; `p2pr` reads
        return take.grant(raw, _SUBJECTS[raw])
    if raw[3:] not in _SUFFIXES or raw[:3] not in _SUBJECTS:
        return take.grant(raw, take.UNKNOWN)
    return take.grant(raw, _SUBJECTS[raw[:3]], reads=_SUFFIXES[raw[3:]])


def _unified(data: Mapping[str, Any]) -> tuple[Grant, ...]:
    reads = _PERM_TYPES.get(take.text(data, "permType"))
    if reads is None:
        raise take.NotUnderstood("permType is none that is documented")
    raws = [take.name(raw, "a permission") for raw in take.entries(data, "permissions")]
    copies = {raw: {Cap.COPY} for raw in raws if raw.startswith(_COPY)}
    return take.grants(raws, {**_UNIFIED_CAPS, **copies}, reads=raws if reads else ())


def _ip(data: Mapping[str, Any]) -> IpRule:
    """Return the rule; a text with commas in the one way of asking, a list in the other."""
    ips = take.member(data, "ips")
    if isinstance(ips, str):
        return take.addresses(data, "ips")
    return IpRule() if ips is None else take.ip_rule(take.listing(ips, "ips"))


def _master(data: Mapping[str, Any]) -> bool | None:
    """Say whether this is the main account: only a sub-account has another number above it."""
    parent, own = str(data.get("parentId") or ""), str(data.get("userId") or "")
    if "permType" in data and data.get("parentId") == "":
        return True  # documented: only sub-accounts of unified ones have a parent
    if not own or parent in {"", "0"}:
        return None
    return parent == own


ADAPTERS: Final = (
    Bitget(
        "bitget",
        method="privateSpotGetV2SpotAccountInfo",
        needs=("apiKey", "secret", "password"),
        names={**_DOCUMENTED, **_UNIFIED_CAPS},
        codes=_CODES,
        version=2,
        other_environment=frozenset({"40099"}),
        test_by_header=True,
    ),
)
