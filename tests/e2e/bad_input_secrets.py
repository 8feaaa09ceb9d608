"""Vault cannot be asked, will not answer, or holds something that must not be sent."""

import socket
from collections.abc import Callable

from reconciler.errors import Exit
from tests.e2e.bad_input_row import Row, Scope, visiting
from tests.e2e.bad_input_setup import Setup
from tests.secrets.http_stub import Script, answer, stub

CODE = visiting(Exit.SECRETS)
_ELSEWHERE = "Location: https://elsewhere.example:8200/v1/secret"


def _vault(name: str, spoil: object, what: str, remedy: str) -> Row:
    """Return a row for a Vault that is no help to any server."""
    assert callable(spoil)
    return Row(name, spoil, CODE, what, remedy, Scope.ALL)


def _secret(name: str, spoil: Callable[[Setup], object], what: str, remedy: str) -> Row:
    """Return a row for one bad secret: that of bybit at tokyo-1."""
    return Row(name, spoil, CODE, what, remedy, Scope.EXCHANGE)


def _value(name: str, change: Callable[[str], object], why: str, remedy: str) -> Row:
    """Return a row for a value that must not be sent."""

    def spoil(setup: Setup) -> None:
        good = setup.rig.watch.secret("base62")
        setup.rig.put("tokyo-1/bybit", apiKey=setup.rig.watch.secret("base62"), secret=change(good))

    return _secret(name, spoil, why, remedy)


def _fields(name: str, what: str, remedy: str, *names: str) -> Row:
    """Return a row for a secret with these fields."""

    def spoil(setup: Setup) -> None:
        values = {name: setup.rig.watch.secret("base62") for name in names}
        setup.rig.put("tokyo-1/bybit", **values)

    return _secret(name, spoil, what, remedy)


def _version(name: str, spoil: Callable[[Setup, str, int], object], what: str, remedy: str) -> Row:
    """Return a row for something that was done to the newest version of the secret."""

    def spoil_newest(setup: Setup) -> None:
        path = setup.secret_of("bybit")
        spoil(setup, path, setup.rig.put("tokyo-1/bybit", apiKey="x" * 20, secret="y" * 20))

    return _secret(name, spoil_newest, what, remedy)


# ── no Vault ─────────────────────────────────────────────────────────────────────────────────


def _down(setup: Setup) -> None:
    with socket.create_server(("127.0.0.1", 0)) as gone:
        port = gone.getsockname()[1]
    setup.environment["VAULT_ADDR"] = f"http://127.0.0.1:{port}"
    setup.use(durations={"secretsTotal": "300ms"})


def _mute(setup: Setup) -> None:
    # The kernel accepts connections for a listener that never does.
    listener = socket.create_server(("127.0.0.1", 0))
    setup.later(listener.close)
    setup.environment["VAULT_ADDR"] = f"http://127.0.0.1:{listener.getsockname()[1]}"
    setup.use(durations={"secretsRequest": "60ms", "secretsTotal": "200ms"})


def _instead(script: Script) -> Callable[[Setup], None]:
    def spoil(setup: Setup) -> None:
        other = stub(script)
        setup.environment["VAULT_ADDR"] = other.__enter__().address
        setup.later(other.__exit__, None, None, None)
        setup.use(durations={"secretsTotal": "300ms"})

    return spoil


def _hang_up(connection: socket.socket, _request: bytes) -> None:
    connection.close()


def _redirect(connection: socket.socket, _request: bytes) -> None:
    connection.sendall(answer(b"", "307 Temporary Redirect", _ELSEWHERE))


def _overloaded(connection: socket.socket, _request: bytes) -> None:
    connection.sendall(answer(b'{"errors": []}', "429 Too Many Requests"))


def _another_service(setup: Setup) -> None:
    setup.environment["VAULT_ADDR"] = setup.good.url


def _ca_missing(setup: Setup) -> None:
    setup.environment |= {
        "VAULT_ADDR": setup.rig.bao.address.replace("http://", "https://"),
        "VAULT_CACERT": "/nowhere/ca.pem",
    }


def _tls_at_a_plain_port(setup: Setup) -> None:
    setup.environment["VAULT_ADDR"] = setup.rig.bao.address.replace("http://", "https://")
    setup.use(durations={"secretsTotal": "600ms"})


def _sealed(setup: Setup) -> None:
    setup.environment |= {"VAULT_ADDR": setup.sealed.address, "VAULT_TOKEN": "x" * 26}


# ── a token that is not enough ───────────────────────────────────────────────────────────────


def _forbidden(setup: Setup) -> None:
    rig = setup.rig
    paths = [rig.path(name) for name in ("tokyo-1", "tokyo-1/okx", "osaka-1", "osaka-1/bybit")]
    rules = {f"secret/{kind}/{path}": ["read"] for path in paths for kind in ("data", "metadata")}
    rig.bao.write_policy(f"most-{rig.team}", rules)
    token = rig.bao.create_token([f"most-{rig.team}"])
    setup.environment["VAULT_TOKEN"] = rig.watch.guard(token.reveal(), "token")


def _expired(setup: Setup) -> None:
    token = setup.rig.bao.create_token(["default"])
    setup.rig.bao.revoke(token)
    setup.environment["VAULT_TOKEN"] = setup.rig.watch.guard(token.reveal(), "token")


# ── a secret that is not there ───────────────────────────────────────────────────────────────


def _pruned(setup: Setup) -> None:
    path = setup.secret_of("bybit")
    setup.rig.bao.request("POST", f"secret/metadata/{path}", {"max_versions": 1})
    setup.news()
    setup.edit("tokyo-1/bybit}", "tokyo-1/bybit@1}")


def _never_written(setup: Setup) -> None:
    setup.edit("tokyo-1/bybit}", "tokyo-1/bybit@99}")


def _wrong_mount(setup: Setup) -> None:
    path = setup.rig.path("tokyo-1/bybit")
    setup.edit(f"vault:secret/{path}}}", f"vault:sceret/{path}}}")


def _mount_of_two_segments(setup: Setup) -> None:
    setup.rig.bao.mount_kv2(f"team/{setup.rig.team}")
    path = setup.rig.path("tokyo-1/bybit")
    setup.edit(f"vault:secret/{path}}}", f"vault:team/{setup.rig.team}/bybit}}")


def _no_kv(setup: Setup) -> None:
    path = setup.rig.path("tokyo-1/bybit")
    setup.edit(f"vault:secret/{path}}}", "vault:cubbyhole/bybit}")


def _kv1(setup: Setup) -> None:
    mount = f"old-{setup.rig.team}"
    setup.rig.bao.mount_kv1(mount)
    path = setup.rig.path("tokyo-1/bybit")
    setup.edit(f"vault:secret/{path}}}", f"vault:{mount}/bybit}}")


def _half_written(setup: Setup) -> None:
    setup.use(durations={"settle": "9s", "settleTotal": "10ms"})
    setup.news()


def _access_secret_missing(setup: Setup) -> None:
    setup.edit("tokyo-1#access_secret", "tokyo-1#acces_secret")


def _access_secret_of_another_kind(setup: Setup) -> None:
    setup.log_in_with(setup.rig.watch.secret("base62") + "\n")


VAULTS = (
    _vault(
        "Vault down",
        _down,
        "Vault at {vault} cannot be reached: nothing listens there",
        "check the address and that it runs",
    ),
    _vault(
        "Vault mute",
        _mute,
        "Vault at {vault} cannot be reached: no complete answer in time",
        "check the address and that it runs",
    ),
    _vault(
        "Vault hangs up",
        _instead(_hang_up),
        "Vault at {vault} cannot be reached: it closed the connection",
        "check the address and that it runs",
    ),
    _vault(
        "Vault redirects",
        _instead(_redirect),
        "Vault at {vault} redirects to elsewhere.example:8200, and the token is never sent there",
        "give that address if it is yours",
    ),
    _vault(
        "Vault overloaded",
        _instead(_overloaded),
        "Vault at {vault} refuses because of too many requests",
        "try later",
    ),
    _vault(
        "Vault is something else",
        _another_service,
        "what answers at {vault} is not Vault",
        "check the address",
    ),
    _vault(
        "Vault sealed",
        _sealed,
        "Vault at {vault} is sealed",
        "unseal it",
    ),
    _vault(
        "Vault without TLS",
        _tls_at_a_plain_port,
        "Vault at {vault} cannot be reached: no TLS connection comes about",
        "check the address",
    ),
    _vault(
        "CA file for Vault missing",
        _ca_missing,
        "the CA file for Vault, /nowhere/ca.pem, cannot be read or holds no certificate",
        "name a PEM file",
    ),
    _vault(
        "Vault token expired",
        _expired,
        "{path}/ … Vault does not accept the Vault token: it has expired, was revoked or never",
        "log in again and give the new token",
    ),
    _secret(
        "Vault forbids",
        _forbidden,
        "bybit  failed: {path}/tokyo-1/bybit: the token's policies do not allow to read",
        'grant it: path "secret/metadata/jt/',
    ),
)

SECRETS = (
    _version(
        "secret deleted",
        lambda s, path, version: s.rig.bao.delete(path, version),
        "{path}/tokyo-1/bybit@3 was deleted",
        "bring it back: bao kv undelete -mount=secret -versions=3 jt/",
    ),
    _version(
        "secret destroyed",
        lambda s, path, version: s.rig.bao.destroy(path, version),
        "{path}/tokyo-1/bybit@3 was destroyed",
        "write a new version",
    ),
    _secret(
        "secret pruned",
        _pruned,
        "{path}/tokyo-1/bybit@1 is no longer kept; the newest version is 3",
        "pin a newer one",
    ),
    _secret(
        "secret version never written",
        _never_written,
        "{path}/tokyo-1/bybit@99 was never written; the newest version is 2",
        "pin another one",
    ),
    _secret(
        "secret missing",
        lambda s: s.rig.bao.remove(s.secret_of("bybit")),
        "{path}/tokyo-1/bybit: nothing was ever written there",
        "write it: bao kv put -mount=secret jt/",
    ),
    _secret(
        "wrong mount",
        _wrong_mount,
        "vault:sceret/jt/ … there is no mount sceret",
        "check the mount",
    ),
    _secret(
        "mount of two segments",
        _mount_of_two_segments,
        "vault:team/ … the mount there is team/",
        "write vault:team/ … //bybit",
    ),
    _secret(
        "mount that is no KV",
        _no_kv,
        "vault:cubbyhole/bybit: the mount cubbyhole is no KV secrets engine",
        "name one of KV version 2",
    ),
    _secret(
        "KV v1",
        _kv1,
        "the mount old- … is KV version 1, which keeps no versions",
        "bao kv enable-versioning old-",
    ),
    Row(
        "secret still being written",
        _half_written,
        CODE,
        "{path}/tokyo-1/bybit is still being written: version 3",
        "wait until it rests, or pin a version",
        Scope.NOTHING,
    ),
    _value(
        "secret with surrounding whitespace",
        lambda value: f" {value}",
        "{path}/tokyo-1/bybit#secret@3 … it begins or ends with whitespace or a line break",
        "write the value itself again",
    ),
    _value(
        "secret with a line break at its end",
        lambda value: f"{value}\n",
        "{path}/tokyo-1/bybit#secret@3 … it begins or ends with whitespace or a line break",
        "write the value itself again",
    ),
    _value(
        "secret empty",
        lambda _: "",
        "{path}/tokyo-1/bybit#secret@3 … it is empty",
        "write the value itself again",
    ),
    _value(
        "secret with •",
        lambda value: f"{value[:3]}•••••{value[-3:]}",
        "{path}/tokyo-1/bybit#secret@3 … it contains '•': it seems to be what a server shows",
        "write the value itself again",
    ),
    _value(
        "secret with a control character",
        lambda value: f"{value[:9]}\t{value[9:]}",
        "{path}/tokyo-1/bybit#secret@3 … it contains a control character or a line break",
        "write the value itself again",
    ),
    _value(
        "secret that is a number",
        lambda _: 20261122,
        "{path}/tokyo-1/bybit@3: the field secret is not text but a number",
        "write it again as text",
    ),
    _value(
        "secret that is a map",
        lambda value: {"value": value},
        "{path}/tokyo-1/bybit@3: the field secret is not text but a list or map",
        "write it again as text",
    ),
    _fields(
        "both key spellings",
        "{path}/tokyo-1/bybit@3 has both apiKey and api_key",
        "keep one of the two spellings",
        *("apiKey", "api_key", "secret"),
    ),
    _fields(
        "missing field in the secret",
        "{path}/tokyo-1/bybit@3 has no field secret or api_secret",
        "the server asks for secret",
        *("apiKey", "scret"),
    ),
    Row(
        "access secret missing",
        _access_secret_missing,
        CODE,
        "{path}/tokyo-1@1 has no field acces_secret",
        "write it, or name another",
        connections=0,
    ),
    Row(
        "access secret with a line break",
        _access_secret_of_another_kind,
        CODE,
        "{path}/tokyo-1#access_secret … it begins or ends with whitespace or a line break",
        "write the value itself again",
        connections=0,
    ),
)
