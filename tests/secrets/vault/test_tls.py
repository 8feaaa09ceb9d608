"""TLS towards a real OpenBao: the pinned CA is accepted, nothing else is, with the reason."""

import socket
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from reconciler.errors import SecretsError, SecretsUnreachable
from reconciler.model.references import SecretPath
from reconciler.model.secret import Secret
from reconciler.sandbox.jt_trader.server import StandInThread
from reconciler.sandbox.openbao import OpenBao
from reconciler.secrets.vault.backend import TokenAuth
from reconciler.system.timeouts import Timeouts
from tests.drivers.scripted import Authority
from tests.secrets.conftest import QUICK
from tests.secrets.http_stub import always, stub
from tests.support.waiting import VaultBackend

AT = SecretPath("secret", "jt/a")


@pytest.fixture(scope="module")
def secure() -> Iterator[OpenBao]:
    with OpenBao(tls=True) as server:
        server.put("jt/a", {"apiKey": "x"})
        yield server


@pytest.fixture(scope="module")
def foreign() -> Iterator[str]:
    """The CA of somebody else's OpenBao."""
    with OpenBao(tls=True) as server:
        assert server.ca_file
        yield server.ca_file


def describe(address: str, token: Secret, ca_file: str | None, timeouts: Timeouts = QUICK) -> int:
    backend = VaultBackend(
        address=address, auth=TokenAuth(token), ca_file=ca_file, timeouts=timeouts
    )
    try:
        return backend.describe(AT).version
    finally:
        backend.close()


def test_the_pinned_ca_is_accepted(secure: OpenBao) -> None:
    assert describe(secure.address, secure.root_token, secure.ca_file) == 1


@pytest.mark.parametrize("variable", ["VAULT_CACERT", "REQUESTS_CA_BUNDLE", "SSL_CERT_FILE"])
def test_neither_another_ca_nor_the_usual_ones_nor_the_environment(
    secure: OpenBao, foreign: str, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    monkeypatch.setenv(variable, secure.ca_file or "")
    for ca_file in (foreign, None):
        with pytest.raises(SecretsError, match="not trusted: its certificate is not signed") as got:
            describe(secure.address, secure.root_token, ca_file)

        assert not got.value.transient
        assert got.value.__context__ is None


def test_another_name_than_the_certificate_has(secure: OpenBao) -> None:
    other = secure.address.replace("127.0.0.1", "127.0.0.2")
    port = int(other.rpartition(":")[2])
    with socket.create_server(("127.0.0.2", port)) as relay:
        threading.Thread(target=_relay, args=(relay, port), daemon=True).start()
        with pytest.raises(SecretsError, match="for another"):
            describe(other, secure.root_token, secure.ca_file)


def test_a_private_authority_of_old_kind_is_refused_with_what_to_do(tmp_path: Path) -> None:
    old = Authority(tmp_path, identified=False)
    # Who answers does not matter: since Python 3.13 the handshake fails.
    with (
        StandInThread(access_secret="unused", tls=old.server_context()) as server,
        pytest.raises(SecretsError) as caught,
    ):
        describe(server.url, Secret("made-up"), str(old.ca_file))

    refused = "since 3.13: it has no" in caught.value.what
    anew = "issue the CA and the certificate anew" in caught.value.remedy
    assert (refused, anew) == (sys.version_info >= (3, 13),) * 2


def _relay(relay: socket.socket, port: int) -> None:
    here, _ = relay.accept()
    there = socket.create_connection(("127.0.0.1", port))
    back = threading.Thread(target=_pump, args=(there, here), daemon=True)
    back.start()
    _pump(here, there)
    back.join(5)
    here.close()
    there.close()


def _pump(source: socket.socket, target: socket.socket) -> None:
    try:
        while piece := source.recv(65536):
            target.sendall(piece)
        target.shutdown(socket.SHUT_WR)
    except OSError:
        return


def test_a_ca_file_that_is_none(secure: OpenBao, tmp_path: Path) -> None:
    (tmp_path / "text.pem").write_text("hello")
    for path in (tmp_path / "no.pem", tmp_path / "text.pem", tmp_path):
        with pytest.raises(SecretsError, match="cannot be read or holds no certificate"):
            describe(secure.address, secure.root_token, str(path))


def test_plain_http_to_a_tls_port_and_the_other_way_round(secure: OpenBao, bao: OpenBao) -> None:
    with pytest.raises(SecretsUnreachable, match="not Vault"):
        describe(secure.address.replace("https", "http"), secure.root_token, None)
    with pytest.raises(SecretsUnreachable, match="no TLS connection"):
        describe(bao.address.replace("http", "https"), bao.root_token, secure.ca_file)


def test_a_peer_that_never_finishes_the_handshake(secure: OpenBao) -> None:
    with stub(lambda c, _: (c.recv(1), None)[1]) as silent:
        backend = VaultBackend(
            address=silent.address.replace("http", "https"),
            auth=TokenAuth(secure.root_token),
            ca_file=secure.ca_file,
            timeouts=QUICK.scaled(10),
        )
        with pytest.raises(SecretsUnreachable, match="in time"):
            backend.describe(AT)
        backend.close()


def test_the_token_is_not_sent_before_the_certificate_is_checked(
    secure: OpenBao, foreign: str
) -> None:
    secure.enable_audit()
    before = len(secure.audit_entries())
    with pytest.raises(SecretsError, match="not trusted"):
        describe(secure.address, secure.root_token, foreign)

    assert len(secure.audit_entries()) == before
    assert describe(secure.address, secure.root_token, secure.ca_file) == 1
    assert len(secure.audit_entries()) > before


def test_a_peer_without_tls_hears_nothing_of_the_token(secure: OpenBao) -> None:
    with stub(always(b"no")) as plain:
        address = plain.address.replace("http", "https")
        with pytest.raises(SecretsUnreachable):
            describe(address, secure.root_token, secure.ca_file, QUICK.scaled(10))

        assert not plain.saw(secure.root_token.reveal())
