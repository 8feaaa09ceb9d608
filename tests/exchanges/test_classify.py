"""
Errors as ccxt raises them from documented bodies, and what each means.

Every body goes through ccxt's own `handle_errors`, so that a row shows the class that it chooses
as well: an arrow in the reference is a row here.
"""

import json
from dataclasses import replace
from typing import Any

import ccxt
import pytest

from reconciler.exchanges.adapter import Adapter
from reconciler.exchanges.classify import classify
from reconciler.exchanges.parse import NotUnderstood
from reconciler.exchanges.registry import discovered
from reconciler.model.key_facts import TRANSIENT, Status
from tests.support.leaks import Watch

NOVEL = Adapter("novel")
"""Of an exchange of which no code is known."""
ADAPTERS = [*discovered().values(), NOVEL]


def raised(ccxt_id: str, body: Any, status: int = 200) -> BaseException | None:
    """Return what ccxt makes of an answer, None when it makes nothing of it."""
    exchange = getattr(ccxt, ccxt_id)()
    text = body if isinstance(body, str) else json.dumps(body)
    parsed = exchange.parse_json(text)
    url = "https://exchange.invalid/path?signature=feed"
    try:
        exchange.handle_errors(status, "reason", url, "GET", {}, text, parsed, {}, "")
        if status >= 400:
            exchange.handle_http_status_code(status, "reason", url, "GET", text)
            raise ccxt.ExchangeError(f"{ccxt_id} GET {url}")
    except ccxt.BaseError as error:
        found: BaseException = error
        return found
    return None


def meaning(ccxt_id: str, body: Any, status: int = 200) -> tuple[Status, str]:
    """Return what we make of it; a silent answer is refused by its parser."""
    text = body if isinstance(body, str) else json.dumps(body)
    error = raised(ccxt_id, body, status) or NotUnderstood("no such shape")
    return classify(error, text, discovered().get(ccxt_id, NOVEL))


def row(ccxt_id: str, body: Any, expected: tuple[Status, str], status: int = 200) -> Any:
    """Return a parameter set with a name."""
    return pytest.param(ccxt_id, body, expected, status, id=f"{ccxt_id} {expected[1]}")


def bybit_body(code: int) -> dict[str, Any]:
    """Return an error in Bybit's shape."""
    return {"retCode": code, "retMsg": "words", "result": {}}


def coded(code: Any) -> dict[str, Any]:
    """Return an error in the shape of most."""
    return {"code": code, "msg": "words"}


ROWS = [
    *(
        row("bybit", bybit_body(code), (status, str(code)))
        for code, status in (
            (10003, Status.REJECTED),
            (10004, Status.REJECTED),
            (10010, Status.IP_REFUSED),
            (10005, Status.DENIED),
            (10002, Status.CLOCK),
            (10006, Status.RATE_LIMITED),
            (10018, Status.RATE_LIMITED),
            (123456, Status.INDETERMINATE),
        )
    ),
    *(
        row("okx", coded(code) | {"data": []}, (status, code), 401)
        for code, status in (
            ("50111", Status.REJECTED),
            ("50119", Status.REJECTED),
            ("50113", Status.REJECTED),
            ("50105", Status.REJECTED),
            ("50101", Status.REJECTED),
            ("50110", Status.IP_REFUSED),
            ("50120", Status.DENIED),
            ("50030", Status.DENIED),
            ("50035", Status.DENIED),
            ("50102", Status.CLOCK),
            ("50112", Status.CLOCK),
            ("50011", Status.RATE_LIMITED),
            ("59999", Status.INDETERMINATE),
        )
    ),
    row("okx", coded("1") | {"data": [{"sCode": "50110"}]}, (Status.IP_REFUSED, "50110")),
    *(
        row("gate", {"label": label, "message": "words"}, (status, label), 403)
        for label, status in (
            ("INVALID_KEY", Status.REJECTED),
            ("INVALID_SIGNATURE", Status.REJECTED),
            ("IP_FORBIDDEN", Status.IP_REFUSED),
            ("FORBIDDEN", Status.DENIED),
            ("READ_ONLY", Status.DENIED),
            ("REQUEST_EXPIRED", Status.CLOCK),
            ("TOO_MANY_REQUESTS", Status.RATE_LIMITED),
            ("NOVEL_LABEL", Status.INDETERMINATE),
        )
    ),
    *(
        row("kucoin", coded(code), (status, code))
        for code, status in (
            ("400003", Status.REJECTED),
            ("400004", Status.REJECTED),
            ("400005", Status.REJECTED),
            ("400006", Status.IP_REFUSED),
            ("400007", Status.DENIED),
            ("400002", Status.CLOCK),
            ("429000", Status.RATE_LIMITED),
            ("499999", Status.INDETERMINATE),
        )
    ),
    *(
        row("bitget", coded(code), (status, code), 400)
        for code, status in (
            ("40006", Status.REJECTED),
            ("40037", Status.REJECTED),
            ("40009", Status.REJECTED),
            ("40012", Status.REJECTED),
            ("40036", Status.REJECTED),
            ("40018", Status.IP_REFUSED),
            ("40038", Status.IP_REFUSED),
            ("40014", Status.DENIED),
            ("40008", Status.CLOCK),
            ("49999", Status.INDETERMINATE),
        )
    ),
    *(
        row("mexc", coded(code), (status, str(code)), 400)
        for code, status in (
            (700001, Status.REJECTED),
            (10072, Status.REJECTED),
            (700002, Status.REJECTED),
            (602, Status.REJECTED),
            (700006, Status.IP_REFUSED),
            (700007, Status.DENIED),
            (701, Status.DENIED),
            (704, Status.DENIED),
            (700003, Status.CLOCK),
            (10073, Status.CLOCK),
            (510, Status.RATE_LIMITED),
        )
    ),
    *(
        row("bingx", coded(code), (status, str(code)))
        for code, status in (
            (100413, Status.REJECTED),
            (100001, Status.REJECTED),
            (100419, Status.IP_REFUSED),
            (100004, Status.DENIED),
            (100421, Status.CLOCK),
        )
    ),
    *(
        row("cryptocom", {"id": 1, "code": code}, (status, str(code)), 401)
        for code, status in (
            (40101, Status.REJECTED),
            (40103, Status.IP_REFUSED),
            (10002, Status.DENIED),
            (40102, Status.CLOCK),
            (10007, Status.CLOCK),
            (42901, Status.RATE_LIMITED),
        )
    ),
    *(
        row("phemex", {"code": 401, "msg": f"401 {words}"}, (status, words), 401)
        for words, status in (
            ("Api key not found", Status.REJECTED),
            ("signature verification failed", Status.REJECTED),
            ("Request IP mismatch", Status.IP_REFUSED),
            ("Insufficient privilege", Status.DENIED),
        )
    ),
    row("phemex", {"code": 401, "msg": "401 novel words"}, (Status.INDETERMINATE, "401"), 401),
    *(
        row("htx", {"status": "error", "err-code": code, "err-msg": words}, expected)
        for code, words, expected in (
            (
                "api-signature-not-valid",
                "Signature not valid: Incorrect IP address [中文]:198.51.100.7",
                (Status.IP_REFUSED, "Incorrect IP address"),
            ),
            (
                "api-signature-not-valid",
                "Signature not valid: API key has no permission [中文]",
                (Status.DENIED, "API key has no permission"),
            ),
            (
                "api-signature-not-valid",
                "novel words",
                (Status.REJECTED, "api-signature-not-valid"),
            ),
            (
                "rate-too-many-requests",
                "words",
                (Status.RATE_LIMITED, "rate-too-many-requests"),
            ),
        )
    ),
    row("htx", {"code": 1003, "message": "words"}, (Status.INDETERMINATE, "1003")),
    row("htx", {"code": 1002, "message": "words"}, (Status.INDETERMINATE, "1002")),
    row("coinbase", "Unauthorized\n", (Status.INDETERMINATE, "Unauthorized"), 401),
    row("coinbase", "Unauthorized by a proxy", (Status.INDETERMINATE, "HTTP 401"), 401),
    row(
        "coinbase",
        {"errors": [{"id": "authentication_error", "message": "request timestamp expired"}]},
        (Status.CLOCK, "request timestamp expired"),
        401,
    ),
    row(
        "coinbase",
        {"errors": [{"id": "rate_limit_exceeded", "message": "words"}]},
        (Status.RATE_LIMITED, "rate_limit_exceeded"),
        429,
    ),
    row(
        "krakenfutures",
        {"result": "error", "error": "authenticationError"},
        (Status.REJECTED, "authenticationError"),
    ),
    row("kraken", {"error": ["EAPI:Invalid key"]}, (Status.REJECTED, "EAPI:Invalid key")),
    row("kraken", {"error": ["EAPI:Invalid nonce"]}, (Status.CLOCK, "EAPI:Invalid nonce")),
    row(
        "kraken",
        {"error": ["EGeneral:Permission denied"]},
        (Status.DENIED, "EGeneral:Permission denied"),
    ),
    row(
        "kraken",
        {"error": ["EAPI:Rate limit exceeded"]},
        (Status.RATE_LIMITED, "EAPI:Rate limit exceeded"),
    ),
    row("bitfinex", ["error", 10100, "apikey: invalid"], (Status.INDETERMINATE, "10100"), 500),
    row("bitfinex", ["error", 10114, "nonce: small"], (Status.CLOCK, "10114"), 500),
    row("deribit", {"error": {"code": 13021, "message": "no"}}, (Status.DENIED, "13021"), 400),
    row("deribit", {"error": {"code": 10028, "message": "no"}}, (Status.RATE_LIMITED, "10028")),
    row("coinbase", {"error": "PERMISSION_DENIED"}, (Status.DENIED, "PERMISSION_DENIED"), 403),
    row("hyperliquid", {"status": "err", "response": "x"}, (Status.INDETERMINATE, "")),
]


@pytest.mark.parametrize(("ccxt_id", "body", "expected", "status"), ROWS)
def test_a_documented_body_means_this(
    ccxt_id: str, body: Any, expected: tuple[Status, str], status: int
) -> None:
    assert meaning(ccxt_id, body, status) == expected


@pytest.mark.parametrize(
    ("code", "expected"),
    [(1002, Status.DENIED), (2002, Status.REJECTED), (4711, Status.INDETERMINATE)],
)
def test_an_answer_that_raises_nothing_is_classified_all_the_same(
    code: int, expected: Status
) -> None:
    body = {"code": code, "message": "words", "data": None}
    codes = {"1002": Status.DENIED, "2002": Status.REJECTED}

    assert raised("htx", body) is None  # what this is about
    found = classify(
        NotUnderstood("no such shape"), json.dumps(body), replace(discovered()["htx"], codes=codes)
    )

    assert found == (expected, str(code))


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (ccxt.AccountSuspended("x"), Status.INDETERMINATE),
        (ccxt.AccountNotEnabled("x"), Status.DENIED),
        (ccxt.PermissionDenied("x"), Status.DENIED),
        (ccxt.AuthenticationError("x"), Status.REJECTED),
        (ccxt.InvalidNonce("x"), Status.CLOCK),
        (ccxt.RateLimitExceeded("x"), Status.RATE_LIMITED),
        (ccxt.DDoSProtection("x"), Status.RATE_LIMITED),
        (ccxt.RequestTimeout("x"), Status.UNREACHABLE),
        (ccxt.ExchangeNotAvailable("x"), Status.UNREACHABLE),
        (ccxt.OnMaintenance("x"), Status.UNREACHABLE),
        (ccxt.NetworkError("x"), Status.UNREACHABLE),
        (ccxt.NotSupported("x"), Status.UNSUPPORTED),
        (ccxt.BadRequest("x"), Status.INDETERMINATE),
        (ccxt.ExchangeError("x"), Status.INDETERMINATE),
        (ccxt.InvalidOrder("x"), Status.INDETERMINATE),
        (KeyError("x"), Status.INDETERMINATE),
        (NotUnderstood("x"), Status.INDETERMINATE),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
)
def test_where_no_code_is_known_the_class_counts(error: Exception, expected: Status) -> None:
    assert classify(error, '{"note": "no code"}', NOVEL) == (expected, "")


def test_a_code_wins_over_the_class() -> None:
    body = '{"code": "7"}'

    found = classify(
        ccxt.AuthenticationError("x"), body, replace(NOVEL, codes={"7": Status.IP_REFUSED})
    )

    assert found == (Status.IP_REFUSED, "7")


@pytest.mark.parametrize(
    "error", [ccxt.AuthenticationError("x"), ccxt.PermissionDenied("x")], ids=["wrong", "denied"]
)
def test_without_an_answer_no_key_is_called_wrong(error: Exception) -> None:
    assert classify(error, None, NOVEL) == (Status.INDETERMINATE, "")


@pytest.mark.parametrize("status", [401, 407, 511])
@pytest.mark.parametrize("body", ["", "<html>who are you?</html>", '{"code": "4711"}'])
def test_a_status_of_http_alone_calls_no_key_wrong(status: int, body: str) -> None:
    error = raised("coinmate", body, status)
    assert isinstance(error, ccxt.AuthenticationError)  # what this is about

    found, code = classify(error, body, NOVEL)

    assert found is Status.INDETERMINATE
    assert code == ("4711" if "4711" in body else f"HTTP {status}")


def test_unless_its_adapter_says_so() -> None:
    error = raised("coinmate", "no", 401)
    assert error is not None

    found = classify(error, "no", replace(NOVEL, codes={"HTTP 401": Status.REJECTED}))

    assert found == (Status.REJECTED, "HTTP 401")


@pytest.mark.parametrize("status", [400, 403, 404, 418, 429, 500, 502, 503, 504, 520, 530])
@pytest.mark.parametrize("ccxt_id", ["bybit", "okx", "gate", "kucoin", "bitget", "kraken", "htx"])
def test_a_page_of_some_proxy_is_no_verdict(ccxt_id: str, status: int) -> None:
    found, code = meaning(ccxt_id, "<html>sorry</html>", status)

    assert found in TRANSIENT
    assert code in {f"HTTP {status}", ""}


@pytest.mark.parametrize(
    "body",
    ["", "{", "null", "[]", "[1]", '"10003"', "{}", '{"retCode": null}', '{"retCode": {}}'],
)
def test_a_body_without_a_code_has_none(body: str) -> None:
    for adapter in ADAPTERS:
        assert classify(ccxt.ExchangeError("x"), body, adapter) == (Status.INDETERMINATE, "")


@pytest.mark.parametrize("code", [0, "0", "200", 200, "00000", "200000"])
def test_success_is_no_code(code: Any) -> None:
    body = json.dumps({"code": code, "data": "of another shape"})

    assert classify(NotUnderstood("x"), body, NOVEL) == (Status.INDETERMINATE, "")


@pytest.mark.parametrize(
    "body",
    [
        "[" * 60_000,
        '{"code": "' + "1" * 200_000 + '"}',
        '{"code": "7", "msg": "' + "1" * 200_000 + '"}',
    ],
    ids=["deep", "long code", "long text"],
)
def test_neither_has_a_huge_one(body: str) -> None:
    assert classify(ccxt.ExchangeError("x"), body, NOVEL) == (Status.INDETERMINATE, "")


@pytest.mark.parametrize("shape", ["base62", "hex", "uuid", "passphrase", "base64-32", "jwt"])
@pytest.mark.parametrize("adapter", ADAPTERS, ids=lambda adapter: adapter.ccxt_id)
def test_what_echoes_a_key_is_never_handed_on(watch: Watch, shape: str, adapter: Adapter) -> None:
    key = watch.secret(shape)
    bodies: list[Any] = [
        {"code": key},
        {"retCode": key, "retMsg": key},
        {"label": key},
        {"error": key},
        {"error": [key]},
        {"error": [f"EAPI:Invalid key:{key}"]},
        {"error": {"code": key}},
        {"code": "1", "data": [{"sCode": key}]},
        {"code": 401, "msg": f"Request IP mismatch {key}"},
        ["error", key, key],
        {"errors": [{"id": key, "message": key}]},
        {"errors": [{"id": 17, "message": f"Request IP mismatch {key}"}]},
        {"err-code": "17", "err-msg": f"Request IP mismatch: {key}"},
    ]
    codes = {"Request IP mismatch": Status.IP_REFUSED}
    for body in bodies:
        error = ccxt.AuthenticationError(f"{adapter.ccxt_id} {json.dumps(body)}")
        for known in ({}, codes):
            _, code = classify(error, json.dumps(body), replace(adapter, codes=known))
            assert code in {"", "1", "17", "401", "Request IP mismatch"}
