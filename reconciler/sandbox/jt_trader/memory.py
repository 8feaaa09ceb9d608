"""
JT-Trader's driver and the stand-in in one process, without sockets: what they say is theirs.

For tests of everything above the drivers.  Nothing waits here that does not wait on a real server,
so such tests run on virtual time, where deadlines and reboots cost nothing.
"""

import asyncio
import functools
import itertools
import types
from collections.abc import Callable, Coroutine, Generator, Mapping
from typing import Any, Final

from reconciler.drivers import Trust
from reconciler.drivers.connection.conversation import Conversation
from reconciler.drivers.connection.failures import ended, unreachable
from reconciler.drivers.jt_trader.driver import JtTraderDriver
from reconciler.drivers.jt_trader.requests import Request
from reconciler.model.observed import ClockReading
from reconciler.model.target import Target
from reconciler.sandbox.jt_trader.faults import Behaviour
from reconciler.sandbox.jt_trader.gateway import Gateway
from reconciler.sandbox.jt_trader.server import StandIn
from reconciler.system.timeouts import Timeouts

_NAMES: Final = itertools.count(1)


def calm() -> Behaviour:
    """
    Return the behaviour of a server that does nothing by chance and writes no status.

    How long its restarts and its log take is as it was usually seen.
    """
    return Behaviour(
        row_delay=(0.0, 0.0),
        sprinkle=False,
        status_interval=0.0,
        reboot_drop=1.0,
        reboot_down=2.0,
        log_lag=0.15,
    )


class MemoryServer(StandIn):
    """
    A stand-in that is reached without a network, by its URL.

    `cut_off` are requests without an answer, by their events, that arrive while the connection
    ends: whoever sends one cannot tell whether it was sent.  `ahead` says how far the clock of its
    web page is ahead; None where the page has none.
    """

    def __init__(
        self,
        url: str,
        *,
        access_secret: str = "",
        behaviour: Behaviour | None = None,
        **options: Any,
    ) -> None:
        super().__init__(access_secret=access_secret, behaviour=behaviour or calm(), **options)
        self.url = url
        self.open: MemoryNetwork | None = None
        self.cut_off: frozenset[str] = frozenset()
        self.ahead: Callable[[], float | None] = lambda: self.behaviour.clock_offset

    def _new_network(self) -> "MemoryNetwork":
        return MemoryNetwork(self)


class MemoryNetwork:
    """The way to one process: a connection is an entry in a dictionary, a message a call."""

    def __init__(self, server: MemoryServer) -> None:
        self._server = server
        self._gateway: Gateway | None = None
        self._clients: dict[str, MemoryConversation] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._failures: list[BaseException] = []

    async def open(self, gateway: Gateway, port: int) -> str:  # noqa: ARG002  - no port here
        self._gateway = gateway
        self._server.open = self
        return self._server.url

    async def close(self) -> None:
        self._gateway = self._server.open = None
        self.drop(None)
        # Not waited for: they may belong to another loop, which stands still.
        for task in list(self._tasks):
            task.cancel()
        self._raise_failures()

    def connections(self) -> list[str]:
        return list(self._clients)

    def hold(self) -> None:
        """There is no port to keep."""

    async def send(
        self, connection: str | None, message: Mapping[str, object], event: str = "message"
    ) -> None:
        for name, client in list(self._clients.items()):
            if connection in (None, name):
                client.hear(event, message)

    def drop(self, connection: str | None) -> None:
        for name, client in list(self._clients.items()):
            if connection in (None, name):
                client.lose()

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Do *work* at once as far as it need not wait; the rest is a task."""
        try:
            waits_for = work.send(None)
        except StopIteration:
            return
        task = asyncio.ensure_future(_rest(work, waits_for))
        self._tasks.add(task)
        task.add_done_callback(self._finished)

    def join(self, name: str, client: "MemoryConversation", auth: object, agent: str) -> None:
        self._clients[name] = client
        if self._gateway is not None:
            self.spawn(self._gateway.connected(name, auth, agent))

    def receive(self, name: str, body: Mapping[str, object]) -> None:
        self._raise_failures()
        if self._gateway is not None:
            self.spawn(self._gateway.received(name, (body,)))

    def leave(self, name: str) -> None:
        if self._clients.pop(name, None) is not None and self._gateway is not None:
            self._gateway.disconnected(name)

    def _finished(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (failure := task.exception()) is not None:
            self._failures.append(failure)

    def _raise_failures(self) -> None:
        if self._failures:
            raise BaseExceptionGroup("the stand-in itself failed", self._failures)


@types.coroutine
def _rest(work: Coroutine[Any, Any, None], waits_for: object) -> Generator[Any, Any, None]:
    try:
        yield waits_for
    except BaseException:
        work.close()
        raise
    yield from work


class MemoryConversation(Conversation):
    def __init__(self, servers: Mapping[str, MemoryServer], *, url: str, **options: Any) -> None:
        super().__init__(url=url, **options)
        self._server = servers.get(url)
        self._network: MemoryNetwork | None = None
        self._name = f"memory-{next(_NAMES)}"

    def hear(self, event: str, message: Mapping[str, object]) -> None:
        self._on_message(message) if event == "message" else self._on_exception()

    def lose(self) -> None:
        self._fail(ended(self._url, "the connection was lost"))

    async def _connect(self, login: Mapping[str, str], trust: Trust, agent: str) -> None:  # noqa: ARG002  - no TLS here
        server = self._server
        if server is None or server.open is None:
            raise unreachable(self._url, "nothing listens at that port")
        self._patience = server.behaviour.ping_interval + server.behaviour.ping_timeout
        self._network = server.open
        self._network.join(self._name, self, dict(login), agent)

    def _connected(self) -> bool:
        return self._network is not None

    async def _emit(self, request: Request, body: Mapping[str, object]) -> None:
        await asyncio.sleep(0)  # on its way: what the server is doing goes on
        if self._network is not None:
            self._network.receive(self._name, body)
        if not request.answer:
            self._on_written(self._server is None or request.event not in self._server.cut_off)

    def _cut(self) -> None:
        network, self._network = self._network, None
        if network is not None:
            network.leave(self._name)


class MemoryDriver(JtTraderDriver):
    """JT-Trader's driver for *servers*, by their URLs."""

    def __init__(
        self, servers: Mapping[str, MemoryServer], *, command: str, timeouts: Timeouts
    ) -> None:
        converse = functools.partial(MemoryConversation, servers)
        super().__init__(command=command, timeouts=timeouts, converse=converse)
        self._servers = servers

    async def clock(self, target: Target, trust: Trust) -> ClockReading | None:  # noqa: ARG002  - no TLS here
        server = self._servers.get(target.url)
        ahead = server.ahead() if server is not None and server.open is not None else None
        return None if ahead is None else ClockReading(ahead, 0.5)
