"""The units: systemd accepts them, they may do little, and their command lines run as they say."""

import ctypes
import json
import os
import re
import secrets
import signal
import socket
import sys
import urllib.request
from collections.abc import Mapping
from pathlib import Path

import pytest

from reconciler.bootstrap import load_settings
from reconciler.settings.model import AuthMethod, Role
from tests.deploy.tools import DEPLOY, missing, ran
from tests.deploy.unit import Unit
from tests.house.pages import BIN
from tests.support.leaks import PRIVATE
from tests.support.processes import Running
from tests.support.rig import Rig

FOLDER = DEPLOY / "systemd"
UNITS = sorted(FOLDER.glob("*.service"))
CONTROLLER = Unit(FOLDER / "jtr-controller.service")
INIT = Unit(FOLDER / "jtr-ledger-init.service")
PR_SET_MDWE, REFUSE_EXEC_GAIN = 65, 1  # prctl(2), Linux 6.3
# What `MemoryDenyWriteExecute=yes` does, for a process of ours: no memory becomes executable.
DENIED = f"""
import ctypes, os, sys
if ctypes.CDLL(None, use_errno=True).prctl({PR_SET_MDWE}, {REFUSE_EXEC_GAIN}, 0, 0, 0):
    sys.exit(77)
os.execv(sys.argv[1], sys.argv[1:])
"""


def installed(unit: Path, folder: Path) -> Path:
    """The unit as it would be with `jtr` where it is here."""
    copy = folder / unit.name
    text = unit.read_text("utf-8").replace("/opt/jtr/bin/jtr", str(BIN / "jtr"))
    copy.write_text(text, "utf-8")
    return copy


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_systemd_accepts_it(unit: Path, tmp_path: Path) -> None:
    assert ran("systemd-analyze", "verify", "--man=no", installed(unit, tmp_path)) == ""


def test_positive_control_an_unknown_line_is_noticed(tmp_path: Path) -> None:
    unit = installed(FOLDER / "jtr-controller.service", tmp_path)
    unit.write_text(unit.read_text("utf-8").replace("WatchdogSec=", "WatchdogSecs="), "utf-8")

    assert "WatchdogSecs" in ran("systemd-analyze", "verify", "--man=no", unit)


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_it_is_exposed_to_little(unit: Path) -> None:
    printed = ran("systemd-analyze", "security", "--offline=yes", "--threshold=20", unit)
    level = re.search(r"Overall exposure level for \S+: ([0-9.]+)", printed)

    assert level is not None
    assert float(level[1]) <= 2.0


def test_it_ends_and_starts_again_as_the_command_does() -> None:
    assert CONTROLLER.get("Type") == "notify"
    assert CONTROLLER.get("NotifyAccess") == "main"
    assert int(CONTROLLER.get("TimeoutStopSec")) > 10
    assert CONTROLLER.get("Restart") == "on-failure"
    assert CONTROLLER.get("RestartPreventExitStatus") == "3 4 64 CREDENTIALS"
    assert (FOLDER / CONTROLLER.get("OnFailure", "Unit")).is_file()
    assert CONTROLLER.get("ExecReload").endswith("kill -HUP $MAINPID")
    assert CONTROLLER.get("LimitCORE") == "0"


def test_both_units_are_the_same_user_in_the_same_places() -> None:
    for name in ("DynamicUser", "User", "StateDirectory", "StateDirectoryMode"):
        assert CONTROLLER.get(name) == INIT.get(name)
    for variable in ("XDG_STATE_HOME", "XDG_CONFIG_HOME", "JTR_SETTINGS"):
        assert CONTROLLER.environment({})[variable] == INIT.environment({})[variable]


def test_what_is_handed_over_is_what_the_settings_name() -> None:
    settings = load_settings(str(FOLDER / "settings.yaml"), {"HOME": "/nonexistent"}, ())
    handed = {value.partition(":")[0] for value in CONTROLLER.all("LoadCredential")}
    place = "/run/credentials/jtr-controller.service"

    assert settings.role is Role.CONTROLLER
    assert settings.vault.auth.method is AuthMethod.APPROLE
    assert {f"{place}/{name}" for name in handed} == {
        settings.vault.auth.secret_id_file,
        settings.controller.token_file,
    }
    assert not CONTROLLER.all("EnvironmentFile")


# ── the command lines ────────────────────────────────────────────────────────────────────────


class Service:
    """What systemd would give the service, below *home*: directories, credentials, a socket."""

    def __init__(self, home: Path) -> None:
        self.state = home / "state"
        self.credentials = home / PRIVATE / "credentials"
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.address = str(home / "notify")
        self.socket.bind(self.address)
        self.socket.settimeout(30)
        self.credentials.mkdir(parents=True)
        for name in CONTROLLER.get("StateDirectory").split():
            (self.state / name).mkdir(mode=0o700, parents=True)

    def environment(self, unit: Unit, settings: Path) -> dict[str, str]:
        """What a process of the unit finds, and nothing else."""
        found = unit.environment({"%S": str(self.state), "%d": str(self.credentials)})
        return found | {
            "JTR_SETTINGS": str(settings),
            "CREDENTIALS_DIRECTORY": str(self.credentials),
            "STATE_DIRECTORY": str(self.state / "jtr"),
            "NOTIFY_SOCKET": self.address,
            "WATCHDOG_USEC": str(int(unit.all("WatchdogSec")[0]) * 1_000_000)
            if unit.all("WatchdogSec")
            else "0",
        }

    def said(self, word: str) -> str:
        """Wait for a message with *word*."""
        while True:
            message = self.socket.recv(4096).decode()
            if word in message.splitlines():
                return message


def clean(command: list[str], environment: Mapping[str, str], documents: str = "") -> list[str]:
    """A command line of a unit, under `env -i` and without executable memory."""
    assert command[0] == "/opt/jtr/bin/jtr"
    arguments = [documents if word == "/srv/jtr/documents" else word for word in command[1:]]
    return [
        *("env", "-i", *(f"{name}={value}" for name, value in environment.items())),
        *(sys.executable, "-c", DENIED, str(BIN / "jtr"), *arguments),
    ]


@pytest.fixture
def denied() -> None:
    """Needs a kernel that can refuse executable memory."""
    pid = os.fork()
    if not pid:
        os._exit(ctypes.CDLL(None).prctl(PR_SET_MDWE, REFUSE_EXEC_GAIN, 0, 0, 0) != 0)
    if os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]):
        missing("this kernel cannot refuse executable memory (Linux 6.3)")


def page(address: str, path: str) -> tuple[int, bytes]:
    """Ask the service for a page."""
    with urllib.request.urlopen(f"{address}{path}", timeout=10) as answer:
        return answer.status, answer.read()


@pytest.mark.usefixtures("denied")
def test_the_service_starts_keeps_and_stops(rig: Rig, tmp_path: Path) -> None:
    service = Service(tmp_path)
    server = rig.server()
    rig.document("tokyo-1", "bybit")
    token = secrets.token_urlsafe(32)
    rig.watch.guard(token, "page token")
    (service.credentials / "page-token").write_text(token, "utf-8")
    (service.credentials / "init-token").write_text(rig.bao.root_token.reveal(), "utf-8")
    rig.settings(
        vault={
            "address": rig.bao.address,
            "auth": {"method": "token-file", "tokenFile": str(service.credentials / "init-token")},
        },
        role="controller",
        ledger=rig.reference("ledger"),
        fingerprintKey=f"{rig.reference('fingerprint')}#key",
        controller={
            "listen": "127.0.0.1:0",
            "tokenFile": str(service.credentials / "page-token"),
        },
    )

    environment = service.environment(INIT, rig.settings_file)
    with Running(clean(INIT.command(), environment), {}) as begun:
        assert begun.end() == 0, begun.text
    environment = service.environment(CONTROLLER, rig.settings_file)
    with Running(clean(CONTROLLER.command(), environment, str(rig.docs)), {}) as running:
        service.said("READY=1")
        address = json.loads(running.until("listening").splitlines()[0])["url"]
        assert page(address, "/healthz")[0] == 200
        service.said("STATUS=keeping")
        service.said("WATCHDOG=1")
        running.until('"pass healthy"')
        assert page(address, "/readyz")[0] == 200
        running.send(signal.SIGHUP)
        running.until('"actions": 0')
        running.send(signal.SIGTERM)
        service.said("STOPPING=1")
        assert running.end() == 0, running.text
        rig.watch.search("what the service logged", running.text)

    assert server.record.saves == 1
    assert all(json.loads(line) for line in running.text.splitlines())
    assert (service.state / "jtr" / "controller.json").exists()
    assert list((service.state / "jtr-host").rglob("*"))
    service.socket.close()
