"""
The units on a systemd that was booted for them: how they start, end and start again, and what a
person does on that host when something is wrong.
"""

import json
import re
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.deploy.booted import Booted, booted
from tests.deploy.ports import free_ports
from tests.deploy.tools import DEPLOY
from tests.house.pages import blocks, page
from tests.support.durations import DURATIONS, SILENCE
from tests.support.processes import Running, until
from tests.support.rig import Rig

pytestmark = pytest.mark.long
UNIT = "jtr-controller.service"
FAILED = "jtr-controller-failed.service"
CREDENTIALS = "/etc/jtr/credentials"
HANDED = f"/run/credentials/{UNIT}"
LEDGER = "/var/lib/jtr/ledger/ledger.db"
OPERATIONS = "docs/operations.md"


class Host:
    """That machine with our units installed, and one trading server to keep."""

    def __init__(self, machine: Booted, rig: Rig) -> None:
        self.machine = machine
        self.rig = rig
        self.server = rig.server()
        rig.document("tokyo-1", "bybit")
        for unit in (DEPLOY / "systemd").glob("*.service"):
            machine.write(f"/etc/systemd/system/{unit.name}", unit.read_text("utf-8"))
        self.credential("vault-secret-id", rig.bao.root_token.reveal())
        self.page_token = self.new_page_token()
        machine.path(CREDENTIALS).chmod(0o700)
        self.settings()
        self.documents(*rig.docs.iterdir())
        machine.run("systemctl", "daemon-reload")

    def credential(self, name: str, text: str) -> None:
        """Put a file where root has the credentials of the service."""
        self.machine.write(f"{CREDENTIALS}/{name}", text, 0o600)

    def new_page_token(self) -> str:
        """Give it another page token."""
        token = self.rig.watch.secret("base62")
        self.credential("page-token", token)
        return token

    def settings(self, **changes: Any) -> None:
        """Install the settings of deploy/, with this test's Vault and a ledger on the disk."""
        document = yaml.safe_load((DEPLOY / "systemd" / "settings.yaml").read_text("utf-8"))
        document["vault"] = {
            "address": self.rig.bao.address,
            "auth": {"method": "token-file", "tokenFile": f"{HANDED}/vault-secret-id"},
        }
        document["policy"]["rules"][0]["servers"] = {"urls": ["http://127.0.0.1:*"]}
        (port,) = free_ports(1)
        document["controller"] |= {
            "listen": f"127.0.0.1:{port}",
            "url": f"http://127.0.0.1:{port}",
        }
        del document["fingerprintKey"]
        document |= {
            "ledger": f"sqlite:{LEDGER}",
            "soleWriter": True,
            "durations": DURATIONS | SILENCE,
        }
        document |= changes
        self.machine.write("/etc/jtr/settings.yaml", yaml.safe_dump(document))

    def documents(self, *files: Path) -> None:
        """Put these files where the service looks for documents, instead of all others."""
        folder = self.machine.path("/srv/jtr/documents")
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        for file in files:
            shutil.copy(file, folder)

    def jtr(self, *words: str, code: int | None = 0) -> str:
        """Run a command as the service; returns what it printed."""
        printed = self.machine.run("jtr", "as-service", *words, code=code)
        self.rig.watch.search("what the command printed", printed)
        return printed

    def start(self) -> None:
        """Start the controller and wait until it looks after the server."""
        before = self.machine.journal(UNIT).count('"pass ')
        self.machine.run("systemctl", "start", UNIT)
        until(lambda: self.machine.journal(UNIT).count('"pass ') > before)

    def state(self) -> tuple[str, str, str, str]:
        """Whether it runs, how it ended, with which code, how often it was started anew."""
        show = self.machine.show
        return (
            show(UNIT, "ActiveState"),
            show(UNIT, "Result"),
            show(UNIT, "ExecMainStatus"),
            show(UNIT, "NRestarts"),
        )


@pytest.fixture
def host(rig: Rig, tmp_path: Path) -> Iterator[Host]:
    """A booted machine, installed."""
    with booted(tmp_path) as machine:
        yield Host(machine, rig)


def test_what_only_a_person_can_mend_is_told_and_never_started_again(host: Host) -> None:
    machine = host.machine
    good = machine.path("/srv/jtr/documents/tokyo-1.yaml").read_text("utf-8")

    def ends(code: int, words: str) -> None:
        machine.run("systemctl", "reset-failed", code=None)
        machine.run("systemctl", "start", UNIT, code=None)
        until(lambda: host.state()[0] == "failed")
        assert host.state() == ("failed", "exit-code", str(code), "0"), machine.journal(UNIT)
        assert words in machine.journal(UNIT).splitlines()[-2:][0] + machine.journal(UNIT)
        until(lambda: machine.show(FAILED, "ActiveState") == "inactive")
        assert machine.show(FAILED, "Result") == "success"

    ends(4, "there is no ledger at")
    host.jtr("ledger", "init")
    machine.write("/srv/jtr/documents/tokyo-1.yaml", good.replace("TradingServer", "Tradingserver"))
    ends(3, "tokyo-1.yaml")
    shutil.rmtree(machine.path("/srv/jtr/documents"))
    ends(64, "/srv/jtr/documents")
    machine.write("/srv/jtr/documents/tokyo-1.yaml", good)
    host.settings(role="ci")
    ends(64, "role: ci")
    host.settings(nonsense=1)
    ends(3, "nonsense")
    host.settings()
    host.credential("page-token", "short")
    ends(64, "does not hold a token")
    host.new_page_token()
    machine.path("/var/lib/private/jtr-host/jtr/fingerprint.key").rename(machine.path("/srv/key"))
    ends(4, "there is no fingerprint key")
    assert machine.journal(FAILED).count("jtr-controller has ended") == 7
    # And what systemd itself could not do: 243 is CREDENTIALS.
    machine.path(f"{CREDENTIALS}/page-token").unlink()
    ends(243, "credentials")
    assert host.server.record.saves == 0


def test_what_mends_itself_is_waited_for_or_started_again(host: Host) -> None:
    machine = host.machine
    host.jtr("ledger", "init")
    host.start()
    assert host.server.record.saves == 1
    machine.run("systemctl", "kill", "--signal=KILL", UNIT)
    until(lambda: host.state()[3] == "1")
    began = machine.journal(UNIT).count('"listening"')
    until(lambda: machine.journal(UNIT).count('"pass healthy"') >= 2)
    assert began <= 2
    # SIGTERM, whatever it is doing, is no failure.
    machine.run("systemctl", "stop", UNIT)
    assert host.state()[:2] == ("inactive", "success")
    host.server.behaviour.silent |= {"exchange-config-request"}
    host.rig.rotate()
    machine.run("systemctl", "start", UNIT)
    machine.run("systemctl", "stop", UNIT)
    assert host.state()[:2] == ("inactive", "success")
    assert host.state()[2] in ("0", "143")
    host.server.behaviour.silent -= {"exchange-config-request"}
    # A ledger that it may not use: it lives, tells people, and goes on when that is mended.
    machine.path(f"/var/lib/private{LEDGER.removeprefix('/var/lib')}").chmod(0o644)
    machine.run("systemctl", "start", UNIT)
    until(lambda: "others can open" in machine.journal(UNIT))
    assert host.state()[0] == "active"
    machine.path(f"/var/lib/private{LEDGER.removeprefix('/var/lib')}").chmod(0o600)
    until(lambda: machine.journal(UNIT).count('"write bybit"') >= 2)
    assert machine.show(FAILED, "ExecMainStartTimestamp") == ""


def test_a_person_works_on_the_ledger_as_the_service_does(host: Host) -> None:
    machine = host.machine
    begun = host.jtr("ledger", "init")
    host.start()
    # Root itself is another user, with another memory: refused, and told what to do instead.
    refused = machine.run("env", "HOME=/root", "jtr", "ledger", "accept-restore", code=None)
    assert "jtr as-service" in refused, refused
    assert not list(machine.path("/root").glob(".[cl]o*"))  # no .config, no .local
    alone = machine.run("jtr", "as-service", "ledger", "release-brake", "tokyo-1", code=64)
    assert "--because" in alone
    status = host.jtr("status")
    assert "tokyo-1" in status
    assert "nothing to accept" in host.jtr("ledger", "accept-restore", code=1)
    # Not while it does something else, nor by anybody else.
    assert "systemctl" in host.jtr("controller", "/srv", code=64)
    nobody = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups")
    assert "only root" in machine.run(*nobody, "jtr", "as-service", "status", code=64)

    # The ledger's file is another one now: a copy.  The page says how to go on.
    machine.run("systemctl", "stop", UNIT)
    file = machine.path(f"/var/lib/private{LEDGER.removeprefix('/var/lib')}")
    file.rename(file.with_suffix(".old"))
    machine.run("cp", "--preserve=all", f"{LEDGER}.old".replace(".db.", "."), LEDGER)
    host.start()
    assert "no reboot and no invalidation will be done" in machine.journal(UNIT)
    (accept,) = blocks(page(OPERATIONS), "as service")
    told = machine.run("sh", "-ec", accept)
    assert "accepted" in told
    until(lambda: machine.show(UNIT, "ActiveState") == "active")
    invocation = machine.show(UNIT, "InvocationID")
    again = machine.run(
        *("journalctl", "--no-pager", "--output=cat", f"_SYSTEMD_INVOCATION_ID={invocation}")
    )
    assert "no reboot and no invalidation" not in again
    assert "began a ledger" in begun
    assert not list(machine.path("/root").glob(".[cl]o*"))
    for unit in machine.run("systemctl", "list-units", "--all", "--plain", "--no-legend").split():
        assert not unit.startswith("jtr-command-")


def test_an_interrupted_command_ends_well(host: Host) -> None:
    machine = host.machine
    host.jtr("ledger", "init")
    words = ("logs", "tokyo-1", "--from", "/srv/jtr/documents", "--follow")
    approve = host.jtr("apply", "/srv/jtr/documents", "--auto-approve")
    assert "bybit" in approve
    with Running(machine.command("jtr", "as-service", *words), {}) as following:
        following.until("App STATUS")
        (pid,) = machine.run("pgrep", "--full", "--oldest", "reconciler as-service").split()
        machine.run("kill", f"-{signal.SIGINT}", pid)
        code = following.end()

    assert code in (0, 130), following.text
    assert "jtr-command-" not in machine.run("systemctl", "list-units", "--all", "--plain")


def test_a_killed_command_is_called_that(host: Host) -> None:
    machine = host.machine
    host.jtr("ledger", "init")
    host.jtr("apply", "/srv/jtr/documents", "--auto-approve")
    words = ("logs", "tokyo-1", "--from", "/srv/jtr/documents", "--follow")
    with Running(machine.command("jtr", "as-service", *words), {}) as following:
        following.until("App STATUS")
        machine.run("systemctl", "kill", "--signal=SIGKILL", "jtr-command-*.service")
        code = following.end()

    assert code == 1, following.text
    assert "the command was killed" in following.text


def test_a_new_token_reaches_it_when_it_starts_anew(host: Host) -> None:
    """LoadCredential= copies once: a reload hands over nothing, whatever the file says now."""
    machine = host.machine
    host.jtr("ledger", "init")
    host.start()
    seen = f"{HANDED}/page-token"
    before = machine.path(seen).read_text("utf-8")
    token = host.new_page_token()
    machine.run("systemctl", "reload", UNIT)
    assert machine.path(seen).read_text("utf-8") == before == host.page_token
    (rotate,) = blocks(page("docs/setup-controller.md"), "systemd restart")
    machine.run("sh", "-ec", rotate)
    assert machine.path(seen).read_text("utf-8") == token
    status = json.loads(host.jtr("status", "-o", "json"))
    assert re.search(r'"server": "tokyo-1"', json.dumps(status))
