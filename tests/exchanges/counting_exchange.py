"""
A loopback exchange that knows many keys, and counts: how often it was asked, and how many at once.
"""

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from reconciler.model.key_facts import Environment
from reconciler.model.secret import Secret
from reconciler.sandbox.exchanges import signing
from reconciler.testing.exchange_server import Call, Check, HangUp, Reply, SigningServer, Silence
from tests.exchanges.adapters import test_bybit, test_kucoin, test_okx

Credentials = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Kind:
    """How one exchange is told apart: its check, its header with the key, what it answers."""

    code: str
    ccxt_id: str
    check: Check
    header: str
    names: tuple[str, ...]
    answer: Callable[[str], Any]


BYBIT = Kind(
    "bybit", "bybit", signing.bybit, "x-bapi-api-key", ("apiKey", "secret"), test_bybit.documented
)
OKX = Kind(
    "okx",
    "okx",
    signing.okx,
    "ok-access-key",
    ("apiKey", "secret", "password"),
    lambda _key: test_okx.documented(),
)
KUCOIN = Kind(
    "kucoin",
    "kucoin",
    signing.kucoin,
    "kc-api-key",
    ("apiKey", "secret", "password"),
    test_kucoin.documented,
)


class Crowd(SigningServer):
    """One exchange with *keys* by their API key; each answer waits until *may_answer* returns."""

    def __init__(
        self,
        kind: Kind,
        keys: list[Credentials],
        may_answer: Callable[[], object] = lambda: None,
    ) -> None:
        super().__init__(kind.check, {})
        self.kind = kind
        self.keys = {key["apiKey"]: key for key in keys}
        self.own: dict[str, Any] = {}  # answers to single keys
        self.may_answer = may_answer
        self.at_once = self.most_at_once = 0
        self.begun = threading.Event()  # somebody asks
        self._lock = threading.Lock()

    def reply(self, call: Call) -> Reply | HangUp | Silence:
        """Answer as the exchange does to whoever asks."""
        with self._lock:
            self.at_once += 1
            self.most_at_once = max(self.most_at_once, self.at_once)
        self.begun.set()
        try:
            self.may_answer()
            return self._reply(call)
        finally:
            with self._lock:
                self.at_once -= 1

    def _reply(self, call: Call) -> Reply | HangUp | Silence:
        self.calls.append(call)
        if self.script:
            return self.script.popleft()
        key = call.headers.get(self.kind.header, "")
        stranger = dict.fromkeys(self.kind.names, "nobody")
        refused = self.kind.check(call, self.keys.get(key, stranger), Environment.LIVE)
        if refused is not None:
            return refused
        return Reply(self.own.get(key, self.kind.answer(key)))


def held(credentials: Credentials) -> dict[str, Secret]:
    """Return credentials as the auditor takes them."""
    return {name: Secret(value) for name, value in credentials.items()}
