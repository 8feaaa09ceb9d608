"""One process of a stand-in JT-Trader: from its boot lines to the end of all connections."""

import asyncio
import socket
from collections.abc import Callable
from typing import Protocol

from reconciler.sandbox.jt_trader.clients import Link
from reconciler.sandbox.jt_trader.gateway import Gateway
from reconciler.sandbox.jt_trader.runtime import Runtime
from reconciler.sandbox.jt_trader.state import ServerState
from reconciler.sandbox.jt_trader.system_log import SYSTEM


class Network(Link, Protocol):
    """How clients reach one process: over loopback, or in memory."""

    async def open(self, gateway: Gateway, port: int) -> str:
        """Let clients in and return the URL; port 0 means any."""

    async def close(self) -> None:
        """End all connections and tasks, for good; raise what failed unexpectedly."""

    def connections(self) -> list[str]:
        """Return the ids of the open connections, oldest first."""

    def hold(self) -> socket.socket | None:
        """Return what keeps the port after `close`, if there is one to keep."""


class Process:
    """
    Started once, killed for good.

    *rebooted* is called when the process ends itself, *crashed* when it dies; its owner then kills
    it and starts another.
    """

    def __init__(
        self,
        state: ServerState,
        network: Network,
        *,
        rebooted: Callable[[], None],
        crashed: Callable[[], None],
    ) -> None:
        self._state = state
        self.network = network
        self.runtime = Runtime(state)
        self._gateway = Gateway(state, self.runtime, network, end=rebooted, die=crashed)
        self.killed = False

    async def start(self, port: int, *, first: bool) -> str:
        """
        Boot, let clients in, and return the URL; port 0 means any.

        The *first* process takes over the robots as they are; a later one starts those whose marks
        outlived the one before, and lets clients in only then.
        """
        self._state.log.boot_begins()
        if first:
            self.runtime.take_over()
        else:
            for robot in await self.runtime.restore():
                self._state.record.add_done("restore", robot.id)
        # Written before the port opens: the first log that anybody reads shows this boot.
        self._state.log.boot_ends()
        url = await self.network.open(self._gateway, port)
        if self._state.behaviour.status_interval:
            self._write_status()
            self.network.spawn(self._status())
        return url

    async def kill(self) -> None:
        """Drop every connection and free the port; done again where it was interrupted."""
        self.killed = self._gateway.one_shots.ending = True
        await self.network.close()

    async def force_stop(self, robot_id: int) -> None:
        for robot in self.runtime.running():
            if robot.id == robot_id:
                await self._gateway.robots.force_stop(robot)

    async def _status(self) -> None:
        while True:
            await asyncio.sleep(self._state.behaviour.status_interval)
            await self._gateway.clients.update_report(SYSTEM)
            self._write_status()

    def _write_status(self) -> None:
        proxy = [{"url": url, "ip": ip} for url, ip in self._state.behaviour.proxy]
        self._state.log.status(proxy)
