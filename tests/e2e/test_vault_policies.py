"""The policies of `deploy/vault` in a real OpenBao: enough for their command, and for no more."""

import re
from pathlib import Path

import pytest

from reconciler.model.references import SecretPath
from reconciler.model.secret import Secret
from reconciler.sandbox.openbao import OpenBao
from reconciler.secrets.vault.backend import TokenAuth
from tests.e2e.answers import statuses
from tests.secrets.conftest import QUICK
from tests.support.rig import Rig
from tests.support.waiting import SweptBackend, VaultBackend

FOLDER = Path(__file__).parent.parent.parent / "deploy" / "vault"
# What each one needs besides; the ledger's own are exercised in test_ledger_vault.py.
SETS = {
    "recorded": ("recorded",),
    "apply": ("apply",),
    "controller": ("controller",),
    "controller on OpenBao": ("controller", "controller-openbao"),
}


@pytest.fixture
def filled(rig: Rig) -> Rig:
    """Two exchanges on a server, written once, and of one a newer version in Vault."""
    rig.server()
    rig.document("tokyo-1", "bybit", "okx")
    rig.begin()
    assert rig.apply().code == 0
    rig.rotate("tokyo-1", "okx")
    return rig


def token_with(rig: Rig, *names: str, default_policy: bool = False) -> Secret:
    """Load policies as they are; return a token that has them and, if so wished, no other."""
    for name in names:
        text = (FOLDER / f"{name}.hcl").read_text("utf-8")
        rig.bao.request("POST", f"sys/policies/acl/{name}-{rig.team}", {"policy": text})
    policies = [f"{name}-{rig.team}" for name in names]
    token = rig.bao.create_token(policies, default_policy=default_policy)
    rig.watch.guard(token.reveal(), "token")
    return token


def as_holder(token: Secret) -> dict[str, str]:
    return {"VAULT_TOKEN": token.reveal()}


def swept_by(rig: Rig, token: Secret) -> tuple[list[int], list[str]]:
    """Sweep this test's three secrets twice; return their versions and what the second asked."""
    paths = [
        SecretPath("secret", rig.path(name)) for name in ("tokyo-1", "tokyo-1/bybit", "tokyo-1/okx")
    ]
    vault = VaultBackend(address=rig.bao.address, auth=TokenAuth(token), timeouts=QUICK)
    backend = SweptBackend(vault, max_age=60.0, settle=0.0)
    backend.sweep(paths)
    since = len(rig.bao.audit_entries())
    backend.sweep(paths)
    entries = rig.bao.audit_entries()[since:]
    asked = [
        entry["request"]["operation"]
        for entry in entries
        if entry["type"] == "request" and entry["request"]["path"].startswith("secret/")
    ]
    versions = [backend.describe(at).version for at in paths]
    vault.close()
    return versions, asked


def test_ledger_init_makes_the_key_once_and_never_another(rig: Rig) -> None:
    rig.settings(**rig.ledger("vault"))
    text = (FOLDER / "ledger-init.hcl").read_text("utf-8").replace("jt/", f"jt/{rig.team}/")
    ledger = (FOLDER / "ledger.hcl").read_text("utf-8").replace("jtr/", f"ledger-{rig.team}/")
    for name, policy in (("init", text), ("ledger", ledger)):
        rig.bao.request("POST", f"sys/policies/acl/{name}-{rig.team}", {"policy": policy})
    token = rig.bao.create_token([f"init-{rig.team}", f"ledger-{rig.team}"], default_policy=False)
    rig.watch.guard(token.reveal(), "token")

    begun = rig.jtr("ledger", "init", environment=as_holder(token))
    again = rig.jtr("ledger", "init", environment=as_holder(token))
    at = f"secret/data/{rig.path('fingerprint')}"

    assert begun.code == 0, begun.text
    assert "made a fingerprint key" in begun.out
    assert (again.code, again.out) == (0, "")
    assert status(rig.bao, token, "POST", at, {"data": {"key": "other"}}) == 403


# ── what must work ───────────────────────────────────────────────────────────────────────────


def test_recorded_is_enough_for_a_plan_in_a_pull_request(filled: Rig) -> None:
    token = token_with(filled, "recorded", default_policy=True)

    ran = filled.process(
        "plan", str(filled.docs), "--recorded", "-o", "json", environment=as_holder(token)
    )

    assert statuses(ran) == {"bybit": "in sync", "okx": "write"}


@pytest.mark.parametrize("name", ["apply", "controller"])
def test_it_is_enough_to_apply(filled: Rig, name: str) -> None:
    token = token_with(filled, name, default_policy=name == "apply")
    server = filled.servers["tokyo-1"]
    before = server.record.saves

    ran = filled.process("apply", str(filled.docs), "--auto-approve", environment=as_holder(token))

    assert ran.code == 0, ran.text
    assert server.record.saves == before + 1


def test_the_controller_sweeps_with_one_request_on_openbao(filled: Rig) -> None:
    filled.bao.enable_audit()

    versions, asked = swept_by(filled, token_with(filled, "controller", "controller-openbao"))

    assert versions == [1, 1, 2]
    assert asked == ["scan"]


def test_the_controller_sweeps_without_that_as_well(filled: Rig) -> None:
    filled.bao.enable_audit()

    versions, asked = swept_by(filled, token_with(filled, "controller"))

    assert versions == [1, 1, 2]
    assert asked == ["read"] * 3


def test_the_controller_looks_after_its_token_without_any_other_policy(filled: Rig) -> None:
    token = token_with(filled, "controller")
    vault = VaultBackend(address=filled.bao.address, auth=TokenAuth(token), timeouts=QUICK)
    secret = filled.path("tokyo-1/okx")

    assert vault.whoami().policies == (f"controller-{filled.team}",)
    assert vault.capabilities([f"secret/data/{secret}", f"secret/delete/{secret}"]) == {
        f"secret/data/{secret}": ("read",),
        f"secret/delete/{secret}": ("deny",),
    }
    vault.close()
    assert status(filled.bao, token, "POST", "auth/token/renew-self", {}) == 200
    assert status(filled.bao, token, "POST", "auth/token/revoke-self", {}) == 204
    assert not filled.bao.alive(token)


# ── what must be refused ─────────────────────────────────────────────────────────────────────


def status(bao: OpenBao, token: Secret, method: str, path: str, body: object = None) -> int:
    client = bao.client()
    headers = {"X-Vault-Token": token.reveal()}
    if method == "PATCH":
        headers["Content-Type"] = "application/merge-patch+json"
    answer = client.session.request(method, f"{bao.address}/v1/{path}", headers=headers, json=body)
    client.session.close()
    return int(answer.status_code)


def forbidden(secret: str, folder: str) -> list[tuple[str, str, object]]:
    """What none of them may do."""
    versions = {"versions": [1]}
    return [
        ("POST", f"secret/data/{secret}", {"data": {"apiKey": "evil"}}),
        ("PATCH", f"secret/data/{secret}", {"data": {"apiKey": "evil"}}),
        ("POST", f"secret/data/{secret}-new", {"data": {"apiKey": "evil"}, "options": {"cas": 0}}),
        ("DELETE", f"secret/data/{secret}", None),
        ("POST", f"secret/delete/{secret}", versions),
        ("POST", f"secret/undelete/{secret}", versions),
        ("POST", f"secret/destroy/{secret}", versions),
        ("POST", f"secret/metadata/{secret}", {"max_versions": 1}),
        ("DELETE", f"secret/metadata/{secret}", None),
        ("LIST", f"secret/metadata/{folder}", None),
        ("LIST", "secret/metadata/", None),
        ("SCAN", f"secret/metadata/{folder}", None),
        ("SCAN", "secret/detailed-metadata/", None),
        ("LIST", "secret/detailed-metadata/", None),
        ("SCAN", "secret/detailed-metadata/elsewhere", None),
        ("GET", "secret/data/elsewhere/key", None),
        ("GET", "secret/metadata/elsewhere/key", None),
        ("GET", "secret/data/jt-other/key", None),
        ("GET", "secret/config", None),
        ("POST", "secret/config", {"max_versions": 1}),
        ("GET", "cubbyhole/x", None),
        ("GET", "sys/mounts", None),
        ("POST", "sys/mounts/evil", {"type": "kv"}),
        ("GET", "sys/auth", None),
        ("POST", "sys/auth/evil", {"type": "approle"}),
        ("LIST", "sys/policies/acl", None),
        ("POST", "sys/policies/acl/evil", {"policy": 'path "*" { capabilities = ["sudo"] }'}),
        ("GET", "sys/audit", None),
        ("POST", "auth/token/create", {"policies": ["default"]}),
        ("POST", "auth/token/create-orphan", {"policies": ["root"]}),
        ("POST", "auth/token/lookup", {"token": "other"}),
        ("POST", "auth/token/revoke", {"token": "other"}),
        ("LIST", "auth/token/accessors", None),
        ("POST", "auth/approle/role/jtr/secret-id", {}),
        ("POST", "identity/entity", {"name": "evil"}),
    ]


@pytest.mark.parametrize("name", SETS)
def test_nothing_else_is_allowed(filled: Rig, name: str) -> None:
    token = token_with(filled, *SETS[name])
    secret, folder = filled.path("tokyo-1/okx"), filled.path("tokyo-1")
    requests = forbidden(secret, folder)
    if name == "recorded":
        requests.append(("GET", f"secret/data/{secret}", None))
    if name != "controller on OpenBao":
        requests += [(way, f"secret/detailed-metadata/{folder}", None) for way in ("LIST", "SCAN")]
    since = filled.bao.request("GET", f"secret/metadata/{secret}").data

    allowed = {
        f"{method} {path}": code
        for method, path, body in requests
        if (code := status(filled.bao, token, method, path, body)) != 403
    }

    assert allowed == {}
    assert filled.bao.request("GET", f"secret/metadata/{secret}").data == since


def test_control_root_is_refused_none_of_the_reading_ones(filled: Rig) -> None:
    """Else a mistyped path would look like a refusal."""
    secret, folder = filled.path("tokyo-1/okx"), filled.path("tokyo-1")
    reading = [r for r in forbidden(secret, folder) if r[0] in ("GET", "LIST", "SCAN")]

    codes = {
        f"{method} {path}": status(filled.bao, filled.bao.root_token, method, path, body)
        for method, path, body in reading
    }

    assert {name: code for name, code in codes.items() if code not in (200, 404)} == {}


def test_hashicorp_vault_takes_all_but_one_file() -> None:
    """It knows these capabilities, and refuses a policy with any other."""
    known = {"create", "read", "update", "patch", "delete", "list", "sudo", "deny", "subscribe"}
    unknown = {
        file.name
        for file in FOLDER.glob("*.hcl")
        for line in file.read_text("utf-8").splitlines()
        if line.strip().startswith("capabilities") and set(re.findall(r'"(\w+)"', line)) - known
    }

    assert unknown == {"controller-openbao.hcl"}
    # Of CI: tests/deploy/test_ci.py; and the one of `jtr ledger init`, above.
    others = {"ledger", "ledger-read", "team-plan", "team-apply", "ledger-init"}
    assert {name for names in SETS.values() for name in names} | others == {
        file.stem for file in FOLDER.glob("*.hcl")
    }
