"""What OpenBao's own audit log says that we read, and what many threads get."""

import secrets
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from reconciler.errors import Forbidden, SecretDeleted, SecretsError, SecretUnusable
from reconciler.model.references import SecretPath
from reconciler.model.secret import Secret
from reconciler.sandbox.openbao import OpenBao
from reconciler.secrets.vault.backend import TokenAuth
from tests.secrets.conftest import MakeBackend, Place
from tests.support.canaries import Canary, Search
from tests.support.waiting import VaultBackend


def requested(bao: OpenBao, since: int) -> list[str]:
    """Return the paths that were asked for, as OpenBao wrote them down."""
    entries = bao.audit_entries()[since:]
    return [entry["request"]["path"] for entry in entries if entry["type"] == "request"]


def test_describing_reads_metadata_and_nothing_else(
    bao: OpenBao, place: Place, backend: VaultBackend
) -> None:
    bao.put(place.path, {"apiKey": "x"})
    bao.put(place.path, {"apiKey": "y"})
    bao.enable_audit()
    since = len(bao.audit_entries())

    assert backend.describe(place.at).version == 2
    assert backend.describe(place.at, 1).version == 1

    assert requested(bao, since) == [f"secret/metadata/{place.path}"] * 2


def test_control_the_audit_log_shows_a_read_of_data_and_never_its_value(
    bao: OpenBao, place: Place, backend: VaultBackend, made_up: tuple[Canary, ...]
) -> None:
    file = bao.enable_audit()
    since = len(bao.audit_entries())
    bao.put(place.path, {canary.shape: canary.value for canary in made_up})
    info = backend.describe(place.at)
    backend.read(place.at, info.version, info.created)

    assert requested(bao, since)[-1] == f"secret/data/{place.path}"
    assert len(requested(bao, since)) == 3  # our own put, metadata, data: one request each
    assert Search(made_up).leaks(file.read_bytes()) == []


def test_failing_to_describe_reads_no_data_either(
    bao: OpenBao, place: Place, backend: VaultBackend
) -> None:
    bao.put("other/secret", {"apiKey": "x"})
    bao.enable_audit()
    since = len(bao.audit_entries())
    for at in (place.at, SecretPath("nowhere", "x"), SecretPath("secret", "other/secret")):
        with pytest.raises(SecretsError):
            backend.describe(at)

    assert not [path for path in requested(bao, since) if "/data/" in path]


def test_age_is_measured_by_vaults_own_clock(
    bao: OpenBao, place: Place, backend: VaultBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    bao.put(place.path, {"apiKey": "x"})
    monkeypatch.setattr("time.time", lambda: 4e9)

    assert 0.0 <= backend.describe(place.at).age < 5.0


def test_eight_threads_get_what_belongs_to_their_question(
    bao: OpenBao, place: Place, backend: VaultBackend
) -> None:
    spots = [SecretPath("secret", f"{place.path}/{number}") for number in range(8)]
    for at in spots:
        for value in ("old", "new"):
            bao.put(at.path, {"apiKey": f"{at.path} {value}"})
    barrier = threading.Barrier(8)

    def work(at: SecretPath) -> list[str]:
        barrier.wait(60)
        seen = []
        for _ in range(20):
            for version in (1, 2):
                info = backend.describe(at, version)
                seen.append(backend.read(at, version, info.created)["apiKey"].reveal())
        return seen

    with ThreadPoolExecutor(8) as pool:
        for at, seen in zip(spots, pool.map(work, spots), strict=True):
            assert seen == [f"{at.path} old", f"{at.path} new"] * 20


def test_eight_processes_that_create_at_once_agree(
    bao: OpenBao, place: Place, backend_with: MakeBackend
) -> None:
    token = bao.create_token(["keeper"])
    backends = [backend_with(TokenAuth(token)) for _ in range(8)]
    offers = [secrets.token_hex(32) for _ in backends]
    barrier = threading.Barrier(8)

    def create(number: int) -> str:
        barrier.wait(60)
        return backends[number].create_once(place.at, "key", Secret(offers[number])).reveal()

    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(create, range(8)))

    assert len(set(results)) == 1
    assert results[0] in offers
    assert bao.request("GET", f"secret/metadata/{place.path}").data["current_version"] == 1


def test_creating_gives_what_is_there_and_changes_nothing(
    bao: OpenBao, place: Place, backend_with: MakeBackend
) -> None:
    backend = backend_with(TokenAuth(bao.create_token(["keeper"])))
    bao.put(place.path, {"key": "first"})

    assert backend.create_once(place.at, "key", Secret("second")).reveal() == "first"
    with pytest.raises(SecretUnusable, match="no field other"):
        backend.create_once(place.at, "other", Secret("second"))
    bao.delete(place.path, 1)
    with pytest.raises(SecretDeleted):
        backend.create_once(place.at, "key", Secret("third"))
    assert bao.request("GET", f"secret/metadata/{place.path}").data["current_version"] == 1


def test_creating_without_the_right_to(place: Place, backend: VaultBackend) -> None:
    with pytest.raises(Forbidden, match="create its data"):
        backend.create_once(place.at, "key", Secret("x"))


@pytest.mark.parametrize("field", ["", "a b", "a/b", "ä", "\x1b"])
def test_creating_a_field_with_an_odd_name(place: Place, backend: VaultBackend, field: str) -> None:
    with pytest.raises(SecretUnusable, match="name of the field"):
        backend.create_once(place.at, field, Secret("x"))
