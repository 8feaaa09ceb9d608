"""Each way to log in to Vault, with the least rights that the documentation names."""

from pathlib import Path
from typing import Any

import pytest

from reconciler.model.secret import Secret
from reconciler.sandbox.openbao import OpenBao
from tests.e2e.answers import statuses
from tests.leaks import PRIVATE
from tests.secrets.signed import jwt, new_key, public
from tests.world import World

READ = ("read",)
ROOT = Path(__file__).parent.parent.parent


def kept(world: World, name: str, secret: Secret) -> str:
    """Put a secret into a private file; returns its path."""
    path = world.home / PRIVATE / name
    path.write_text(world.watch.guard(secret.reveal(), name) + "\n", "utf-8")
    path.chmod(0o600)
    return str(path)


def policy(world: World, name: str, *kinds: str, **more: tuple[str, ...]) -> str:
    """Allow reading this test's secrets below `secret/KIND/`; returns the policy's name."""
    rules = {f"secret/{kind}/{world.path('*')}": READ for kind in kinds}
    world.bao.write_policy(f"{name}-{world.team}", {**rules, **more})
    return f"{name}-{world.team}"


def settings(world: World, **vault: Any) -> None:
    """Log in as the settings say, not with a token of the environment."""
    del world.environment["VAULT_TOKEN"]
    del world.environment["VAULT_ADDR"]
    world.settings(vault={"address": world.bao.address, **vault})


@pytest.mark.parametrize("method", ["approle", "token-file", "jwt"])
def test_a_login_that_may_read_and_nothing_else_is_enough(world: World, method: str) -> None:
    server = world.server()
    world.document("tokyo-1", "bybit", "okx")
    rights = policy(world, "apply", "metadata", "data")
    if method == "approle":
        role_id, secret_id = world.bao.approle(f"jtr-{world.team}", [rights])
        auth = {"roleId": role_id, "secretIdFile": kept(world, "secret-id", secret_id)}
    elif method == "jwt":
        key, mount = new_key(), f"ci-{world.team}"
        world.bao.request("POST", f"sys/auth/{mount}", {"type": "jwt"})
        config = {"jwt_validation_pubkeys": [public(key)], "bound_issuer": "issuer"}
        world.bao.request("POST", f"auth/{mount}/config", config)
        role = {"role_type": "jwt", "bound_audiences": ["vault"], "user_claim": "sub"}
        world.bao.request("POST", f"auth/{mount}/role/jtr", {**role, "token_policies": [rights]})
        auth = {"role": "jtr", "mount": mount, "tokenFile": kept(world, "jwt", Secret(jwt(key)))}
    else:
        auth = {"tokenFile": kept(world, "token", world.bao.create_token([rights]))}
    settings(world, auth={"method": method, **auth})
    world.begin()

    ran = world.apply()

    assert ran.code == 0, ran.text
    assert server.record.saves == 2


def test_a_token_of_a_login_is_given_back(world: World, bao: OpenBao) -> None:
    world.server()
    world.document("tokyo-1")
    rights = policy(world, "plan", "metadata", "data")
    role_id, secret_id = bao.approle(f"jtr-{world.team}", [rights])
    secret_id_file = kept(world, "secret-id", secret_id)
    settings(world, auth={"method": "approle", "roleId": role_id, "secretIdFile": secret_id_file})
    bao.enable_audit()
    before = len(bao.audit_entries())

    assert world.plan().code == 0

    asked = [entry["request"]["path"] for entry in bao.audit_entries()[before:]]
    assert "auth/approle/login" in asked
    assert asked[-1] == "auth/token/revoke-self"


def test_metadata_alone_is_enough_for_a_recorded_plan(world: World) -> None:
    server = world.server()
    world.document("tokyo-1", "bybit", "okx")
    world.begin()
    assert world.apply().code == 0
    world.rotate("tokyo-1", "okx")
    token = world.bao.create_token([policy(world, "pull", "metadata")])
    connections = len(server.record.handshakes)

    ran = world.plan(
        "--recorded", "-o", "json", environment={"VAULT_TOKEN": world.watch.guard(token.reveal())}
    )

    assert statuses(ran) == {"bybit": "in sync", "okx": "write"}
    assert len(server.record.handshakes) == connections


def test_a_fingerprint_key_in_vault_is_made_once_and_shared(world: World) -> None:
    server = world.server()
    world.document("tokyo-1")
    place = f"{world.reference('fingerprint')}#key"
    world.settings(fingerprintKey=place)

    first = world.jtr("ledger", "init")
    again = world.jtr("ledger", "init")
    applied = world.apply()
    elsewhere = world.plan(
        "-o", "json", environment={"XDG_CONFIG_HOME": str(world.home / "another")}
    )

    assert f"made a fingerprint key: {place}" in first.out
    assert "made a fingerprint key" not in again.out
    assert applied.code == 0, applied.text
    assert statuses(elsewhere) == {"bybit": "in sync"}
    assert server.record.saves == 1
    assert not (world.home / "config" / "jtr" / "fingerprint.key").exists()


def refused(bao: OpenBao, token: Secret, method: str, path: str, body: object = None) -> bool:
    """Whether OpenBao refuses this request to the holder of *token*."""
    client = bao.client()
    client.token = token.reveal()
    answer = client.session.request(
        method, f"{bao.address}/v1/{path}", headers={"X-Vault-Token": client.token}, json=body
    )
    client.session.close()
    return int(answer.status_code) == 403


def policy_file(world: World, name: str) -> Secret:
    """Load a policy of `deploy/vault` and return a token that has it."""
    text = (ROOT / "deploy" / "vault" / f"{name}.hcl").read_text("utf-8")
    world.bao.request("POST", f"sys/policies/acl/{name}-{world.team}", {"policy": text})
    return world.bao.create_token([f"{name}-{world.team}"])


def test_the_policies_in_deploy_allow_what_is_needed_and_refuse_the_rest(world: World) -> None:
    world.server()
    world.document("tokyo-1")
    world.begin()
    recorded, applying = policy_file(world, "recorded"), policy_file(world, "apply")
    secret = world.path("tokyo-1/bybit")

    applied = world.apply(environment={"VAULT_TOKEN": world.watch.guard(applying.reveal())})
    planned = world.plan(
        "--recorded", environment={"VAULT_TOKEN": world.watch.guard(recorded.reveal())}
    )

    assert (applied.code, planned.code) == (0, 0), applied.text + planned.text
    assert refused(world.bao, recorded, "GET", f"secret/data/{secret}")
    for token in (recorded, applying):
        assert refused(world.bao, token, "POST", f"secret/data/{secret}", {"data": {"a": "b"}})
        assert refused(world.bao, token, "DELETE", f"secret/metadata/{secret}")
        assert refused(world.bao, token, "LIST", "secret/metadata/jt")
        assert refused(world.bao, token, "GET", "secret/metadata/elsewhere")
    assert not refused(world.bao, applying, "GET", f"secret/data/{secret}")
