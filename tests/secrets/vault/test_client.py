"""What an HTTP client can get wrong between us and Vault, on connections that the tests script."""

import asyncio
import gzip
import json
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from yarl import URL

from reconciler.errors import SecretsError, SecretsUnreachable
from reconciler.model.references import SecretPath
from reconciler.model.secret import Secret
from reconciler.sandbox.openbao import OpenBao
from reconciler.secrets.vault import backend as vault_backend
from reconciler.secrets.vault import client
from reconciler.secrets.vault.backend import AppRoleAuth, TokenAuth
from reconciler.secrets.vault.client import AnswerTooLong, VaultSession
from reconciler.secrets.vault.listing import Entries
from reconciler.system.http_client import BODY_LIMIT
from tests.secrets.conftest import QUICK
from tests.secrets.http_stub import Stub, always, answer, stub
from tests.secrets.vault.test_wire import AT, BRIEF, METADATA, TOKEN, backend_at, redirect_to
from tests.support.leaks import PRIVATE

POST = b"POST "
# Time enough for a busy machine: no test here waits for its end.
CALM = QUICK.scaled(0.2)


@contextmanager
def session_on(vault: Stub) -> Iterator[VaultSession]:
    """A session that is closed in the end."""
    made = VaultSession(address=vault.address, namespace="", ca_file=None, timeouts=CALM)
    yield made
    made.close()


def lasting(body: str) -> bytes:
    """An answer after which the connection stays open."""
    return answer(body).replace(b"Connection: close\r\n", b"")


def posts(vault: Stub) -> int:
    return sum(request.startswith(POST) for request in vault.requests)


def reset(connection: socket.socket) -> None:
    """Close so that the peer's next look at the connection fails."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


@pytest.mark.parametrize("status", ["301 x", "302 x", "303 x", "307 x", "308 x"])
def test_a_write_follows_no_redirect(status: str) -> None:
    with stub(always(answer(METADATA))) as thief, stub(always(redirect_to(thief, status))) as vault:
        with pytest.raises(SecretsUnreachable, match=f"redirects to 127.0.0.1:{thief.port}"):
            backend_at(vault.address).create_once(AT, "key", Secret("x"))

        assert posts(vault) == 1
        assert thief.requests == []


def test_an_endless_chunked_body_is_left_alone() -> None:
    sent, enough = 0, 10 * BODY_LIMIT  # kernels hold megabytes of what nobody took

    def script(connection: socket.socket, _: bytes) -> None:
        nonlocal sent
        connection.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        piece = b"x" * 65536
        with suppress(OSError):
            while sent < enough:
                connection.sendall(b"10000\r\n" + piece + b"\r\n")
                sent += len(piece)

    with stub(script) as vault, session_on(vault) as session:
        with pytest.raises(AnswerTooLong):
            session.wait(session.exchange("GET", "/v1/secret/data/a", token=None))

        assert len(vault.requests) == 1
    assert sent < enough


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "br", "x"])
def test_nothing_is_unpacked(encoding: str) -> None:
    packed = gzip.compress(METADATA.encode() + b" " * (4 * BODY_LIMIT))
    with stub(always(answer(packed, "200 OK", f"Content-Encoding: {encoding}"))) as vault:
        with pytest.raises(SecretsUnreachable, match="is not Vault"):
            backend_at(vault.address).describe(AT)

        assert vault.saw("Accept-Encoding: identity")


WHOLE = answer(METADATA)
HEAD, _, BODY = WHOLE.partition(b"\r\n\r\n")
TWO_LENGTHS = HEAD + b"\r\nContent-Length: 3\r\n\r\n" + BODY
SMUGGLED = HEAD + b"\r\nTransfer-Encoding: chunked\r\n\r\n" + BODY


@pytest.mark.parametrize("reply", [TWO_LENGTHS, SMUGGLED], ids=["lengths", "length and chunks"])
def test_an_answer_of_two_lengths_is_none(reply: bytes) -> None:
    with stub(always(reply)) as vault, pytest.raises(SecretsUnreachable) as caught:
        backend_at(vault.address).describe(AT)

    assert caught.value.__context__ is None


def test_headers_that_come_twice() -> None:
    twice = answer(METADATA, "200 OK", "Date: Mon, 23 Nov 2026 12:00:10 GMT", "Location: x")
    with stub(always(twice)) as vault:
        info = backend_at(vault.address).describe(AT)

    assert info.age < 60.0  # the first one counts


def test_no_cookie_comes_back() -> None:
    with stub(always(answer(METADATA, "200 OK", "Set-Cookie: a=b; Path=/"))) as vault:
        backend = backend_at(vault.address)
        for _ in range(2):
            backend.describe(AT)

        assert len(vault.requests) == 2
        assert not vault.saw("ookie")


def test_a_read_that_is_reset_in_mid_body_is_repeated_and_a_write_is_not() -> None:
    def script(connection: socket.socket, request: bytes) -> None:
        if request.startswith(POST) or len(vault.requests) == 1:
            connection.sendall(WHOLE[:-20])
            reset(connection)
        else:
            connection.sendall(WHOLE)

    with stub(script) as vault, session_on(vault) as session:
        path = "/v1/secret/metadata/a"
        assert session.wait(session.exchange("GET", path, token=None)).status == 200
        assert len(vault.requests) == 2

        with pytest.raises(SecretsUnreachable, match="cannot be reached"):
            session.wait(session.exchange("POST", path, token=None, body={}))
        assert posts(vault) == 1


def serving(vault: list[Stub], then: Callable[[socket.socket, bytes], None]) -> Stub:
    """Answer the first request, and leave to *then* what comes over the same connection."""

    def script(connection: socket.socket, request: bytes) -> None:
        if len(vault[0].requests) > 1:
            connection.sendall(WHOLE)
            return
        connection.sendall(lasting(METADATA))
        again = connection.recv(65536)
        vault[0].requests.append(again)
        then(connection, again)
        del request

    vault.append(Stub(script))
    return vault[0]


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_kept_connection_that_ends_under_a_request(method: str) -> None:
    """Nobody knows whether Vault acted: only what changes nothing is sent again."""
    vault = serving([], lambda connection, _: connection.close())
    try:
        with session_on(vault) as session:
            path = "/v1/secret/metadata/a"
            session.wait(session.exchange("GET", path, token=None))
            if method == "GET":
                assert session.wait(session.exchange(method, path, token=None)).status == 200
                assert len(vault.requests) == 3
            else:
                with pytest.raises(SecretsUnreachable):
                    session.wait(session.exchange(method, path, token=None, body={}))
                assert len(vault.requests) == 2
                assert posts(vault) == 1
    finally:
        vault.close()


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_kept_connection_that_ended_in_between_is_replaced(method: str) -> None:
    def script(connection: socket.socket, _: bytes) -> None:
        connection.sendall(lasting(METADATA))
        connection.shutdown(socket.SHUT_RDWR)
        ended.set()

    ended = threading.Event()
    with stub(script) as vault, session_on(vault) as session:
        path = "/v1/secret/metadata/a"

        async def story() -> int:
            await session.exchange("GET", path, token=None)
            assert await asyncio.to_thread(ended.wait, 60)
            for _ in range(3):
                await asyncio.sleep(0)  # the loop hears of it in its next turns
            return (await session.exchange(method, path, token=None, body=None)).status

        assert asyncio.run(story()) == 200
        assert len(vault.requests) == 2


def test_a_listing_that_comes_byte_by_byte_ends_in_time() -> None:
    def script(connection: socket.socket, _: bytes) -> None:
        connection.sendall(HEAD.replace(b"Content-Length", b"X-Length") + b"\r\n\r\n")
        with suppress(OSError):
            while True:
                connection.sendall(b" ")
                time.sleep(0.01)

    with stub(script) as vault:
        session = VaultSession(address=vault.address, namespace="", ca_file=None, timeouts=BRIEF)
        began = time.monotonic()
        with pytest.raises(SecretsUnreachable, match="no complete answer in time"):
            session.wait(session.exchange("GET", "/v1/a/b", token=None, wanted=entries("x")))
        session.close()

        assert len(vault.requests) == 1
    assert time.monotonic() - began < BRIEF.secrets_total + 10


def test_closing_ends_who_waits_for_another_attempt() -> None:
    with stub(always(answer('{"errors":[]}', "429 x", "Retry-After: 5"))) as vault:
        session = VaultSession(address=vault.address, namespace="", ca_file=None, timeouts=QUICK)
        slow = VaultSession(address=vault.address, namespace="", ca_file=None, timeouts=CALM)
        with ThreadPoolExecutor(1) as pool:
            waiting = pool.submit(lambda: slow.wait(slow.exchange("GET", "/v1/a/b", token=None)))
            while not vault.requests:
                time.sleep(0.001)
            slow.close()
            with pytest.raises(SecretsUnreachable):
                waiting.result(60)
        session.close()


# ── several loops ────────────────────────────────────────────────────────────────────────────


def test_one_backend_serves_loops_one_after_another_and_callers_without() -> None:
    with stub(always(answer(METADATA))) as vault:
        auth = TokenAuth(Secret(TOKEN))
        backend = vault_backend.VaultBackend(address=vault.address, auth=auth, timeouts=QUICK)
        found = [asyncio.run(backend.describe(AT)) for _ in range(2)]
        found.append(backend.wait(backend.describe(AT)))
        backend.close()

    assert [info.version for info in found] == [1, 1, 1]


def test_all_loops_share_one_login(bao: OpenBao, tmp_path: Path) -> None:
    """A secret id that is good for one login has to be enough for everybody."""
    bao.enable_audit()
    role, secret_id = bao.approle("once", ["reader"], uses=1)
    file = tmp_path / PRIVATE / "secret-id"
    file.parent.mkdir()
    file.write_text(secret_id.reveal())
    file.chmod(0o600)
    auth = AppRoleAuth(role, None, str(file))
    at = SecretPath("secret", "jt/shared-login")
    bao.put(at.path, {"a": "b"})
    backend = vault_backend.VaultBackend(address=bao.address, auth=auth, timeouts=CALM)
    since = len(bao.audit_entries())

    def without(_: int) -> int:
        return backend.wait(backend.describe(at)).version

    async def within() -> list[int]:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(backend.describe(at)) for _ in range(20)]
        return [task.result().version for task in tasks]

    with ThreadPoolExecutor(4) as pool:
        threads = [pool.submit(without, number) for number in range(4)]
        versions = asyncio.run(within()) + [one.result(60) for one in threads]
    backend.close()

    assert versions == [1] * 24
    logins = [
        entry
        for entry in bao.audit_entries()[since:]
        if entry["type"] == "request" and entry["request"]["path"] == "auth/approle/login"
    ]
    assert len(logins) == 1


# ── long listings ────────────────────────────────────────────────────────────────────────────


def facts(number: int) -> dict[str, object]:
    one = {"created_time": "2026-11-22T12:00:00.5Z", "deletion_time": "", "destroyed": False}
    return {
        "current_version": number,
        "custom_metadata": {"x": "y" * 250},
        "versions": {str(number): one},
    }


def entries(*names: str) -> Entries:
    return Entries({name: SecretPath("a", f"b/{name}") for name in names})


def test_a_listing_of_a_whole_fleet_is_one_request() -> None:
    names = [f"s{number // 6}/{number % 6}" for number in range(30_000)]
    listed = {"key_info": {name: facts(3) for name in names}, "keys": names}
    body = json.dumps({"data": listed, "warnings": None})
    assert len(body) > BODY_LIMIT
    with stub(always(answer(body))) as vault, session_on(vault) as session:
        wanted = entries(*names[::1000], "elsewhere")
        got = session.wait(session.exchange("GET", "/v1/a/b", token=None, wanted=wanted))

        assert len(vault.requests) == 1
    assert got.data["key_info"] == {name: facts(3) for name in names[::1000]}
    assert got.data["keys"] == names


@pytest.mark.parametrize(
    "body", ['{"data": {"key_info": {"a": 1}', "[]", "", "{} x", "\xff", "{,}"]
)
def test_what_is_no_listing_is_not_vaults_word(body: str) -> None:
    with stub(always(answer(body.encode("latin-1")))) as vault, session_on(vault) as session:
        with pytest.raises(SecretsError, match="is not Vault"):
            session.wait(session.exchange("GET", "/v1/a/b", token=None, wanted=entries("a")))

        assert len(vault.requests) == 1


def test_what_is_sent_and_what_comes_back_hide_themselves() -> None:
    headers = {"X-Vault-Token": "canary"}
    sent = client._Request("POST", URL("http://127.0.0.1/v1/a"), headers, b"canary", None)

    assert repr(sent) == "_Request(POST http://127.0.0.1/v1/a)"
    assert repr(client.Answer(200, None, {"data": {"apiKey": "canary"}})) == "Answer(200)"
