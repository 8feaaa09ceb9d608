"""Every failure of a real OpenBao is told apart, says what to do, and never looks like absence."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest

from reconciler.errors import (
    Blocked,
    Exit,
    Forbidden,
    KvVersionOne,
    LoginFailed,
    MountUnknown,
    SecretDeleted,
    SecretDestroyed,
    SecretMissing,
    SecretsError,
    SecretsSealed,
    SecretsUnreachable,
    SecretUnusable,
    TokenExpired,
    VersionPruned,
)
from reconciler.model.references import SecretPath
from reconciler.model.secret import Secret
from reconciler.sandbox.openbao import OpenBao
from reconciler.secrets.vault.backend import TokenAuth
from tests.secrets.conftest import QUICK, MakeBackend, Place
from tests.support.canaries import Canary, find_leaks
from tests.support.waiting import VaultBackend


@dataclass(frozen=True, slots=True)
class Setup:
    """What a case may prepare: the server, a path with one living version, and its value."""

    bao: OpenBao
    place: Place
    value: str = field(repr=False)


def put(setup: Setup, times: int = 1) -> None:
    for _ in range(times):
        setup.bao.put(setup.place.path, {"apiKey": setup.value})


def missing(setup: Setup) -> SecretPath:
    return setup.place.at


def deleted(setup: Setup) -> SecretPath:
    put(setup)
    setup.bao.delete(setup.place.path, 1)
    return setup.place.at


def destroyed(setup: Setup) -> SecretPath:
    put(setup)
    setup.bao.destroy(setup.place.path, 1)
    return setup.place.at


def pruned(setup: Setup) -> SecretPath:
    put(setup, 12)
    return setup.place.at


def removed(setup: Setup) -> SecretPath:
    put(setup)
    setup.bao.remove(setup.place.path)
    return setup.place.at


def never_written(setup: Setup) -> SecretPath:
    setup.bao.request("POST", f"secret/metadata/{setup.place.path}", {"max_versions": 3})
    return setup.place.at


def wrong_mount(setup: Setup) -> SecretPath:
    return SecretPath("secrets", setup.place.path)


def nested_mount(setup: Setup) -> SecretPath:
    name = f"deep/{setup.place.path.replace('/', '-')}"
    setup.bao.mount_kv2(name)
    return SecretPath("deep", f"{name.removeprefix('deep/')}/x")


def mount_too_long(setup: Setup) -> SecretPath:
    put(setup)
    return SecretPath("secret/jt", setup.place.path.removeprefix("jt/"))


def other_engine(setup: Setup) -> SecretPath:
    return SecretPath("cubbyhole", setup.place.path)


def kv1(setup: Setup) -> SecretPath:
    name = f"one-{setup.place.path.replace('/', '-')}"
    setup.bao.mount_kv1(name)
    setup.bao.request("POST", f"{name}/x", {"apiKey": setup.value})
    return SecretPath(name, "x")


def kv1_that_looks_like_metadata(setup: Setup) -> SecretPath:
    at = kv1(setup)
    setup.bao.request("POST", f"{at.mount}/metadata/x", {"versions": setup.value})
    return at


def forbidden(setup: Setup) -> SecretPath:
    setup.bao.put("other/team", {"apiKey": setup.value})
    return SecretPath("secret", "other/team")


Prepare = Callable[[Setup], SecretPath]
AS_READER: list[tuple[Prepare, type[SecretsError]]] = [
    (missing, SecretMissing),
    (deleted, SecretDeleted),
    (destroyed, SecretDestroyed),
    (removed, SecretMissing),
    (never_written, SecretMissing),
    (wrong_mount, MountUnknown),
    (mount_too_long, MountUnknown),
    (forbidden, Forbidden),
]
AS_ROOT: list[tuple[Prepare, type[SecretsError]]] = [
    (missing, SecretMissing),
    (deleted, SecretDeleted),
    (destroyed, SecretDestroyed),
    (removed, SecretMissing),
    (never_written, SecretMissing),
    (wrong_mount, MountUnknown),
    (nested_mount, MountUnknown),
    (mount_too_long, MountUnknown),
    (other_engine, MountUnknown),
    (kv1, KvVersionOne),
    (kv1_that_looks_like_metadata, KvVersionOne),
]


@pytest.fixture
def setup(bao: OpenBao, place: Place, made_up: tuple[Canary, ...]) -> Setup:
    return Setup(bao, place, made_up[0].value)


def check(
    backend: VaultBackend, at: SecretPath, expected: type[SecretsError], version: int | None = None
) -> SecretsError:
    with pytest.raises(SecretsError) as described:
        backend.describe(at, version)
    with pytest.raises(SecretsError) as read:
        backend.read(at, version or 1, "2026-01-01T00:00:00Z")

    for caught in (described.value, read.value):
        assert type(caught) is expected
        assert str(at) in caught.what
        assert caught.remedy
        assert caught.exit_code is Exit.SECRETS
        assert caught.__cause__ is None
        assert caught.__context__ is None
    return described.value


@pytest.mark.parametrize(("prepare", "expected"), AS_READER, ids=lambda p: p.__name__)
def test_a_limited_token_is_told_what_is_wrong(
    setup: Setup,
    backend: VaultBackend,
    prepare: Prepare,
    expected: type[SecretsError],
    made_up: tuple[Canary, ...],
) -> None:
    error = check(backend, prepare(setup), expected)

    assert not find_leaks(f"{error}{error!r}".encode(), made_up)


@pytest.mark.parametrize(("prepare", "expected"), AS_ROOT, ids=lambda p: p.__name__)
def test_the_root_token_is_told_what_is_wrong(
    setup: Setup, backend_with: MakeBackend, prepare: Prepare, expected: type[SecretsError]
) -> None:
    check(backend_with(TokenAuth(setup.bao.root_token)), prepare(setup), expected)


def test_pruned_and_future_versions(setup: Setup, backend: VaultBackend) -> None:
    at = pruned(setup)

    assert "no longer kept" in check(backend, at, VersionPruned, version=1).what
    assert "never written" in check(backend, at, VersionPruned, version=99).what
    assert backend.describe(at).version == 12
    assert backend.describe(at, 5).version == 5


def test_deletion_announced_for_later_is_alive_until_then(
    setup: Setup, backend: VaultBackend
) -> None:
    later = {"delete_version_after": "1h"}
    setup.bao.request("POST", f"secret/metadata/{setup.place.path}", later)
    put(setup)
    raw = setup.bao.request("GET", f"secret/metadata/{setup.place.path}").data["versions"]["1"]
    info = backend.describe(setup.place.at)

    assert raw["deletion_time"] != ""  # the trap: not empty, and yet not deleted
    assert info.alive
    assert "apiKey" in backend.read(setup.place.at, 1, info.created)


def test_an_older_version_that_lives_is_readable_beside_a_deleted_newest(
    setup: Setup, backend: VaultBackend
) -> None:
    put(setup, 2)
    setup.bao.delete(setup.place.path, 2)

    check(backend, setup.place.at, SecretDeleted, version=2)
    assert backend.describe(setup.place.at, 1).alive
    setup.bao.undelete(setup.place.path, 2)
    assert backend.describe(setup.place.at).version == 2


def test_metadata_alone_may_be_described_but_not_read(
    setup: Setup, backend_with: MakeBackend
) -> None:
    put(setup)
    backend = backend_with(TokenAuth(setup.bao.create_token(["metadata"])))
    info = backend.describe(setup.place.at)

    with pytest.raises(Forbidden, match="data"):
        backend.read(setup.place.at, info.version, info.created)


@pytest.mark.parametrize("token", ["garbage", "s.AAAAAAAAAAAAAAAAAAAAAAAA"])
def test_a_token_that_never_was(setup: Setup, backend_with: MakeBackend, token: str) -> None:
    put(setup)
    check(backend_with(TokenAuth(Secret(token))), setup.place.at, TokenExpired)


def test_a_revoked_token(setup: Setup, backend_with: MakeBackend) -> None:
    put(setup)
    token = setup.bao.create_token(["reader"])
    backend = backend_with(TokenAuth(token))
    assert backend.describe(setup.place.at).version == 1

    setup.bao.revoke(token)

    check(backend, setup.place.at, TokenExpired)


@pytest.mark.parametrize("token", ["", "hvs.abc\n", "hvs abc", "hvs.äbc", "hvs.a\r\nX-Evil: 1"])
def test_a_token_that_cannot_be_one_is_neither_sent_nor_shown(
    backend_with: MakeBackend, place: Place, token: str
) -> None:
    # An address where nobody listens: had it been sent, the error would be another.
    backend = backend_with(TokenAuth(Secret(token)), address="http://127.0.0.1:9")

    with pytest.raises(LoginFailed) as caught:
        backend.describe(place.at)

    assert "hvs" not in str(caught.value)


def test_sealed_and_down(made_up: tuple[Canary, ...]) -> None:
    at = SecretPath("secret", "jt/a")
    with OpenBao() as bao:
        bao.put("jt/a", {"apiKey": made_up[0].value})
        backend = VaultBackend(address=bao.address, auth=TokenAuth(bao.root_token), timeouts=QUICK)
        info = backend.describe(at)
        bao.seal()
        for attempt in (lambda: backend.describe(at), lambda: backend.read(at, 1, info.created)):
            with pytest.raises(SecretsSealed, match="sealed") as sealed:
                attempt()
            assert sealed.value.transient
        bao.stop()
        for attempt in (lambda: backend.describe(at), lambda: backend.read(at, 1, info.created)):
            with pytest.raises(SecretsUnreachable, match="nothing listens") as down:
                attempt()
            assert down.value.transient
            assert down.value.__context__ is None
        bao.start()
        bao.put("jt/a", {"apiKey": made_up[0].value})
        assert backend.describe(at).version == 1  # the same object recovers
        backend.close()


def test_hanging_ends_in_time_and_recovers(bao: OpenBao) -> None:
    at = SecretPath("secret", "jt/a")
    bao.put("jt/a", {"apiKey": "x"})
    timeouts = QUICK.scaled(8)
    backend = VaultBackend(address=bao.address, auth=TokenAuth(bao.root_token), timeouts=timeouts)
    in_the_end(lambda: backend.describe(at).version == 1)

    bao.pause()
    began = time.monotonic()
    try:
        with pytest.raises(SecretsUnreachable, match="in time"):
            backend.describe(at)
    finally:
        bao.resume()

    assert time.monotonic() - began < timeouts.secrets_total + 10
    in_the_end(lambda: backend.describe(at).version == 1)
    backend.close()


def in_the_end(condition: Callable[[], bool], seconds: float = 60.0) -> None:
    """
    Wait for what must succeed under deadlines that are short so that a hanging ends soon.

    A busy machine, or a server that was just woken up, misses one of a quarter of a second.
    """
    end = time.monotonic() + seconds
    while True:
        try:
            assert condition()
        except SecretsUnreachable:
            assert time.monotonic() < end
        else:
            return


@pytest.mark.parametrize(
    ("value", "kind"),
    [(7, "number"), (True, "true or false"), (None, "null"), ({"a": "b"}, "map"), (["a"], "list")],
)
def test_values_that_are_not_text(
    setup: Setup, backend: VaultBackend, value: object, kind: str
) -> None:
    setup.bao.put(setup.place.path, {"apiKey": setup.value, "secret": value})
    info = backend.describe(setup.place.at)

    with pytest.raises(
        SecretUnusable, match=f"the field secret is not text but .*{kind}"
    ) as caught:
        backend.read(setup.place.at, info.version, info.created)

    assert setup.value not in str(caught.value)


def test_a_field_with_an_odd_name_is_not_repeated(setup: Setup, backend: VaultBackend) -> None:
    setup.bao.put(setup.place.path, {"\x1b[31mred": 1})
    info = backend.describe(setup.place.at)

    with pytest.raises(SecretUnusable, match="a field is not text"):
        backend.read(setup.place.at, info.version, info.created)


def test_the_same_number_of_another_life(setup: Setup, backend: VaultBackend) -> None:
    put(setup)
    before = backend.describe(setup.place.at)
    setup.bao.remove(setup.place.path)
    put(setup)
    after = backend.describe(setup.place.at)

    assert (before.version, after.version) == (1, 1)
    with pytest.raises(SecretUnusable, match="removed and written anew"):
        backend.read(setup.place.at, 1, before.created)
    assert backend.read(setup.place.at, 1, after.created)["apiKey"].reveal() == setup.value


@pytest.mark.parametrize(
    "address",
    [
        "http://vault.example:8200",
        "http://10.0.0.1:8200",
        "https://user:geheimnis@vault.example",
        "https://vault.example/?token=geheimnis",
        "https://vault.example/#geheimnis",
        "https://vault.example/../x",
        "ftp://vault.example",
        "vault.example:8200",
        "http://127.0.0.1@evil.example",
        "http://localhost.evil.example",
        "https://[::1",
        "https://häusl.example",
        "",
    ],
)
def test_addresses_over_which_no_token_travels(address: str) -> None:
    with pytest.raises(Blocked) as caught:
        VaultBackend(address=address, auth=TokenAuth(Secret("x")), timeouts=QUICK)

    assert "geheimnis" not in str(caught.value)


@pytest.mark.parametrize(
    "address",
    ["http://127.0.0.1:8200", "http://localhost", "http://[::1]:8200", "https://v.example/vault/"],
)
def test_addresses_that_may_be_used(address: str) -> None:
    VaultBackend(address=address, auth=TokenAuth(Secret("x")), timeouts=QUICK).close()
