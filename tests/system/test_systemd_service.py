"""What starts a command beside a service; `deploy/test_booted.py` has systemd itself do it."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from reconciler.errors import Exit, JtrError, UsageError
from reconciler.system.systemd_service import NoService, Service, find, run_beside
from tests.deploy.tools import DEPLOY
from tests.deploy.unit import Unit

FILE = Unit(DEPLOY / "systemd" / "jtr-controller.service")
HANDED = "/run/credentials/{}.service"
STATE = {"%S": "/var/lib"}


def shipped(**changes: Any) -> Service:
    """Our unit as D-Bus tells of it."""
    environment = [f"{name}={value}" for name, value in FILE.environment(STATE).items()]
    properties = {
        "User": FILE.get("User"),
        "Group": "",
        "DynamicUser": True,
        "StateDirectory": FILE.get("StateDirectory").split(),
        "StateDirectoryMode": 0o700,
        "WorkingDirectory": "/var/lib/jtr",
        "SupplementaryGroups": [],
        "UMask": 0o077,
        "PrivateUsers": True,
        "PrivateTmp": True,
        "PrivateDevices": True,
        "ProtectHome": "yes",
        "ProtectSystem": "strict",
        "NoNewPrivileges": True,
        "Environment": environment,
        "EnvironmentFiles": [["/etc/jtr/more", True]],
        "LoadCredential": [one.split(":") for one in FILE.all("LoadCredential")],
        "ExecStart": [[FILE.command()[0], FILE.command()]],
    }
    return Service("jtr-controller.service", properties | changes)


def test_it_is_the_same_user_in_the_same_places_with_the_same_credentials() -> None:
    words = shipped().beside(["status", "--wide"], "jtr-command-7.service", terminal=False)

    assert words[-3:] == ["/opt/jtr/bin/jtr", "status", "--wide"]
    for one in (
        "--pipe",
        "--property=User=jtr",
        "--property=DynamicUser=yes",
        "--property=StateDirectory=jtr jtr-host",
        "--property=StateDirectoryMode=700",
        "--property=UMask=77",
        "--setenv=XDG_CONFIG_HOME=/var/lib/jtr-host",
        "--setenv=JTR_SETTINGS=/etc/jtr/settings.yaml",
        "--property=EnvironmentFile=-/etc/jtr/more",
        "--property=LoadCredential=page-token:/etc/jtr/credentials/page-token",
        f"--property=BindReadOnlyPaths={HANDED.format('jtr-command-7')}:{HANDED.format('jtr-controller')}",
    ):
        assert one in words
    assert not [word for word in words if word.startswith("--property=Group")]


def test_on_a_terminal_it_is_one() -> None:
    assert "--pty" in shipped().beside(["apply"], "x.service", terminal=True)


@pytest.mark.parametrize("name", ["VAULT_TOKEN", "BAO_TOKEN"])
def test_no_token_becomes_an_argument(name: str) -> None:
    service = shipped(Environment=["LANG=C.UTF-8", f"{name}=not-a-real-one"])

    with pytest.raises(UsageError, match=name) as caught:
        service.beside(["status"], "x.service", terminal=False)

    assert "not-a-real-one" not in str(caught.value)


def test_where_nobody_can_tell_it_says_what_to_do(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))

    with pytest.raises(NoService, match="kubectl exec"):
        find("jtr-controller")


@pytest.fixture
def ended(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[int], int]:
    """Run a command beside the service where systemd-run ends with a code."""

    def run(code: int) -> int:
        program = tmp_path / "systemd-run"
        program.write_text(f"#!/bin/sh\nexit {code}\n", "utf-8")
        program.chmod(0o700)
        monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
        return run_beside(shipped(), ["apply"], terminal=False)

    return run


@pytest.mark.parametrize("code", list(Exit), ids=str)
def test_it_ends_as_the_command_ended(ended: Callable[[int], int], code: Exit) -> None:
    assert ended(code) == code


@pytest.mark.parametrize("code", [200, 203, 217, 243, 245, 254])
def test_what_was_not_started_is_called_that(ended: Callable[[int], int], code: int) -> None:
    with pytest.raises(UsageError, match="could not start it") as caught:
        ended(code)

    assert caught.value.exit_code is Exit.USAGE


def test_what_was_killed_may_have_sent_something(ended: Callable[[int], int]) -> None:
    """255 is what systemd-run makes of a signal: it says nothing of a start."""
    with pytest.raises(JtrError, match="killed") as caught:
        ended(255)

    assert caught.value.exit_code is Exit.ERROR
    for word in ("in doubt", "jtr status", "jtr request list"):
        assert word in str(caught.value)
    assert "start" not in str(caught.value)
