"""`jtr controller` as a process of its own: what it says, serves, refuses, and how it ends."""

import json
import os
import platform
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.support.durations import BRISK
from tests.support.leaks import PRIVATE
from tests.support.processes import PATIENCE, until
from tests.support.rig import Rig

ROOT = Path(__file__).parents[2]


class Running:
    """A controller that runs; its log is read from a file."""

    def __init__(self, rig: Rig, *args: str, **environment: str) -> None:
        self.rig = rig
        self.log = rig.home / "controller.log"
        with self.log.open("wb") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "reconciler", "controller", *self.documents(), *args],
                env={"PATH": os.defpath, **rig.environment, **environment},
                cwd=ROOT,
                stderr=output,
                stdout=output,
            )

    def documents(self) -> list[str]:
        return [str(self.rig.docs)]

    def lines(self) -> list[dict[str, Any]]:
        """Everything that was logged so far; each line is one JSON object."""
        return [json.loads(line) for line in self.log.read_text().splitlines()]

    def until(self, message: str, within: float = PATIENCE) -> dict[str, Any]:
        """Wait for a line with this message."""
        end = time.monotonic() + within
        while time.monotonic() < end:
            for line in self.lines():
                if line["message"].startswith(message):
                    return line
            assert self.process.poll() is None, self.log.read_text()
            time.sleep(0.02)
        raise AssertionError(f"never logged {message!r}: {self.log.read_text()[-2000:]}")

    @property
    def url(self) -> str:
        """Where it listens."""
        return str(self.until("listening")["url"])

    def get(self, path: str, token: str = "") -> tuple[int, str]:
        """Ask for a page."""
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        request = urllib.request.Request(self.url + path, headers=headers)
        try:
            with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Send a signal and wait for the end."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        # Its own deadline is a few seconds, and its code says whether that had to end it.
        code = self.process.wait(PATIENCE)
        self.rig.watch.search("the controller's log", self.log.read_text())
        return code


@contextmanager
def controller(rig: Rig, *args: str, **environment: str) -> Iterator[Running]:
    """Run one until the block ends."""
    running = Running(rig, "--listen", "127.0.0.1:0", *args, **environment)
    try:
        yield running
    finally:
        running.stop()


@pytest.fixture
def kept(rig: Rig) -> Rig:
    """One server, its document, and a ledger."""
    rig.server()
    rig.document()
    rig.settings(soleWriter=True, durations=BRISK)
    rig.begin()
    return rig


def test_it_keeps_a_server_and_serves_its_pages(kept: Rig) -> None:
    with controller(kept) as running:
        done = running.until("write bybit")
        ended = running.until("pass healthy")
        alive, ready = running.get("/healthz"), running.get("/readyz")
        metrics = running.get("/metrics")[1]
        status = json.loads(running.get("/v1/status")[1])
        assert running.stop() == 0

    assert (done["server"], done["result"], done["level"]) == ("tokyo-1", "done", "info")
    assert (ended["sync"], ended["health"]) == ("synced", "healthy")
    assert (alive[0], ready[0]) == (200, 200)
    assert 'jtr_server_sync{server="tokyo-1",status="synced"} 1.0' in metrics
    assert 'jtr_applies_total{result="done"} 1.0' in metrics
    assert [server["server"] for server in status["servers"]] == ["tokyo-1"]
    assert kept.servers["tokyo-1"].record.saves == 1


def test_a_controller_that_cannot_ask_holds_a_new_server_until_somebody_agreed(kept: Rig) -> None:
    kept.settings(soleWriter=True, durations=BRISK, policy=None)
    record = kept.servers["tokyo-1"].record
    with controller(kept) as running:
        running.until("pass")
        (held,) = json.loads(running.get("/v1/status")[1])["servers"]
        before = len(record.handshakes)
        agreed = kept.apply("--approve-recipient", "tokyo-1")
        running.until("pass healthy")
        assert running.stop() == 0

    assert before == 0
    assert "nobody agreed yet" in json.dumps(held)
    assert agreed.code == 0
    assert record.saves == 1


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc's arenas are meant")
@pytest.mark.parametrize(
    ("environment", "least", "most"), [({}, 0, 1), ({"MALLOC_ARENA_MAX": "8"}, 2, 7)]
)
def test_its_threads_share_two_arenas_unless_told_otherwise(
    kept: Rig, environment: dict[str, str], least: int, most: int
) -> None:
    with controller(kept, **environment) as running:
        running.until("pass healthy")
        assert least <= arenas(running.process.pid) <= most


def arenas(pid: int) -> int:
    """Count glibc's arenas besides the main one: whole 64 MiB, reserved at a multiple of them."""
    size = 64 << 20
    ends: dict[int, int] = {}
    for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
        spans, _, rest = line.partition(" ")
        begin, end = (int(one, 16) for one in spans.split("-"))
        if rest.split()[3] == "0":  # of no file
            ends[begin] = end
    found = 0
    for begin in ends:
        end = begin
        while begin % size == 0 and end in ends and end < begin + size:
            end = ends[end]
        found += begin % size == 0 and end == begin + size
    return found


def test_it_says_ready_and_stopping_to_systemd(kept: Rig) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        path = str(kept.home / "notify")
        manager.bind(path)
        manager.settimeout(PATIENCE)
        environment = {"NOTIFY_SOCKET": path, "WATCHDOG_USEC": "3000000"}
        heard: list[str] = []

        def read() -> None:
            while "STOPPING=1" not in heard:
                heard.extend(manager.recv(4096).decode().splitlines())

        with controller(kept, **environment) as running, ThreadPoolExecutor(1) as pool:
            reading = pool.submit(read)
            until(lambda: {"READY=1", "WATCHDOG=1"} <= set(heard))
            running.until("pass healthy")
            assert not reading.done()
            running.process.send_signal(signal.SIGTERM)
            reading.result(PATIENCE)


def test_hangup_looks_at_everything_now(kept: Rig) -> None:
    slow = BRISK | {"interval": "10m", "rescan": "10m"}
    kept.settings(soleWriter=True, durations=slow)
    with controller(kept) as running:
        running.until("pass healthy")
        fields = kept.rotate()
        running.process.send_signal(signal.SIGHUP)
        end = time.monotonic() + PATIENCE
        while kept.servers["tokyo-1"].values()["bybit_api_key"] != fields["apiKey"]:
            assert time.monotonic() < end, running.log.read_text()
            time.sleep(0.02)


@pytest.mark.parametrize(
    ("args", "environment", "code", "word"),
    [
        (("/nowhere",), {}, 64, "no such file or directory: /nowhere"),
        (("--listen", "here"), {}, 64, "is no address to listen on"),
        (("--listen", "0.0.0.0:0"), {}, 64, "write controller.tokenFile"),
        ((), {"XDG_STATE_HOME": "/dev/null"}, 1, "cannot write its state file"),
        ((), {"VAULT_ADDR": ""}, 64, "no Vault is named"),
    ],
    ids=["no path", "no address", "open to all", "no ledger", "no Vault"],
)
def test_what_it_refuses_at_once(
    kept: Rig, args: tuple[str, ...], environment: dict[str, str], code: int, word: str
) -> None:
    running = Running(
        kept, *(("--listen", "127.0.0.1:0") if not args else ()), *args, **environment
    )

    assert running.process.wait(PATIENCE) == code
    text = running.log.read_text()
    assert word in text, text
    assert "Traceback" not in text


BROKEN = {
    "bad cron": ('schedule: "61 * * * *"', "schedule"),
    "unknown zone": ("timeZone: Mars/Olympus", "no such time zone"),
    "not YAML": ("schedule: [", "line"),
}


@pytest.mark.parametrize("what", list(BROKEN))
def test_documents_that_are_invalid_at_the_start_stop_it(kept: Rig, what: str) -> None:
    window = {"kind": "allow", "schedule": "0 2 * * *", "duration": "2h", "timeZone": "UTC"}
    file = kept.document("tokyo-1", "bybit", rotate=False, windows=[window])
    text, word = BROKEN[what]
    lines = file.read_text().splitlines()
    key = text.partition(":")[0]
    broken = [
        line.partition(key)[0] + text if line.strip(" -").startswith(f"{key}:") else line
        for line in lines
    ]
    file.write_text("\n".join(broken) + "\n")

    running = Running(kept, "--listen", "127.0.0.1:0")

    assert running.process.wait(PATIENCE) == 3
    said = running.log.read_text()
    assert re.search(r"tokyo-1\.yaml:\d+:\d+: ", said), said
    assert word in said or what == "not YAML"


def test_a_port_in_use_is_named(kept: Rig) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        running = Running(kept, "--listen", f"127.0.0.1:{port}")
        assert running.process.wait(PATIENCE) == 64

    said = running.log.read_text()
    assert f"cannot listen on 127.0.0.1:{port}" in said
    assert "--listen" in said


def test_a_full_disk_below_the_state_file_is_said_and_everything_goes_on(kept: Rig) -> None:
    folder = kept.home / "own"
    kept.settings(
        soleWriter=True, durations=BRISK, controller={"state": str(folder / "controller.json")}
    )
    with controller(kept) as running:
        running.until("pass healthy")
        # As root no right of a directory stops anybody; it writes there all the time.
        folder.rename(kept.home / "gone")
        folder.write_text("")
        kept.rotate()
        running.until("the controller cannot write its state file")
        running.until("write bybit")
        status = json.loads(running.get("/v1/status")[1])
        assert "state file" in status["controller"]["state"]
        assert running.get("/healthz")[0] == 200
        assert running.stop() == 0


def test_messages_that_were_given_up_are_counted_from_none(kept: Rig) -> None:
    """A counter that begins with 1 has no increase: the first message would be missed."""
    key = kept.home / PRIVATE / "webhook-key"
    key.write_text(kept.watch.secret("base62"))
    key.chmod(0o600)
    pager = {"kind": "webhook", "name": "pager", "url": "http://127.0.0.1:1/", "topics": ["harm"]}
    pager["secretFile"] = str(key)
    kept.settings(soleWriter=True, durations=BRISK, notifications=[pager])
    with controller(kept) as running:
        running.until("pass healthy")
        metrics = running.get("/metrics")[1]

    assert 'jtr_notifications_total{result="dropped",target="pager"} 0.0' in metrics


def test_check_asks_whether_it_is_alive(kept: Rig) -> None:
    with controller(kept) as running:
        listen = running.url.removeprefix("http://")
        alive = kept.process("controller", "--check", "--listen", listen)
    dead = kept.process("controller", "--check", "--listen", listen)

    assert (alive.code, dead.code) == (0, 1)
