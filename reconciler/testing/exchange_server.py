"""
A loopback exchange that verifies signatures as the real one does, for tests with real ccxt.

`SigningServer(check, credentials)` answers on a port of the system's choice.  A well-signed call
gets what `answers` holds for its path; any other the exchange's own error.  What stands in `script`
is served first, whoever calls.  `calls` records every request.
"""

import contextlib
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from reconciler.model.key_facts import Environment
from reconciler.sandbox.exchanges.http import Call, ExchangeServer, Reply

__all__ = ["Call", "Check", "HangUp", "Reply", "SigningServer", "Silence", "serving"]


class HangUp:
    """Scripted: the connection ends without an answer."""


class Silence:
    """Scripted: no answer comes while the server lives."""


Check = Callable[[Call, Mapping[str, str], Environment], Reply | None]
"""None if a call is signed with these credentials, or what the exchange says if it is not."""


class SigningServer(ExchangeServer):
    """One exchange that knows one key."""

    def __init__(
        self,
        check: Check,
        credentials: Mapping[str, str],
        environment: Environment = Environment.LIVE,
    ) -> None:
        super().__init__(self._serve_one)
        self.answers: dict[str, Reply] = {}
        self.script: deque[Reply | HangUp | Silence] = deque()
        self.calls: list[Call] = []
        self._check = check
        self._credentials = dict(credentials)
        self._environment = environment

    def paths(self) -> list[str]:
        """Return the paths that were asked for, in their order."""
        return [call.path for call in self.calls]

    def reply(self, call: Call) -> Reply | HangUp | Silence:
        """Decide what a call gets."""
        self.calls.append(call)
        if self.script:
            return self.script.popleft()
        refused = self._check(call, self._credentials, self._environment)
        if refused is not None:
            return refused
        return self.answers.get(call.path, Reply({"code": "404", "msg": "no such path"}, 404))

    def _serve_one(self, call: Call) -> Reply | None:
        reply = self.reply(call)
        if isinstance(reply, Silence):
            self._closing.wait(600)  # longer than any test waits
        return reply if isinstance(reply, Reply) else None


@contextlib.contextmanager
def serving(
    check: Check,
    credentials: Mapping[str, str],
    answers: Mapping[str, Any],
    environment: Environment = Environment.LIVE,
) -> Iterator[SigningServer]:
    """Serve these JSON answers by path while the block runs."""
    with SigningServer(check, credentials, environment) as server:
        server.answers.update({path: Reply(body) for path, body in answers.items()})
        yield server
