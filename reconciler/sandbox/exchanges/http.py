"""
The HTTP of a loopback exchange: a call as it arrived, and the reply to it.

Knows nothing of any exchange.  Headers and bodies hold keys and signatures: neither is ever logged
or shown.
"""

import http.server
import json
import socket
import sys
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Self
from urllib.parse import urlsplit

LOOPBACK: Final = "127.0.0.1"
_PATIENCE: Final = 10.0  # seconds for a request to arrive, and for the end of the server


@dataclass(frozen=True, slots=True)
class Call:
    """One request as it arrived; header names in lower case, *peer* is the caller's address."""

    method: str
    path: str
    query: str = field(repr=False)
    headers: Mapping[str, str] = field(repr=False)
    body: bytes = field(repr=False)
    peer: str = LOOPBACK

    @property
    def target(self) -> str:
        """The path with its query, as most exchanges sign it."""
        return f"{self.path}?{self.query}" if self.query else self.path


@dataclass(frozen=True, slots=True)
class Reply:
    """What the exchange says; *body* is JSON unless it is bytes; *headers* replace the usual."""

    body: Any = field(repr=False)
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)


class ExchangeServer:
    """
    Answers calls on a port of the system's choice while it is entered.

    *answer* is called on a thread for each call; None ends the connection without a reply.
    """

    def __init__(self, answer: Callable[[Call], Reply | None]) -> None:
        self._closing = threading.Event()
        self._handler: Final = _handler(answer)
        self._server: _Server  # from entering on
        self._thread = threading.Thread(target=self._serve, name="exchange", daemon=True)

    @property
    def url(self) -> str:
        return f"http://{LOOPBACK}:{self._server.server_address[1]}"

    def __enter__(self) -> Self:
        self._server = _Server((LOOPBACK, 0), self._handler)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._closing.is_set():
            return
        self._closing.set()
        # The server waits for a connection, without looking up now and then: here it is.
        socket.create_connection((LOOPBACK, self._server.server_port), _PATIENCE).close()
        self._thread.join(_PATIENCE)
        self._server.server_close()

    def _serve(self) -> None:
        while not self._closing.is_set():
            self._server.handle_request()


class _Server(http.server.ThreadingHTTPServer):
    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of a caller that went away: that is its own affair."""
        if not isinstance(sys.exception(), OSError):
            super().handle_error(request, client_address)


def _handler(answer: Callable[[Call], Reply | None]) -> type[http.server.BaseHTTPRequestHandler]:
    class Handler(http.server.BaseHTTPRequestHandler):
        # HTTP/1.0: one call a connection, no socket is left open.
        timeout = _PATIENCE

        def do_GET(self) -> None:  # the name is http.server's
            self._serve()

        def do_POST(self) -> None:
            self._serve()

        def _serve(self) -> None:
            split = urlsplit(self.path)
            length = int(self.headers.get("Content-Length") or 0)
            headers = {name.lower(): value for name, value in self.headers.items()}
            body, peer = self.rfile.read(length), self.client_address[0]
            reply = answer(Call(self.command, split.path, split.query, headers, body, peer))
            if reply is not None:
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
