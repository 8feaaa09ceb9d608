"""
Gate: `GET /account/main_keys`, and where that is refused one harmless read per permission.

Which permission `/account/*` needs is not documented; a good key has none for the account.  Shapes
after gate.com/docs/developers/apiv4 and the typed SDK of T. Siebler; names of permissions after
`SubAccountKeyPerms` of the exchange's own SDK.  A probe sees neither whether a permission writes
nor that `withdraw` is absent: the only call that needs it withdraws.  An edited key takes up to
five minutes to act.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from reconciler.exchanges import parse as take
from reconciler.exchanges.adapter import Credentials, NotUnderstood
from reconciler.exchanges.classify import classify
from reconciler.model.key_facts import (
    TRANSIENT,
    Access,
    Cap,
    Environment,
    Grant,
    GrantEvidence,
    IpRule,
    KeyFacts,
    Status,
)

_NOT_OPENED: Final = "USER_NOT_FOUND"
_NO_SUCH_PATH: Final = "HTTP 404"
_CODES: Final[Mapping[str, Status]] = {
    "INVALID_KEY": Status.REJECTED,
    "INVALID_SIGNATURE": Status.REJECTED,
    "INVALID_CREDENTIALS": Status.REJECTED,
    "AUTHENTICATION_FAILED": Status.INDETERMINATE,  # of what is not told
    "MISSING_REQUIRED_HEADER": Status.INDETERMINATE,  # it got lost
    "IP_FORBIDDEN": Status.IP_REFUSED,  # ccxt takes it for a wrong key
    "REQUEST_EXPIRED": Status.CLOCK,  # and this
    "FORBIDDEN": Status.DENIED,
    "READ_ONLY": Status.DENIED,
    "ACCOUNT_LOCKED": Status.INDETERMINATE,
    "SUB_ACCOUNT_LOCKED": Status.INDETERMINATE,
    "TOO_FAST": Status.RATE_LIMITED,
    "TOO_MANY_REQUESTS": Status.RATE_LIMITED,
    "INTERNAL": Status.UNREACHABLE,
    "SERVER_ERROR": Status.UNREACHABLE,
    "TOO_BUSY": Status.UNREACHABLE,
}

_SPOT: Final = frozenset({Cap.SPOT, Cap.MARGIN})  # one permission, "spot/margin" on the form
_OTHER: Final = frozenset({Cap.OTHER})
_CAPS: Final[Mapping[str, frozenset[Cap]]] = {
    "spot": _SPOT,
    "futures": frozenset({Cap.PERPETUAL}),
    "delivery": frozenset({Cap.DELIVERY}),
    "options": frozenset({Cap.OPTION}),
    "wallet": frozenset({Cap.TRANSFER}),
    "account": frozenset({Cap.ACCOUNT_READ}),
    "margin": frozenset({Cap.MARGIN}),
    "loan": frozenset({Cap.LOAN}),
    "unified": _OTHER,
    "earn": frozenset({Cap.EARN}),
    "custody": frozenset({Cap.CUSTODY}),
    "copy": frozenset({Cap.COPY}),
    "pilot": frozenset({Cap.PILOT}),
    "p2p": frozenset({Cap.P2P}),
    "subaccount": frozenset({Cap.SUBACCOUNT}),
    "rebate": frozenset({Cap.COMMISSION}),
}


@dataclass(frozen=True, slots=True)
class _Probe:
    """A read that needs one permission: its group of addresses in ccxt, method, parameters."""

    permission: str
    group: str
    method: str
    params: Mapping[str, str]


def _probe(permission: str, group: str, method: str, settle: str = "") -> _Probe:
    return _Probe(permission, group, method, {"settle": settle} if settle else {})


_DETAIL: Final = _probe("account", "account", "privateAccountGetDetail")
_PROBES: Final = (
    _probe("spot", "spot", "privateSpotGetAccounts"),
    _probe("futures", "futures", "privateFuturesGetSettleAccounts", "usdt"),
    _probe("delivery", "delivery", "privateDeliveryGetSettleAccounts", "usdt"),
    _probe("options", "options", "privateOptionsGetAccounts"),
    _probe("wallet", "wallet", "privateWalletGetTotalBalance"),
    _probe("subaccount", "subAccounts", "privateSubAccountsGetSubAccounts"),
    _probe("rebate", "rebate", "privateRebateGetUserInfo"),
    _probe("earn", "earn", "privateEarnGetUniLends"),
    _probe("margin", "margin", "privateMarginGetAccounts"),
    _probe("unified", "unified", "privateUnifiedGetAccounts"),
)

_GRANTED: Final = "granted"
_DENIED: Final = "denied"
_UNKNOWN: Final = "unknown"

_ABOUT_ALL: Final = (TRANSIENT - {Status.INDETERMINATE}) | {Status.REJECTED, Status.IP_REFUSED}
"""What is not about one permission: then nothing was learnt, and everything is asked again."""

_STATES: Final[Mapping[int, str]] = {1: "", 2: "locked", 3: "frozen"}
_SECONDS: Final = range(1_000_000_000, 10_000_000_000)
_LAPSES: Final = "90 days after it was made (not bound to addresses)"


@dataclass(frozen=True, slots=True)
class Gate:
    """Asks Gate about a key; no expiry is told."""

    ccxt_id: str = "gate"
    version: int = 1
    disturbs_trading: bool = False

    @property
    def codes(self) -> Mapping[str, Status]:
        """`label` of the answer."""
        return _CODES

    def fetch(self, exchange: Any, environment: Environment) -> Sequence[Any]:
        """
        Ask with one request, and with up to eleven more where the key may not see the list.

        Of those answers only the account's own is handed on, of the others what they prove.
        """
        del environment
        listed, outcome = self._try(exchange, _probe("", "account", "privateAccountGetMainKeys"))
        if outcome == _GRANTED and _ours(listed, exchange.apiKey):
            return (listed,)
        detail, outcome = self._try(exchange, _DETAIL)
        outcomes = {_DETAIL.permission: outcome}
        for probe in _PROBES:
            _, outcomes[probe.permission] = self._try(exchange, probe)
        return (None, detail, outcomes)

    def parse(
        self, answers: Sequence[Any], credentials: Credentials, environment: Environment
    ) -> KeyFacts:
        """Return the facts of our key in the list, or what the probes prove."""
        match answers:
            case [keys]:
                return _listed(take.listing(keys, "the answer"), credentials, environment)
            case [None, detail, outcomes]:
                return _probed(detail, take.mapping(outcomes, "the probes"), environment)
            case _:
                raise NotUnderstood(f"expected one or three answers, got {len(answers)}")

    def _try(self, exchange: Any, probe: _Probe) -> tuple[Any, str]:
        """
        Return an answer and what it says of a permission.

        Raises what ccxt raises for everything that is not about this permission.
        """
        if probe.group not in exchange.urls["api"]["private"]:
            return None, _UNKNOWN  # the test network has fewer
        try:
            return getattr(exchange, probe.method)(dict(probe.params)), _GRANTED
        except Exception as error:
            status, code = classify(error, exchange.last_http_response, _CODES, self.ccxt_id)
            if code == _NOT_OPENED:
                return None, _GRANTED  # the key may, there is nothing to see
            if status is Status.DENIED:
                return None, _DENIED
            tells_nothing = status not in _ABOUT_ALL or code == _NO_SUCH_PATH
            if probe.permission and tells_nothing:
                return None, _UNKNOWN
            raise


def _ours(keys: Any, api_key: str) -> bool:
    """Say whether our key is in the list; a sub-account's key does not find itself there."""
    if not isinstance(keys, list):
        return True  # not the documented shape: the parser says so
    return any(isinstance(row, dict) and _is(row, api_key) for row in keys)


def _is(row: Mapping[str, Any], api_key: str) -> bool:
    shown = row.get("key")
    return isinstance(shown, str) and take.same_key(shown, api_key) is True


def _listed(keys: Sequence[Any], credentials: Credentials, environment: Environment) -> KeyFacts:
    rows = [take.mapping(row, "a key") for row in keys]
    ours = [row for row in rows if _is(row, credentials["apiKey"])]
    if len(ours) != 1:
        raise NotUnderstood("our key is not once in the list")
    row = ours[0]
    state = take.integer(row, "state")
    if state not in _STATES:
        raise NotUnderstood("state is none that is documented")
    perms = take.member(row, "perms")
    grants = tuple(_grant(perm) for perm in (() if perms is None else take.listing(perms, "perms")))
    ip = _ip(row)
    return KeyFacts(
        grants=grants,
        ip=ip,
        read_only=all(grant.access is Access.READ for grant in grants),
        created_at=_seconds(row, "created_at"),
        environment=environment,
        master=True,  # the list holds keys of the main account only
        same_key=True,
        frozen=_STATES[state],
        traits={"lapses": _LAPSES} if ip.bound is False else {},
    )


def _grant(perm: Any) -> Grant:
    row = take.mapping(perm, "a permission")
    raw = take.name(take.member(row, "name"), "a permission")
    access = Access.READ if take.flag(row, "read_only") else Access.WRITE
    caps = _caps(raw)
    return Grant(raw, caps, access=access, separable=len(caps) == 1)


def _caps(raw: str) -> frozenset[Cap]:
    if raw.lower().startswith("withdraw"):  # the exact name is not documented
        return frozenset({Cap.WITHDRAW})
    return _CAPS.get(raw, _OTHER)


def _probed(detail: Any, outcomes: Mapping[str, Any], environment: Environment) -> KeyFacts:
    known = {
        permission: outcome == _GRANTED
        for permission, outcome in outcomes.items()
        if outcome in {_GRANTED, _DENIED}
    }
    granted = [permission for permission in known if known[permission]]
    if "spot" in granted and "margin" in granted:
        granted.remove("margin")  # one permission may have answered both
    decided = frozenset[Cap]().union(*(_caps(permission) for permission in known)) - _OTHER
    if known.get("spot") is False and "margin" not in known:
        decided -= {Cap.MARGIN}
    return KeyFacts(
        grants=tuple(
            Grant(
                permission,
                _caps(permission),
                access=Access.READ,  # at least
                separable=len(_caps(permission)) == 1,
                evidence=GrantEvidence.PROBED,
            )
            for permission in granted
        ),
        ip=IpRule() if detail is None else _ip(take.mapping(detail, "the account")),
        unproven=frozenset(Cap) - decided,
        environment=environment,
        traits={"probed": "one harmless read per permission"},
    )


def _ip(record: Mapping[str, Any]) -> IpRule:
    listed = record.get("ip_whitelist")
    return IpRule() if listed is None else take.ip_rule(take.listing(listed, "ip_whitelist"))


def _seconds(row: Mapping[str, Any], key: str) -> datetime | None:
    """Return an instant in seconds since 1970; its form is not documented, so None for others."""
    value = str(row.get(key) or "")
    if value.isascii() and value.isdigit() and int(value) in _SECONDS:
        return datetime.fromtimestamp(int(value), UTC)
    return None


ADAPTER: Final = Gate()
