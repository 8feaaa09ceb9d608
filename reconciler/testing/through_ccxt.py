"""
Asks a loopback exchange about a key with real ccxt, the way the auditor does, and what to expect.
"""

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

import pytest
from msgspec import Struct
from requests import PreparedRequest, Response
from requests.adapters import HTTPAdapter

from reconciler.exchanges.adapter import Adapter
from reconciler.exchanges.ccxt_client import opened
from reconciler.exchanges.classify import classify
from reconciler.model.key_facts import Environment, KeyFacts, Status
from reconciler.model.secret import Secret
from reconciler.testing.exchange_server import HangUp, Reply, Silence

_SKEW_MS = 3_600_000
PATIENT = 60.0  # seconds; whoever answers at all does so in milliseconds
HASTY = 0.2  # seconds, where nobody answers

# In these the exchange itself has not spoken: whatever a status of HTTP says, the key is not wrong.
TROUBLE = [
    pytest.param(HangUp(), Status.UNREACHABLE, id="hangs up"),
    pytest.param(Silence(), Status.UNREACHABLE, id="silent"),
    pytest.param(
        Reply(b'{"code"', headers={"Content-Length": "99"}), Status.UNREACHABLE, id="cut short"
    ),
    pytest.param(Reply(b""), Status.INDETERMINATE, id="empty"),
    pytest.param(Reply(b"<html>log in</html>"), Status.INDETERMINATE, id="200 of a page"),
    pytest.param(Reply([]), Status.INDETERMINATE, id="a list"),
    pytest.param(
        Reply(b"", 302, {"Location": "http://127.0.0.1:9/"}), Status.INDETERMINATE, id="moved"
    ),
    pytest.param(Reply(b"<html>oops</html>", 500), Status.UNREACHABLE, id="500"),
    pytest.param(Reply(b"<html>oops</html>", 503), Status.UNREACHABLE, id="503"),
    pytest.param(Reply(b"<html>slow</html>", 504), Status.UNREACHABLE, id="504"),
    pytest.param(Reply(b"<html>no</html>", 429), Status.RATE_LIMITED, id="429"),
    pytest.param(Reply(b"<html>not you</html>", 401), Status.INDETERMINATE, id="401 of a page"),
    pytest.param(Reply(b"<html>a proxy</html>", 407), Status.INDETERMINATE, id="407 of a proxy"),
    pytest.param(Reply(b"<html>log in</html>", 511), Status.INDETERMINATE, id="511 of a hotel"),
]


class Asked(Struct, frozen=True):
    """What asking came to."""

    status: Status
    code: str = ""
    facts: KeyFacts | None = None


class _Diversion(HTTPAdapter):
    """Leads requests meant for the real hosts to a stand-in, and notes what they asked for."""

    def __init__(self, url: str, meant: list[str]) -> None:
        super().__init__()
        self._url = url
        self._meant = meant

    def send(self, request: PreparedRequest, *args: Any, **kwargs: Any) -> Response:
        wanted = urlsplit(request.url or "")
        self._meant.append(f"{wanted.scheme}://{wanted.netloc}{wanted.path}")
        request.url = f"{self._url}{wanted.path}?{wanted.query}"
        return super().send(request, *args, **kwargs)


def patience(reply: object) -> float:
    """Return how long to wait for a reply."""
    return HASTY if isinstance(reply, Silence) else PATIENT


def ask(
    adapter: Adapter,
    url: str,
    credentials: Mapping[str, str],
    environment: Environment = Environment.LIVE,
    *,
    skew_ms: int = 0,
    timeout: float = PATIENT,
    meant: list[str] | None = None,
) -> Asked:
    """
    Ask the exchange at *url*; a clock that is wrong by *skew_ms* is ours.

    With *meant* ccxt keeps the real addresses, for which some of its code looks: requests are led
    to *url* on the way, and what they were meant for is listed there.
    """
    if wrong := adapter.malformed(credentials):
        return Asked(Status.MALFORMED, wrong)
    secrets = {name: Secret(value) for name, value in credentials.items()}
    base = url if meant is None else ""
    with opened(
        adapter.ccxt_id,
        secrets,
        environment=environment,
        timeout=timeout,
        base=base,
        test_by_header=adapter.test_by_header,
    ) as exchange:
        # Between two requests ccxt waits for the exchange's sake: there is none.
        exchange.enableRateLimit = False
        if meant is not None:
            exchange.session.mount("https://", _Diversion(url, meant))
        if skew_ms:
            exchange.nonce = lambda: exchange.milliseconds() + skew_ms
        try:
            answers = adapter.fetch(exchange, environment)
            facts = adapter.parse(answers, credentials, environment)
        except Exception as error:  # noqa: BLE001  - whatever ccxt raises is what is classified
            return Asked(*classify(error, exchange.last_http_response, adapter))
    return Asked(Status.VALID, facts=facts)


def swapped(
    credentials: Mapping[str, str], others: Mapping[str, str], wrong: str
) -> tuple[dict[str, str], int]:
    """
    Return credentials of which one, the *wrong* one, is taken from *others*.

    Besides, by how many milliseconds our clock is wrong: if *wrong* is `clock`, only that is.
    """
    if wrong == "clock":
        return dict(credentials), -_SKEW_MS
    return {**credentials, wrong: others[wrong]}, 0


def expected(wrong: str) -> Status:
    """Return what a spoilt credential, or a clock, must come to."""
    return Status.CLOCK if wrong == "clock" else Status.REJECTED
