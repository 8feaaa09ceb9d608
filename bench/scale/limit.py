"""
The limit: what a pass over many servers costs when nothing but the talking is done.

The same connections, requests and Vault reads as `jtr`, with frames made by hand, answers skipped
and nothing decoded, compared or kept; for a first apply also the saves, and before those of a
server one durable line in a file.  Run as a process of its own, `python -S -I limit.py JOB`, and
timed whole, like `jtr`.
"""

import asyncio
import gc
import json
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from io import FileIO

VAULT_CONNECTIONS = 16  # more gain nothing
IN_FLIGHT = 64
READS = (
    b'42["message",{"event":"engine-config-request"}]',
    b'42["message",{"event":"exchange-config-request"}]',
    b'42["message",{"event":"background-jobs-list-request"}]',
    b'42["message",{"event":"logs-list-request","payload":"system"}]',
)
UPGRADE = (
    "GET /socket.io/?EIO=4&transport=websocket HTTP/1.1\r\nHost: {}:{}\r\nUpgrade: websocket\r\n"
    "Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
    "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
)
UNSOLICITED = (b'42["message",{"event":"update-report"', b'42["message",{"event":"user-script')
TEXT, MASKED = 0x81, 0x80
SHORT, TWO_BYTES, EIGHT_BYTES = 125, 126, 127


def framed(data: bytes) -> bytes:
    """Return a client's text frame; the mask is zero, so the text stays as it is."""
    size = len(data)
    if size <= SHORT:
        return bytes((TEXT, MASKED | size, 0, 0, 0, 0)) + data
    return bytes((TEXT, MASKED | TWO_BYTES)) + size.to_bytes(2, "big") + bytes(4) + data


FRAMED_READS = [framed(data) for data in READS]


class Talk(asyncio.Protocol):
    """A connection that ends when nothing is left to be asked."""

    def __init__(self) -> None:
        self.data = b""
        self.transport: asyncio.Transport | None = None
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        if isinstance(transport, asyncio.Transport):
            self.transport = transport
            self.begin()

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.done.done():
            self.done.set_exception(exc or ConnectionError("the other side hung up"))

    def begin(self) -> None:
        raise NotImplementedError

    def send(self, data: bytes | None) -> None:
        """Send, or hang up where there is nothing more to send."""
        if self.transport is None:
            return
        if data is not None:
            self.transport.write(data)
        elif not self.done.done():
            self.done.set_result(None)
            self.transport.close()


class Server(Talk):
    """One conversation: log in, ask everything, save, hang up."""

    def __init__(
        self, host: str, port: int, secret: str, saves: Sequence[bytes], journal: FileIO
    ) -> None:
        super().__init__()
        self.opening = UPGRADE.format(host, port).encode()
        self.login = framed(b'40{"accessToken":"","accessSecret":"%s"}' % secret.encode())
        self.left = iter([*FRAMED_READS, *saves])
        self.unsaved = len(FRAMED_READS) if saves else -1
        self.journal = journal
        self.upgraded = False

    def begin(self) -> None:
        self.send(self.opening)

    def data_received(self, data: bytes) -> None:
        self.data = data = self.data + data if self.data else data
        at = 0
        if not self.upgraded:
            end = data.find(b"\r\n\r\n")
            if end < 0:
                return
            self.upgraded = True
            at = end + 4
        while len(data) >= at + 2:
            size, begin = data[at + 1], at + 2
            if size == TWO_BYTES:
                size, begin = int.from_bytes(data[at + 2 : at + 4], "big"), at + 4
            elif size == EIGHT_BYTES:
                size, begin = int.from_bytes(data[at + 2 : at + 10], "big"), at + 10
            if len(data) < begin + size:
                break
            self.hear(data, begin)
            at = begin + size
        self.data = data[at:]

    def hear(self, data: bytes, at: int) -> None:
        if data.startswith(b"42", at):
            if not data.startswith(UNSOLICITED, at):
                self.ask()
        elif data.startswith(b"0", at):
            self.send(self.login)
        elif data.startswith(b"2", at):
            self.send(framed(b"3"))

    def ask(self) -> None:
        if not self.unsaved:
            self.journal.write(b"intent\n")
            os.fsync(self.journal.fileno())
        self.unsaved -= 1
        self.send(next(self.left, None))


class Vault(Talk):
    """One connection that does one request after the other."""

    def __init__(self, requests: Iterator[bytes]) -> None:
        super().__init__()
        self.requests = requests

    def begin(self) -> None:
        self.send(next(self.requests, None))

    def data_received(self, data: bytes) -> None:
        self.data = data = self.data + data if self.data else data
        end = data.find(b"\r\n\r\n")
        if end < 0:
            return
        at = data.index(b"Content-Length: ") + len(b"Content-Length: ")
        if len(data) >= end + 4 + int(data[at : data.index(b"\r\n", at)]):
            if not data.startswith(b"HTTP/1.1 200"):
                raise SystemExit(data[:200].decode())
            self.data = b""
            self.send(next(self.requests, None))


async def ask_vault(host: str, port: int, requests: Iterator[bytes]) -> None:
    """Do all *requests*, some at a time."""
    loop = asyncio.get_running_loop()
    made = [
        (await loop.create_connection(lambda: Vault(requests), host, port))[1]
        for _ in range(VAULT_CONNECTIONS)
    ]
    await asyncio.gather(*(talk.done for talk in made))


async def visit(
    servers: Sequence[tuple[str, int, str]], saves: Mapping[str, Sequence[str]], journal: FileIO
) -> None:
    """Visit all *servers*, some at a time."""
    loop = asyncio.get_running_loop()
    left = iter(servers)

    async def some() -> None:
        for host, port, secret in left:
            frames = [framed(save.encode()) for save in saves.get(host, ())]
            server = Server(host, port, secret, frames, journal)
            await loop.create_connection(lambda made=server: made, host, port)  # type: ignore[misc]
            await server.done

    await asyncio.gather(*(some() for _ in range(min(IN_FLIGHT, len(servers)))))


async def main(path: str) -> None:
    """Do a job; Vault and the servers are asked at the same time."""
    with FileIO(path) as file:
        job = json.loads(file.readall())
    host, port, token = job["vault"]
    rest = f" HTTP/1.1\r\nHost: {host}:{port}\r\nX-Vault-Token: {token}\r\n\r\n"
    reads = (f"GET {path}{rest}".encode() for path in job["reads"])
    with FileIO(job["journal"], "ab") as journal:
        await asyncio.gather(
            ask_vault(host, port, reads), visit(job["servers"], job["saves"], journal)
        )


if __name__ == "__main__":
    gc.disable()
    asyncio.run(main(sys.argv[1]))
