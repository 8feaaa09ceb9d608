"""Each way to log in to Vault, with the least rights that the documentation names."""

from pathlib import Path
from typing import Any

import pytest

from reconciler.model.secret import Secret
from reconciler.sandbox.openbao import OpenBao
from tests.e2e.answers import statuses
from tests.secrets.signed import jwt, new_key, public
from tests.support.leaks import PRIVATE
from tests.support.rig import Rig

READ = ("read",)
ROOT = Path(__file__).parent.parent.parent


def kept(rig: Rig, name: str, secret: Secret) -> str:
    """Put a secret into a private file; returns its path."""
    path = rig.home / PRIVATE / name
    path.write_text(rig.watch.guard(secret.reveal(), name) + "\n", "utf-8")
    path.chmod(0o600)
    return str(path)


def policy(rig: Rig, name: str, *kinds: str, **more: tuple[str, ...]) -> str:
    """Allow reading this test's secrets below `secret/KIND/`; returns the policy's name."""
    rules = {f"secret/{kind}/{rig.path('*')}": READ for kind in kinds}
    rig.bao.write_policy(f"{name}-{rig.team}", {**rules, **more})
    return f"{name}-{rig.team}"


def settings(rig: Rig, **vault: Any) -> None:
    """Log in as the settings say, not with a token of the environment."""
    del rig.environment["VAULT_TOKEN"]
    del rig.environment["VAULT_ADDR"]
    rig.settings(vault={"address": rig.bao.address, **vault})


@pytest.mark.parametrize("method", ["approle", "token-file", "jwt"])
def test_a_login_that_may_read_and_nothing_else_is_enough(rig: Rig, method: str) -> None:
    server = rig.server()
    rig.document("tokyo-1", "bybit", "okx")
    rights = policy(rig, "apply", "metadata", "data")
    if method == "approle":
        role_id, secret_id = rig.bao.approle(f"jtr-{rig.team}", [rights])
        auth = {"roleId": role_id, "secretIdFile": kept(rig, "secret-id", secret_id)}
    elif method == "jwt":
        key, mount = new_key(), f"ci-{rig.team}"
        rig.bao.request("POST", f"sys/auth/{mount}", {"type": "jwt"})
        config = {"jwt_validation_pubkeys": [public(key)], "bound_issuer": "issuer"}
        rig.bao.request("POST", f"auth/{mount}/config", config)
        role = {"role_type": "jwt", "bound_audiences": ["vault"], "user_claim": "sub"}
        rig.bao.request("POST", f"auth/{mount}/role/jtr", {**role, "token_policies": [rights]})
        auth = {"role": "jtr", "mount": mount, "tokenFile": kept(rig, "jwt", Secret(jwt(key)))}
    else:
        auth = {"tokenFile": kept(rig, "token", rig.bao.create_token([rights]))}
    settings(rig, auth={"method": method, **auth})
    rig.begin()

    ran = rig.apply()

    assert ran.code == 0, ran.text
    assert server.record.saves == 2


def test_a_token_of_a_login_is_given_back(rig: Rig, bao: OpenBao) -> None:
    rig.server()
    rig.document("tokyo-1")
    rights = policy(rig, "plan", "metadata", "data")
    role_id, secret_id = bao.approle(f"jtr-{rig.team}", [rights])
    secret_id_file = kept(rig, "secret-id", secret_id)
    settings(rig, auth={"method": "approle", "roleId": role_id, "secretIdFile": secret_id_file})
    bao.enable_audit()
    before = len(bao.audit_entries())

    assert rig.plan().code == 0

    asked = [entry["request"]["path"] for entry in bao.audit_entries()[before:]]
    assert "auth/approle/login" in asked
    assert asked[-1] == "auth/token/revoke-self"


def test_metadata_alone_is_enough_for_a_recorded_plan(rig: Rig) -> None:
    server = rig.server()
    rig.document("tokyo-1", "bybit", "okx")
    rig.begin()
    assert rig.apply().code == 0
    rig.rotate("tokyo-1", "okx")
    token = rig.bao.create_token([policy(rig, "pull", "metadata")])
    connections = len(server.record.handshakes)

    ran = rig.plan(
        "--recorded", "-o", "json", environment={"VAULT_TOKEN": rig.watch.guard(token.reveal())}
    )

    assert statuses(ran) == {"bybit": "in sync", "okx": "write"}
    assert len(server.record.handshakes) == connections


def test_a_fingerprint_key_in_vault_is_made_once_and_shared(rig: Rig) -> None:
    server = rig.server()
    rig.document("tokyo-1")
    place = f"{rig.reference('fingerprint')}#key"
    rig.settings(fingerprintKey=place)

    first = rig.jtr("ledger", "init")
    again = rig.jtr("ledger", "init")
    applied = rig.apply()
    elsewhere = rig.plan("-o", "json", environment={"XDG_CONFIG_HOME": str(rig.home / "another")})

    assert f"made a fingerprint key: {place}" in first.out
    assert "made a fingerprint key" not in again.out
    assert applied.code == 0, applied.text
    assert statuses(elsewhere) == {"bybit": "in sync"}
    assert server.record.saves == 1
    assert not (rig.home / "config" / "jtr" / "fingerprint.key").exists()


def refused(bao: OpenBao, token: Secret, method: str, path: str, body: object = None) -> bool:
    """Whether OpenBao refuses this request to the holder of *token*."""
    client = bao.client()
    client.token = token.reveal()
    answer = client.session.request(
        method, f"{bao.address}/v1/{path}", headers={"X-Vault-Token": client.token}, json=body
    )
    client.session.close()
    return int(answer.status_code) == 403


def policy_file(rig: Rig, name: str) -> Secret:
    """Load a policy of `deploy/vault` and return a token that has it."""
    text = (ROOT / "deploy" / "vault" / f"{name}.hcl").read_text("utf-8")
    rig.bao.request("POST", f"sys/policies/acl/{name}-{rig.team}", {"policy": text})
    return rig.bao.create_token([f"{name}-{rig.team}"])


def test_the_policies_in_deploy_allow_what_is_needed_and_refuse_the_rest(rig: Rig) -> None:
    rig.server()
    rig.document("tokyo-1")
    rig.begin()
    recorded, applying = policy_file(rig, "recorded"), policy_file(rig, "apply")
    secret = rig.path("tokyo-1/bybit")

    applied = rig.apply(environment={"VAULT_TOKEN": rig.watch.guard(applying.reveal())})
    planned = rig.plan(
        "--recorded", environment={"VAULT_TOKEN": rig.watch.guard(recorded.reveal())}
    )

    assert (applied.code, planned.code) == (0, 0), applied.text + planned.text
    assert refused(rig.bao, recorded, "GET", f"secret/data/{secret}")
    for token in (recorded, applying):
        assert refused(rig.bao, token, "POST", f"secret/data/{secret}", {"data": {"a": "b"}})
        assert refused(rig.bao, token, "DELETE", f"secret/metadata/{secret}")
        assert refused(rig.bao, token, "LIST", "secret/metadata/jt")
        assert refused(rig.bao, token, "GET", "secret/metadata/elsewhere")
    assert not refused(rig.bao, applying, "GET", f"secret/data/{secret}")
