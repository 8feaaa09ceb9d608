"""A real OpenBao for all tests of this folder, and backends on it that are closed afterwards."""

import itertools
import secrets
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest

from reconciler.model.references import SecretPath
from reconciler.model.secret import Secret
from reconciler.model.values import replace
from reconciler.sandbox.openbao import OpenBao
from reconciler.secrets.vault.backend import AppRoleAuth, TokenAuth, TokenFileAuth
from reconciler.system.timeouts import Timeouts
from tests.support.canaries import Canary, canaries
from tests.support.waiting import OPENED, VaultBackend

CALM = Timeouts()
QUICK = replace(CALM, connect=2.0, secrets_request=2.0, secrets_total=4.0)  # for whoever is away
_numbers = itertools.count(1)

Auth = TokenAuth | TokenFileAuth | AppRoleAuth
MakeBackend = Callable[..., VaultBackend]


@dataclass(frozen=True, slots=True)
class Place:
    """A secret's path that no other test uses, as OpenBao and as we write it."""

    path: str
    at: SecretPath


@pytest.fixture(scope="session")
def bao() -> Iterator[OpenBao]:
    with OpenBao() as server:
        reading = ["read"]
        server.write_policy(
            "reader", {"secret/metadata/jt/*": reading, "secret/data/jt/*": reading}
        )
        server.write_policy("metadata", {"secret/metadata/jt/*": reading})
        server.write_policy(
            "keeper",
            {"secret/metadata/jt/*": reading, "secret/data/jt/*": ["create", "update", "read"]},
        )
        yield server


@pytest.fixture(scope="session")
def reader(bao: OpenBao) -> Secret:
    return bao.create_token(["reader"])


@pytest.fixture(autouse=True)
def closed() -> Iterator[None]:
    """Close what a test made and left open."""
    yield
    while OPENED:
        OPENED[-1].close()


@pytest.fixture
def place() -> Place:
    path = f"jt/t{next(_numbers)}-{secrets.token_hex(4)}"
    return Place(path, SecretPath("secret", path))


@pytest.fixture
def backend_with(bao: OpenBao) -> Iterator[MakeBackend]:
    made: list[VaultBackend] = []

    def make(
        auth: Auth, *, address: str = bao.address, timeouts: Timeouts = CALM, **more: str
    ) -> VaultBackend:
        made.append(VaultBackend(address=address, auth=auth, timeouts=timeouts, **more))
        return made[-1]

    yield make
    for backend in made:
        backend.close()


@pytest.fixture
def backend(backend_with: MakeBackend, reader: Secret) -> VaultBackend:
    return backend_with(TokenAuth(reader))


@pytest.fixture
def made_up(record_property: Callable[[str, object], None]) -> tuple[Canary, ...]:
    seed = secrets.randbits(32)
    print(f"canary seed {seed}")  # noqa: T201  - shown when the test fails
    record_property("canary_seed", seed)
    return canaries(seed)
