"""`jtr doctor`: what is in order, what is not, and that looking changes nothing."""

import json
import re
import shutil
import threading
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from reconciler.controller.api.responses import status_document
from reconciler.controller.status import ControllerStatus, ServerStatus
from reconciler.controller.status_store import StatusStore
from reconciler.sandbox.jt_trader.server import Behaviour, Robot, StandInThread
from reconciler.sandbox.openbao import OpenBao
from tests.e2e.answers import READS
from tests.e2e.bad_input_messages import foreign_words
from tests.e2e.bad_input_tls import Authority
from tests.leaks import PRIVATE
from tests.world import Ran, World

ROOT = Path(__file__).parent.parent.parent
GOLDEN = ROOT / "tests" / "golden" / "doctor"
NOBODY = "http://127.0.0.1:9"  # the port of `discard`, at which nothing listens


def asleep() -> list[Robot]:
    """Robots that do not run: then nobody has to be registered."""
    return [Robot(1, "grid-btc", "bybit", running=False)]


def token(world: World, *files: str, rules: Mapping[str, list[str]] | None = None) -> str:
    """Return a token with these policies of deploy/vault, and one with *rules*."""
    names = []
    for file in files:
        names.append(f"jtr-{world.team}-{file}")
        text = (ROOT / "deploy" / "vault" / f"{file}.hcl").read_text("utf-8")
        world.bao.request("POST", f"sys/policies/acl/{names[-1]}", {"policy": text})
    if rules is not None:
        names.append(f"jtr-{world.team}-{uuid.uuid4().hex}")
        world.bao.write_policy(names[-1], rules)
    return world.watch.guard(world.bao.create_token(names).reveal(), "token")


def doctor(world: World, *args: str, **environment: str) -> Ran:
    """Run the checkup of all documents."""
    return world.jtr("doctor", str(world.docs), *args, environment=environment)


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


def normalised(ran: Ran, world: World) -> str:
    """Return the text without what differs from run to run."""
    text = ran.out.replace(str(world.home), "HOME").replace(world.team, "TEAM")
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


def in_order(world: World, name: str = "tokyo-1", **options: Any) -> StandInThread:
    """Bring a server to its document, with nothing to complain of."""
    server = world.server(name, **({"robots": asleep()} | options))
    world.document(name, "bybit", "okx", supervised=True)
    world.begin()
    assert world.apply().code == 0
    server.restart()
    return server


# ── two whole worlds ─────────────────────────────────────────────────────────────────────────


def test_a_world_in_good_order(world: World, request: pytest.FixtureRequest) -> None:
    world.settings(soleWriter=True)
    in_order(world)

    ran = doctor(world, VAULT_TOKEN=token(world, "apply"))

    assert (ran.code, ran.err) == (0, "")
    assert " warning:" not in ran.out
    check_golden("good", normalised(ran, world), request)


def test_a_world_in_which_much_is_wrong(world: World, request: pytest.FixtureRequest) -> None:
    authority = Authority(world.home / PRIVATE)
    strange = Behaviour(version="0.99.0", clock_offset=7200.0, log="unreadable")
    servers = {
        "away": world.server("away"),
        "encrypted": world.server("encrypted", tls=authority.context()),
        "mute": world.server("mute", behaviour=Behaviour(login="silent")),
        "other-account": world.server("other-account", account="7"),
        "other-ca": world.server("other-ca", tls=Authority(world.home / PRIVATE, "b").context()),
        "other-secret": world.server("other-secret"),
        "strange": world.server("strange", behaviour=strange),
    }
    for name in servers:
        world.document(name, "bybit", supervised=True)
    elsewhere = {"nasdaq": {"credentials": world.reference("strange/bybit")}}
    world.document("strange", "bybit", supervised=True, exchanges=elsewhere)
    world.document("paused", "bybit", url=NOBODY, suspend={"reason": "exam", "by": "alice"})
    world.put("paused", access_secret=world.watch.secret("base62"))
    world.put("other-secret", access_secret=world.watch.secret("base62"))
    servers["away"].stop()
    world.settings(
        tls=[{"urls": ["https://**"], "caFile": authority.file}],
        controller={"url": NOBODY},
        role="ci",
    )

    ran = doctor(world)

    assert ran.code == 6
    assert foreign_words(ran.text) == []
    check_golden("bad", normalised(ran, world), request)


# ── it changes nothing, and says nothing that it must not ────────────────────────────────────


def test_it_only_reads(world: World, bao: OpenBao) -> None:
    server = in_order(world)
    bao.enable_audit()
    asked, files = len(bao.audit_entries()), everything(world.home)
    received = len(server.record.received)

    ran = doctor(world)
    entries = [e["request"] for e in bao.audit_entries()[asked:] if e["type"] == "request"]

    assert ran.code == 0
    assert {e["operation"] for e in entries if "capabilities-self" not in e["path"]} == {"read"}
    assert everything(world.home) == files
    assert {message.event for message in server.record.received[received:]} == READS
    assert (server.record.saves, server.record.deletes) == (2, 0)


def everything(folder: Path) -> dict[str, bytes]:
    """Return all files below *folder*, less what SQLite lays beside its file while it is open."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not path.name.endswith(("-shm", "-wal"))
    }


def test_every_finding_that_is_not_in_order_says_what_to_do(world: World) -> None:
    world.server(behaviour=Behaviour(version="0.99.0", log="unreadable"))
    world.document("tokyo-1", "bybit", supervised=True)

    rows = found(doctor(world, "-o", "json"))

    assert {row["grade"] for row in rows} == {"ok", "warning", "failed", "skipped"}
    assert [
        row for row in rows if row["grade"] in ("warning", "failed") and not row["remedy"]
    ] == []
    assert all((row["grade"] == "failed") == (row["exitCode"] != 0) for row in rows)


# ── Vault ────────────────────────────────────────────────────────────────────────────────────


def test_a_token_for_pull_requests_may_not_read_values(world: World) -> None:
    in_order(world)

    ran = doctor(world, "-o", "json", VAULT_TOKEN=token(world, "recorded"))

    assert ran.code == 5
    assert "may not read the values" in said(ran, "vault.can-read")
    assert "plan --recorded" in said(ran, "vault.can-read")
    assert grades(ran)["vault.secrets"] == "ok"
    assert grades(ran)["server.login"] == "failed"
    assert grades(ran)["server.clock"] == "ok"


def test_a_token_that_may_do_too_much(world: World) -> None:
    in_order(world)
    rules = {
        f"secret/data/jt/{world.team}/*": ["read", "create", "update", "patch", "delete"],
        f"secret/metadata/jt/{world.team}/*": ["read", "delete"],
        f"secret/destroy/jt/{world.team}/*": ["update"],
        "sys/policies/acl/*": ["create", "update", "sudo"],
        "auth/token/create": ["update"],
    }

    ran = doctor(world, "-o", "json", VAULT_TOKEN=token(world, rules=rules))

    assert ran.code == 0
    text = said(ran, "vault.cannot-write")
    for right in ("create", "update", "patch", "delete", "delete on metadata", "update on destroy"):
        assert f"warning: the token has `{right}` for vault:secret/jt/{world.team}/" in text
    assert "may write policies, make tokens;" in said(ran, "vault.powers")


def test_the_root_token_works_and_is_warned_of(world: World) -> None:
    in_order(world)

    ran = doctor(world, "-o", "json")

    assert ran.code == 0
    warned = {code for code, grade in grades(ran).items() if grade == "warning"}
    assert warned == {"vault.token", "vault.policies", "vault.cannot-write", "vault.powers"}


def test_the_right_to_make_the_fingerprint_key_is_not_too_much(world: World) -> None:
    key = f"secret/data/jt/{world.team}/fingerprint"
    world.settings(fingerprintKey=f"{world.reference('fingerprint')}#key")
    in_order(world)
    maker = token(world, "apply", rules={key: ["create", "read"]})
    changer = token(world, "apply", rules={key: ["create", "read", "update"]})

    may_make, may_change = (
        doctor(world, "-o", "json", VAULT_TOKEN=one) for one in (maker, changer)
    )

    assert grades(may_make)["key.usable"] == "ok"
    assert grades(may_make)["vault.cannot-write"] == "ok"
    assert f"`update` for {world.reference('fingerprint')}" in said(
        may_change, "vault.cannot-write"
    )


def test_a_token_that_may_not_even_look_at_itself(world: World, bao: OpenBao) -> None:
    in_order(world)
    blind = bao.create_token([f"{world.team}-nothing"], default_policy=False)
    world.watch.guard(blind.reveal(), "token")

    ran = doctor(world, "-o", "json", VAULT_TOKEN=blind.reveal())

    assert ran.code == 5
    assert "policy `default`" in said(ran, "vault.login")
    assert grades(ran)["server.address"] == "ok"


def test_a_dead_vault_hides_nothing_that_needs_no_secret(world: World) -> None:
    server = in_order(world)
    connections = len(server.record.handshakes)

    ran = doctor(world, "-o", "json", VAULT_ADDR=NOBODY)

    assert ran.code == 5
    assert "nothing listens there" in said(ran, "vault.reachable")
    checks = grades(ran)
    assert {checks[f"ledger.{name}"] for name in ("present", "fits", "brake", "open")} == {"ok"}
    assert (checks["server.address"], checks["server.clock"]) == ("ok", "ok")
    assert checks["server.login"] == "skipped"
    assert len(server.record.handshakes) == connections


def test_a_sealed_vault(world: World) -> None:
    in_order(world)
    with OpenBao() as sealed:
        sealed.seal()
        ran = doctor(world, "-o", "json", VAULT_ADDR=sealed.address)

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
def test_no_way_into_vault(world: World, environment: dict[str, str], code: str, text: str) -> None:
    in_order(world)

    ran = doctor(world, "-o", "json", **environment)

    assert ran.code == 5
    assert f"failed: {text}" in said(ran, code) or text in said(ran, code)


def test_a_secret_that_is_missing_and_a_mount_that_is_another(world: World, bao: OpenBao) -> None:
    bao.mount_kv1(f"old-{world.team}")
    in_order(world)
    world.document(
        "tokyo-1",
        "bybit",
        rotate=False,
        exchanges={
            "okx": {"credentials": f"vault:old-{world.team}/okx"},
            "kucoin": {"credentials": world.reference("nowhere")},
        },
    )

    ran = doctor(world, "-o", "json")

    assert ran.code == 5
    assert "is KV version 1" in said(ran, "vault.mount")
    assert "nothing was ever written there" in said(ran, "vault.secrets")
    assert f"old-{world.team}" not in said(ran, "vault.secrets") + said(ran, "vault.can-read")
    assert grades(ran)["server.login"] == "ok"


def test_a_ledger_in_vault(world: World, bao: OpenBao) -> None:
    mount = f"jtr-{world.team}"
    bao.mount_kv2(mount)
    world.settings(
        ledger=f"vault:{mount}/ledger", fingerprintKey=f"{world.reference('fingerprint')}#key"
    )
    in_order(world)
    rows = {
        f"{mount}/data/ledger/*": ["create", "read", "update"],
        f"{mount}/metadata/ledger/*": ["read", "list"],
    }
    reads = {f"{mount}/data/ledger/*": ["read"], f"{mount}/metadata/ledger/*": ["read", "list"]}

    right, reader, root = (
        doctor(world, "-o", "json", **environment)
        for environment in (
            {"VAULT_TOKEN": token(world, "apply", rules=rows)},
            {"VAULT_TOKEN": token(world, "apply", rules=reads)},
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


def test_settings_beside_the_documents_are_told_and_not_followed(world: World) -> None:
    server = world.server()
    world.document("tokyo-1", "bybit")
    beside = world.docs / "settings.txt"  # not taken for a document
    shutil.copy(world.settings_file, beside)

    refused = doctor(world, "-o", "json", "--server", "tokyo-1", "--settings", str(beside))

    assert not server.record.handshakes
    agreed = doctor(world, "-o", "json", "--settings", str(beside), "--settings-in-repo")
    assert refused.code == 64
    assert grades(agreed)["settings.place"] == "warning"
    assert grades(agreed)["server.login"] == "ok"
    assert "lie with the desired state" in said(refused, "settings.place")
    assert {row["group"] for row in found(refused)} == {"settings", "documents"}


def test_rights_of_files_with_secrets(world: World) -> None:
    in_order(world)
    sink = world.home / PRIVATE / "token"
    sink.write_text(token(world, "apply"), "ascii")
    sink.chmod(0o640)
    bearer = world.home / PRIVATE / "bearer"
    login = {"method": "token-file", "tokenFile": str(sink)}
    world.settings(vault={"auth": login}, controller={"tokenFile": str(bearer)})
    world.settings_file.chmod(0o666)

    ran = doctor(world, "-o", "json", VAULT_TOKEN="")

    assert ran.code == 1
    assert f"its group can open the Vault token file {sink} (mode 0640); chmod 600" in said(
        ran, "settings.vault-token"
    )
    assert "No such file or directory" in said(ran, "settings.controller-token")
    assert "others can change the settings file" in said(ran, "settings.rights")
    assert "vault.token" in grades(ran)
    assert grades(ran)["server.login"] == "ok"


def test_a_fingerprint_key_that_others_can_read_is_not_used(world: World) -> None:
    in_order(world)
    key = world.home / "config" / "jtr" / "fingerprint.key"
    key.chmod(0o644)
    open_key = doctor(world, "-o", "json")
    key.unlink()
    no_key = doctor(world, "-o", "json")

    assert open_key.code == 5
    assert "can be read by others" in said(open_key, "key.usable")
    assert no_key.code == 4
    assert "restore the key from a backup" in said(no_key, "key.usable")


def test_wrong_documents_and_wrong_settings_are_told_together(world: World) -> None:
    world.write("broken.yaml", "apiVersion: jtr/v1\nkind: TradingServer\nmetadata: {}\nspec: {}\n")

    documents = doctor(world, "-o", "json")
    world.settings(nonsense=True)
    both = doctor(world, "-o", "json")

    assert documents.code == both.code == 3
    assert "broken.yaml:" in said(documents, "documents.valid")
    assert grades(documents)["vault.login"] == "ok"
    assert "nonsense" in said(both, "settings.file")
    assert "broken.yaml:" in said(both, "documents.valid")


def test_words_that_are_wrong(world: World) -> None:
    world.server()
    world.document("tokyo-1", "bybit")

    for args, text in (
        ((str(world.docs), "--from", str(world.docs)), "both PATH and --from were given"),
        ((str(world.home / "nowhere"),), "nowhere"),
        ((str(world.docs), "--server", "osaka-1"), "no server is called osaka-1"),
    ):
        ran = world.jtr("doctor", *args)
        assert (ran.code, ran.out) == (64, ""), args
        assert text in ran.err


def test_without_documents_the_rest_is_looked_at(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.begin()
    monkeypatch.chdir(world.docs)

    ran = world.jtr("doctor", "-o", "json")

    assert ran.code == 0
    assert grades(ran)["documents.valid"] == "warning"
    assert grades(ran)["vault.login"] == grades(ran)["ledger.present"] == "ok"


# ── the ledger ───────────────────────────────────────────────────────────────────────────────


def test_a_ledger_that_was_restored_and_one_that_is_gone(world: World) -> None:
    in_order(world)
    (ledger,) = (world.home / "state").rglob("ledger.db")
    copy = ledger.with_name("restored")
    shutil.copy(ledger, copy)
    copy.replace(ledger)
    before = everything(world.home)
    restored = doctor(world, "-o", "json")
    assert everything(world.home) == before
    ledger.unlink()
    gone = doctor(world, "-o", "json")

    assert restored.code == gone.code == 4
    assert "jtr ledger accept-restore" in said(restored, "ledger.fits")
    assert "there is no ledger" in said(gone, "ledger.present")
    assert not ledger.exists()


def test_a_request_in_doubt_and_a_ledger_that_may_not_be_the_only_one(world: World) -> None:
    server = world.server(robots=asleep(), behaviour=Behaviour(invalidate="lost before effect"))
    world.document("tokyo-1", "bybit")
    world.settings(soleWriter=True)
    world.begin()
    assert world.apply().code == 0
    moment = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    world.document("tokyo-1", "bybit", cache={"invalidatedAfter": moment, "reason": "stale"})
    assert world.apply().code == 7
    doubt = doctor(world, "-o", "json")
    world.settings()
    alone = doctor(world, "-o", "json")

    assert doubt.code == alone.code == 7
    assert "tokyo-1: a request is in doubt; see: jtr request list" in said(doubt, "ledger.open")
    assert (grades(doubt)["ledger.only"], grades(alone)["ledger.only"]) == ("ok", "warning")
    assert "soleWriter: true" in said(alone, "ledger.only")
    assert server.record.invalidation_requests == 1


@pytest.mark.fatal_paths(1)
def test_a_brake(world: World) -> None:
    server = world.server()
    world.document("tokyo-1", "bybit")
    world.begin()
    server.behaviour.save = "fatal"
    assert world.apply().code == 8

    ran = doctor(world, "-o", "json")

    assert ran.code == 4
    assert "jtr ledger release-brake 0.24.19" in said(ran, "ledger.brake")
    assert "noted a fatal error" in said(ran, "server.log")


# ── servers ──────────────────────────────────────────────────────────────────────────────────


def test_an_address_that_changed_is_not_even_contacted(world: World) -> None:
    in_order(world)
    other = world.server("tokyo-2")
    world.document("tokyo-1", "bybit", "okx", rotate=False, url=other.url)

    ran = doctor(world, "-o", "json")

    assert ran.code == 4
    assert "its address changed: it was" in said(ran, "server.allowed")
    assert not other.record.handshakes
    assert grades(ran)["server.login"] == "skipped"


def test_an_address_outside_of_the_settings_is_not_even_contacted(world: World) -> None:
    server = in_order(world)
    connections = len(server.record.handshakes)
    world.settings(allow={"urls": ["https://elsewhere.internal"]})

    ran = doctor(world, "-o", "json")

    assert ran.code == 4
    assert "is not among the addresses" in said(ran, "server.allowed")
    assert len(server.record.handshakes) == connections


def test_no_visit_logs_in_nowhere(world: World) -> None:
    server = in_order(world)
    connections = len(server.record.handshakes)

    ran = doctor(world, "--no-visit", "-o", "json")

    assert ran.code == 0
    assert len(server.record.handshakes) == connections
    assert grades(ran)["server.address"] == grades(ran)["server.clock"] == "ok"
    assert grades(ran)["server.login"] == grades(ran)["server.robots"] == "skipped"


def test_a_visit_with_robots_running_is_warned_of(world: World) -> None:
    in_order(world, robots=[Robot(1, "grid-btc", "bybit"), Robot(2, "arb", "okx")])

    ran = doctor(world, "-o", "json")

    assert ran.code == 0
    assert "its running robots (grid-btc, arb)" in said(ran, "server.registration")


def test_a_version_that_the_operator_accepts(world: World) -> None:
    in_order(world).behaviour.version = "0.25.3"
    untested = doctor(world, "-o", "json")
    world.settings(acceptVersions=["0.25.*"])
    accepted = doctor(world, "-o", "json")

    assert (untested.code, grades(untested)["server.version"]) == (0, "warning")
    assert grades(accepted)["server.version"] == "ok"
    assert "accepted by the settings" in said(accepted, "server.version")


def test_a_server_that_never_started_again_bears_no_supervisor_out(world: World) -> None:
    world.server(robots=asleep())
    world.document("tokyo-1", "bybit", supervised=True)

    ran = doctor(world, "-o", "json")

    assert "shows one start only" in said(ran, "server.supervisor")
    assert "Restart=always" in said(ran, "server.supervisor")


def test_one_silent_server_hides_no_other(world: World) -> None:
    for name in ("a", "b", "c"):
        world.server(name, robots=asleep())
        world.document(name, "bybit")
    world.servers["b"].behaviour.login = "silent"

    ran = doctor(world, "-o", "json")

    assert {name: grades(ran, server=name)["server.login"] for name in "abc"} == {
        "a": "ok",
        "b": "failed",
        "c": "ok",
    }


# ── the controller ───────────────────────────────────────────────────────────────────────────


@contextmanager
def controller(status_store: StatusStore, bearer: str = "") -> Iterator[str]:
    """Answer as a controller with the status page of *board*; yields its address."""
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


def test_what_a_controller_holds_is_left_to_it(world: World) -> None:
    server = in_order(world)
    connections = len(server.record.handshakes)
    row = ServerStatus("tokyo-1", server.url, "0", connected=True)
    others = {
        f"osaka-{n}": replace(row, server=f"osaka-{n}", account=str(n)) for n in range(1, 999)
    }
    status_store = StatusStore(
        ControllerStatus("1", "controller", "now", acting=True), others | {"tokyo-1": row}
    )
    with controller(status_store) as url:
        world.settings(controller={"url": url}, role="ci")
        left = doctor(world, "-o", "json")
        between = len(server.record.handshakes)
        visited = doctor(world, "--visit", "-o", "json")

    assert between == connections
    assert grades(left)["controller.status"] == "ok"
    assert "holds the connection" in said(left, "server.login")
    assert grades(left)["server.registration"] == "ok"
    assert "role is ci" in said(left, "controller.role")
    assert grades(visited)["server.login"] == "ok"


def test_a_controller_that_asks_for_another_token_or_waits(world: World) -> None:
    in_order(world)
    bearer = world.watch.secret("base62")
    file = world.home / PRIVATE / "bearer"
    file.write_text(world.watch.secret("base62") + "\n", "ascii")
    file.chmod(0o600)
    waiting = StatusStore(ControllerStatus("1", "controller", "now", waiting="there is no ledger"))
    with controller(waiting, bearer) as url:
        world.settings(controller={"url": url, "tokenFile": str(file)})
        refused = doctor(world, "-o", "json")
        file.write_text("two words\n", "ascii")
        unusable = doctor(world, "-o", "json")
        file.write_text(bearer + "\n", "ascii")
        waits = doctor(world, "-o", "json")

    assert refused.code == 1
    assert "does not accept the token" in said(refused, "controller.status")
    assert "the token cannot be read" in said(unusable, "controller.status")
    assert waits.code == 0
    assert "it does not act: there is no ledger" in said(waits, "controller.status")
