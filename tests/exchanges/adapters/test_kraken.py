"""
Kraken: what its documented answers mean, and that real ccxt is answered and refused as documented.
"""

from datetime import UTC, datetime
from ipaddress import ip_network
from typing import Any

import pytest

from reconciler.exchanges.adapters.kraken import ADAPTERS
from reconciler.model.key_facts import Cap, Environment, IpRule, KeyFacts, Status
from reconciler.model.values import replace
from reconciler.testing.adapters import Exchange, GoodKey, errors, spoilt
from reconciler.testing.documented_answers import (
    KEY,
    WANTED,
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
PATH = "/0/private/GetApiKeyInfo"
SPOT_WANTED = replace(WANTED, require=frozenset({Cap.SPOT, Cap.ACCOUNT_READ}))
ENDS = 1_765_000_000  # 2025-12-06, two weeks after the tables' day


def documented(key: str = KEY, **result: Any) -> dict[str, Any]:
    """Return the documented answer for a key that may trade and is bound."""
    return {
        "error": [],
        "result": {
            "apiKeyName": "a name of its owner",
            "apiKey": key,
            "nonce": "1772627060997",
            "nonceWindow": 0,
            "permissions": ["query-funds", "query-open-trades", "modify-trades", "close-trades"],
            "iban": "AA88 N84G WOAK NMOI",
            "validUntil": "0",
            "queryFrom": "0",
            "queryTo": "0",
            "createdTime": "1728443843",
            "modifiedTime": "1728443843",
            "ipAllowlist": ["203.0.113.10"],
            "lastUsed": "1763800000",
            **result,
        },
    }


FUNDS = reading("query-funds")
OPEN = reading("query-open-trades")
MODIFY = grant("modify-trades", Cap.SPOT, Cap.MARGIN)
CLOSE = grant("close-trades", Cap.SPOT, Cap.MARGIN)
USUAL = (FUNDS, OPEN, MODIFY, CLOSE)
RAW = [one.raw for one in USUAL]
COARSE = ["INFO PERM_COARSE", "INFO PERM_COARSE"]  # margin comes with both


def facts(**fields: Any) -> KeyFacts:
    """Return what the documented answer means, with other fields."""
    told: dict[str, Any] = {
        "grants": USUAL,
        "ip": IpRule(bound=True, networks=(ip_network("203.0.113.10"),), listed=True),
        "read_only": False,
        "created_at": datetime(2024, 10, 9, 3, 17, 23, tzinfo=UTC),
        "never_expires": True,
        "environment": Environment.LIVE,
        "same_key": True,
    }
    return KeyFacts(**{**told, **fields})


ROWS = [
    pytest.param(documented(), facts(), COARSE, id="good; sub-account not knowable"),
    pytest.param(
        documented(permissions=[*RAW, "withdraw-funds"]),
        facts(grants=(*USUAL, grant("withdraw-funds", Cap.WITHDRAW))),
        ["CRITICAL PERM_WITHDRAW", *COARSE],
        id="excess: withdrawal",
    ),
    pytest.param(
        documented(permissions=[*RAW, "add-withdraw-address", "update-withdraw-address"]),
        facts(
            grants=(
                *USUAL,
                grant("add-withdraw-address", Cap.WITHDRAW),
                grant("update-withdraw-address", Cap.WITHDRAW),
            )
        ),
        ["CRITICAL PERM_WITHDRAW", "CRITICAL PERM_WITHDRAW", *COARSE],
        id="excess: addresses of withdrawals",
    ),
    pytest.param(
        documented(permissions=[*RAW, "add-funds", "future-transfer-funds"]),
        facts(
            grants=(
                *USUAL,
                grant("add-funds", Cap.OTHER),
                grant("future-transfer-funds", Cap.TRANSFER),
            )
        ),
        ["ERROR PERM_FORBIDDEN", "ERROR PERM_FORBIDDEN", *COARSE],
        id="excess: deposits, and transfers to the futures",
    ),
    pytest.param(
        documented(permissions=[*RAW, "earn-funds", "add-funds", "export-data"]),
        facts(
            grants=(
                *USUAL,
                grant("earn-funds", Cap.EARN),
                grant("add-funds", Cap.OTHER),
                reading("export-data", Cap.OTHER),
            )
        ),
        ["ERROR PERM_FORBIDDEN", "ERROR PERM_FORBIDDEN", "WARNING PERM_UNKNOWN_NAME", *COARSE],
        id="excess: earn, deposits, exports",
    ),
    pytest.param(
        documented(permissions=[*RAW, "query-closed-trades", "query-ledger", "create-ws-token"]),
        facts(
            grants=(
                *USUAL,
                reading("query-closed-trades"),
                reading("query-ledger"),
                reading("create-ws-token"),
            )
        ),
        COARSE,
        id="everything that reads",
    ),
    pytest.param(
        documented(permissions=[*RAW, "query-novel-thing"]),
        facts(grants=(*USUAL, grant("query-novel-thing", Cap.OTHER))),
        ["ERROR PERM_FORBIDDEN", *COARSE],
        id="unknown name",
    ),
    pytest.param(
        documented(permissions=["query-funds", "close-trades"]),
        facts(grants=(FUNDS, grant("close-trades", Cap.OTHER))),
        ["ERROR PERM_FORBIDDEN", "ERROR PERM_MISSING"],
        id="missing: it may only cancel",
    ),
    pytest.param(
        documented(permissions=["query-funds", "query-open-trades"]),
        facts(grants=(FUNDS, OPEN), read_only=True),
        ["ERROR PERM_MISSING"],
        id="read-only",
    ),
    pytest.param(
        documented(permissions=[]),
        facts(grants=(), read_only=True),
        ["ERROR PERM_MISSING"],
        id="nothing granted at all",
    ),
    pytest.param(
        documented(ipAllowlist=[]),
        facts(ip=IpRule(bound=False, listed=True)),
        ["ERROR IP_UNBOUND", *COARSE],
        id="unbound",
    ),
    pytest.param(
        documented(ipAllowlist=["198.51.100.0/28"]),
        facts(ip=IpRule(bound=True, networks=(ip_network("198.51.100.0/28"),), listed=True)),
        ["ERROR IP_MISSING_SERVER", "WARNING IP_EXTRA", *COARSE],
        id="bound elsewhere",
    ),
    pytest.param(
        documented(ipAllowlist=["office"]),
        facts(ip=IpRule()),
        ["WARNING IP_NOT_KNOWABLE", *COARSE],
        id="an entry that is no address: not knowable",
    ),
    pytest.param(
        documented(validUntil=str(ENDS)),
        facts(expires_at=datetime.fromtimestamp(ENDS, UTC), never_expires=False),
        ["WARNING EXPIRES_SOON", *COARSE],
        id="expiring",
    ),
    pytest.param(
        documented(validUntil="1763000000"),
        facts(expires_at=datetime.fromtimestamp(1_763_000_000, UTC), never_expires=False),
        ["ERROR KEY_EXPIRED", *COARSE],
        id="expired",
    ),
    pytest.param(
        documented(key="another-key"),
        facts(same_key=False),
        ["CRITICAL KEY_MISMATCH", "WARNING PERM_NOT_KNOWABLE"],
        id="about another key",
    ),
    pytest.param(
        changed(documented(), "result.createdTime", ...),
        facts(created_at=None),
        COARSE,
        id="without its age: not knowable",
    ),
]


def test_what_kraken_knows_is_a_live_key() -> None:
    check(ADAPTER, documented(), facts(), Environment.TEST)

    found = findings(ADAPTER, facts(), Environment.TEST, wanted=SPOT_WANTED)
    assert found == ["ERROR ENV_MISMATCH", *COARSE]


def test_no_permission_of_the_spot_exchange_is_for_perpetuals() -> None:
    assert findings(ADAPTER, facts()) == ["ERROR PERM_MISSING", *COARSE]


def test_asking_may_disturb_the_trader() -> None:
    assert ADAPTER.disturbs_trading


HOSTILE = spoilt(
    documented(),
    ("error", ...),
    ("error", ["EGeneral:hostile"]),
    ("error", "hostile"),
    ("error", None),
    ("result", ...),
    ("result", []),
    ("result", "hostile"),
    ("result.permissions", ...),
    ("result.permissions", None),
    ("result.permissions", "query-funds"),
    ("result.permissions", ["hostile\nline"]),
    ("result.permissions", [{"hostile": 1}]),
    ("result.ipAllowlist", ...),
    ("result.ipAllowlist", None),
    ("result.ipAllowlist", "203.0.113.10"),
    ("result.ipAllowlist", [17]),
    ("result.validUntil", ...),
    ("result.validUntil", None),
    ("result.validUntil", "soon"),
    ("result.validUntil", 10**14),
    ("result.validUntil", True),
    ("result.createdTime", "hostile"),
    ("result.apiKey", ...),
    ("result.apiKey", 17),
)


@pytest.fixture
def credentials(watch: Watch) -> dict[str, str]:
    """A made-up key."""
    return EXCHANGE.made_up(watch.secret)


CODES = {
    "EAPI:Invalid key": Status.REJECTED,
    "EAPI:Invalid signature": Status.REJECTED,
    "EAPI:Invalid nonce": Status.CLOCK,
    "EAPI:Rate limit exceeded": Status.RATE_LIMITED,
    "EDatabase:Internal error": Status.UNREACHABLE,
    "EGeneral:Internal error": Status.UNREACHABLE,
    "EGeneral:Invalid arguments": Status.INDETERMINATE,
    "EGeneral:Permission denied": Status.DENIED,
    "EGeneral:Temporary lockout": Status.RATE_LIMITED,
    "EGeneral:Too many requests": Status.RATE_LIMITED,
    "EService:Busy": Status.UNREACHABLE,
    "EService:Unavailable": Status.UNREACHABLE,
    "ESession:Invalid session": Status.INDETERMINATE,
    "EAPI:Novel words": Status.INDETERMINATE,
}


def test_a_wrong_key_is_critical_and_a_small_nonce_is_not() -> None:
    assert refusal(ADAPTER, "EAPI:Invalid signature").code == "KEY_REJECTED"
    assert refusal(ADAPTER, "EAPI:Invalid nonce").code == "CLOCK_SKEW"


EXCHANGE = Exchange(
    more=lambda answer, name: changed(
        answer, "result.permissions", [*answer["result"]["permissions"], name]
    ),
    adapters=ADAPTERS,
    check=signing_more.kraken,
    made_up=made_of(apiKey="base64-32", secret="base64-64"),  # as Kraken's are
    documented=documented(),
    mangled=mangled(documented()),
    rows=ROWS,
    hostile=HOSTILE,
    good=(
        GoodKey(
            ADAPTER,
            "api.kraken.com",
            (PATH,),
            lambda key: {PATH: documented(key)},
            facts(),
            method="POST",
        ),
    ),
    malformed=(("secret", "{}!".format), ("secret", lambda secret: secret[:-3])),
    wrong={
        "apiKey": "EAPI:Invalid key",
        "secret": "EAPI:Invalid signature",
        "clock": "EAPI:Invalid nonce",
    },
    errors=errors(signing_more.kraken_error, CODES, 200, 403),
    wanted=SPOT_WANTED,
)


class TestKraken(WatchedContract):
    exchange = EXCHANGE
