"""
What a stand-in JT-Trader does with each message, hazards included; it knows no transport.

Faithful to the observed server where it is dangerous: requests of unauthorised sockets are
executed or run the fatal path, failures are silent, saves and deletes go row by row, nothing is
ordered or acknowledged, and only the newest socket of an account is registered for notifications.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final

from reconciler.sandbox.jt_trader import exchange_list, writes
from reconciler.sandbox.jt_trader.clients import Clients, Link, Socket
from reconciler.sandbox.jt_trader.faults import lasting
from reconciler.sandbox.jt_trader.record import Handshake, Received, command_of
from reconciler.sandbox.jt_trader.requests import OneShots
from reconciler.sandbox.jt_trader.robot_requests import RobotRequests
from reconciler.sandbox.jt_trader.rows import Rejected
from reconciler.sandbox.jt_trader.runtime import Runtime
from reconciler.sandbox.jt_trader.state import ServerState
from reconciler.sandbox.jt_trader.system_log import SYSTEM, MissingFolder

_WRONG_SECRET: Final = 4002
_WRONG_TOKEN: Final = 4001
_TESTER_DEFAULTS: Final = {
    "start": "2025-10",
    "end": "2026-10",
    "marketOrderSpread": 0.0001,
    "makerFee": 0.0002,
    "takerFee": 0.0004,
    "defaultLeverage": 50,
    "timeframe": 1,
    "hedgeMode": True,
    "symbols": ["LTC/USDT", "SOL/USDT", "XRP/USDT"],
    "exchange": "gateio",
    "balance": 1000,
}


class Gateway:
    """
    The message handling of one server process.

    *end* ends it by a reboot, *die* as by kill -9; both return before it has.
    """

    def __init__(
        self,
        state: ServerState,
        runtime: Runtime,
        link: Link,
        *,
        end: Callable[[], None],
        die: Callable[[], None],
    ) -> None:
        self._state = state
        self._link = link
        self._die = die
        self.clients = Clients(state, link)
        self._runtime = runtime
        self.robots = RobotRequests(state, runtime, self.clients, link, fail=self._fail)
        self.one_shots = OneShots(state, runtime, self.clients, self.robots, link, end=end)
        self._answers: Mapping[str, Callable[[Socket, Mapping[str, Any]], Awaitable[None]]] = {
            "exchange-config-request": self._list,
            "exchange-config-save": self._save,
            "exchange-config-delete": self._delete,
            "background-jobs-list-request": self._jobs,
            "engine-config-request": self._engine_config,
            "logs-list-request": self._logs,
            "strategies-list-request": self._strategies,
            "invalidate-cache-request": self.one_shots.invalidate,
            "reboot-system-request": self.one_shots.reboot,
            "run-background-job-request": self.robots.run,
            "stop-background-job-request": self.robots.stop,
        }

    async def connected(self, connection: str, auth: object, agent: str) -> None:
        command = command_of(agent)
        verdict = self._judge(auth)
        handshake = Handshake(
            time.monotonic(),
            connection,
            command,
            isinstance(verdict, str),
            overlapping=bool(command) and any(s.command for s in self.clients.sockets.values()),
        )
        self._state.record.add_handshake(handshake)
        if self.one_shots.ending:
            return
        socket = Socket(connection, command, verdict, handshake)
        self.clients.add(socket)
        await self._log_in(socket)

    def disconnected(self, connection: str) -> None:
        self.clients.forget(connection)

    async def received(self, connection: str, bodies: Sequence[object]) -> None:
        socket = self.clients.sockets.get(connection)
        if socket is None:
            return
        message: Mapping[str, Any] = bodies[0] if bodies and isinstance(bodies[0], dict) else {}
        event = message.get("event")
        event = event if isinstance(event, str) else None
        self._state.record.add_received(
            Received(
                time.monotonic(), connection, socket.command, event, isinstance(socket.verdict, str)
            )
        )
        # What comes while the process ends is lost without any sign.
        if event in self._state.behaviour.silent or self.one_shots.ending:
            return
        try:
            await self._execute(socket, message, absent=not bodies or bodies[0] is None)
        except (Rejected, MissingFolder) as failure:
            # Danger, as in the real server: a refused insert leaves the plain value in the log.
            leaked = failure.leaked if isinstance(failure, Rejected) else ""
            await self._fail(socket.account or self._state.account, str(failure), leaked)

    async def _execute(self, socket: Socket, message: Mapping[str, Any], *, absent: bool) -> None:
        if absent:
            raise Rejected("Cannot destructure an absent message")
        if socket.account is None and not await self._log_in(socket, again=True):
            return
        event = message.get("event")
        answer = self._answers.get(event) if isinstance(event, str) else None
        if answer is None:
            self._state.log.append("info", "EventsGateway", "Unknown event", event=event)
        else:
            await answer(socket, message)

    # Login

    def _judge(self, auth: object) -> str | int:
        """Return the account of a handshake, or the code with which it is refused."""
        given = auth if isinstance(auth, dict) else {}
        # The secret is checked first, whatever the token says.
        if given.get("accessSecret") != self._state.access_secret:
            return _WRONG_SECRET
        account = self._state.tokens.get(str(given.get("accessToken") or ""))
        if account is not None:
            return account
        return self._state.account if self._state.behaviour.standalone else _WRONG_TOKEN

    async def _log_in(self, socket: Socket, *, again: bool = False) -> bool:
        """Answer a login; False if the server's own login call hangs and nothing ever comes."""
        if isinstance(socket.verdict, int):
            self._state.log.append(
                "error", "EventsGateway", "Socket auth error", socketId=socket.connection
            )
            await self.clients.send(socket, "unauthorized", {"code": socket.verdict})
            return True
        behaviour = self._state.behaviour
        if behaviour.login == "silent":
            return False
        await asyncio.sleep(0)
        await lasting(lambda: behaviour.login_delay)
        if not again or self._state.random.random() < 1 / 2:
            await self.clients.authenticated(socket, socket.verdict)
        self.clients.register(socket, socket.verdict)
        return True

    # Reads

    async def _list(self, socket: Socket, _message: Mapping[str, Any]) -> None:
        account = socket.owner
        match self._state.behaviour.read:
            case "silent":
                return
            case "drop":
                self._link.drop(socket.connection)
                return
            case "unknown-answer":
                await self.clients.answer(socket, "exchange-config-response", {"exchanges": []})
                return
        await self._state.pause()
        await self._answer_list(socket, account)

    async def _answer_list(self, socket: Socket, account: str) -> None:
        payload = exchange_list.exchange_list(
            self._state.additional, self._state.rows.values(account)
        )
        padding = self._state.behaviour.answer_padding
        if padding:
            payload["padding"] = "x" * padding
        await self.clients.answer(socket, "exchange-config-response", payload)

    async def _jobs(self, socket: Socket, _message: Mapping[str, Any]) -> None:
        await self.clients.jobs(socket)

    async def _engine_config(self, socket: Socket, _message: Mapping[str, Any]) -> None:
        payload = {"version": self._state.behaviour.version, "testerDefaults": _TESTER_DEFAULTS}
        await self.clients.answer(socket, "engine-config-response", payload)

    async def _logs(self, socket: Socket, message: Mapping[str, Any]) -> None:
        self._runtime.note_ticks()
        payload = self._state.log.answer(message)
        if self._state.behaviour.log == "unreadable" and message.get("payload") == SYSTEM:
            payload.pop("data", None)
        padding = self._state.behaviour.log_padding
        if padding and "data" in payload:
            entry = {"level": "info", "time": 0, "pid": 1, "class": "X", "msg": "m" * padding}
            payload["data"] = [*payload["data"], entry]
        await self.clients.answer(socket, "logs-list-response", payload)

    async def _strategies(self, socket: Socket, _message: Mapping[str, Any]) -> None:
        await self.clients.answer(socket, "strategies-list-response", [])

    # Writes

    async def _save(self, socket: Socket, message: Mapping[str, Any]) -> None:
        self._state.record.saves += 1
        await self._write(socket, "save", message.get("payload"))

    async def _delete(self, socket: Socket, message: Mapping[str, Any]) -> None:
        self._state.record.deletes += 1
        await self._write(socket, "delete", message.get("payload"))

    async def _write(self, socket: Socket, kind: str, payload: object) -> None:
        account = socket.owner
        fault = self._state.fault(kind)
        if fault == "fatal":
            raise Rejected("made to fail")
        if fault not in ("drop-before", "silent-before"):
            await writes.write(self._state, kind, account, payload, fault)
        match fault:
            case "drop-before" | "drop-midway" | "drop-after":
                self._link.drop(socket.connection)
            case "crash-midway":
                self.one_shots.ending = True  # nothing more is handled
                self._die()
            case "silent-before" | "silent-after":
                pass
            case "unknown-answer":
                await self.clients.answer(socket, "exchange-config-response", {"exchanges": []})
            case _:
                await self._state.pause()
                await self._answer_list(socket, account)

    async def _fail(self, account: str, text: str, leaked: str = "") -> None:
        """Run the fatal path: what the real server does instead of an answer."""
        self._state.record.fatal_paths += 1
        self._state.record.add_done("fatal")
        await self.robots.end_all()
        stack = [*([leaked] if leaked else []), f"Error: {text}", "    at <anonymous>"]
        self._state.log.append(
            "error", "MainProcessExceptionHandler", f"Error: {text}", stack=stack
        )
        await self.clients.tell(account, "tester-scenario-list-response", [])
        await self.clients.system_report()
