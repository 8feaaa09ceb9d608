"""
Bybit: what its documented answers mean, and that real ccxt is answered and refused as documented.
"""

from datetime import UTC, datetime, timedelta
from ipaddress import ip_network
from typing import Any

import pytest
from hypothesis import given, settings

from reconciler.exchanges.bybit import ADAPTER
from reconciler.exchanges.facts import Access, Cap, Environment, Grant, IpRule, KeyFacts, Status
from tests.exchanges import asking, signing
from tests.exchanges.documented import (
    KEY,
    changed,
    check,
    findings,
    mangled,
    refusal,
    refuse,
    survives,
)
from tests.leaks import Watch

PATH = "/v5/user/query-api"
TIME = 1_763_800_000_000
CONTRACT = frozenset({Cap.PERPETUAL, Cap.DELIVERY})


def documented(key: str = KEY, **result: Any) -> dict[str, Any]:
    """Return the answer of the documentation for a key that may trade and is bound."""
    return {
        "retCode": 0,
        "retMsg": "",
        "result": {
            "id": "13770661",
            "note": "a note of its owner",
            "apiKey": key,
            "readOnly": 0,
            "secret": "",
            "permissions": {
                "ContractTrade": ["Order", "Position"],
                "Spot": ["SpotTrade"],
                "Wallet": [],
                "Options": [],
                "Derivatives": ["DerivativesTrade"],
                "CopyTrading": [],
                "BlockTrade": [],
                "Exchange": [],
                "NFT": [],
                "Affiliate": [],
                "Earn": [],
            },
            "ips": ["203.0.113.10"],
            "type": 1,
            "deadlineDay": -2,
            "expiredAt": "1970-01-01T00:00:00Z",
            "createdAt": "2025-06-17T02:14:41Z",
            "unified": 0,
            "uta": 1,
            "userID": 24617703,
            "inviterID": 0,
            "vipLevel": "No VIP",
            "mktMakerLevel": "0",
            "affiliateID": 0,
            "rsaPublicKey": "",
            "isMaster": False,
            "parentUid": "24600000",
            "kycLevel": "LEVEL_DEFAULT",
            "kycRegion": "",
            **result,
        },
        "retExtInfo": {},
        "time": TIME,
    }


def permissions(**groups: Any) -> dict[str, Any]:
    """Return the documented permissions with other groups."""
    return {"permissions": {**documented()["result"]["permissions"], **groups}}


def grant(raw: str, *caps: Cap, access: Access = Access.WRITE) -> Grant:
    """Return a reported grant."""
    return Grant(raw, frozenset(caps), access=access, separable=len(caps) == 1)


TRADING = (
    Grant("ContractTrade.Order", CONTRACT, separable=False),
    Grant("ContractTrade.Position", CONTRACT, separable=False),
    grant("Spot.SpotTrade", Cap.SPOT),
    Grant("Derivatives.DerivativesTrade", CONTRACT, separable=False),
)
BOUND = IpRule(bound=True, networks=(ip_network("203.0.113.10"),), listed=True)
UNBOUND = IpRule(bound=False, listed=True)
CREATED = datetime(2025, 6, 17, 2, 14, 41, tzinfo=UTC)


def facts(**fields: Any) -> KeyFacts:
    """Return what the documented answer means, with other fields."""
    told: dict[str, Any] = {
        "grants": TRADING,
        "ip": BOUND,
        "unproven": frozenset({Cap.ACCOUNT_READ}),
        "read_only": False,
        "created_at": CREATED,
        "expires_at": None,
        "never_expires": True,
        "environment": Environment.LIVE,
        "master": False,
        "same_key": True,
    }
    return KeyFacts(**{**told, **fields})


ROWS = [
    pytest.param(documented(), facts(), id="good"),
    pytest.param(
        documented(**permissions(Wallet=["AccountTransfer", "SubMemberTransfer", "Withdraw"])),
        facts(
            grants=(
                *TRADING[:3],
                grant("Wallet.AccountTransfer", Cap.TRANSFER),
                grant("Wallet.SubMemberTransfer", Cap.TRANSFER, Cap.SUBACCOUNT),
                grant("Wallet.Withdraw", Cap.WITHDRAW),
                TRADING[3],
            )
        ),
        id="excess: wallet and withdrawal",
    ),
    pytest.param(
        documented(
            **permissions(
                ContractTrade=[],
                Spot=[],
                Derivatives=[],
                Options=["OptionsTrade"],
                Exchange=["ExchangeHistory"],
                Earn=["Earn"],
                FiatP2P=["FiatP2POrder", "Advertising"],
                Affiliate=["Affiliate"],
                CopyTrading=["CopyTrading"],
            )
        ),
        facts(
            grants=(
                grant("Options.OptionsTrade", Cap.OPTION),
                grant("CopyTrading.CopyTrading", Cap.COPY),
                grant("Exchange.ExchangeHistory", Cap.CONVERT),
                grant("Affiliate.Affiliate", Cap.COMMISSION),
                grant("Earn.Earn", Cap.EARN),
                grant("FiatP2P.FiatP2POrder", Cap.P2P),
                grant("FiatP2P.Advertising", Cap.P2P),
            )
        ),
        id="excess: all other groups with a meaning",
    ),
    pytest.param(
        documented(**permissions(BlockTrade=["BlockTrade"], Novel=["NovelThing"], Spot=["Odd"])),
        facts(
            grants=(
                *TRADING[:2],
                grant("Spot.Odd", Cap.OTHER),
                TRADING[3],
                grant("BlockTrade.BlockTrade", Cap.OTHER),
                grant("Novel.NovelThing", Cap.OTHER),
            )
        ),
        id="unknown names, also within a known group",
    ),
    pytest.param(
        documented(**permissions(ContractTrade=[], Derivatives=None)),
        facts(grants=(grant("Spot.SpotTrade", Cap.SPOT),)),
        id="missing: contracts",
    ),
    pytest.param(
        documented(permissions={}),
        facts(grants=()),
        id="nothing granted at all",
    ),
    pytest.param(
        documented(ips=["*"], deadlineDay=83, expiredAt="2026-02-14T02:14:41Z"),
        facts(
            ip=UNBOUND,
            expires_at=datetime(2026, 2, 14, 2, 14, 41, tzinfo=UTC),
            never_expires=False,
        ),
        id="unbound, so it expires",
    ),
    pytest.param(
        documented(ips=[]),
        facts(ip=UNBOUND, never_expires=None),
        id="unbound without an end: not knowable when",
    ),
    pytest.param(
        documented(ips=["198.51.100.7", "2001:db8::1/32"]),
        facts(
            ip=IpRule(
                bound=True,
                networks=(ip_network("198.51.100.7"), ip_network("2001:db8::/32")),
                listed=True,
            )
        ),
        id="bound elsewhere",
    ),
    pytest.param(
        documented(ips=["203.0.113.10", "*"]),
        facts(ip=UNBOUND, never_expires=None),
        id="an asterisk beside an address",
    ),
    pytest.param(
        documented(ips=["203.0.113.10", "somewhere"]),
        facts(ip=IpRule(), never_expires=None),
        id="an address of unknown shape: not knowable",
    ),
    pytest.param(
        documented(deadlineDay=6),
        facts(
            expires_at=datetime.fromtimestamp(TIME / 1000, UTC) + timedelta(days=6),
            never_expires=False,
        ),
        id="expiring after a change of password: days only",
    ),
    pytest.param(
        documented(deadlineDay=-1),
        facts(never_expires=None),
        id="another number of days than the documented one: not knowable",
    ),
    pytest.param(
        documented(readOnly=1),
        facts(
            read_only=True,
            grants=tuple(
                Grant(g.raw, g.caps, access=Access.READ, separable=g.separable) for g in TRADING
            ),
        ),
        id="read-only",
    ),
    pytest.param(documented(isMaster=True), facts(master=True), id="key of the main account"),
    pytest.param(documented(key="another-key"), facts(same_key=False), id="about another key"),
    pytest.param(
        documented(key="\ud800"), facts(same_key=False), id="about a key that cannot be one"
    ),
    pytest.param(documented(key="doc*****key"), facts(same_key=None), id="key shown masked"),
    pytest.param(
        changed(
            changed(changed(documented(), "result.isMaster", ...), "result.createdAt", ...),
            "result.expiredAt",
            ...,
        ),
        facts(master=None, created_at=None, never_expires=None),
        id="older answer: not knowable",
    ),
]


FINDINGS = {
    "good": [],
    "excess: wallet and withdrawal": [
        "CRITICAL PERM_WITHDRAW",
        "ERROR PERM_FORBIDDEN",
        "ERROR PERM_FORBIDDEN",
    ],
    "excess: all other groups with a meaning": [
        "ERROR PERM_FORBIDDEN",
        "ERROR PERM_FORBIDDEN",
        "ERROR PERM_FORBIDDEN",
        "ERROR PERM_FORBIDDEN",
        "ERROR PERM_FORBIDDEN",
        "ERROR PERM_FORBIDDEN",
        "ERROR PERM_FORBIDDEN",
        "ERROR PERM_MISSING",
    ],
    "unknown names, also within a known group": [
        "ERROR PERM_FORBIDDEN",
        "ERROR PERM_FORBIDDEN",
        "ERROR PERM_FORBIDDEN",
        "ERROR PERM_MISSING",
    ],
    "missing: contracts": ["ERROR PERM_MISSING"],
    "nothing granted at all": ["ERROR PERM_MISSING"],
    "unbound, so it expires": ["ERROR IP_UNBOUND"],
    "unbound without an end: not knowable when": ["ERROR IP_UNBOUND", "INFO EXPIRY_NOT_SHOWN"],
    "bound elsewhere": ["ERROR IP_MISSING_SERVER", "WARNING IP_EXTRA", "WARNING IP_TOO_WIDE"],
    "an asterisk beside an address": ["ERROR IP_UNBOUND", "INFO EXPIRY_NOT_SHOWN"],
    "an address of unknown shape: not knowable": [
        "WARNING IP_NOT_KNOWABLE",
        "INFO EXPIRY_NOT_SHOWN",
    ],
    "expiring after a change of password: days only": ["WARNING EXPIRES_SOON"],
    "another number of days than the documented one: not knowable": ["INFO EXPIRY_NOT_SHOWN"],
    "read-only": ["ERROR KEY_READ_ONLY"],
    "key of the main account": ["WARNING MASTER_KEY"],
    "about another key": ["CRITICAL KEY_MISMATCH", "WARNING PERM_NOT_KNOWABLE"],
    "about a key that cannot be one": ["CRITICAL KEY_MISMATCH", "WARNING PERM_NOT_KNOWABLE"],
    "key shown masked": [],
    "older answer: not knowable": ["INFO EXPIRY_NOT_SHOWN"],
}


@pytest.mark.parametrize(("answer", "expected"), ROWS)
def test_a_documented_answer_means_exactly_this(answer: Any, expected: KeyFacts) -> None:
    check(ADAPTER, answer, expected)


@pytest.mark.parametrize(("answer", "expected"), ROWS)
def test_and_comes_to_exactly_these_findings(
    request: pytest.FixtureRequest, answer: Any, expected: KeyFacts
) -> None:
    del answer
    assert findings(ADAPTER, expected) == FINDINGS[request.node.callspec.id]


def test_an_answer_proves_the_environment_that_was_asked() -> None:
    check(ADAPTER, documented(), facts(environment=Environment.TEST), Environment.TEST)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("retCode", ...),
        ("retCode", 30084),
        ("retCode", True),
        ("result", ...),
        ("result", [documented()["result"]]),
        ("result", None),
        ("result.permissions", ...),
        ("result.permissions", ["Spot"]),
        ("result.permissions", {"Spot": "SpotTrade"}),
        ("result.permissions", {"Spot": {"SpotTrade": True}}),
        ("result.permissions", {"Spot": [1]}),
        ("result.permissions", {"Spot": ["hostile\x1b[2J"]}),
        ("result.permissions", {"": ["hostile"]}),
        ("result.ips", ...),
        ("result.ips", None),
        ("result.ips", "203.0.113.10"),
        ("result.ips", [3405803786]),
        ("result.readOnly", ...),
        ("result.readOnly", 2),
        ("result.readOnly", False),
        ("result.apiKey", ...),
        ("result.apiKey", None),
        ("result.isMaster", 1),
        ("result.deadlineDay", "hostile"),
        ("result.deadlineDay", 10**14),
        ("result.deadlineDay", 10**40),
        ("result.expiredAt", 0),
        ("result.expiredAt", "hostile"),
        ("result.createdAt", "2025-06-17T02:14:41"),
        ("result.createdAt", ["2025-06-17T02:14:41Z"]),
    ],
)
def test_a_hostile_answer_is_not_understood(path: str, value: Any) -> None:
    refuse(ADAPTER, [changed(documented(), path, value)])


def test_a_key_unknown_to_bybit_may_be_of_the_other_environment() -> None:
    finding = refusal(ADAPTER, "10003")

    assert finding.code == "KEY_REJECTED"
    assert "other environment" in finding.what


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
    return {"apiKey": watch.secret(), "secret": watch.secret()}


@pytest.mark.parametrize("environment", Environment)
def test_real_ccxt_is_understood_after_one_request(
    credentials: dict[str, str], environment: Environment
) -> None:
    answer = {PATH: documented(credentials["apiKey"])}
    with signing.serving(signing.bybit, credentials, answer, environment) as server:
        asked = asking.ask(ADAPTER, server.url, credentials, environment)

    assert asked.status is Status.VALID
    assert asked.facts == facts(environment=environment)
    assert server.paths() == [PATH]


@pytest.mark.parametrize(
    ("wrong", "code"), [("apiKey", "10003"), ("secret", "10004"), ("clock", "10002")]
)
def test_what_is_wrong_with_a_key_is_told_apart(
    credentials: dict[str, str], watch: Watch, wrong: str, code: str
) -> None:
    ours, skew = asking.spoilt(credentials, watch, wrong)
    with signing.serving(signing.bybit, credentials, {PATH: documented()}) as server:
        asked = asking.ask(ADAPTER, server.url, ours, skew_ms=skew)

    assert (asked.status, asked.code) == (asking.expected(wrong), code)
    assert server.paths() == [PATH]


@pytest.mark.parametrize(
    ("environment", "address"),
    [
        (Environment.LIVE, "https://api.bybit.com/v5/user/query-api"),
        (Environment.TEST, "https://api-testnet.bybit.com/v5/user/query-api"),
    ],
)
def test_the_real_address_is_the_documented_one(
    credentials: dict[str, str], environment: Environment, address: str
) -> None:
    meant: list[str] = []
    with signing.serving(signing.bybit, credentials, {PATH: documented()}, environment) as server:
        asked = asking.ask(ADAPTER, server.url, credentials, environment, meant=meant)

    assert asked.status is Status.VALID
    assert meant == [address]


CODES = {
    "10000": Status.UNREACHABLE,
    "10002": Status.CLOCK,
    "10003": Status.REJECTED,
    "10004": Status.REJECTED,
    "10005": Status.DENIED,
    "10006": Status.RATE_LIMITED,
    "10007": Status.INDETERMINATE,
    "10009": Status.RATE_LIMITED,
    "10010": Status.IP_REFUSED,
    "10016": Status.UNREACHABLE,
    "10018": Status.RATE_LIMITED,
    "33004": Status.REJECTED,
    "99999": Status.INDETERMINATE,
}


@pytest.mark.parametrize(("code", "status"), CODES.items())
def test_an_error_code_has_its_status(
    credentials: dict[str, str], code: str, status: Status
) -> None:
    with signing.serving(signing.bybit, credentials, {}) as server:
        server.script.append(signing.bybit_error(code))
        asked = asking.ask(ADAPTER, server.url, credentials)

    assert (asked.status, asked.code) == (status, code)
    assert len(server.calls) == 1


def test_every_code_of_the_adapter_is_in_the_table() -> None:
    assert set(ADAPTER.codes) <= set(CODES)


@pytest.mark.parametrize(("reply", "status"), asking.TROUBLE)
def test_trouble_on_the_way_is_never_a_wrong_key(
    credentials: dict[str, str], reply: Any, status: Status
) -> None:
    with signing.serving(signing.bybit, credentials, {}) as server:
        server.script.append(reply)
        asked = asking.ask(ADAPTER, server.url, credentials)

    assert asked.status is status
