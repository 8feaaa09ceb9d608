"""
Starting and stopping robots of a stand-in JT-Trader, and what the fatal path does to them.

Source: the protocol reference, sections 6 and 8b.  Not observed, and taken to be like everything
else that fails: a request to stop a robot whose stop routine throws runs the fatal path, one whose
stop routine hangs is never answered.
"""

import asyncio
import time
from collections.abc import Callable, Coroutine, Mapping
from typing import Any

from reconciler.sandbox.jt_trader.clients import (
    JOB_LIST,
    Clients,
    Link,
    Socket,
    notification,
    robot_log,
)
from reconciler.sandbox.jt_trader.faults import Effect
from reconciler.sandbox.jt_trader.record import Start
from reconciler.sandbox.jt_trader.robots import Robot
from reconciler.sandbox.jt_trader.rows import Rejected
from reconciler.sandbox.jt_trader.runtime import Runtime, StartFailed, StopFailed
from reconciler.sandbox.jt_trader.state import ServerState

Fail = Callable[[str, str], Coroutine[Any, Any, None]]


class RobotRequests:
    """The robots' part of one process; *fail* runs the fatal path for (account, text)."""

    def __init__(
        self,
        state: ServerState,
        runtime: Runtime,
        clients: Clients,
        link: Link,
        *,
        fail: Fail,
    ) -> None:
        self._state = state
        self._runtime = runtime
        self._clients = clients
        self._link = link
        self._fail = fail

    async def run(self, socket: Socket, message: Mapping[str, Any]) -> None:
        start = Start(
            at=time.monotonic(),
            robot=message.get("payload"),
            command=socket.command,
            registered=self._clients.has_registered(socket),
            overlapping=socket.handshake.overlapping,
        )
        self._state.record.add_start(start)
        account = socket.owner
        effect = self._state.behaviour.run
        if not await self._clients.may_act(socket, effect):
            return
        if self._runtime.starting:
            start.outcome = "dropped"
            return
        self._runtime.starting = True
        # Not in a finally: a start that never ends keeps the lock, as in the real server.
        robot = self._find(account, start.robot)
        match robot:
            case None if _is_id(start.robot):
                start.outcome = "unknown"
                self._runtime.starting = False
                await self._clients.jobs(socket, effect)
            case None:
                start.outcome = "bad id"
                self._runtime.starting = False
                await self._clients.jobs(socket, effect)
                raise Rejected("Invalid invocation: the id of a runtime is no number")
            case Robot(running=True):
                start.outcome = "running"
                self._runtime.starting = False
                await self._already_running(socket)
            case Robot():
                await self._start(socket, robot, start, effect)

    async def _start(self, socket: Socket, robot: Robot, start: Start, effect: Effect) -> None:
        try:
            await self._runtime.start(robot)
        except StartFailed:
            start.outcome = "failed"
            self._runtime.starting = False
            await self._start_failed(robot)
            return
        start.outcome = "started"
        self._runtime.starting = False
        self._state.record.add_done("start", robot.id)
        if robot.stops_itself_after is not None:
            self._link.spawn(self._give_up(robot, robot.stops_itself_after))
        await self._clients.update_report(robot.artifacts)
        await self._clients.tell(
            robot.account, "user-script-log", robot_log(robot, "info", "dummy init")
        )
        await self._clients.jobs(socket, effect)
        await self._clients.system_report()

    async def _start_failed(self, robot: Robot) -> None:
        """Tell about a failed start; with nobody registered the telling itself fails."""
        registered = self._clients.is_registered(robot.account)
        await self._clients.update_report(robot.artifacts)
        await self._clients.tell(robot.account, "client-notification", notification(robot.account))
        await self._clients.tell_all(JOB_LIST, self._state.jobs(robot.account))
        await self._clients.tell_all(
            "user-script-log", robot_log(robot, "error", "Error: made-up init failure:")
        )
        if registered:
            await self._clients.system_report()
        else:
            await self._fail(robot.account, "Cannot read properties of an absent client")

    async def _already_running(self, socket: Socket) -> None:
        self._state.log.append(
            "error",
            "MainProcessExceptionHandler",
            "Error: runtime already started",
            cause="script-already-registered",
        )
        await self._clients.send_exception(socket)
        await self._clients.system_report()

    async def stop(self, socket: Socket, message: Mapping[str, Any]) -> None:
        payload = message.get("payload")
        self._state.record.add_stop(payload, socket.command)
        account = socket.owner
        effect = self._state.behaviour.halt
        if not await self._clients.may_act(socket, effect):
            return
        robot = self._find(account, payload)
        if robot is not None and robot.running:
            self._state.record.add_done("stop", robot.id)
            if robot.talks and robot.stop == "ok":
                await self._say_stopped(robot)
            try:
                await self._runtime.stop(robot)
            except StopFailed:
                raise Rejected("made-up stop failure") from None
        await self._clients.jobs(socket, effect)
        if robot is None and not _is_id(payload):
            raise Rejected("Invalid invocation: the id of a runtime is no number")
        await self._clients.system_report()

    async def force_stop(self, robot: Robot) -> None:
        """Let a robot stop itself: with nobody registered this stops all the others too."""
        if not robot.running:
            return
        registered = self._clients.is_registered(robot.account)
        self._runtime.end(robot)
        self._state.record.add_done("force-stop", robot.id)
        await self._clients.tell(robot.account, "client-notification", notification(robot.account))
        await self._clients.update_report(robot.artifacts)
        if not registered:
            await self._fail(robot.account, "Cannot read properties of an absent client")

    async def end_all(self) -> None:
        """Stop the robots of all accounts at once, also of those that the requester cannot see."""
        running = self._runtime.end_all()
        self._state.record.robot_stops += len(running)
        for robot in running:
            if robot.talks and robot.stop == "ok":
                await self._say_stopped(robot)

    async def stop_all(self) -> bool:
        """
        Stop all robots for a reboot and wait for their stop routines; False if one of them threw.

        It may never return.  The process ends before the log writer got to the second robot.
        """
        running = self._runtime.running()
        self._state.record.robot_stops += len(running)
        stopping = asyncio.ensure_future(self._runtime.stop_all(running))
        try:
            for robot in [robot for robot in running if robot.talks and robot.stop == "ok"][:1]:
                await self._say_stopped(robot)
            failed = await stopping
        finally:
            stopping.cancel()
        for robot in failed:
            await self._clients.tell(
                robot.account,
                "user-script-log",
                robot_log(robot, "error", "Error: made-up stop failure:"),
            )
        return not failed

    async def _give_up(self, robot: Robot, seconds: float) -> None:
        await asyncio.sleep(seconds)
        await self.force_stop(robot)

    async def _say_stopped(self, robot: Robot) -> None:
        await self._clients.tell(
            robot.account, "user-script-log", robot_log(robot, "info", "dummy stop")
        )

    def _find(self, account: str, payload: object) -> Robot | None:
        """Return the account's robot with this id; 1.0 is the number 1 to the real server."""
        if not _is_id(payload):
            return None
        return next(
            (r for r in self._state.robots if (r.account, r.id) == (account, payload)), None
        )


def _is_id(payload: object) -> bool:
    """Tell whether the database takes the payload as an id: only whole numbers."""
    return (isinstance(payload, int) and not isinstance(payload, bool)) or (
        isinstance(payload, float) and payload.is_integer()
    )
