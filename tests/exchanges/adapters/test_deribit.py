"""
Deribit: what its documented answers mean, and that no secret or token leaves the question.
"""

from typing import Any

import ccxt
import pytest

from reconciler.exchanges.adapters.deribit import ADAPTERS
from reconciler.exchanges.ccxt_client import opened
from reconciler.model.key_facts import Cap, Environment, Grant, IpRule, KeyFacts, Status
from reconciler.model.secret import Secret
from reconciler.testing import exchange_server, through_ccxt
from reconciler.testing.adapters import Exchange, GoodKey, errors, spoilt
from reconciler.testing.documented_answers import (
    changed,
    check,
    findings,
    grant,
    mangled,
    reading,
    refusal,
)
from tests.exchanges import signing_more
from tests.exchanges.contract import WatchedContract, made_of
from tests.support.leaks import Watch

ADAPTER = ADAPTERS[0]
PATH = "/api/v2/public/auth"
USUAL_SCOPE = "account:read trade:read_write wallet:none"


def documented(scope: str = USUAL_SCOPE, *, test: bool = False, token: str = "") -> dict[str, Any]:
    """Return the documented answer for a sub-account's key that may trade."""
    return {
        "jsonrpc": "2.0",
        "id": 9929,
        "result": {
            "access_token": token or "a token",
            "expires_in": 31_536_000,
            "refresh_token": token or "another",
            "scope": f"connection {scope}",
            "enabled_features": [],
            "token_type": "bearer",
        },
        "testnet": test,
        "usIn": 1583763842150374,
        "usOut": 1583763842150410,
        "usDiff": 36,
    }


MARKETS = (Cap.SPOT, Cap.PERPETUAL, Cap.DELIVERY, Cap.OPTION)
USUAL = (reading("account:read"), grant("trade:read_write", *MARKETS))
NOT_TOLD = ["WARNING IP_NOT_KNOWABLE", "INFO EXPIRY_NOT_SHOWN"]
ALWAYS = [*NOT_TOLD, "INFO PERM_COARSE"]


def facts(*grants: Grant, **fields: Any) -> KeyFacts:
    """Return what the documented answer means; addresses, age and end are never told."""
    told: dict[str, Any] = {
        "grants": grants or USUAL,
        "read_only": False,
        "environment": Environment.LIVE,
        "master": False,
    }
    return KeyFacts(**{**told, **fields})


ROWS = [
    pytest.param(documented(), facts(), ALWAYS, id="good; addresses and end not knowable"),
    pytest.param(
        documented(f"{USUAL_SCOPE[:-5]}:read_write"),
        facts(
            *USUAL,
            grant("wallet:read_write", Cap.WITHDRAW, Cap.TRANSFER),
            reading("wallet:read_write"),
        ),
        ["CRITICAL PERM_WITHDRAW", *ALWAYS],
        id="excess: withdrawal",
    ),
    pytest.param(
        documented("account:read_write trade:read_write"),
        facts(
            grant("account:read_write", Cap.SUBACCOUNT),
            reading("account:read_write"),
            grant("trade:read_write", *MARKETS),
        ),
        ["ERROR PERM_FORBIDDEN", *ALWAYS],
        id="excess: sub-accounts and keys",
    ),
    pytest.param(
        documented("trade:read_write block_trade:read_write block_rfq:read custody:read_write"),
        facts(
            grant("trade:read_write", *MARKETS),
            grant("block_trade:read_write", Cap.OTHER),
            reading("block_rfq:read", Cap.OTHER),
            grant("custody:read_write", Cap.CUSTODY),
        ),
        [
            "ERROR PERM_FORBIDDEN",
            "ERROR PERM_FORBIDDEN",
            "WARNING IP_NOT_KNOWABLE",
            "WARNING PERM_UNKNOWN_NAME",
            *ALWAYS[1:],
        ],
        id="excess: block trades and custody",
    ),
    pytest.param(
        documented("trade:read_write novel novel_thing:read_write trade:novel"),
        facts(
            grant("trade:read_write", *MARKETS),
            grant("novel", Cap.OTHER),
            grant("novel_thing:read_write", Cap.OTHER),
            grant("trade:novel", Cap.OTHER),
        ),
        [*["ERROR PERM_FORBIDDEN"] * 3, *ALWAYS],
        id="unknown names",
    ),
    pytest.param(
        documented("account:read wallet:read trade:none"),
        facts(reading("account:read"), reading("wallet:read"), read_only=True),
        ["ERROR PERM_MISSING", *NOT_TOLD],
        id="missing: trade",
    ),
    pytest.param(
        documented("account:read trade:read"),
        facts(reading("account:read"), reading("trade:read", *MARKETS), read_only=True),
        ["ERROR KEY_READ_ONLY", *ALWAYS],
        id="read-only",
    ),
    pytest.param(
        changed(documented(), "result.scope", ""),
        KeyFacts(grants=(), read_only=True, environment=Environment.LIVE, master=False),
        ["ERROR PERM_MISSING", *NOT_TOLD],
        id="nothing granted at all",
    ),
    pytest.param(
        documented(f"{USUAL_SCOPE} mainaccount"),
        facts(master=True),
        ["WARNING IP_NOT_KNOWABLE", "WARNING MASTER_KEY", *ALWAYS[1:]],
        id="key of the main account",
    ),
    pytest.param(
        documented(f"{USUAL_SCOPE} session:robots expires:3600 ip:203.0.113.10"),
        facts(),
        ALWAYS,
        id="address and end of the token are not the key's: not knowable",
    ),
    pytest.param(
        documented(test=True),
        facts(environment=Environment.TEST),
        ["ERROR ENV_MISMATCH", *ALWAYS],
        id="answered by the test network",
    ),
    pytest.param(
        changed(documented(), "testnet", ...),
        facts(traits={"lacks": "testnet"}),
        ["WARNING ANSWER_INCOMPLETE", *ALWAYS],
        id="network not told: as asked",
    ),
]


def test_unbound_expiring_and_about_another_key_are_not_knowable() -> None:
    told = ADAPTER.parse([documented()], {}, Environment.LIVE)

    assert told.ip == IpRule(bound=None)
    assert (told.expires_at, told.never_expires, told.created_at) == (None, None, None)
    assert told.same_key is None


def test_a_key_of_the_test_network_belongs_there() -> None:
    told = facts(environment=Environment.TEST)
    check(ADAPTER, documented(test=True), told, Environment.TEST)

    assert findings(ADAPTER, told, Environment.TEST) == ALWAYS


HOSTILE = spoilt(
    documented(),
    ("result", ...),
    ("result", None),
    ("result", []),
    ("result", "hostile"),
    ("result.scope", ...),
    ("result.scope", None),
    ("result.scope", ["trade:read"]),
    ("result.scope", "tr\u00e4de:read"),
    ("result.scope", "trade:re\u202ead"),
    ("result.scope", ":hostile"),
    ("result.scope", "trade:hostile:hostile"),
    ("testnet", "false"),
    ("testnet", 0),
    ("testnet", None),
)


@pytest.fixture
def credentials(watch: Watch) -> dict[str, str]:
    """A made-up key."""
    return EXCHANGE.made_up(watch.secret)


@pytest.mark.parametrize("shape", ["base64-64", "password", "unicode"])
def test_a_secret_of_any_characters_arrives(
    credentials: dict[str, str], watch: Watch, shape: str
) -> None:
    ours = {**credentials, "secret": watch.secret(shape)}
    with exchange_server.serving(signing_more.deribit, ours, {PATH: documented()}) as server:
        assert through_ccxt.ask(ADAPTER, server.url, ours).status is Status.VALID


def test_every_question_is_signed_anew(credentials: dict[str, str]) -> None:
    with exchange_server.serving(signing_more.deribit, credentials, {PATH: documented()}) as server:
        for _ in range(2):
            assert through_ccxt.ask(ADAPTER, server.url, credentials).status is Status.VALID

    assert len({call.query.rpartition("signature=")[2] for call in server.calls}) == 2


def test_no_token_leaves_the_question(credentials: dict[str, str], watch: Watch) -> None:
    token = watch.secret("jwt")
    secrets = {name: Secret(value) for name, value in credentials.items()}
    with (
        exchange_server.serving(
            signing_more.deribit, credentials, {PATH: documented(token=token)}
        ) as server,
        opened(
            "deribit", secrets, environment=Environment.LIVE, timeout=5, base=server.url
        ) as ours,
    ):
        answers = ADAPTER.fetch(ours, Environment.LIVE)

    assert answers == ({"testnet": False, "result": {"scope": f"connection {USUAL_SCOPE}"}},)


CODES = {
    "9999": Status.DENIED,
    "10028": Status.RATE_LIMITED,
    "10040": Status.UNREACHABLE,
    "10041": Status.UNREACHABLE,
    "10047": Status.RATE_LIMITED,
    "11042": Status.DENIED,
    "11051": Status.UNREACHABLE,
    "11094": Status.UNREACHABLE,
    "12003": Status.RATE_LIMITED,
    "12998": Status.RATE_LIMITED,
    "13004": Status.REJECTED,
    "13021": Status.DENIED,
    "13025": Status.UNREACHABLE,
    **dict.fromkeys(
        (
            *("10000", "12000", "12004", "12005", "12999", "13000", "13001", "13002"),
            *("13003", "13005", "13006", "13007", "13009", "99999", "-32602"),
        ),
        Status.INDETERMINATE,
    ),
}


def test_what_ccxt_takes_for_a_wrong_key_is_decided_here() -> None:
    table = ccxt.deribit().exceptions
    wrong = {code for code, kind in table.items() if kind is ccxt.AuthenticationError}

    assert wrong <= set(ADAPTER.codes)
    assert {code for code in wrong if ADAPTER.codes[code] is Status.REJECTED} == {"13004"}


def test_a_wrong_key_is_called_that() -> None:
    assert refusal(ADAPTER, "13004").code == "KEY_REJECTED"


def good(environment: Environment, host: str) -> GoodKey:
    """Return the question at one network; its answer says which it is of."""
    answer = documented(test=environment is Environment.TEST)
    told = facts(environment=environment)
    return GoodKey(ADAPTER, host, (PATH,), lambda _key: {PATH: answer}, told, environment)


def one_more(answer: Any, name: str) -> Any:
    """Return the answer with one more scope, which writes."""
    scope = name if ":" in name else f"{name}:read_write"
    return changed(answer, "result.scope", f"{answer['result']['scope']} {scope}")


EXCHANGE = Exchange(
    more=one_more,
    adapters=ADAPTERS,
    check=signing_more.deribit,
    made_up=made_of(apiKey="base62", secret="base64url"),
    documented=documented(),
    mangled=mangled(documented()),
    rows=ROWS,
    hostile=HOSTILE,
    good=tuple(
        good(environment, host)
        for environment, host in (
            (Environment.LIVE, "www.deribit.com"),
            (Environment.TEST, "test.deribit.com"),
        )
    ),
    # One code for both, and for a key of the other network.
    wrong={"apiKey": "13004", "secret": "13004"},
    errors=errors(signing_more.deribit_error, CODES, 200, 400),
)


class TestDeribit(WatchedContract):
    exchange = EXCHANGE
