"""One contract for every secret backend: Vault's on a real OpenBao, and the one in memory."""

import itertools
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol

import pytest

from reconciler.errors import (
    Exit,
    MountUnknown,
    SecretDeleted,
    SecretDestroyed,
    SecretMissing,
    SecretsError,
    SecretUnusable,
    VersionPruned,
)
from reconciler.model.references import SecretPath, SecretRef
from reconciler.model.secret import Secret
from reconciler.sandbox.openbao import OpenBao
from reconciler.secrets.vault.backend import TokenAuth
from reconciler.system.timeouts import Timeouts
from tests.support.canaries import canaries, find_leaks
from tests.support.waiting import MemoryBackend, VaultBackend, key_from_vault

_numbers = itertools.count(1)


class People(Protocol):
    """What people do to secrets, which no backend may do."""

    def put(self, at: SecretPath, fields: Mapping[str, Any]) -> int: ...
    def delete(self, at: SecretPath, *versions: int) -> None: ...
    def undelete(self, at: SecretPath, *versions: int) -> None: ...
    def destroy(self, at: SecretPath, *versions: int) -> None: ...
    def remove(self, at: SecretPath) -> None: ...


class VaultPeople:
    """People with a root token."""

    def __init__(self, bao: OpenBao) -> None:
        self._bao = bao

    def put(self, at: SecretPath, fields: Mapping[str, Any]) -> int:
        return self._bao.put(at.path, fields)

    def delete(self, at: SecretPath, *versions: int) -> None:
        self._bao.delete(at.path, *versions)

    def undelete(self, at: SecretPath, *versions: int) -> None:
        self._bao.undelete(at.path, *versions)

    def destroy(self, at: SecretPath, *versions: int) -> None:
        self._bao.destroy(at.path, *versions)

    def remove(self, at: SecretPath) -> None:
        self._bao.remove(at.path)


@pytest.fixture(scope="module")
def openbao() -> Iterator[OpenBao]:
    with OpenBao() as server:
        yield server


Sides = tuple[VaultBackend | MemoryBackend, People]


@pytest.fixture(params=["memory", "vault"])
def sides(request: pytest.FixtureRequest) -> Iterator[Sides]:
    if request.param == "memory":
        backend = MemoryBackend()
        yield backend, backend.inner
        backend.close()
        return
    bao = request.getfixturevalue("openbao")
    vault = VaultBackend(address=bao.address, auth=TokenAuth(bao.root_token), timeouts=Timeouts())
    yield vault, VaultPeople(bao)
    vault.close()


@pytest.fixture
def at() -> SecretPath:
    return SecretPath("secret", f"jt/c{next(_numbers)}")


def test_the_newest_version_is_described_and_read(sides: Sides, at: SecretPath) -> None:
    backend, people = sides
    assert people.put(at, {"apiKey": "old"}) == 1
    assert people.put(at, {"apiKey": "new", "secret": "s"}) == 2
    info = backend.describe(at)
    fields = backend.read(at, info.version, info.created)

    assert (info.version, info.alive) == (2, True)
    assert 0.0 <= info.age < 60.0
    assert {name: fields[name].reveal() for name in fields} == {"apiKey": "new", "secret": "s"}


def test_an_older_version_is_described_and_read(sides: Sides, at: SecretPath) -> None:
    backend, people = sides
    people.put(at, {"apiKey": "old"})
    people.put(at, {"apiKey": "new"})
    old, new = backend.describe(at, 1), backend.describe(at, 2)

    assert (old.version, new.version) == (1, 2)
    assert old.created != new.created
    assert backend.read(at, 1, old.created)["apiKey"].reveal() == "old"


def test_every_shape_of_secret_comes_back_as_it_was(sides: Sides, at: SecretPath) -> None:
    backend, people = sides
    made_up = canaries(20261122)
    people.put(at, {canary.shape: canary.value for canary in made_up})
    info = backend.describe(at)
    fields = backend.read(at, info.version, info.created)

    assert all(fields[canary.shape].reveal() == canary.value for canary in made_up)
    assert find_leaks(f"{fields}{info}{backend!r}".encode(), made_up) == []


def test_an_empty_value_is_a_value(sides: Sides, at: SecretPath) -> None:
    backend, people = sides
    people.put(at, {"apiKey": ""})
    info = backend.describe(at)

    assert backend.read(at, 1, info.created)["apiKey"].reveal() == ""


def missing(people: People, at: SecretPath) -> None:
    pass


def deleted(people: People, at: SecretPath) -> None:
    people.put(at, {"apiKey": "x"})
    people.delete(at, 1)


def destroyed(people: People, at: SecretPath) -> None:
    people.put(at, {"apiKey": "x"})
    people.destroy(at, 1)


def pruned(people: People, at: SecretPath) -> None:
    for _ in range(12):
        people.put(at, {"apiKey": "x"})


def removed(people: People, at: SecretPath) -> None:
    people.put(at, {"apiKey": "x"})
    people.remove(at)


@pytest.mark.parametrize(
    ("happened", "expected"),
    [
        (missing, SecretMissing),
        (deleted, SecretDeleted),
        (destroyed, SecretDestroyed),
        (pruned, VersionPruned),
        (removed, SecretMissing),
    ],
)
def test_what_cannot_be_read_says_why(
    sides: Sides,
    at: SecretPath,
    happened: Callable[[People, SecretPath], None],
    expected: type[SecretsError],
) -> None:
    backend, people = sides
    happened(people, at)
    for ask in (lambda: backend.describe(at, 1), lambda: backend.read(at, 1, "2026")):
        with pytest.raises(SecretsError) as caught:
            ask()
        assert type(caught.value) is expected
        assert str(at) in caught.value.what
        assert caught.value.remedy
        assert caught.value.exit_code is Exit.SECRETS


def test_a_version_to_come_was_never_written(sides: Sides, at: SecretPath) -> None:
    backend, people = sides
    people.put(at, {"apiKey": "x"})

    with pytest.raises(VersionPruned):
        backend.describe(at, 2)


@pytest.mark.parametrize("version", [0, -1])
def test_there_is_no_version_below_one(sides: Sides, at: SecretPath, version: int) -> None:
    backend, people = sides
    people.put(at, {"apiKey": "x"})
    for ask in (
        lambda: backend.describe(at, version),
        lambda: backend.read(at, version, "2026"),
    ):
        with pytest.raises(SecretUnusable):
            ask()


def test_an_unknown_mount_is_no_absence(sides: Sides) -> None:
    backend, _ = sides
    with pytest.raises(MountUnknown):
        backend.describe(SecretPath("nowhere", "x"))


def test_undeleted_is_alive_again(sides: Sides, at: SecretPath) -> None:
    backend, people = sides
    deleted(people, at)
    people.undelete(at, 1)

    assert backend.describe(at).alive


def test_the_same_number_of_another_life_is_refused(sides: Sides, at: SecretPath) -> None:
    backend, people = sides
    people.put(at, {"apiKey": "x"})
    before = backend.describe(at)
    people.remove(at)
    people.put(at, {"apiKey": "y"})

    assert backend.describe(at).created != before.created
    with pytest.raises(SecretUnusable):
        backend.read(at, 1, before.created)


@pytest.mark.parametrize("value", [7, 1.5, True, None, {"a": "b"}, ["a"]])
def test_a_value_that_is_not_text_is_refused_by_name(
    sides: Sides, at: SecretPath, value: object
) -> None:
    backend, people = sides
    people.put(at, {"apiKey": "x", "secret": value})
    info = backend.describe(at)

    with pytest.raises(SecretUnusable, match="the field secret is not text"):
        backend.read(at, 1, info.created)


def test_creating_once(sides: Sides, at: SecretPath) -> None:
    backend, people = sides
    assert backend.create_once(at, "key", Secret("first")).reveal() == "first"
    assert backend.create_once(at, "key", Secret("second")).reveal() == "first"
    assert backend.describe(at).version == 1
    with pytest.raises(SecretUnusable):
        backend.create_once(at, "other", Secret("x"))
    people.delete(at, 1)
    with pytest.raises(SecretDeleted):
        backend.create_once(at, "key", Secret("third"))


def test_a_fingerprint_key_is_made_once_and_found_again(sides: Sides, at: SecretPath) -> None:
    backend, _ = sides
    ref = SecretRef(at, "key")
    assert key_from_vault(backend, ref, create=False) is None
    made = key_from_vault(backend, ref, create=True)
    again = key_from_vault(backend, ref, create=True)

    assert made is not None
    assert again is not None
    assert made.reveal() == again.reveal()


def test_eight_threads(sides: Sides, at: SecretPath) -> None:
    backend, people = sides
    for number in range(1, 9):
        people.put(at, {"apiKey": f"value {number}"})
    barrier = threading.Barrier(8)

    def work(number: int) -> set[str]:
        barrier.wait(60)
        return {
            backend.read(at, number, backend.describe(at, number).created)["apiKey"].reveal()
            for _ in range(5)
        }

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(work, range(1, 9))) == [{f"value {n}"} for n in range(1, 9)]
