"""Logins with signed tokens, by JWT and by Kubernetes, against a real OpenBao."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from reconciler import bootstrap
from reconciler.errors import LoginFailed
from reconciler.sandbox.openbao import OpenBao
from reconciler.secrets.vault.auth import SERVICE_ACCOUNT
from reconciler.secrets.vault.backend import JwtAuth, KubernetesAuth
from reconciler.settings.model import AuthMethod, VaultAuth
from tests.secrets.conftest import MakeBackend, Place
from tests.secrets.http_stub import always, answer, stub
from tests.secrets.signed import Key, Reviewer, account_token, jwt, new_key, public, reviewer
from tests.support.canaries import Canary


def now() -> int:
    """This second, at which a test may be long after it was collected."""
    return int(time.time())


KEYS = {name: new_key(name) for name in ("ES256", "RS256")}
ISSUER = KEYS["ES256"]


@pytest.fixture(scope="module")
def issuers(bao: OpenBao) -> None:
    """Vault trusts our two keys, and lets a role of one branch read."""
    bao.request("POST", "sys/auth/jwt", {"type": "jwt"})
    bao.request("POST", "sys/auth/ci/jwt", {"type": "jwt"})
    keys = [public(key) for key in KEYS.values()]
    role = {
        "role_type": "jwt",
        "bound_audiences": ["vault"],
        "bound_claims": {"ref": "refs/heads/main"},
        "user_claim": "sub",
        "token_policies": ["reader"],
        "token_ttl": "1h",
    }
    for mount in ("jwt", "ci/jwt"):
        config = {"jwt_validation_pubkeys": keys, "bound_issuer": "issuer"}
        bao.request("POST", f"auth/{mount}/config", config)
        bao.request("POST", f"auth/{mount}/role/jtr", role)


@pytest.fixture
def file(tmp_path: Path, place: Place, bao: OpenBao) -> Path:
    """The file for the JWT, and a secret to read with it."""
    bao.put(place.path, {"apiKey": "x"})
    return tmp_path / "jwt"


def branch(key: Key = ISSUER, **claims: object) -> str:
    return jwt(key, **{"ref": "refs/heads/main", **claims})


@pytest.mark.parametrize("algorithm", KEYS)
@pytest.mark.parametrize("mount", ["jwt", "ci/jwt"])
@pytest.mark.usefixtures("issuers")
def test_a_jwt_of_the_right_branch_may_read(
    place: Place, backend_with: MakeBackend, file: Path, algorithm: str, mount: str
) -> None:
    file.write_text(branch(KEYS[algorithm]) + "\n")

    backend = backend_with(JwtAuth("jtr", str(file), mount))

    assert backend.describe(place.at).version == 1
    facts = backend.whoami()
    assert facts.method == f"auth/{mount}/login"
    assert facts.policies == ("default", "reader")


REFUSED: dict[str, tuple[Callable[[], str], str]] = {
    "another audience": (lambda: branch(aud="elsewhere"), "is for another audience"),
    "expired": (
        lambda: branch(exp=now() - 600, iat=now() - 4000, nbf=now() - 4000),
        "has expired",
    ),
    "not yet": (lambda: branch(nbf=now() + 900, iat=now() + 900), "is not valid yet"),
    "another issuer": (lambda: branch(iss="https://elsewhere"), "was issued by somebody else"),
    "another key": (lambda: branch(new_key()), "was signed by somebody else"),
    "another branch": (lambda: branch(ref="refs/heads/evil"), "is not what the role demands"),
    "no branch": (lambda: branch(ref=None), "is not what the role demands"),
}


@pytest.mark.parametrize("case", REFUSED)
@pytest.mark.usefixtures("issuers")
def test_why_a_jwt_is_refused_is_said_without_showing_it(
    place: Place, backend_with: MakeBackend, file: Path, case: str
) -> None:
    make, why = REFUSED[case]
    text = make()
    file.write_text(text)

    with pytest.raises(LoginFailed, match=why) as caught:
        backend_with(JwtAuth("jtr", str(file))).describe(place.at)

    assert "bao read auth/jwt/role/jtr" in str(caught.value)
    assert str(file) in str(caught.value)
    assert text.split(".")[2] not in str(caught.value)
    assert "elsewhere" not in str(caught.value)
    assert "evil" not in str(caught.value)


@pytest.mark.usefixtures("issuers")
def test_a_role_or_a_mount_that_is_not_there(
    place: Place, backend_with: MakeBackend, file: Path
) -> None:
    file.write_text(branch())

    with pytest.raises(LoginFailed, match=r"role nobody.*no such role"):
        backend_with(JwtAuth("nobody", str(file))).describe(place.at)
    with pytest.raises(LoginFailed, match="not mounted there"):
        backend_with(JwtAuth("jtr", str(file), "nowhere")).describe(place.at)


@pytest.mark.usefixtures("issuers")
def test_a_rotated_jwt_is_read_anew_at_each_login(
    bao: OpenBao, place: Place, backend_with: MakeBackend, file: Path
) -> None:
    file.write_text(branch())
    backend = backend_with(JwtAuth("jtr", str(file)))
    assert backend.describe(place.at).version == 1
    first = backend.token()

    file.write_text(branch(exp=now() - 600, iat=now() - 4000, nbf=now() - 4000))
    assert backend.describe(place.at).version == 1  # it lives: nobody logs in
    bao.revoke(first)
    with pytest.raises(LoginFailed, match="has expired"):
        backend.describe(place.at)
    file.write_text(branch())

    assert backend.describe(place.at).version == 1
    assert backend.token() is not first


@pytest.mark.usefixtures("issuers")
def test_closing_revokes_the_token_of_a_jwt(
    bao: OpenBao, place: Place, backend_with: MakeBackend, file: Path
) -> None:
    file.write_text(branch())
    backend = backend_with(JwtAuth("jtr", str(file)))
    backend.describe(place.at)
    token = backend.token()

    backend.close()

    assert not bao.alive(token)


Make = Callable[[str], JwtAuth | KubernetesAuth]
BOTH: dict[str, Make] = {
    "jwt": lambda path: JwtAuth("jtr", path),
    "kubernetes": lambda path: KubernetesAuth("jtr", path),
}


@pytest.mark.parametrize("kind", BOTH)
@pytest.mark.parametrize(
    "content",
    [
        "",
        "\n",
        "{canary}",
        "{canary}.b",
        "a.b.c d",
        "a.b.c\r\nX-Evil: 1",
        "a.b.{canary}é",
        "x" * 70_000,
    ],
    ids=["empty", "newline", "one part", "two parts", "blank", "two lines", "accent", "huge"],
)
def test_what_is_no_jwt_is_neither_sent_nor_shown(
    place: Place,
    backend_with: MakeBackend,
    file: Path,
    kind: str,
    content: str,
    made_up: tuple[Canary, ...],
) -> None:
    canary = made_up[0].value
    file.write_text(content.replace("{canary}", canary))
    with stub(always(answer())) as vault:
        with pytest.raises(LoginFailed) as caught:
            backend_with(BOTH[kind](str(file)), address=vault.address).describe(place.at)

        assert vault.requests == []
    assert canary not in str(caught.value)
    assert str(file) in str(caught.value)


@pytest.mark.parametrize("kind", BOTH)
def test_a_jwt_file_that_is_not_there(
    place: Place, backend_with: MakeBackend, tmp_path: Path, kind: str
) -> None:
    for path, why in ((tmp_path / "none", "No such file"), (tmp_path, "not a regular file")):
        with pytest.raises(LoginFailed, match=f"{path} with the JWT.*{why}"):
            backend_with(BOTH[kind](str(path))).describe(place.at)


@pytest.mark.parametrize("role", ["", "a b", "../x", "a/b", "é", "a\n"])
@pytest.mark.parametrize("kind", [JwtAuth, KubernetesAuth])
def test_a_hostile_role_is_not_asked_for(
    place: Place, backend_with: MakeBackend, file: Path, kind: type, role: str
) -> None:
    file.write_text(branch())
    with stub(always(answer())) as vault:
        with pytest.raises(LoginFailed, match="role of the"):
            backend_with(kind(role, str(file)), address=vault.address).describe(place.at)

        assert vault.requests == []


# ── Kubernetes ───────────────────────────────────────────────────────────────────────────────


@pytest.fixture(scope="module")
def cluster(bao: OpenBao) -> Iterator[Reviewer]:
    """A Kubernetes that Vault asks about tokens, and a role for one service account."""
    with reviewer() as server:
        bao.request("POST", "sys/auth/kubernetes", {"type": "kubernetes"})
        config = {
            "kubernetes_host": server.address,
            # Any PEM will do: the reviewer speaks plain HTTP on loopback.
            "kubernetes_ca_cert": public(ISSUER),
            "disable_local_ca_jwt": True,
            "token_reviewer_jwt": jwt(ISSUER),
        }
        bao.request("POST", "auth/kubernetes/config", config)
        role = {
            "bound_service_account_names": ["jtr"],
            "bound_service_account_namespaces": ["trading"],
            "audience": "vault",
            "token_policies": ["reader"],
            "token_ttl": "1h",
        }
        bao.request("POST", "auth/kubernetes/role/jtr", role)
        yield server


def projected(cluster: Reviewer, account: str = "trading/jtr", **claims: object) -> str:
    token = account_token(ISSUER, account, **claims)
    cluster.accounts[token] = account
    return token


def test_a_service_account_may_read(
    cluster: Reviewer, place: Place, backend_with: MakeBackend, file: Path
) -> None:
    file.write_text(projected(cluster))

    backend = backend_with(KubernetesAuth("jtr", str(file)))

    assert backend.describe(place.at).version == 1
    assert backend.whoami().method == "auth/kubernetes/login"
    assert cluster.audiences[-1] == ["vault"]


CLUSTER_REFUSED: dict[str, tuple[Callable[[Reviewer], str], str]] = {
    "another namespace": (lambda c: projected(c, "default/jtr"), "in another namespace"),
    "another account": (lambda c: projected(c, "trading/other"), "for another service account"),
    "another audience": (lambda c: projected(c, aud=["api"]), "for another audience"),
    "expired": (lambda c: projected(c, exp=now() - 600), "has expired|is not accepted"),
    "revoked": (lambda _: account_token(ISSUER, "trading/jtr"), "is not accepted"),
}


@pytest.mark.parametrize("case", CLUSTER_REFUSED)
def test_why_a_service_account_is_refused(
    cluster: Reviewer, place: Place, backend_with: MakeBackend, file: Path, case: str
) -> None:
    make, why = CLUSTER_REFUSED[case]
    file.write_text(make(cluster))

    with pytest.raises(LoginFailed, match=why) as caught:
        backend_with(KubernetesAuth("jtr", str(file))).describe(place.at)

    assert file.read_text() not in str(caught.value)


def test_a_kubernetes_role_or_mount_that_is_not_there(
    cluster: Reviewer, place: Place, backend_with: MakeBackend, file: Path
) -> None:
    file.write_text(projected(cluster))

    with pytest.raises(LoginFailed, match="no such role"):
        backend_with(KubernetesAuth("nobody", str(file))).describe(place.at)
    with pytest.raises(LoginFailed, match="not mounted there"):
        backend_with(KubernetesAuth("jtr", str(file), "nowhere")).describe(place.at)


def test_the_kubelet_swaps_the_token(
    bao: OpenBao, cluster: Reviewer, place: Place, backend_with: MakeBackend, tmp_path: Path
) -> None:
    """As a projected volume does it: a symlink to a folder, replaced by another one."""
    bao.put(place.path, {"apiKey": "x"})
    for number in (1, 2):
        (tmp_path / f"..{number}").mkdir()
        (tmp_path / f"..{number}" / "token").write_text(projected(cluster, jti=str(number)))
    (tmp_path / "..data").symlink_to("..1")
    (tmp_path / "token").symlink_to("..data/token")
    backend = backend_with(KubernetesAuth("jtr", str(tmp_path / "token")))
    assert backend.describe(place.at).version == 1

    cluster.accounts.pop((tmp_path / "..1" / "token").read_text())
    (tmp_path / "new").symlink_to("..2")
    (tmp_path / "new").replace(tmp_path / "..data")
    bao.revoke(backend.token())

    assert backend.describe(place.at).version == 1


# ── from the settings ────────────────────────────────────────────────────────────────────────


def test_what_the_settings_say_becomes_a_login() -> None:
    kubernetes = VaultAuth(AuthMethod.KUBERNETES, role="jtr")
    elsewhere = VaultAuth(AuthMethod.KUBERNETES, role="jtr", token_file="/t", mount="k8s")
    ci = VaultAuth(AuthMethod.JWT, role="jtr", token_file="/t")

    assert bootstrap._login(kubernetes) == KubernetesAuth("jtr", SERVICE_ACCOUNT, "kubernetes")
    assert bootstrap._login(elsewhere) == KubernetesAuth("jtr", "/t", "k8s")
    assert bootstrap._login(ci) == JwtAuth("jtr", "/t", "jwt")
