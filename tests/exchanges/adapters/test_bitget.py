"""
Bitget: what its documented answers mean, and that real ccxt is answered and refused as documented.
"""

import base64
import hashlib
import hmac
import time
from collections.abc import Mapping
from ipaddress import ip_network
from typing import Any

import pytest

from reconciler.exchanges.adapters.bitget import ADAPTERS
from reconciler.model.key_facts import (
    Access,
    Cap,
    Environment,
    Grant,
    GrantEvidence,
    IpRule,
    KeyFacts,
    Status,
)
from reconciler.testing import exchange_server, through_ccxt
from reconciler.testing.adapters import Exchange, GoodKey, errors, spoilt
from reconciler.testing.documented_answers import changed, check, mangled
from reconciler.testing.exchange_server import Call, Reply
from tests.exchanges.contract import WatchedContract, made_of
from tests.support.leaks import Watch

ADAPTER = ADAPTERS[0]
CLASSIC = "/api/v2/spot/account/info"
UNIFIED = "/api/v3/account/info"


def answer(data: Mapping[str, Any]) -> dict[str, Any]:
    """Return an answer in Bitget's shape."""
    return {"code": "00000", "msg": "success", "requestTime": 1763800000000, "data": dict(data)}


def documented(*authorities: str, **fields: Any) -> dict[str, Any]:
    """Return what a key of a classic account is told, one that may trade and is bound."""
    return answer(
        {
            "userId": "10000001",
            "inviterId": "10000009",
            "ips": "203.0.113.10",
            "authorities": list(authorities or ("coow", "cpow", "stow", "coor", "cpor", "stor")),
            "parentId": 10000000,
            "traderType": "trader",
            "channelCode": "code",
            "channel": "api",
            "regisTime": "1246566789345",
            **fields,
        }
    )


def unified(*permissions: str, **fields: Any) -> dict[str, Any]:
    """Return what a key of a unified account is told."""
    return answer(
        {
            "userId": "10000001",
            "inviterId": "",
            "parentId": "10000000",
            "ips": ["203.0.113.10"],
            "permType": "read-and-write",
            "permissions": list(permissions or ("uta_trade",)),
            **fields,
        }
    )


def grant(raw: str, *caps: Cap, **fields: Any) -> Grant:
    """Return a grant; its access as the last letter says, coarse with several capabilities."""
    access = Access.READ if raw.endswith("r") else Access.WRITE
    return Grant(raw, frozenset(caps), **{"access": access, "separable": len(caps) == 1, **fields})


DERIVATIVES = (Cap.PERPETUAL, Cap.DELIVERY)
TRADING = (
    grant("coow", *DERIVATIVES),
    grant("cpow", *DERIVATIVES),
    grant("stow", Cap.SPOT),
    grant("coor", *DERIVATIVES),
    grant("cpor", *DERIVATIVES),
    grant("stor", Cap.SPOT),
)
MARKETS = (Cap.SPOT, Cap.PERPETUAL, Cap.DELIVERY, Cap.MARGIN)
BOUND = IpRule(bound=True, networks=(ip_network("203.0.113.10"),), listed=True)


def facts(*grants: Grant, **fields: Any) -> KeyFacts:
    """Return what the documented answer means, with other grants and fields."""
    told: dict[str, Any] = {
        "grants": grants or TRADING,
        "ip": BOUND,
        "unproven": frozenset({Cap.ACCOUNT_READ}),
        "read_only": False,
        "environment": Environment.LIVE,
        "master": False,
    }
    return KeyFacts(**{**told, **fields})


# Bitget tells neither expiry nor age of any key.
USUAL = ["INFO EXPIRY_NOT_SHOWN"]
ROWS = [
    pytest.param(documented(), facts(), USUAL, id="good"),
    pytest.param(
        documented("coow", "stow", "wtow", "wwow"),
        facts(
            grant("coow", *DERIVATIVES),
            grant("stow", Cap.SPOT),
            grant("wtow", Cap.TRANSFER),
            grant("wwow", Cap.WITHDRAW),
        ),
        ["CRITICAL PERM_WITHDRAW", "ERROR PERM_FORBIDDEN", *USUAL],
        id="excess: wallet and withdrawal",
    ),
    pytest.param(
        documented("coow", "stow", "smow", "ttow", "chow", "p2p", "pllw", "taxw"),
        facts(
            grant("coow", *DERIVATIVES),
            grant("stow", Cap.SPOT),
            grant("smow", Cap.MARGIN),
            grant("ttow", Cap.COPY),
            grant("chow", Cap.SUBACCOUNT),
            grant("p2p", Cap.P2P),
            grant("pllw", Cap.LOAN),
            grant("taxw", Cap.TAX),
        ),
        [*["ERROR PERM_FORBIDDEN"] * 6, *USUAL],
        id="excess: everything else that writes",
    ),
    pytest.param(
        documented("coow", "stow", "smor", "ttor", "wtor", "taxr", "chor", "p2pr", "pllr"),
        facts(
            grant("coow", *DERIVATIVES),
            grant("stow", Cap.SPOT),
            grant("smor", Cap.MARGIN),
            grant("ttor", Cap.COPY),
            grant("wtor", Cap.TRANSFER),
            grant("taxr", Cap.TAX),
            grant("chor", Cap.SUBACCOUNT),
            grant("p2pr", Cap.P2P),
            grant("pllr", Cap.LOAN),
        ),
        [*["WARNING PERM_FORBIDDEN"] * 7, *USUAL],
        id="excess: everything else that reads",
    ),
    pytest.param(
        documented("coow", "stow", "nvow", "coox", "co"),
        facts(
            grant("coow", *DERIVATIVES),
            grant("stow", Cap.SPOT),
            grant("nvow", Cap.OTHER),
            grant("coox", Cap.OTHER),
            grant("co", Cap.OTHER),
        ),
        [*["ERROR PERM_FORBIDDEN"] * 3, *USUAL],
        id="unknown names",
    ),
    pytest.param(
        documented("stow"),
        facts(grant("stow", Cap.SPOT)),
        ["ERROR PERM_MISSING", *USUAL],
        id="missing: contracts",
    ),
    pytest.param(
        documented(ips=""),
        facts(ip=IpRule(bound=False, listed=True)),
        ["ERROR IP_UNBOUND", *USUAL],
        id="unbound",
    ),
    pytest.param(
        documented(ips="198.51.100.7,198.51.100.8"),
        facts(
            ip=IpRule(
                bound=True,
                networks=(ip_network("198.51.100.7"), ip_network("198.51.100.8")),
                listed=True,
            )
        ),
        ["ERROR IP_MISSING_SERVER", "WARNING IP_EXTRA", *USUAL],
        id="bound elsewhere",
    ),
    pytest.param(
        documented(ips=None),
        facts(ip=IpRule()),
        ["WARNING IP_NOT_KNOWABLE", *USUAL],
        id="binding not told",
    ),
    pytest.param(
        documented("coor", "stor"),
        facts(grant("coor", *DERIVATIVES), grant("stor", Cap.SPOT), read_only=True),
        ["ERROR KEY_READ_ONLY", *USUAL],
        id="read-only",
    ),
    pytest.param(
        documented(parentId="10000001"),
        facts(master=True),
        ["WARNING MASTER_KEY", *USUAL],
        id="main account",
    ),
    pytest.param(
        documented(parentId=0), facts(master=None), USUAL, id="which account: not knowable"
    ),
    pytest.param(
        documented("trade", "readonly"),
        facts(
            grant(
                "trade",
                *MARKETS,
                Cap.TRANSFER,
                evidence=GrantEvidence.INFERRED,
            ),
            grant(
                "readonly", Cap.ACCOUNT_READ, access=Access.READ, evidence=GrantEvidence.INFERRED
            ),
        ),
        [
            "WARNING PERM_NOT_KNOWABLE",
            "WARNING PERM_NOT_KNOWABLE",
            "INFO EXPIRY_NOT_SHOWN",
            "INFO PERM_COARSE",
            "INFO PROBED",
        ],
        id="the older words of the documentation's example: not knowable",
    ),
    pytest.param(
        unified(),
        facts(grant("uta_trade", *MARKETS)),
        ["INFO EXPIRY_NOT_SHOWN", "INFO PERM_COARSE"],
        id="unified: good, coarse",
    ),
    pytest.param(
        unified(parentId=""),
        facts(grant("uta_trade", *MARKETS), master=True),
        ["WARNING MASTER_KEY", "INFO EXPIRY_NOT_SHOWN", "INFO PERM_COARSE"],
        id="unified: without a parent it is the main account",
    ),
    pytest.param(
        unified("uta_trade", "uta_mgt"),
        facts(grant("uta_trade", *MARKETS), grant("uta_mgt", Cap.UNIFIED)),
        ["ERROR PERM_FORBIDDEN", "INFO EXPIRY_NOT_SHOWN", "INFO PERM_COARSE"],
        id="unified: its management is allowed by name only",
    ),
    pytest.param(
        unified("uta_trade", "uta_mgt", "withdraw", "copy_futures_trade"),
        facts(
            grant("uta_trade", *MARKETS),
            grant("uta_mgt", Cap.UNIFIED),
            grant("withdraw", Cap.WITHDRAW),
            grant("copy_futures_trade", Cap.COPY),
        ),
        [
            "CRITICAL PERM_WITHDRAW",
            "ERROR PERM_FORBIDDEN",
            "ERROR PERM_FORBIDDEN",
            "INFO EXPIRY_NOT_SHOWN",
            "INFO PERM_COARSE",
        ],
        id="unified: excess",
    ),
    pytest.param(
        unified(permType="read-only", ips=[]),
        facts(
            grant("uta_trade", *MARKETS, access=Access.READ),
            read_only=True,
            ip=IpRule(bound=False, listed=True),
        ),
        ["ERROR IP_UNBOUND", "ERROR KEY_READ_ONLY", "INFO EXPIRY_NOT_SHOWN", "INFO PERM_COARSE"],
        id="unified: read-only and unbound",
    ),
]


def test_an_answer_proves_the_environment_that_was_asked() -> None:
    check(ADAPTER, documented(), facts(environment=Environment.TEST), Environment.TEST)


HOSTILE = spoilt(
    documented(),
    ("code", ...),
    ("code", "40014"),
    ("code", None),
    ("data", ...),
    ("data", [documented()["data"]]),
    ("data.ips", ...),
    ("data.ips", 7),
    ("data.authorities", ...),
    ("data.authorities", None),
    ("data.authorities", "stow"),
    ("data.authorities", [7]),
    ("data.authorities", ["hostile\x1b[2J"]),
)


UNIFIED_HOSTILE = spoilt(
    unified(),
    ("data.permType", "hostile"),
    ("data.permType", None),
    ("data.permissions", ...),
    ("data.permissions", "uta_trade"),
    ("data.permissions", ["hostile\n"]),
    ("data.ips", [7]),
)


def bitget(call: Call, known: Mapping[str, str], environment: Environment) -> Reply | None:
    """HMAC-SHA256, base64, of time, method, target and body; a passphrase; a header for demo."""
    headers = call.headers
    sent = headers.get("access-timestamp", "0")
    if headers.get("access-key") != known["apiKey"]:
        return bitget_error("40037")
    if (headers.get("paptrading") == "1") is not (environment is Environment.TEST):
        return bitget_error("40099")
    if abs(time.time() - int(sent) / 1000) > 30:
        return bitget_error("40008")
    signed = f"{sent}{call.method}{call.target}{call.body.decode()}"
    wanted = hmac.new(known["secret"].encode(), signed.encode(), hashlib.sha256).digest()
    if not hmac.compare_digest(base64.b64encode(wanted).decode(), headers.get("access-sign", "")):
        return bitget_error("40009")
    return None if headers.get("access-passphrase") == known["password"] else bitget_error("40012")


def bitget_error(code: str, status: int = 400) -> Reply:
    """Return an error in Bitget's shape."""
    return Reply({"code": code, "msg": "words", "requestTime": 1763800000000, "data": None}, status)


@pytest.fixture
def credentials(watch: Watch) -> dict[str, str]:
    """A made-up key."""
    return EXCHANGE.made_up(watch.secret)


def test_a_unified_account_is_asked_in_its_own_way(credentials: dict[str, str]) -> None:
    with exchange_server.serving(bitget, credentials, {UNIFIED: unified()}) as server:
        server.answers[CLASSIC] = bitget_error("40085")
        asked = through_ccxt.ask(ADAPTER, server.url, credentials)

    assert (asked.status, asked.facts) == (Status.VALID, facts(grant("uta_trade", *MARKETS)))
    assert server.paths() == [CLASSIC, UNIFIED]


def test_a_key_of_the_other_environment_is_told_apart(credentials: dict[str, str]) -> None:
    with exchange_server.serving(bitget, credentials, {}, Environment.LIVE) as server:
        asked = through_ccxt.ask(ADAPTER, server.url, credentials, Environment.TEST)

    assert (asked.status, asked.code) == (Status.REJECTED, "40099")


CODES = {
    "429": Status.RATE_LIMITED,
    "30007": Status.RATE_LIMITED,
    "40001": Status.INDETERMINATE,
    "40002": Status.INDETERMINATE,
    "40003": Status.INDETERMINATE,
    "40004": Status.CLOCK,
    "40005": Status.CLOCK,
    "40006": Status.REJECTED,
    "40008": Status.CLOCK,
    "40009": Status.REJECTED,
    "40010": Status.INDETERMINATE,
    "40011": Status.INDETERMINATE,
    "40012": Status.REJECTED,
    "40013": Status.INDETERMINATE,
    "40014": Status.DENIED,
    "40015": Status.UNREACHABLE,
    "40016": Status.INDETERMINATE,
    "40018": Status.IP_REFUSED,
    "40036": Status.REJECTED,
    "40037": Status.REJECTED,
    "40038": Status.IP_REFUSED,
    "40084": Status.INDETERMINATE,
    "40099": Status.REJECTED,
    "49999": Status.INDETERMINATE,
}


def one_more(answer: Any, name: str) -> Any:
    """Return the answer with one more permission, of either kind of account."""
    of_unified = name.startswith(("uta_", "copy_")) or name == "withdraw"
    if of_unified and "permissions" not in answer["data"]:
        answer = unified()
    field = "permissions" if "permissions" in answer["data"] else "authorities"
    return changed(answer, f"data.{field}", [*answer["data"][field], name])


EXCHANGE = Exchange(
    more=one_more,
    adapters=ADAPTERS,
    check=bitget,
    made_up=made_of(apiKey="base62", secret="hex", password="base62"),
    documented=documented(),
    mangled=mangled(documented()) | mangled(unified()),
    rows=ROWS,
    hostile=HOSTILE + UNIFIED_HOSTILE,
    good=tuple(
        GoodKey(
            ADAPTER,
            "api.bitget.com",
            (CLASSIC,),
            lambda _key: {CLASSIC: documented()},
            facts(environment=environment),
            environment,
        )
        for environment in Environment
    ),
    wrong={"apiKey": "40037", "secret": "40009", "password": "40012", "clock": "40008"},
    errors=errors(bitget_error, CODES),
    sent=frozenset({"apiKey", "password"}),
    told_elsewhere=frozenset({"40085"}),  # of a unified account
)


class TestBitget(WatchedContract):
    exchange = EXCHANGE
