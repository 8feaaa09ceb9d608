"""
The keepers of all servers of the documents in force.
"""

import asyncio
import logging
from collections.abc import Collection, Mapping
from contextlib import suppress
from typing import Final

from reconciler.controller import requeue
from reconciler.controller.requeue import Timing
from reconciler.controller.shared import Yard
from reconciler.controller.worker import Keeper
from reconciler.errors import UsageError
from reconciler.model.desired import DesiredServer, DesiredState
from reconciler.model.observed import LogEntry
from reconciler.model.references import SecretPath

LOG: Final = logging.getLogger("reconciler.controller")


class Fleet:
    """Begins, wakes and ends keepers.  Event loop only."""

    def __init__(self, yard: Yard, remembered: Mapping[str, Timing]) -> None:
        """Use *remembered* timings of an earlier run for servers that are still declared."""
        self._yard: Final = yard
        self._remembered: Final = dict(remembered)
        self._keepers: dict[str, Keeper] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._leaving: set[asyncio.Task[None]] = set()
        self._broken = ""

    def declare(self, state: DesiredState, revision: str) -> None:
        """Put documents into force: new servers get a keeper, those that are gone lose theirs."""
        self._yard.declare(state, revision)
        wanted = {server.name: server for server in state.servers}
        for name in self._keepers.keys() - wanted:
            self._drop(name)
        for name, server in wanted.items():
            keeper = self._keepers.get(name)
            if keeper is None:
                self._begin(server, revision)
            else:
                keeper.declare(server)
        self._yard.dirty()

    def _begin(self, server: DesiredServer, revision: str) -> None:
        yard = self._yard
        now = yard.seconds()
        timing = self._remembered.pop(server.name, None)
        if timing is None:
            timing = Timing(due=now)
        else:
            timing = requeue.resumed(timing, now, yard.means.durations, yard.luck)
        keeper = Keeper(yard, server, timing)
        if timing.revision != revision:
            keeper.wake()
        self._keepers[server.name] = keeper
        task = asyncio.create_task(keeper.run(), name=f"keeper {server.name}")
        task.add_done_callback(self._ended)
        self._tasks[server.name] = task

    def _drop(self, name: str) -> None:
        self._keepers.pop(name).retire()
        self._leaving.add(self._tasks.pop(name))
        self._yard.board.servers.pop(name, None)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._leaving.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            # A mistake of ours must not leave a server without a keeper, nor in silence.
            LOG.error("a keeper failed: %s", type(error).__name__, exc_info=error)
            self._broken = f"{task.get_name()} failed ({type(error).__name__})"

    # ── waking ───────────────────────────────────────────────────────────────────────────────

    def wake(self) -> None:
        """Look at every server now."""
        for keeper in self._keepers.values():
            keeper.wake()

    def wake_for(self, secrets: Collection[SecretPath]) -> None:
        """Look at the servers that use any of these secrets."""
        chosen = set(secrets)
        for keeper in self._keepers.values():
            if chosen & uses(keeper.desired):
                keeper.wake()

    def wake_failed(self) -> None:
        """Try again where the last pass failed: what they all lacked is back."""
        for keeper in self._keepers.values():
            if keeper.timing.failures:
                keeper.wake()

    def nudge(self) -> None:
        """Let every keeper see that we may act now, or must stop."""
        for keeper in self._keepers.values():
            keeper.nudge()

    # ── asking ───────────────────────────────────────────────────────────────────────────────

    def timings(self) -> dict[str, Timing]:
        """Return what is to be remembered of every server, those not begun yet among them."""
        return self._remembered | {name: keeper.timing for name, keeper in self._keepers.items()}

    def stuck(self) -> str:
        """Name a server whose pass does not end, or that lost its keeper; empty for none."""
        return self._broken or next(
            (name for name, keeper in self._keepers.items() if keeper.stuck), ""
        )

    async def entries(self, name: str) -> tuple[LogEntry, ...] | None:
        """Read a server's system log.  Raises UsageError for an unknown name, and JtrErrors."""
        keeper = self._keepers.get(name)
        if keeper is None:
            raise UsageError(f"no server is called {name}", "see: jtr status")
        return await keeper.entries()

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
