"""
The workers of all servers of the documents in force.
"""

import asyncio
import logging
from collections.abc import Collection, Mapping
from contextlib import suppress
from typing import Final

from reconciler.controller import requeue
from reconciler.controller.requeue import QueueState
from reconciler.controller.shared import SharedState
from reconciler.controller.worker import ServerWorker
from reconciler.errors import UsageError
from reconciler.model.desired import DesiredServer, DesiredState
from reconciler.model.observed import LogEntry
from reconciler.model.references import SecretPath

LOG: Final = logging.getLogger("reconciler.controller")


class Workers:
    """Begins, wakes and ends workers.  Event loop only."""

    def __init__(self, shared: SharedState, recorded: Mapping[str, QueueState]) -> None:
        """Use *recorded* timings of an earlier run for servers that are still declared."""
        self._shared: Final = shared
        self._recorded: Final = dict(recorded)
        self._workers: dict[str, ServerWorker] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._leaving: set[asyncio.Task[None]] = set()
        self._broken = ""

    def declare(self, state: DesiredState, revision: str) -> None:
        """Put documents into force: new servers get a worker, those that are gone lose theirs."""
        self._shared.declare(state, revision)
        wanted = {server.name: server for server in state.servers}
        for name in self._workers.keys() - wanted:
            self._drop(name)
        for name, server in wanted.items():
            worker = self._workers.get(name)
            if worker is None:
                self._begin(server, revision)
            else:
                worker.declare(server)
        self._shared.dirty()

    def _begin(self, server: DesiredServer, revision: str) -> None:
        shared = self._shared
        now = shared.seconds()
        timing = self._recorded.pop(server.name, None)
        if timing is None:
            timing = QueueState(due=now)
        else:
            timing = requeue.resumed(timing, now, shared.context.timeouts, shared.luck)
        worker = ServerWorker(shared, server, timing)
        if timing.revision != revision:
            worker.wake()
        self._workers[server.name] = worker
        task = asyncio.create_task(worker.run(), name=f"worker {server.name}")
        task.add_done_callback(self._ended)
        self._tasks[server.name] = task

    def _drop(self, name: str) -> None:
        self._workers.pop(name).retire()
        self._leaving.add(self._tasks.pop(name))
        self._shared.status_store.servers.pop(name, None)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._leaving.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            # A mistake of ours must not leave a server without a worker, nor in silence.
            LOG.error("a worker failed: %s", type(error).__name__, exc_info=error)
            self._broken = f"{task.get_name()} failed ({type(error).__name__})"

    # ── waking ───────────────────────────────────────────────────────────────────────────────

    def wake(self) -> None:
        """Look at every server now."""
        for worker in self._workers.values():
            worker.wake()

    def wake_for(self, secrets: Collection[SecretPath]) -> None:
        """Look at the servers that use any of these secrets."""
        chosen = set(secrets)
        for worker in self._workers.values():
            if chosen & uses(worker.desired):
                worker.wake()

    def wake_failed(self) -> None:
        """Try again where the last pass failed: what they all lacked is back."""
        for worker in self._workers.values():
            if worker.timing.failures:
                worker.wake()

    def nudge(self) -> None:
        """Let every worker see that we may act now, or must stop."""
        for worker in self._workers.values():
            worker.nudge()

    # ── asking ───────────────────────────────────────────────────────────────────────────────

    def timings(self) -> dict[str, QueueState]:
        """Return what is to be remembered of every server, those not begun yet among them."""
        return self._recorded | {name: worker.timing for name, worker in self._workers.items()}

    def stuck(self) -> str:
        """Name a server whose pass does not end, or that lost its worker; empty for none."""
        return self._broken or next(
            (name for name, worker in self._workers.items() if worker.stuck), ""
        )

    async def entries(self, name: str) -> tuple[LogEntry, ...] | None:
        """Read a server's system log.  Raises UsageError for an unknown name, and JtrErrors."""
        worker = self._workers.get(name)
        if worker is None:
            raise UsageError(f"no server is called {name}", "see: jtr status")
        return await worker.entries()

    # ── ending ───────────────────────────────────────────────────────────────────────────────

    async def stop(self, grace: float) -> bool:
        """
        Let passes that are under way end, then cut off the rest; whether all ended by themselves.

        What was cut off stays recorded as an intent: nothing is sent without one.
        """
        tasks = {*self._tasks.values(), *self._leaving}
        self.nudge()
        if not tasks:
            return True
        _, late = await asyncio.wait(tasks, timeout=grace)
        for task in late:
            task.cancel()
        if late:
            with suppress(TimeoutError):
                await asyncio.wait(late, timeout=1.0)
        return not late


def uses(server: DesiredServer) -> set[SecretPath]:
    """Return the secrets of a server's exchanges whose newest version is wanted."""
    return {
        ref.at
        for exchange in server.exchanges
        for ref in exchange.references
        if ref.version is None
    }
