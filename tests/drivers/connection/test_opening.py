"""How a conversation begins, and all the ways in which it must not."""

import asyncio
import contextlib
import errno
import gc
import logging
import ssl
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from reconciler import __version__
from reconciler.drivers import Trust
from reconciler.drivers.connection.transport import tls_context
from reconciler.errors import (
    LoginSilent,
    ServerUnreachable,
    TlsRefused,
    Unauthorized,
    WrongAccount,
)
from reconciler.testing.drivers_rig import NO_PATIENCE
from tests.drivers.scripted import Authority, Peer, Script, canary, opened, scripted, served, told


async def admitting(peer: Peer) -> None:
    await peer.admit()
    await peer.until_gone()


def test_the_handshake_says_who_asks_and_shows_the_login() -> None:
    secret = canary()

    async def story() -> None:
        async with scripted(admitting) as (url, peers):
            session = await opened(url, secret=secret, command="plan")
            await session.close()
            (peer,) = peers
            assert peer.headers["User-Agent"] == f"jt-reconciler/{__version__} (plan)"
            assert "Cookie" not in peer.headers
            assert peer.query["transport"] == "websocket"
            assert peer.query["EIO"] == "4"
            assert peer.auth == {"accessToken": "", "accessSecret": secret}
            assert peer.requests == []

    told(story)


def test_a_path_in_the_address_is_kept() -> None:
    async def story() -> None:
        async with scripted(admitting, path="/jt/one/socket.io/") as (url, peers):
            session = await opened(f"{url}/jt/one")
            await session.close()
            assert peers[0].path == "/jt/one/socket.io/"

    told(story)


def test_authenticated_may_come_with_the_very_first_frames() -> None:
    async def script(peer: Peer) -> None:
        await peer.send('0{"sid":"a","upgrades":[],"pingInterval":25000,"pingTimeout":20000}')
        await peer.send('40{"sid":"b"}')
        await peer.message("authenticated", {"id": "0"})
        await peer.until_gone()

    async def story() -> None:
        async with scripted(script) as (url, _):
            session = await opened(url)
            await session.close()

    told(story)


@pytest.mark.parametrize(
    ("payload", "words"),
    [({"code": 4002}, "secret"), ({"code": 4001}, "token"), ({"code": "x"}, "login"), (7, "login")],
)
def test_unauthorized_closes_at_once_and_says_what_was_wrong(payload: object, words: str) -> None:
    gone = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.open()
        await peer.message("unauthorized", payload)
        await peer.until_gone()
        gone.set()

    async def story() -> None:
        async with scripted(script) as (url, peers):
            with pytest.raises(Unauthorized, match=f"access {words}|the {words}"):
                await opened(url)
            await gone.wait()
            assert peers[0].requests == []

    told(story)


@pytest.mark.parametrize("account", ["1", "", "00", 0, None, True, {"id": "0"}, "x\x1b[31m" * 90])
def test_another_account_is_refused(account: object) -> None:
    async def script(peer: Peer) -> None:
        await peer.admit(account)
        await peer.until_gone()

    async def story() -> None:
        async with scripted(script) as (url, peers):
            with pytest.raises(WrongAccount) as caught:
                await opened(url)
            assert "\x1b" not in str(caught.value)
            assert len(str(caught.value)) < 400
            assert peers[0].requests == []

    told(story)


# ── silence at every level ───────────────────────────────────────────────────────────────────


@contextlib.asynccontextmanager
async def stub(answer: bytes = b"", *, then_close: bool = False) -> AsyncIterator[str]:
    """Accept, say *answer*, and stay silent."""
    done = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            await reader.read(10)
            writer.write(answer)
            await writer.drain()
            if not then_close:
                await done.wait()
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        done.set()
        server.close()
        await asyncio.sleep(0.01)


def test_a_peer_that_accepts_and_says_nothing() -> None:
    async def story() -> None:
        async with stub() as url:
            with pytest.raises(ServerUnreachable, match="did not answer in time"):
                await opened(url, timeouts=NO_PATIENCE)

    told(story)


def test_a_peer_that_speaks_no_http() -> None:
    async def story() -> None:
        async with stub(b"SSH-2.0-OpenSSH_9\r\n", then_close=True) as url:
            with pytest.raises(ServerUnreachable):
                await opened(url, timeouts=NO_PATIENCE)

    told(story)


def test_a_peer_that_closes_at_once() -> None:
    async def story() -> None:
        async with stub(then_close=True) as url:
            with pytest.raises(ServerUnreachable, match="closed the connection"):
                await opened(url, timeouts=NO_PATIENCE)

    told(story)


def test_a_peer_that_stops_after_the_upgrade() -> None:
    async def story() -> None:
        async with scripted(Peer.until_gone) as (url, _):
            with pytest.raises(ServerUnreachable, match="did not answer in time"):
                await opened(url, timeouts=NO_PATIENCE)

    told(story)


def test_a_peer_that_stops_before_the_namespace() -> None:
    async def script(peer: Peer) -> None:
        await peer.send('0{"sid":"a","upgrades":[],"pingInterval":25000,"pingTimeout":20000}')
        await peer.until_gone()

    async def story() -> None:
        async with scripted(script) as (url, _):
            with pytest.raises(ServerUnreachable, match="did not answer in time"):
                await opened(url, timeouts=NO_PATIENCE)

    told(story)


def test_a_peer_that_never_says_whether_it_accepts_us() -> None:
    async def script(peer: Peer) -> None:
        await peer.open()
        await peer.until_gone()

    async def story() -> None:
        async with scripted(script) as (url, peers):
            with pytest.raises(LoginSilent, match="may hang"):
                await opened(url, timeouts=NO_PATIENCE)
            assert peers[0].requests == []

    told(story)


@pytest.mark.parametrize(
    "frames",
    [
        ["x"],
        ["0"],
        ["0[]"],
        ["0{}"],
        ['0{"sid":"a","upgrades":[],"pingInterval":"x","pingTimeout":1}'],
        ['0{"sid":"a","upgrades":[],"pingInterval":1e999,"pingTimeout":1}'],
        ["40{}"],
        ['0{"sid":"a","upgrades":[],"pingInterval":9000,"pingTimeout":9}', '44{"message":"no"}'],
        ['0{"sid":"a","upgrades":[],"pingInterval":9000,"pingTimeout":9}', "40[1]"],
        ['0{"sid":"a","upgrades":[],"pingInterval":9000,"pingTimeout":9}', "4"],
        ['0{"sid":"a","upgrades":[],"pingInterval":9000,"pingTimeout":9}', "41"],
        ['0{"sid":"a","upgrades":[],"pingInterval":9000,"pingTimeout":9}', "1"],
        ['0{"sid":"a","upgrades":[],"pingInterval":9000,"pingTimeout":9}', "42[" + "[" * 100_000],
        ['0{"sid":"a","upgrades":[],"pingInterval":9000,"pingTimeout":9}', '451-["message"]'],
    ],
)
def test_a_peer_that_speaks_nonsense(frames: list[str]) -> None:
    async def script(peer: Peer) -> None:
        for frame in frames:
            await peer.send(frame)
        await peer.until_gone()

    async def story() -> None:
        async with scripted(script) as (url, _):
            started = asyncio.get_running_loop().time()
            with pytest.raises(ServerUnreachable):
                await opened(url)
            assert asyncio.get_running_loop().time() - started < 1.5

    told(story)


def test_nothing_listens() -> None:
    async def story() -> None:
        async with stub() as url:
            pass
        with pytest.raises(ServerUnreachable, match="nothing listens"):
            await opened(url)

    told(story)


def test_an_unknown_host_name() -> None:
    async def story() -> None:
        with pytest.raises(ServerUnreachable, match=r"name is not known|did not answer in time"):
            await opened("http://no-such-host.invalid:1")

    told(story)


def test_a_web_server_of_another_kind() -> None:
    async def story() -> None:
        async with served(web.Application()) as port:
            with pytest.raises(ServerUnreachable, match="HTTP 404"):
                await opened(f"http://127.0.0.1:{port}")

    told(story)


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_a_redirect_is_never_followed(status: int) -> None:
    async def story() -> None:
        async with scripted(admitting) as (elsewhere, visitors):
            app = web.Application()

            async def redirect(_: web.Request) -> web.Response:
                return web.Response(
                    status=status, headers={"Location": f"{elsewhere}/socket.io/?EIO=4"}
                )

            app.router.add_get("/{tail:.*}", redirect)
            async with served(app) as port:
                with pytest.raises(ServerUnreachable, match="redirects"):
                    await opened(f"http://127.0.0.1:{port}", secret=canary())
            assert visitors == []

    told(story)


def test_proxies_of_the_environment_are_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ws_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")

    async def story() -> None:
        async with scripted(admitting) as (url, _):
            session = await opened(url)
            await session.close()

    told(story)


# ── TLS ──────────────────────────────────────────────────────────────────────────────────────


def test_a_pinned_authority_is_believed(tmp_path: Path) -> None:
    ours = Authority(tmp_path)

    async def story() -> None:
        async with scripted(admitting, context=ours.server_context()) as (url, _):
            session = await opened(url, trust=Trust(ca_file=str(ours.ca_file)))
            await session.close()

    told(story)


@pytest.mark.parametrize(
    ("which", "words"),
    [
        ("system", "CA that is trusted"),
        ("other", "CA that is trusted"),
        ("expired", "expired"),
        ("future", "not valid yet"),
        ("name", "another address"),
    ],
)
def test_other_certificates_are_refused_with_the_reason(
    tmp_path: Path, which: str, words: str
) -> None:
    ours, other = Authority(tmp_path), Authority(tmp_path, "other")
    days = {"expired": (-3, -2), "future": (2, 3)}.get(which, (-1, 1))
    address = "127.0.0.9" if which == "name" else "127.0.0.1"
    ca_file = {"system": None, "other": str(other.ca_file)}.get(which, str(ours.ca_file))

    async def story() -> None:
        context = ours.server_context(address=address, days=days)
        async with scripted(admitting, context=context) as (url, peers):
            with pytest.raises(TlsRefused, match=words):
                await opened(url, secret=canary(), trust=Trust(ca_file=ca_file))
            assert peers == []

    told(story)


@pytest.mark.parametrize("strict", [False, True], ids=["as Python has it", "strict"])
def test_a_private_authority_of_old_kind_is_refused_with_what_to_do(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    strict: bool,  # noqa: FBT001  - a column of the table
) -> None:
    old, usual = Authority(tmp_path, identified=False), ssl.create_default_context

    def made(**options: Any) -> ssl.SSLContext:
        context = usual(**options)
        if strict:
            context.verify_flags |= ssl.VERIFY_X509_STRICT
        return context

    monkeypatch.setattr(ssl, "create_default_context", made)

    async def story() -> None:
        trust = Trust(ca_file=str(old.ca_file))
        async with scripted(admitting, context=old.server_context()) as (url, peers):
            if strict or sys.version_info >= (3, 13):
                with pytest.raises(TlsRefused, match=r"since 3\.13: it has no") as caught:
                    await opened(url, secret=canary(), trust=trust)
                assert "issue the CA and the certificate anew" in caught.value.remedy
                assert peers == []
            else:
                await (await opened(url, trust=trust)).close()

    told(story)


def test_a_client_certificate_is_shown_when_there_is_one(tmp_path: Path) -> None:
    ours = Authority(tmp_path)
    cert, key = ours.issue("client")
    context = ours.server_context()
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(ours.ca_file)

    async def story() -> None:
        async with scripted(admitting, context=context) as (url, peers):
            trust = Trust(ca_file=str(ours.ca_file), client_cert=cert, client_key=key)
            session = await opened(url, trust=trust)
            await session.close()
            assert len(peers) == 1
            with pytest.raises((TlsRefused, ServerUnreachable), match="client certificate"):
                await opened(url, trust=Trust(ca_file=str(ours.ca_file)))
            assert len(peers) == 1

    told(story)


def test_a_server_without_tls_behind_https() -> None:
    async def story() -> None:
        async with scripted(admitting) as (url, peers):
            with pytest.raises(TlsRefused, match="does not speak TLS"):
                await opened(url.replace("http:", "https:"), secret=canary())
            assert peers == []

    told(story)


@pytest.mark.parametrize("content", [None, "no PEM"])
def test_unusable_files_are_told_before_connecting(tmp_path: Path, content: str | None) -> None:
    file = tmp_path / "ca.pem"
    if content is not None:
        file.write_text(content)

    async def story() -> None:
        async with scripted(admitting) as (url, peers):
            trust = Trust(ca_file=str(file))
            with pytest.raises(TlsRefused, match="cannot be used"):
                await opened(url.replace("http:", "https:"), trust=trust)
            assert peers == []

    told(story)


# ── what it leaves behind ────────────────────────────────────────────────────────────────────


def test_no_log_at_any_level_holds_the_login(
    caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    secret, token = canary(), canary()
    caplog.set_level(logging.DEBUG)
    registered = [logging.getLogger(name) for name in logging.root.manager.loggerDict]
    before = [(logger, logger.level) for logger in registered]

    async def story() -> None:
        for logger in registered:
            logger.setLevel(logging.DEBUG)
        async with scripted(admitting) as (url, _):
            session = await opened(url, secret=secret)
            await session.close()

        async def refusing(peer: Peer) -> None:
            await peer.open()
            await peer.message("unauthorized", {"code": 4002, "note": token})
            await peer.send(f'42["message",{{"event":"{token}"')
            await peer.until_gone()

        async with scripted(refusing) as (url, _):
            with pytest.raises(Unauthorized):
                await opened(url, secret=secret)

    try:
        told(story)
    finally:
        for logger, level in before:
            logger.setLevel(level)
    out = capfd.readouterr()
    for text in (caplog.text, out.out, out.err):
        assert secret not in text
        assert token not in text


def test_a_hundred_conversations_leave_nothing() -> None:
    async def story() -> None:
        async with scripted(admitting) as (url, peers):
            sessions = await asyncio.gather(*(opened(url) for _ in range(100)))
            sockets = [one for s in sessions for one in s._wire._made.sockets]
            assert len(sockets) == len(peers) == 100
            assert all(one.fileno() >= 0 for one in sockets)
            await asyncio.gather(*(session.close() for session in sessions))
            assert all(one.fileno() == -1 for one in sockets)
            await asyncio.gather(*(session.close() for session in sessions))  # again is harmless

    told(story)


def test_a_ca_file_is_read_again_when_it_changed(tmp_path: Path) -> None:
    """And only then: to read the system's costs more than a look at a server."""
    first, second = Authority(tmp_path, "first"), Authority(tmp_path, "second")
    pinned = tmp_path / "pinned.pem"
    pinned.write_bytes(first.ca_file.read_bytes())
    trust = Trust(ca_file=str(pinned))
    before = tls_context(trust)

    assert tls_context(Trust(ca_file=str(pinned))) is before
    assert tls_context(Trust()) is tls_context(Trust())
    pinned.write_bytes(second.ca_file.read_bytes())
    assert tls_context(trust) is not before
    (authority,) = tls_context(trust).get_ca_certs()
    assert authority["subject"] == ((("commonName", "test second"),),)


async def says_nothing(peer: Peer) -> None:
    await peer.until_gone()


async def hangs_up(peer: Peer) -> None:
    await peer.ws.close()


async def opens_and_falls_silent(peer: Peer) -> None:
    await peer.open()
    await peer.until_gone()


async def opens_and_is_gone(peer: Peer) -> None:
    await peer.open()
    assert peer.raw.transport is not None
    peer.raw.transport.abort()


@pytest.mark.parametrize(
    "script", [says_nothing, hangs_up, opens_and_falls_silent, opens_and_is_gone]
)
def test_a_connection_that_came_to_nothing_is_given_back(script: Script) -> None:
    # What is left to the garbage collector may end as an ERROR in the log of a controller.
    async def story() -> None:
        async with scripted(script) as (url, _):
            with pytest.raises((ServerUnreachable, LoginSilent)) as caught:
                await opened(url, timeouts=NO_PATIENCE)
            assert caught.value.__traceback__ is not None  # it holds all that was made
            assert held() == []

    gc.collect()
    assert held() == []
    gc.disable()
    try:
        told(story)
    finally:
        gc.enable()


def held() -> list[str]:
    """Return the connections that nobody gave back, of all that live in this process."""
    kept = [one for one in gc.get_objects() if isinstance(one, aiohttp.connector.Connection)]
    return [repr(one) for one in kept if one.protocol is not None]


def test_giving_up_while_it_opens_leaves_nothing() -> None:
    async def story() -> None:
        arrived = asyncio.Event()

        async def script(peer: Peer) -> None:
            await peer.open()
            arrived.set()
            await peer.until_gone()

        async with scripted(script) as (url, _):
            opening = asyncio.create_task(opened(url))
            await arrived.wait()
            opening.cancel()
            with pytest.raises(asyncio.CancelledError):
                await opening

    told(story)


def test_the_network_reasons_have_words() -> None:
    from reconciler.drivers.connection.failures import explained  # noqa: PLC0415  - pure, no server

    for number in (errno.EHOSTUNREACH, errno.ENETUNREACH, errno.ETIMEDOUT, errno.ECONNRESET):
        error = explained("http://x", OSError(number, "foreign text"))
        assert isinstance(error, ServerUnreachable)
        assert "foreign text" not in str(error)
