"""
Bybit: what its documented answers mean, and that real ccxt is answered and refused as documented.
"""

from datetime import UTC, datetime, timedelta
from ipaddress import ip_network
from typing import Any

import pytest

from reconciler.exchanges.adapters.bybit import ADAPTERS
from reconciler.model.key_facts import Access, Cap, Environment, Grant, IpRule, KeyFacts, Status
from reconciler.sandbox.exchanges import signing
from reconciler.testing.adapters import Exchange, GoodKey, errors, spoilt
from reconciler.testing.documented_answers import (
    KEY,
    changed,
    check,
    grant,
    mangled,
    refusal,
)
from tests.exchanges.contract import WatchedContract, made_of

ADAPTER = ADAPTERS[0]
PATH = "/v5/user/query-api"
TIME = 1_763_800_000_000
DERIVATIVES = frozenset({Cap.PERPETUAL, Cap.DELIVERY})


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
                "FiatP2P": [],
                "FiatConvertBroker": [],
                "FiatGlobalPay": [],
                "FiatBitPay": [],
                "BitCard": [],
                "ByXPost": [],
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


TRADING = (
    Grant("ContractTrade.Order", DERIVATIVES, separable=False),
    Grant("ContractTrade.Position", DERIVATIVES, separable=False),
    grant("Spot.SpotTrade", Cap.SPOT),
    Grant("Derivatives.DerivativesTrade", DERIVATIVES, separable=False),
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
    pytest.param(documented(), facts(), [], id="good"),
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
        [
            "CRITICAL PERM_WITHDRAW",
            "ERROR PERM_FORBIDDEN",
            "ERROR PERM_FORBIDDEN",
        ],
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
                grant("Options.OptionsTrade", Cap.OPTION, Cap.PERPETUAL),
                grant("CopyTrading.CopyTrading", Cap.OTHER),
                grant("Exchange.ExchangeHistory", Cap.CONVERT),
                grant("Affiliate.Affiliate", Cap.COMMISSION),
                grant("Earn.Earn", Cap.EARN),
                grant("FiatP2P.FiatP2POrder", Cap.P2P),
                grant("FiatP2P.Advertising", Cap.P2P),
            )
        ),
        [
            *["ERROR PERM_FORBIDDEN"] * 6,
            "ERROR PERM_MISSING",
            "INFO PERM_COARSE",
        ],
        id="excess: all other groups with a meaning; options are perpetuals, too",
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
        [
            "ERROR PERM_FORBIDDEN",
            "ERROR PERM_FORBIDDEN",
            "ERROR PERM_FORBIDDEN",
            "ERROR PERM_MISSING",
        ],
        id="unknown names, also within a known group",
    ),
    pytest.param(
        documented(**permissions(ContractTrade=[], Derivatives=None)),
        facts(grants=(grant("Spot.SpotTrade", Cap.SPOT),)),
        ["ERROR PERM_MISSING"],
        id="missing: contracts",
    ),
    pytest.param(
        documented(**permissions(ContractTrade=[], Spot=None, Derivatives=[])),
        facts(grants=()),
        ["ERROR PERM_MISSING"],
        id="nothing granted at all",
    ),
    pytest.param(
        documented(deadlineDay=0, expiredAt="2025-11-22T02:14:41Z"),
        facts(expires_at=datetime(2025, 11, 22, 2, 14, 41, tzinfo=UTC), never_expires=False),
        ["ERROR KEY_EXPIRED"],
        id="expired",
    ),
    pytest.param(
        changed(documented(), "result.permissions.Wallet", ...),
        facts(traits={"lacks": "Wallet"}),
        ["WARNING ANSWER_INCOMPLETE"],
        id="a group is not told: not knowable",
    ),
    pytest.param(
        documented(**permissions(NovelGroup=True)),
        facts(grants=(*TRADING, grant("NovelGroup.anything", Cap.OTHER))),
        ["ERROR PERM_FORBIDDEN"],
        id="a new group of another shape may be anything",
    ),
    pytest.param(
        documented(ips=["*"], deadlineDay=83, expiredAt="2026-02-14T02:14:41Z"),
        facts(
            ip=UNBOUND,
            expires_at=datetime(2026, 2, 14, 2, 14, 41, tzinfo=UTC),
            never_expires=False,
        ),
        ["ERROR IP_UNBOUND"],
        id="unbound, so it expires",
    ),
    pytest.param(
        documented(ips=[]),
        facts(ip=UNBOUND, never_expires=None),
        ["ERROR IP_UNBOUND", "INFO EXPIRY_NOT_SHOWN"],
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
        ["ERROR IP_MISSING_SERVER", "WARNING IP_EXTRA", "WARNING IP_TOO_WIDE"],
        id="bound elsewhere",
    ),
    pytest.param(
        documented(ips=["203.0.113.10", "*"]),
        facts(ip=UNBOUND, never_expires=None),
        ["ERROR IP_UNBOUND", "INFO EXPIRY_NOT_SHOWN"],
        id="an asterisk beside an address",
    ),
    pytest.param(
        documented(ips=["203.0.113.10", "somewhere"]),
        facts(ip=IpRule(), never_expires=None),
        [
            "WARNING IP_NOT_KNOWABLE",
            "INFO EXPIRY_NOT_SHOWN",
        ],
        id="an address of unknown shape: not knowable",
    ),
    pytest.param(
        documented(deadlineDay=6),
        facts(
            expires_at=datetime.fromtimestamp(TIME / 1000, UTC) + timedelta(days=6),
            never_expires=False,
        ),
        ["WARNING EXPIRES_SOON"],
        id="expiring after a change of password: days only",
    ),
    pytest.param(
        documented(deadlineDay=-1),
        facts(never_expires=None),
        ["INFO EXPIRY_NOT_SHOWN"],
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
        ["ERROR KEY_READ_ONLY"],
        id="read-only",
    ),
    pytest.param(
        documented(isMaster=True),
        facts(master=True),
        ["WARNING MASTER_KEY"],
        id="key of the main account",
    ),
    pytest.param(
        documented(key="another-key"),
        facts(same_key=False),
        ["CRITICAL KEY_MISMATCH", "WARNING PERM_NOT_KNOWABLE"],
        id="about another key",
    ),
    pytest.param(
        documented(key="\ud800"),
        facts(same_key=False),
        ["CRITICAL KEY_MISMATCH", "WARNING PERM_NOT_KNOWABLE"],
        id="about a key that cannot be one",
    ),
    pytest.param(documented(key="doc*****key"), facts(same_key=None), [], id="key shown masked"),
    pytest.param(
        changed(
            changed(changed(documented(), "result.isMaster", ...), "result.createdAt", ...),
            "result.expiredAt",
            ...,
        ),
        facts(
            master=None,
            created_at=None,
            never_expires=None,
            traits={"lacks": "isMaster, expiredAt"},
        ),
        ["WARNING ANSWER_INCOMPLETE", "INFO EXPIRY_NOT_SHOWN"],
        id="older answer: not knowable",
    ),
]


def test_an_answer_proves_the_environment_that_was_asked() -> None:
    check(ADAPTER, documented(), facts(environment=Environment.TEST), Environment.TEST)


HOSTILE = spoilt(
    documented(),
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
)


def test_a_key_unknown_to_bybit_may_be_of_the_other_environment() -> None:
    finding = refusal(ADAPTER, "10003")

    assert finding.code == "KEY_REJECTED"
    assert finding.remedy.startswith("is it one of bybiteu, bybitid, bybit-testnet, or of a demo")


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


def one_more(answer: Any, name: str) -> Any:
    """Return the answer with one more permission, in its group if it names one."""
    group, _, item = name.partition(".")
    permissions = answer["result"]["permissions"]
    granted = [*(permissions.get(group) or ()), item or name]
    return changed(answer, "result.permissions", {**permissions, group: granted})


EXCHANGE = Exchange(
    more=one_more,
    malformed=(
        ("secret", " {}".format),
        ("secret", lambda _secret: "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----"),
    ),
    adapters=ADAPTERS,
    check=signing.bybit,
    made_up=made_of(apiKey="base62", secret="base62"),
    documented=documented(),
    mangled=mangled(documented()),
    rows=ROWS,
    hostile=HOSTILE,
    good=tuple(
        GoodKey(
            ADAPTER,
            host,
            (PATH,),
            lambda key: {PATH: documented(key)},
            facts(environment=environment),
            environment,
        )
        for environment, host in (
            (Environment.LIVE, "api.bybit.com"),
            (Environment.TEST, "api-testnet.bybit.com"),
        )
    ),
    wrong={"apiKey": "10003", "secret": "10004", "clock": "10002"},
    errors=errors(signing.bybit_error, CODES),
)


class TestBybit(WatchedContract):
    exchange = EXCHANGE
