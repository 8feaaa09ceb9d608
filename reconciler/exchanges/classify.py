"""
What an error of an exchange means: its own raw code first, ccxt's class second.  Pure.

ccxt's classes mislead: one class for a wrong key and a foreign address, a plain `ExchangeError` for
some wrong keys, and for several answers of HTX no exception at all.  A key is called wrong only
when the exchange itself said so: never for network trouble, clocks, rate limits, a status of HTTP
alone (a proxy answers so, too) or a code that nobody knows.
"""

import json
import re
from collections.abc import Mapping
from typing import Any, Final

from reconciler.model.key_facts import Status

# Names of ccxt's classes, in the order in which they must be asked: a class before the one that it
# is derived from (AccountNotEnabled < PermissionDenied < AuthenticationError).  By name, so that
# nothing here imports ccxt.
_CLASSES: Final = (
    ("AccountSuspended", Status.INDETERMINATE),  # says nothing of the key
    ("PermissionDenied", Status.DENIED),
    ("AuthenticationError", Status.REJECTED),
    ("InvalidNonce", Status.CLOCK),
    ("RateLimitExceeded", Status.RATE_LIMITED),
    ("DDoSProtection", Status.RATE_LIMITED),
    ("NetworkError", Status.UNREACHABLE),  # with timeouts, maintenance, HTTP 5xx
    ("NotSupported", Status.UNSUPPORTED),
)
_VERDICTS: Final = frozenset({Status.REJECTED, Status.DENIED, Status.IP_REFUSED})
"""What needs the exchange's own word."""

# Exchanges that give one code to several causes, and tell them apart in words.
_IN_WORDS: Final = frozenset({"coinbase", "htx", "phemex"})

# A code stands in documentation; whatever could be a part of a key or an address does not get out.
_NUMBER: Final = re.compile(r"-?[0-9]{1,9}")
_WORDS: Final = re.compile(r"[A-Za-z]{1,20}(?:[_:-][A-Za-z]{1,20}){0,6}")
_KRAKEN: Final = re.compile(r"E[A-Z][A-Za-z]{1,12}:[A-Z][a-z]{1,16}(?: [a-z]{1,16}){0,4}")
_SUCCESS: Final = frozenset({"0", "200", "00000", "200000"})
# Where exchanges put it; the first that is there counts.
_FIELDS: Final = ("retCode", "label", "code", "err-code", "err_code", "errorCode", "error_code")
# An address that got into the text: the class was chosen by HTTP's status alone.
_BY_HTTP: Final = re.compile(r"\S+ (?:GET|POST|PUT|PATCH|DELETE) \S+ ([1-5][0-9]{2}) ")
_LONGEST: Final = 100_000


def classify(
    error: BaseException, last_body: str | None, codes: Mapping[str, Status], ccxt_id: str
) -> tuple[Status, str]:
    """
    Return the status, and the raw code as it stands in the exchange's documentation, or "".

    *last_body* is the answer to the last request, None when there was none; *codes* are the
    adapter's.  An answer that raised nothing is classified by the `NotUnderstood` that its parser
    raised.  Neither the text of the error nor of the answer is ever returned.
    """
    code = _code(last_body, ccxt_id, codes)
    if code:
        known = codes.get(code)
        if known is not None:
            return known, code
    http = _BY_HTTP.match(str(error)) if _is(error, "BaseError") else None
    if http is not None and not code:
        code = f"HTTP {http[1]}"
        known = codes.get(code)
        if known is not None:
            return known, code
    status = _by_class(error)
    own_word = last_body is not None and http is None
    if status in _VERDICTS and not own_word:
        return Status.INDETERMINATE, code
    return status, code


def _by_class(error: BaseException) -> Status:
    return next((status for name, status in _CLASSES if _is(error, name)), Status.INDETERMINATE)


def _is(error: BaseException, name: str) -> bool:
    """Say whether *error* is of the class of ccxt that has this name."""
    return any(
        kind.__name__ == name and kind.__module__.startswith("ccxt.")
        for kind in type(error).__mro__
    )


def _code(body: str | None, ccxt_id: str, codes: Mapping[str, Status]) -> str:
    """Return the raw code in an answer; empty when there is none that may be shown."""
    if not body or len(body) > _LONGEST:
        return ""
    try:
        answer = json.loads(body)
    except (ValueError, RecursionError):
        return body.strip() if body.strip() in codes else ""  # Coinbase answers with one word
    match ccxt_id:
        case "kraken":
            found = _kraken(answer)
        case "bitfinex":
            found = _clean(answer[1]) if _error_list(answer) else ""
        case known if known in _IN_WORDS:
            found = _in_words(answer, codes) or _usual(answer)
        case "okx" | "myokx" | "okxus":
            found = _okx(answer)
        case _:
            found = _usual(answer)
    return "" if found in _SUCCESS else found


def _usual(answer: Any) -> str:
    if not isinstance(answer, dict):
        return ""
    for field in _FIELDS:
        if _plain(answer.get(field)) and answer[field] != "":
            return _clean(answer[field])
    error = answer.get("error")
    if isinstance(error, dict):  # Deribit
        return _clean(error.get("code"))
    return _clean(error) or _clean(_first(answer).get("id"))  # Coinbase


def _okx(answer: Any) -> str:
    found = _usual(answer)
    data = answer.get("data") if isinstance(answer, dict) else None
    # 1 and 2: some or all of it failed, each for its own reason.
    if found in {"1", "2"} and isinstance(data, list) and data and isinstance(data[0], dict):
        return _clean(data[0].get("sCode")) or found
    return found


def _kraken(answer: Any) -> str:
    errors = answer.get("error") if isinstance(answer, dict) else None
    first = errors[0] if isinstance(errors, list) and errors else None
    return first if isinstance(first, str) and _KRAKEN.fullmatch(first) else ""


def _error_list(answer: Any) -> bool:
    return isinstance(answer, list) and len(answer) > 1 and answer[0] == "error"


def _in_words(answer: Any, codes: Mapping[str, Status]) -> str:
    """Return the first words of *codes* that an error holds; its other words are not handed on."""
    if not isinstance(answer, dict):
        return ""
    spoken = (answer.get("msg"), answer.get("err-msg"), _first(answer).get("message"))
    said = "\n".join(words for words in spoken if isinstance(words, str)).casefold()
    return next((code for code in codes if " " in code and code.casefold() in said), "")


def _first(answer: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the first of several errors."""
    errors = answer.get("errors")
    first = errors[0] if isinstance(errors, list) and errors else None
    return first if isinstance(first, dict) else {}


def _plain(value: Any) -> bool:
    return isinstance(value, str | int) and not isinstance(value, bool)


def _clean(value: Any) -> str:
    if not _plain(value):
        return ""
    text = str(value)
    return text if _NUMBER.fullmatch(text) or _WORDS.fullmatch(text) else ""
