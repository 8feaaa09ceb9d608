"""
KuCoin: what its documented answers mean, and that real ccxt is answered and refused as documented.
"""

from datetime import UTC, datetime
from ipaddress import ip_network
from typing import Any

import pytest
from hypothesis import given, settings

from reconciler.exchanges.facts import Access, Cap, Environment, Grant, IpRule, KeyFacts, Status
from reconciler.exchanges.kucoin import ADAPTER, FUTURES, Kucoin
from tests.exchanges import asking, signing
from tests.exchanges.documented import KEY, changed, check, findings, mangled, refuse, survives
from tests.leaks import Watch

PATH = "/api/v1/user/api-key"
BOTH = [pytest.param(adapter, id=adapter.ccxt_id) for adapter in (ADAPTER, FUTURES)]


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


def grant(raw: str, *caps: Cap, access: Access = Access.WRITE) -> Grant:
    """Return a reported grant."""
    return Grant(raw, frozenset(caps), access=access, separable=len(caps) == 1)


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
    pytest.param(documented(), facts(), id="good; its expiry is not knowable"),
    pytest.param(
        documented(permission="General,Spot,Futures,Transfer"),
        facts(grants=(READ, SPOT, FUTURE, grant("Transfer", Cap.WITHDRAW, Cap.TRANSFER))),
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
        id="excess: earn, transfers, margin",
    ),
    pytest.param(
        documented(permission="General, Trade, Unified, Novel-Thing"),
        facts(
            grants=(
                READ,
                grant("Trade", Cap.SPOT, Cap.MARGIN),
                grant("Unified", Cap.OTHER),
                grant("Novel-Thing", Cap.OTHER),
            )
        ),
        id="old and unknown names",
    ),
    pytest.param(
        documented(permission="General,Spot"), facts(grants=(READ, SPOT)), id="missing: futures"
    ),
    pytest.param(
        documented(permission=""),
        facts(grants=(), read_only=True),
        id="nothing granted at all",
    ),
    pytest.param(
        documented(ipWhitelist=""), facts(ip=IpRule(bound=False, listed=True)), id="unbound"
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
        id="bound elsewhere",
    ),
    pytest.param(
        documented(ipWhitelist="203.**.154,103.**.34"),
        facts(ip=IpRule(bound=True)),
        id="bound, the addresses masked: not knowable to which",
    ),
    pytest.param(documented(ipWhitelist="*"), facts(ip=IpRule()), id="an asterisk: not knowable"),
    pytest.param(
        documented(permission="General"), facts(grants=(READ,), read_only=True), id="read-only"
    ),
    pytest.param(documented(isMaster=True), facts(master=True), id="key of the main account"),
    pytest.param(documented(key="another-key"), facts(same_key=False), id="about another key"),
    pytest.param(
        changed(changed(documented(), "data.isMaster", ...), "data.createdAt", ...),
        facts(master=None, created_at=None),
        id="older answer: main account and age not knowable",
    ),
]


FINDINGS = {
    "good; its expiry is not knowable": ["INFO EXPIRY_NOT_SHOWN"],
    "excess: withdrawal": ["CRITICAL PERM_WITHDRAW", "INFO EXPIRY_NOT_SHOWN"],
    "excess: earn, transfers, margin": [
        "ERROR PERM_FORBIDDEN",
        "ERROR PERM_FORBIDDEN",
        "ERROR PERM_FORBIDDEN",
        "INFO EXPIRY_NOT_SHOWN",
    ],
    "old and unknown names": [
        "ERROR PERM_FORBIDDEN",
        "ERROR PERM_FORBIDDEN",
        "ERROR PERM_MISSING",
        "INFO EXPIRY_NOT_SHOWN",
        "INFO PERM_COARSE",
    ],
    "missing: futures": ["ERROR PERM_MISSING", "INFO EXPIRY_NOT_SHOWN"],
    "nothing granted at all": ["ERROR PERM_MISSING", "INFO EXPIRY_NOT_SHOWN"],
    "unbound": ["ERROR IP_UNBOUND", "INFO EXPIRY_NOT_SHOWN"],
    "bound elsewhere": ["ERROR IP_MISSING_SERVER", "WARNING IP_EXTRA", "INFO EXPIRY_NOT_SHOWN"],
    "bound, the addresses masked: not knowable to which": [
        "WARNING IP_LIST_NOT_SHOWN",
        "INFO EXPIRY_NOT_SHOWN",
    ],
    "an asterisk: not knowable": ["WARNING IP_NOT_KNOWABLE", "INFO EXPIRY_NOT_SHOWN"],
    "read-only": ["ERROR PERM_MISSING", "INFO EXPIRY_NOT_SHOWN"],
    "key of the main account": ["WARNING MASTER_KEY", "INFO EXPIRY_NOT_SHOWN"],
    "about another key": ["CRITICAL KEY_MISMATCH", "WARNING PERM_NOT_KNOWABLE"],
    "older answer: main account and age not knowable": ["INFO EXPIRY_NOT_SHOWN"],
}


@pytest.mark.parametrize(("answer", "expected"), ROWS)
def test_a_documented_answer_means_exactly_this(answer: Any, expected: KeyFacts) -> None:
    check(ADAPTER, answer, expected)
    check(FUTURES, answer, expected)


@pytest.mark.parametrize(("answer", "expected"), ROWS)
def test_and_comes_to_exactly_these_findings(
    request: pytest.FixtureRequest, answer: Any, expected: KeyFacts
) -> None:
    del answer
    assert findings(ADAPTER, expected) == FINDINGS[request.node.callspec.id]


def test_what_kucoin_knows_is_a_live_key() -> None:
    check(ADAPTER, documented(), facts(environment=Environment.LIVE), Environment.TEST)


def test_a_live_key_where_a_test_one_belongs_is_a_finding() -> None:
    found = findings(ADAPTER, facts(), Environment.TEST)
    assert found == ["ERROR ENV_MISMATCH", "INFO EXPIRY_NOT_SHOWN"]


@pytest.mark.parametrize(
    ("path", "value"),
    [
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
        ("data.ipWhitelist", ...),
        ("data.ipWhitelist", ["203.0.113.10"]),
        ("data.ipWhitelist", None),
        ("data.apiKey", ...),
        ("data.apiKey", 17),
        ("data.createdAt", "yesterday"),
        ("data.createdAt", 1.5),
        ("data.isMaster", "true"),
        ("data.isMaster", None),
    ],
)
def test_a_hostile_answer_is_not_understood(path: str, value: Any) -> None:
    refuse(ADAPTER, [changed(documented(), path, value)])


@settings(deadline=None)
@given(mangled(documented()))
def test_no_answer_at_all_does_harm(answer: Any) -> None:
    survives(ADAPTER, answer)


@pytest.mark.parametrize("answers", [[], [None], [[]], ["hostile"], [documented(), documented()]])
def test_neither_is_another_number_of_answers(answers: list[Any]) -> None:
    refuse(ADAPTER, answers)


@pytest.fixture
def credentials(watch: Watch) -> dict[str, str]:
    """A made-up key."""
    return {
        "apiKey": watch.secret("hex"),
        "secret": watch.secret("uuid"),
        "password": watch.secret("password"),
    }


@pytest.mark.parametrize("adapter", BOTH)
def test_real_ccxt_is_understood_after_one_request(
    adapter: Kucoin, credentials: dict[str, str]
) -> None:
    answer = {PATH: documented(credentials["apiKey"])}
    with signing.serving(signing.kucoin, credentials, answer) as server:
        asked = asking.ask(adapter, server.url, credentials)

    assert (asked.status, asked.facts) == (Status.VALID, facts())
    assert server.paths() == [PATH]


@pytest.mark.parametrize(
    ("wrong", "code"),
    [("apiKey", "400003"), ("secret", "400005"), ("password", "400004"), ("clock", "400002")],
)
def test_what_is_wrong_with_a_key_is_told_apart(
    credentials: dict[str, str], watch: Watch, wrong: str, code: str
) -> None:
    ours, skew = asking.spoilt(credentials, watch, wrong)
    with signing.serving(signing.kucoin, credentials, {PATH: documented()}) as server:
        asked = asking.ask(ADAPTER, server.url, ours, skew_ms=skew)

    assert (asked.status, asked.code) == (asking.expected(wrong), code)
    assert server.paths() == [PATH]


@pytest.mark.parametrize("adapter", BOTH)
def test_the_real_address_is_the_documented_one(
    adapter: Kucoin, credentials: dict[str, str]
) -> None:
    meant: list[str] = []
    with signing.serving(signing.kucoin, credentials, {PATH: documented()}) as server:
        asked = asking.ask(adapter, server.url, credentials, meant=meant)

    assert asked.status is Status.VALID
    assert meant == ["https://api.kucoin.com/api/v1/user/api-key"]


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


@pytest.mark.parametrize("http", [200, 401])
@pytest.mark.parametrize(("code", "status"), CODES.items())
def test_an_error_code_has_its_status(
    credentials: dict[str, str], code: str, status: Status, http: int
) -> None:
    with signing.serving(signing.kucoin, credentials, {}) as server:
        server.script.append(signing.kucoin_error(code, http))
        asked = asking.ask(ADAPTER, server.url, credentials)

    assert (asked.status, asked.code) == (status, code)
    assert len(server.calls) == 1


def test_every_code_of_the_adapter_is_in_the_table() -> None:
    assert set(ADAPTER.codes) <= set(CODES)


@pytest.mark.parametrize(("reply", "status"), asking.TROUBLE)
def test_trouble_on_the_way_is_never_a_wrong_key(
    credentials: dict[str, str], reply: Any, status: Status
) -> None:
    with signing.serving(signing.kucoin, credentials, {}) as server:
        server.script.append(reply)
        asked = asking.ask(ADAPTER, server.url, credentials)

    assert asked.status is status
