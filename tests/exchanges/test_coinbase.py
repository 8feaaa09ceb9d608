"""
Coinbase: what its documented answers mean, and that real ccxt is answered and refused as
documented; a call is a token that is signed with a private key, and checked with the public one.
"""

import base64
import secrets
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given, settings

from reconciler.exchanges.coinbase import ADAPTER
from reconciler.exchanges.facts import Access, Cap, Environment, Grant, KeyFacts, Status
from tests.exchanges import asking, signing_second
from tests.exchanges.documented import (
    changed,
    check,
    findings,
    mangled,
    refusal,
    refuse,
    survives,
)
from tests.exchanges.signing import Reply, serving
from tests.leaks import Watch

PATH = "/api/v3/brokerage/key_permissions"


def documented(*, view: bool = True, trade: bool = True, transfer: bool = False) -> dict[str, Any]:
    """Return the documented answer."""
    return {
        "can_view": view,
        "can_trade": trade,
        "can_transfer": transfer,
        "portfolio_uuid": "11111111-2222-3333-4444-555555555555",
        "portfolio_type": "DEFAULT",
    }


VIEW = Grant("can_view", frozenset({Cap.ACCOUNT_READ}), access=Access.READ)
TRADE = Grant("can_trade", frozenset({Cap.SPOT, Cap.PERPETUAL}), separable=False)
TRANSFER = Grant("can_transfer", frozenset({Cap.TRANSFER, Cap.WITHDRAW}), separable=False)


def facts(*grants: Grant) -> KeyFacts:
    """Return what an answer with these grants means."""
    return KeyFacts(
        grants=grants,
        read_only=all(one.access is Access.READ for one in grants),
        environment=Environment.LIVE,
    )


GOOD = facts(VIEW, TRADE)
ROWS = [
    pytest.param(documented(), GOOD, id="good"),
    pytest.param(
        documented(transfer=True), facts(VIEW, TRADE, TRANSFER), id="excess: moves funds out"
    ),
    pytest.param(documented(trade=False), facts(VIEW), id="read-only: trading is missing"),
    pytest.param(documented(view=False), facts(TRADE), id="may not look"),
    pytest.param(documented(view=False, trade=False), facts(), id="nothing granted at all"),
    pytest.param(
        {**documented(), "allowed_ips": []}, GOOD, id="unbound or not: addresses are not knowable"
    ),
    pytest.param(
        {**documented(), "allowed_ips": ["198.51.100.7"]},
        GOOD,
        id="bound elsewhere: not knowable from here",
    ),
    pytest.param(
        {**documented(), "expires_at": "2025-11-30T00:00:00Z"}, GOOD, id="its end is not knowable"
    ),
    pytest.param(
        changed(documented(), "portfolio_type", "CONSUMER"),
        GOOD,
        id="of which account is not knowable",
    ),
    pytest.param(
        changed(changed(documented(), "portfolio_type", ...), "portfolio_uuid", ...),
        GOOD,
        id="without a portfolio",
    ),
]

NOT_SHOWN = ["WARNING IP_NOT_KNOWABLE", "INFO EXPIRY_NOT_SHOWN"]
FINDINGS = {
    "excess: moves funds out": ["CRITICAL PERM_WITHDRAW", *NOT_SHOWN],
    "read-only: trading is missing": ["ERROR PERM_MISSING", *NOT_SHOWN],
    "nothing granted at all": ["ERROR PERM_MISSING", *NOT_SHOWN],
}


@pytest.mark.parametrize(("answer", "expected"), ROWS)
def test_a_documented_answer_means_exactly_this(answer: Any, expected: KeyFacts) -> None:
    check(ADAPTER, answer, expected)


@pytest.mark.parametrize(("answer", "expected"), ROWS)
def test_and_comes_to_exactly_these_findings(
    request: pytest.FixtureRequest, answer: Any, expected: KeyFacts
) -> None:
    del answer
    assert findings(ADAPTER, expected) == FINDINGS.get(request.node.callspec.id, NOT_SHOWN)


def test_a_live_key_where_a_test_one_belongs_is_a_finding() -> None:
    check(ADAPTER, documented(), GOOD, Environment.TEST)
    assert findings(ADAPTER, GOOD, Environment.TEST) == ["ERROR ENV_MISMATCH", *NOT_SHOWN]


@pytest.mark.parametrize("field", ["can_view", "can_trade", "can_transfer"])
@pytest.mark.parametrize("value", [..., None, 0, 1, "true", "hostile", [], {}])
def test_a_hostile_answer_is_not_understood(field: str, value: Any) -> None:
    refuse(ADAPTER, [changed(documented(), field, value)])


@settings(deadline=None)
@given(mangled(documented()))
def test_no_answer_at_all_does_harm(answer: Any) -> None:
    survives(ADAPTER, answer)


@pytest.mark.parametrize("answers", [[], [None], [[]], ["hostile"], [documented(), documented()]])
def test_neither_is_another_number_of_answers(answers: list[Any]) -> None:
    refuse(ADAPTER, answers)


def made_up(watch: Watch) -> dict[str, str]:
    """Return another key, as the developer platform hands it out."""
    pem = signing_second.coinbase_pem(ec.generate_private_key(ec.SECP256R1()))
    name = f"organizations/{watch.secret('uuid')}/apiKeys/{watch.secret('uuid')}"
    return {"apiKey": watch.guard(name), "secret": watch.guard(pem)}


@pytest.fixture
def credentials(watch: Watch) -> dict[str, str]:
    """A made-up key."""
    return made_up(watch)


def test_real_ccxt_is_understood_after_one_request(credentials: dict[str, str]) -> None:
    with serving(signing_second.coinbase, credentials, {PATH: documented()}) as server:
        asked = asking.ask(ADAPTER, server.url, credentials)

    assert (asked.status, asked.facts) == (Status.VALID, GOOD)
    assert server.paths() == [PATH]
    assert "cb-access-sign" not in server.calls[0].headers


def test_the_real_address_is_the_documented_one_and_signed(credentials: dict[str, str]) -> None:
    meant: list[str] = []
    with serving(signing_second.coinbase, credentials, {PATH: documented()}) as server:
        asked = asking.ask(ADAPTER, server.url, credentials, meant=meant)

    assert asked.status is Status.VALID
    assert meant == [f"https://{signing_second.COINBASE_HOST}{PATH}"]


@pytest.mark.parametrize("wrong", ["apiKey", "secret"])
def test_a_wrong_name_or_private_key_is_rejected(
    credentials: dict[str, str], watch: Watch, wrong: str
) -> None:
    ours = {**credentials, wrong: made_up(watch)[wrong]}
    with serving(signing_second.coinbase, credentials, {PATH: documented()}) as server:
        asked = asking.ask(ADAPTER, server.url, ours)

    assert (asked.status, asked.code) == (Status.REJECTED, "Unauthorized")
    assert server.paths() == [PATH]


def test_a_private_key_that_cannot_be_read_is_not_asked_about(
    credentials: dict[str, str], watch: Watch
) -> None:
    pem = f"-----BEGIN EC PRIVATE KEY-----\n{watch.secret('base62')}\n"
    with serving(signing_second.coinbase, credentials, {PATH: documented()}) as server:
        asked = asking.ask(ADAPTER, server.url, {**credentials, "secret": watch.guard(pem)})

    assert asked.status is Status.INDETERMINATE
    assert not server.calls


def test_an_ed25519_key_signs_its_calls_too(watch: Watch) -> None:
    secret = watch.guard(base64.b64encode(secrets.token_bytes(64)).decode())
    ours = {"apiKey": watch.secret("uuid"), "secret": secret}
    with serving(signing_second.anybody, ours, {PATH: documented()}) as server:
        asked = asking.ask(ADAPTER, server.url, ours)

    assert asked.status is Status.VALID
    (call,) = server.calls
    assert call.headers["authorization"].startswith("Bearer ")
    assert signing_second.carries(call, ours["apiKey"])


CODES = {
    "unauthorized": Status.REJECTED,
    "authentication_error": Status.REJECTED,
    "invalid_token": Status.REJECTED,
    "revoked_token": Status.REJECTED,
    "expired_token": Status.REJECTED,
    "PERMISSION_DENIED": Status.DENIED,
    "invalid_scope": Status.DENIED,
    "personal_details_required": Status.INDETERMINATE,
    "identity_verification_required": Status.INDETERMINATE,
    "unverified_email": Status.INDETERMINATE,
    "rate_limit_exceeded": Status.RATE_LIMITED,
    "resource_exhausted": Status.RATE_LIMITED,
    "internal_server_error": Status.UNREACHABLE,
    "NOVEL_CODE": Status.INDETERMINATE,
}
OTHERS = [
    (signing_second.coinbase_unauthorized(), "Unauthorized", Status.REJECTED),
    (
        signing_second.coinbase_list("authentication_error", "request timestamp expired"),
        "request timestamp expired",
        Status.CLOCK,
    ),
]


@pytest.mark.parametrize("shape", [signing_second.coinbase_error, signing_second.coinbase_list])
@pytest.mark.parametrize(("code", "status"), CODES.items())
def test_an_error_code_has_its_status(
    credentials: dict[str, str], shape: Any, code: str, status: Status
) -> None:
    with serving(signing_second.coinbase, credentials, {}) as server:
        server.script.append(shape(code))
        asked = asking.ask(ADAPTER, server.url, credentials)

    assert (asked.status, asked.code) == (status, code)
    assert len(server.calls) == 1


@pytest.mark.parametrize(("reply", "code", "status"), OTHERS)
def test_so_have_words(
    credentials: dict[str, str], reply: Reply, code: str, status: Status
) -> None:
    with serving(signing_second.coinbase, credentials, {}) as server:
        server.script.append(reply)
        asked = asking.ask(ADAPTER, server.url, credentials)

    assert (asked.status, asked.code) == (status, code)


def test_every_code_of_the_adapter_is_in_a_table() -> None:
    assert set(ADAPTER.codes) <= {*CODES, *(code for _, code, _ in OTHERS)}


def test_that_an_address_is_not_told_apart_is_said() -> None:
    assert "foreign address" in refusal(ADAPTER, "Unauthorized").what


@pytest.mark.parametrize(("reply", "status"), asking.TROUBLE)
def test_trouble_on_the_way_is_never_a_wrong_key(
    credentials: dict[str, str], reply: Any, status: Status
) -> None:
    with serving(signing_second.coinbase, credentials, {}) as server:
        server.script.append(reply)
        asked = asking.ask(ADAPTER, server.url, credentials)

    assert asked.status is status
