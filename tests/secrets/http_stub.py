"""A scripted HTTP server on loopback that writes down every byte it was sent."""

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator

Script = Callable[[socket.socket, bytes], None]


class Stub:
    """Reads one request per connection, hands it to the script, and remembers it."""

    def __init__(self, script: Script) -> None:
        self.requests: list[bytes] = []
        self._script = script
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self._open: list[socket.socket] = []
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def saw(self, text: str) -> bool:
        return any(text.encode() in request for request in self.requests)

    def close(self) -> None:
        # Closing alone would not wake a thread that waits in `accept`.
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for connection in self._open:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
            connection.close()
        self._thread.join(5)

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self._open.append(connection)
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with contextlib.suppress(OSError):
            request = _whole_request(connection)
            self.requests.append(request)
            self._script(connection, request)
            connection.shutdown(socket.SHUT_RDWR)
            connection.close()


def _whole_request(connection: socket.socket) -> bytes:
    request = b""
    while b"\r\n\r\n" not in request:
        piece = connection.recv(65536)
        if not piece:
            return request
        request += piece
    head, _, body = request.partition(b"\r\n\r\n")
    length = next(
        (
            int(line.split(b":")[1])
            for line in head.split(b"\r\n")
            if line.lower().startswith(b"content-length:")
        ),
        0,
    )
    while len(body) < length:
        body += connection.recv(65536)
    return head + b"\r\n\r\n" + body


def answer(
    body: bytes | str = b"{}",
    status: str = "200 OK",
    *headers: str,
    date: str = "Sun, 22 Nov 2026 12:00:10 GMT",
) -> bytes:
    """Return a complete answer as bytes."""
    content = body.encode() if isinstance(body, str) else body
    lines = [
        f"HTTP/1.1 {status}",
        "Content-Type: application/json",
        "Connection: close",
        f"Content-Length: {len(content)}",
        *([f"Date: {date}"] if date else []),
        *headers,
    ]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + content


def always(reply: bytes) -> Script:
    """Return a script that answers every request with *reply*."""
    return lambda connection, _: connection.sendall(reply)


@contextlib.contextmanager
def stub(script: Script) -> Iterator[Stub]:
    """Run a stub while the block runs."""
    server = Stub(script)
    try:
        yield server
    finally:
        server.close()
