"""
Vault in trouble while we use it: everything ends in time, as what it is, and goes on afterwards.

One backend lives through each story; nothing is built anew.
"""

import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest

from reconciler.errors import SecretsError, SecretsSealed, SecretsUnreachable
from reconciler.model.references import SecretPath
from reconciler.model.values import replace
from reconciler.sandbox.openbao import OpenBao
from reconciler.secrets.vault.backend import JwtAuth
from reconciler.system.timeouts import Timeouts
from tests.secrets.http_stub import stub
from tests.secrets.signed import jwt, new_key, public
from tests.support.waiting import SweptBackend, VaultBackend

PATIENT = Timeouts()  # where nothing has to time out
SHORT = replace(Timeouts(), connect=0.5, secrets_request=0.5, secrets_total=1.0)
KEY = new_key()
PATHS = [SecretPath("secret", f"jt/server/{name}") for name in ("bybit", "okx", "kucoin")]
SLACK = 8.0  # seconds for a machine that does other things as well


@dataclass
class Setup:
    """An OpenBao that a test may break, and one backend with a login of its own."""

    bao: OpenBao
    file: Path
    opened: list[VaultBackend]

    def furnish(self) -> None:
        """Fill it; a new start has emptied it."""
        rights = {"secret/metadata/jt/*": ["read"], "secret/data/jt/*": ["read"]}
        self.bao.write_policy("jtr", {**rights, "secret/detailed-metadata/jt/*": ["scan"]})
        self.bao.request("POST", "sys/auth/jwt", {"type": "jwt"})
        self.bao.request("POST", "auth/jwt/config", {"jwt_validation_pubkeys": [public(KEY)]})
        role = {"role_type": "jwt", "bound_audiences": ["vault"], "user_claim": "sub"}
        self.bao.request(
            "POST", "auth/jwt/role/jtr", {**role, "token_policies": ["jtr"], "token_ttl": "1h"}
        )
        for at in PATHS:
            self.bao.put(at.path, {"apiKey": "x"})

    def backend(self, *, address: str = "", timeouts: Timeouts = SHORT) -> VaultBackend:
        made = VaultBackend(
            address=address or self.bao.address,
            auth=JwtAuth("jtr", str(self.file)),
            timeouts=timeouts,
        )
        self.opened.append(made)
        return made


@pytest.fixture
def setup(tmp_path: Path) -> Iterator[Setup]:
    (tmp_path / "jwt").write_text(jwt(KEY))
    with OpenBao() as bao:
        made = Setup(bao, tmp_path / "jwt", [])
        made.furnish()
        yield made
        for backend in made.opened:
            backend.close()


HistoryEntry = Callable[[VaultBackend], object]
DEEDS: dict[str, HistoryEntry] = {
    "describe": lambda backend: backend.describe(PATHS[0]),
    "read": lambda backend: backend.read(PATHS[0], 1, "2026-11-22T12:00:00Z"),
    "whoami": lambda backend: backend.whoami(),
    "capabilities": lambda backend: backend.capabilities(["sys/mounts"]),
}


def check(backend: VaultBackend, expected: type[SecretsError]) -> None:
    """Everything fails as *expected*, in time."""
    for deed in DEEDS.values():
        began = time.monotonic()
        with pytest.raises(SecretsError) as caught:
            deed(backend)
        assert type(caught.value) is expected
        assert caught.value.transient
        assert time.monotonic() - began < SHORT.secrets_total + SLACK
    began = time.monotonic()
    found = SweptBackend(backend, max_age=60.0, settle=0.0).sweep(PATHS)
    assert [type(error) for error in found.values()] == [expected] * len(PATHS)
    assert time.monotonic() - began < 2 * SHORT.secrets_total + SLACK


def works(backend: VaultBackend) -> bool:
    """Whether it can be used again; nothing but unreachable may stand in between."""
    try:
        info = backend.describe(PATHS[0])
    except SecretsUnreachable:
        return False
    assert set(backend.read(PATHS[0], info.version, info.created)) == {"apiKey"}
    found = SweptBackend(backend, max_age=60.0, settle=0.0).sweep(PATHS)
    return not any(isinstance(one, SecretsError) for one in found.values())


def recovers(backend: VaultBackend) -> None:
    end = time.monotonic() + 60.0
    while not works(backend):
        assert time.monotonic() < end


@pytest.mark.parametrize("when", ["before the login", "after it"])
def test_it_hangs_and_goes_on(setup: Setup, when: str) -> None:
    backend = setup.backend()
    if when == "after it":
        recovers(backend)
    setup.bao.pause()
    try:
        check(backend, SecretsUnreachable)
    finally:
        setup.bao.resume()
    recovers(backend)


def test_it_is_killed_and_comes_back_empty_and_is_filled_again(setup: Setup) -> None:
    backend = setup.backend()
    recovers(backend)
    setup.bao.kill()
    check(backend, SecretsUnreachable)

    setup.bao.start()
    with pytest.raises(SecretsError) as caught:
        backend.describe(PATHS[0])
    # Neither our token nor our login nor the secret is there: that is no missing secret.
    assert caught.value.__class__.__name__ == "LoginFailed"
    setup.furnish()

    recovers(backend)


def test_it_is_killed_under_many_requests(setup: Setup) -> None:
    """No request that is cut looks like anything else."""
    backend = setup.backend()
    recovers(backend)
    stop = threading.Event()
    busy = threading.Semaphore(0)

    def ask(number: int) -> set[str]:
        kinds = set()
        while not stop.is_set():
            try:
                kinds.add(f"version {backend.describe(PATHS[number % 3]).version}")
                busy.release()
            except SecretsError as error:
                kinds.add(type(error).__name__)
                return kinds
        return kinds

    with ThreadPoolExecutor(8) as pool:
        running = [pool.submit(ask, number) for number in range(8)]
        for _ in range(200):
            assert busy.acquire(timeout=60)
        setup.bao.kill()
        ended = [future.result(60) for future in running]
        stop.set()

    assert {kind for kinds in ended for kind in kinds} == {"version 1", "SecretsUnreachable"}


def test_it_is_sealed_and_unsealed(setup: Setup) -> None:
    backend = setup.backend(timeouts=PATIENT)
    recovers(backend)
    token = backend.token()
    setup.bao.seal()
    check(backend, SecretsSealed)
    fresh = setup.backend(timeouts=PATIENT)  # who logs in now is told the same
    check(fresh, SecretsSealed)

    setup.bao.unseal()

    recovers(backend)
    recovers(fresh)
    assert backend.token() is token  # it lived on; nobody had to log in again


def test_a_renewal_that_falls_into_a_seal_does_no_harm(setup: Setup) -> None:
    setup.bao.request(
        "POST", "auth/jwt/role/jtr", {"role_type": "jwt", "token_ttl": "3s", "user_claim": "sub"}
    )
    backend = setup.backend(timeouts=PATIENT)
    assert backend.whoami().ttl is not None
    setup.bao.seal()
    end = time.monotonic() + 4.0
    while time.monotonic() < end:  # beyond the token's whole life
        with pytest.raises(SecretsSealed):
            backend.whoami()
        time.sleep(0.1)
    setup.bao.unseal()

    assert (backend.whoami().ttl or 0) > 0


def between(bao: OpenBao, spoil: Callable[[bytes], Iterator[bytes]]) -> Callable[..., None]:
    """Pass requests on to OpenBao, and its answers back as *spoil* gives them out."""
    port = int(bao.address.rpartition(":")[2])

    def script(connection: socket.socket, request: bytes) -> None:
        head, _, body = request.partition(b"\r\n\r\n")
        lines = [line for line in head.split(b"\r\n") if not line.lower().startswith(b"connection")]
        with socket.create_connection(("127.0.0.1", port), 5) as server:
            server.sendall(b"\r\n".join([*lines, b"Connection: close"]) + b"\r\n\r\n" + body)
            reply = b"".join(iter(lambda: server.recv(65536), b""))
        for piece in spoil(reply):
            connection.sendall(piece)

    return script


def test_slow_answers_are_waited_for_up_to_the_deadline(setup: Setup) -> None:
    pace = threading.Event()  # never set: a bounded pause
    delay = 0.0

    def spoil(reply: bytes) -> Iterator[bytes]:
        yield reply[:20]
        pace.wait(delay)
        yield reply[20:]

    with stub(between(setup.bao, spoil)) as proxy:
        backend = setup.backend(address=proxy.address)
        recovers(backend)
        delay = 0.1
        assert backend.describe(PATHS[0]).version == 1
        delay = 3.0
        began = time.monotonic()
        with pytest.raises(SecretsUnreachable, match="in time"):
            backend.describe(PATHS[0])
        assert time.monotonic() - began < SHORT.secrets_total + SLACK
        delay = 0.0
        recovers(backend)


@pytest.mark.parametrize("at", [0.0, 0.01, 0.2, 0.5, 0.8, 0.99])
def test_a_cut_answer_is_neither_absence_nor_news(setup: Setup, at: float) -> None:
    """Status line, headers, the middle of the body and its last byte."""
    cutting = False

    def spoil(reply: bytes) -> Iterator[bytes]:
        yield reply[: min(int(len(reply) * at), len(reply) - 1)] if cutting else reply

    with stub(between(setup.bao, spoil)) as proxy:
        backend = setup.backend(address=proxy.address)
        swept = SweptBackend(backend, max_age=60.0, settle=0.0)
        recovers(backend)
        swept.sweep(PATHS)
        cutting = True
        check(backend, SecretsUnreachable)
        found = swept.sweep(PATHS)
        assert [type(one) for one in found.values()] == [SecretsUnreachable] * 3
        cutting = False
        recovers(backend)
