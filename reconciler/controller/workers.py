"""
The workers of all servers of the documents in force.
"""

import asyncio
import logging
import math
from collections.abc import Collection, Iterator, Mapping
from contextlib import suppress
from typing import Any, Final

from reconciler.controller import conditions, requeue
from reconciler.controller.requeue import QueueState
from reconciler.controller.shared import SharedState, uses
from reconciler.controller.state_file import State
from reconciler.controller.worker import ServerWorker
from reconciler.errors import UsageError
from reconciler.model.desired import DesiredServer, DesiredState
from reconciler.model.observed import LogEntry
from reconciler.model.origin import NO_ORIGIN, Origin
from reconciler.model.references import SecretPath
from reconciler.model.target import Target

LOG: Final = logging.getLogger("reconciler.controller")
LATE: Final = 300.0  # seconds; a server that hangs ends its pass sooner, and others go on beside it


class Workers:
    """Begins, wakes and ends workers.  Event loop only."""

    def __init__(self, shared: SharedState, recorded: State) -> None:
        """Use *recorded* timings of an earlier run for servers that are still declared."""
        self._shared: Final = shared
        self._recorded: Final = dict(recorded.servers)
        self._named: Final = dict(recorded.named)
        self._workers: dict[Target, ServerWorker] = {}
        self._tasks: dict[Target, asyncio.Task[None]] = {}  # of those that are leaving as well
        self._fallen: dict[ServerWorker, tuple[int, str]] = {}

    def declare(
        self, state: DesiredState, revision: str, meaning: str = "", origin: Origin = NO_ORIGIN
    ) -> None:
        """
        Put documents into force: new servers get a worker, those that are gone lose theirs.

        A server is known by its target: a renamed one keeps its worker, and one that comes back
        before its worker has left keeps it, too.  Never are there two.
        """
        self._shared.declare(state, revision, meaning, origin)
        statuses = self._shared.status_store.servers
        wanted = self._shared.in_force
        for target, server in wanted.items():
            if (timing := self._named.pop(server.name, None)) is not None:
                self._recorded.setdefault(target, timing)
        self._named.clear()  # who gets such a name later is another server
        # One that was left before shows nothing: its name may be another server's by now.
        known = {
            target: statuses.pop(worker.desired.name, None)
            for target, worker in self._workers.items()
            if not worker.retired
        }
        for target in self._workers.keys() - wanted.keys():
            self._workers[target].retire()
        for target, server in wanted.items():
            worker = self._workers.get(target)
            changed = worker is not None and server != worker.desired
            status = conditions.before_first(server, known.get(target), changed=changed)
            statuses[server.name] = status
            if worker is None:
                self._begin(server, revision)
            else:
                worker.declare(server)
        reports = self._shared.status_store.reports
        for name in reports.keys() - statuses.keys():
            del reports[name]
        self._shared.dirty()

    def _begin(self, server: DesiredServer, revision: str) -> None:
        shared = self._shared
        now = shared.seconds()
        timing = self._recorded.pop(server.target, None)
        if timing is None:
            timing = QueueState(due=now)
        else:
            timing = requeue.resumed(timing, now, shared.context.timeouts, shared.luck)
        worker = ServerWorker(shared, server, timing)
        if timing.revision != revision:
            worker.wake()
        self._workers[server.target] = worker
        self._tasks[server.target] = asyncio.create_task(
            self._kept(worker), name=f"worker {server.name}"
        )

    async def _kept(self, worker: ServerWorker) -> None:
        """Run a worker until it is dropped: a mistake of ours must leave no server alone."""
        task = asyncio.current_task()
        while True:
            failure: BaseException | None = None
            try:
                await worker.run()
            except asyncio.CancelledError as error:
                if task is None or task.cancelling():
                    raise
                failure = error  # of something that it waited for; nobody cancelled the worker
            except Exception as error:  # noqa: BLE001  - whatever it is
                failure = error
            if failure is None:
                if self._shared.stopping:
                    return
                if not worker.retired:
                    continue  # it came back while it was leaving
                self._fallen.pop(worker, None)
                target = worker.desired.target
                del self._workers[target], self._tasks[target]
                return
            why, name = type(failure).__name__, worker.desired.name
            fields = {"server": name}
            LOG.error("a worker failed: %s", why, exc_info=failure, extra={"fields": fields})
            self._fallen[worker] = worker.passes, f"{name}: its worker failed ({why})"
            await asyncio.sleep(self._shared.context.timeouts.backoff)

    # ── waking ───────────────────────────────────────────────────────────────────────────────

    def hasten(self) -> None:
        """Look at every server now; at one where nothing is open a glance is enough."""
        for worker in self._workers.values():
            worker.hasten()

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

    @property
    def _present(self) -> Iterator[ServerWorker]:
        return (worker for worker in self._workers.values() if not worker.retired)

    def remembered(self, told: Mapping[str, Any]) -> State:
        """Return what is to be remembered of every server, those not begun yet among them."""
        timings = {one.desired.target: one.timing for one in self._present}
        return State(self._recorded | timings, told, dict(self._named))

    def stuck(self) -> str:
        """Name a server whose pass does not end, or begin, or whose worker fell; empty for none."""
        for worker, (passes, why) in list(self._fallen.items()):
            if worker.passes == passes:
                return why
            del self._fallen[worker]  # it is up again
        for worker in self._workers.values():
            if worker.stuck:
                return f"a pass does not end: {worker.desired.name}"
        return self._idle()

    def _idle(self) -> str:
        """Say that passes are due and none goes on: whatever the reason, nobody is looked after."""
        last = self._shared.status_store.last_pass
        still = math.inf if last is None else asyncio.get_running_loop().time() - last
        if still < LATE or not self._shared.looking():
            return ""
        overdue = max((worker.overdue for worker in self._present), default=0.0)
        if overdue < LATE:
            return ""
        return f"no pass over any server ended for {overdue if last is None else still:.0f} s"

    async def entries(self, name: str) -> tuple[LogEntry, ...] | None:
        """Read a server's system log.  Raises UsageError for an unknown name, and JtrErrors."""
        return await self._called(name).entries()

    def look(self, name: str) -> None:
        """Look at one server now.  Raises UsageError for an unknown name."""
        self._called(name).wake()

    def _called(self, name: str) -> ServerWorker:
        worker = next((one for one in self._present if one.desired.name == name), None)
        if worker is None:
            raise UsageError(f"no server is called {name}", "see: jtr status")
        return worker

    # ── ending ───────────────────────────────────────────────────────────────────────────────

    async def stop(self, grace: float) -> bool:
        """
        Let passes that are under way end, then cut off the rest; whether all ended by themselves.

        What was cut off stays recorded as an intent: nothing is sent without one.
        """
        tasks = set(self._tasks.values())
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
