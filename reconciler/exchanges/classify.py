"""
What an error of an exchange means: its own raw code first, ccxt's class second.  Pure.

ccxt's classes mislead: one class for a wrong key and a foreign address, a plain `ExchangeError` for
some wrong keys, and for several answers no exception at all.  A key is called wrong only when the
exchange itself said so: never for network trouble, clocks, rate limits, a status of HTTP alone (a
proxy answers so, too) or a code that nobody knows.
"""

import json
import re
from collections.abc import Iterable
from typing import Any, Final

from reconciler.exchanges.adapter import Adapter
from reconciler.exchanges.parse import first_error
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

_SUCCESS: Final = frozenset({"0", "200", "00000", "200000"})
# An address that got into the text: the class was chosen by HTTP's status alone.
_BY_HTTP: Final = re.compile(r"\S+ (?:GET|POST|PUT|PATCH|DELETE) \S+ ([1-5][0-9]{2}) ")
_LONGEST: Final = 100_000


def classify(error: BaseException, last_body: str | None, adapter: Adapter) -> tuple[Status, str]:
    """
    Return the status, and the raw code as it stands in the exchange's documentation, or "".

    *last_body* is the answer to the last request, None when there was none.  An answer that raised
    nothing is classified by the `NotUnderstood` that its parser raised.  Neither the text of the
    error nor of the answer is ever returned.
    """
    code = _code(last_body, adapter)
    http = _BY_HTTP.match(str(error)) if _is(error, "BaseError") else None
    if http is not None:
        code = code or f"HTTP {http[1]}"
    if code in adapter.codes:
        return adapter.codes[code], code
    status = _by_class(error)
    own_word = last_body is not None and http is None
    if status in _VERDICTS and not own_word:
        return Status.INDETERMINATE, code
    return status, code


def _by_class(error: BaseException) -> Status:
    return next((status for name, status in _CLASSES if _is(error, name)), Status.INDETERMINATE)


def _is(error: BaseException, name: str) -> bool:
    return any(
        kind.__name__ == name and kind.__module__.startswith("ccxt.")
        for kind in type(error).__mro__
    )


def _code(body: str | None, adapter: Adapter) -> str:
    """Return the raw code in an answer; empty when there is none that may be shown."""
    if not body or len(body) > _LONGEST:
        return ""
    try:
        answer = json.loads(body)
    except (ValueError, RecursionError):
        return body.strip() if body.strip() in adapter.codes else ""  # some answer with one word
    found = _in_words(answer, adapter.codes) if adapter.in_words else ""
    found = found or adapter.raw_code(answer)
    return "" if found in _SUCCESS else found


def _in_words(answer: Any, codes: Iterable[str]) -> str:
    """Return the first words of *codes* that an error holds; its other words are not handed on."""
    if not isinstance(answer, dict):
        return ""
    spoken = (answer.get("msg"), answer.get("err-msg"), first_error(answer).get("message"))
    said = "\n".join(words for words in spoken if isinstance(words, str)).casefold()
    return next((code for code in codes if " " in code and code.casefold() in said), "")
