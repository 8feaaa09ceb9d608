"""
The connections of one process of a stand-in JT-Trader, and what is sent to whom.

Here lives the registration bug: per account only the newest socket is told what robots do, and the
departure of any socket of that account leaves nobody registered.  Source: the protocol reference,
section 6.
"""

import asyncio
from collections.abc import Coroutine, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from reconciler.sandbox.jt_trader.faults import Effect, lasting
from reconciler.sandbox.jt_trader.record import Handshake
from reconciler.sandbox.jt_trader.robots import Robot
from reconciler.sandbox.jt_trader.rows import Rejected
from reconciler.sandbox.jt_trader.state import ServerState
from reconciler.sandbox.jt_trader.system_log import SYSTEM

JOB_LIST = "background-jobs-list-response"


class Link(Protocol):
    """A process's way to its clients; nothing is done for a connection that is gone."""

    async def send(
        self, connection: str | None, message: Mapping[str, object], event: str = "message"
    ) -> None:
        """Send a Socket.IO *event* to one connection, or to all where *connection* is None."""

    def drop(self, connection: str | None) -> None:
        """End the transport of one connection, or of all, without any goodbye."""

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Let *work* go on in the background until the process ends."""


@dataclass(slots=True)
class Socket:
    """One connection: *verdict* is the account, or the code of the refusal."""

    connection: str
    command: str
    verdict: str | int
    handshake: Handshake
    account: str | None = None  # set once the login was answered

    @property
    def owner(self) -> str:
        """Whose rows and robots a request means; without a user the real server fails here."""
        if self.account is None:
            raise Rejected("Cannot read properties of an absent account")
        return self.account


class Clients:
    def __init__(self, state: ServerState, link: Link) -> None:
        self._state = state
        self._link = link
        self.sockets: dict[str, Socket] = {}
        self._registered: dict[str, str] = {}

    def add(self, socket: Socket) -> None:
        self.sockets[socket.connection] = socket

    def register(self, socket: Socket, account: str) -> None:
        """Log a socket in, if it is still there: from now on it is the one that is told."""
        if socket.connection in self.sockets:
            socket.account = account
            self._registered[account] = socket.connection

    def forget(self, connection: str) -> None:
        """
        Forget a connection.

        As in the real server, the departure of *any* socket of an account drops the registration,
        also where another one is the registered one.
        """
        socket = self.sockets.pop(connection, None)
        if socket is not None and socket.account is not None:
            self._registered.pop(socket.account, None)

    def is_registered(self, account: str) -> bool:
        return account in self._registered

    def has_registered(self, socket: Socket) -> bool:
        return self._registered.get(socket.account or "") == socket.connection

    async def send(self, socket: Socket, event: str, *payload: object) -> None:
        await self._link.send(socket.connection, _message(event, *payload))

    async def send_exception(self, socket: Socket) -> None:
        """Send the one other event: the server's error handler itself failed."""
        message = {"status": "error", "message": "Internal server error"}
        await self._link.send(socket.connection, message, "exception")

    async def tell(self, account: str, event: str, payload: object) -> None:
        """Send to the registered socket of *account*; nobody hears it where there is none."""
        registered = self._registered.get(account)
        if registered is not None:
            await self._link.send(registered, _message(event, payload))

    async def tell_all(self, event: str, payload: object) -> None:
        await self._link.send(None, _message(event, payload))

    async def update_report(self, artifacts: str) -> None:
        await self.tell_all("update-report", {"artifacts": artifacts})

    async def system_report(self) -> None:
        """Tell every connection, a moment later, that the system log has news."""
        await asyncio.sleep(self._state.random.uniform(0.005, 0.015))
        await self.update_report(SYSTEM)

    async def authenticated(self, socket: Socket, account: str) -> None:
        own = account == self._state.account
        await self.send(
            socket,
            "authenticated",
            {
                "id": account,
                "email": "Incognito" if own else "made-up@example.test",
                "developerAccess": True,
                "engineMode": "both",
            },
        )

    async def jobs(self, socket: Socket, effect: Effect = "answer") -> None:
        await self.acted(socket, effect, JOB_LIST, self._state.jobs(socket.owner))

    async def may_act(self, socket: Socket, effect: Effect) -> bool:
        """Do the faults that come before an effect."""
        if effect == "lost before effect":
            self._link.drop(socket.connection)
        if effect == "late":
            await asyncio.sleep(self._state.behaviour.effect_late)
        return effect != "lost before effect"

    async def acted(self, socket: Socket, effect: Effect, event: str, *payload: object) -> None:
        """Answer, or do the faults that come after an effect."""
        if effect == "dropped after effect":
            self._link.drop(socket.connection)
        elif effect != "silent after effect":
            await self.answer(socket, event, *payload)

    async def answer(self, socket: Socket, event: str, *payload: object) -> None:
        """Send an answer, perhaps late, with the unsolicited messages that come at any time."""
        behaviour = self._state.behaviour
        await lasting(lambda: behaviour.answer_delay)
        if event in behaviour.unknown:
            payload = ({"unexpected": True},)
        await self._sprinkle(socket)
        await self.send(socket, event, *payload)
        await self._sprinkle(socket)

    async def _sprinkle(self, socket: Socket) -> None:
        chance = self._state.random
        if not self._state.behaviour.sprinkle or chance.random() < 1 / 2:
            return
        match chance.randrange(6):
            case 0:
                await self.update_report(SYSTEM)
            case _ if socket.account is None:
                pass  # nothing but broadcasts reaches a socket without a user
            case 1:
                await self.authenticated(socket, socket.account)
            case 2:
                await self.send(socket, "client-notification", notification(socket.account))
            case 3:
                await self.send(socket, "realtime-ticker", {"symbol": "XRP/USDT", "last": 1})
            case 4:
                await self.send(socket, "tester-scenario-list-response", [])
            case _:
                await self.send(socket, "tester-scenario-exec-info", {"progress": 1})


def notification(account: str) -> dict[str, str]:
    text = "Error starting bot. See logs for details."
    return {"accountId": account, "message": text, "type": "error"}


def robot_log(robot: Robot, level: str, text: str) -> dict[str, object]:
    log = {"level": level, "time": 0, "msg": [text]}
    return {"log": log, "processId": str(robot.id), "artifacts": robot.artifacts}


def _message(event: str, *payload: object) -> dict[str, object]:
    return {"event": event, "payload": payload[0]} if payload else {"event": event}
