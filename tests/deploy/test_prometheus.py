"""
A Prometheus that scrapes two controllers of ours with the alerts of deploy/, and what rings.

The rules are those of the file, with their waits made short; `test_monitoring.py` has the waits.
"""

import json
import re
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import yaml

from tests.deploy.ports import free_ports
from tests.deploy.tools import DEPLOY, tool
from tests.e2e.test_controller import controller
from tests.house.pages import blocks, page
from tests.support.durations import BRISK
from tests.support.processes import Running, until
from tests.support.rig import Rig

pytestmark = [pytest.mark.long, pytest.mark.silence]


class Prometheus:
    """What one says that rings."""

    def __init__(self, port: int) -> None:
        self._url = f"http://127.0.0.1:{port}/api/v1"

    def asked(self, path: str) -> dict[str, object]:
        """An answer of its API."""
        with urllib.request.urlopen(f"{self._url}/{path}", timeout=20) as answer:
            data: dict[str, object] = json.load(answer)["data"]
            return data

    def ringing(self) -> set[tuple[str, str]]:
        """The names of all alerts that fire, each with what it is about."""
        query = urllib.parse.quote('ALERTS{alertstate="firing"}')
        rows = self.asked(f"query?query={query}")["result"]
        assert isinstance(rows, list)
        labels = [row["metric"] for row in rows]
        return {
            (one["alertname"], one.get("server") or one.get("instance") or "") for one in labels
        }

    def rings(self, *alerts: tuple[str, str]) -> None:
        """Wait until all of *alerts* fire."""
        with self._told():
            until(lambda: set(alerts) <= self.ringing())

    def is_silent(self, *names: str) -> None:
        """Wait until nothing of these names fires."""
        with self._told():
            until(lambda: not {name for name, _ in self.ringing()} & set(names))

    @contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except AssertionError as error:
            error.add_note(f"it rings: {sorted(self.ringing())}")
            raise


@contextmanager
def prometheus(folder: Path, targets: list[str]) -> Iterator[Prometheus]:
    """Run one with the page's configuration, made quick."""
    (text,) = blocks(page("docs/setup-controller.md"), "prometheus")
    config = yaml.safe_load(text)
    config["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
    config["scrape_configs"][0]["static_configs"][0]["targets"] = targets
    (folder / "prometheus.yaml").write_text(yaml.safe_dump(config), "utf-8")
    rules = (DEPLOY / "prometheus" / "alerts.yaml").read_text("utf-8")
    (folder / "alerts.yaml").write_text(re.sub(r"\bfor: \S+", "for: 1s", rules), "utf-8")
    (port,) = free_ports(1)
    command = [
        tool("prometheus"),
        f"--config.file={folder / 'prometheus.yaml'}",
        f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address=127.0.0.1:{port}",
    ]
    with Running(command, {}) as running:
        running.until("Server is ready to receive web requests")
        yield Prometheus(port)
        running.process.terminate()
        running.end()


def test_what_happens_rings_and_what_is_over_does_not(rig: Rig, tmp_path: Path) -> None:
    server = rig.server()
    rig.document()
    # Quick, but no lease may run out because this machine is busy.
    patient = {"lease": "30s", "secretsRequest": "10s", "secretsTotal": "20s"}
    rig.settings(**rig.ledger("vault"), durations=BRISK | patient)
    rig.begin()
    ports = free_ports(2)
    a, b = (f"127.0.0.1:{port}" for port in ports)
    with (
        controller(rig, "--listen", a) as first,
        controller(rig, "--listen", b) as second,
        prometheus(tmp_path, [a, b]) as watcher,
    ):
        watcher.rings(("JtrWatchdog", ""))
        watcher.is_silent("JtrControllerDown", "JtrControllerMissing", "JtrServerUnreachable")
        assert {name for name, _ in watcher.ringing()} <= {"JtrWatchdog", "JtrNotReady"}
        # Robots that somebody stops, drift, a server that is gone, documents that are broken.
        server.behaviour.silent |= {"exchange-config-request"}
        watcher.rings(("JtrServerUnreachable", "tokyo-1"))
        server.behaviour.silent -= {"exchange-config-request"}
        watcher.is_silent("JtrServerUnreachable")
        good = (rig.docs / "tokyo-1.yaml").read_text("utf-8")
        rig.write("tokyo-1.yaml", good.replace("kind: ", "kinds: "))
        watcher.rings(("JtrDocumentsInvalid", a), ("JtrDocumentsInvalid", b))
        rig.write("tokyo-1.yaml", good)
        watcher.is_silent("JtrDocumentsInvalid")
        # One of two is gone, then both.
        second.stop()
        watcher.rings(("JtrControllerMissing", b), ("JtrWatchdog", ""))
        assert ("JtrControllerDown", "") not in watcher.ringing()
        first.stop()
        watcher.rings(("JtrControllerDown", ""))
        watcher.is_silent("JtrControllerMissing", "JtrWatchdog")
