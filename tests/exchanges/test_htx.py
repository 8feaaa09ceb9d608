"""
HTX: what its documented answers mean, and that real ccxt is answered and refused as documented.
"""

from datetime import UTC, datetime, timedelta
from ipaddress import ip_network
from typing import Any

import pytest
from hypothesis import given, settings

from reconciler.exchanges.facts import Access, Cap, Environment, Grant, IpRule, KeyFacts, Status
from reconciler.exchanges.htx import ADAPTER
from tests.exchanges import asking, signing_second
from tests.exchanges.documented import (
    AT,
    KEY,
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


def grant(raw: str, *caps: Cap, access: Access = Access.WRITE) -> Grant:
    """Return a reported grant."""
    return Grant(raw, frozenset(caps), access=access, separable=len(caps) == 1)


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


ROWS = [
    pytest.param(documented(), facts(), id="good; main account or not is not knowable"),
    pytest.param(
        documented(permission="readOnly,trade,withdraw"),
        facts(grants=(READ, TRADE, grant("withdraw", Cap.WITHDRAW))),
        id="excess: withdrawal",
    ),
    pytest.param(
        documented(permission="readOnly,trade,novelThing"),
        facts(grants=(READ, TRADE, grant("novelThing", Cap.OTHER))),
        id="an unknown name",
    ),
    pytest.param(
        documented(permission="readOnly"),
        facts(grants=(READ,), read_only=True),
        id="read-only: trading is missing",
    ),
    pytest.param(
        documented(permission=""), facts(grants=(), read_only=True), id="nothing granted at all"
    ),
    pytest.param(
        changed(documented(ipAddresses="", validDays=60), "at", documented()["at"]),
        facts(
            ip=IpRule(bound=False, listed=True),
            expires_at=AT + timedelta(days=60),
            never_expires=False,
        ),
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
        id="bound elsewhere, to a network, too",
    ),
    pytest.param(documented(validDays=12), ending(12), id="expires soon"),
    pytest.param(documented(validDays=0), ending(0), id="its last day is over"),
    pytest.param(documented(status="expired"), facts(frozen="expired"), id="expired by its state"),
    pytest.param(documented(key="another-key"), facts(same_key=False), id="about another key"),
    pytest.param(
        changed(documented(), "key", {"code": 1002, "message": "forbidden"}),
        UNKNOWN,
        id="a sub-user's: not knowable",
    ),
    pytest.param(
        changed(documented(), "key", {"code": 4711, "message": "novel"}),
        UNKNOWN,
        id="refused with an unknown code: not knowable",
    ),
    pytest.param(
        changed(documented(), "key.data.0.createTime", ...),
        facts(created_at=None),
        id="its age is not knowable",
    ),
]

COARSE = "INFO PERM_COARSE"
NOTHING_TOLD = ["WARNING IP_NOT_KNOWABLE", "WARNING PERM_NOT_KNOWABLE", "INFO EXPIRY_NOT_SHOWN"]
FINDINGS = {
    "good; main account or not is not knowable": [COARSE],
    "excess: withdrawal": ["CRITICAL PERM_WITHDRAW", COARSE],
    "an unknown name": ["ERROR PERM_FORBIDDEN", COARSE],
    "read-only: trading is missing": ["ERROR PERM_MISSING"],
    "nothing granted at all": ["ERROR PERM_MISSING"],
    "unbound, so it ends": ["ERROR IP_UNBOUND", COARSE],
    "bound elsewhere, to a network, too": ["ERROR IP_MISSING_SERVER", "WARNING IP_EXTRA", COARSE],
    "expires soon": ["WARNING EXPIRES_SOON", COARSE],
    "its last day is over": ["ERROR KEY_EXPIRED", COARSE],
    "expired by its state": ["ERROR KEY_FROZEN", COARSE],
    "about another key": ["CRITICAL KEY_MISMATCH", "WARNING PERM_NOT_KNOWABLE"],
    "a sub-user's: not knowable": NOTHING_TOLD,
    "refused with an unknown code: not knowable": NOTHING_TOLD,
    "its age is not knowable": [COARSE],
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


def test_a_live_key_where_a_test_one_belongs_is_a_finding() -> None:
    check(ADAPTER, documented(), facts(), Environment.TEST)
    assert findings(ADAPTER, facts(), Environment.TEST) == ["ERROR ENV_MISMATCH", COARSE]


def test_our_key_is_found_among_several() -> None:
    answer = documented()
    answer["key"]["data"].insert(0, answered("another-key", permission="withdraw")["data"][0])
    check(ADAPTER, answer, facts())


@pytest.mark.parametrize(
    ("path", "value"),
    [
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
        ("key.data.0.validDays", 99_999_999_999),
        ("key.data.0.status", ...),
        ("key.data.0.status", "hostile\x1b[31m"),
        ("key.data.0.createTime", "yesterday"),
        ("at", ...),
    ],
)
def test_a_hostile_answer_is_not_understood(path: str, value: Any) -> None:
    refuse(ADAPTER, [changed(documented(), path, value)])


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
    return {"apiKey": watch.secret("hex"), "secret": watch.secret("uuid")}


def test_real_ccxt_is_understood_after_two_requests(credentials: dict[str, str]) -> None:
    meant: list[str] = []
    key = answered(credentials["apiKey"], validDays=12)
    with serving(signing_second.htx, credentials, {USER: UID, OWN: key}) as server:
        begun = datetime.now(UTC)
        asked = asking.ask(ADAPTER, server.url, credentials, meant=meant)

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
        asked = asking.ask(ADAPTER, server.url, credentials)

    assert (asked.status, asked.facts) == (Status.VALID, UNKNOWN)


@pytest.mark.parametrize("code", ["1002", "2002", "429"])
def test_who_is_refused_the_first_question_is_not_asked_the_second(
    credentials: dict[str, str], code: str
) -> None:
    refused = {**UID, "code": int(code), "message": "words"}
    with serving(signing_second.htx, credentials, {USER: refused, OWN: answered()}) as server:
        asked = asking.ask(ADAPTER, server.url, credentials)

    assert (asked.status, asked.code) == (ADAPTER.codes[code], code)
    assert server.paths() == [USER]


@pytest.mark.parametrize("code", ["429", "500"])
def test_trouble_with_the_second_question_is_not_remembered_as_an_answer(
    credentials: dict[str, str], code: str
) -> None:
    with serving(signing_second.htx, credentials, {}) as server:
        server.script += [Reply(UID), signing_second.htx_error(code)]
        asked = asking.ask(ADAPTER, server.url, credentials)

    assert (asked.status, asked.code) == (ADAPTER.codes[code], code)


WRONG = [
    ("apiKey", "Incorrect Access key"),
    ("secret", "Verification failure"),
    ("clock", "Invalid submission time"),
]


@pytest.mark.parametrize(("wrong", "code"), WRONG)
def test_what_is_wrong_with_a_key_is_told_apart(
    credentials: dict[str, str], watch: Watch, wrong: str, code: str
) -> None:
    ours, skew = asking.spoilt(credentials, watch, wrong)
    with serving(signing_second.htx, credentials, {USER: UID, OWN: answered()}) as server:
        asked = asking.ask(ADAPTER, server.url, ours, skew_ms=skew)

    assert (asked.status, asked.code) == (asking.expected(wrong), code)
    assert server.paths() == [USER]


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
    "1003": Status.REJECTED,
    "2002": Status.INDETERMINATE,
    "4711": Status.INDETERMINATE,
}
CODES = [
    *(
        (signing_second.htx_words(f"{words} [中文]:198.51.100.7"), words, status)
        for words, status in WORDS.items()
    ),
    *((signing_second.htx_words("novel", code), code, status) for code, status in FIRST.items()),
    *((signing_second.htx_error(code), code, status) for code, status in SECOND.items()),
]


@pytest.mark.parametrize(("reply", "code", "status"), CODES, ids=[code for _, code, _ in CODES])
def test_an_error_code_has_its_status(
    credentials: dict[str, str], reply: Reply, code: str, status: Status
) -> None:
    with serving(signing_second.htx, credentials, {}) as server:
        server.script.append(reply)
        asked = asking.ask(ADAPTER, server.url, credentials)

    assert (asked.status, asked.code) == (status, code)
    assert len(server.calls) == 1


def test_every_code_of_the_adapter_is_in_the_table() -> None:
    assert set(ADAPTER.codes) <= {code for _, code, _ in CODES}


def test_that_a_clock_is_not_told_apart_is_said() -> None:
    assert "wrong clock" in refusal(ADAPTER, "1003").what


@pytest.mark.parametrize("earlier", [[], [Reply(UID)]], ids=["at first", "after the first answer"])
@pytest.mark.parametrize(("reply", "status"), asking.TROUBLE)
def test_trouble_on_the_way_is_never_a_wrong_key(
    credentials: dict[str, str], earlier: list[Reply], reply: Any, status: Status
) -> None:
    with serving(signing_second.htx, credentials, {}) as server:
        server.script += [*earlier, reply]
        asked = asking.ask(ADAPTER, server.url, credentials)

    assert asked.status is status
