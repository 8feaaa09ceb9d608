"""
Servers that do exactly what a test says, frame by frame, and what such tests share.

The stand-in is the faithful one; these play servers that are broken, stalled or hostile.
"""

import asyncio
import contextlib
import datetime as dt
import gc
import ipaddress
import json
import secrets
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

from aiohttp import WSMsgType, web
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from reconciler.drivers import Login, Trust
from reconciler.drivers.jt_trader.driver import JtTraderDriver, JtTraderSession
from reconciler.model.secret import Secret
from reconciler.model.target import Target
from reconciler.system.timeouts import Timeouts
from reconciler.testing.drivers_rig import PATIENCE, QUICK, Story
from tests.support import quiet_time


def told(story: Story, run: Callable[[Story], None] = quiet_time.told) -> None:
    """
    Run *story* in bounded time, and see that it leaves no task and no open session behind.

    No deadline is missed because this machine is busy; see `tests.support.quiet_time`.
    """

    async def bounded() -> None:
        async with asyncio.timeout(PATIENCE):
            await story()
        # A server of the test may still be putting its own tasks away.
        if left := asyncio.all_tasks() - {asyncio.current_task()}:
            _, left = await asyncio.wait(left, timeout=1)
        assert not left, left
        gc.collect()  # an unclosed session or socket warns here, and a warning is an error

    run(bounded)


def canary() -> str:
    """Return a value that occurs nowhere else, of 32 hexadecimal characters."""
    return secrets.token_hex(16)


class Peer:
    """The server's end of one websocket."""

    def __init__(self, request: web.Request, ws: web.WebSocketResponse) -> None:
        self.raw = request
        self.ws = ws
        self.headers = request.headers
        self.path = request.path
        self.query = dict(request.query)
        self.auth: Any = None
        self.requests: list[dict[str, Any]] = []
        self._news = asyncio.Condition()

    async def send(self, frame: str) -> None:
        """Send one engine packet as it is."""
        await self.ws.send_str(frame)

    async def message(self, event: str, payload: object = None) -> None:
        """Send JT-Trader's envelope, spelled as it spells it: without spaces."""
        body = {"event": event} if payload is None else {"event": event, "payload": payload}
        await self.send("42" + json.dumps(["message", body], separators=(",", ":")))

    async def frame(self) -> str | None:
        """Receive one engine packet; None when the client is gone."""
        message = await self.ws.receive()
        return message.data if message.type is WSMsgType.TEXT else None

    async def open(self) -> None:
        """Let the client join, without a word on whether it is accepted."""
        await self.send(
            '0{"sid":"a","upgrades":[],"pingInterval":25000,"pingTimeout":20000,"maxPayload":1000000}'
        )
        joining = await self.frame()
        assert joining is not None
        assert joining.startswith("40")
        self.auth = json.loads(joining[2:])
        await self.send('40{"sid":"b"}')

    async def admit(self, account: object = "0") -> None:
        """Let the client join and accept it."""
        await self.open()
        await self.message("authenticated", {"id": account, "email": "x", "engineMode": "both"})

    async def request(self) -> dict[str, Any] | None:
        """Receive one request; None when the client is gone."""
        while (frame := await self.frame()) is not None:
            if frame.startswith("42"):
                body: dict[str, Any] = json.loads(frame[2:])[1]
                async with self._news:
                    self.requests.append(body)
                    self._news.notify_all()
                return body
        return None

    async def asked(self, times: int) -> None:
        """Wait until the client has sent so many requests."""
        async with self._news:
            await self._news.wait_for(lambda: len(self.requests) >= times)

    async def until_gone(self) -> None:
        """Note requests, answer nothing."""
        while await self.request() is not None:
            pass


Script = Callable[[Peer], Awaitable[None]]


@contextlib.asynccontextmanager
async def scripted(
    script: Script,
    *,
    context: ssl.SSLContext | None = None,
    path: str = "/socket.io/",
    autoping: bool = True,
) -> AsyncIterator[tuple[str, list[Peer]]]:
    """Serve *script* to every websocket; yields the address and the peers that came."""
    peers: list[Peer] = []

    async def serve(request: web.Request) -> web.StreamResponse:
        ws = web.WebSocketResponse(max_msg_size=0, autoping=autoping)
        await ws.prepare(request)
        peers.append(Peer(request, ws))
        with contextlib.suppress(ConnectionError):
            await script(peers[-1])
        return ws

    app = web.Application()
    app.router.add_get(path, serve)
    async with served(app, context) as port:
        scheme = "https" if context else "http"
        yield f"{scheme}://127.0.0.1:{port}", peers


@contextlib.asynccontextmanager
async def served(app: web.Application, context: ssl.SSLContext | None = None) -> AsyncIterator[int]:
    """Serve *app* on a port that the system picked; yields the port."""
    runner = web.AppRunner(app, shutdown_timeout=0.05, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context)
    await site.start()
    try:
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()


def login(secret: str = "", token: str | None = None) -> Login:
    """Return what a client shows at the door."""
    return Login(Secret(secret), None if token is None else Secret(token))


async def opened(
    url: str,
    *,
    secret: str = "",
    command: str = "apply",
    account: str = "0",
    timeouts: Timeouts = QUICK,
    trust: Trust | None = None,
    message_limit: int = 64 * 2**20,
) -> JtTraderSession:
    """Open a session with the driver under test."""
    driver = JtTraderDriver(command=command, timeouts=timeouts, message_limit=message_limit)
    return await driver.open(Target(url, account), login(secret), trust or Trust())


_SIGNS = x509.KeyUsage(
    key_cert_sign=True,
    crl_sign=True,
    digital_signature=False,
    content_commitment=False,
    key_encipherment=False,
    data_encipherment=False,
    key_agreement=False,
    encipher_only=False,
    decipher_only=False,
)


class Authority:
    """
    A throw-away certification authority whose files lie in one folder.

    Not *identified*: its certificates lack what Python 3.13 asks for and older ones do not.
    """

    def __init__(self, folder: Path, name: str = "ca", *, identified: bool = True) -> None:
        self.folder = folder
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"test {name}")])
        self.identified = identified
        self.certificate = (
            self._builder(self.name, self.key.public_key(), days=(-1, 1))
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_SIGNS, critical=True)
            .sign(self.key, hashes.SHA256())
        )
        self.ca_file = folder / f"{name}.pem"
        self.ca_file.write_bytes(self.certificate.public_bytes(serialization.Encoding.PEM))

    def issue(
        self, name: str, *, address: str = "127.0.0.1", days: tuple[int, int] = (-1, 1)
    ) -> tuple[str, str]:
        """Return the files of a certificate for *address*, valid between *days* from now."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        names = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(address))])
        certificate = (
            self._builder(subject, key.public_key(), days=days)
            .add_extension(names, critical=False)
            .sign(self.key, hashes.SHA256())
        )
        cert_file, key_file = self.folder / f"{name}.crt", self.folder / f"{name}.key"
        cert_file.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        key_file.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
        )
        return str(cert_file), str(key_file)

    def server_context(
        self, *, address: str = "127.0.0.1", days: tuple[int, int] = (-1, 1)
    ) -> ssl.SSLContext:
        """Return what a server with such a certificate uses."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(
            *self.issue(f"server-{secrets.token_hex(3)}", address=address, days=days)
        )
        return context

    def _builder(
        self, subject: x509.Name, key: ec.EllipticCurvePublicKey, *, days: tuple[int, int]
    ) -> x509.CertificateBuilder:
        now = dt.datetime.now(dt.UTC)
        start, end = (now + dt.timedelta(days=day) for day in days)
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self.name)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(start)
            .not_valid_after(end)
        )
        if not self.identified:
            return builder
        issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key())
        return builder.add_extension(issuer, critical=False).add_extension(
            x509.SubjectKeyIdentifier.from_public_key(key), critical=False
        )
