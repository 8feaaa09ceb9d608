"""
OKX: what its documented answers mean, and that real ccxt is answered and refused as documented.
"""

from ipaddress import ip_network
from typing import Any

import pytest
from hypothesis import given, settings

from reconciler.exchanges.facts import Access, Cap, Environment, Grant, IpRule, KeyFacts, Status
from reconciler.exchanges.okx import ADAPTER
from tests.exchanges import asking, signing
from tests.exchanges.documented import changed, check, findings, mangled, refusal, refuse, survives
from tests.leaks import Watch

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
    pytest.param(documented(), facts(), id="good, as coarse as OKX has it; no expiry is told"),
    pytest.param(
        documented(perm="read_only,trade,withdraw"),
        facts(grants=(READ, TRADE, WITHDRAW)),
        id="excess: withdrawal",
    ),
    pytest.param(
        documented(perm="read_only,novel_thing"),
        facts(grants=(READ, Grant("novel_thing", frozenset({Cap.OTHER})))),
        id="unknown name",
    ),
    pytest.param(
        documented(perm="trade"),
        facts(grants=(TRADE,)),
        id="missing: reading",
    ),
    pytest.param(
        documented(perm=""), facts(grants=(), read_only=True), id="nothing granted at all"
    ),
    pytest.param(
        documented(perm="read_only"),
        facts(grants=(READ,), read_only=True),
        id="read-only",
    ),
    pytest.param(
        documented(ip=""),
        facts(ip=UNBOUND, traits=LAPSES),
        id="unbound, so it lapses without use",
    ),
    pytest.param(
        documented(ip="", perm="read_only"),
        facts(grants=(READ,), ip=UNBOUND, read_only=True),
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
        id="bound elsewhere, networks too",
    ),
    pytest.param(
        documented(ip="203.0.113.10,fe80::1%hostile"),
        facts(ip=IpRule()),
        id="an address of unknown shape: not knowable",
    ),
    pytest.param(
        documented(uid="44705892343619584", type="0"),
        facts(master=True),
        id="key of the main account",
    ),
    pytest.param(
        changed(documented(), "data.0.mainUid", ...),
        facts(master=None),
        id="older answer: main account not knowable",
    ),
]


FINDINGS = {
    "good, as coarse as OKX has it; no expiry is told": [
        "INFO EXPIRY_NOT_SHOWN",
        "INFO PERM_COARSE",
    ],
    "excess: withdrawal": ["CRITICAL PERM_WITHDRAW", "INFO EXPIRY_NOT_SHOWN", "INFO PERM_COARSE"],
    "unknown name": ["ERROR PERM_FORBIDDEN", "ERROR PERM_MISSING", "INFO EXPIRY_NOT_SHOWN"],
    "missing: reading": ["INFO EXPIRY_NOT_SHOWN", "INFO PERM_COARSE"],
    "nothing granted at all": ["ERROR PERM_MISSING", "INFO EXPIRY_NOT_SHOWN"],
    "read-only": ["ERROR PERM_MISSING", "INFO EXPIRY_NOT_SHOWN"],
    "unbound, so it lapses without use": [
        "ERROR IP_UNBOUND",
        "WARNING EXPIRES_SOON",
        "INFO PERM_COARSE",
    ],
    "unbound, but it only reads: it does not lapse": [
        "ERROR IP_UNBOUND",
        "ERROR PERM_MISSING",
        "INFO EXPIRY_NOT_SHOWN",
    ],
    "bound elsewhere, networks too": [
        "ERROR IP_MISSING_SERVER",
        "WARNING IP_EXTRA",
        "INFO EXPIRY_NOT_SHOWN",
        "INFO PERM_COARSE",
    ],
    "an address of unknown shape: not knowable": [
        "WARNING IP_NOT_KNOWABLE",
        "INFO EXPIRY_NOT_SHOWN",
        "INFO PERM_COARSE",
    ],
    "key of the main account": ["WARNING MASTER_KEY", "INFO EXPIRY_NOT_SHOWN", "INFO PERM_COARSE"],
    "older answer: main account not knowable": ["INFO EXPIRY_NOT_SHOWN", "INFO PERM_COARSE"],
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


def test_a_demo_key_does_not_lapse() -> None:
    expected = facts(ip=UNBOUND, environment=Environment.TEST)
    check(ADAPTER, documented(ip=""), expected, Environment.TEST)


@pytest.mark.parametrize(
    ("path", "value"),
    [
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
        ("data.0.uid", ...),
        ("data.0.uid", ["hostile"]),
        ("data.0.mainUid", None),
    ],
)
def test_a_hostile_answer_is_not_understood(path: str, value: Any) -> None:
    refuse(ADAPTER, [changed(documented(), path, value)])


def test_a_key_of_the_other_environment_is_called_that() -> None:
    assert refusal(ADAPTER, "50101").code == "ENV_MISMATCH"
    assert refusal(ADAPTER, "50119").code == "KEY_REJECTED"


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
        "apiKey": watch.secret("uuid"),
        "secret": watch.secret(),
        "password": watch.secret("password"),
    }


@pytest.mark.parametrize("environment", Environment)
def test_real_ccxt_is_understood_after_one_request(
    credentials: dict[str, str], environment: Environment
) -> None:
    answer = {PATH: documented()}
    with signing.serving(signing.okx, credentials, answer, environment) as server:
        asked = asking.ask(ADAPTER, server.url, credentials, environment)

    assert asked.status is Status.VALID
    assert asked.facts == facts(environment=environment)
    assert server.paths() == [PATH]


@pytest.mark.parametrize(
    ("wrong", "code"),
    [("apiKey", "50111"), ("secret", "50113"), ("password", "50105"), ("clock", "50102")],
)
def test_what_is_wrong_with_a_key_is_told_apart(
    credentials: dict[str, str], watch: Watch, wrong: str, code: str
) -> None:
    ours, skew = asking.spoilt(credentials, watch, wrong)
    with signing.serving(signing.okx, credentials, {PATH: documented()}) as server:
        asked = asking.ask(ADAPTER, server.url, ours, skew_ms=skew)

    assert (asked.status, asked.code) == (asking.expected(wrong), code)
    assert server.paths() == [PATH]


@pytest.mark.parametrize("belongs", Environment)
def test_a_key_of_the_other_environment_has_a_code_of_its_own(
    credentials: dict[str, str], belongs: Environment
) -> None:
    other = next(e for e in Environment if e is not belongs)
    with signing.serving(signing.okx, credentials, {PATH: documented()}, belongs) as server:
        asked = asking.ask(ADAPTER, server.url, credentials, other)

    assert (asked.status, asked.code) == (Status.REJECTED, "50101")


@pytest.mark.parametrize(
    ("environment", "address"),
    [
        (Environment.LIVE, "https://www.okx.com/api/v5/account/config"),
        (Environment.TEST, "https://www.okx.com/api/v5/account/config"),
    ],
)
def test_the_real_address_is_the_documented_one(
    credentials: dict[str, str], environment: Environment, address: str
) -> None:
    meant: list[str] = []
    with signing.serving(signing.okx, credentials, {PATH: documented()}, environment) as server:
        asked = asking.ask(ADAPTER, server.url, credentials, environment, meant=meant)

    assert asked.status is Status.VALID
    assert meant == [address]


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


@pytest.mark.parametrize("http", [200, 401])
@pytest.mark.parametrize(("code", "status"), CODES.items())
def test_an_error_code_has_its_status(
    credentials: dict[str, str], code: str, status: Status, http: int
) -> None:
    with signing.serving(signing.okx, credentials, {}) as server:
        server.script.append(signing.okx_error(code, http))
        asked = asking.ask(ADAPTER, server.url, credentials)

    assert (asked.status, asked.code) == (status, code)
    assert len(server.calls) == 1


def test_every_code_of_the_adapter_is_in_the_table() -> None:
    assert set(ADAPTER.codes) - {"HTTP 429"} <= set(CODES)  # that is in asking.TROUBLE


@pytest.mark.parametrize(("reply", "status"), asking.TROUBLE)
def test_trouble_on_the_way_is_never_a_wrong_key(
    credentials: dict[str, str], reply: Any, status: Status
) -> None:
    with signing.serving(signing.okx, credentials, {}) as server:
        server.script.append(reply)
        asked = asking.ask(ADAPTER, server.url, credentials)

    assert asked.status is status
