"""
Bitfinex: what its documented answers mean, and what real ccxt is answered and refused with.
"""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reconciler.exchanges.bitfinex import ADAPTER
from reconciler.exchanges.facts import Access, Cap, Environment, Grant, IpRule, KeyFacts, Status
from tests.exchanges import asking, signing, signing_more
from tests.exchanges.documented import check, findings, mangled, refusal, refuse, survives
from tests.exchanges.signing import Reply
from tests.leaks import Watch

PATH = "/v2/auth/r/permissions"
SCOPES = (
    *("account", "history", "orders", "positions", "funding", "settings", "wallets"),
    *("withdraw", "ui_withdraw", "bfxpay"),
)
USUAL_RIGHTS = {"account": "r", "orders": "rw", "positions": "r", "wallets": "r"}


def documented(**rights: str) -> list[list[Any]]:
    """Return every scope of a key that may trade, with other rights: of `r` and `w`."""
    told = {**dict.fromkeys(SCOPES, ""), **USUAL_RIGHTS, **rights}
    return [[scope, int("r" in right), int("w" in right)] for scope, right in told.items()]


def grant(raw: str, *caps: Cap, access: Access = Access.WRITE) -> Grant:
    """Return a reported grant."""
    return Grant(raw, frozenset(caps), access=access, separable=len(caps) == 1)


def reading(raw: str, *caps: Cap) -> Grant:
    """Return a grant that only shows."""
    return grant(raw, *(caps or (Cap.ACCOUNT_READ,)), access=Access.READ)


TRADE = (Cap.SPOT, Cap.MARGIN, Cap.PERPETUAL)
BEFORE = (reading("account"), grant("orders", *TRADE), reading("positions"))
USUAL = (*BEFORE, reading("wallets"))
NOT_TOLD = ["WARNING IP_NOT_KNOWABLE", "INFO EXPIRY_NOT_SHOWN"]
ALWAYS = [*NOT_TOLD, "INFO PERM_COARSE"]


def facts(*grants: Grant, **fields: Any) -> KeyFacts:
    """Return what the documented answer means; its addresses, age and end are never told."""
    told = {"grants": grants or USUAL, "read_only": False, "environment": Environment.LIVE}
    return KeyFacts(**{**told, **fields})


ROWS = [
    pytest.param(documented(), facts(), ALWAYS, id="good; all but permissions not knowable"),
    pytest.param(
        documented(withdraw="w"),
        facts(*USUAL, grant("withdraw", Cap.WITHDRAW)),
        ["CRITICAL PERM_WITHDRAW", *ALWAYS],
        id="excess: withdrawal",
    ),
    pytest.param(
        documented(ui_withdraw="rw"),
        facts(*USUAL, grant("ui_withdraw", Cap.WITHDRAW)),
        ["CRITICAL PERM_WITHDRAW", *ALWAYS],
        id="excess: withdrawal by the page",
    ),
    pytest.param(
        documented(withdraw="r"),
        facts(*USUAL, reading("withdraw", Cap.WITHDRAW)),
        ["WARNING IP_NOT_KNOWABLE", "WARNING PERM_FORBIDDEN", *ALWAYS[1:]],
        id="withdrawals, reading",
    ),
    pytest.param(
        documented(wallets="rw", funding="rw"),
        facts(
            *BEFORE,
            grant("funding", Cap.EARN),
            reading("funding"),
            grant("wallets", Cap.TRANSFER),
            reading("wallets"),
        ),
        ["ERROR PERM_FORBIDDEN", "ERROR PERM_FORBIDDEN", *ALWAYS],
        id="excess: transfers and funding",
    ),
    pytest.param(
        documented(account="w", history="w", positions="w", settings="w"),
        facts(
            grant("account", Cap.OTHER),
            grant("history", Cap.OTHER),
            grant("orders", *TRADE),
            grant("positions", Cap.OTHER),
            grant("settings", Cap.OTHER),
            reading("wallets"),
        ),
        [*["ERROR PERM_FORBIDDEN"] * 4, *ALWAYS],
        id="excess: writing where it means who knows what",
    ),
    pytest.param(
        documented(bfxpay="r", novel="rw"),
        facts(*USUAL, reading("bfxpay", Cap.OTHER), grant("novel", Cap.OTHER)),
        [
            "ERROR PERM_FORBIDDEN",
            "WARNING IP_NOT_KNOWABLE",
            "WARNING PERM_UNKNOWN_NAME",
            *ALWAYS[1:],
        ],
        id="unknown names",
    ),
    pytest.param(
        documented(history="r", funding="r", settings="r"),
        facts(
            reading("account"),
            reading("history"),
            grant("orders", *TRADE),
            reading("positions"),
            reading("funding"),
            reading("settings"),
            reading("wallets"),
        ),
        ALWAYS,
        id="everything that reads",
    ),
    pytest.param(
        documented(orders=""),
        facts(reading("account"), reading("positions"), reading("wallets"), read_only=True),
        ["ERROR PERM_MISSING", *NOT_TOLD],
        id="missing: orders",
    ),
    pytest.param(
        documented(orders="r"),
        facts(
            reading("account"),
            reading("orders", *TRADE),
            reading("positions"),
            reading("wallets"),
            read_only=True,
        ),
        ["ERROR KEY_READ_ONLY", *ALWAYS],
        id="read-only",
    ),
    pytest.param(
        [[scope, 0, 0] for scope in SCOPES],
        KeyFacts(grants=(), read_only=True, environment=Environment.LIVE),
        ["ERROR PERM_MISSING", *NOT_TOLD],
        id="nothing granted at all",
    ),
]


@pytest.mark.parametrize(("answer", "expected", "found"), ROWS)
def test_a_documented_answer_means_exactly_this(
    answer: Any, expected: KeyFacts, found: list[str]
) -> None:
    check(ADAPTER, answer, expected)
    assert findings(ADAPTER, expected) == found


def test_unbound_expiring_and_of_a_sub_account_are_not_knowable() -> None:
    told = ADAPTER.parse([documented()], {}, Environment.LIVE)

    assert told.ip == IpRule(bound=None)
    assert (told.expires_at, told.never_expires, told.created_at) == (None, None, None)
    assert (told.master, told.owner, told.same_key) == (None, None, None)


def test_what_bitfinex_knows_is_a_live_key() -> None:
    check(ADAPTER, documented(), facts(), Environment.TEST)

    found = findings(ADAPTER, facts(), Environment.TEST)
    assert found == ["ERROR ENV_MISMATCH", *ALWAYS]


def test_asking_may_disturb_the_trader() -> None:
    assert ADAPTER.disturbs_trading


@pytest.mark.parametrize(
    "answer",
    [
        [],
        ["error", 10100, "hostile"],
        {"orders": [1, 1]},
        "hostile",
        None,
        [["orders", 1, 1], "hostile"],
        [["orders", 1]],
        [[]],
        [[None, 1, 1]],
        [["hostile\nline", 1, 1]],
        [["orders", 2, 0]],
        [["orders", -1, 0]],
        [["orders", "hostile", 0]],
        [["orders", 1, None]],
        [["orders", True, False]],
        [{"orders": 1}],
    ],
)
def test_a_hostile_answer_is_not_understood(answer: Any) -> None:
    refuse(ADAPTER, [answer])


@settings(deadline=None)
@given(st.lists(mangled({"scope": "orders", "read": 1, "write": 1}), max_size=3))
def test_no_answer_at_all_does_harm(scopes: list[Any]) -> None:
    survives(ADAPTER, [list(one.values()) if isinstance(one, dict) else one for one in scopes])


@pytest.mark.parametrize("answers", [[], [documented(), documented()]])
def test_neither_is_another_number_of_answers(answers: list[Any]) -> None:
    refuse(ADAPTER, answers)


@pytest.fixture
def credentials(watch: Watch) -> dict[str, str]:
    """A made-up key."""
    return {"apiKey": watch.secret("base62"), "secret": watch.secret("hex")}


def test_real_ccxt_is_understood_after_one_request(credentials: dict[str, str]) -> None:
    with signing.serving(signing_more.bitfinex, credentials, {PATH: documented()}) as server:
        asked = asking.ask(ADAPTER, server.url, credentials)

    assert (asked.status, asked.facts) == (Status.VALID, facts())
    assert [(call.method, call.path) for call in server.calls] == [("POST", PATH)]


@pytest.mark.parametrize(
    ("wrong", "code"), [("apiKey", "10100"), ("secret", "10100"), ("clock", "10114")]
)
def test_a_wrong_key_and_a_wrong_clock_are_told_apart(
    credentials: dict[str, str], watch: Watch, wrong: str, code: str
) -> None:
    ours, skew = asking.spoilt(credentials, watch, wrong)
    with signing.serving(signing_more.bitfinex, credentials, {PATH: documented()}) as server:
        asked = asking.ask(ADAPTER, server.url, ours, skew_ms=skew)

    assert (asked.status, asked.code) == (asking.expected(wrong), code)
    assert server.paths() == [PATH]


def test_the_real_address_is_the_documented_one(credentials: dict[str, str]) -> None:
    meant: list[str] = []
    with signing.serving(signing_more.bitfinex, credentials, {PATH: documented()}) as server:
        asked = asking.ask(ADAPTER, server.url, credentials, meant=meant)

    assert asked.status is Status.VALID
    assert meant == [f"https://api.bitfinex.com{PATH}"]


CODES = {
    "10000": Status.INDETERMINATE,
    "10001": Status.DENIED,
    "10020": Status.INDETERMINATE,
    "10100": Status.REJECTED,
    "10114": Status.CLOCK,
    "11010": Status.RATE_LIMITED,
    "20060": Status.UNREACHABLE,
    "99999": Status.INDETERMINATE,
}


@pytest.mark.parametrize("http", [200, 401, 500])
@pytest.mark.parametrize(("code", "status"), CODES.items())
def test_an_error_code_has_its_status(
    credentials: dict[str, str], code: str, status: Status, http: int
) -> None:
    with signing.serving(signing_more.bitfinex, credentials, {}) as server:
        server.script.append(signing_more.bitfinex_error(code, http))
        asked = asking.ask(ADAPTER, server.url, credentials)

    assert (asked.status, asked.code) == (status, code)
    assert len(server.calls) == 1


def test_every_code_of_the_adapter_is_in_the_table() -> None:
    assert set(ADAPTER.codes) <= set(CODES)


def test_a_wrong_key_is_critical_and_a_small_nonce_is_not() -> None:
    assert refusal(ADAPTER, "10100").code == "KEY_REJECTED"
    assert refusal(ADAPTER, "10114").code == "CLOCK_SKEW"


# ccxt looks for a code in any answer with 500, and finds none in a page: no NetworkError.
TROUBLE = [row for row in asking.TROUBLE if row.id != "500"]
TROUBLE += [
    pytest.param(Reply(b"<html>oops</html>", 500), Status.INDETERMINATE, id="500"),
    pytest.param(
        Reply({"code": 503, "error": "temporarily_unavailable", "error_description": "x"}, 503),
        Status.UNREACHABLE,
        id="temporarily unavailable",
    ),
]


@pytest.mark.parametrize(("reply", "status"), TROUBLE)
def test_trouble_on_the_way_is_never_a_wrong_key(
    credentials: dict[str, str], reply: Any, status: Status
) -> None:
    with signing.serving(signing_more.bitfinex, credentials, {}) as server:
        server.script.append(reply)
        asked = asking.ask(ADAPTER, server.url, credentials)

    assert asked.status is status
