"""
A loopback exchange that verifies signatures as the real one does, for tests with real ccxt.

`SigningServer(check, credentials)` answers on a port of the system's choice.  A well-signed call
gets what `answers` holds for its path; any other the exchange's own error.  What stands in `script`
is served first, whoever calls.  `calls` records every request.  A check is a function like `bybit`
below: it returns None, or the answer that the exchange gives to a call signed like that.
"""

import base64
import contextlib
import hashlib
import hmac
import http.server
import json
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Self
from urllib.parse import parse_qs, urlsplit

from reconciler.exchanges.facts import Environment

_SKEW = 30.0  # seconds; each exchange has its own, all are within 5 and 30


@dataclass(frozen=True, slots=True)
class Call:
    """One request as it arrived; header names in lower case."""

    method: str
    path: str
    query: str
    headers: Mapping[str, str] = field(repr=False)
    body: bytes = field(repr=False)

    @property
    def target(self) -> str:
        """The path with its query, as most exchanges sign it."""
        return f"{self.path}?{self.query}" if self.query else self.path


@dataclass(frozen=True, slots=True)
class Reply:
    """What the exchange says; *body* is JSON unless it is bytes; *headers* replace the usual."""

    body: Any
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)


class HangUp:
    """Scripted: the connection ends without an answer."""


class Silence:
    """Scripted: no answer comes while the server lives."""


Check = Callable[[Call, Mapping[str, str], Environment], Reply | None]


class SigningServer:
    """One exchange that knows one key."""

    def __init__(
        self,
        check: Check,
        credentials: Mapping[str, str],
        environment: Environment = Environment.LIVE,
    ) -> None:
        self.answers: dict[str, Reply] = {}
        self.script: deque[Reply | HangUp | Silence] = deque()
        self.calls: list[Call] = []
        self._check = check
        self._credentials = dict(credentials)
        self._environment = environment
        self._closing = threading.Event()
        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))

    @property
    def url(self) -> str:
        """The base URL."""
        return f"http://127.0.0.1:{self._server.server_address[1]}"

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

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._closing.set()
        self._server.shutdown()
        self._server.server_close()  # waits for the threads of its calls
        self._thread.join(10)

    def _handler(self) -> type[http.server.BaseHTTPRequestHandler]:
        server = self

        class Handler(http.server.BaseHTTPRequestHandler):
            # HTTP/1.0: one call a connection, no socket is left open.

            def do_GET(self) -> None:  # the name is http.server's
                self._serve()

            def do_POST(self) -> None:
                self._serve()

            def _serve(self) -> None:
                split = urlsplit(self.path)
                length = int(self.headers.get("Content-Length") or 0)
                headers = {name.lower(): value for name, value in self.headers.items()}
                body = self.rfile.read(length)
                reply = server.reply(Call(self.command, split.path, split.query, headers, body))
                if isinstance(reply, Silence):
                    server._closing.wait(30)
                elif isinstance(reply, Reply):
                    self._send(reply)

            def _send(self, reply: Reply) -> None:
                plain = isinstance(reply.body, bytes)
                body = reply.body if plain else json.dumps(reply.body).encode()
                self.send_response(reply.status)
                headers = {
                    "Content-Type": "text/html" if plain else "application/json",
                    "Content-Length": str(len(body)),
                    **reply.headers,
                }
                for name, value in headers.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  - http.server's
                """Print nothing: a query may hold a signature."""

        return Handler


def bybit(call: Call, known: Mapping[str, str], environment: Environment) -> Reply | None:
    """HMAC-SHA256, hexadecimal, of time, key, window and query; errors come with status 200."""
    del environment  # another host: a key of the other environment is simply not known
    key, sent = call.headers.get("x-bapi-api-key", ""), call.headers.get("x-bapi-timestamp", "0")
    window = call.headers.get("x-bapi-recv-window", "")
    payload = call.query if call.method == "GET" else call.body.decode()
    if key != known["apiKey"]:
        return bybit_error("10003")
    if abs(time.time() - int(sent) / 1000) > _SKEW:
        return bybit_error("10002")
    wanted = _sha256(known["secret"], sent + key + window + payload).hex()
    return None if _equal(wanted, call.headers.get("x-bapi-sign")) else bybit_error("10004")


def bybit_error(code: str) -> Reply:
    """Return an error in Bybit's shape."""
    return Reply(
        {"retCode": int(code), "retMsg": "words", "result": {}, "retExtInfo": {}, "time": _now_ms()}
    )


def okx(call: Call, known: Mapping[str, str], environment: Environment) -> Reply | None:
    """HMAC-SHA256, base64, of time, method, target and body; a passphrase; a header for demo."""
    headers = call.headers
    sent = headers.get("ok-access-timestamp", "")
    if headers.get("ok-access-key") != known["apiKey"]:
        return okx_error("50111", 401)
    simulated = headers.get("x-simulated-trading") == "1"
    if simulated is not (environment is Environment.TEST):
        return okx_error("50101", 401)
    if not _equal(known["password"], headers.get("ok-access-passphrase")):
        return okx_error("50105", 401)
    with contextlib.suppress(ValueError):
        if abs(time.time() - datetime.fromisoformat(sent).timestamp()) > _SKEW:
            return okx_error("50102", 401)
    signed = f"{sent}{call.method}{call.target}{call.body.decode()}"
    wanted = base64.b64encode(_sha256(known["secret"], signed)).decode()
    return None if _equal(wanted, headers.get("ok-access-sign")) else okx_error("50113", 401)


def okx_error(code: str, status: int = 200) -> Reply:
    """Return an error in OKX's shape."""
    return Reply({"msg": "words", "code": code, "data": []}, status)


def binance(call: Call, known: Mapping[str, str], environment: Environment) -> Reply | None:
    """HMAC-SHA256, hexadecimal, of the query before `signature`; no path of `sapi` on test."""
    if environment is Environment.TEST and call.path.startswith("/sapi/"):
        return Reply(b"<html>no such page</html>", 404)
    if call.headers.get("x-mbx-apikey") != known["apiKey"]:
        return binance_error("-2008", 401)
    signed, _, signature = call.query.rpartition("&signature=")
    sent = parse_qs(signed).get("timestamp", ["0"])[0]
    if abs(time.time() - int(sent) / 1000) > _SKEW:
        return binance_error("-1021")
    wanted = _sha256(known["secret"], signed).hex()
    return None if _equal(wanted, signature) else binance_error("-1022")


def binance_error(code: str, status: int = 400) -> Reply:
    """Return an error in Binance's shape."""
    return Reply({"code": int(code), "msg": "words"}, status)


def kucoin(call: Call, known: Mapping[str, str], environment: Environment) -> Reply | None:
    """HMAC-SHA256, base64, of time, method, target and body; the passphrase is signed, too."""
    del environment
    headers = call.headers
    sent = headers.get("kc-api-timestamp", "0")
    if headers.get("kc-api-key") != known["apiKey"]:
        return kucoin_error("400003", 401)
    if abs(time.time() - int(sent) / 1000) > _SKEW:
        return kucoin_error("400002", 401)
    signed = f"{sent}{call.method}{call.target}{call.body.decode()}"
    if not _equal(_signed64(known["secret"], signed), headers.get("kc-api-sign")):
        return kucoin_error("400005", 401)
    phrase = _signed64(known["secret"], known["password"])
    return None if _equal(phrase, headers.get("kc-api-passphrase")) else kucoin_error("400004", 401)


def kucoin_error(code: str, status: int = 200) -> Reply:
    """Return an error in KuCoin's shape."""
    return Reply({"code": code, "msg": "words"}, status)


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


def _sha256(secret: str, signed: str) -> bytes:
    return hmac.new(secret.encode(), signed.encode(), hashlib.sha256).digest()


def _signed64(secret: str, signed: str) -> str:
    return base64.b64encode(_sha256(secret, signed)).decode()


def _equal(wanted: str, got: str | None) -> bool:
    return hmac.compare_digest(wanted.encode(), (got or "").encode())


def _now_ms() -> int:
    return int(time.time() * 1000)
