"""
Coinbase: what its documented answers mean, and that real ccxt is answered and refused as
documented; a call is a token that is signed with a private key, and checked with the public one.
"""

import base64
import secrets
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from reconciler.exchanges.adapters.coinbase import ADAPTERS
from reconciler.model.key_facts import Access, Cap, Environment, Grant, KeyFacts, Status
from reconciler.testing import through_ccxt
from reconciler.testing.adapters import Exchange, GoodKey, MakesSecrets, errors, spoilt
from reconciler.testing.documented_answers import (
    changed,
    check,
    findings,
    mangled,
    refusal,
)
from reconciler.testing.exchange_server import serving
from tests.exchanges import signing_second
from tests.exchanges.contract import WatchedContract
from tests.support.leaks import Watch

ADAPTER = ADAPTERS[0]
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
NOT_SHOWN = ["WARNING IP_NOT_KNOWABLE", "INFO EXPIRY_NOT_SHOWN"]
ROWS = [
    pytest.param(documented(), GOOD, NOT_SHOWN, id="good"),
    pytest.param(
        documented(transfer=True),
        facts(VIEW, TRADE, TRANSFER),
        ["CRITICAL PERM_WITHDRAW", *NOT_SHOWN],
        id="excess: moves funds out",
    ),
    pytest.param(
        documented(trade=False),
        facts(VIEW),
        ["ERROR PERM_MISSING", *NOT_SHOWN],
        id="read-only: trading is missing",
    ),
    pytest.param(documented(view=False), facts(TRADE), NOT_SHOWN, id="may not look"),
    pytest.param(
        documented(view=False, trade=False),
        facts(),
        ["ERROR PERM_MISSING", *NOT_SHOWN],
        id="nothing granted at all",
    ),
    pytest.param(
        {**documented(), "allowed_ips": []},
        GOOD,
        NOT_SHOWN,
        id="unbound or not: addresses are not knowable",
    ),
    pytest.param(
        {**documented(), "allowed_ips": ["198.51.100.7"]},
        GOOD,
        NOT_SHOWN,
        id="bound elsewhere: not knowable from here",
    ),
    pytest.param(
        {**documented(), "expires_at": "2025-11-30T00:00:00Z"},
        GOOD,
        NOT_SHOWN,
        id="its end is not knowable",
    ),
    pytest.param(
        changed(documented(), "portfolio_type", "CONSUMER"),
        GOOD,
        NOT_SHOWN,
        id="of which account is not knowable",
    ),
    pytest.param(
        changed(changed(documented(), "portfolio_type", ...), "portfolio_uuid", ...),
        GOOD,
        NOT_SHOWN,
        id="without a portfolio",
    ),
]


def test_a_live_key_where_a_test_one_belongs_is_a_finding() -> None:
    check(ADAPTER, documented(), GOOD, Environment.TEST)
    assert findings(ADAPTER, GOOD, Environment.TEST) == ["ERROR ENV_MISMATCH", *NOT_SHOWN]


NO_SWITCH: list[Any] = [..., None, 0, 1, "true", "hostile", [], {}]
HOSTILE = spoilt(
    documented(),
    *((field, value) for field in ("can_view", "can_trade", "can_transfer") for value in NO_SWITCH),
)


def made_up(secret: MakesSecrets) -> dict[str, str]:
    """Return another key, as the developer platform hands it out."""
    name = f"organizations/{secret('uuid')}/apiKeys/{secret('uuid')}"
    return {"apiKey": name, "secret": secret("EC key")}


def secrets_of(watch: Watch) -> MakesSecrets:
    """Return what makes up secrets, besides in the usual shapes as an `EC key`, which can sign."""

    def secret(shape: str = "uuid", /) -> str:
        if shape == "EC key":
            pem = signing_second.coinbase_pem(ec.generate_private_key(ec.SECP256R1()))
            return watch.guard(pem)
        return watch.secret(shape)

    return secret


@pytest.fixture
def credentials(watch: Watch) -> dict[str, str]:
    """A made-up key."""
    return made_up(secrets_of(watch))


def test_a_call_has_no_signature_of_the_older_kind(credentials: dict[str, str]) -> None:
    with serving(signing_second.coinbase, credentials, {PATH: documented()}) as server:
        asked = through_ccxt.ask(ADAPTER, server.url, credentials)

    assert asked.status is Status.VALID
    assert "cb-access-sign" not in server.calls[0].headers


def test_a_private_key_that_cannot_be_read_is_not_asked_about(
    credentials: dict[str, str], watch: Watch
) -> None:
    pem = f"-----BEGIN EC PRIVATE KEY-----\n{watch.secret('base62')}\n"
    with serving(signing_second.coinbase, credentials, {PATH: documented()}) as server:
        asked = through_ccxt.ask(ADAPTER, server.url, {**credentials, "secret": watch.guard(pem)})

    assert (asked.status, asked.code) == (
        Status.MALFORMED,
        "secret is a private key in PEM that cannot be read",
    )
    assert not server.calls


def test_a_private_key_whose_lines_end_in_letters_is_not_asked_about(
    credentials: dict[str, str], watch: Watch
) -> None:
    flat = watch.guard(credentials["secret"].replace("\n", r"\n"))

    assert ADAPTER.malformed({**credentials, "secret": flat}) == (
        r"secret has \n in letters where its lines should end"
    )


def test_an_ed25519_key_signs_its_calls_too(watch: Watch) -> None:
    secret = watch.guard(base64.b64encode(secrets.token_bytes(64)).decode())
    ours = {"apiKey": watch.secret("uuid"), "secret": secret}
    with serving(signing_second.anybody, ours, {PATH: documented()}) as server:
        asked = through_ccxt.ask(ADAPTER, server.url, ours)

    assert asked.status is Status.VALID
    (call,) = server.calls
    assert call.headers["authorization"].startswith("Bearer ")
    assert signing_second.carries(call, ours["apiKey"])


CODES = {
    "unauthorized": Status.INDETERMINATE,
    "authentication_error": Status.INDETERMINATE,
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
    pytest.param(
        signing_second.coinbase_unauthorized(),
        "Unauthorized",
        Status.INDETERMINATE,
        id="a word alone",
    ),
    pytest.param(
        signing_second.coinbase_list("authentication_error", "request timestamp expired"),
        "request timestamp expired",
        Status.CLOCK,
        id="the words of a code",
    ),
]


@pytest.mark.parametrize("code", ["Unauthorized", "unauthorized", "authentication_error"])
def test_that_an_address_is_not_told_apart_is_said_and_stops_nothing(code: str) -> None:
    found = refusal(ADAPTER, code)

    assert "foreign address" in found.what
    assert not found.stops


EXCHANGE = Exchange(
    more=lambda answer, name: {**answer, f"can_{name.removeprefix('can_')}": True},
    adapters=ADAPTERS,
    check=signing_second.coinbase,
    made_up=made_up,
    documented=documented(),
    mangled=mangled(documented()),
    rows=ROWS,
    hostile=HOSTILE,
    good=(
        GoodKey(
            ADAPTER,
            signing_second.COINBASE_HOST,
            (PATH,),
            lambda _key: {PATH: documented()},
            GOOD,
        ),
    ),
    wrong={"apiKey": "Unauthorized", "secret": "Unauthorized"},
    ambiguous=frozenset({"Unauthorized"}),
    malformed=(
        ("secret", lambda pem: pem.replace("\n", r"\n")),
        ("secret", lambda pem: pem[:60]),
        ("secret", lambda _pem: "bm90IGEga2V5"),  # base64 of other than a key
        ("secret", lambda _pem: "not base64 at all"),
    ),
    errors=[
        *errors(signing_second.coinbase_error, CODES),
        *errors(signing_second.coinbase_list, CODES),
        *OTHERS,
    ],
)


class TestCoinbase(WatchedContract):
    exchange = EXCHANGE

    @pytest.fixture
    def made_up_secret(self, watch: Watch) -> MakesSecrets:
        return secrets_of(watch)
