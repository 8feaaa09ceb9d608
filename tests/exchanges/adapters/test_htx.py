"""
HTX: what its documented answers mean, and that real ccxt is answered and refused as documented.
"""

from datetime import UTC, datetime, timedelta
from ipaddress import ip_network
from typing import Any

import pytest

from reconciler.exchanges.adapters.htx import ADAPTERS
from reconciler.model.key_facts import Access, Cap, Environment, IpRule, KeyFacts, Status
from reconciler.testing import through_ccxt
from reconciler.testing.adapters import Exchange, GoodKey, errors, spoilt
from reconciler.testing.documented_answers import (
    AT,
    KEY,
    changed,
    check,
    findings,
    grant,
    mangled,
    refusal,
)
from reconciler.testing.exchange_server import Reply, serving
from tests.exchanges import signing_second
from tests.exchanges.contract import WatchedContract, made_of
from tests.support.leaks import Watch

ADAPTER = ADAPTERS[0]
USER = "/v2/user/uid"
OWN = "/v2/user/api-key"
UID = {"code": 200, "data": 63_628_520}


def answered(key: str = KEY, **data: Any) -> dict[str, Any]:
    """Return the documented answer to the second question, for a key that may trade."""
    record = {
        "accessKey": key,
        "note": "a note of its owner",
        "permission": "readOnly,trade",
        "ipAddresses": "203.0.113.10",
        "validDays": -1,
        "status": "normal",
        "createTime": 1_728_443_843_000,
        "updateTime": 1_728_443_843_000,
        **data,
    }
    return {"code": 200, "message": "success", "data": [record]}


def documented(key: str = KEY, **data: Any) -> dict[str, Any]:
    """Return what `fetch` brings of it."""
    return {"user": UID, "key": answered(key, **data), "at": int(AT.timestamp() * 1000)}


READ = grant("readOnly", Cap.ACCOUNT_READ, access=Access.READ)
TRADE = grant("trade", Cap.SPOT, Cap.MARGIN, Cap.PERPETUAL, Cap.DELIVERY, Cap.TRANSFER)
UNKNOWN = KeyFacts(environment=Environment.LIVE)


def facts(**fields: Any) -> KeyFacts:
    """Return what the documented answer means, with other fields."""
    told: dict[str, Any] = {
        "grants": (READ, TRADE),
        "ip": IpRule(bound=True, networks=(ip_network("203.0.113.10"),), listed=True),
        "read_only": False,
        "created_at": datetime(2024, 10, 9, 3, 17, 23, tzinfo=UTC),
        "never_expires": True,
        "environment": Environment.LIVE,
        "same_key": True,
    }
    return KeyFacts(**{**told, **fields})


def ending(days: int) -> KeyFacts:
    """Return the facts of a key that lives so long."""
    return facts(expires_at=AT + timedelta(days=days), never_expires=False)


COARSE = "INFO PERM_COARSE"
NOTHING_TOLD = ["WARNING IP_NOT_KNOWABLE", "WARNING PERM_NOT_KNOWABLE", "INFO EXPIRY_NOT_SHOWN"]
PERHAPS = "within a day, or never: it is said to be normal, with 0 days left"
ROWS = [
    pytest.param(documented(), facts(), [COARSE], id="good; main account or not is not knowable"),
    pytest.param(
        documented(permission="readOnly,trade,withdraw"),
        facts(grants=(READ, TRADE, grant("withdraw", Cap.WITHDRAW))),
        ["CRITICAL PERM_WITHDRAW", COARSE],
        id="excess: withdrawal",
    ),
    pytest.param(
        documented(permission="readOnly,trade,novelThing"),
        facts(grants=(READ, TRADE, grant("novelThing", Cap.OTHER))),
        ["ERROR PERM_FORBIDDEN", COARSE],
        id="an unknown name",
    ),
    pytest.param(
        documented(permission="readOnly"),
        facts(grants=(READ,), read_only=True),
        ["ERROR PERM_MISSING"],
        id="read-only: trading is missing",
    ),
    pytest.param(
        documented(permission=""),
        facts(grants=(), read_only=True),
        ["ERROR PERM_MISSING"],
        id="nothing granted at all",
    ),
    pytest.param(
        changed(documented(ipAddresses="", validDays=60), "at", documented()["at"]),
        facts(
            ip=IpRule(bound=False, listed=True),
            expires_at=AT + timedelta(days=60),
            never_expires=False,
        ),
        ["ERROR IP_UNBOUND", COARSE],
        id="unbound, so it ends",
    ),
    pytest.param(
        documented(ipAddresses="198.51.100.7,192.0.2.0/24"),
        facts(
            ip=IpRule(
                bound=True,
                networks=(ip_network("198.51.100.7"), ip_network("192.0.2.0/24")),
                listed=True,
            )
        ),
        ["ERROR IP_MISSING_SERVER", "WARNING IP_EXTRA", COARSE],
        id="bound elsewhere, to a network, too",
    ),
    pytest.param(
        documented(validDays=12), ending(12), ["WARNING EXPIRES_SOON", COARSE], id="expires soon"
    ),
    pytest.param(
        documented(validDays=0),
        facts(never_expires=False, traits={"lapses": PERHAPS}),
        ["WARNING EXPIRES_SOON", COARSE],
        id="no days left, and normal: not knowable when",
    ),
    pytest.param(
        documented(validDays=0, status="expired"),
        facts(expires_at=AT, never_expires=False, frozen="expired"),
        ["ERROR KEY_EXPIRED", "ERROR KEY_FROZEN", COARSE],
        id="no days left, and expired",
    ),
    pytest.param(
        documented(status="expired"),
        facts(expires_at=AT, never_expires=False, frozen="expired"),
        ["ERROR KEY_EXPIRED", "ERROR KEY_FROZEN", COARSE],
        id="expired by its state",
    ),
    pytest.param(
        documented(key="another-key"),
        facts(same_key=False),
        ["CRITICAL KEY_MISMATCH", "WARNING PERM_NOT_KNOWABLE"],
        id="about another key",
    ),
    pytest.param(
        changed(documented(), "key", {"code": 1002, "message": "forbidden"}),
        UNKNOWN,
        NOTHING_TOLD,
        id="a sub-user's: not knowable",
    ),
    pytest.param(
        changed(documented(), "key", {"code": 4711, "message": "novel"}),
        UNKNOWN,
        NOTHING_TOLD,
        id="refused with an unknown code: not knowable",
    ),
    pytest.param(
        changed(documented(), "key.data.0.createTime", ...),
        facts(created_at=None),
        [COARSE],
        id="its age is not knowable",
    ),
]


def test_a_live_key_where_a_test_one_belongs_is_a_finding() -> None:
    check(ADAPTER, documented(), facts(), Environment.TEST)
    assert findings(ADAPTER, facts(), Environment.TEST) == ["ERROR ENV_MISMATCH", COARSE]


def test_our_key_is_found_among_several() -> None:
    answer = documented()
    answer["key"]["data"].insert(0, answered("another-key", permission="withdraw")["data"][0])
    check(ADAPTER, answer, facts())


HOSTILE = spoilt(
    documented(),
    ("user", ...),
    ("user", None),
    ("user.code", ...),
    ("user.code", 1002),
    ("user.data", ...),
    ("user.data", "hostile"),
    ("key", ...),
    ("key", []),
    ("key.code", ...),
    ("key.code", "hostile"),
    ("key.code", 429),
    ("key.code", 500),
    ("key.data", ...),
    ("key.data", []),
    ("key.data", ["hostile"]),
    ("key.data", {"hostile": 1}),
    ("key.data.0.accessKey", ...),
    ("key.data.0.accessKey", None),
    ("key.data.0.permission", ...),
    ("key.data.0.permission", ["readOnly"]),
    ("key.data.0.permission", "readOnly,hostile\nline"),
    ("key.data.0.ipAddresses", ...),
    ("key.data.0.ipAddresses", None),
    ("key.data.0.validDays", ...),
    ("key.data.0.validDays", "soon"),
    ("key.data.0.validDays", -2),
    ("key.data.0.validDays", 99_999_999_999),
    ("key.data.0.status", ...),
    ("key.data.0.status", "hostile\x1b[31m"),
    ("key.data.0.createTime", "yesterday"),
    ("at", ...),
)


@pytest.fixture
def credentials(watch: Watch) -> dict[str, str]:
    """A made-up key."""
    return EXCHANGE.made_up(watch.secret)


def test_real_ccxt_is_understood_after_two_requests(credentials: dict[str, str]) -> None:
    meant: list[str] = []
    key = answered(credentials["apiKey"], validDays=12)
    with serving(signing_second.htx, credentials, {USER: UID, OWN: key}) as server:
        begun = datetime.now(UTC)
        asked = through_ccxt.ask(ADAPTER, server.url, credentials, meant=meant)

    assert asked.status is Status.VALID
    assert asked.facts is not None
    assert asked.facts.grants == (READ, TRADE)
    assert asked.facts.same_key
    ends = asked.facts.expires_at
    assert ends is not None
    assert abs(ends - begun - timedelta(days=12)) < timedelta(minutes=1)
    assert server.paths() == [USER, OWN]
    assert "uid=63628520" in server.calls[1].query
    assert f"accessKey={credentials['apiKey']}" in server.calls[1].query
    host = f"https://{signing_second.HTX_HOST}"
    assert meant == [host + USER, host + OWN]


def test_a_sub_users_key_is_valid_and_no_more_is_known(credentials: dict[str, str]) -> None:
    refused = {"code": 1002, "message": "forbidden"}
    with serving(signing_second.htx, credentials, {USER: UID, OWN: refused}) as server:
        asked = through_ccxt.ask(ADAPTER, server.url, credentials)

    assert (asked.status, asked.facts) == (Status.VALID, UNKNOWN)


@pytest.mark.parametrize("code", ["1002", "2002", "429"])
def test_who_is_refused_the_first_question_is_not_asked_the_second(
    credentials: dict[str, str], code: str
) -> None:
    refused = {**UID, "code": int(code), "message": "words"}
    with serving(signing_second.htx, credentials, {USER: refused, OWN: answered()}) as server:
        asked = through_ccxt.ask(ADAPTER, server.url, credentials)

    assert (asked.status, asked.code) == (ADAPTER.codes[code], code)
    assert server.paths() == [USER]


@pytest.mark.parametrize("code", ["429", "500"])
def test_trouble_with_the_second_question_is_not_remembered_as_an_answer(
    credentials: dict[str, str], code: str
) -> None:
    with serving(signing_second.htx, credentials, {}) as server:
        server.script += [Reply(UID), signing_second.htx_error(code)]
        asked = through_ccxt.ask(ADAPTER, server.url, credentials)

    assert (asked.status, asked.code) == (ADAPTER.codes[code], code)


WORDS = {
    "Incorrect Access key": Status.REJECTED,
    "Verification failure": Status.REJECTED,
    "Incorrect IP address": Status.IP_REFUSED,
    "API key has no permission": Status.DENIED,
    "Invalid submission time": Status.CLOCK,
}
FIRST = {
    "api-signature-not-valid": Status.REJECTED,
    "api-signature-check-failed": Status.REJECTED,
    "base-request-exceed-frequency-limit": Status.RATE_LIMITED,
    "rate-too-many-requests": Status.RATE_LIMITED,
    "gateway-internal-error": Status.UNREACHABLE,
    "system-maintenance": Status.UNREACHABLE,
    "novel-error": Status.INDETERMINATE,
}
SECOND = {
    "429": Status.RATE_LIMITED,
    "500": Status.UNREACHABLE,
    "1002": Status.INDETERMINATE,
    "1003": Status.INDETERMINATE,
    "2002": Status.INDETERMINATE,
    "4711": Status.INDETERMINATE,
}


def first(code: str) -> Reply:
    """Return an error in the shape of HTX's first version, of words that say nothing."""
    return signing_second.htx_words("novel", code)


CODES = [
    *(
        pytest.param(
            signing_second.htx_words(f"{words} [中文]:198.51.100.7"), words, status, id=words
        )
        for words, status in WORDS.items()
    ),
    *errors(first, FIRST),
    *errors(signing_second.htx_error, SECOND),
]


def test_an_ambiguous_code_stops_nothing() -> None:
    found = refusal(ADAPTER, "1003")

    assert (found.code, found.stops) == ("INDETERMINATE", False)
    assert "nobody documents of what else" in found.what


EXCHANGE = Exchange(
    more=lambda answer, name: changed(
        answer, "key.data.0.permission", f"{answer['key']['data'][0]['permission']},{name}"
    ),
    adapters=ADAPTERS,
    check=signing_second.htx,
    made_up=made_of(apiKey="hex", secret="uuid"),
    documented=documented(),
    mangled=mangled(documented()),
    rows=ROWS,
    hostile=HOSTILE,
    good=(
        GoodKey(
            ADAPTER,
            signing_second.HTX_HOST,
            (USER, OWN),
            lambda key: {USER: UID, OWN: answered(key)},
            facts(),
        ),
    ),
    wrong={
        "apiKey": "Incorrect Access key",
        "secret": "Verification failure",
        "clock": "Invalid submission time",
    },
    errors=CODES,
    before=((), (Reply(UID),)),
)


class TestHtx(WatchedContract):
    exchange = EXCHANGE
