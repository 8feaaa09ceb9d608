"""
A controller in this process and on this event loop, for tests: its parts real but for the pages.
"""

import asyncio
import logging
import os
from collections import Counter
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

from reconciler import bootstrap
from reconciler.bootstrap import load_settings
from reconciler.controller.controller import Controller
from reconciler.controller.dependencies import Dependencies
from reconciler.controller.state_file import StateFile
from reconciler.controller.status import ControllerStatus, ServerStatus
from reconciler.controller.status_store import StatusStore
from reconciler.controller.watched_files import WatchedFiles
from reconciler.errors import SecretsError
from reconciler.model.conditions import Condition
from reconciler.model.references import SecretPath
from reconciler.model.secret import VersionInfo
from reconciler.model.values import replace
from reconciler.notifications.events import News, Topic
from reconciler.secrets import SecretBackend
from reconciler.secrets.vault.backend import VaultBackend
from reconciler.system.systemd import Systemd
from reconciler.system.timeouts import Timeouts
from tests.support.rig import Rig

PATIENCE = 60.0  # seconds that a test waits for something that takes milliseconds, fifty times


class Ear:
    """A notifier that only remembers."""

    def __init__(self) -> None:
        self.heard: list[News] = []

    def tell(self, news: Iterable[News]) -> None:
        """Remember what is not well."""
        self.heard += [one for one in news if one.state]

    def keep(self, servers: Collection[str]) -> None:
        """Nothing."""

    def memory(self) -> Mapping[str, Any]:
        """Nothing."""
        return {}

    async def close(self, grace: float) -> None:
        """Nothing."""


class Quiet:
    """Pages that nobody reads."""

    async def start(self) -> None:
        """Nothing."""

    async def stop(self) -> None:
        """Nothing."""


class Harness:
    """A running controller and what tests want of it."""

    def __init__(self, rig: Rig, *, quiet: Condition | None = None, polling: bool = False) -> None:
        for key, value in rig.environment.items():
            os.environ[key] = value
        self.rig = rig
        self.settings = load_settings(None, rig.environment, [])
        self.status_store = StatusStore(
            ControllerStatus("test", "controller test", "now", waiting="began")
        )
        self.ear = Ear()
        self.ended: Counter[str] = Counter()
        self.left: list[int] = []
        self.sweeps = 0
        self._backend: VaultBackend | None = None
        timeouts = self.settings.timeouts
        self.dependencies = Dependencies(
            lambda: WatchedFiles((str(rig.docs),), timeouts, polling=polling),
            timeouts,
            self.status_store,
            StateFile(Path(rig.home) / "state" / "controller.json"),
            self._context,
            self._sweep,
            site=lambda _controller: Quiet(),
            notifier=self._notifier,
            quiet=quiet,
            systemd=Systemd({}),
            leave=self.left.append,
        )
        self.controller: Controller | None = None

    def _context(self) -> Any:
        return bootstrap.prepared(
            self.settings,
            "controller",
            parallelism=4,
            writes=True,
            reading=self._before,
            lasting=True,
        )

    def _before(self, backend: VaultBackend) -> SecretBackend:
        self._backend = backend
        return backend

    async def _sweep(
        self, paths: Collection[SecretPath]
    ) -> Mapping[SecretPath, VersionInfo | SecretsError]:
        assert self._backend is not None
        self.sweeps += 1
        found: dict[SecretPath, VersionInfo | SecretsError] = {}
        for path in paths:
            try:
                found[path] = await self._backend.describe(path)
            except SecretsError as error:
                found[path] = error
        return found

    async def _notifier(self, told: Mapping[str, Any], changed: Callable[[], None]) -> Ear:
        del told, changed
        return self.ear

    @asynccontextmanager
    async def running(self) -> AsyncIterator["Harness"]:
        """Run the controller until the block ends; whatever it raises is raised."""
        self.controller = Controller(self.dependencies)
        log = logging.getLogger("reconciler.controller")
        log.addFilter(self._count)
        log.setLevel(logging.DEBUG)  # or passes over what did not move are not counted
        task = asyncio.create_task(self.controller.run())
        try:
            yield self
        finally:
            if not task.done():
                self.controller.stop()
            async with asyncio.timeout(PATIENCE):
                self.code = await task
            self.controller.calm()
            log.removeFilter(self._count)
            log.setLevel(logging.NOTSET)

    def _count(self, record: logging.LogRecord) -> bool:
        """Count ended passes by the one line that each of them logs."""
        if record.msg.startswith("pass "):
            self.ended[record.fields["server"]] += 1  # type: ignore[attr-defined]
        return True

    def looking(self, name: str) -> bool:
        """Whether a pass over a server is under way."""
        workers = self.controller._workers if self.controller is not None else None
        return workers is not None and any(
            worker.desired.name == name and worker._progress.under_way
            for worker in workers._workers.values()
        )

    def status(self, name: str = "tokyo-1") -> ServerStatus:
        """Return a server's newest status."""
        return self.status_store.servers[name]

    async def until(self, holds: Callable[[], bool], what: str = "") -> None:
        """Wait until something holds."""
        try:
            async with asyncio.timeout(PATIENCE):
                while True:
                    with suppress(KeyError):  # a server that was not looked at yet
                        if holds():
                            return
                    await asyncio.sleep(0.005)
        except TimeoutError:
            raise AssertionError(
                f"never: {what}; {self.status_store.controller}; {self.status_store.servers}"
            ) from None

    async def passed(self, name: str = "tokyo-1", *, times: int = 1) -> None:
        """Wait until so many whole passes over a server began and ended from now on."""
        for _ in range(times + 1):  # the first one may have begun already
            before = self.ended.get(name, 0)
            await self.until(lambda before=before: self.ended.get(name, 0) > before, "a pass")  # type: ignore[misc]

    async def heard(self, topic: Topic) -> None:
        """Wait until people were told of something."""
        await self.until(lambda: any(one.topic is topic for one in self.ear.heard), str(topic))


def timeouts(**changes: float) -> Timeouts:
    """Short ones."""
    return replace(Timeouts().scaled(50), **changes)
