"""
Reboot and cache invalidation of a stand-in JT-Trader.

Source: the protocol reference, sections 5 and 7.
"""

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

from reconciler.sandbox.jt_trader.clients import Clients, Link, Socket
from reconciler.sandbox.jt_trader.robot_requests import RobotRequests
from reconciler.sandbox.jt_trader.robots import Robot
from reconciler.sandbox.jt_trader.runtime import Runtime
from reconciler.sandbox.jt_trader.state import ServerState


class OneShots:
    """What one process does at most once (reboot), and what it does to its cache."""

    def __init__(
        self,
        state: ServerState,
        runtime: Runtime,
        clients: Clients,
        robots: RobotRequests,
        link: Link,
        *,
        end: Callable[[], None],
    ) -> None:
        self._state = state
        self._runtime = runtime
        self._clients = clients
        self._robots = robots
        self._link = link
        self._end = end
        self.ending = False
        """The robots are stopped and the process is about to end: it handles nothing more."""

    async def invalidate(self, socket: Socket, _message: Mapping[str, Any]) -> None:
        """Empty the cache; also for an unauthorised socket."""
        effect = self._state.behaviour.invalidate
        if not await self._clients.may_act(socket, effect):
            return
        # Running robots go on, yet nobody starts them again after a crash.
        self._state.marks.clear()
        self._state.saved.clear()
        self._state.record.invalidations += 1
        self._state.record.add_done("invalidate")
        await self._clients.acted(socket, effect, "invalidate-cache-response")

    async def reboot(self, socket: Socket, message: Mapping[str, Any]) -> None:
        """
        Stop all robots and end the process; also for an unauthorised socket.

        Nothing is answered.  A robot whose stop routine throws or never ends keeps the process
        alive; then no robot runs any more, the marks of the others outlive it, and the next request
        gets through.
        """
        behaviour = self._state.behaviour
        if behaviour.reboot == "ignored":
            return
        if behaviour.reboot == "lost":
            await asyncio.sleep(self._state.drawn(behaviour.reboot_drop))
            self._link.drop(socket.connection)
            return
        if behaviour.reboot == "late":
            await asyncio.sleep(behaviour.reboot_late)
        removed = self._remove_robot(message.get("payload"))
        running = self._runtime.running()
        # With nobody to wait for, not even a request on the same connection gets in between.
        if running and not await self._stop_all(socket, running, removed=removed):
            return
        if self.ending:
            return
        self.ending = True
        await asyncio.sleep(self._state.drawn(behaviour.reboot_drop))
        self._end()

    async def _stop_all(self, socket: Socket, running: list[Robot], *, removed: bool) -> bool:
        """Stop all robots; False if one of them failed, and never if one of them hangs."""
        stopping = asyncio.ensure_future(self._robots.stop_all())
        try:
            if not removed and any(_takes_time(robot) for robot in running):
                await self._nothing_to_remove(socket)
            stopped = await stopping
        finally:
            stopping.cancel()
        if not stopped:  # the robot's own error is in the log by now, and no other one
            await self._clients.system_report()
        return stopped

    def _remove_robot(self, payload: object) -> bool:
        """Danger, as in the real server: a number removes the definition of that robot."""
        robots = self._state.robots
        found = [r for r in robots if type(payload) is int and r.id == payload]
        for robot in found:
            self._runtime.end(robot)
            robots.remove(robot)
        return bool(found)

    async def _nothing_to_remove(self, socket: Socket) -> None:
        """
        Fail as the real server does with any other payload: it goes on to remove a robot.

        Harmless, because all robots are being stopped anyway.  Seen only where the stopping takes
        long enough; so it is not counted as a fatal path.
        """
        account = socket.account or self._state.account
        await self._clients.tell(account, "tester-scenario-list-response", [])
        await self._log_failure("Error: Invalid invocation: delete")

    async def _log_failure(self, text: str) -> None:
        self._state.log.append("error", "MainProcessExceptionHandler", text, stack=[text])
        await self._clients.system_report()


def _takes_time(robot: Robot) -> bool:
    return robot.keeps_state or robot.stop != "ok" or robot.stop_time > 0
