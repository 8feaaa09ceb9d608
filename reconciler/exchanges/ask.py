"""
Asks one exchange about one key, and never raises for what the exchange or the network does.

Blocking.  Only reads; asked a second time only where nothing came back at all, for a wrong key that
is tried again and again locks its owner out, and so does a refused address.  What cannot be right
by itself is not asked about.
"""

import threading
import time
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any, Final
from urllib.parse import unquote, urlsplit

from msgspec import Struct

from reconciler.exchanges.adapter import Adapter
from reconciler.exchanges.ccxt_client import NotOffered, opened
from reconciler.exchanges.classify import classify
from reconciler.exchanges.registry import Entry
from reconciler.model.key_audits import Egress
from reconciler.model.key_facts import Answered, Status
from reconciler.model.secret import Secret
from reconciler.model.values import replace

_SHORTEST: Final = 0.05  # seconds; with less left an exchange is not asked at all


class Asking(Struct, frozen=True):
    """One question: which key, whom and from where; *base* stands in for the exchange."""

    entry: Entry
    credentials: Mapping[str, Secret]
    egress: Egress
    base: str = ""

    def values(self) -> dict[str, str]:
        """Return the values themselves; they live as briefly as possible."""
        return {name: value.reveal() for name, value in self.credentials.items()}

    def unasked(self, status: Status, code: str = "") -> Answered:
        adapter = self.entry.adapter
        return Answered(
            status,
            datetime.now(UTC),
            code=code,
            adapter=self.entry.ccxt_id,
            adapter_version=0 if adapter is None else adapter.version,
            egress=self.egress.name,
        )


def ask(asking: Asking, *, timeout: float, deadline: float, stop: threading.Event) -> Answered:
    """
    Ask, with one retry on network trouble.

    *timeout* is in seconds for one request, *deadline* on the monotonic clock for all; after *stop*
    no request begins.  Raises UsageError for a proxy or base that cannot be used.
    """
    adapter = asking.entry.adapter
    if adapter is None:
        return asking.unasked(Status.UNSUPPORTED)
    if wrong := adapter.malformed(asking.values()):
        return asking.unasked(Status.MALFORMED, wrong)
    requests: tuple[str, ...] = ()
    for _ in range(2):
        left = deadline - time.monotonic()
        if left < _SHORTEST or stop.is_set():
            return asking.unasked(Status.UNREACHABLE)
        answered, heard = _once(asking, adapter, min(timeout, left))
        requests += answered.requests
        if heard or answered.status is not Status.UNREACHABLE:
            break
    return replace(answered, requests=requests)


def _once(asking: Asking, adapter: Adapter, timeout: float) -> tuple[Answered, bool]:
    """Return what was answered, and whether anything came back."""
    said = asking.unasked(Status.INDETERMINATE)
    try:
        with opened(
            adapter.ccxt_id,
            asking.credentials,
            environment=asking.entry.environment,
            timeout=timeout,
            proxy=asking.egress.proxy,
            base=asking.base,
            test_by_header=adapter.test_by_header,
        ) as exchange:
            said = replace(said, at=datetime.now(UTC))
            requests = _noted(exchange, asking.values().values())
            answered = _answer(asking, adapter, exchange, said)
            heard = exchange.last_http_response is not None
            return replace(answered, requests=tuple(requests)), heard
    except NotOffered:
        return replace(said, status=Status.UNSUPPORTED), False


def _noted(exchange: Any, values: Iterable[str]) -> list[str]:
    """
    Return a list of what is asked from now on, as it is asked.

    Without queries, which hold signatures, and without a path that holds a credential.
    """
    noted: list[str] = []
    held = [value for value in values if value]
    fetch = exchange.fetch

    def fetching(url: str, method: str = "GET", *args: Any, **kwargs: Any) -> Any:
        parts = urlsplit(url)
        path = "/(not shown)" if any(one in unquote(parts.path) for one in held) else parts.path
        place = len(noted)
        noted.append(f"{method} {parts.scheme}://{parts.netloc}{path}: not answered")
        try:
            return fetch(url, method, *args, **kwargs)
        finally:
            if exchange.last_http_response is not None:
                noted[place] = noted[place].replace(": not answered", ": answered")

    exchange.fetch = fetching
    return noted


def _answer(asking: Asking, adapter: Adapter, exchange: Any, said: Answered) -> Answered:
    environment = asking.entry.environment
    try:
        answers = adapter.fetch(exchange, environment)
        facts = adapter.parse(answers, asking.values(), environment)
        return replace(said, status=Status.VALID, facts=facts)
    except Exception as error:  # noqa: BLE001  - ccxt raises anything; its texts hold addresses
        status, code = classify(error, exchange.last_http_response, adapter)
        return replace(said, status=status, code=code)
