"""`ledger: vault:...` from end to end, its least policies, and restored or copied ledgers."""

import shutil
import uuid
from pathlib import Path

import pytest

from reconciler.model.secret import Secret
from reconciler.sandbox.openbao import OpenBao
from tests.e2e.answers import statuses
from tests.support.rig import Ran, Rig

ROOT = Path(__file__).parent.parent.parent


@pytest.fixture
def shared(rig: Rig) -> Rig:
    """A rig whose ledger and fingerprint key lie in Vault, not begun yet."""
    rig.settings(**in_vault(rig))
    return rig


def in_vault(rig: Rig, ledger: str = "") -> dict[str, str]:
    return {
        "ledger": ledger or rig.reference("ledger"),
        "fingerprintKey": f"{rig.reference('fingerprint')}#key",
    }


def rows(rig: Rig, under: str = "ledger") -> list[str]:
    """Names in the ledger's folder, or in one below it."""
    answer = rig.bao.request("LIST", f"secret/metadata/{rig.path(under)}")
    return list(answer.data["keys"])


# ── one ledger for many ──────────────────────────────────────────────────────────────────────


def test_a_ledger_in_vault_does_what_one_on_the_disk_does(shared: Rig) -> None:
    server = shared.server()
    shared.document("tokyo-1", "bybit", "okx")

    begun = shared.jtr("ledger", "init")
    again = shared.jtr("ledger", "init")
    applied = shared.apply()
    nothing = shared.apply()
    status = shared.jtr("status")

    assert f"began a ledger: {shared.reference('ledger')}" in begun.out
    assert "made a fingerprint key" in begun.out
    assert (again.code, again.out) == (0, "")
    assert "there already is a ledger" in again.err
    assert [run.code for run in (begun, applied, nothing, status)] == [0] * 4, applied.text
    assert "Nothing to do." in nothing.out
    assert "tokyo-1" in status.out
    assert server.record.saves == 2
    assert not list((shared.home).rglob("ledger.db"))


def test_a_second_host_goes_on_where_the_first_one_was(shared: Rig) -> None:
    server = shared.server()
    shared.document("tokyo-1")
    shared.begin()
    assert shared.apply().code == 0
    elsewhere = {
        "XDG_CONFIG_HOME": str(shared.home / "elsewhere" / "config"),
        "XDG_STATE_HOME": str(shared.home / "elsewhere" / "state"),
    }

    same = shared.apply("-o", "json", environment=elsewhere)
    shared.rotate("tokyo-1")
    changed = shared.apply(environment=elsewhere)
    planned = shared.plan(
        "-o", "json", environment={"XDG_CONFIG_HOME": str(shared.home / "config")}
    )

    assert statuses(planned) == {"bybit": "in sync"}
    assert (same.code, changed.code) == (0, 0), same.text + changed.text
    assert "no reboot" not in same.err + changed.err
    assert server.record.saves == 2


def test_nobody_is_there_to_begin_a_ledger(shared: Rig) -> None:
    server = shared.server()
    shared.document("tokyo-1")

    ran = shared.apply()

    assert ran.code == 4
    assert "jtr ledger init" in ran.err
    assert server.record.saves == 0


def test_a_ledger_that_others_share_needs_a_key_that_they_share(rig: Rig) -> None:
    server = rig.server()
    rig.document("tokyo-1")
    for settings, text in (
        ({"ledger": rig.reference("ledger")}, "write fingerprintKey: vault:MOUNT/PATH#FIELD"),
        (
            in_vault(rig) | {"fingerprintKey": f"{rig.reference('ledger/key')}#key"},
            "name another path",
        ),
    ):
        rig.settings(**settings)
        for ran in (rig.jtr("ledger", "init"), rig.apply(), rig.plan(), rig.jtr("status")):
            assert ran.code == 64, ran.text
            assert text in ran.err
    assert server.record.handshakes == []
    with pytest.raises(Exception, match="404"):
        rows(rig)


def test_a_mount_of_another_kind_is_the_backends_fault(rig: Rig) -> None:
    rig.settings(**in_vault(rig, "vault:nowhere/ledger"))

    ran = rig.jtr("ledger", "init")

    assert ran.code == 5
    assert "there is no mount nowhere" in ran.err


def test_init_says_how_to_guard_rows_against_slips(rig: Rig) -> None:
    mount = f"jtr-{rig.team}"
    rig.bao.mount_kv2(mount)
    rig.settings(**in_vault(rig, f"vault:{mount}/one"))
    advised = rig.jtr("ledger", "init")
    rig.bao.request("POST", f"{mount}/config", {"cas_required": True})
    rig.settings(**in_vault(rig, f"vault:{mount}/two"))
    silent = rig.jtr("ledger", "init")

    assert f"bao write {mount}/config cas_required=true" in advised.err
    assert (advised.code, silent.code, silent.err) == (0, 0, "")


def test_one_login_is_enough_for_everything(shared: Rig) -> None:
    """A secret id may be good for one use only."""
    server = shared.server()
    shared.document("tokyo-1")
    rules = {
        f"secret/{kind}/{shared.path('*')}": ("create", "read", "update", "list")
        for kind in ("data", "metadata")
    }
    shared.bao.write_policy(f"all-{shared.team}", rules)
    del shared.environment["VAULT_TOKEN"]

    for command in (
        ("ledger", "init"),
        ("apply", str(shared.docs), "--auto-approve"),
        ("plan", str(shared.docs)),
        ("status",),
    ):
        role_id, secret_id = shared.bao.approle(
            f"once-{shared.team}", [f"all-{shared.team}"], uses=1
        )
        file = shared.home / "private" / "secret-id"
        file.write_text(shared.watch.guard(secret_id.reveal(), "secret id"), "utf-8")
        auth = {"method": "approle", "roleId": role_id, "secretIdFile": str(file)}
        shared.settings(**in_vault(shared), vault={"auth": auth})
        ran = shared.jtr(*command)
        assert ran.code == 0, ran.text
    assert server.record.saves == 1


# ── the least policies ───────────────────────────────────────────────────────────────────────


def policy_file(rig: Rig, mount: str, *names: str) -> Secret:
    """Load policies of `deploy/vault`, for another mount, and return a token that has them."""
    loaded = [f"{name}-{rig.team}" for name in names]
    for name, policy in zip(names, loaded, strict=True):
        text = (ROOT / "deploy" / "vault" / f"{name}.hcl").read_text("utf-8")
        assert ("jtr/" in text) is ("ledger" in name)
        text = text.replace('"jtr/', f'"{mount}/')
        rig.bao.request("POST", f"sys/policies/acl/{policy}", {"policy": text})
    token = rig.bao.create_token(loaded)
    rig.watch.guard(token.reveal(), "token")
    return token


def refused(bao: OpenBao, token: Secret, method: str, path: str, body: object = None) -> bool:
    """Whether OpenBao refuses this request to the holder of *token*."""
    client = bao.client()
    answer = client.session.request(
        method, f"{bao.address}/v1/{path}", headers={"X-Vault-Token": token.reveal()}, json=body
    )
    client.session.close()
    return int(answer.status_code) == 403


@pytest.fixture
def mounted(rig: Rig) -> tuple[Rig, str]:
    """A ledger in a mount of its own, begun by root."""
    mount = f"jtr-{rig.team}"
    rig.bao.mount_kv2(mount)
    rig.settings(**in_vault(rig, f"vault:{mount}/ledger"))
    return rig, mount


def test_the_policy_of_a_ledger_is_enough_and_refuses_the_rest(
    mounted: tuple[Rig, str],
) -> None:
    rig, mount = mounted
    server = rig.server()
    rig.document("tokyo-1")
    token = policy_file(rig, mount, "apply", "ledger")
    key = rig.watch.guard(uuid.uuid4().hex * 2, "fingerprint key")
    rig.put("fingerprint", key=key)
    holder = {"VAULT_TOKEN": token.reveal()}

    runs = [
        rig.jtr("ledger", "init", environment=holder),
        rig.apply(environment=holder),
        rig.jtr("status", environment=holder),
        rig.apply(environment=holder),
    ]

    assert [ran.code for ran in runs] == [0] * 4, "".join(ran.text for ran in runs)
    assert server.record.saves == 1
    row = "ledger/ledger/birth"
    versions = {"versions": [1]}
    for method, path, body in (
        ("DELETE", f"data/{row}", None),
        ("POST", f"delete/{row}", versions),
        ("PUT", f"undelete/{row}", versions),
        ("PUT", f"destroy/{row}", versions),
        ("DELETE", f"metadata/{row}", None),
        ("POST", f"metadata/{row}", {"max_versions": 1}),
        ("POST", "config", {"cas_required": False}),
        ("POST", "data/elsewhere", {"data": {"a": "b"}}),
        ("LIST", "metadata", None),
    ):
        assert refused(rig.bao, token, method, f"{mount}/{path}", body), (method, path)
    assert refused(rig.bao, token, "POST", f"secret/data/{rig.path('x')}", {"data": {}})
    assert not refused(rig.bao, token, "GET", f"{mount}/data/{row}")


def test_pull_requests_read_the_ledger_and_neither_key_nor_values(
    mounted: tuple[Rig, str],
) -> None:
    rig, mount = mounted
    server = rig.server()
    rig.document("tokyo-1", "bybit", "okx")
    rig.begin()
    assert rig.apply().code == 0
    rig.rotate("tokyo-1", "okx")
    token = policy_file(rig, mount, "recorded", "ledger-read")
    visits = len(server.record.handshakes)

    planned = rig.plan("--recorded", "-o", "json", environment={"VAULT_TOKEN": token.reveal()})
    applied = rig.apply(environment={"VAULT_TOKEN": token.reveal()})

    assert statuses(planned) == {"bybit": "in sync", "okx": "write"}
    assert applied.code == 5
    assert len(server.record.handshakes) == visits
    assert refused(rig.bao, token, "GET", f"secret/data/{rig.path('fingerprint')}")
    row = f"{mount}/data/ledger/ledger/birth"
    assert refused(rig.bao, token, "POST", row, {"data": {}, "options": {"cas": 1}})


@pytest.mark.parametrize("right", ["create", "update"])
def test_what_cannot_be_recorded_is_not_sent(mounted: tuple[Rig, str], right: str) -> None:
    rig, mount = mounted
    server = rig.server()
    rig.document("tokyo-1")
    rig.begin()
    if right == "update":  # rows are there already; only changing them is refused
        assert rig.apply().code == 0
        rig.rotate("tokyo-1")
    before = server.record.saves
    limited = {
        f"{mount}/data/ledger/*": tuple({"create", "read", "update"} - {right}),
        f"{mount}/metadata/ledger/*": ("read", "list"),
        f"secret/data/{rig.path('*')}": ("read",),
        f"secret/metadata/{rig.path('*')}": ("read",),
    }
    rig.bao.write_policy(f"limited-{rig.team}", limited)
    token = rig.bao.create_token([f"limited-{rig.team}"])
    rig.watch.guard(token.reveal(), "token")

    ran = rig.apply(environment={"VAULT_TOKEN": token.reveal()})

    assert ran.code == 5, ran.text
    assert "the token's policies do not allow to create and update" in ran.text
    assert server.record.saves == before
    healed = rig.apply()
    assert healed.code == 0, healed.text
    assert server.record.saves == before + 1


# ── restored and copied ──────────────────────────────────────────────────────────────────────


BLOCKED = "no reboot and no invalidation will be done: "


def ledger_file(rig: Rig) -> Path:
    return rig.home / "state" / "jtr" / "ledger.db"


def rotated(rig: Rig, **options: dict[str, str]) -> Ran:
    rig.rotate("tokyo-1")
    ran = rig.apply(**options)
    assert ran.code == 0, ran.text
    return ran


def test_a_restored_ledger_goes_on_with_credentials_and_says_why_not_with_the_rest(
    rig: Rig,
) -> None:
    server = rig.server()
    rig.document("tokyo-1", "bybit", "okx")
    rig.begin()
    assert BLOCKED not in rig.apply().err
    aside = rig.home / "yesterday.db"
    shutil.copy(ledger_file(rig), aside)
    for _ in range(2):
        rig.rotate("tokyo-1", "okx")
        assert BLOCKED not in rig.apply().err
    shutil.copy(aside, ledger_file(rig))  # into the same file: only the sequence tells
    saves = server.record.saves

    runs = [rotated(rig) for _ in range(4)]

    assert server.record.saves == saves + 4
    assert f"{BLOCKED}this ledger is older than the one this host saw last" in runs[0].err
    assert "jtr ledger accept-restore" in runs[0].err
    for ran in runs:  # it has long outgrown what it forgot, and is not trusted for that
        assert "it was restored" in ran.err
        assert "okx" in ran.out  # what it forgot looks like somebody else's, and is left alone
    accepted = rig.jtr("ledger", "accept-restore", "--because", "disk died")
    assert accepted.code == 0, accepted.text
    assert "it was restored" in accepted.out
    assert BLOCKED not in rotated(rig).err


def test_with_nothing_to_accept_nothing_is_accepted(rig: Rig) -> None:
    rig.server()
    rig.document("tokyo-1")
    rig.begin()
    for _ in range(2):
        ran = rig.jtr("ledger", "accept-restore")
        assert ran.code == 1
        assert "there is nothing to accept" in ran.err
    assert BLOCKED not in rotated(rig).err


def test_without_a_ledger_there_is_nothing_to_accept(rig: Rig) -> None:
    ran = rig.jtr("ledger", "accept-restore")

    assert ran.code == 4
    assert "there is no ledger" in ran.err
    assert not ledger_file(rig).exists()


def test_a_copied_ledger_is_not_trusted_until_somebody_vouches_for_it(rig: Rig) -> None:
    rig.server()
    rig.document("tokyo-1")
    key = {"fingerprintKey": f"{rig.reference('fingerprint')}#key"}
    rig.settings(**key)
    rig.begin()
    rotated(rig)
    copy = rig.home / "state" / "jtr" / "copy.db"
    shutil.copy(ledger_file(rig), copy)

    rig.settings(**key, ledger=f"sqlite:{copy}")
    here = rotated(rig)
    another_host = {"XDG_CONFIG_HOME": str(rig.home / "another")}
    there = rotated(rig, environment=another_host)
    accepted = rig.jtr("ledger", "accept-restore", environment=another_host)
    vouched = rotated(rig, environment=another_host)

    assert f"{BLOCKED}the ledger's file was replaced or moved" in here.err
    assert f"{BLOCKED}this host never saw this ledger" in there.err
    assert accepted.code == 0, accepted.text
    assert BLOCKED not in vouched.err
    assert "replaced or moved" in rotated(rig).err


def test_a_restored_ledger_in_vault_is_noticed_by_a_host_that_knew_it(shared: Rig) -> None:
    shared.server()
    shared.document("tokyo-1")
    shared.begin()
    rotated(shared)
    for name in rows(shared, "ledger/server"):
        # As after a restore of Vault's storage: rows are gone, and so are their counters.
        for row in ("observation", "lease"):
            shared.bao.remove(shared.path(f"ledger/server/{name}{row}"))

    here = rotated(shared)
    new_host = rotated(shared, environment={"XDG_CONFIG_HOME": str(shared.home / "new")})
    accepted = shared.jtr("ledger", "accept-restore")

    assert "it was restored" in here.err
    assert BLOCKED not in new_host.err  # it cannot know
    assert accepted.code == 0
    assert BLOCKED not in rotated(shared).err


def test_a_plan_remembers_nothing_of_the_ledger(rig: Rig) -> None:
    rig.server()
    rig.document("tokyo-1")
    rig.begin()
    rotated(rig)
    seen = rig.home / "config" / "jtr" / "seen"
    before = {path.name: path.read_bytes() for path in seen.iterdir()}
    copied = {"XDG_CONFIG_HOME": str(rig.home / "another")}
    key = rig.home / "another" / "jtr" / "fingerprint.key"
    key.parent.mkdir(parents=True)
    shutil.copy(rig.home / "config" / "jtr" / "fingerprint.key", key)

    assert rig.plan().code == 0
    assert rig.plan(environment=copied).code == 0

    assert {path.name: path.read_bytes() for path in seen.iterdir()} == before
    assert list(key.parent.iterdir()) == [key]


def test_a_damaged_memory_of_this_host_stops_no_credentials(rig: Rig) -> None:
    rig.server()
    rig.document("tokyo-1")
    rig.begin()
    for path in (rig.home / "config" / "jtr" / "seen").iterdir():
        path.write_text("{", "utf-8")

    ran = rotated(rig)

    assert "is damaged" in ran.err
    assert rig.jtr("ledger", "accept-restore").code == 0
    assert ran.err.count("\n") <= 3
    assert BLOCKED not in rotated(rig).err
