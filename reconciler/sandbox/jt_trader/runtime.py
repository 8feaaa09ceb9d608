"""
The robots of one process of a stand-in JT-Trader: who runs, with which keys, and what they know.

All of it dies with the process.  A robot reads its exchange's keys when it starts and keeps them.
The exchange client is cached by exchange, market and API key for the life of the process: a robot
that starts again with the same API key and another secret trades with the old secret.
Source: the protocol reference, section 8.
"""

import asyncio
import itertools
from collections.abc import Mapping, Sequence

from reconciler.sandbox.jt_trader.exchange_list import is_additional, labels
from reconciler.sandbox.jt_trader.robots import Robot
from reconciler.sandbox.jt_trader.state import ServerState

_STATES = itertools.count(1)


class StartFailed(Exception):
    """The robot's own start routine threw."""


class StopFailed(Exception):
    """The robot's own stop routine threw; the robot counts as stopped all the same."""


class Runtime:
    def __init__(self, state: ServerState) -> None:
        self._state = state
        self._trading: dict[int, dict[str, str]] = {}
        self._clients: dict[tuple[str, str, str], dict[str, str]] = {}
        self._memory: dict[int, str] = {}
        self._ticked: dict[int, float] = {}
        self.starting = False
        """The lock of all starts: a start that never ends holds it until the process does."""

    def keys(self, robot_id: int) -> dict[str, str]:
        return dict(self._trading.get(robot_id, {}))

    def take_over(self) -> None:
        """Give keys to the robots that run from the beginning: somebody started them long ago."""
        for robot in self._state.robots:
            if robot.running:
                self.begin(robot)

    async def restore(self) -> list[Robot]:
        """
        Start the robots whose marks outlived the process before, and return them.

        The first one that fails ends it: the remaining ones stay stopped.
        """
        restored = []
        for robot in self._state.robots:
            robot.running = False
        for robot in list(self._state.robots):
            if robot.id in self._state.marks:
                try:
                    await self.start(robot)
                except StartFailed:
                    break
                restored.append(robot)
        return restored

    async def start(self, robot: Robot) -> None:
        """Start a robot, which takes its time; raise StartFailed.  It may never return."""
        if robot.start == "hangs":
            await asyncio.Event().wait()
        await asyncio.sleep(robot.start_time)
        names = labels(robot.exchange)
        missing = not self._stored(robot).keys() >= set(names)
        if robot.start == "fails" or (is_additional(robot.exchange) and missing):
            self._state.log.script_error("made-up init failure", named=bool(robot.id % 2))
            raise StartFailed
        self.begin(robot)

    def begin(self, robot: Robot) -> None:
        """Let a robot run from now on, with the keys and the state that it finds."""
        robot.running = True
        self._state.marks.add(robot.id)
        self._trading[robot.id] = self._client(robot)
        self._ticked[robot.id] = self._state.log.now()
        if robot.id not in self._memory:
            new = f"state {next(_STATES)}"
            self._memory[robot.id] = self._state.saved.get(robot.id, new)

    def end(self, robot: Robot) -> None:
        """Let a robot no longer run; its stop routine writes its state, if it gets through."""
        self._end(robot)
        self._state.marks.discard(robot.id)

    async def stop(self, robot: Robot) -> None:
        """End a robot and wait for its stop routine; raise StopFailed.  It may never return."""
        self.end(robot)
        await self._stop_routine(robot)

    async def stop_all(self, robots: Sequence[Robot]) -> list[Robot]:
        """
        End all robots for a reboot, wait for their stop routines, and return those that threw.

        It may never return.  The mark of one that does not get through is removed, those of the
        others only once all of them have: where the process stays up, and ends later, the next one
        starts these again, and no one asked for it.
        """
        for robot in robots:
            self._end(robot)
            if robot.stop != "ok":
                self._state.marks.discard(robot.id)
        ends = await asyncio.gather(
            *(self._stop_routine(robot) for robot in robots), return_exceptions=True
        )
        for end in ends:
            if isinstance(end, BaseException) and not isinstance(end, StopFailed):
                raise end
        failed = [robot for robot, end in zip(robots, ends, strict=True) if end is not None]
        if not failed:
            self._state.marks.difference_update(robot.id for robot in robots)
        return failed

    async def _stop_routine(self, robot: Robot) -> None:
        if robot.stop == "hangs":
            await asyncio.Event().wait()
        if robot.stop == "throws":
            self._state.log.script_error("made-up stop failure", named=bool(robot.id % 2))
            raise StopFailed
        await asyncio.sleep(robot.stop_time)

    def end_all(self) -> list[Robot]:
        """End all robots of all accounts without waiting, remove all marks, and return them."""
        running = self.running()
        for robot in running:
            self.end(robot)
        self._state.marks.clear()
        return running

    def kill(self) -> None:
        """The process is gone: nothing was written, and the marks stay."""
        for robot in self._state.robots:
            self._kill(robot)

    def note_ticks(self) -> None:
        """Write what ticks of robots threw since the last time; call it before a log is read."""
        now = self._state.log.now()
        for robot in self.running():
            if robot.tick == "throws":
                since = self._ticked.setdefault(robot.id, now)
                for second in range(1, int(now - since) + 1):
                    self._state.log.script_error("made-up tick failure", ago=now - since - second)
                    self._ticked[robot.id] = since + second

    def running(self) -> list[Robot]:
        return [robot for robot in self._state.robots if robot.running]

    def _end(self, robot: Robot) -> None:
        if robot.running and robot.keeps_state and robot.stop == "ok":
            self._state.saved[robot.id] = self._memory.get(robot.id, "")
        self._kill(robot)

    def _kill(self, robot: Robot) -> None:
        robot.running = False
        self._trading.pop(robot.id, None)
        self._memory.pop(robot.id, None)

    def _stored(self, robot: Robot) -> Mapping[str, str]:
        values = self._state.rows.values(robot.account)
        return {name: values[name] for name in labels(robot.exchange) if name in values}

    def _client(self, robot: Robot) -> dict[str, str]:
        """Return the keys of the exchange client that a robot gets: perhaps an older one's."""
        stored = self._stored(robot)
        names = labels(robot.exchange)
        # One missing field of a main exchange, and the robot gets no keys at all.
        if not names or not all(stored.get(name) for name in names):
            return {}
        api_key = next((stored[name] for name in names if name.endswith("_api_key")), "")
        cached = (robot.exchange, robot.market_type, api_key)
        return self._clients.setdefault(cached, dict(stored))
