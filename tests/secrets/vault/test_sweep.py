"""Versions of many secrets with few requests; OpenBao's own audit log counts them."""

import json
import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import pytest

from reconciler.errors import (
    Forbidden,
    KvVersionOne,
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
from reconciler.model.secret import Secret, VersionInfo
from reconciler.sandbox.openbao import OpenBao
from reconciler.secrets.vault.backend import TokenAuth
from tests.secrets.conftest import QUICK, MakeBackend
from tests.secrets.http_stub import answer, stub
from tests.support.waiting import Sweeper, SweptBackend, VaultBackend

Rights = Mapping[str, tuple[str, ...]]
READ = ("read",)
QUIET = Secret("s.made-up")
WAYS: dict[str, Rights] = {
    "scan": {"metadata": READ, "data": READ, "detailed-metadata": ("scan",)},
    "list": {"metadata": READ, "data": READ, "detailed-metadata": ("list",)},
    "singly": {"metadata": READ, "data": READ},  # as on HashiCorp Vault
}


class Clock:
    """Monotonic seconds that pass when a test says so."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@dataclass
class Tree:
    """Secrets below a folder of this test, and what was asked about them."""

    bao: OpenBao
    root: str
    make: MakeBackend

    def at(self, name: str) -> SecretPath:
        return SecretPath("secret", f"{self.root}/{name}")

    def put(self, name: str, value: str = "x") -> SecretPath:
        self.bao.put(f"{self.root}/{name}", {"apiKey": value})
        return self.at(name)

    def backend(self, rights: Rights = WAYS["scan"], below: str = "*") -> VaultBackend:
        name = secrets.token_hex(8)
        rules = {f"secret/{kind}/{self.root}/{below}": to for kind, to in rights.items()}
        self.bao.write_policy(name, rules)
        return self.make(TokenAuth(self.bao.create_token([name])))

    def asked(self, since: int) -> list[tuple[str, str]]:
        """
        Return the requests for secrets since then, as (operation, path), but those as root.

        Each refusal costs a look-up of the token besides, which is not among them.
        """
        return [
            (entry["request"]["operation"], entry["request"]["path"])
            for entry in self.bao.audit_entries()[since:]
            if entry["type"] == "request"
            and "root" not in entry["auth"].get("policies", [])
            and not entry["request"]["path"].startswith(("auth/", "sys/"))
        ]

    def mark(self) -> int:
        return len(self.bao.audit_entries())


@pytest.fixture
def tree(bao: OpenBao, backend_with: MakeBackend) -> Tree:
    bao.enable_audit()
    return Tree(bao, f"jt/sweep-{secrets.token_hex(4)}", backend_with)


def versions(found: Mapping[SecretPath, VersionInfo | SecretsError]) -> dict[SecretPath, int]:
    return {at: info.version for at, info in found.items() if isinstance(info, VersionInfo)}


# ── how few requests ─────────────────────────────────────────────────────────────────────────


FIGURES = {"scan": (1, 1), "list": (21, 20), "singly": (221, 200)}  # the first sweep, later ones


@pytest.mark.parametrize("way", WAYS)
def test_two_hundred_unchanged_secrets_and_one_rotated(tree: Tree, way: str) -> None:
    paths = [tree.put(f"server-{number % 20}/{number // 20}") for number in range(200)]
    backend = SweptBackend(tree.backend(WAYS[way]), max_age=60.0, settle=0.0)

    for expected in FIGURES[way]:
        since = tree.mark()
        assert versions(backend.sweep(paths)) == dict.fromkeys(paths, 1)
        assert len(tree.asked(since)) == expected
    since = tree.mark()
    infos = [backend.describe(at) for at in paths]
    assert tree.asked(since) == []
    assert {info.version for info in infos} == {1}

    tree.put("server-7/3", "new")
    since = tree.mark()
    moved = [at for at, version in versions(backend.sweep(paths)).items() if version != 1]
    assert moved == [tree.at("server-7/3")]
    info = backend.describe(moved[0])
    assert backend.read(moved[0], info.version, info.created)["apiKey"].reveal() == "new"
    data = [path for _, path in tree.asked(since) if "/data/" in path]
    assert data == [f"secret/data/{tree.root}/server-7/3"]


def test_control_without_sweeping_each_secret_is_asked_for(tree: Tree) -> None:
    paths = [tree.put(f"a/{number}") for number in range(5)]
    backend = SweptBackend(tree.backend(), max_age=60.0, settle=0.0)
    since = tree.mark()
    for at in paths:
        backend.describe(at)

    assert len(tree.asked(since)) == 5
    assert backend.requests == 5


def test_what_is_not_wanted_is_not_looked_at(tree: Tree) -> None:
    """Only below the deepest folder that the wanted ones share."""
    paths = [tree.put("tokyo/a/bybit"), tree.put("tokyo/a/okx"), tree.put("tokyo/b/okx")]
    tree.put("berlin/x")
    backend = tree.backend()
    since = tree.mark()

    Sweeper(backend).sweep(paths)

    folder = f"secret/detailed-metadata/{tree.root}/tokyo/"
    assert tree.asked(since) == [("scan", folder)]


def test_one_secret_alone_is_read_and_not_listed(tree: Tree) -> None:
    at = tree.put("a/b")
    backend = tree.backend()
    since = tree.mark()

    assert versions(Sweeper(backend).sweep([at])) == {at: 1}
    assert tree.asked(since) == [("read", f"secret/metadata/{at.path}")]
    assert Sweeper(backend).sweep([]) == {}


def test_several_mounts_and_secrets_directly_in_a_mount(
    bao: OpenBao, backend_with: MakeBackend
) -> None:
    mounts = [f"m{secrets.token_hex(4)}" for _ in range(2)]
    paths = []
    for mount in mounts:
        bao.mount_kv2(mount)
        for path in ("one", "two", "x/one", "x/two", "y/one"):
            bao.put(path, {"a": "b"}, mount=mount)
            paths.append(SecretPath(mount, path))
    sweeper = Sweeper(backend_with(TokenAuth(bao.root_token)))

    assert versions(sweeper.sweep(paths)) == dict.fromkeys(paths, 1)
    assert sweeper.requests == 2 * 3  # x/ by scan, those in the mount by list, y/one singly


def test_folders_of_the_same_name_as_secrets(tree: Tree) -> None:
    """OpenBao shows the facts of the secret under the folder's name, too."""
    paths = [tree.put("a"), tree.put("a/a"), tree.put("a/a/a")]
    tree.put("a/a")
    for way, rights in WAYS.items():
        found = versions(Sweeper(tree.backend(rights)).sweep(paths))
        assert [found[at] for at in paths] == [1, 2, 1], way


def test_more_than_one_page(tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("reconciler.secrets.vault.sweep._PAGE", 7)
    paths = [tree.put(f"a/{number}") for number in range(30)]
    backend = tree.backend(WAYS["list"])
    sweeper = Sweeper(backend)
    sweeper.sweep(paths)
    since = tree.mark()

    assert versions(sweeper.sweep(paths)) == dict.fromkeys(paths, 1)
    assert len(tree.asked(since)) == 5


# ── what cannot be read ──────────────────────────────────────────────────────────────────────


def delete(tree: Tree) -> None:
    tree.bao.delete(f"{tree.root}/a/odd", 2)


def destroy(tree: Tree) -> None:
    tree.bao.destroy(f"{tree.root}/a/odd", 2)


def remove(tree: Tree) -> None:
    tree.bao.remove(f"{tree.root}/a/odd")


def empty(tree: Tree) -> None:
    remove(tree)
    tree.bao.request("POST", f"secret/metadata/{tree.root}/a/odd", {"max_versions": 3})


BROKEN: dict[str, tuple[Callable[[Tree], None], type[SecretsError]]] = {
    "deleted": (delete, SecretDeleted),
    "destroyed": (destroy, SecretDestroyed),
    "removed": (remove, SecretMissing),
    "never written": (empty, SecretMissing),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("case", BROKEN)
def test_what_cannot_be_read_is_said_as_describe_says_it(tree: Tree, case: str, way: str) -> None:
    good, odd = tree.put("a/good"), tree.put("a/odd")
    tree.put("a/odd")
    backend = SweptBackend(tree.backend(WAYS[way]), max_age=60.0, settle=0.0)
    backend.sweep([good, odd])
    breaking, expected = BROKEN[case]
    breaking(tree)
    # Not noticed before the next sweep, and noticed in it.
    assert backend.describe(odd).version == 2

    found = backend.sweep([good, odd])

    assert versions(found) == {good: 1}
    error = found[odd]
    assert type(error) is expected
    with pytest.raises(expected) as caught:
        backend.describe(odd)
    assert str(caught.value) == str(error)
    if case in ("deleted", "destroyed"):
        assert backend.describe(odd, 1).version == 1  # an older version still lives
    tree.put("a/odd")
    assert backend.describe(odd).alive  # mended: nobody waits for the next sweep


@pytest.mark.parametrize("way", WAYS)
def test_pinned_versions(tree: Tree, way: str) -> None:
    at, other = tree.put("a/b"), tree.put("a/c")
    tree.put("a/b")
    backend = SweptBackend(tree.backend(WAYS[way]), max_age=60.0, settle=0.0)
    backend.sweep([at, other])
    since = tree.mark()

    assert backend.describe(at, 1).version == 1
    assert tree.asked(since) == []
    with pytest.raises(VersionPruned, match="never written"):
        backend.describe(at, 3)
    tree.put("a/b")
    assert backend.describe(at, 3).version == 3  # younger than the sweep: asked for
    tree.bao.delete(at.path, 1)
    backend.sweep([at, other])
    with pytest.raises(SecretDeleted):
        backend.describe(at, 1)


def test_strange_paths_spoil_nothing(tree: Tree) -> None:
    good = [tree.put("a/b"), tree.put("a/c")]
    forbidden = SecretPath("secret", "elsewhere/x")
    hostile = [SecretPath("secret", "jt/../x"), SecretPath("secret", "a?b=c"), SecretPath("", "")]
    nowhere = SecretPath("nowhere", "a/b")
    mount = f"one-{secrets.token_hex(4)}"
    tree.bao.mount_kv1(mount)

    found = Sweeper(tree.backend()).sweep([*good, forbidden, *hostile, nowhere])

    assert versions(found) == dict.fromkeys(good, 1)
    assert type(found[forbidden]) in (Forbidden, MountUnknown)
    assert [type(found[at]) for at in hostile] == [SecretUnusable] * 3
    assert type(found[nowhere]) is MountUnknown
    old = [SecretPath(mount, "a/b"), SecretPath(mount, "a/c")]
    found = Sweeper(tree.make(TokenAuth(tree.bao.root_token))).sweep([*good, *old])
    assert versions(found) == dict.fromkeys(good, 1)
    assert [type(found[at]) for at in old] == [KvVersionOne] * 2


# ── what works is tried out and remembered ───────────────────────────────────────────────────


def test_a_refusal_is_remembered_and_tried_again_after_an_hour(tree: Tree) -> None:
    paths = [tree.put(f"a/{number}") for number in range(3)]
    clock = Clock()
    name = secrets.token_hex(8)

    def grant(**rights: tuple[str, ...]) -> None:
        kinds = {kind.replace("_", "-"): to for kind, to in rights.items()}
        rules = {f"secret/{kind}/{tree.root}/*": to for kind, to in kinds.items()}
        tree.bao.write_policy(name, rules)

    grant(metadata=READ)
    sweeper = Sweeper(tree.make(TokenAuth(tree.bao.create_token([name]))), clock=clock)

    def figure() -> list[str]:
        since = tree.mark()
        assert versions(sweeper.sweep(paths)) == dict.fromkeys(paths, 1)
        return [way for way, _ in tree.asked(since)]

    assert figure() == ["scan", "list", "read", "read", "read"]
    assert figure() == ["read", "read", "read"]
    grant(metadata=READ, detailed_metadata=("list", "scan"))
    clock.now += 3500
    assert figure() == ["read", "read", "read"]
    clock.now += 200
    assert figure() == ["scan"]
    assert figure() == ["scan"]


def test_rights_on_some_folders_only(tree: Tree) -> None:
    paths = [tree.put(f"{folder}/{n}") for folder in ("a", "b") for n in range(3)]
    name = secrets.token_hex(8)
    tree.bao.write_policy(
        name,
        {
            f"secret/metadata/{tree.root}/*": READ,
            f"secret/detailed-metadata/{tree.root}/a/*": ("list",),
        },
    )
    sweeper = Sweeper(tree.make(TokenAuth(tree.bao.create_token([name]))))
    sweeper.sweep(paths)
    since = tree.mark()

    assert versions(sweeper.sweep(paths)) == dict.fromkeys(paths, 1)
    assert [way for way, _ in tree.asked(since)] == ["list", "read", "read", "read"]


def metadata(number: int = 1) -> dict[str, object]:
    facts = {"created_time": "2026-11-22T12:00:00.5Z", "deletion_time": "", "destroyed": False}
    return {"current_version": number, "versions": {str(number): facts}}


def vault(other: Callable[[str], bytes]) -> Callable[..., None]:
    """As HashiCorp Vault: metadata can be read; *other* answers everything else."""

    def script(connection: object, request: bytes) -> None:
        target = request.split(b" ")[1].decode()
        if "/metadata/" in target:
            reply = answer(json.dumps({"data": metadata()}))
        elif "lookup-self" in target:
            reply = answer('{"data": {"ttl": 60}}')
        else:
            reply = other(target)
        connection.sendall(reply)  # type: ignore[attr-defined]

    return script


UNKNOWN = json.dumps(
    {"data": None, "warnings": ["Invalid path for a versioned K/V secrets engine"]}
)
OTHERS = {
    "HashiCorp Vault": answer(UNKNOWN, "404 Not Found"),
    "unsupported": answer('{"errors": ["unsupported operation"]}', "405 Method Not Allowed"),
    "no policy": answer('{"errors": ["permission denied"]}', "403 Forbidden"),
    "bad request": answer('{"errors": ["x"]}', "400 Bad Request"),
    "a wall before it": answer("<html>no</html>", "403 Forbidden"),
    "too long": answer(b'{"data": {"x": "' + b"x" * (8 << 20) + b'"}}'),
    "other facts": answer('{"data": {"keys": ["0"], "key_info": {"0": {"a": 1}, "1": 7}}}'),
    "no facts": answer('{"data": {}}'),
    "facts without time": answer(
        json.dumps({"data": {"key_info": {str(n): metadata(5) for n in range(3)}}}), date=""
    ),
    "nothing there": answer('{"errors": []}', "404 Not Found"),
}


@pytest.mark.parametrize("case", OTHERS)
def test_servers_that_cannot_list_versions(backend_with: MakeBackend, case: str) -> None:
    paths = [SecretPath("secret", f"jt/a/{number}") for number in range(3)]
    with stub(vault(lambda _: OTHERS[case])) as server:
        backend = backend_with(TokenAuth(QUIET), address=server.address)
        sweeper = Sweeper(backend)
        assert versions(sweeper.sweep(paths)) == dict.fromkeys(paths, 1)
        before = len(server.requests)
        assert versions(sweeper.sweep(paths)) == dict.fromkeys(paths, 1)

        again = len(server.requests) - before
    assert again == 3 if "facts" not in case and case != "nothing there" else again <= 5


def test_an_unsupported_way_is_tried_once_for_a_whole_mount(backend_with: MakeBackend) -> None:
    paths = [SecretPath("secret", f"jt/{n % 10}/{n}") for n in range(40)]
    tried: list[str] = []

    def refuse(target: str) -> bytes:
        tried.append(target)
        return OTHERS["HashiCorp Vault"]

    with stub(vault(refuse)) as server:
        sweeper = Sweeper(backend_with(TokenAuth(QUIET), address=server.address))
        for _ in range(3):
            assert len(versions(sweeper.sweep(paths))) == 40

    assert len(tried) == 2  # scan, list


@pytest.mark.parametrize("dead", [False, True])
def test_a_token_that_may_not_even_look_itself_up_is_judged_by_what_it_reads(
    backend_with: MakeBackend, *, dead: bool
) -> None:
    """Vault refuses a listing in the same words, whether the token died or has no right to it."""
    paths = [SecretPath("secret", f"jt/a/{number}") for number in range(200)]
    refused = answer('{"errors": ["permission denied"]}', "403 Forbidden")

    def script(connection: object, request: bytes) -> None:
        target = request.split(b" ")[1].decode()
        reads = "/metadata/" in target and not dead
        reply = answer(json.dumps({"data": metadata()})) if reads else refused
        connection.sendall(reply)  # type: ignore[attr-defined]

    with stub(script) as server:
        sweeper = Sweeper(backend_with(TokenAuth(QUIET), address=server.address))
        found = sweeper.sweep(paths)
        first = len(server.requests)
        again = sweeper.sweep(paths)
        # Not looks at the token itself: it is looked up once it has been in use for a while.
        reads = [one for one in server.requests[first:] if b"/secret/" in one.split(b" ")[1]]

    assert found.keys() == again.keys() == set(paths)
    if dead:
        assert {type(one) for one in (*found.values(), *again.values())} == {TokenExpired}
        assert first <= 36, "a dead token is not tried on every secret"
    else:
        assert versions(found) == versions(again) == dict.fromkeys(paths, 1)
        assert len(reads) == 200, "what is refused is remembered"


@pytest.mark.parametrize("which", [["00"], ["00", "07", "39"], [f"{n:02}" for n in range(8)]])
def test_what_such_a_token_must_not_read_says_nothing_of_the_others(
    tree: Tree, which: list[str]
) -> None:
    """Two teams, one Vault: what one of them wrote down wrongly must not stop the other's keys."""
    names = [f"{number:02}" for number in range(40)]
    paths = {name: tree.put(name) for name in names}
    policy = secrets.token_hex(8)
    allowed = [paths[name].path for name in names if name not in which]
    tree.bao.write_policy(policy, {f"secret/metadata/{path}": READ for path in allowed})
    token = tree.bao.create_token([policy], default_policy=False)
    backend = tree.make(TokenAuth(token))
    sweeper = Sweeper(backend)

    for _ in range(2):
        found = sweeper.sweep(paths.values())
        assert versions(found) == {paths[n]: 1 for n in names if n not in which}
        assert {type(found[paths[name]]) for name in which} == {Forbidden}
    with pytest.raises(Forbidden):
        backend.describe(paths[which[0]])

    tree.bao.revoke(token)
    found = sweeper.sweep(paths.values())
    assert {type(error) for error in found.values()} == {TokenExpired}


# ── trouble ──────────────────────────────────────────────────────────────────────────────────


def test_while_vault_is_away_that_stands_at_every_secret_at_once(backend_with: MakeBackend) -> None:
    paths = [SecretPath("secret", f"jt/{n}") for n in range(100)]
    backend = backend_with(TokenAuth(QUIET), address="http://127.0.0.1:9", timeouts=QUICK)
    began = time.monotonic()

    found = Sweeper(backend).sweep(paths)

    assert {type(error) for error in found.values()} == {SecretsUnreachable}
    assert found.keys() == set(paths)
    assert time.monotonic() - began < 2 * QUICK.secrets_total + 10


def test_a_dead_token_and_a_sealed_vault() -> None:
    paths = [SecretPath("secret", f"jt/{n}") for n in range(4)]
    with OpenBao() as bao:
        for at in paths:
            bao.put(at.path, {"a": "b"})
        token = bao.create_token(["default"])
        dead = VaultBackend(address=bao.address, auth=TokenAuth(token), timeouts=QUICK)
        bao.revoke(token)
        found = Sweeper(dead).sweep(paths)
        assert [type(error) for error in found.values()] == [TokenExpired] * 4
        living = VaultBackend(address=bao.address, auth=TokenAuth(bao.root_token), timeouts=QUICK)
        sweeper = Sweeper(living)
        assert len(versions(sweeper.sweep(paths))) == 4
        bao.seal()
        found = sweeper.sweep(paths)
        assert [type(error) for error in found.values()] == [SecretsSealed] * 4
        bao.unseal()
        assert len(versions(sweeper.sweep(paths))) == 4
        for backend in (dead, living):
            backend.close()


def test_one_odd_secret_does_not_hide_the_others(backend_with: MakeBackend) -> None:
    paths = [SecretPath("secret", f"jt/{n}") for n in range(4)]
    good = answer(json.dumps({"data": metadata()}))

    def script(connection: object, request: bytes) -> None:
        target = request.split(b" ")[1].decode()
        reply = good
        if "lookup-self" in target:
            reply = answer('{"data": {"ttl": 60}}')
        elif "detailed" in target:
            reply = OTHERS["HashiCorp Vault"]
        elif target.endswith("/1"):
            reply = answer('{"data": {"versions": 7}}')
        connection.sendall(reply)  # type: ignore[attr-defined]

    with stub(script) as server:
        found = Sweeper(backend_with(TokenAuth(QUIET), address=server.address)).sweep(paths)

    assert sorted(at.path for at in versions(found)) == ["jt/0", "jt/2", "jt/3"]


# ── answers from memory ──────────────────────────────────────────────────────────────────────


def test_an_answer_from_memory_ages_and_ends(tree: Tree) -> None:
    at, other = tree.put("a/b"), tree.put("a/c")
    clock = Clock()
    backend = SweptBackend(tree.backend(), max_age=60.0, settle=0.0, clock=clock)
    first = backend.sweep([at, other])[at]
    assert isinstance(first, VersionInfo)
    since = tree.mark()
    clock.now += 59

    info = backend.describe(at)
    assert (info.version, info.created) == (first.version, first.created)
    assert info.age == pytest.approx(first.age + 59, abs=1.01)  # its Date has whole seconds
    assert tree.asked(since) == []
    clock.now += 2
    assert backend.describe(at).age < 30
    assert len(tree.asked(since)) == 1


def test_a_version_that_had_not_settled_is_asked_for_again(tree: Tree) -> None:
    """
    Its second half may have been written since.

    From memory alone the first half would look settled once enough time has passed.
    """
    at, other = tree.put("a/b"), tree.put("a/c")
    clock = Clock()
    backend = SweptBackend(tree.backend(), max_age=60.0, settle=10.0, clock=clock)
    backend.sweep([at, other])
    tree.put("a/b", "second half")
    clock.now += 15

    info = backend.describe(at)
    assert info.version == 2
    assert info.age < 10.0
    assert backend.describe(at, 1).version == 1  # pinned: nothing can be added to it


def test_a_deletion_announced_for_later_is_noticed_in_time(tree: Tree) -> None:
    tree.bao.request("POST", f"secret/metadata/{tree.root}/a/b", {"delete_version_after": "30s"})
    at, other = tree.put("a/b"), tree.put("a/c")
    clock = Clock()
    backend = SweptBackend(tree.backend(), max_age=60.0, settle=0.0, clock=clock)
    backend.sweep([at, other])
    since = tree.mark()

    assert backend.describe(at).alive
    assert tree.asked(since) == []
    clock.now += 35
    backend.describe(at)
    assert len(tree.asked(since)) == 1  # asked, since it would be deleted by now


def test_what_a_later_sweep_does_not_ask_for_is_forgotten(tree: Tree) -> None:
    paths = [tree.put("a/b"), tree.put("a/c"), tree.put("a/d")]
    backend = SweptBackend(tree.backend(), max_age=60.0, settle=0.0)
    backend.sweep(paths)
    backend.sweep(paths[:2])
    since = tree.mark()

    backend.describe(paths[2])
    assert len(tree.asked(since)) == 1
    backend.close()
    backend.describe(paths[0])
    assert len(tree.asked(since)) == 2


def test_values_are_always_read_from_vault(tree: Tree) -> None:
    at, other = tree.put("a/b", "one"), tree.put("a/c")
    backend = SweptBackend(tree.backend(), max_age=60.0, settle=0.0)
    backend.sweep([at, other])
    info = backend.describe(at)
    tree.bao.remove(at.path)
    tree.put("a/b", "another life")

    with pytest.raises(SecretUnusable, match="removed and written anew"):
        backend.read(at, info.version, info.created)


# ── before a survey ──────────────────────────────────────────────────────────────────────────


def test_many_secrets_are_learnt_at_once_and_then_forgotten(tree: Tree) -> None:
    paths = [tree.put(f"server-{number % 8}/{number // 8}") for number in range(32)]
    backend = SweptBackend(tree.backend(), max_age=60.0, settle=0.0)

    since = tree.mark()
    backend.prepare(paths)
    assert {backend.describe(at).version for at in paths} == {1}
    assert [way for way, _ in tree.asked(since)] == ["scan"]

    tree.put("server-3/1")
    backend.forget()
    assert backend.describe(tree.at("server-3/1")).version == 2


def test_who_may_not_list_pays_two_requests_for_asking(tree: Tree) -> None:
    """A plan remembers no refusal, and there may be a folder for each of a thousand servers."""
    paths = [tree.put(f"server-{number % 8}/{number // 8}") for number in range(32)]
    on = tree.backend(WAYS["singly"])
    once = Sweeper(on, thorough=False)
    backend = SweptBackend(on, max_age=60.0, settle=0.0, sweeper=once.inner)
    since = tree.mark()

    backend.prepare(paths)

    assert [way for way, _ in tree.asked(since)] == ["scan", *["read"] * 32]
    assert {backend.describe(at).version for at in paths} == {1}
    assert len(tree.asked(since)) == 33


def test_few_secrets_are_not_worth_a_listing_that_may_be_refused(tree: Tree) -> None:
    paths = [tree.put(f"a/{number}") for number in range(3)]
    backend = SweptBackend(tree.backend(), max_age=60.0, settle=0.0)
    since = tree.mark()

    backend.prepare(paths)

    assert tree.asked(since) == []


# ── what the owner of a secret says ──────────────────────────────────────────────────────────


@pytest.mark.parametrize("way", WAYS)
def test_who_may_get_a_secret_is_told_in_every_way_of_asking(tree: Tree, way: str) -> None:
    paths = [tree.put(name) for name in ("bound", "closed", "free")]
    tree.bao.bind(f"{tree.root}/bound", "https://tokyo-1.internal:8443, https://*.osaka")
    tree.bao.bind(f"{tree.root}/closed", "none")
    backend = SweptBackend(tree.backend(WAYS[way]), max_age=60.0, settle=0.0)
    expected = [("https://tokyo-1.internal:8443", "https://*.osaka"), ("none",), None]

    swept = backend.sweep(paths)

    assert [getattr(swept[at], "targets", "?") for at in paths] == expected
    assert [tree.backend(WAYS[way]).describe(at).targets for at in paths] == expected
