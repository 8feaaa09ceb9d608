"""`jtr doctor`: what is in order, what is not, and that looking changes nothing."""

import json
import re
import shutil
import threading
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from reconciler.controller.api.responses import status_document
from reconciler.controller.status import ControllerStatus, ServerStatus
from reconciler.controller.status_store import Servers, StatusStore
from reconciler.model.values import replace
from reconciler.sandbox.jt_trader.server import Behaviour, Robot, StandInThread
from reconciler.sandbox.openbao import OpenBao
from tests.e2e.answers import READS
from tests.e2e.bad_input_messages import foreign_words
from tests.e2e.bad_input_tls import Authority
from tests.support.leaks import PRIVATE
from tests.support.rig import Ran, Rig

ROOT = Path(__file__).parent.parent.parent
GOLDEN = ROOT / "tests" / "golden" / "doctor"
NOBODY = "http://127.0.0.1:9"  # the port of `discard`, at which nothing listens


def asleep() -> list[Robot]:
    """Robots that do not run: then nobody has to be registered."""
    return [Robot(1, "grid-btc", "bybit", running=False)]


def token(rig: Rig, *files: str, rules: Mapping[str, list[str]] | None = None) -> str:
    """Return a token with these policies of deploy/vault, and one with *rules*."""
    names = []
    for file in files:
        names.append(f"jtr-{rig.team}-{file}")
        text = (ROOT / "deploy" / "vault" / f"{file}.hcl").read_text("utf-8")
        rig.bao.request("POST", f"sys/policies/acl/{names[-1]}", {"policy": text})
    if rules is not None:
        names.append(f"jtr-{rig.team}-{uuid.uuid4().hex}")
        rig.bao.write_policy(names[-1], rules)
    return rig.watch.guard(rig.bao.create_token(names).reveal(), "token")


def doctor(rig: Rig, *args: str, **environment: str) -> Ran:
    """Run the checkup of all documents."""
    return rig.jtr("doctor", str(rig.docs), *args, environment=environment)


def found(ran: Ran) -> list[dict[str, Any]]:
    """Return the findings of a run with `-o json`."""
    document = json.loads(ran.out)
    assert document["formatVersion"] == 1
    assert document["exitCode"] == ran.code
    assert sum(document["summary"].values()) == len(document["findings"])
    return list(document["findings"])


def grades(ran: Ran, *, server: str | None = None) -> dict[str, str]:
    """Return the worst grade of each check."""
    worst = ("ok", "skipped", "warning", "failed")
    rows: dict[str, str] = {}
    for row in found(ran):
        if server is None or row["server"] == server:
            rows[row["code"]] = max(rows.get(row["code"], "ok"), row["grade"], key=worst.index)
    return rows


def said(ran: Ran, code: str, server: str | None = None) -> str:
    """Return what the findings of one check say, and what to do."""
    return "\n".join(
        f"{row['grade']}: {row['what']}; {row['remedy']}"
        for row in found(ran)
        if row["code"] == code and server in (None, row["server"])
    )


def normalised(ran: Ran, rig: Rig) -> str:
    """Return the text without what differs from run to run."""
    text = ran.out.replace(str(rig.home), "HOME").replace(rig.team, "TEAM")
    text = re.sub(r"127\.0\.0\.1:\d+", "127.0.0.1:PORT", text)
    text = re.sub(r"\d{4}-\d\d-\d\dT[\d:.]+Z", "INSTANT", text)
    text = re.sub(r"version \d+\.\d+\.\d+", "version N", text)
    text = re.sub(r"id [0-9a-f]{12}", "id ID", text)
    return re.sub(r"\b[\d.]+ (s|min|h|d)\b", "TIME", text)


def check_golden(name: str, text: str, request: pytest.FixtureRequest) -> None:
    """Compare *text* with a file of tests/golden, or write it."""
    file = GOLDEN / f"{name}.txt"
    if request.config.getoption("--rewrite-golden"):
        file.parent.mkdir(exist_ok=True)
        file.write_text(text, "utf-8")
    assert text == file.read_text("utf-8")


def in_order(rig: Rig, name: str = "tokyo-1", **options: Any) -> StandInThread:
    """Bring a server to its document, with nothing to complain of."""
    server = rig.server(name, **({"robots": asleep()} | options))
    rig.document(name, "bybit", "okx", supervised=True)
    rig.begin()
    assert rig.apply().code == 0
    server.restart()
    return server


# ── two whole worlds ─────────────────────────────────────────────────────────────────────────


def test_a_world_in_good_order(rig: Rig, request: pytest.FixtureRequest) -> None:
    rig.settings(soleWriter=True)
    in_order(rig)

    ran = doctor(rig, VAULT_TOKEN=token(rig, "apply"))

    assert (ran.code, ran.err) == (0, "")
    assert " warning:" not in ran.out
    check_golden("good", normalised(ran, rig), request)


@pytest.mark.silence
def test_a_world_in_which_much_is_wrong(rig: Rig, request: pytest.FixtureRequest) -> None:
    authority = Authority(rig.home / PRIVATE)
    strange = Behaviour(version="0.99.0", clock_offset=7200.0, log="unreadable")
    servers = {
        "away": rig.server("away"),
        "encrypted": rig.server("encrypted", tls=authority.context()),
        "mute": rig.server("mute", behaviour=Behaviour(login="silent")),
        "other-account": rig.server("other-account", account="7"),
        "other-ca": rig.server("other-ca", tls=Authority(rig.home / PRIVATE, "b").context()),
        "other-secret": rig.server("other-secret"),
        "strange": rig.server("strange", behaviour=strange),
    }
    for name in servers:
        rig.document(name, "bybit", supervised=True)
    elsewhere = {"nasdaq": {"credentials": rig.reference("strange/bybit")}}
    rig.document("strange", "bybit", supervised=True, exchanges=elsewhere)
    rig.document("paused", "bybit", url=NOBODY, suspend={"reason": "exam", "by": "alice"})
    rig.put("paused", access_secret=rig.watch.secret("base62"))
    rig.put("other-secret", access_secret=rig.watch.secret("base62"))
    servers["away"].stop()
    rig.settings(
        tls=[{"urls": ["https://**"], "caFile": authority.file}],
        controller={"url": NOBODY},
        role="ci",
    )

    ran = doctor(rig)

    assert ran.code == 6
    assert foreign_words(ran.text) == []
    check_golden("bad", normalised(ran, rig), request)


# ── it changes nothing, and says nothing that it must not ────────────────────────────────────


def test_it_only_reads(rig: Rig, bao: OpenBao) -> None:
    server = in_order(rig)
    bao.enable_audit()
    asked, files = len(bao.audit_entries()), everything(rig.home)
    received = len(server.record.received)

    ran = doctor(rig)
    entries = [e["request"] for e in bao.audit_entries()[asked:] if e["type"] == "request"]

    assert ran.code == 0
    assert {e["operation"] for e in entries if "capabilities-self" not in e["path"]} == {"read"}
    assert everything(rig.home) == files
    assert {message.event for message in server.record.received[received:]} == READS
    assert (server.record.saves, server.record.deletes) == (2, 0)


def everything(folder: Path) -> dict[str, bytes]:
    """Return all files below *folder*, less what SQLite lays beside its file while it is open."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not path.name.endswith(("-shm", "-wal"))
    }


def test_every_finding_that_is_not_in_order_says_what_to_do(rig: Rig) -> None:
    rig.server(behaviour=Behaviour(version="0.99.0", log="unreadable"))
    rig.document("tokyo-1", "bybit", supervised=True)

    rows = found(doctor(rig, "-o", "json"))

    assert {row["grade"] for row in rows} == {"ok", "warning", "failed", "skipped"}
    assert [
        row for row in rows if row["grade"] in ("warning", "failed") and not row["remedy"]
    ] == []
    assert all((row["grade"] == "failed") == (row["exitCode"] != 0) for row in rows)


# ── Vault ────────────────────────────────────────────────────────────────────────────────────


def test_a_token_for_pull_requests_may_not_read_values(rig: Rig) -> None:
    in_order(rig)

    ran = doctor(rig, "-o", "json", VAULT_TOKEN=token(rig, "recorded"))

    assert ran.code == 5
    assert "may not read the values" in said(ran, "vault.can-read")
    assert "plan --recorded" in said(ran, "vault.can-read")
    assert grades(ran)["vault.secrets"] == "ok"
    assert grades(ran)["server.login"] == "failed"
    assert grades(ran)["server.clock"] == "ok"


def test_a_token_that_may_do_too_much(rig: Rig) -> None:
    in_order(rig)
    rules = {
        f"secret/data/jt/{rig.team}/*": ["read", "create", "update", "patch", "delete"],
        f"secret/metadata/jt/{rig.team}/*": ["read", "delete"],
        f"secret/destroy/jt/{rig.team}/*": ["update"],
        "sys/policies/acl/*": ["create", "update", "sudo"],
        "auth/token/create": ["update"],
    }

    ran = doctor(rig, "-o", "json", VAULT_TOKEN=token(rig, rules=rules))

    assert ran.code == 0
    text = said(ran, "vault.cannot-write")
    for right in ("create", "update", "patch", "delete", "delete on metadata", "update on destroy"):
        assert f"warning: the token has `{right}` for vault:secret/jt/{rig.team}/" in text
    assert "may write policies, make tokens;" in said(ran, "vault.powers")


def test_the_root_token_works_and_is_warned_of(rig: Rig) -> None:
    in_order(rig)

    ran = doctor(rig, "-o", "json")

    assert ran.code == 0
    warned = {code for code, grade in grades(ran).items() if grade == "warning"}
    assert warned == {"vault.token", "vault.policies", "vault.cannot-write", "vault.powers"}


def test_the_right_to_make_the_fingerprint_key_is_not_too_much(rig: Rig) -> None:
    key = f"secret/data/jt/{rig.team}/fingerprint"
    rig.settings(fingerprintKey=f"{rig.reference('fingerprint')}#key")
    in_order(rig)
    maker = token(rig, "apply", rules={key: ["create", "read"]})
    changer = token(rig, "apply", rules={key: ["create", "read", "update"]})

    may_make, may_change = (doctor(rig, "-o", "json", VAULT_TOKEN=one) for one in (maker, changer))

    assert grades(may_make)["key.usable"] == "ok"
    assert grades(may_make)["vault.cannot-write"] == "ok"
    assert f"`update` for {rig.reference('fingerprint')}" in said(may_change, "vault.cannot-write")


def test_a_token_that_may_not_even_look_at_itself(rig: Rig, bao: OpenBao) -> None:
    in_order(rig)
    blind = bao.create_token([f"{rig.team}-nothing"], default_policy=False)
    rig.watch.guard(blind.reveal(), "token")

    ran = doctor(rig, "-o", "json", VAULT_TOKEN=blind.reveal())

    assert ran.code == 5
    assert "policy `default`" in said(ran, "vault.login")
    assert grades(ran)["server.address"] == "ok"


def test_a_dead_vault_hides_nothing_that_needs_no_secret(rig: Rig) -> None:
    server = in_order(rig)
    connections = len(server.record.handshakes)

    ran = doctor(rig, "-o", "json", VAULT_ADDR=NOBODY)

    assert ran.code == 5
    assert "nothing listens there" in said(ran, "vault.reachable")
    checks = grades(ran)
    assert {checks[f"ledger.{name}"] for name in ("present", "fits", "brake", "open")} == {"ok"}
    assert (checks["server.address"], checks["server.clock"]) == ("ok", "ok")
    assert checks["server.login"] == "skipped"
    assert len(server.record.handshakes) == connections


def test_a_sealed_vault(rig: Rig) -> None:
    in_order(rig)
    with OpenBao() as sealed:
        sealed.seal()
        ran = doctor(rig, "-o", "json", VAULT_ADDR=sealed.address)

    assert ran.code == 5
    assert grades(ran)["vault.reachable"] == "ok"
    assert said(ran, "vault.sealed") == "failed: it is sealed; unseal it"
    assert grades(ran)["vault.clock"] == "ok"


@pytest.mark.parametrize(
    ("environment", "code", "text"),
    [
        ({"VAULT_ADDR": ""}, "vault.reachable", "no Vault is named; set VAULT_ADDR"),
        ({"VAULT_TOKEN": ""}, "vault.login", "there is no Vault token; set VAULT_TOKEN"),
        ({"VAULT_TOKEN": "gone"}, "vault.login", "Vault does not accept the Vault token"),
    ],
    ids=["no address", "no token", "dead token"],
)
def test_no_way_into_vault(rig: Rig, environment: dict[str, str], code: str, text: str) -> None:
    in_order(rig)

    ran = doctor(rig, "-o", "json", **environment)

    assert ran.code == 5
    assert f"failed: {text}" in said(ran, code) or text in said(ran, code)


def test_a_secret_that_is_missing_and_a_mount_that_is_another(rig: Rig, bao: OpenBao) -> None:
    bao.mount_kv1(f"old-{rig.team}")
    in_order(rig)
    rig.document(
        "tokyo-1",
        "bybit",
        rotate=False,
        exchanges={
            "okx": {"credentials": f"vault:old-{rig.team}/okx"},
            "kucoin": {"credentials": rig.reference("nowhere")},
        },
    )

    ran = doctor(rig, "-o", "json")

    assert ran.code == 5
    assert "is KV version 1" in said(ran, "vault.mount")
    assert "nothing was ever written there" in said(ran, "vault.secrets")
    assert f"old-{rig.team}" not in said(ran, "vault.secrets") + said(ran, "vault.can-read")
    assert grades(ran)["server.login"] == "ok"


def test_a_ledger_in_vault(rig: Rig, bao: OpenBao) -> None:
    mount = f"jtr-{rig.team}"
    bao.mount_kv2(mount)
    rig.settings(
        ledger=f"vault:{mount}/ledger", fingerprintKey=f"{rig.reference('fingerprint')}#key"
    )
    in_order(rig)
    rows = {
        f"{mount}/data/ledger/*": ["create", "read", "update"],
        f"{mount}/metadata/ledger/*": ["read", "list"],
    }
    reads = {f"{mount}/data/ledger/*": ["read"], f"{mount}/metadata/ledger/*": ["read", "list"]}

    right, reader, root = (
        doctor(rig, "-o", "json", **environment)
        for environment in (
            {"VAULT_TOKEN": token(rig, "apply", rules=rows)},
            {"VAULT_TOKEN": token(rig, "apply", rules=reads)},
            {},
        )
    )

    assert right.code == 0
    assert {grade for code, grade in grades(right).items() if code.startswith("ledger")} == {"ok"}
    assert reader.code == 5
    assert "lacks `create` on data, `update` on data" in said(reader, "ledger.writable")
    assert "could be done again" in said(root, "ledger.lasting")
    assert f"vault:{mount}/ledger" in said(right, "ledger.present")


# ── settings and documents ───────────────────────────────────────────────────────────────────


def test_settings_beside_the_documents_are_told_and_not_followed(rig: Rig) -> None:
    server = rig.server()
    rig.document("tokyo-1", "bybit")
    beside = rig.docs / "settings.txt"  # not taken for a document
    shutil.copy(rig.settings_file, beside)

    refused = doctor(rig, "-o", "json", "--server", "tokyo-1", "--settings", str(beside))

    assert not server.record.handshakes
    agreed = doctor(rig, "-o", "json", "--settings", str(beside), "--settings-in-repo")
    assert refused.code == 64
    assert grades(agreed)["settings.place"] == "warning"
    assert grades(agreed)["server.login"] == "ok"
    assert "lie with the desired state" in said(refused, "settings.place")
    assert {row["group"] for row in found(refused)} == {"settings", "documents"}


def test_the_least_token_is_enough_and_needs_no_advice(rig: Rig) -> None:
    """It may read what is declared, and not even ask who it is."""
    in_order(rig)
    rights = {f"secret/{kind}/{rig.path('*')}": ["read"] for kind in ("data", "metadata")}
    rig.bao.write_policy(f"{rig.team}-least", rights)
    least = rig.bao.create_token([f"{rig.team}-least"], default_policy=False).reveal()
    blind = rig.bao.create_token([f"{rig.team}-none"], default_policy=False).reveal()
    for one in (least, blind):
        rig.watch.guard(one, "token")

    ran = doctor(rig, "-o", "json", VAULT_TOKEN=least)
    refused = doctor(rig, "-o", "json", VAULT_TOKEN=blind)

    assert ran.code == 0
    assert grades(ran)["vault.login"] == "ok"
    assert "it may read vault:secret/" in said(ran, "vault.login")
    assert [grades(ran)[f"vault.{name}"] for name in ("token", "policies", "can-read")] == [
        "skipped"
    ] * 3
    assert grades(ran)["vault.secrets"] == grades(ran)["server.login"] == "ok"
    assert "Vault Agent" not in ran.text
    assert refused.code == 5
    assert grades(refused)["vault.login"] == "failed"


def test_rights_of_files_with_secrets(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    in_order(rig)
    inside = False
    monkeypatch.setattr("reconciler.doctor.probe_host._in_container", lambda: inside)
    sink = rig.home / PRIVATE / "token"
    sink.write_text(token(rig, "apply"), "ascii")
    sink.chmod(0o644)
    bearer = rig.home / PRIVATE / "bearer"
    login = {"method": "token-file", "tokenFile": str(sink)}
    rig.settings(vault={"auth": login}, controller={"tokenFile": str(bearer)})

    ran = doctor(rig, "-o", "json", VAULT_TOKEN="")
    # As files are in the containers of docs/setup-controller.md and deploy/kubernetes.
    inside = True
    contained = doctor(rig, "-o", "json", VAULT_TOKEN="")
    inside, calm = False, []
    for mode in (0o440, 0o400):
        sink.chmod(mode)
        calm.append(doctor(rig, "-o", "json", VAULT_TOKEN=""))

    assert ran.code == 1
    assert f"everybody can open the Vault token file {sink} (mode 0644); chmod o-rwx" in said(
        ran, "settings.vault-token"
    )
    assert [grades(one)["settings.vault-token"] for one in (contained, *calm)] == ["ok"] * 3
    assert "No such file or directory" in said(ran, "settings.controller-token")
    assert "vault.token" in grades(ran)
    assert grades(ran)["server.login"] == "ok"


def test_settings_that_others_may_write_are_not_even_read(rig: Rig) -> None:
    in_order(rig)
    rig.settings_file.chmod(0o666)

    ran = doctor(rig, "-o", "json")

    assert ran.code == 64
    assert f"others may write {rig.settings_file}" in ran.text


def test_a_fingerprint_key_that_others_can_read_is_not_used(rig: Rig) -> None:
    in_order(rig)
    key = rig.home / "config" / "jtr" / "fingerprint.key"
    key.chmod(0o644)
    open_key = doctor(rig, "-o", "json")
    key.unlink()
    no_key = doctor(rig, "-o", "json")

    assert open_key.code == 5
    assert "can be read by others" in said(open_key, "key.usable")
    assert no_key.code == 4
    assert "restore the key from a backup" in said(no_key, "key.usable")


def test_wrong_documents_and_wrong_settings_are_told_together(rig: Rig) -> None:
    rig.write("broken.yaml", "apiVersion: jtr/v1\nkind: TradingServer\nmetadata: {}\nspec: {}\n")

    documents = doctor(rig, "-o", "json")
    rig.settings(nonsense=True)
    both = doctor(rig, "-o", "json")

    assert documents.code == both.code == 3
    assert "broken.yaml:" in said(documents, "documents.valid")
    assert grades(documents)["vault.login"] == "ok"
    assert "nonsense" in said(both, "settings.file")
    assert "broken.yaml:" in said(both, "documents.valid")


def test_words_that_are_wrong(rig: Rig) -> None:
    rig.server()
    rig.document("tokyo-1", "bybit")

    for args, text in (
        ((str(rig.docs), "--from", str(rig.docs)), "both PATH and --from were given"),
        ((str(rig.home / "nowhere"),), "nowhere"),
        ((str(rig.docs), "--server", "osaka-1"), "no server is called osaka-1"),
    ):
        ran = rig.jtr("doctor", *args)
        assert (ran.code, ran.out) == (64, ""), args
        assert text in ran.err


def test_without_documents_the_rest_is_looked_at(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    rig.begin()
    monkeypatch.chdir(rig.docs)

    ran = rig.jtr("doctor", "-o", "json")

    assert ran.code == 0
    assert grades(ran)["documents.valid"] == "warning"
    assert grades(ran)["vault.login"] == grades(ran)["ledger.present"] == "ok"


# ── the ledger ───────────────────────────────────────────────────────────────────────────────


def test_a_ledger_that_was_restored_and_one_that_is_gone(rig: Rig) -> None:
    in_order(rig)
    (ledger,) = (rig.home / "state").rglob("ledger.db")
    copy = ledger.with_name("restored")
    shutil.copy(ledger, copy)
    copy.replace(ledger)
    before = everything(rig.home)
    restored = doctor(rig, "-o", "json")
    assert everything(rig.home) == before
    ledger.unlink()
    gone = doctor(rig, "-o", "json")

    assert restored.code == gone.code == 4
    assert "jtr ledger accept-restore" in said(restored, "ledger.fits")
    assert "there is no ledger" in said(gone, "ledger.present")
    assert not ledger.exists()


def test_a_request_in_doubt_and_a_ledger_that_may_not_be_the_only_one(rig: Rig) -> None:
    server = rig.server(robots=asleep(), behaviour=Behaviour(invalidate="lost before effect"))
    rig.document("tokyo-1", "bybit")
    rig.settings(soleWriter=True)
    rig.begin()
    assert rig.apply().code == 0
    moment = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    rig.document("tokyo-1", "bybit", cache={"invalidatedAfter": moment, "reason": "stale"})
    assert rig.apply().code == 7
    doubt = doctor(rig, "-o", "json")
    rig.settings()
    alone = doctor(rig, "-o", "json")

    assert doubt.code == alone.code == 7
    assert "tokyo-1: a request is in doubt; see: jtr request list" in said(doubt, "ledger.open")
    assert (grades(doubt)["ledger.only"], grades(alone)["ledger.only"]) == ("ok", "warning")
    assert "soleWriter: true" in said(alone, "ledger.only")
    assert "it is only your word" in said(doubt, "ledger.only")
    assert server.record.invalidation_requests == 1


@pytest.mark.fatal_paths(1)
def test_a_brake(rig: Rig) -> None:
    server = rig.server()
    rig.document("tokyo-1", "bybit")
    rig.begin()
    server.behaviour.save = "fatal"
    assert rig.apply().code == 8

    ran = doctor(rig, "-o", "json")

    assert ran.code == 4
    assert "jtr ledger release-brake 0.24.19" in said(ran, "ledger.brake")
    assert "noted a fatal error" in said(ran, "server.log")


# ── servers ──────────────────────────────────────────────────────────────────────────────────


def test_an_address_that_changed_is_not_even_contacted(rig: Rig) -> None:
    in_order(rig)
    other = rig.server("tokyo-2")
    rig.document("tokyo-1", "bybit", "okx", rotate=False, url=other.url)

    ran = doctor(rig, "-o", "json")

    assert ran.code == 4
    assert "its address changed: it was" in said(ran, "server.allowed")
    assert not other.record.handshakes
    assert grades(ran)["server.login"] == "skipped"


def test_an_address_outside_of_the_settings_is_not_even_contacted(rig: Rig) -> None:
    server = in_order(rig)
    connections = len(server.record.handshakes)
    rig.settings(allow={"urls": ["https://elsewhere.internal"]})

    ran = doctor(rig, "-o", "json")

    assert ran.code == 4
    assert "is not among the addresses" in said(ran, "server.allowed")
    assert len(server.record.handshakes) == connections


def test_no_visit_logs_in_nowhere(rig: Rig) -> None:
    server = in_order(rig)
    connections = len(server.record.handshakes)

    ran = doctor(rig, "--no-visit", "-o", "json")

    assert ran.code == 0
    assert len(server.record.handshakes) == connections
    assert grades(ran)["server.address"] == grades(ran)["server.clock"] == "ok"
    assert grades(ran)["server.login"] == grades(ran)["server.robots"] == "skipped"


def test_a_visit_with_robots_running_is_warned_of(rig: Rig) -> None:
    in_order(rig, robots=[Robot(1, "grid-btc", "bybit"), Robot(2, "arb", "okx")])

    ran = doctor(rig, "-o", "json")

    assert ran.code == 0
    assert "its running robots (grid-btc, arb)" in said(ran, "server.registration")


def test_a_version_that_the_operator_accepts(rig: Rig) -> None:
    in_order(rig).behaviour.version = "0.25.3"
    untested = doctor(rig, "-o", "json")
    rig.settings(acceptVersions=["0.25.*"])
    accepted = doctor(rig, "-o", "json")

    assert (untested.code, grades(untested)["server.version"]) == (0, "warning")
    assert grades(accepted)["server.version"] == "ok"
    assert "accepted by the settings" in said(accepted, "server.version")


def test_a_server_that_never_started_again_bears_no_supervisor_out(rig: Rig) -> None:
    rig.server(robots=asleep())
    rig.document("tokyo-1", "bybit", supervised=True)

    ran = doctor(rig, "-o", "json")

    assert "shows one start only" in said(ran, "server.supervisor")
    assert "Restart=always" in said(ran, "server.supervisor")


@pytest.mark.silence
def test_one_silent_server_hides_no_other(rig: Rig) -> None:
    for name in ("a", "b", "c"):
        rig.server(name, robots=asleep())
        rig.document(name, "bybit")
    rig.servers["b"].behaviour.login = "silent"

    ran = doctor(rig, "-o", "json")

    assert {name: grades(ran, server=name)["server.login"] for name in "abc"} == {
        "a": "ok",
        "b": "failed",
        "c": "ok",
    }


# ── the controller ───────────────────────────────────────────────────────────────────────────


@contextmanager
def controller(status_store: StatusStore, bearer: str = "") -> Iterator[str]:
    """Answer as a controller with the status page of *status_store*; yields its address."""
    status = status_document(status_store, datetime.now(UTC), 0.0)

    class Page(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            allowed = not bearer or self.headers.get("Authorization") == f"Bearer {bearer}"
            alive = self.path == "/healthz"
            body = b"ok" if alive else json.dumps(status).encode()
            self.send_response(200 if alive or allowed else 401)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Stay silent."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Page) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


def test_what_a_controller_holds_is_left_to_it(rig: Rig) -> None:
    server = in_order(rig)
    connections = len(server.record.handshakes)
    row = ServerStatus("tokyo-1", server.url, "0", connected=True)
    others = {
        f"osaka-{n}": replace(row, server=f"osaka-{n}", account=str(n)) for n in range(1, 999)
    }
    status_store = StatusStore(
        ControllerStatus("1", "controller", "now", acting=True), Servers(others | {"tokyo-1": row})
    )
    with controller(status_store) as url:
        rig.settings(controller={"url": url}, role="ci")
        left = doctor(rig, "-o", "json")
        between = len(server.record.handshakes)
        visited = doctor(rig, "--visit", "-o", "json")

    assert between == connections
    assert grades(left)["controller.status"] == "ok"
    assert "holds the connection" in said(left, "server.login")
    assert grades(left)["server.registration"] == "ok"
    assert "role is ci" in said(left, "controller.role")
    assert grades(visited)["server.login"] == "ok"


def test_a_controller_that_asks_for_another_token_or_waits(rig: Rig) -> None:
    in_order(rig)
    bearer = rig.watch.secret("base62")
    file = rig.home / PRIVATE / "bearer"
    file.write_text(rig.watch.secret("base62") + "\n", "ascii")
    file.chmod(0o600)
    waiting = StatusStore(ControllerStatus("1", "controller", "now", waiting="there is no ledger"))
    with controller(waiting, bearer) as url:
        rig.settings(controller={"url": url, "tokenFile": str(file)})
        refused = doctor(rig, "-o", "json")
        file.write_text("two words\n", "ascii")
        unusable = doctor(rig, "-o", "json")
        file.write_text(bearer + "\n", "ascii")
        waits = doctor(rig, "-o", "json")

    assert refused.code == 1
    assert "does not accept the token" in said(refused, "controller.status")
    assert "the token cannot be read" in said(unusable, "controller.status")
    assert waits.code == 0
    assert "it does not act: there is no ledger" in said(waits, "controller.status")
