"""The pages of the three set-ups: their commands do what they say, with the tools they name."""

import json
import os
import re
import stat
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import certifi
import pytest
import yaml

from reconciler.bootstrap import load_settings
from reconciler.sandbox.openbao import OpenBao
from reconciler.settings.model import Role, VaultLedger
from tests.deploy.ports import free_ports
from tests.deploy.tools import DEPLOY, ROOT, ran, tool
from tests.deploy.unit import Unit
from tests.house.pages import BIN, blocks, commands, page, shell
from tests.support.durations import DURATIONS
from tests.support.leaks import PRIVATE, Watch
from tests.support.processes import Running, until
from tests.support.rig import Rig

CONTROLLER = "docs/setup-controller.md"
CI = "docs/setup-ci.md"
BOTH = "docs/setup-both.md"
# Programs that need an engine, a cluster or a service manager: these note what they were told.
ELSEWHERE = """\
#!/bin/sh
echo "$(basename "$0") $*" >> "$CALLS"
case "$*" in *-field=secret_id*) echo an-id;; esac
"""


class Harness:
    """An administrator's shell beside an OpenBao of its own, and a harness with servers."""

    def __init__(self, rig: Rig, bao: OpenBao) -> None:
        self.rig = rig
        (rig.home / "deploy").symlink_to(DEPLOY)
        rig.team = "desk"
        rig.docs = rig.home / "servers"
        rig.docs.mkdir()
        self.variables = commands(rig.home / PRIVATE / "person") | rig.environment
        self.variables |= {"BAO_ADDR": bao.address, "BAO_TOKEN": bao.root_token.reveal()}

    @property
    def jtr(self) -> str:
        """The command."""
        return str(Path(self.variables["PATH"].partition(":")[0]) / "jtr")

    def run(self, name: str, what: str, **more: str) -> str:
        """Run all blocks of a page that are marked so; returns what they printed."""
        found = blocks(page(name), what)
        assert found, f"{name}: {what}"
        printed = "".join(shell(one, self.rig.home, self.variables | more) for one in found)
        self.rig.watch.search(f"what the commands about {what} printed", printed)
        return printed

    def settings(self, name: str, what: str, **changes: Any) -> Path:
        """The settings of a page, with this test's Vault and servers in them."""
        (text,) = blocks(page(name), what)
        document = yaml.safe_load(text)
        for rule in document.get("policy", {}).get("rules", ()):
            rule["servers"] = {"urls": ["http://127.0.0.1:*"]}
        document |= {"durations": DURATIONS} | changes
        document.setdefault("vault", {})
        document["vault"] = {"address": self.rig.bao.address} | changes.get("vault", {})
        file = self.rig.home / "settings.yaml"
        file.write_text(yaml.safe_dump(document), "utf-8")
        self.variables["JTR_SETTINGS"] = str(file)
        return file

    def token(self, *policies: str) -> dict[str, str]:
        """A token with these policies and no other."""
        token = self.rig.bao.create_token(list(policies))
        self.rig.watch.guard(token.reveal(), "token")
        # Both names: the administrator's shell has the other one.
        return {"VAULT_TOKEN": token.reveal(), "BAO_TOKEN": token.reveal()}


@pytest.fixture
def harness(tmp_path: Path, watch: Watch, monkeypatch: pytest.MonkeyPatch) -> Iterator[Harness]:
    """A harness where nothing was set up yet."""
    with OpenBao() as bao, Rig(tmp_path, bao, watch, monkeypatch) as rig:
        yield Harness(rig, bao)


def test_ci_alone(harness: Harness) -> None:
    rig = harness.rig
    server = rig.server()
    rig.document("tokyo-1", "bybit")

    harness.run(CI, "vault")
    harness.run(CI, "roles")
    harness.settings(CI, "settings")
    begun = harness.run(CI, "init")
    may_apply = harness.token("jtr-desk-apply")
    may_look = harness.token("jtr-desk-plan")
    first = harness.run(CI, "merge", **may_apply)
    rig.rotate("tokyo-1")
    proposed = harness.run(CI, "pull request", **may_look)
    visits = len(server.record.handshakes)
    second = harness.run(CI, "merge", **may_apply)

    assert "began a ledger: vault:jtr/ledger/desk" in begun
    assert server.record.saves == 2, first + second
    assert "bybit" in proposed
    assert visits == 1, "a pull request visits nobody"


def test_the_controller_alone(harness: Harness) -> None:
    rig = harness.rig
    server = rig.server()
    rig.document("tokyo-1", "bybit")
    token = rig.home / PRIVATE / "page-token"
    token.write_text(rig.watch.secret("base62"), "utf-8")

    harness.run(CONTROLLER, "vault")
    login = harness.token("jtr-controller", "jtr-controller-openbao", "jtr-ledger")
    own = {"listen": "127.0.0.1:0", "tokenFile": str(token)}
    key = "vault:secret/jt/fingerprint#key"
    harness.settings(BOTH, "controller", controller=own, fingerprintKey=key)
    once = harness.run(CONTROLLER, "init token").strip().splitlines()[-1]
    rig.watch.guard(once, "token")
    begun = harness.run(CONTROLLER, "init", VAULT_TOKEN=once, BAO_TOKEN=once)
    assert "made a fingerprint key" in begun
    assert "began a ledger" in begun
    with Running([harness.jtr, "controller", str(rig.docs)], harness.variables | login) as running:
        address = json.loads(running.until("listening").splitlines()[0])["url"]
        running.until('"pass healthy"')
        visits = len(server.record.handshakes)
        recorded = page_policy(harness)
        harness.settings(
            CONTROLLER, "settings of ci", controller={"url": address, "tokenFile": str(token)}
        )
        proposed = harness.run(CONTROLLER, "pull request", **recorded)
        running.process.terminate()
        assert running.end() == 0
        rig.watch.search("what the controller logged", running.text)

    assert server.record.saves == 1
    assert "tokyo-1" in proposed
    assert "not compared" not in proposed
    assert visits == len(server.record.handshakes) == 1


def page_policy(harness: Harness) -> dict[str, str]:
    """What a pull request may, where the controller is asked for the rest."""
    policy = (DEPLOY / "vault" / "recorded.hcl").read_text("utf-8")
    harness.rig.bao.request("POST", "sys/policies/acl/jtr-recorded", {"policy": policy})
    return harness.token("jtr-recorded")


@pytest.mark.volume
def test_both_on_one_ledger(harness: Harness) -> None:
    rig = harness.rig
    server = rig.server()
    rig.document("tokyo-1", "bybit")
    harness.run(CI, "vault")
    harness.run(CI, "roles")
    harness.settings(BOTH, "controller")
    harness.run(CI, "init")
    arguments = [harness.jtr, "controller", str(rig.docs), "--listen", "127.0.0.1:0"]
    with Running(arguments, dict(harness.variables)) as running:
        running.until('"pass healthy"')
        instant = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 3600))
        rig.document(
            *("tokyo-1", "bybit"), rotate=False, cache={"invalidatedAfter": instant, "reason": "x"}
        )
        harness.settings(BOTH, "ci", controller={})
        applied = harness.run(BOTH, "merge", **harness.token("jtr-desk-apply"))
        running.process.terminate()
        assert running.end() == 0
        rig.watch.search("what the controller logged", running.text)

    assert "is the controller of this ledger: drift and requests are left to it" in applied
    assert (server.record.saves, server.record.invalidations) == (1, 0)


@pytest.mark.parametrize(
    ("name", "what", "role"),
    [
        (CI, "settings", Role.CI),
        (CONTROLLER, "settings of ci", Role.CI),
        (BOTH, "controller", Role.CONTROLLER),
        (BOTH, "ci", Role.CI),
    ],
)
def test_the_settings_of_the_pages_load(tmp_path: Path, name: str, what: str, role: Role) -> None:
    (text,) = blocks(page(name), what)
    file = tmp_path / "settings.yaml"
    file.write_text(text, "utf-8")

    settings = load_settings(str(file), {"HOME": str(tmp_path)}, ())

    assert settings.role is role
    assert isinstance(settings.ledger, VaultLedger) or settings.controller.url


def test_prometheus_accepts_what_the_page_says(tmp_path: Path) -> None:
    (text,) = blocks(page(CONTROLLER), "prometheus")
    file = tmp_path / "prometheus.yaml"
    file.write_text(text, "utf-8")
    (tmp_path / "alerts.yaml").symlink_to(DEPLOY / "prometheus" / "alerts.yaml")

    assert "SUCCESS" in ran("promtool", "check", "config", file)


def test_the_links_of_the_alerts_lead_where_the_page_says(tmp_path: Path) -> None:
    (block,) = blocks(page(CONTROLLER), "runbooks")
    shell(block, copied(tmp_path), {"PATH": os.defpath})
    text = (tmp_path / "alerts.yaml").read_text("utf-8")
    links = re.findall(r"runbook_url: (\S+)", text)

    assert len(links) == text.count("- alert: ")
    assert all(link.startswith("https://git.internal/desk/") for link in links)
    assert "SUCCESS" in ran("promtool", "check", "rules", tmp_path / "alerts.yaml")


def test_kubernetes_login_of_the_page(harness: Harness) -> None:
    authority = Path(certifi.where()).read_text("utf-8").partition("-----END CERTIFICATE-----")
    (harness.rig.home / "cluster-ca.pem").write_text("".join(authority[:2]), "utf-8")
    harness.run(CONTROLLER, "kubernetes login")

    role = harness.rig.bao.request("GET", "auth/kubernetes/role/jtr-controller").data

    assert role["audience"] == "vault"
    assert role["bound_service_account_names"] == ["jtr-controller"]
    assert role["bound_service_account_namespaces"] == ["jtr"]


# ── what needs an engine, a cluster or a service manager ─────────────────────────────────────


@pytest.fixture
def elsewhere(tmp_path: Path) -> dict[str, str]:
    """Variables of a shell whose docker, kubectl, systemctl and bao only note their arguments."""
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    for name in ("docker", "kubectl", "systemctl", "bao", "pip"):
        (folder / name).write_text(ELSEWHERE, "utf-8")
        (folder / name).chmod(0o755)
    calls = tmp_path / "calls"
    calls.touch()
    return {"PATH": f"{folder}:{os.defpath}", "CALLS": str(calls), "HOME": str(tmp_path)}


def copied(folder: Path) -> Path:
    """The files of deploy/, where a block may write beside them."""
    subprocess.run(["cp", "-r", str(DEPLOY), str(folder / "deploy")], check=True, timeout=20)
    return folder


def test_the_lines_for_docker(tmp_path: Path, elsewhere: dict[str, str]) -> None:
    here = copied(tmp_path)
    for what in ("docker", "compose"):
        (block,) = blocks(page(CONTROLLER), what)
        shell(block, here, elsewhere)

    services = yaml.safe_load((DEPLOY / "docker" / "compose.yaml").read_text("utf-8"))["services"]
    secrets = here / "deploy" / "docker" / "secrets"
    called = Path(elsewhere["CALLS"]).read_text("utf-8")
    assert stat.S_IMODE(secrets.stat().st_mode) == 0o700
    assert {path.name for path in secrets.iterdir()} == {"role_id", "secret_id", "page_token"}
    assert (secrets / "secret_id").read_text("utf-8") == "an-id\n"
    assert re.fullmatch(r"[A-Za-z0-9_-]{43}\n", (secrets / "page_token").read_text("utf-8"))
    for service in re.findall(
        r"(?:exec|run|up)(?: -\S+| --\S+| BAO_TOKEN| VAULT_TOKEN)* (\w+)", called
    ):
        assert service in services, called


def test_the_lines_for_kubernetes(tmp_path: Path, elsewhere: dict[str, str]) -> None:
    (block,) = blocks(page(CONTROLLER), "kubernetes")
    shell(block, copied(tmp_path), elsewhere)

    called = Path(elsewhere["CALLS"]).read_text("utf-8")
    for file in re.findall(r"apply -[fk] (\S+)", called):
        assert (ROOT / file).exists(), file
    assert "secret generic jtr-page-token --namespace jtr --from-file=token=" in called
    assert "secretName: jtr-page-token" in (DEPLOY / "kubernetes" / "deployment.yaml").read_text(
        "utf-8"
    )


def test_the_lines_for_systemd(tmp_path: Path, elsewhere: dict[str, str]) -> None:
    """With /etc and /opt below a folder of this test, and without the installation itself."""
    (block,) = blocks(page(CONTROLLER), "systemd")
    root = tmp_path / "root"
    (root / "etc/systemd/system").mkdir(parents=True)
    (root / "opt/jtr/bin").mkdir(parents=True)
    (root / "opt/jtr/bin/pip").symlink_to(tmp_path / "elsewhere" / "pip")
    script = re.sub(r"(?<=[ >])/(etc|opt)/", rf"{root}/\1/", f"\n{block}".replace("\n", "\n "))
    script = re.sub(r"python3 -m venv \S+", "true", script)
    shell(script, copied(tmp_path), elsewhere)

    called = Path(elsewhere["CALLS"]).read_text("utf-8")
    assert (root / "etc/jtr/settings.yaml").exists()
    held = {path.name for path in (root / "etc/jtr/credentials").iterdir()}
    assert held == {"vault-secret-id", "page-token"}
    assert stat.S_IMODE((root / "etc/jtr/credentials").stat().st_mode) == 0o700
    for unit in (root / "etc/systemd/system").iterdir():
        assert (DEPLOY / "systemd" / unit.name).exists()
    assert "systemctl enable --now jtr-controller" in called
    assert re.search(r"pip install --require-hashes .*-r locks/build.txt -r locks/run.txt", called)
    assert "pip install --no-deps --no-build-isolation --no-index ." in called


# What an engine would do: what is run in a container runs here.
ENGINE = """\
#!/bin/sh
[ "$1 $2" != "compose exec" ] || { while [ "$1" != openbao ]; do shift; done; shift; exec "$@"; }
[ "$1 $2" != "compose run" ] || { while [ "$1" != jtr ]; do shift; done; exec "$@"; }
"""


@contextmanager
def sealed(folder: Path) -> Iterator[tuple[dict[str, str], Running]]:
    """Run OpenBao as compose.yaml does, on data of its own; yield the variables of its shell."""
    text = (DEPLOY / "docker" / "openbao.hcl").read_text("utf-8")
    data = folder / PRIVATE / "data"
    data.mkdir(parents=True)
    text = text.replace("/openbao/file", str(data))
    ports = free_ports(2)  # the server prints none that it chose itself
    text = text.replace("8200", str(ports[0])).replace("8201", str(ports[1]))
    config = folder / "openbao.hcl"
    config.write_text(text, "utf-8")
    variables = {"BAO_ADDR": f"http://127.0.0.1:{ports[0]}", "HOME": str(folder / PRIVATE)}
    with Running([tool("bao"), "server", f"-config={config}"], variables) as running:
        running.until("server started!")
        yield variables, running


def opened(variables: dict[str, str], watch: Watch) -> str:
    """Initialise and unseal it; return the root token."""
    init = ("operator", "init", "-format=json", "-key-shares=1", "-key-threshold=1")
    keys = json.loads(ran("bao", *init, environment=variables))
    watch.guard(keys["root_token"], "root token")
    ran("bao", "operator", "unseal", keys["unseal_keys_b64"][0], environment=variables)
    until(lambda: "active" in ran("bao", "status", environment=variables))
    return str(keys["root_token"])


def test_the_openbao_beside_the_controller_starts_sealed_and_opens(
    tmp_path: Path, watch: Watch
) -> None:
    with sealed(tmp_path) as (variables, _):
        ran("bao", "status", code=2, environment=variables)
        opened(variables, watch)
        status = ran("bao", "status", environment=variables)

    assert re.search(r"Sealed\s+false", status)


@pytest.mark.volume
def test_the_start_with_docker_leads_to_a_ledger(tmp_path: Path, watch: Watch) -> None:
    """Line by line on an OpenBao that has nothing yet, as every new one; and what it notes."""
    (tmp_path / PRIVATE).mkdir()
    home = copied(tmp_path / PRIVATE)
    person = home / "person"
    with sealed(home) as (variables, running):
        token = opened(variables, watch)
        variables.update(commands(person), BAO_TOKEN=token)
        engine = person / "bin" / "docker"
        engine.write_text(ENGINE, "utf-8")
        engine.chmod(0o755)
        settings = yaml.safe_load((DEPLOY / "docker" / "settings.yaml").read_text("utf-8"))
        settings["vault"]["address"] = variables["BAO_ADDR"]
        settings["durations"] = DURATIONS
        file = home / "settings.yaml"
        file.write_text(yaml.safe_dump(settings), "utf-8")
        variables["JTR_SETTINGS"] = str(file)

        def run(what: str) -> str:
            (block,) = blocks(page(CONTROLLER), what)
            return shell(block, home, variables)

        # Without a place for secrets the key cannot be made, and no ledger is begun either.
        (vault,) = blocks(page(CONTROLLER), "vault")
        shell(vault, home, variables)
        too_early = subprocess.run(
            ["jtr", "ledger", "init"],
            env=variables,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        nothing = shell("bao kv list jtr/ledger 2>&1 || true", home, variables)
        run("docker mount")
        begun = run("compose")
        value = watch.secret("base62")
        shell(f"echo -n {value} | bao kv put secret/jt/x key=-", home, variables)
        running.until("secret/data/jt/x")
        noted = running.text

    assert (too_early.returncode, "there is no mount secret" in too_early.stderr) == (5, True)
    assert "No value found" in nothing
    assert "made a fingerprint key" in begun
    assert "began a ledger: vault:jtr/ledger" in begun
    assert "hmac-sha256:" in noted
    watch.search("what OpenBao noted", noted)


def test_the_settings_of_pull_mode(tmp_path: Path) -> None:
    (text,) = blocks(page(CONTROLLER), "settings of pull mode")
    file = tmp_path / "settings.yaml"
    file.write_text(text, "utf-8")

    git = load_settings(str(file), {"HOME": str(tmp_path)}, ()).git

    assert git is not None
    assert git.following("", "", "") == git
    loaded = Unit(DEPLOY / "systemd" / "pull.conf").all("LoadCredential")
    held = {f"/run/credentials/jtr-controller.service/{one.partition(':')[0]}" for one in loaded}
    assert {git.token_file, git.webhook_secret_file} == held


def test_the_lines_for_pull_mode(tmp_path: Path, elsewhere: dict[str, str]) -> None:
    """The service with its drop-in is one that systemd accepts, and follows no files."""
    (block,) = blocks(page(CONTROLLER), "pull mode")
    root = tmp_path / "root"
    (root / "etc/jtr/credentials").mkdir(parents=True)
    here = copied(tmp_path)
    (here / "git-token").write_text("a-token\n", "utf-8")
    script = re.sub(r"(?<=[ >])/etc/", rf"{root}/etc/", f"\n{block}".replace("\n", "\n "))
    shell(script, here, elsewhere)

    held = {path.name for path in (root / "etc/jtr/credentials").iterdir()}
    assert held == {"git-token", "git-webhook"}
    drop_in = root / "etc/systemd/system/jtr-controller.service.d/pull.conf"
    assert Unit(drop_in).all("ExecStart") == ["", "/opt/jtr/bin/jtr controller"]
    unit = drop_in.parent.with_suffix("")
    text = (DEPLOY / "systemd" / unit.name).read_text("utf-8")
    unit.write_text(text.replace("/opt/jtr/bin/jtr", str(BIN / "jtr")), "utf-8")
    drop_in.write_text(drop_in.read_text("utf-8").replace("/opt/jtr/bin/jtr", str(BIN / "jtr")))
    assert ran("systemd-analyze", "verify", "--man=no", unit) == ""
