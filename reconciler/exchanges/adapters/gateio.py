"""
Gate: `GET /account/main_keys`, and where that is refused one harmless read per permission.

Which permission `/account/*` needs is not documented; a good key has none for the account.  Shapes
after gate.com/docs/developers/apiv4 and the typed SDK of T. Siebler; names of permissions after
`SubAccountKeyPerms` of the exchange's own SDK.  A probe sees neither whether a permission writes
nor that `withdraw` is absent: the only call that needs it withdraws.  An edited key takes up to
five minutes to act.
"""

from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, Final

from reconciler.exchanges import parse as take
from reconciler.exchanges.adapter import Adapter, Credentials
from reconciler.exchanges.classify import classify
from reconciler.model.key_facts import (
    TRANSIENT,
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
    **dict.fromkeys(("INVALID_KEY", "INVALID_SIGNATURE", "INVALID_CREDENTIALS"), Status.REJECTED),
    **dict.fromkeys(("FORBIDDEN", "READ_ONLY"), Status.DENIED),
    **dict.fromkeys(("ACCOUNT_LOCKED", "SUB_ACCOUNT_LOCKED"), Status.INDETERMINATE),
    **dict.fromkeys(("TOO_FAST", "TOO_MANY_REQUESTS"), Status.RATE_LIMITED),
    **dict.fromkeys(("INTERNAL", "SERVER_ERROR", "TOO_BUSY"), Status.UNREACHABLE),
    "AUTHENTICATION_FAILED": Status.INDETERMINATE,  # of what is not told
    "MISSING_REQUIRED_HEADER": Status.INDETERMINATE,  # it got lost
    "IP_FORBIDDEN": Status.IP_REFUSED,  # ccxt takes it for a wrong key
    "REQUEST_EXPIRED": Status.CLOCK,  # and this
}

_CAPS: Final = {
    "spot": {Cap.SPOT, Cap.MARGIN},  # one permission, "spot/margin" on the form
    "futures": {Cap.PERPETUAL},
    "delivery": {Cap.DELIVERY},
    "options": {Cap.OPTION},
    "wallet": {Cap.TRANSFER},
    "account": {Cap.ACCOUNT_READ},
    "margin": {Cap.MARGIN},
    "loan": {Cap.LOAN},
    "earn": {Cap.EARN},
    "custody": {Cap.CUSTODY},
    "copy": {Cap.COPY},
    "pilot": {Cap.PILOT},
    "p2p": {Cap.P2P},
    "subaccount": {Cap.SUBACCOUNT},
    "rebate": {Cap.COMMISSION},
}


@dataclass(frozen=True, slots=True)
class _Probe:
    """A read that needs one permission: its group of addresses in ccxt, method, parameters."""

    permission: str
    group: str
    method: str
    params: Mapping[str, str] = field(default_factory=dict)


_LIST: Final = _Probe("", "account", "privateAccountGetMainKeys")
_DETAIL: Final = _Probe("account", "account", "privateAccountGetDetail")
_USDT: Final = {"settle": "usdt"}
_PROBES: Final = (
    _Probe("spot", "spot", "privateSpotGetAccounts"),
    _Probe("futures", "futures", "privateFuturesGetSettleAccounts", _USDT),
    _Probe("delivery", "delivery", "privateDeliveryGetSettleAccounts", _USDT),
    _Probe("options", "options", "privateOptionsGetAccounts"),
    _Probe("wallet", "wallet", "privateWalletGetTotalBalance"),
    _Probe("subaccount", "subAccounts", "privateSubAccountsGetSubAccounts"),
    _Probe("rebate", "rebate", "privateRebateGetUserInfo"),
    _Probe("earn", "earn", "privateEarnGetUniLends"),
    _Probe("margin", "margin", "privateMarginGetAccounts"),
    _Probe("unified", "unified", "privateUnifiedGetAccounts"),
)

_GRANTED: Final = "granted"
_DENIED: Final = "denied"
_UNKNOWN: Final = "unknown"

_ABOUT_ALL: Final = (TRANSIENT - {Status.INDETERMINATE}) | {Status.REJECTED, Status.IP_REFUSED}
"""What is not about one permission: then nothing was learnt, and everything is asked again."""

_STATES: Final[Mapping[int, str]] = {1: "", 2: "locked", 3: "frozen"}
_SECONDS: Final = range(1_000_000_000, 10_000_000_000)
_LAPSES: Final = "90 days after it was made (not bound to addresses)"


class Gate(Adapter):
    def fetch(self, exchange: Any, _environment: Environment, /) -> Sequence[Any]:
        """
        Ask with one request, and with up to eleven more where the key may not see the list.

        Of those answers only the account's own is handed on, of the others what they prove.
        """
        listed, outcome = self._try(exchange, _LIST)
        if outcome == _GRANTED and _ours(listed, exchange.apiKey):
            return (listed,)
        detail, outcome = self._try(exchange, _DETAIL)
        outcomes = {_DETAIL.permission: outcome}
        for probe in _PROBES:
            _, outcomes[probe.permission] = self._try(exchange, probe)
        return (None, detail, outcomes)

    def parse(
        self, answers: Sequence[Any], ours: Credentials, environment: Environment, /
    ) -> KeyFacts:
        match answers:
            case [keys]:
                return _listed(take.listing(keys, "the answer"), ours["apiKey"], environment)
            case [None, detail, outcomes]:
                return _probed(detail, take.mapping(outcomes, "the probes"), environment)
            case _:
                raise take.NotUnderstood(f"expected one or three answers, got {len(answers)}")

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
            status, code = classify(error, exchange.last_http_response, self)
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


def _listed(keys: Sequence[Any], api_key: str, environment: Environment) -> KeyFacts:
    rows = [take.mapping(row, "a key") for row in keys]
    ours = [row for row in rows if _is(row, api_key)]
    if len(ours) != 1:
        raise take.NotUnderstood("our key is not once in the list")
    row = ours[0]
    state = take.integer(row, "state")
    if state not in _STATES:
        raise take.NotUnderstood("state is none that is documented")
    perms = take.member(row, "perms")
    grants = tuple(_grant(perm) for perm in (() if perms is None else take.listing(perms, "perms")))
    ip = _ip(row)
    return KeyFacts(
        grants=grants,
        ip=ip,
        read_only=take.only_reads(grants),
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
    return take.grant(raw, _caps(raw), reads=take.flag(row, "read_only"))


def _caps(raw: str) -> AbstractSet[Cap]:
    if raw.lower().startswith("withdraw"):  # the exact name is not documented
        return {Cap.WITHDRAW}
    return _CAPS.get(raw, take.UNKNOWN)


def _probed(detail: Any, outcomes: Mapping[str, Any], environment: Environment) -> KeyFacts:
    known = {
        permission: outcome == _GRANTED
        for permission, outcome in outcomes.items()
        if outcome in {_GRANTED, _DENIED}
    }
    granted = [permission for permission in known if known[permission]]
    if "spot" in granted and "margin" in granted:
        granted.remove("margin")  # one permission may have answered both
    decided = frozenset[Cap]().union(*map(_caps, known)) - take.UNKNOWN
    if known.get("spot") is False and "margin" not in known:
        decided -= {Cap.MARGIN}
    # That they read is the least that they do.
    grants = (take.grant(permission, _caps(permission), reads=True) for permission in granted)
    return KeyFacts(
        grants=tuple(replace(grant, evidence=GrantEvidence.PROBED) for grant in grants),
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


ADAPTERS: Final = (
    Gate("gate", codes=_CODES, also_called=("gateio",), without_keys=("gateio-mock",)),
    Gate("gateeu", codes=_CODES),
)
