"""
What a stand-in JT-Trader does with each message, hazards included; it knows no transport.

Faithful to the observed server where it is dangerous: requests of unauthorised sockets are
executed or run the fatal path, failures are silent, saves and deletes go row by row, nothing is
ordered or acknowledged, and only the newest socket of an account is registered for notifications.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

from reconciler.sandbox import exchange_list, writes
from reconciler.sandbox.record import Handshake, Received
from reconciler.sandbox.rows import Rejected
from reconciler.sandbox.state import ServerState
from reconciler.sandbox.system_log import SYSTEM, MissingFolder

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


class Link(Protocol):
    """The way back to the clients; both do nothing for a connection that is gone."""

    async def send(self, connection: str | None, message: Mapping[str, object]) -> None:
        """Send a `message` to one connection, or to all where *connection* is None."""

    def drop(self, connection: str | None) -> None:
        """End the transport of one connection, or of all, without any goodbye."""


@dataclass(slots=True)
class _Socket:
    """One connection: *verdict* is the account, or the code of the refusal."""

    connection: str
    command: str
    verdict: str | int
    account: str | None = None  # set once the login was answered


class Gateway:
    """The message handling of one server process; made anew at every start."""

    def __init__(self, state: ServerState, link: Link) -> None:
        self._state = state
        self._link = link
        self._sockets: dict[str, _Socket] = {}
        self._registered: dict[str, str] = {}
        self._answers: Mapping[str, Callable[[_Socket, Mapping[str, Any]], Awaitable[None]]] = {
            "exchange-config-request": self._list,
            "exchange-config-save": self._save,
            "exchange-config-delete": self._delete,
            "background-jobs-list-request": self._jobs,
            "engine-config-request": self._engine_config,
            "logs-list-request": self._logs,
            "invalidate-cache-request": self._invalidate,
            "reboot-system-request": self._reboot,
            "strategies-list-request": self._strategies,
            "run-background-job-request": self._only_recorded,
            "stop-background-job-request": self._only_recorded,
        }

    async def connected(self, connection: str, auth: object, command: str) -> None:
        """Take a new connection in and answer its login."""
        socket = _Socket(connection, command, self._judge(auth))
        self._sockets[connection] = socket
        self._state.record.add_handshake(
            Handshake(time.monotonic(), connection, command, isinstance(socket.verdict, str))
        )
        await self._log_in(socket)

    def disconnected(self, connection: str) -> None:
        """
        Forget a connection.

        As in the real server, the departure of *any* socket of an account drops the registration,
        also where another one is the registered one.
        """
        socket = self._sockets.pop(connection, None)
        if socket is not None and socket.account is not None:
            self._registered.pop(socket.account, None)

    async def received(self, connection: str, bodies: Sequence[object]) -> None:
        """Handle one Socket.IO event `message` with its arguments."""
        socket = self._sockets.get(connection)
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
        if event in self._state.behaviour.silent:
            return
        try:
            await self._execute(socket, message, absent=not bodies or bodies[0] is None)
        except (Rejected, MissingFolder) as failure:
            await self._fatal_path(socket, failure)

    async def _execute(self, socket: _Socket, message: Mapping[str, Any], *, absent: bool) -> None:
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

    async def _log_in(self, socket: _Socket, *, again: bool = False) -> bool:
        """Answer a login; False if the server's own login call hangs and nothing ever comes."""
        if isinstance(socket.verdict, int):
            self._state.log.append(
                "error", "EventsGateway", "Socket auth error", socketId=socket.connection
            )
            await self._send(socket, "unauthorized", {"code": socket.verdict})
            return True
        behaviour = self._state.behaviour
        if behaviour.login == "silent":
            return False
        await asyncio.sleep(behaviour.login_delay)
        if not again or self._state.random.random() < 1 / 2:
            await self._send_authenticated(socket, socket.verdict)
        if socket.connection in self._sockets:
            socket.account = socket.verdict
            self._registered[socket.account] = socket.connection
        return True

    async def _send_authenticated(self, socket: _Socket, account: str) -> None:
        own = account == self._state.account
        await self._send(
            socket,
            "authenticated",
            {
                "id": account,
                "email": "Incognito" if own else "made-up@example.test",
                "developerAccess": True,
                "engineMode": "both",
            },
        )

    # Reads

    async def _list(self, socket: _Socket, _message: Mapping[str, Any]) -> None:
        account = _account(socket)
        match self._state.behaviour.read:
            case "silent":
                return
            case "drop":
                self._link.drop(socket.connection)
                return
            case "unknown-answer":
                await self._answer(socket, "exchange-config-response", {"exchanges": []})
                return
        await self._state.pause()
        await self._answer_list(socket, account)

    async def _answer_list(self, socket: _Socket, account: str) -> None:
        payload = exchange_list.exchange_list(
            self._state.additional, self._state.rows.values(account)
        )
        padding = self._state.behaviour.answer_padding
        if padding:
            payload["padding"] = "x" * padding
        await self._answer(socket, "exchange-config-response", payload)

    async def _jobs(self, socket: _Socket, _message: Mapping[str, Any]) -> None:
        account = _account(socket)
        await self._answer(socket, "background-jobs-list-response", self._job_list(account))

    def _job_list(self, account: str) -> list[dict[str, Any]]:
        return [robot.job() for robot in self._state.robots if robot.account == account]

    async def _engine_config(self, socket: _Socket, _message: Mapping[str, Any]) -> None:
        payload = {"version": self._state.behaviour.version, "testerDefaults": _TESTER_DEFAULTS}
        await self._answer(socket, "engine-config-response", payload)

    async def _logs(self, socket: _Socket, message: Mapping[str, Any]) -> None:
        payload = self._state.log.answer(message)
        padding = self._state.behaviour.log_padding
        if padding and "data" in payload:
            entry = {"level": "info", "time": 0, "pid": 1, "class": "X", "msg": "m" * padding}
            payload["data"] = [*payload["data"], entry]
        await self._answer(socket, "logs-list-response", payload)

    async def _strategies(self, socket: _Socket, _message: Mapping[str, Any]) -> None:
        await self._answer(socket, "strategies-list-response", [])

    # Writes

    async def _save(self, socket: _Socket, message: Mapping[str, Any]) -> None:
        self._state.record.saves += 1
        await self._write(socket, "save", message.get("payload"))

    async def _delete(self, socket: _Socket, message: Mapping[str, Any]) -> None:
        self._state.record.deletes += 1
        await self._write(socket, "delete", message.get("payload"))

    async def _write(self, socket: _Socket, kind: str, payload: object) -> None:
        account = _account(socket)
        fault = self._state.fault(kind)
        if fault == "fatal":
            raise Rejected("made to fail")
        if fault not in ("drop-before", "silent-before"):
            await writes.write(self._state, kind, account, payload, fault)
        match fault:
            case "drop-before" | "drop-midway" | "drop-after":
                self._link.drop(socket.connection)
            case "silent-before" | "silent-after":
                pass
            case "unknown-answer":
                await self._answer(socket, "exchange-config-response", {"exchanges": []})
            case _:
                await self._state.pause()
                await self._answer_list(socket, account)

    # One-shots, and what is not there yet

    async def _invalidate(self, socket: _Socket, _message: Mapping[str, Any]) -> None:
        self._state.record.invalidations += 1
        await self._answer(socket, "invalidate-cache-response")

    async def _reboot(self, _socket: _Socket, _message: Mapping[str, Any]) -> None:
        self._state.record.reboots += 1
        await self._stop_robots("stop")
        self._link.drop(None)
        self._state.log.boot()

    async def _only_recorded(self, _socket: _Socket, _message: Mapping[str, Any]) -> None:
        """Neither starts nor stops a robot, and answers nothing."""

    # The fatal path

    async def _fatal_path(self, socket: _Socket, failure: Rejected | MissingFolder) -> None:
        """Do what the real server does instead of an answer."""
        state = self._state
        state.record.fatal_paths += 1
        await self._stop_robots("fatal system error")
        # Danger, as in the real server: a refused insert leaves the plain value here.
        leaked = [failure.leaked] if isinstance(failure, Rejected) and failure.leaked else []
        state.log.append(
            "error",
            "MainProcessExceptionHandler",
            f"Error: {failure}",
            stack=[*leaked, f"Error: {failure}", "    at <anonymous>"],
        )
        registered = self._registered.get(socket.account or state.account)
        if registered is not None:
            await self._link.send(
                registered, {"event": "tester-scenario-list-response", "payload": []}
            )
        await asyncio.sleep(state.random.uniform(0.005, 0.015))
        await self.update_report(SYSTEM)

    async def _stop_robots(self, word: str) -> None:
        """Stop the robots of all accounts, also of those that the requester cannot see."""
        running = [robot for robot in self._state.robots if robot.running]
        self._state.record.robot_stops += len(running)
        for robot in running:
            robot.running = False
        for robot in running:
            registered = self._registered.get(robot.account)
            if registered is not None:
                log = {"level": "error", "time": 0, "msg": [word]}
                payload = {"log": log, "processId": str(robot.id), "artifacts": robot.artifacts}
                await self._link.send(registered, {"event": "user-script-log", "payload": payload})

    # Sending

    async def update_report(self, artifacts: str) -> None:
        """Tell every connection, authorised or not, that a report has news."""
        await self._link.send(None, {"event": "update-report", "payload": {"artifacts": artifacts}})

    async def _answer(self, socket: _Socket, event: str, *payload: object) -> None:
        """Send an answer, perhaps late, with the unsolicited messages that come at any time."""
        await asyncio.sleep(self._state.behaviour.answer_delay)
        if event in self._state.behaviour.unknown:
            payload = ({"unexpected": True},)
        await self._sprinkle(socket)
        await self._send(socket, event, *payload)
        await self._sprinkle(socket)

    async def _send(self, socket: _Socket, event: str, *payload: object) -> None:
        message = {"event": event, "payload": payload[0]} if payload else {"event": event}
        await self._link.send(socket.connection, message)

    async def _sprinkle(self, socket: _Socket) -> None:
        chance = self._state.random
        if not self._state.behaviour.sprinkle or chance.random() < 1 / 2:
            return
        match chance.randrange(6):
            case 0:
                await self.update_report(SYSTEM)
            case _ if socket.account is None:
                pass  # nothing but broadcasts reaches a socket without a user
            case 1:
                await self._send_authenticated(socket, socket.account)
            case 2:
                notification = {"accountId": "0", "message": "See logs.", "type": "error"}
                await self._send(socket, "client-notification", notification)
            case 3:
                await self._send(socket, "realtime-ticker", {"symbol": "XRP/USDT", "last": 1})
            case 4:
                await self._send(socket, "tester-scenario-list-response", [])
            case _:
                await self._send(socket, "tester-scenario-exec-info", {"progress": 1})


def _account(socket: _Socket) -> str:
    """Return whose rows a request means; without a user the real server fails here."""
    if socket.account is None:
        raise Rejected("Cannot read properties of an absent account")
    return socket.account
