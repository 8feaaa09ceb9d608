"""
OKX: what its documented answers mean, and that real ccxt is answered and refused as documented.
"""

from ipaddress import ip_network
from typing import Any

import pytest

from reconciler.exchanges.adapters.okx import ADAPTERS
from reconciler.model.key_facts import Access, Cap, Environment, Grant, IpRule, KeyFacts, Status
from reconciler.sandbox.exchanges import signing
from reconciler.testing import exchange_server, through_ccxt
from reconciler.testing.adapters import Exchange, GoodKey, errors, spoilt
from reconciler.testing.documented_answers import (
    changed,
    check,
    mangled,
    refusal,
)
from tests.exchanges.contract import WatchedContract, made_of
from tests.support.leaks import Watch

ADAPTER = ADAPTERS[0]
PATH = "/api/v5/account/config"


def documented(**account: Any) -> dict[str, Any]:
    """Return the answer of the documentation for a sub-account's key that may trade."""
    return {
        "code": "0",
        "data": [
            {
                "acctLv": "2",
                "acctStpMode": "cancel_maker",
                "autoLoan": False,
                "ctIsoMode": "automatic",
                "enableSpotBorrow": False,
                "greeksType": "PA",
                "ip": "203.0.113.10",
                "type": "1",
                "kycLv": "3",
                "label": "a label of its owner",
                "level": "Lv1",
                "levelTmp": "",
                "liquidationGear": "-1",
                "mainUid": "44705892343619584",
                "mgnIsoMode": "automatic",
                "opAuth": "1",
                "perm": "read_only,trade",
                "posMode": "long_short_mode",
                "roleType": "0",
                "spotBorrowAutoRepay": False,
                "spotOffsetType": "",
                "spotRoleType": "0",
                "spotTraderInsts": [],
                "traderInsts": [],
                "uid": "44705892343619999",
                **account,
            }
        ],
        "msg": "",
    }


READ = Grant("read_only", frozenset({Cap.ACCOUNT_READ}), access=Access.READ)
TRADE = Grant(
    "trade",
    frozenset({Cap.SPOT, Cap.PERPETUAL, Cap.DELIVERY, Cap.MARGIN, Cap.OPTION, Cap.TRANSFER}),
    separable=False,
)
WITHDRAW = Grant("withdraw", frozenset({Cap.WITHDRAW}))
BOUND = IpRule(bound=True, networks=(ip_network("203.0.113.10"),), listed=True)
UNBOUND = IpRule(bound=False, listed=True)
LAPSES = {"lapses": "after 14 days without use, for it is not bound to addresses"}


def facts(**fields: Any) -> KeyFacts:
    """Return what the documented answer means, with other fields."""
    told: dict[str, Any] = {
        "grants": (READ, TRADE),
        "ip": BOUND,
        "read_only": False,
        "environment": Environment.LIVE,
        "master": False,
    }
    return KeyFacts(**{**told, **fields})


ROWS = [
    pytest.param(
        documented(),
        facts(),
        [
            "INFO EXPIRY_NOT_SHOWN",
            "INFO PERM_COARSE",
        ],
        id="good, as coarse as OKX has it; no expiry is told",
    ),
    pytest.param(
        documented(perm="read_only,trade,withdraw"),
        facts(grants=(READ, TRADE, WITHDRAW)),
        ["CRITICAL PERM_WITHDRAW", "INFO EXPIRY_NOT_SHOWN", "INFO PERM_COARSE"],
        id="excess: withdrawal",
    ),
    pytest.param(
        documented(perm="read_only,novel_thing"),
        facts(grants=(READ, Grant("novel_thing", frozenset({Cap.OTHER})))),
        ["ERROR PERM_FORBIDDEN", "ERROR PERM_MISSING", "INFO EXPIRY_NOT_SHOWN"],
        id="unknown name",
    ),
    pytest.param(
        documented(perm="trade"),
        facts(grants=(TRADE,)),
        ["INFO EXPIRY_NOT_SHOWN", "INFO PERM_COARSE"],
        id="missing: reading",
    ),
    pytest.param(
        documented(perm=""),
        facts(grants=(), read_only=True),
        ["ERROR PERM_MISSING", "INFO EXPIRY_NOT_SHOWN"],
        id="nothing granted at all",
    ),
    pytest.param(
        documented(perm="read_only"),
        facts(grants=(READ,), read_only=True),
        ["ERROR PERM_MISSING", "INFO EXPIRY_NOT_SHOWN"],
        id="read-only",
    ),
    pytest.param(
        documented(ip=""),
        facts(ip=UNBOUND, traits=LAPSES),
        [
            "ERROR IP_UNBOUND",
            "WARNING EXPIRES_SOON",
            "INFO PERM_COARSE",
        ],
        id="unbound, so it lapses without use",
    ),
    pytest.param(
        documented(ip="", perm="read_only"),
        facts(grants=(READ,), ip=UNBOUND, read_only=True),
        [
            "ERROR IP_UNBOUND",
            "ERROR PERM_MISSING",
            "INFO EXPIRY_NOT_SHOWN",
        ],
        id="unbound, but it only reads: it does not lapse",
    ),
    pytest.param(
        documented(ip="198.51.100.7, 2001:db8::1,192.0.2.0/24"),
        facts(
            ip=IpRule(
                bound=True,
                networks=(
                    ip_network("198.51.100.7"),
                    ip_network("2001:db8::1"),
                    ip_network("192.0.2.0/24"),
                ),
                listed=True,
            )
        ),
        [
            "ERROR IP_MISSING_SERVER",
            "WARNING IP_EXTRA",
            "INFO EXPIRY_NOT_SHOWN",
            "INFO PERM_COARSE",
        ],
        id="bound elsewhere, networks too",
    ),
    pytest.param(
        documented(ip="203.0.113.10,fe80::1%hostile"),
        facts(ip=IpRule()),
        [
            "WARNING IP_NOT_KNOWABLE",
            "INFO EXPIRY_NOT_SHOWN",
            "INFO PERM_COARSE",
        ],
        id="an address of unknown shape: not knowable",
    ),
    pytest.param(
        documented(uid="44705892343619584", type="0"),
        facts(master=True),
        ["WARNING MASTER_KEY", "INFO EXPIRY_NOT_SHOWN", "INFO PERM_COARSE"],
        id="key of the main account",
    ),
    pytest.param(
        changed(documented(), "data.0.mainUid", ...),
        facts(master=None, traits={"lacks": "mainUid"}),
        ["WARNING ANSWER_INCOMPLETE", "INFO EXPIRY_NOT_SHOWN", "INFO PERM_COARSE"],
        id="older answer: main account not knowable",
    ),
]


def test_a_demo_key_does_not_lapse() -> None:
    expected = facts(ip=UNBOUND, environment=Environment.TEST)
    check(ADAPTER, documented(ip=""), expected, Environment.TEST)


HOSTILE = spoilt(
    documented(),
    ("code", ...),
    ("code", "2"),
    ("code", None),
    ("data", ...),
    ("data", {}),
    ("data", []),
    ("data", [None]),
    ("data", [["hostile"]]),
    ("data", documented()["data"] * 2),
    ("data.0.perm", ...),
    ("data.0.perm", ["read_only"]),
    ("data.0.perm", "read_only,hostile\x1b[2J"),
    ("data.0.perm", {"read_only": True}),
    ("data.0.perm", None),
    ("data.0.ip", ...),
    ("data.0.ip", None),
    ("data.0.ip", ["203.0.113.10"]),
    ("data.0.uid", ["hostile"]),
    ("data.0.mainUid", None),
)


def test_a_key_of_the_other_environment_is_called_that() -> None:
    assert refusal(ADAPTER, "50101").code == "ENV_MISMATCH"
    assert refusal(ADAPTER, "50119").code == "KEY_REJECTED"


@pytest.fixture
def credentials(watch: Watch) -> dict[str, str]:
    """A made-up key."""
    return EXCHANGE.made_up(watch.secret)


@pytest.mark.parametrize("belongs", Environment)
def test_a_key_of_the_other_environment_has_a_code_of_its_own(
    credentials: dict[str, str], belongs: Environment
) -> None:
    other = next(e for e in Environment if e is not belongs)
    with exchange_server.serving(signing.okx, credentials, {PATH: documented()}, belongs) as server:
        asked = through_ccxt.ask(ADAPTER, server.url, credentials, other)

    assert (asked.status, asked.code) == (Status.REJECTED, "50101")


CODES = {
    "50001": Status.UNREACHABLE,
    "50004": Status.UNREACHABLE,
    "50005": Status.UNREACHABLE,
    "50011": Status.RATE_LIMITED,
    "50013": Status.UNREACHABLE,
    "50026": Status.UNREACHABLE,
    "50030": Status.DENIED,
    "50035": Status.DENIED,
    "50040": Status.RATE_LIMITED,
    "50061": Status.RATE_LIMITED,
    "50101": Status.REJECTED,
    "50102": Status.CLOCK,
    "50103": Status.INDETERMINATE,
    "50104": Status.INDETERMINATE,
    "50105": Status.REJECTED,
    "50106": Status.INDETERMINATE,
    "50107": Status.INDETERMINATE,
    "50110": Status.IP_REFUSED,
    "50111": Status.REJECTED,
    "50112": Status.CLOCK,
    "50113": Status.REJECTED,
    "50114": Status.INDETERMINATE,
    "50119": Status.REJECTED,
    "50120": Status.DENIED,
    "99999": Status.INDETERMINATE,
}

EXCHANGE = Exchange(
    more=lambda answer, name: changed(answer, "data.0.perm", f"{answer['data'][0]['perm']},{name}"),
    adapters=ADAPTERS,
    check=signing.okx,
    made_up=made_of(apiKey="uuid", secret="base62", password="password"),
    documented=documented(),
    mangled=mangled(documented()),
    rows=ROWS,
    hostile=HOSTILE,
    good=tuple(
        GoodKey(
            ADAPTER,
            "www.okx.com",
            (PATH,),
            lambda _key: {PATH: documented()},
            facts(environment=environment),
            environment,
        )
        for environment in Environment
    ),
    wrong={"apiKey": "50111", "secret": "50113", "password": "50105", "clock": "50102"},
    errors=errors(signing.okx_error, CODES, 200, 401),
    sent=frozenset({"apiKey", "password"}),
    told_elsewhere=frozenset({"HTTP 429"}),  # among the trouble
)


class TestOkx(WatchedContract):
    exchange = EXCHANGE
