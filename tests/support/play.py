"""
A rig on the sandbox itself: the servers, OpenBao, documents, policy and settings of `jtr sandbox`.

What `jtr sandbox` hands to a person, `reconciler.sandbox.playground`, is started in this process,
so that a test can make trouble in it; nothing that it wrote is replaced, only added to.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from reconciler.sandbox.exchanges.server import GOOD
from reconciler.sandbox.jt_trader.server import Behaviour, StandInThread
from reconciler.sandbox.playground import DECLARED, SERVER, Playground
from tests.support.leaks import Watch
from tests.support.rig import Rig


@contextmanager
def playing(home: Path, watch: Watch, monkeypatch: pytest.MonkeyPatch) -> Iterator["Play"]:
    """Enter a sandbox below *home*, with somebody whose home that is."""
    ground = Playground(
        home / "jtr-play",
        behaviour=Behaviour(ping_interval=0.1, ping_timeout=0.6),
        tell=watch.guard,
    )
    with ground, Play(ground, home, watch, monkeypatch) as play:
        yield play


class Play(Rig):
    """See the module; enter it by `playing`.  It has one server, `tokyo-1`, as it came."""

    def __init__(
        self, ground: Playground, home: Path, watch: Watch, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        self.ground = ground
        super().__init__(home, ground.bao, watch, monkeypatch)
        self.docs.rmdir()
        self.docs = ground.documents
        self.settings_file = ground.settings
        self.servers = {SERVER: ground.server}
        self.environment = {"HOME": str(home)} | ground.environment()

    def settings(self, **changes: Any) -> None:
        """The sandbox's settings, and these; of `durations` and `controller` key by key."""
        self.ground.write_settings()
        found: dict[str, Any] = yaml.safe_load(self.ground.settings.read_text("utf-8"))
        found["durations"] |= changes.pop("durations", {})
        self.ground.settings.write_text(yaml.safe_dump(found | changes), "utf-8")

    def path(self, name: str) -> str:
        return f"jt/{name}"

    def server(self, name: str = SERVER, **options: Any) -> StandInThread:
        """The sandbox's own server."""
        assert (name, options) == (SERVER, {})
        return self.ground.server

    def document(
        self, name: str = SERVER, *exchanges: str, rotate: bool = False, **spec: Any
    ) -> Path:
        """The sandbox's document, with these keys besides in its `spec`."""
        assert (name, exchanges, rotate) == (SERVER, (), False)
        self.ground.declare(*DECLARED)
        path = self.docs / f"{SERVER}.yaml"
        found = yaml.safe_load(path.read_text("utf-8"))
        found["spec"] |= spec
        path.write_text(yaml.safe_dump(found, sort_keys=False), "utf-8")
        return path

    def rotate(
        self, server: str = SERVER, exchange: str = "bybit", shape: str = "base62", **kept: str
    ) -> dict[str, str]:
        """Make a key at the exchange, and put it into Vault."""
        fields = super().rotate(server, exchange, shape, **kept)
        self.ground.exchanges[exchange].know(fields, GOOD)
        return fields
