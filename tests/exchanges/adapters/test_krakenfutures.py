"""
Kraken Futures: what its documented answers mean, and what follows a new word.
"""

from datetime import UTC, datetime
from ipaddress import ip_network
from typing import Any

import pytest

from reconciler.exchanges.adapters.krakenfutures import ADAPTERS
from reconciler.model.key_facts import Cap, Environment, Grant, IpRule, KeyFacts, Status
from reconciler.model.values import replace
from reconciler.testing import through_ccxt
from reconciler.testing.adapters import Exchange, GoodKey, errors, spoilt
from reconciler.testing.documented_answers import (
    KEY,
    WANTED,
    changed,
    findings,
    grant,
    mangled,
    reading,
)
from reconciler.testing.exchange_server import HangUp, Reply, serving
from tests.exchanges import signing_second
from tests.exchanges.contract import WatchedContract, made_of
from tests.support.leaks import Watch

(ADAPTER,) = ADAPTERS
CHECK = "/api/auth/v1/api-keys/v3/check"
ACCOUNTS = "/derivatives/api/v3/accounts"
BALANCES = {"result": "success", "accounts": {}, "serverTime": "2026-11-22T00:00:00Z"}


def documented(key: str = KEY, **fields: Any) -> dict[str, Any]:
    """Return the documented answer for a key that may trade."""
    return {
        "apiKey": key,
        "accountUid": "3c90c3cc-0d44-4b50-8888-8dd25736052a",
        "iiban": None,
        "createdAt": "2019-08-24T14:15:22Z",
        "permissions": {"general": "FULL_ACCESS", "transfer": "NO_ACCESS"},
        "allowedCidrBlock": "203.0.113.10/32",
        "allowedCidrBlocks": ["203.0.113.10/32"],
        **fields,
    }


def may(general: str, transfer: str = "NO_ACCESS", **more: Any) -> dict[str, Any]:
    """Return the documented answer with these tiers."""
    return documented(permissions={"general": general, "transfer": transfer, **more})


TRADES = grant("general", Cap.PERPETUAL, Cap.DELIVERY, Cap.TRANSFER)
SEES = reading("general")
NETWORK = ip_network("203.0.113.10/32")
BOUND = IpRule(bound=True, networks=(NETWORK, NETWORK), listed=True)
USUAL = ["INFO EXPIRY_NOT_SHOWN", "INFO PERM_COARSE"]


def facts(*grants: Grant, **fields: Any) -> KeyFacts:
    """Return what the documented answer means, with other fields."""
    told: dict[str, Any] = {
        "grants": grants or (TRADES, SEES),
        "ip": BOUND,
        "read_only": False,
        "created_at": datetime(2019, 8, 24, 14, 15, 22, tzinfo=UTC),
        "environment": Environment.LIVE,
        "same_key": True,
    }
    return KeyFacts(**{**told, **fields})


OUT = grant("transfer", Cap.WITHDRAW, Cap.TRANSFER)
ROWS = [
    pytest.param(documented(), facts(), USUAL, id="good, coarse"),
    pytest.param(
        may("FULL_ACCESS", "FULL_ACCESS"),
        facts(TRADES, SEES, OUT, reading("transfer", Cap.TRANSFER)),
        ["CRITICAL PERM_WITHDRAW", "WARNING PERM_FORBIDDEN", *USUAL],
        id="excess: withdrawal",
    ),
    pytest.param(
        may("READ_ONLY"),
        facts(SEES, read_only=True),
        ["ERROR PERM_MISSING", "INFO EXPIRY_NOT_SHOWN"],
        id="read-only",
    ),
    pytest.param(
        may("NO_ACCESS"),
        facts(grants=(), read_only=True),
        ["ERROR PERM_MISSING", "INFO EXPIRY_NOT_SHOWN"],
        id="nothing granted at all",
    ),
    pytest.param(
        may("NOVEL_TIER", "NOVEL_TIER", novel="FULL_ACCESS", other=None),
        facts(
            *(TRADES, SEES, OUT, reading("transfer", Cap.TRANSFER)),
            *(grant("novel", Cap.OTHER), grant("other", Cap.OTHER)),
        ),
        [
            "CRITICAL PERM_WITHDRAW",
            *["ERROR PERM_FORBIDDEN"] * 2,
            "WARNING PERM_FORBIDDEN",
            *USUAL,
        ],
        id="unknown tiers and names",
    ),
    pytest.param(
        documented(allowedCidrBlock=None, allowedCidrBlocks=[]),
        facts(ip=IpRule(bound=False, listed=True)),
        ["ERROR IP_UNBOUND", *USUAL],
        id="unbound",
    ),
    pytest.param(
        documented(allowedCidrBlock="0.0.0.0/0"),
        facts(ip=IpRule(bound=False, listed=True)),
        ["ERROR IP_UNBOUND", *USUAL],
        id="unbound by the older field",
    ),
    pytest.param(
        documented(allowedCidrBlock=None, allowedCidrBlocks=["192.168.0.0/16"]),
        facts(ip=IpRule(bound=True, networks=(ip_network("192.168.0.0/16"),), listed=True)),
        ["ERROR IP_MISSING_SERVER", "WARNING IP_TOO_WIDE", *USUAL],
        id="bound elsewhere, as in the documentation",
    ),
    pytest.param(
        documented("another-key"),
        facts(same_key=False),
        ["CRITICAL KEY_MISMATCH", "WARNING PERM_NOT_KNOWABLE"],
        id="about another key",
    ),
    pytest.param(
        BALANCES,
        KeyFacts(),
        ["WARNING IP_NOT_KNOWABLE", "WARNING PERM_NOT_KNOWABLE", "INFO EXPIRY_NOT_SHOWN"],
        id="balances only: valid, no more",
    ),
]


def test_a_key_of_the_demo_belongs_there_alone() -> None:
    told = ADAPTER.parse([documented()], {"apiKey": KEY}, Environment.TEST)

    wanted = EXCHANGE.wanted
    assert findings(ADAPTER, told, Environment.TEST, wanted=wanted) == USUAL
    assert findings(ADAPTER, told, wanted=wanted) == ["ERROR ENV_MISMATCH", *USUAL]


HOSTILE = [
    *spoilt(
        documented(),
        ("permissions", ...),
        ("permissions", None),
        ("permissions", []),
        ("permissions", {}),
        ("permissions.general", ...),
        ("permissions.transfer", ...),
        ("permissions.transfer", None),
        ("permissions", {"general": "READ_ONLY", "transfer": "NO_ACCESS", "hostile\n": "x"}),
        ("allowedCidrBlocks", ...),
        ("allowedCidrBlocks", "203.0.113.10/32"),
        ("allowedCidrBlocks", [17]),
        ("apiKey", ...),
        ("apiKey", 17),
        ("createdAt", "yesterday"),
    ),
    *spoilt(BALANCES, ("result", "error"), ("result", ...), ("accounts", ...)),
]


@pytest.fixture
def credentials(watch: Watch) -> dict[str, str]:
    """A made-up key."""
    return EXCHANGE.made_up(watch.secret)


REFUSED = Reply({"error": "novelError", "message": "words", "suberror": None}, 401)


@pytest.mark.parametrize(
    ("second", "status", "code"),
    [
        (
            signing_second.krakenfutures_error("authenticationError"),
            Status.REJECTED,
            "authenticationError",
        ),
        (Reply(BALANCES), Status.VALID, ""),
        (REFUSED, Status.INDETERMINATE, "novelError"),
    ],
    ids=["wrong", "valid", "unknown words again"],
)
def test_a_refusal_in_unknown_words_is_looked_into(
    credentials: dict[str, str], second: Reply, status: Status, code: str
) -> None:
    with serving(signing_second.krakenfutures, credentials, {}) as server:
        server.script += [REFUSED, second]
        asked = through_ccxt.ask(ADAPTER, server.url, credentials)

    assert (asked.status, asked.code) == (status, code)
    assert asked.facts == (KeyFacts() if status is Status.VALID else None)
    assert server.paths() == [CHECK, ACCOUNTS]


@pytest.mark.parametrize(
    "reply",
    [
        HangUp(),
        Reply(b"<html>no</html>", 429),
        Reply(b"<html>slow</html>", 504),
        Reply(b"<html>in</html>", 401),
    ],
)
def test_trouble_is_no_refusal(credentials: dict[str, str], reply: Any) -> None:
    with serving(signing_second.krakenfutures, credentials, {ACCOUNTS: BALANCES}) as server:
        server.script.append(reply)
        asked = through_ccxt.ask(ADAPTER, server.url, credentials)

    assert asked.facts is None
    assert server.paths() == [CHECK]


CODES = {
    "authenticationError": Status.REJECTED,
    **dict.fromkeys(("nonceBelowThreshold", "nonceDuplicate"), Status.CLOCK),
    "apiLimitExceeded": Status.RATE_LIMITED,
    **dict.fromkeys(("Unavailable", "unavailable"), Status.UNREACHABLE),
}


def good(environment: Environment, host: str) -> GoodKey:
    """Return the question at one network."""
    return GoodKey(
        ADAPTER,
        host,
        (CHECK,),
        lambda key: {CHECK: documented(key)},
        facts(environment=environment),
        environment,
    )


EXCHANGE = Exchange(
    more=lambda answer, name: changed(answer, f"permissions.{name}", "FULL_ACCESS"),
    adapters=ADAPTERS,
    check=signing_second.krakenfutures,
    made_up=made_of(apiKey="hex", secret="base64-32"),
    documented=documented(),
    mangled=mangled(documented()),
    rows=ROWS,
    hostile=HOSTILE,
    good=(
        good(Environment.LIVE, "futures.kraken.com"),
        good(Environment.TEST, "demo-futures.kraken.com"),
    ),
    wrong={"apiKey": "authenticationError", "secret": "authenticationError"},
    malformed=(("secret", "{}!".format),),
    errors=errors(signing_second.krakenfutures_error, CODES, 200, 401),
    wanted=replace(WANTED, require=frozenset({Cap.PERPETUAL})),
)


class TestKrakenFutures(WatchedContract):
    exchange = EXCHANGE
