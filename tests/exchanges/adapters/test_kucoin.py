"""
KuCoin: what its documented answers mean, and that real ccxt is answered and refused as documented.
"""

from datetime import UTC, datetime
from ipaddress import ip_network
from typing import Any

import pytest

from reconciler.exchanges.adapters.kucoin import ADAPTERS
from reconciler.model.key_facts import Access, Cap, Environment, IpRule, KeyFacts, Status
from reconciler.sandbox.exchanges import signing
from reconciler.testing.adapters import Exchange, GoodKey, errors, spoilt
from reconciler.testing.documented_answers import (
    KEY,
    changed,
    check,
    findings,
    grant,
    mangled,
)
from tests.exchanges.contract import WatchedContract, made_of

ADAPTER, FUTURES = ADAPTERS
PATH = "/api/v1/user/api-key"


def documented(key: str = KEY, **data: Any) -> dict[str, Any]:
    """Return the documented answer for a sub-account's key that may trade spot and futures."""
    return {
        "code": "200000",
        "data": {
            "remark": "a note of its owner",
            "apiKey": key,
            "apiVersion": 3,
            "permission": "General,Spot,Futures",
            "ipWhitelist": "203.0.113.10",
            "createdAt": 1_728_443_843_000,
            "uid": 165_111_215,
            "isMaster": False,
            "subName": "robots",
            **data,
        },
    }


READ = grant("General", Cap.ACCOUNT_READ, access=Access.READ)
SPOT = grant("Spot", Cap.SPOT)
FUTURE = grant("Futures", Cap.PERPETUAL, Cap.DELIVERY)
BOUND = IpRule(bound=True, networks=(ip_network("203.0.113.10"),), listed=True)


def facts(**fields: Any) -> KeyFacts:
    """Return what the documented answer means, with other fields."""
    told: dict[str, Any] = {
        "grants": (READ, SPOT, FUTURE),
        "ip": BOUND,
        "read_only": False,
        "created_at": datetime(2024, 10, 9, 3, 17, 23, tzinfo=UTC),
        "environment": Environment.LIVE,
        "master": False,
        "same_key": True,
    }
    return KeyFacts(**{**told, **fields})


ROWS = [
    pytest.param(
        documented(), facts(), ["INFO EXPIRY_NOT_SHOWN"], id="good; its expiry is not knowable"
    ),
    pytest.param(
        documented(permission="General,Spot,Futures,Transfer"),
        facts(grants=(READ, SPOT, FUTURE, grant("Transfer", Cap.WITHDRAW, Cap.TRANSFER))),
        ["CRITICAL PERM_WITHDRAW", "INFO EXPIRY_NOT_SHOWN"],
        id="excess: withdrawal",
    ),
    pytest.param(
        documented(permission="General,Futures,Spot,Earn,InnerTransfer,Margin"),
        facts(
            grants=(
                READ,
                FUTURE,
                SPOT,
                grant("Earn", Cap.EARN),
                grant("InnerTransfer", Cap.TRANSFER),
                grant("Margin", Cap.MARGIN),
            )
        ),
        [
            "ERROR PERM_FORBIDDEN",
            "ERROR PERM_FORBIDDEN",
            "ERROR PERM_FORBIDDEN",
            "INFO EXPIRY_NOT_SHOWN",
        ],
        id="excess: earn, transfers, margin",
    ),
    pytest.param(
        documented(permission="General,Spot,Futures,Withdrawal"),
        facts(grants=(READ, SPOT, FUTURE, grant("Withdrawal", Cap.WITHDRAW))),
        ["CRITICAL PERM_WITHDRAW", "INFO EXPIRY_NOT_SHOWN"],
        id="excess: withdrawal, as the documentation calls it",
    ),
    pytest.param(
        documented(permission="General,Spot,Futures,FlexTransfers,LeadtradeFutures"),
        facts(
            grants=(
                *(READ, SPOT, FUTURE),
                grant("FlexTransfers", Cap.TRANSFER),
                grant("LeadtradeFutures", Cap.COPY),
            )
        ),
        ["ERROR PERM_FORBIDDEN", "ERROR PERM_FORBIDDEN", "INFO EXPIRY_NOT_SHOWN"],
        id="excess: transfers of all kinds, and leading others",
    ),
    pytest.param(
        documented(permission="General, Trade, Unified, Novel-Thing"),
        facts(
            grants=(
                READ,
                grant("Trade", Cap.SPOT, Cap.MARGIN),
                grant("Unified", Cap.UNIFIED),
                grant("Novel-Thing", Cap.OTHER),
            )
        ),
        [
            "ERROR PERM_FORBIDDEN",
            "ERROR PERM_FORBIDDEN",
            "ERROR PERM_MISSING",
            "INFO EXPIRY_NOT_SHOWN",
            "INFO PERM_COARSE",
        ],
        id="old and unknown names",
    ),
    pytest.param(
        documented(permission="General,Spot"),
        facts(grants=(READ, SPOT)),
        ["ERROR PERM_MISSING", "INFO EXPIRY_NOT_SHOWN"],
        id="missing: futures",
    ),
    pytest.param(
        documented(permission=""),
        facts(grants=(), read_only=True),
        ["ERROR PERM_MISSING", "INFO EXPIRY_NOT_SHOWN"],
        id="nothing granted at all",
    ),
    pytest.param(
        documented(ipWhitelist=""),
        facts(ip=IpRule(bound=False, listed=True)),
        ["ERROR IP_UNBOUND", "INFO EXPIRY_NOT_SHOWN"],
        id="unbound",
    ),
    pytest.param(
        changed(documented(), "data.ipWhitelist", ...),
        facts(ip=IpRule(bound=False, listed=True)),
        ["ERROR IP_UNBOUND", "INFO EXPIRY_NOT_SHOWN"],
        id="no list: unbound",
    ),
    *(
        pytest.param(
            documented(ipWhitelist=everywhere),
            facts(ip=IpRule(bound=False, listed=True)),
            ["ERROR IP_UNBOUND", "INFO EXPIRY_NOT_SHOWN"],
            id=f"unbound: {everywhere}",
        )
        for everywhere in (
            "0.0.0.0",
            "203.0.113.10,0.0.0.0",
            "0.0.0.0/0",
            "::",
            "203.0.113.10,::/0",
        )
    ),
    pytest.param(
        documented(ipWhitelist="198.51.100.7,192.0.2.1"),
        facts(
            ip=IpRule(
                bound=True,
                networks=(ip_network("198.51.100.7"), ip_network("192.0.2.1")),
                listed=True,
            )
        ),
        ["ERROR IP_MISSING_SERVER", "WARNING IP_EXTRA", "INFO EXPIRY_NOT_SHOWN"],
        id="bound elsewhere",
    ),
    pytest.param(
        documented(ipWhitelist="203.**.154,103.**.34"),
        facts(ip=IpRule(bound=True)),
        [
            "WARNING IP_LIST_NOT_SHOWN",
            "INFO EXPIRY_NOT_SHOWN",
        ],
        id="bound, the addresses masked: not knowable to which",
    ),
    pytest.param(
        documented(ipWhitelist="*"),
        facts(ip=IpRule()),
        ["WARNING IP_NOT_KNOWABLE", "INFO EXPIRY_NOT_SHOWN"],
        id="an asterisk: not knowable",
    ),
    pytest.param(
        documented(permission="General"),
        facts(grants=(READ,), read_only=True),
        ["ERROR PERM_MISSING", "INFO EXPIRY_NOT_SHOWN"],
        id="read-only",
    ),
    pytest.param(
        documented(isMaster=True),
        facts(master=True),
        ["WARNING MASTER_KEY", "INFO EXPIRY_NOT_SHOWN"],
        id="key of the main account",
    ),
    pytest.param(
        documented(key="another-key"),
        facts(same_key=False),
        ["CRITICAL KEY_MISMATCH", "WARNING PERM_NOT_KNOWABLE"],
        id="about another key",
    ),
    pytest.param(
        changed(changed(documented(), "data.isMaster", ...), "data.createdAt", ...),
        facts(master=None, created_at=None, traits={"lacks": "isMaster"}),
        ["WARNING ANSWER_INCOMPLETE", "INFO EXPIRY_NOT_SHOWN"],
        id="older answer: main account and age not knowable",
    ),
]


def test_what_kucoin_knows_is_a_live_key() -> None:
    check(ADAPTER, documented(), facts(environment=Environment.LIVE), Environment.TEST)


def test_a_live_key_where_a_test_one_belongs_is_a_finding() -> None:
    found = findings(ADAPTER, facts(), Environment.TEST)
    assert found == ["ERROR ENV_MISMATCH", "INFO EXPIRY_NOT_SHOWN"]


HOSTILE = spoilt(
    documented(),
    ("code", ...),
    ("code", "200"),
    ("code", None),
    ("data", ...),
    ("data", []),
    ("data", [documented()["data"]]),
    ("data", "hostile"),
    ("data.permission", ...),
    ("data.permission", ["General"]),
    ("data.permission", None),
    ("data.permission", "General,hostile\nline"),
    ("data.permission", "General,\u202ehostile"),
    ("data.ipWhitelist", ["203.0.113.10"]),
    ("data.ipWhitelist", None),
    ("data.apiKey", ...),
    ("data.apiKey", 17),
    ("data.createdAt", "yesterday"),
    ("data.createdAt", 1.5),
    ("data.isMaster", "true"),
    ("data.isMaster", None),
)


CODES = {
    "400001": Status.INDETERMINATE,
    "400002": Status.CLOCK,
    "400003": Status.REJECTED,
    "400004": Status.REJECTED,
    "400005": Status.REJECTED,
    "400006": Status.IP_REFUSED,
    "400007": Status.DENIED,
    "429000": Status.RATE_LIMITED,
    "500000": Status.UNREACHABLE,
    "999999": Status.INDETERMINATE,
}

EXCHANGE = Exchange(
    more=lambda answer, name: changed(
        answer, "data.permission", f"{answer['data']['permission']},{name}"
    ),
    adapters=ADAPTERS,
    check=signing.kucoin,
    made_up=made_of(apiKey="hex", secret="uuid", password="password"),
    documented=documented(),
    mangled=mangled(documented()),
    rows=ROWS,
    hostile=HOSTILE,
    good=tuple(
        GoodKey(adapter, "api.kucoin.com", (PATH,), lambda key: {PATH: documented(key)}, facts())
        for adapter in (ADAPTER, FUTURES)
    ),
    wrong={"apiKey": "400003", "secret": "400005", "password": "400004", "clock": "400002"},
    errors=errors(signing.kucoin_error, CODES, 200, 401),
)


class TestKuCoin(WatchedContract):
    exchange = EXCHANGE
