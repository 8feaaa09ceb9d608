"""What travels to Vault goes there only, ends in time, and leaves no trace on the way."""

import itertools
import json
import logging
import socket
import time
import traceback
from collections.abc import Iterator
from pathlib import Path

import hvac
import pytest
import requests

from reconciler.errors import (
    SecretMissing,
    SecretsError,
    SecretsSealed,
    SecretsUnreachable,
    SecretUnusable,
)
from reconciler.model.references import SecretPath
from reconciler.model.secret import Secret
from reconciler.sandbox.openbao import OpenBao
from reconciler.secrets.vault.auth import _Adapter
from reconciler.secrets.vault.backend import TokenAuth
from reconciler.secrets.vault.client import VaultSession
from tests.secrets.conftest import QUICK, MakeBackend, Place
from tests.secrets.http_stub import Script, Stub, always, answer, stub
from tests.support.canaries import Canary, Search
from tests.support.waiting import VaultBackend

AT = SecretPath("secret", "jt/a")
CREATED = "2026-11-22T12:00:00.123456789Z"
TOKEN = "hvs.c4n4ryTokenThatMustNotTravel"
METADATA = json.dumps(
    {
        "data": {
            "current_version": 1,
            "versions": {"1": {"created_time": CREATED, "deletion_time": "", "destroyed": False}},
        }
    }
)
BRIEF = QUICK.scaled(10)  # 0.2 s for one request, 0.4 s in all


def backend_at(address: str, **more: str) -> VaultBackend:
    return VaultBackend(address=address, auth=TokenAuth(Secret(TOKEN)), timeouts=BRIEF, **more)


def redirect_to(target: Stub, status: str = "307 Temporary Redirect") -> bytes:
    return answer(b"", status, f"Location: {target.address}/v1/secret/metadata/jt/a")


@pytest.mark.parametrize("status", ["301 x", "302 x", "303 x", "307 x", "308 x"])
def test_a_redirect_is_an_error_and_the_token_stays(status: str) -> None:
    with stub(always(answer(METADATA))) as thief, stub(always(redirect_to(thief, status))) as vault:
        with pytest.raises(SecretsUnreachable, match=f"redirects to 127.0.0.1:{thief.port}"):
            backend_at(vault.address).describe(AT)

        assert vault.saw(TOKEN)
        assert thief.requests == []


def test_control_hvac_by_itself_hands_the_token_to_the_other_host() -> None:
    with stub(always(answer(METADATA))) as thief, stub(always(redirect_to(thief))) as vault:
        client = hvac.Client(url=vault.address, token=TOKEN)
        client.secrets.kv.v2.read_secret_metadata(path="jt/a")
        client.adapter.close()

        assert thief.saw(TOKEN)


def test_control_hvac_without_redirects_returns_something_that_is_no_answer() -> None:
    with stub(always(answer(METADATA))) as thief, stub(always(redirect_to(thief))) as vault:
        client = hvac.Client(url=vault.address, token=TOKEN, allow_redirects=False)
        got = client.secrets.kv.v2.read_secret_metadata(path="jt/a")
        client.adapter.close()

        assert isinstance(got, requests.Response)


@pytest.mark.parametrize("location", ["//", "http://[", "http://\x1b[31m/", "/v1/elsewhere", "x:"])
def test_odd_redirects_are_named_without_repeating_them(location: str) -> None:
    with stub(always(answer(b"", "307 x", f"Location: {location}"))) as vault:
        with pytest.raises(SecretsUnreachable, match="redirects to") as caught:
            backend_at(vault.address).describe(AT)

        assert "\x1b" not in str(caught.value)


@pytest.fixture
def hostile_environment(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Iterator[tuple[Stub, Stub]]:
    """Everything by which an environment could send a token elsewhere; gives proxy and Vault."""
    with stub(always(answer(METADATA))) as proxy, stub(always(answer(METADATA))) as vault:
        for name in ("HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "ALL_PROXY", "VAULT_ADDR"):
            monkeypatch.setenv(name, proxy.address)
        for name in ("NO_PROXY", "no_proxy"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv("HOME", str(tmp_path))
        monkeypatch.setenv("VAULT_TOKEN", "hvs.fromEnvironment")
        monkeypatch.setenv("VAULT_NAMESPACE", "elsewhere")
        monkeypatch.setenv("NETRC", str(tmp_path / ".netrc"))
        (tmp_path / ".netrc").write_text("machine 127.0.0.1 login netrcuser password netrcpass\n")
        (tmp_path / ".vault-token").write_text("hvs.fromHome")
        yield proxy, vault


def test_nothing_is_taken_from_the_environment(hostile_environment: tuple[Stub, Stub]) -> None:
    proxy, vault = hostile_environment
    backend_at(vault.address).describe(AT)

    assert vault.saw(TOKEN)
    assert not any(
        vault.saw(text) for text in ("Authorization", "fromEnvironment", "fromHome", "Namespace")
    )
    assert proxy.requests == []


def test_control_hvac_by_itself_gives_the_token_to_the_proxy(
    hostile_environment: tuple[Stub, Stub],
) -> None:
    proxy, vault = hostile_environment
    client = hvac.Client(url=vault.address)
    client.secrets.kv.v2.read_secret_metadata(path="jt/a")
    client.adapter.close()

    assert proxy.saw("hvs.fromEnvironment")
    assert proxy.saw("Authorization")
    assert vault.requests == []


def test_the_namespace_travels_with_every_request() -> None:
    with stub(always(answer(METADATA))) as vault:
        backend_at(vault.address, namespace="team/a").describe(AT)

        assert vault.saw("X-Vault-Namespace: team/a")


def test_a_path_in_the_address_is_kept() -> None:
    with stub(always(answer(METADATA))) as vault:
        assert backend_at(f"{vault.address}/behind/").describe(AT).version == 1

        assert vault.requests[0].startswith(b"GET /behind/v1/secret/metadata/jt/a HTTP/1.1\r\n")


HOSTILE = [
    ("secret", "../../sys/mounts"),
    ("secret", "jt/../other"),
    ("secret", "jt/./a"),
    ("secret", "jt//a"),
    ("secret", "jt/a/"),
    ("secret", "/jt"),
    ("secret", ""),
    ("", "jt"),
    ("zzz/../secret", "jt"),
    ("..", "jt"),
    ("secret", "jt/%2e%2e/other"),
    ("secret", "jt/a%2fb"),
    ("secret", "jt?version=1"),
    ("secret", "jt#x"),
    ("secret", "jt/a b"),
    ("secret", "jt\\..\\other"),
    ("secret", "jt/a\r\nX: y"),
    ("secret", "jt/a\x00"),
    ("secret", "jt/ä"),
    ("secret", "jt/\u2024\u2024/x"),
    ("secret", "jt/a;b"),
    ("secret", "jt/a@3"),
    ("secret", "jt/.hidden"),
    ("secret", "jt/a..b"),
    ("secret", "jt/a."),
    ("secret", "http://evil.example/"),
    ("secret@evil.example", "jt"),
    ("secret/", "jt"),
    ("secret", "x" * 600),
    ("a/b", "c//d"),
]


@pytest.mark.parametrize(("mount", "path"), HOSTILE)
def test_no_hostile_path_leaves_the_process(mount: str, path: str) -> None:
    at = SecretPath(mount, path)
    with stub(always(answer(METADATA))) as vault:
        backend = backend_at(vault.address)
        for ask in (
            lambda: backend.describe(at),
            lambda: backend.read(at, 1, CREATED),
            lambda: backend.create_once(at, "key", Secret("x")),
        ):
            with pytest.raises(SecretUnusable):
                ask()

        assert vault.requests == []


def test_control_hvac_by_itself_collapses_the_dots() -> None:
    with stub(always(answer(METADATA))) as vault:
        client = hvac.Client(url=vault.address, token=TOKEN)
        client.secrets.kv.v2.read_secret_metadata(path="../../sys/mounts")
        client.adapter.close()

        assert vault.requests[0].startswith(b"GET /v1/sys/mounts ")


@pytest.mark.parametrize("path", ["/v1/secret/../sys", "/v2/x", "/v1/a%2e", "/v1//a", "/v1/a?b"])
def test_the_session_itself_checks_the_path_again(path: str) -> None:
    with stub(always(answer(METADATA))) as vault:
        session = VaultSession(address=vault.address, namespace="", ca_file=None, timeouts=BRIEF)
        with pytest.raises(SecretsError, match="refused to ask"):
            session.wait(session.exchange("GET", path, token=None))
        adapter = _Adapter(session, "/v1/auth/approle/login")
        with pytest.raises(SecretsError, match="refused to ask"):
            session.wait(adapter.login("/v1/auth/jwt/login", use_token=False))
        session.close()

        assert vault.requests == []


def failing_then(replies: list[bytes]) -> Iterator[bytes]:
    return itertools.chain(replies, itertools.repeat(answer(METADATA)))


@pytest.mark.parametrize("status", ["429 x", "500 x", "502 x", "504 x", "412 x", "503 x"])
def test_a_moment_of_weakness_is_waited_out(status: str) -> None:
    replies = failing_then([answer('{"errors":["h"]}', status)] * 2)

    def script(connection: socket.socket, request: bytes) -> None:
        health = b"/v1/sys/seal-status" in request
        connection.sendall(answer('{"sealed":false}') if health else next(replies))

    with stub(script) as vault:
        backend = VaultBackend(address=vault.address, auth=TokenAuth(Secret(TOKEN)), timeouts=QUICK)
        assert backend.describe(AT).version == 1


@pytest.mark.parametrize("status", ["429 x", "500 x", "503 x"])
def test_weakness_without_end_ends_in_time(status: str) -> None:
    with stub(always(answer('{"errors":["hvs.leak"]}', status))) as vault:
        began = time.monotonic()
        with pytest.raises(SecretsUnreachable) as caught:
            backend_at(vault.address).describe(AT)

        assert time.monotonic() - began < BRIEF.secrets_total + 5
        assert 2 <= len(vault.requests) <= 12
        assert "leak" not in str(caught.value)


def test_sealed_is_not_tried_again() -> None:
    with stub(always(answer('{"sealed":true}', "200 OK"))) as health:

        def script(connection: socket.socket, request: bytes) -> None:
            sealed = b"seal-status" in request
            connection.sendall(
                answer('{"sealed":true}') if sealed else answer('{"errors":[]}', "503 x")
            )

        with stub(script) as vault:
            with pytest.raises(SecretsSealed):
                backend_at(vault.address).describe(AT)

            assert len(vault.requests) == 2
            assert not vault.requests[1].lower().count(b"x-vault-token")
        assert health.requests == []


def test_waiting_as_long_as_asked_but_no_longer_than_allowed() -> None:
    with stub(always(answer('{"errors":[]}', "429 x", "Retry-After: 3600"))) as vault:
        with pytest.raises(SecretsUnreachable, match="429"):
            backend_at(vault.address).describe(AT)

        assert len(vault.requests) == 1


def test_a_write_is_not_repeated_when_its_outcome_is_unknown() -> None:
    def script(connection: socket.socket, _: bytes) -> None:
        connection.close()

    with stub(script) as vault:
        with pytest.raises(SecretsUnreachable):
            backend_at(vault.address).create_once(AT, "key", Secret("x"))

        assert sum(request.startswith(b"POST") for request in vault.requests) == 1


def drip(connection: socket.socket, reply: bytes, at_once: bytes = b"") -> None:
    connection.sendall(at_once)
    for byte in reply:
        connection.sendall(bytes([byte]))
        time.sleep(0.05)


def silent(connection: socket.socket, _: bytes) -> None:
    connection.recv(1)


WHOLE = answer(METADATA)
HEAD, _, BODY = WHOLE.partition(b"\r\n\r\n")
BROKEN: dict[str, Script] = {
    "silence": silent,
    "header byte by byte": lambda c, _: drip(c, WHOLE),
    "body byte by byte": lambda c, _: drip(c, BODY, HEAD + b"\r\n\r\n"),
    "cut in the header": lambda c, _: c.sendall(HEAD[:40]),
    "cut in the body": lambda c, _: c.sendall(WHOLE[:-20]),
    "nothing": lambda c, _: c.close(),
    "not HTTP": always(b"SSH-2.0-OpenSSH_9.6\r\n"),
    "HTML": always(answer("<html>hvs.leak</html>")),
    "HTML 404": always(answer("<html>hvs.leak</html>", "404 Not Found")),
    "HTML 403": always(answer("<html>hvs.leak</html>", "403 Forbidden")),
    "JSON of another service": always(answer('{"message":"hvs.leak"}', "404 Not Found")),
    "a list": always(answer("[]")),
    "a list 404": always(answer("[]", "404 x")),
    "deep": always(answer("[" * 100_000)),
    "empty": always(answer("")),
    "204": always(answer("", "204 No Content")),
    "too large": always(answer(b'{"data":"' + b"x" * 9_000_000 + b'"}')),
    "endless headers": always(b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 200 + b"\r\n"),
    "418": always(answer('{"errors":["hvs.leak"]}', "418 x")),
    "no date": always(answer(METADATA, date="")),
    "bad date": always(answer(METADATA, date="yesterday")),
    "no such thing as versions": always(answer('{"data":{"current_version":1}}')),
    "version as text": always(answer(METADATA.replace('n": 1', 'n": "1"'))),
    "bad time": always(answer(METADATA.replace(CREATED, "2026-99-99T00:00:00Z"))),
    "time as number": always(answer(METADATA.replace(f'"{CREATED}"', "7"))),
    "version as list": always(answer('{"data":{"current_version":1,"versions":{"1":[]}}}')),
}


@pytest.mark.parametrize("script", BROKEN.values(), ids=BROKEN.keys())
def test_no_broken_answer_looks_like_absence_or_takes_long(script: Script) -> None:
    with stub(script) as vault:
        backend = backend_at(vault.address)
        began = time.monotonic()
        for ask in (lambda: backend.describe(AT), lambda: backend.read(AT, 1, CREATED)):
            with pytest.raises(SecretsError) as caught:
                ask()
            assert not isinstance(caught.value, SecretMissing)
            assert "leak" not in str(caught.value)
            assert caught.value.__context__ is None
        backend.close()

    # Each of the two asks at most three things, each of which is bounded.
    assert time.monotonic() - began < 6 * BRIEF.secrets_total + 10


@pytest.mark.parametrize(
    ("status", "body"),
    [
        *(("200 OK", body) for body in ("<html>", "[]", "")),
        *(
            (status, body)
            for status in ("400 x", "403 Forbidden", "404 Not Found")
            for body in ("<html>", '{"message":"no"}', "[]", "")
        ),
    ],
)
def test_what_something_else_says_is_not_taken_for_vaults_word(status: str, body: str) -> None:
    with stub(always(answer(body, status))) as other:
        with pytest.raises(SecretsUnreachable, match="is not Vault"):
            backend_at(other.address).describe(AT)

        assert len(other.requests) == 1


def test_control_the_timeouts_of_the_library_alone_do_not_end_a_dripping_answer() -> None:
    with stub(lambda c, _: drip(c, b"HTTP/1.1 200 OK\r\n\r\n")) as vault:
        began = time.monotonic()
        requests.get(vault.address, timeout=0.2)

        assert time.monotonic() - began > 0.8


def test_no_secret_is_in_any_log_or_traceback(
    bao: OpenBao,
    place: Place,
    backend_with: MakeBackend,
    made_up: tuple[Canary, ...],
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    caplog.set_level(logging.DEBUG)
    search = Search((*made_up, Canary("token", bao.root_token.reveal())))
    bao.put(place.path, {canary.shape: canary.value for canary in made_up})
    backend = backend_with(TokenAuth(bao.root_token))
    caplog.set_level(logging.DEBUG)
    info = backend.describe(place.at)
    values = backend.read(place.at, info.version, info.created)
    seen = [repr(values), str(values), f"{info}", repr(backend)]
    for at, version in ((place.at, 7), (SecretPath("none", "x"), 1)):
        try:
            backend.read(at, version, info.created)
        except SecretsError:
            seen.append(traceback.format_exc())
    caplog.set_level(logging.DEBUG, "reconciler")
    seen += [f"{r.getMessage()} {r.args} {r.exc_text}" for r in caplog.records]

    assert {name: values[name].reveal() for name in values} == {
        canary.shape: canary.value for canary in made_up
    }
    assert search.leaks("\n".join(seen).encode()) == []
    assert search.leaks("".join(capfd.readouterr()).encode()) == []
    assert not [r for r in caplog.records if r.name.split(".")[0] in {"urllib3", "requests"}]


def test_control_the_search_finds_a_token_that_the_library_prints(
    made_up: tuple[Canary, ...],
) -> None:
    token = made_up[2].value
    with pytest.raises(requests.exceptions.InvalidHeader) as caught:
        requests.get("http://127.0.0.1:9", headers={"X-Vault-Token": f"{token}\n"}, timeout=1)

    assert Search(made_up).leaks(str(caught.value).encode())
