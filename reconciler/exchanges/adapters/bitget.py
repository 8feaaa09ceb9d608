"""
Bitget: `GET /api/v2/spot/account/info`, for unified accounts `GET /api/v3/account/info`; 1/s.

Documented at bitget.com/api-doc (account information, error codes).  Permissions are told apart by
market, and reading from writing by the last letter of their codes; of unified accounts in four
coarse words.  The key itself, its age and expiry are not told.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from reconciler.exchanges import parse as take
from reconciler.exchanges.adapter import Credentials, NotUnderstood
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
    "429": Status.RATE_LIMITED,
    "30007": Status.RATE_LIMITED,
    "40001": Status.INDETERMINATE,  # 40001, 40002, 40003, 40011: a header got lost
    "40002": Status.INDETERMINATE,
    "40003": Status.INDETERMINATE,
    "40004": Status.CLOCK,
    "40005": Status.CLOCK,
    "40006": Status.REJECTED,
    "40008": Status.CLOCK,
    "40009": Status.REJECTED,
    "40010": Status.INDETERMINATE,  # timed out by its documentation, a wrong signature by ccxt's
    "40011": Status.INDETERMINATE,
    "40012": Status.REJECTED,
    "40013": Status.INDETERMINATE,  # the user's state, not the key's
    "40014": Status.DENIED,
    "40015": Status.UNREACHABLE,  # their system
    "40016": Status.INDETERMINATE,
    "40018": Status.IP_REFUSED,
    "40036": Status.REJECTED,  # wrong passphrase; ccxt has no class for it
    "40037": Status.REJECTED,
    "40038": Status.IP_REFUSED,  # nor for this
    "40084": Status.INDETERMINATE,
    _UNIFIED: Status.INDETERMINATE,
    "40099": Status.REJECTED,  # a key of the other environment
}

_CONTRACT: Final = frozenset({Cap.PERPETUAL, Cap.DELIVERY})
_SUBJECTS: Final[Mapping[str, frozenset[Cap]]] = {
    "coo": _CONTRACT,  # orders
    "cpo": _CONTRACT,  # positions
    "sto": frozenset({Cap.SPOT}),
    "smo": frozenset({Cap.MARGIN}),
    "tto": frozenset({Cap.COPY}),
    "wto": frozenset({Cap.TRANSFER}),
    "tax": frozenset({Cap.TAX}),
    "cho": frozenset({Cap.SUBACCOUNT}),
    "p2p": frozenset({Cap.P2P}),
    "pll": frozenset({Cap.LOAN}),
    "wwo": frozenset({Cap.WITHDRAW}),
}
_SUFFIXES: Final[Mapping[str, Access]] = {"r": Access.READ, "w": Access.WRITE}
_OTHER: Final = frozenset({Cap.OTHER})
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
_UNIFIED_CAPS: Final[Mapping[str, frozenset[Cap]]] = {
    "uta_mgt": _OTHER,  # of what is not documented
    "uta_trade": _ALL_MARKETS,
    "withdraw": frozenset({Cap.WITHDRAW}),
}
_COPY: Final = "copy_futures_"
_PERM_TYPES: Final[Mapping[str, Access]] = {
    "read-only": Access.READ,
    "read-and-write": Access.WRITE,
}


@dataclass(frozen=True, slots=True)
class Bitget:
    """Asks Bitget about a key, in the way of its kind of account."""

    ccxt_id: str = "bitget"
    version: int = 1
    disturbs_trading: bool = False

    @property
    def codes(self) -> Mapping[str, Status]:
        """`code` of the answer."""
        return _CODES

    def fetch(self, exchange: Any, environment: Environment) -> Sequence[Any]:
        """Ask with one request, a unified account with two; demo trading is a header."""
        del environment
        try:
            return (exchange.privateSpotGetV2SpotAccountInfo(),)
        except Exception as error:
            _, code = classify(error, exchange.last_http_response, _CODES, self.ccxt_id)
            if code != _UNIFIED:
                raise
        return (exchange.privateUtaGetV3AccountInfo(),)

    def parse(
        self, answers: Sequence[Any], credentials: Credentials, environment: Environment
    ) -> KeyFacts:
        """Return the facts; the answer does not repeat the key."""
        del credentials
        answer = take.only(answers)
        if take.integer(answer, "code") != 0:
            raise NotUnderstood("code is not 00000")
        data = take.mapping(take.member(answer, "data"), "data")
        grants = _unified(data) if "permType" in data else _classic(data)
        return KeyFacts(
            grants=grants,
            ip=_ip(take.member(data, "ips")),
            # Every key may read its account; which are for that alone is not told.
            unproven=frozenset({Cap.ACCOUNT_READ}),
            read_only=all(grant.access is Access.READ for grant in grants),
            environment=environment,
            master=_master(data),
        )


def _classic(data: Mapping[str, Any]) -> tuple[Grant, ...]:
    listed = take.listing(take.member(data, "authorities"), "authorities")
    return tuple(_authority(take.name(raw, "an authority")) for raw in listed)


def _authority(raw: str) -> Grant:
    if raw in _OLDER:
        return _OLDER[raw]
    if raw == "p2p":  # writes; `p2pr` reads
        return Grant(raw, _SUBJECTS["p2p"])
    access = _SUFFIXES.get(raw[3:])
    caps = _SUBJECTS.get(raw[:3])
    if access is None or caps is None:
        return Grant(raw, _OTHER)
    return Grant(raw, caps, access=access, separable=len(caps) == 1)


def _unified(data: Mapping[str, Any]) -> tuple[Grant, ...]:
    access = _PERM_TYPES.get(take.text(data, "permType"))
    if access is None:
        raise NotUnderstood("permType is none that is documented")
    listed = take.listing(take.member(data, "permissions"), "permissions")
    return tuple(_word(take.name(raw, "a permission"), access) for raw in listed)


def _word(raw: str, access: Access) -> Grant:
    copies = raw.startswith(_COPY)
    caps = frozenset({Cap.COPY}) if copies else _UNIFIED_CAPS.get(raw, _OTHER)
    return Grant(raw, caps, access=access, separable=len(caps) == 1)


def _ip(ips: Any) -> IpRule:
    """Return the rule; a text with commas in the one way of asking, a list in the other."""
    if isinstance(ips, str):
        return take.addresses({"ips": ips}, "ips")
    return IpRule() if ips is None else take.ip_rule(take.listing(ips, "ips"))


def _master(data: Mapping[str, Any]) -> bool | None:
    """Say whether this is the main account: only a sub-account has another number above it."""
    parent, own = str(data.get("parentId") or ""), str(data.get("userId") or "")
    if not own or parent in {"", "0"}:
        return None
    return parent == own


ADAPTER: Final = Bitget()
