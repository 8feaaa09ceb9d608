"""Logins against a real OpenBao: what happens when a token dies, and what is left behind."""

import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from reconciler.errors import Forbidden, LoginFailed, MountUnknown, SecretsError, TokenExpired
from reconciler.model.references import SecretPath
from reconciler.model.secret import Secret
from reconciler.sandbox.openbao import OpenBao
from reconciler.secrets.vault.backend import AppRoleAuth, TokenAuth, TokenFileAuth
from tests.secrets.conftest import MakeBackend, Place
from tests.secrets.http_stub import always, answer, stub

MakeRole = Callable[..., AppRoleAuth]


@pytest.fixture
def role(bao: OpenBao, place: Place, tmp_path: Path) -> MakeRole:
    """Make an AppRole of its own for the test, with its ids in files."""

    def make(ttl: str = "1h", uses: int = 0, policy: str = "reader") -> AppRoleAuth:
        name = place.path.replace("/", "-")
        role_id, secret_id = bao.approle(name, [policy], ttl=ttl, uses=uses)
        (tmp_path / "role").write_text(f"{role_id}\n")
        (tmp_path / "secret").write_text(f"{secret_id.reveal()}\n")
        return AppRoleAuth(None, str(tmp_path / "role"), str(tmp_path / "secret"))

    return make


def logins(bao: OpenBao, path: str = "auth/approle/login") -> int:
    return sum(
        entry["type"] == "response" and entry["request"]["path"] == path
        for entry in bao.audit_entries()
    )


def test_app_role_logs_in_once_for_all_threads(
    bao: OpenBao, place: Place, backend_with: MakeBackend, role: MakeRole
) -> None:
    bao.put(place.path, {"apiKey": "x"})
    bao.enable_audit()
    backend = backend_with(role())
    before = logins(bao)
    with ThreadPoolExecutor(8) as pool:
        versions = list(pool.map(lambda _: backend.describe(place.at).version, range(40)))

    assert versions == [1] * 40
    assert logins(bao) - before == 1


def test_an_app_role_token_that_expires_in_between_is_replaced_once(
    bao: OpenBao, place: Place, backend_with: MakeBackend, role: MakeRole
) -> None:
    bao.put(place.path, {"apiKey": "x"})
    bao.enable_audit()
    backend = backend_with(role(ttl="3s"))
    before = logins(bao)
    info = backend.describe(place.at)
    first = backend.token()
    until_dead(bao, first)
    barrier = threading.Barrier(8)

    def read(_: int) -> str:
        barrier.wait(60)
        return backend.read(place.at, 1, info.created)["apiKey"].reveal()

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(read, range(8))) == ["x"] * 8
    assert logins(bao) - before == 2


def until_dead(bao: OpenBao, token: Secret) -> None:
    end = time.monotonic() + 60
    while bao.alive(token):
        assert time.monotonic() < end
        time.sleep(0.1)


def test_a_plain_token_that_expires_in_between_is_said_to_have_expired(
    bao: OpenBao, place: Place, backend_with: MakeBackend
) -> None:
    bao.put(place.path, {"apiKey": "x"})
    token = bao.create_token(["reader"], ttl="1s")
    backend = backend_with(TokenAuth(token))
    assert backend.describe(place.at).version == 1

    until_dead(bao, token)

    with pytest.raises(TokenExpired, match="expired") as caught:
        backend.describe(place.at)
    assert str(place.at) in caught.value.what
    assert token.reveal() not in str(caught.value)


def test_a_wrong_secret_id(
    place: Place, backend_with: MakeBackend, role: MakeRole, tmp_path: Path
) -> None:
    auth = role()
    (tmp_path / "secret").write_text("9b1deb4d-3b7d-4bad-9bdd-2b0d7b3dcb6d\n")

    with pytest.raises(LoginFailed, match="wrong, expired or used up"):
        backend_with(auth).describe(place.at)


def test_a_used_up_secret_id_and_a_new_one(
    bao: OpenBao, place: Place, backend_with: MakeBackend, role: MakeRole, tmp_path: Path
) -> None:
    bao.put(place.path, {"apiKey": "x"})
    auth = role(uses=1)
    assert backend_with(auth).describe(place.at).version == 1
    second = backend_with(auth)
    with pytest.raises(LoginFailed, match="used up"):
        second.describe(place.at)

    fresh = bao.secret_id(place.path.replace("/", "-"))
    (tmp_path / "secret").write_text(fresh.reveal())

    assert second.describe(place.at).version == 1  # the file is read again


def test_a_login_method_that_is_not_mounted(
    place: Place, backend_with: MakeBackend, role: MakeRole
) -> None:
    auth = role()
    elsewhere = AppRoleAuth(auth.role_id, auth.role_id_file, auth.secret_id_file, mount="nowhere")

    with pytest.raises(LoginFailed, match="not mounted"):
        backend_with(elsewhere).describe(place.at)


@pytest.mark.parametrize("mount", ["../sys", "a//b", "", "a b", "approle/../x", "approle?x"])
def test_a_hostile_login_mount_is_not_asked(
    place: Place, backend_with: MakeBackend, mount: str
) -> None:
    with stub(always(answer())) as vault:
        auth = AppRoleAuth("r", None, None, mount=mount)
        with pytest.raises(LoginFailed):
            backend_with(auth, address=vault.address).describe(place.at)

        assert vault.requests == []


def test_no_role_id_at_all(place: Place, backend_with: MakeBackend) -> None:
    with pytest.raises(LoginFailed, match="no role id"):
        backend_with(AppRoleAuth(None, None, None)).describe(place.at)


def test_without_the_default_policy_a_missing_right_is_still_told(
    bao: OpenBao, place: Place, backend_with: MakeBackend, role: MakeRole
) -> None:
    auth = role()
    name = place.path.replace("/", "-")
    bao.request("POST", f"auth/approle/role/{name}", {"token_no_default_policy": True})
    bao.put(place.path, {"apiKey": "x"})
    backend = backend_with(auth)

    assert backend.describe(place.at).version == 1
    with pytest.raises((Forbidden, MountUnknown)):
        backend.describe(SecretPath("secret", "other/x"))
    with pytest.raises(TokenExpired, match="policy `default`"):
        backend_with(TokenAuth(bao.create_token(["reader"], default_policy=False))).describe(
            SecretPath("secret", "other/x")
        )


def test_the_namespace_travels_with_the_login(place: Place, backend_with: MakeBackend) -> None:
    with stub(always(answer('{"auth":{"client_token":"hvs.new"}}'))) as vault:
        auth = AppRoleAuth("the-role", None, None)
        with pytest.raises(SecretsError):
            backend_with(auth, address=vault.address, namespace="team-a").describe(place.at)

        assert vault.requests[0].startswith(b"POST /v1/auth/approle/login ")
        assert all(b"X-Vault-Namespace: team-a\r\n" in request for request in vault.requests)
        assert b"x-vault-token" not in vault.requests[0].lower()


@pytest.mark.parametrize(
    "body",
    [
        "{}",
        '{"auth":null,"data":{}}',
        '{"auth":{"client_token":""}}',
        '{"auth":{"client_token":7}}',
        '{"auth":{"client_token":"hvs.leak\\r\\nX-Evil: 1"}}',
        '{"auth":[],"wrap_info":{"token":"hvs.leak"}}',
    ],
)
def test_a_login_that_gives_no_usable_token(
    place: Place, backend_with: MakeBackend, body: str
) -> None:
    with stub(always(answer(body))) as vault:
        with pytest.raises(SecretsError) as caught:
            backend_with(AppRoleAuth("r", None, None), address=vault.address).describe(place.at)

        assert len(vault.requests) == 1
        assert "leak" not in str(caught.value)


def test_closing_revokes_what_we_got_by_logging_in(
    bao: OpenBao, place: Place, backend_with: MakeBackend, role: MakeRole
) -> None:
    bao.put(place.path, {"apiKey": "x"})
    backend = backend_with(role())
    backend.describe(place.at)
    token = backend.token()
    assert bao.alive(token)

    backend.close()

    assert not bao.alive(token)


def test_closing_leaves_alone_what_was_given_to_us(
    bao: OpenBao, place: Place, backend_with: MakeBackend, tmp_path: Path
) -> None:
    bao.put(place.path, {"apiKey": "x"})
    token = bao.create_token(["reader"])
    sink = tmp_path / "sink"
    sink.write_text(token.reveal())
    for auth in (TokenAuth(token), TokenFileAuth(str(sink))):
        backend = backend_with(auth)
        backend.describe(place.at)
        backend.close()

        assert bao.alive(token)


def test_closing_twice_or_unused_or_without_vault_is_quiet(
    bao: OpenBao, place: Place, backend_with: MakeBackend, role: MakeRole
) -> None:
    backend_with(role()).close()
    used = backend_with(role())
    bao.put(place.path, {"apiKey": "x"})
    used.describe(place.at)
    used.close()
    used.close()


# ── token files ──────────────────────────────────────────────────────────────────────────────


def test_a_sink_is_read_again_when_the_agent_replaced_it(
    bao: OpenBao, place: Place, backend_with: MakeBackend, tmp_path: Path
) -> None:
    bao.put(place.path, {"apiKey": "x"})
    sink = tmp_path / "sink"
    first, second = bao.create_token(["reader"]), bao.create_token(["reader"])
    sink.write_text(first.reveal() + "\n")
    backend = backend_with(TokenFileAuth(str(sink)))
    assert backend.describe(place.at).version == 1

    (tmp_path / "new").write_text(second.reveal())
    (tmp_path / "new").replace(sink)
    assert backend.token().reveal() == second.reveal()  # while the first still lives
    bao.revoke(first)

    assert backend.describe(place.at).version == 1
    bao.revoke(second)
    with pytest.raises(TokenExpired, match="Vault Agent"):
        backend.describe(place.at)


def test_a_sink_that_changed_without_looking_changed_is_read_again_when_refused(
    bao: OpenBao, place: Place, backend_with: MakeBackend, tmp_path: Path
) -> None:
    bao.put(place.path, {"apiKey": "x"})
    sink = tmp_path / "sink"
    first, second = bao.create_token(["reader"]), bao.create_token(["reader"])
    sink.write_text(first.reveal())
    facts = sink.stat()
    backend = backend_with(TokenFileAuth(str(sink)))
    assert backend.describe(place.at).version == 1
    assert len(first.reveal()) == len(second.reveal())
    sink.write_text(second.reveal())
    os.utime(sink, ns=(facts.st_atime_ns, facts.st_mtime_ns))
    bao.revoke(first)

    assert backend.describe(place.at).version == 1


@pytest.mark.parametrize(
    "content",
    ["", "\n", "hvs.a b", " hvs.leak", "hvs.leak\nhvs.leak2", "hvs.l\u00e9ak", "x" * 70_000],
    ids=["empty", "newline", "space", "leading space", "two lines", "accent", "huge"],
)
def test_sinks_that_hold_no_token(
    place: Place, backend_with: MakeBackend, tmp_path: Path, content: str
) -> None:
    (tmp_path / "sink").write_text(content)
    with stub(always(answer())) as vault:
        backend = backend_with(TokenFileAuth(str(tmp_path / "sink")), address=vault.address)
        with pytest.raises(LoginFailed) as caught:
            backend.describe(place.at)

        assert "leak" not in str(caught.value)
        assert vault.requests == []


def test_sinks_that_are_no_files(place: Place, backend_with: MakeBackend, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    for path, word in (
        (tmp_path / "fifo", "regular"),
        (tmp_path, "regular"),
        (tmp_path / "no", "read"),
    ):
        with pytest.raises(LoginFailed, match=word):
            backend_with(TokenFileAuth(str(path))).describe(place.at)
