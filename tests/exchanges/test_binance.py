"""
Binance: what its documented answers mean, and that real ccxt is answered and refused as documented.
"""

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given, settings

from reconciler.exchanges.binance import ADAPTER, COINM, USDM, Binance
from reconciler.exchanges.facts import Access, Cap, Environment, Grant, IpRule, KeyFacts, Status
from tests.exchanges import asking, signing
from tests.exchanges.documented import changed, check, findings, mangled, refusal, refuse, survives
from tests.leaks import Watch

PATH = "/sapi/v1/account/apiRestrictions"
ALL = [pytest.param(adapter, id=adapter.ccxt_id) for adapter in (ADAPTER, USDM, COINM)]


# Of the account, not the key: none of it becomes a permission.
ACCOUNT = {"canTrade": True, "canWithdraw": True, "balances": [], "permissions": ["SPOT"]}
BALANCES = {
    ADAPTER.ccxt_id: ("/api/v3/account", ACCOUNT),
    USDM.ccxt_id: ("/fapi/v3/balance", [{"asset": "USDT", "balance": "0.1"}]),
    COINM.ccxt_id: ("/dapi/v1/balance", []),
}


def documented(**switches: Any) -> dict[str, Any]:
    """Return the answer of the documentation for a key that may trade spot and futures."""
    return {
        "ipRestrict": True,
        "createTime": 1_698_645_219_000,
        "enableReading": True,
        "enableWithdrawals": False,
        "enableInternalTransfer": False,
        "enableMargin": False,
        "enableFutures": True,
        "permitsUniversalTransfer": False,
        "enableVanillaOptions": False,
        "enableFixApiTrade": False,
        "enableFixReadOnly": False,
        "enableSpotAndMarginTrading": True,
        "enablePortfolioMarginTrading": False,
        **switches,
    }


def grant(raw: str, *caps: Cap, access: Access = Access.WRITE) -> Grant:
    """Return a reported grant."""
    return Grant(raw, frozenset(caps), access=access, separable=len(caps) == 1)


READ = grant("enableReading", Cap.ACCOUNT_READ, access=Access.READ)
SPOT = grant("enableSpotAndMarginTrading", Cap.SPOT, Cap.MARGIN)
FUTURES = grant("enableFutures", Cap.PERPETUAL, Cap.DELIVERY)


def facts(**fields: Any) -> KeyFacts:
    """Return what the documented answer means, with other fields."""
    told: dict[str, Any] = {
        "grants": (READ, FUTURES, SPOT),
        "ip": IpRule(bound=True),
        "read_only": False,
        "created_at": datetime(2023, 10, 30, 5, 53, 39, tzinfo=UTC),
        "environment": Environment.LIVE,
    }
    return KeyFacts(**{**told, **fields})


ROWS = [
    pytest.param(documented(), facts(), id="good; bound, the addresses are not knowable"),
    pytest.param(
        documented(enableWithdrawals=True),
        facts(grants=(READ, grant("enableWithdrawals", Cap.WITHDRAW), FUTURES, SPOT)),
        id="excess: withdrawal",
    ),
    pytest.param(
        documented(
            enableInternalTransfer=True,
            enableMargin=True,
            permitsUniversalTransfer=True,
            enableVanillaOptions=True,
        ),
        facts(
            grants=(
                READ,
                grant("enableInternalTransfer", Cap.TRANSFER, Cap.SUBACCOUNT),
                grant("enableMargin", Cap.MARGIN),
                FUTURES,
                grant("permitsUniversalTransfer", Cap.TRANSFER),
                grant("enableVanillaOptions", Cap.OPTION),
                SPOT,
            )
        ),
        id="excess: transfers, loans, options",
    ),
    pytest.param(
        documented(
            enablePortfolioMarginTrading=True,
            enableFixApiTrade=True,
            enableNovelThing=True,
            brandNew=True,
            alsoNew=False,
            aNumber=7,
        ),
        facts(
            grants=(
                READ,
                FUTURES,
                grant("enableFixApiTrade", Cap.OTHER),
                SPOT,
                grant("enablePortfolioMarginTrading", Cap.OTHER),
                grant("enableNovelThing", Cap.OTHER),
                grant("brandNew", Cap.OTHER),
            )
        ),
        id="switches of other or unknown meaning",
    ),
    pytest.param(
        documented(enableFutures=False),
        facts(grants=(READ, SPOT)),
        id="missing: futures",
    ),
    pytest.param(
        documented(enableReading=False),
        facts(grants=(FUTURES, SPOT)),
        id="missing: reading",
    ),
    pytest.param(documented(ipRestrict=False), facts(ip=IpRule(bound=False)), id="unbound"),
    pytest.param(
        documented(ipRestrict=False, tradingAuthorityExpirationTime=1_764_000_000_000),
        facts(
            ip=IpRule(bound=False),
            expires_at=datetime(2025, 11, 24, 16, 0, tzinfo=UTC),
        ),
        id="unbound, so trading lapses",
    ),
    pytest.param(
        documented(tradingAuthorityExpirationTime=None),
        facts(),
        id="null instead of an instant",
    ),
    pytest.param(
        documented(enableFutures=False, enableSpotAndMarginTrading=False),
        facts(grants=(READ,), read_only=True),
        id="read-only",
    ),
    pytest.param(
        documented(enableFutures=False, enableSpotAndMarginTrading=False, enableFixReadOnly=True),
        facts(
            grants=(READ, grant("enableFixReadOnly", Cap.OTHER, access=Access.READ)),
            read_only=True,
        ),
        id="read-only, over FIX as well",
    ),
    pytest.param(
        {
            "ipRestrict": True,
            "createTime": 1_698_645_219_000,
            "enableReading": True,
            "enableWithdrawals": False,
            "enableSpotAndMarginTrading": True,
        },
        facts(grants=(READ, SPOT)),
        id="an account without futures or options",
    ),
]


@settings(deadline=None)
@given(mangled(ACCOUNT))
def test_no_balance_at_all_does_harm(answer: Any) -> None:
    survives(ADAPTER, answer, Environment.TEST)


FINDINGS = {
    "good; bound, the addresses are not knowable": [
        "WARNING IP_LIST_NOT_SHOWN",
        "INFO EXPIRY_NOT_SHOWN",
        "INFO PERM_COARSE",
    ],
    "excess: withdrawal": [
        "CRITICAL PERM_WITHDRAW",
        "WARNING IP_LIST_NOT_SHOWN",
        "INFO EXPIRY_NOT_SHOWN",
        "INFO PERM_COARSE",
    ],
    "excess: transfers, loans, options": [
        "ERROR PERM_FORBIDDEN",
        "ERROR PERM_FORBIDDEN",
        "ERROR PERM_FORBIDDEN",
        "ERROR PERM_FORBIDDEN",
        "WARNING IP_LIST_NOT_SHOWN",
        "INFO EXPIRY_NOT_SHOWN",
        "INFO PERM_COARSE",
    ],
    "switches of other or unknown meaning": [
        "ERROR PERM_FORBIDDEN",
        "ERROR PERM_FORBIDDEN",
        "ERROR PERM_FORBIDDEN",
        "ERROR PERM_FORBIDDEN",
        "WARNING IP_LIST_NOT_SHOWN",
        "INFO EXPIRY_NOT_SHOWN",
        "INFO PERM_COARSE",
    ],
    "missing: futures": [
        "ERROR PERM_MISSING",
        "WARNING IP_LIST_NOT_SHOWN",
        "INFO EXPIRY_NOT_SHOWN",
        "INFO PERM_COARSE",
    ],
    "missing: reading": ["WARNING IP_LIST_NOT_SHOWN", "INFO EXPIRY_NOT_SHOWN", "INFO PERM_COARSE"],
    "unbound": ["ERROR IP_UNBOUND", "INFO EXPIRY_NOT_SHOWN", "INFO PERM_COARSE"],
    "unbound, so trading lapses": ["ERROR IP_UNBOUND", "WARNING EXPIRES_SOON", "INFO PERM_COARSE"],
    "null instead of an instant": [
        "WARNING IP_LIST_NOT_SHOWN",
        "INFO EXPIRY_NOT_SHOWN",
        "INFO PERM_COARSE",
    ],
    "read-only": ["ERROR PERM_MISSING", "WARNING IP_LIST_NOT_SHOWN", "INFO EXPIRY_NOT_SHOWN"],
    "read-only, over FIX as well": [
        "ERROR PERM_MISSING",
        "WARNING IP_LIST_NOT_SHOWN",
        "WARNING PERM_UNKNOWN_NAME",
        "INFO EXPIRY_NOT_SHOWN",
    ],
    "an account without futures or options": [
        "ERROR PERM_MISSING",
        "WARNING IP_LIST_NOT_SHOWN",
        "INFO EXPIRY_NOT_SHOWN",
        "INFO PERM_COARSE",
    ],
}


@pytest.mark.parametrize(("answer", "expected"), ROWS)
def test_a_documented_answer_means_exactly_this(answer: Any, expected: KeyFacts) -> None:
    for adapter in (ADAPTER, USDM, COINM):
        check(adapter, answer, expected)


@pytest.mark.parametrize(("answer", "expected"), ROWS)
def test_and_comes_to_exactly_these_findings(
    request: pytest.FixtureRequest, answer: Any, expected: KeyFacts
) -> None:
    del answer
    assert findings(ADAPTER, expected) == FINDINGS[request.node.callspec.id]


def test_an_answer_at_the_servers_address_proves_that_it_is_among_the_bound_ones() -> None:
    found = findings(ADAPTER, facts(), from_server=True)
    assert found == ["INFO EXPIRY_NOT_SHOWN", "INFO IP_LIST_NOT_SHOWN", "INFO PERM_COARSE"]


@pytest.mark.parametrize("adapter", ALL)
def test_what_binance_does_not_tell_apart_is_not_called_a_wrong_key(adapter: Binance) -> None:
    finding = refusal(adapter, "-2015")

    assert finding.code == "INDETERMINATE"
    assert "wrong key, address or permission alike" in finding.what


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("ipRestrict", ...),
        ("ipRestrict", "true"),
        ("ipRestrict", 1),
        ("enableReading", ...),
        ("enableReading", None),
        ("enableWithdrawals", ...),
        ("enableWithdrawals", "hostile"),
        ("enableSpotAndMarginTrading", ...),
        ("enableFutures", "true"),
        ("enableFutures", {}),
        ("enableFutures", 1),
        ("enableNovelThing", "true"),
        ("permitsNovelThing", None),
        ("enable\x1b[2Jhostile", True),
        ("hostile" * 20, True),
        ("createTime", "hostile"),
        ("createTime", 10**30),
        ("createTime", True),
        ("tradingAuthorityExpirationTime", "2025-11-22"),
        ("tradingAuthorityExpirationTime", 9 * 10**14),
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


@pytest.mark.parametrize("adapter", ALL)
def test_on_a_test_network_only_the_life_of_a_key_is_known(adapter: Binance) -> None:
    expected = KeyFacts(environment=Environment.TEST)
    check(adapter, BALANCES[adapter.ccxt_id][1], expected, Environment.TEST)
    assert findings(adapter, expected, Environment.TEST) == [
        "WARNING IP_NOT_KNOWABLE",
        "WARNING PERM_NOT_KNOWABLE",
        "INFO EXPIRY_NOT_SHOWN",
    ]


@pytest.mark.parametrize("adapter", ALL)
@pytest.mark.parametrize("answers", [[], [{}], [{"balances": {}}], ["hostile"], [None]])
def test_on_a_test_network_another_answer_is_not_understood(
    adapter: Binance, answers: list[Any]
) -> None:
    refuse(adapter, answers, Environment.TEST)


@pytest.fixture
def credentials(watch: Watch) -> dict[str, str]:
    """A made-up key."""
    return {"apiKey": watch.secret("base62-long"), "secret": watch.secret("base62-long")}


@pytest.mark.parametrize("adapter", ALL)
def test_real_ccxt_is_understood_after_one_request(
    adapter: Binance, credentials: dict[str, str]
) -> None:
    with signing.serving(signing.binance, credentials, {PATH: documented()}) as server:
        asked = asking.ask(adapter, server.url, credentials)

    assert (asked.status, asked.facts) == (Status.VALID, facts())
    assert server.paths() == [PATH]


@pytest.mark.parametrize("adapter", ALL)
def test_a_test_network_is_asked_for_a_balance(
    adapter: Binance, credentials: dict[str, str]
) -> None:
    path, answer = BALANCES[adapter.ccxt_id]
    environment = Environment.TEST
    with signing.serving(signing.binance, credentials, {path: answer}, environment) as server:
        asked = asking.ask(adapter, server.url, credentials, environment)

    assert (asked.status, asked.facts) == (Status.VALID, KeyFacts(environment=environment))
    assert server.paths() == [path]


@pytest.mark.parametrize(
    ("wrong", "code"), [("apiKey", "-2008"), ("secret", "-1022"), ("clock", "-1021")]
)
@pytest.mark.parametrize("environment", Environment)
def test_what_is_wrong_with_a_key_is_told_apart(
    credentials: dict[str, str], watch: Watch, wrong: str, code: str, environment: Environment
) -> None:
    ours, skew = asking.spoilt(credentials, watch, wrong)
    with signing.serving(signing.binance, credentials, {}, environment) as server:
        asked = asking.ask(ADAPTER, server.url, ours, environment, skew_ms=skew)

    assert (asked.status, asked.code) == (asking.expected(wrong), code)
    assert len(server.calls) == 1


@pytest.mark.parametrize("adapter", ALL)
def test_the_real_address_is_the_documented_one(
    adapter: Binance, credentials: dict[str, str]
) -> None:
    meant: list[str] = []
    with signing.serving(signing.binance, credentials, {PATH: documented()}) as server:
        asked = asking.ask(adapter, server.url, credentials, meant=meant)

    assert asked.status is Status.VALID
    assert meant == [f"https://api.binance.com{PATH}"]


@pytest.mark.parametrize(
    ("adapter", "host"),
    [
        (ADAPTER, "testnet.binance.vision"),
        (USDM, "testnet.binancefuture.com"),
        (COINM, "testnet.binancefuture.com"),
    ],
)
def test_a_test_network_is_at_its_own_address(
    adapter: Binance, host: str, credentials: dict[str, str]
) -> None:
    path, answer = BALANCES[adapter.ccxt_id]
    meant: list[str] = []
    with signing.serving(signing.binance, credentials, {path: answer}) as server:
        asked = asking.ask(adapter, server.url, credentials, Environment.TEST, meant=meant)

    assert asked.status is Status.VALID
    assert meant == [f"https://{host}{path}"]


@pytest.mark.parametrize("meant", [None, []], ids=["a stand-in's address", "the real address"])
def test_a_wrong_key_is_one_whichever_class_ccxt_has_for_it(
    credentials: dict[str, str], watch: Watch, meant: list[str] | None
) -> None:
    # ccxt chooses its table of errors by the real address, and has no class for -2008 without it.
    ours, _ = asking.spoilt(credentials, watch, "apiKey")
    with signing.serving(signing.binance, credentials, {}) as server:
        asked = asking.ask(ADAPTER, server.url, ours, meant=meant)

    assert (asked.status, asked.code) == (Status.REJECTED, "-2008")


CODES = {
    "-1001": Status.UNREACHABLE,
    "-1002": Status.INDETERMINATE,
    "-1003": Status.RATE_LIMITED,
    "-1006": Status.UNREACHABLE,
    "-1007": Status.UNREACHABLE,
    "-1008": Status.RATE_LIMITED,
    "-1015": Status.RATE_LIMITED,
    "-1016": Status.UNREACHABLE,
    "-1021": Status.CLOCK,
    "-1022": Status.REJECTED,
    "-2008": Status.REJECTED,
    "-2014": Status.REJECTED,
    "-2015": Status.INDETERMINATE,
    "-99999": Status.INDETERMINATE,
}


@pytest.mark.parametrize("http", [400, 401])
@pytest.mark.parametrize(("code", "status"), CODES.items())
def test_an_error_code_has_its_status(
    credentials: dict[str, str], code: str, status: Status, http: int
) -> None:
    with signing.serving(signing.binance, credentials, {}) as server:
        server.script.append(signing.binance_error(code, http))
        asked = asking.ask(ADAPTER, server.url, credentials)

    assert (asked.status, asked.code) == (status, code)
    assert len(server.calls) == 1


@pytest.mark.parametrize("adapter", ALL)
@pytest.mark.parametrize("http", [418, 429])
def test_a_ban_for_asking_too_often_is_no_wrong_key(
    adapter: Binance, credentials: dict[str, str], http: int
) -> None:
    with signing.serving(signing.binance, credentials, {}) as server:
        server.script.append(signing.binance_error("-1003", http))
        asked = asking.ask(adapter, server.url, credentials)

    assert (asked.status, asked.code) == (Status.RATE_LIMITED, "-1003")


def test_every_code_of_the_adapter_is_in_the_table() -> None:
    assert set(ADAPTER.codes) <= set(CODES)


@pytest.mark.parametrize(("reply", "status"), asking.TROUBLE)
def test_trouble_on_the_way_is_never_a_wrong_key(
    credentials: dict[str, str], reply: Any, status: Status
) -> None:
    with signing.serving(signing.binance, credentials, {}) as server:
        server.script.append(reply)
        asked = asking.ask(ADAPTER, server.url, credentials)

    assert asked.status is status
