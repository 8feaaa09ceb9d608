"""
Binance: what its documented answers mean, and that real ccxt is answered and refused as documented.
"""

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given, settings

from reconciler.exchanges.adapters.binance import ADAPTERS, Binance
from reconciler.model.key_facts import Access, Cap, Environment, IpRule, KeyFacts, Status
from reconciler.testing import exchange_server, through_ccxt
from reconciler.testing.adapters import Exchange, GoodKey, errors, spoilt
from reconciler.testing.documented_answers import (
    check,
    findings,
    grant,
    mangled,
    refusal,
    refuse,
    survives,
)
from reconciler.testing.exchange_server import Reply
from tests.exchanges import signing_more
from tests.exchanges.contract import WatchedContract, made_of
from tests.support.leaks import Watch

ADAPTER, USDM, COINM = ADAPTERS
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
    pytest.param(
        documented(),
        facts(),
        [
            "WARNING IP_LIST_NOT_SHOWN",
            "INFO EXPIRY_NOT_SHOWN",
            "INFO PERM_COARSE",
        ],
        id="good; bound, the addresses are not knowable",
    ),
    pytest.param(
        documented(enableWithdrawals=True),
        facts(grants=(READ, grant("enableWithdrawals", Cap.WITHDRAW), FUTURES, SPOT)),
        [
            "CRITICAL PERM_WITHDRAW",
            "WARNING IP_LIST_NOT_SHOWN",
            "INFO EXPIRY_NOT_SHOWN",
            "INFO PERM_COARSE",
        ],
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
        [
            "ERROR PERM_FORBIDDEN",
            "ERROR PERM_FORBIDDEN",
            "ERROR PERM_FORBIDDEN",
            "ERROR PERM_FORBIDDEN",
            "WARNING IP_LIST_NOT_SHOWN",
            "INFO EXPIRY_NOT_SHOWN",
            "INFO PERM_COARSE",
        ],
        id="excess: transfers, loans, options",
    ),
    pytest.param(
        documented(
            enablePortfolioMarginTrading=True,
            enableFixApiTrade=True,
            enableNovelThing=True,
            permitsNovelThing="yes",
            brandNew=True,
            alsoNew=False,
            aNumber=7,
        ),
        facts(
            grants=(
                READ,
                FUTURES,
                grant("enableFixApiTrade", Cap.SPOT),
                SPOT,
                grant("enablePortfolioMarginTrading", Cap.UNIFIED),
                grant("enableNovelThing", Cap.OTHER),
                grant("permitsNovelThing", Cap.OTHER),
                grant("brandNew", Cap.OTHER),
            )
        ),
        [
            "ERROR PERM_FORBIDDEN",
            "ERROR PERM_FORBIDDEN",
            "ERROR PERM_FORBIDDEN",
            "ERROR PERM_FORBIDDEN",
            "WARNING IP_LIST_NOT_SHOWN",
            "INFO EXPIRY_NOT_SHOWN",
            "INFO PERM_COARSE",
        ],
        id="a portfolio account, and switches of or unknown meaning",
    ),
    pytest.param(
        documented(enableFutures=False),
        facts(grants=(READ, SPOT)),
        [
            "ERROR PERM_MISSING",
            "WARNING IP_LIST_NOT_SHOWN",
            "INFO EXPIRY_NOT_SHOWN",
            "INFO PERM_COARSE",
        ],
        id="missing: futures",
    ),
    pytest.param(
        documented(enableReading=False),
        facts(grants=(FUTURES, SPOT)),
        ["WARNING IP_LIST_NOT_SHOWN", "INFO EXPIRY_NOT_SHOWN", "INFO PERM_COARSE"],
        id="missing: reading",
    ),
    pytest.param(
        documented(ipRestrict=False),
        facts(ip=IpRule(bound=False)),
        ["ERROR IP_UNBOUND", "INFO EXPIRY_NOT_SHOWN", "INFO PERM_COARSE"],
        id="unbound",
    ),
    pytest.param(
        documented(ipRestrict=False, tradingAuthorityExpirationTime=1_764_000_000_000),
        facts(
            ip=IpRule(bound=False),
            expires_at=datetime(2025, 11, 24, 16, 0, tzinfo=UTC),
        ),
        ["ERROR IP_UNBOUND", "WARNING EXPIRES_SOON", "INFO PERM_COARSE"],
        id="unbound, so trading lapses",
    ),
    pytest.param(
        documented(tradingAuthorityExpirationTime=None),
        facts(),
        [
            "WARNING IP_LIST_NOT_SHOWN",
            "INFO EXPIRY_NOT_SHOWN",
            "INFO PERM_COARSE",
        ],
        id="null instead of an instant",
    ),
    pytest.param(
        documented(enableFutures=False, enableSpotAndMarginTrading=False),
        facts(grants=(READ,), read_only=True),
        ["ERROR PERM_MISSING", "WARNING IP_LIST_NOT_SHOWN", "INFO EXPIRY_NOT_SHOWN"],
        id="read-only",
    ),
    pytest.param(
        documented(enableFutures=False, enableSpotAndMarginTrading=False, enableFixReadOnly=True),
        facts(
            grants=(READ, grant("enableFixReadOnly", Cap.ACCOUNT_READ, access=Access.READ)),
            read_only=True,
        ),
        ["ERROR PERM_MISSING", "WARNING IP_LIST_NOT_SHOWN", "INFO EXPIRY_NOT_SHOWN"],
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
        facts(
            grants=(READ, SPOT),
            traits={
                "lacks": "enableMargin, enableFutures, enableVanillaOptions,"
                " enableInternalTransfer, permitsUniversalTransfer,"
                " enablePortfolioMarginTrading, enableFixReadOnly, enableFixApiTrade"
            },
        ),
        [
            "ERROR PERM_MISSING",
            "WARNING ANSWER_INCOMPLETE",
            "WARNING IP_LIST_NOT_SHOWN",
            "INFO EXPIRY_NOT_SHOWN",
            "INFO PERM_COARSE",
        ],
        id="an answer with the promised switches alone",
    ),
]


@settings(deadline=None, max_examples=25)
@given(mangled(ACCOUNT))
def test_no_balance_at_all_does_harm(answer: Any) -> None:
    survives(ADAPTER, answer, Environment.TEST)


def test_an_answer_at_the_servers_address_proves_that_it_is_among_the_bound_ones() -> None:
    found = findings(ADAPTER, facts(), from_server=True)
    assert found == ["INFO EXPIRY_NOT_SHOWN", "INFO IP_LIST_NOT_SHOWN", "INFO PERM_COARSE"]


@pytest.mark.parametrize("adapter", ALL)
def test_what_binance_does_not_tell_apart_is_not_called_a_wrong_key(adapter: Binance) -> None:
    finding = refusal(adapter, "-2015")

    assert finding.code == "INDETERMINATE"
    assert "wrong key, address or permission alike" in finding.what


HOSTILE = spoilt(
    documented(),
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
    ("enable\x1b[2Jhostile", True),
    ("hostile" * 20, True),
    ("createTime", "hostile"),
    ("createTime", 10**30),
    ("createTime", True),
    ("tradingAuthorityExpirationTime", "2025-11-22"),
    ("tradingAuthorityExpirationTime", 9 * 10**14),
)


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
    return EXCHANGE.made_up(watch.secret)


@pytest.mark.parametrize("meant", [None, []], ids=["a stand-in's address", "the real address"])
def test_a_wrong_key_is_one_whichever_class_ccxt_has_for_it(
    credentials: dict[str, str], watch: Watch, meant: list[str] | None
) -> None:
    # ccxt chooses its table of errors by the real address, and has no class for -2008 without it.
    ours, _ = through_ccxt.swapped(credentials, {"apiKey": watch.secret()}, "apiKey")
    with exchange_server.serving(signing_more.binance, credentials, {}) as server:
        asked = through_ccxt.ask(ADAPTER, server.url, ours, meant=meant)

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


@pytest.mark.parametrize("adapter", ALL)
@pytest.mark.parametrize("http", [418, 429])
def test_a_ban_for_asking_too_often_is_no_wrong_key(
    adapter: Binance, credentials: dict[str, str], http: int
) -> None:
    with exchange_server.serving(signing_more.binance, credentials, {}) as server:
        server.script.append(signing_more.binance_error("-1003", http))
        asked = through_ccxt.ask(adapter, server.url, credentials)

    assert (asked.status, asked.code) == (Status.RATE_LIMITED, "-1003")


def live(adapter: Binance) -> GoodKey:
    """Return the question about a key's restrictions."""
    return GoodKey(adapter, "api.binance.com", (PATH,), lambda _key: {PATH: documented()}, facts())


def on_test(adapter: Binance, host: str) -> GoodKey:
    """Return the question about a balance, the only one that a test network answers."""
    path, answer = BALANCES[adapter.ccxt_id]
    told = KeyFacts(environment=Environment.TEST)
    return GoodKey(adapter, host, (path,), lambda _key: {path: answer}, told, Environment.TEST)


EXCHANGE = Exchange(
    more=lambda answer, name: {**answer, name: True},
    adapters=ADAPTERS,
    check=signing_more.binance,
    made_up=made_of(apiKey="base62-long", secret="base62-long"),
    documented=documented(),
    mangled=mangled(documented()),
    rows=ROWS,
    hostile=HOSTILE,
    good=(
        live(ADAPTER),
        live(USDM),
        live(COINM),
        on_test(ADAPTER, "testnet.binance.vision"),
        on_test(USDM, "testnet.binancefuture.com"),
        on_test(COINM, "testnet.binancefuture.com"),
    ),
    wrong={"apiKey": "-2008", "secret": "-1022", "clock": "-1021"},
    errors=[
        *errors(signing_more.binance_error, CODES, 400, 401),
        pytest.param(
            Reply(b"<html>blocked</html>", 403), "HTTP 403", Status.RATE_LIMITED, id="firewall"
        ),
        pytest.param(
            Reply(b"<html>not here</html>", 451), "HTTP 451", Status.UNREACHABLE, id="place"
        ),
    ],
)


class TestBinance(WatchedContract):
    exchange = EXCHANGE
