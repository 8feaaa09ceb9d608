"""
Gate: `GET /account/main_keys`, and where that is refused one harmless read per permission.

Which permission `/account/*` needs is not documented; a good key has none for the account.  Shapes
and names after gate.com/docs/developers/apiv4, see docs/audit/gateio.md.  The list shows its keys
masked, so that ours is found by what is shown of it.  None of the documented names says withdraw:
neither the list nor a probe can prove that a key may not.  An edited key takes up to five minutes
to act.
"""

from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from datetime import UTC, datetime
from typing import Any, Final

from msgspec import Struct, field

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
from reconciler.model.values import replace

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
    "unified": {Cap.UNIFIED},
    "otc": take.UNKNOWN,
    "alpha": take.UNKNOWN,
    "crossx": take.UNKNOWN,
}
# On the form of the exchange, and in no list of its documentation.
_FORM: Final = {
    "p2p": {Cap.P2P},
    "subaccount": {Cap.SUBACCOUNT},
    "rebate": {Cap.COMMISSION},
}
_NEVER_TOLD: Final = frozenset({Cap.WITHDRAW})


class _Probe(Struct, frozen=True):
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
        if outcome == _GRANTED and _told(listed, exchange.apiKey):
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
            case [listed]:
                return _listed(_rows(listed), ours["apiKey"], environment)
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


def _told(listed: Any, api_key: str) -> bool:
    """Say whether the list may tell of our key; a sub-account's key does not find itself there."""
    try:
        return bool(_ours(_rows(listed), api_key))
    except take.NotUnderstood:
        return True  # the parser says so


def _rows(listed: Any) -> Sequence[Mapping[str, Any]]:
    """Return the keys of the main account; documented are a list of them, and one alone."""
    rows = [listed] if isinstance(listed, dict) else take.listing(listed, "the answer")
    return [take.mapping(row, "a key") for row in rows]


def _ours(rows: Sequence[Mapping[str, Any]], api_key: str) -> Sequence[Mapping[str, Any]]:
    """
    Return those that may be our key: itself, else all that are shown as ours would be.

    Where one stands alone, `key` may hold its mode instead: then it is about who asks.
    """
    if len(rows) == 1 and isinstance(rows[0].get("key"), dict):
        return rows
    shown = [(row, take.text(row, "key")) for row in rows]
    same = [row for row, key in shown if take.same_key(key, api_key)]
    return same or [row for row, key in shown if take.may_show(key, api_key)]


def _listed(rows: Sequence[Mapping[str, Any]], api_key: str, environment: Environment) -> KeyFacts:
    """Return what is told of our key; of several that it may be, the worst of each."""
    ours = _ours(rows, api_key)
    if not ours:
        raise take.NotUnderstood("our key is not in the list")
    states = [take.integer(row, "state") for row in ours]
    if not _STATES.keys() >= set(states):
        raise take.NotUnderstood("state is none that is documented")
    grants = tuple(dict.fromkeys(grant for row in ours for grant in _grants(row)))
    ip = _worst([_ip(row) for row in ours])
    ages = [_seconds(row, "created_at") for row in ours]
    known = [age for age in ages if age is not None]
    return KeyFacts(
        grants=grants,
        ip=ip,
        unproven=_NEVER_TOLD,
        read_only=take.only_reads(grants),
        created_at=min(known) if len(known) == len(ages) else None,
        environment=environment,
        master=True,  # the list holds keys of the main account only
        same_key=take.same_key(str(ours[0].get("key")), api_key) or None,
        frozen=_STATES[max(states)],
        traits={"lapses": _LAPSES} if ip.bound is False else {},
    )


def _worst(rules: Sequence[IpRule]) -> IpRule:
    """Return what holds of a key that may be any of these; all of their addresses, if all bind."""
    if len(rules) == 1:
        return rules[0]
    unbound = [rule for rule in rules if rule.bound is False]
    unknown = [rule for rule in rules if not rule.listed]
    networks = dict.fromkeys(network for rule in rules for network in rule.networks)
    return (*unbound, *unknown, IpRule(bound=True, networks=tuple(networks), listed=True))[0]


def _grants(row: Mapping[str, Any]) -> Sequence[Grant]:
    perms = take.member(row, "perms")
    return [_grant(perm) for perm in (() if perms is None else take.listing(perms, "perms"))]


def _grant(perm: Any) -> Grant:
    row = take.mapping(perm, "a permission")
    raw = take.name(take.member(row, "name"), "a permission")
    return take.grant(raw, _caps(raw), reads=take.flag(row, "read_only"))


def _caps(raw: str) -> AbstractSet[Cap]:
    return {**_FORM, **_CAPS}.get(raw, take.UNKNOWN)


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
    Gate(
        "gate",
        names=_CAPS,
        codes=_CODES,
        version=2,
        also_called=("gateio",),
        without_keys=("gateio-mock",),
    ),
    Gate("gateeu", names=_CAPS, codes=_CODES, version=2),
)
