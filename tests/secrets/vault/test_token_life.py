"""How long tokens live: renewed or replaced in time, and what is said when that cannot be."""

import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from reconciler.errors import (
    Forbidden,
    LoginFailed,
    SecretsError,
    SecretsUnreachable,
    TokenExpired,
)
from reconciler.model.secret import Secret
from reconciler.model.values import replace
from reconciler.sandbox.openbao import OpenBao
from reconciler.secrets.vault.backend import AppRoleAuth, TokenAuth, TokenFileAuth
from tests.secrets.conftest import QUICK, MakeBackend, Place
from tests.support.processes import until
from tests.support.waiting import VaultBackend

EAGER = QUICK.scaled(1000)
SOON = replace(QUICK, secrets_request=0.2)


@pytest.fixture(autouse=True)
def audited(bao: OpenBao) -> None:
    bao.enable_audit()


@pytest.fixture
def asked(bao: OpenBao) -> Callable[[], list[str]]:
    """The paths that were asked for since the test began, other than by this test as root."""
    since = len(bao.audit_entries())

    def paths() -> list[str]:
        return [
            entry["request"]["path"]
            for entry in bao.audit_entries()[since:]
            if entry["type"] == "request" and "root" not in entry["auth"].get("policies", [])
        ]

    return paths


class Role:
    """An AppRole of its own, with its secret id in a file."""

    def __init__(self, bao: OpenBao, name: str, folder: Path) -> None:
        self._bao, self._name, self._folder = bao, name, folder
        self.file = folder / "secret"

    def made(
        self, ttl: str, most: str | None = None, *, uses: int = 0, **more: object
    ) -> AppRoleAuth:
        role_id, secret_id = self._bao.approle(self._name, ["reader"], ttl=ttl, uses=uses)
        if most is not None or more:
            body = {"token_max_ttl": most or ttl, **more}
            self._bao.request("POST", f"auth/approle/role/{self._name}", body)
        self.file.write_text(secret_id.reveal())
        return AppRoleAuth(role_id, None, str(self.file))

    def fresh(self) -> None:
        self.file.write_text(self._bao.secret_id(self._name).reveal())


@pytest.fixture
def role(bao: OpenBao, place: Place, tmp_path: Path) -> Role:
    bao.put(place.path, {"apiKey": "x"})
    return Role(bao, place.path.replace("/", "-"), tmp_path)


def used(backend: VaultBackend, place: Place, seconds: float, threads: int = 2) -> list[str]:
    """Ask for metadata in two threads for some seconds; return what failed."""
    end = time.monotonic() + seconds
    failures: list[str] = []
    pace = threading.Event()  # never set: a bounded pause between two calls

    def work(_: int) -> int:
        calls = 0
        while time.monotonic() < end:
            try:
                backend.describe(place.at)
            except SecretsError as error:
                failures.append(str(error))
            calls += 1
            pace.wait(0.05)
        return calls

    with ThreadPoolExecutor(threads) as pool:
        assert sum(pool.map(work, range(threads))) > 2 * seconds
    return failures


def count(bao: OpenBao, since: int) -> dict[str, dict[str, int]]:
    """How often each login, renewal and look-up was asked for, by the login's role or name."""
    found: dict[str, dict[str, int]] = {}
    for entry in bao.audit_entries()[since:]:
        path = entry["request"]["path"]
        if entry["type"] == "response" and path.startswith("auth/"):
            auth = entry.get("auth") or {}
            told = auth.get("metadata") or {}
            who = told.get("role_name") or auth.get("display_name", "")
            counts = found.setdefault(who, {})
            counts[path] = counts.get(path, 0) + 1
    return found


LOGIN, RENEW, LOOK = (
    "auth/approle/login",
    "auth/token/renew-self",
    "auth/token/lookup-self",
)


def test_tokens_of_six_seconds_last_for_twenty(
    bao: OpenBao, place: Place, backend_with: MakeBackend, tmp_path: Path
) -> None:
    """Each of them in a thread of its own, and nothing fails; 2 seconds are left for each call."""
    bao.put(place.path, {"apiKey": "x"})

    def role(name: str, ttl: str, most: str, **more: Any) -> AppRoleAuth:
        (tmp_path / name).mkdir()
        made = Role(bao, f"{place.path}-{name}".replace("/", "-"), tmp_path / name)
        return made.made(ttl, most, **more)

    sink = tmp_path / "sink"
    sink.write_text(periodic(bao, "6s", display_name="sink").reveal())
    given = TokenAuth(periodic(bao, "6s", display_name="given"))
    backends = {
        "renewable": backend_with(role("renewable", "6s", "1h")),
        "replaced": backend_with(role("replaced", "6s", "6s")),
        "mixed": backend_with(role("mixed", "6s", "10s")),
        "batch": backend_with(role("batch", "6s", "6s", token_type="batch")),
        "given": backend_with(given, timeouts=SOON),
        "sink": backend_with(TokenFileAuth(str(sink)), timeouts=SOON),
    }
    since = len(bao.audit_entries())

    with ThreadPoolExecutor(len(backends)) as pool:
        failures = pool.map(lambda backend: used(backend, place, 20.0), backends.values())
        assert dict(zip(backends, failures, strict=True)) == {name: [] for name in backends}

    asked = count(bao, since)
    own = {name: asked[f"{place.path}-{name}".replace("/", "-")] for name in list(backends)[:4]}
    assert own["renewable"][LOGIN] == 1
    assert 3 <= own["renewable"][RENEW] <= 5
    assert 4 <= own["replaced"][LOGIN] <= 6
    assert 2 <= own["mixed"][LOGIN] <= 5
    assert own["mixed"][RENEW] <= 8
    assert own["batch"].keys() == {LOGIN}
    assert 4 <= own["batch"][LOGIN] <= 6
    for name in ("given", "sink"):
        assert asked[f"token-{name}"][LOOK] == 1
        assert 3 <= asked[f"token-{name}"][RENEW] <= 5
        assert 0 < (backends[name].token_seconds() or 0) <= 6
    assert backends["batch"].whoami().kind == "batch"


def test_a_token_revoked_while_it_is_used_is_replaced_at_the_next_call(
    bao: OpenBao, role: Role, place: Place, backend_with: MakeBackend
) -> None:
    backend = backend_with(role.made("1h"))
    backend.describe(place.at)
    for _ in range(3):
        bao.revoke(backend.token())

        assert backend.describe(place.at).version == 1


def test_a_token_that_died_with_its_secret_id_says_so_until_there_is_another(
    bao: OpenBao, role: Role, place: Place, backend_with: MakeBackend
) -> None:
    backend = backend_with(role.made("1h", uses=1))
    backend.describe(place.at)
    bao.revoke(backend.token())

    for _ in range(2):
        with pytest.raises(LoginFailed, match="used up"):
            backend.describe(place.at)
    role.fresh()

    assert backend.describe(place.at).version == 1


LAST = "near its last moment"


def test_a_used_up_secret_id_does_no_harm_while_the_token_lives(
    role: Role, place: Place, backend_with: MakeBackend, caplog: pytest.LogCaptureFixture
) -> None:
    """At max_ttl a login is tried early, fails, and the token is used to its end."""
    backend = backend_with(role.made("6s", uses=1))

    # After 4 seconds; a busy machine has the other 2 for its last call.
    until(lambda: backend.describe(place.at).version == 1 and LAST in caplog.text)
    with pytest.raises(LoginFailed, match="used up"):
        until(lambda: backend.describe(place.at).version == 0)
    role.fresh()
    assert used(backend, place, 1.0) == []


def test_many_threads_share_one_failed_login(
    role: Role, place: Place, backend_with: MakeBackend, asked: Callable[[], list[str]]
) -> None:
    """Five hundred servers must not each wait until Vault's login gave up."""
    auth = role.made("1h")
    role.file.write_text("9b1deb4d-3b7d-4bad-9bdd-2b0d7b3dcb6d")
    backend = backend_with(auth)
    barrier = threading.Barrier(8)

    def fail(_: int) -> str:
        barrier.wait(60)
        with pytest.raises(LoginFailed) as caught:
            backend.describe(place.at)
        return str(caught.value)

    with ThreadPoolExecutor(8) as pool:
        assert len(set(pool.map(fail, range(8)))) == 1
    assert asked().count("auth/approle/login") < 8


def test_one_renews_while_the_others_go_on(
    role: Role, place: Place, backend_with: MakeBackend
) -> None:
    backend = backend_with(role.made("1h"))
    backend.describe(place.at)
    login = backend._login
    held = login._held
    login._held = replace(held, due=0.0)
    assert login.ready() is None

    async def story() -> None:
        async with login._turn:  # somebody else is at it
            assert login.ready() is held.token
            assert await login.token() is held.token

    backend.wait(story())


# ── tokens that were given to us ─────────────────────────────────────────────────────────────


Give = Callable[[Secret], TokenAuth | TokenFileAuth]


@pytest.fixture(params=["environment", "file"])
def give(request: pytest.FixtureRequest, tmp_path: Path) -> Give:
    def given(token: Secret) -> TokenAuth | TokenFileAuth:
        if request.param == "environment":
            return TokenAuth(token)
        (tmp_path / "sink").write_text(token.reveal())
        return TokenFileAuth(str(tmp_path / "sink"))

    return given


def periodic(bao: OpenBao, period: str, **more: object) -> Secret:
    body = {"policies": ["reader"], "period": period, "no_parent": True, **more}
    return Secret(
        bao.request("POST", "auth/token/create-orphan", body).body["auth"]["client_token"]
    )


def test_a_command_that_ends_at_once_asks_nothing_about_its_token(
    bao: OpenBao,
    place: Place,
    backend_with: MakeBackend,
    give: Give,
    asked: Callable[[], list[str]],
) -> None:
    bao.put(place.path, {"apiKey": "x"})
    backend = backend_with(give(periodic(bao, "1h")))
    for _ in range(5):
        backend.describe(place.at)
    backend.close()

    assert set(asked()) == {f"secret/metadata/{place.path}"}


def test_a_token_that_cannot_be_renewed_is_looked_up_once_and_used_to_its_end(
    bao: OpenBao,
    place: Place,
    backend_with: MakeBackend,
    give: Give,
    asked: Callable[[], list[str]],
) -> None:
    bao.put(place.path, {"apiKey": "x"})
    token = periodic(bao, "", ttl="4s", renewable=False)
    backend = backend_with(give(token), timeouts=SOON)

    assert used(backend, place, 1.0) == []
    assert asked().count("auth/token/lookup-self") == 1
    with pytest.raises(TokenExpired):
        until(lambda: backend.describe(place.at).version == 0)
    assert "auth/token/renew-self" not in asked()


def test_a_new_token_in_the_file_is_looked_after_like_the_first(
    bao: OpenBao, place: Place, backend_with: MakeBackend, tmp_path: Path
) -> None:
    bao.put(place.path, {"apiKey": "x"})
    sink = tmp_path / "sink"
    sink.write_text(periodic(bao, "1h").reveal())
    backend = backend_with(TokenFileAuth(str(sink)), timeouts=SOON)
    until(lambda: backend.describe(place.at).version == 1 and backend.token_seconds() is not None)
    assert (backend.token_seconds() or 0) > 3500

    (tmp_path / "new").write_text(periodic(bao, "6s").reveal())
    (tmp_path / "new").replace(sink)

    backend.describe(place.at)
    assert backend.token_seconds() is None  # another token, of which nothing is known yet
    assert used(backend, place, 7.0) == []


def test_a_root_token_is_looked_up_once_and_has_no_end(
    bao: OpenBao, place: Place, backend_with: MakeBackend
) -> None:
    bao.put(place.path, {"apiKey": "x"})
    backend = backend_with(TokenAuth(bao.root_token), timeouts=SOON)

    assert used(backend, place, 0.6) == []

    assert backend.token_seconds() is None
    assert backend.whoami().ttl is None


# ── what can be asked about a token ──────────────────────────────────────────────────────────


def test_what_a_token_is_and_may_do(
    bao: OpenBao, role: Role, place: Place, backend_with: MakeBackend
) -> None:
    backend = backend_with(role.made("1h"))
    assert backend.token_seconds() is None  # nothing was asked yet

    facts = backend.whoami()

    assert facts.policies == ("default", "reader")
    assert facts.ttl is not None
    assert 3590 < facts.ttl <= 3600
    assert (facts.renewable, facts.kind, facts.method) == (True, "service", "auth/approle/login")
    left = backend.token_seconds()
    assert left is not None
    assert 3590 < left <= 3600
    rights = backend.capabilities(
        [f"secret/data/{place.path}", f"secret/delete/{place.path}", "sys/mounts"]
    )
    assert rights == {
        f"secret/data/{place.path}": ("read",),
        f"secret/delete/{place.path}": ("deny",),
        "sys/mounts": ("deny",),
    }
    token = backend.token().reveal()
    accessor = bao.request("POST", "auth/token/lookup", {"token": token}).data["accessor"]
    for text in (repr(facts), repr(rights), repr(backend._login.__dict__)):
        assert token not in text
        assert accessor not in text


def test_asking_how_long_a_token_lives_does_not_put_off_its_renewal(
    role: Role, place: Place, backend_with: MakeBackend
) -> None:
    backend = backend_with(role.made("6s", "1h"))
    end = time.monotonic() + 7.0
    while time.monotonic() < end:
        backend.whoami()
        assert backend.describe(place.at).version == 1
        assert (backend.token_seconds() or 0) > 0.5
        time.sleep(0.1)


def test_rights_of_many_paths(bao: OpenBao, backend_with: MakeBackend) -> None:
    backend = backend_with(TokenAuth(bao.root_token))
    paths = [f"secret/data/jt/{number}" for number in range(1201)]

    assert backend.capabilities(paths) == dict.fromkeys(paths, ("root",))
    assert backend.capabilities([]) == {}


def test_a_token_that_may_not_ask_about_itself(
    bao: OpenBao, role: Role, place: Place, backend_with: MakeBackend
) -> None:
    backend = backend_with(role.made("1h", token_no_default_policy=True))

    with pytest.raises(Forbidden, match="look itself up"):
        backend.whoami()
    with pytest.raises(Forbidden, match="may not ask"):
        backend.capabilities(["sys/mounts"])
    assert backend.describe(place.at).version == 1
    given = bao.create_token(["reader"], default_policy=False)
    with pytest.raises(TokenExpired, match="policy `default`"):
        backend_with(TokenAuth(given)).whoami()


def test_without_vault_nothing_of_that_hangs(
    backend_with: MakeBackend, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    backend = backend_with(TokenAuth(Secret("s.x")), address="http://127.0.0.1:9", timeouts=EAGER)

    for ask in (backend.whoami, lambda: backend.capabilities(["a"])):
        with pytest.raises(SecretsUnreachable):
            ask()
    assert backend.token_seconds() is None
