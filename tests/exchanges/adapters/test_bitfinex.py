"""
Bitfinex: what its documented answers mean, and what real ccxt is answered and refused with.
"""

from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import strategies as st

from reconciler.exchanges.adapters.bitfinex import ADAPTERS
from reconciler.model.key_facts import Cap, Environment, Grant, IpRule, KeyFacts, Status
from reconciler.testing import through_ccxt
from reconciler.testing.adapters import Exchange, GoodKey, errors
from reconciler.testing.documented_answers import (
    check,
    findings,
    grant,
    mangled,
    reading,
    refusal,
)
from reconciler.testing.exchange_server import Reply
from tests.exchanges import signing_more
from tests.exchanges.contract import WatchedContract, made_of

ADAPTER = ADAPTERS[0]
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


NO_SCOPES: list[Any] = [
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
]
HOSTILE = [pytest.param([answer], id=ascii(answer)) for answer in NO_SCOPES]

# A scope is a list; by names its places can be mangled one by one.
MANGLED = st.lists(
    mangled({"scope": "orders", "read": 1, "write": 1}).map(
        lambda one: list(one.values()) if isinstance(one, dict) else one
    ),
    max_size=3,
)


CODES = {
    "10000": Status.INDETERMINATE,
    "10001": Status.DENIED,
    "10020": Status.INDETERMINATE,
    "10100": Status.INDETERMINATE,
    "10114": Status.CLOCK,
    "11010": Status.RATE_LIMITED,
    "20060": Status.UNREACHABLE,
    "99999": Status.INDETERMINATE,
}


def test_neither_an_ambiguous_code_nor_a_small_nonce_stops_anything() -> None:
    assert refusal(ADAPTER, "10100").code == "INDETERMINATE"
    assert refusal(ADAPTER, "10114").code == "CLOCK_SKEW"


# ccxt looks for a code in any answer with 500, and finds none in a page: no NetworkError.
TROUBLE = [row for row in through_ccxt.TROUBLE if row.id != "500"]
TROUBLE += [
    pytest.param(Reply(b"<html>oops</html>", 500), Status.INDETERMINATE, id="500"),
    pytest.param(
        Reply({"code": 503, "error": "temporarily_unavailable", "error_description": "x"}, 503),
        Status.UNREACHABLE,
        id="temporarily unavailable",
    ),
]


def less(answer: Any) -> Iterator[tuple[str, Any]]:
    """Yield the answer without each scope: those not granted are listed, too."""
    for number, row in enumerate(answer):
        yield str(row[0]), [*answer[:number], *answer[number + 1 :]]


EXCHANGE = Exchange(
    less=less,
    more=lambda answer, name: [*(row for row in answer if row[0] != name), [name, 1, 1]],
    adapters=ADAPTERS,
    check=signing_more.bitfinex,
    made_up=made_of(apiKey="base62", secret="hex"),
    documented=documented(),
    mangled=MANGLED,
    rows=ROWS,
    hostile=HOSTILE,
    good=(
        GoodKey(
            ADAPTER,
            "api.bitfinex.com",
            (PATH,),
            lambda _key: {PATH: documented()},
            facts(),
            method="POST",
        ),
    ),
    wrong={"apiKey": "10100", "secret": "10100", "clock": "10114"},
    ambiguous=frozenset({"10100"}),
    errors=errors(signing_more.bitfinex_error, CODES, 200, 401, 500),
    trouble=TROUBLE,
)


class TestBitfinex(WatchedContract):
    exchange = EXCHANGE
