"""What systemd is told, by a socket that plays its part."""

import socket
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from reconciler.system.systemd import ALIVE, Systemd
from tests.support.processes import PATIENCE


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[socket.socket]:
    """The manager's end; its queue holds few messages."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as end:
        end.bind(str(tmp_path / "notify"))
        end.settimeout(PATIENCE)
        yield end


def filled(address: str) -> None:
    """Send signs of life until the queue takes no more."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as other, suppress(BlockingIOError):
        other.setblocking(False)
        other.connect(address)
        while True:
            other.send(ALIVE.encode())


def test_a_busy_manager_is_waited_for_with_what_is_said_once(manager: socket.socket) -> None:
    address = manager.getsockname()
    systemd = Systemd({"NOTIFY_SOCKET": address}, patience=PATIENCE)
    filled(address)
    heard: list[bytes] = []

    def read() -> None:
        while b"STOPPING=1" not in heard:
            heard.append(manager.recv(4096))

    reader = threading.Timer(0.2, read)  # who does not wait has given up by then
    reader.start()
    systemd.tell("STOPPING=1")
    reader.join(2 * PATIENCE)

    assert heard[-1] == b"STOPPING=1"
    assert set(heard[:-1]) == {ALIVE.encode()}


def test_a_sign_of_life_waits_for_nobody(manager: socket.socket) -> None:
    address = manager.getsockname()
    systemd = Systemd({"NOTIFY_SOCKET": address}, patience=float("inf"))
    filled(address)

    systemd.tell(ALIVE)  # would wait for ever


@pytest.mark.parametrize("address", ["", "relative", "/nowhere/notify", "@nobody"])
def test_without_a_manager_nothing_is_said(address: str) -> None:
    Systemd({"NOTIFY_SOCKET": address}).tell("READY=1")
