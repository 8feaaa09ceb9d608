"""
Many stand-ins at once, on one loop and one thread, with their documents and secrets in a `Rig`.

For what must be seen on fifty servers: one that hangs, links that are cut, crashes here and there.
Each server is a `StandInThread` like those of `Rig.server`, so everything that a test knows of
one server it can do with each of these.
"""

import asyncio
import copy
import random
from collections.abc import Callable, Coroutine, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self, TypeVar

from reconciler.sandbox.jt_trader.server import Behaviour, Record, StandInThread
from tests.support.fault_proxy import FaultProxy
from tests.support.loops import LoopThread
from tests.support.rig import FIELDS, ROBOTS, Rig

T = TypeVar("T")

SECRET: Final = "base62"


def ports_of_nobody() -> Iterator[int]:
    """
    Give ports that the system gives to nobody who connects, and none of them twice.

    A server that is away finds its port taken otherwise, by any connection on this machine; and one
    at the port of an earlier one is that one to a ledger that knows it.
    """
    least = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    yield from random.sample(range(10_000, least), least - 10_000)


class FleetServer(StandInThread):
    """One of many stand-ins on a loop that they share; made and ended by its `Fleet`."""

    def __init__(self, on: LoopThread, **options: Any) -> None:
        super().__init__(**options)
        self._on: Final = on

    def start(self, port: int = 0) -> str:
        """Listen; see `StandIn.start`."""
        self._loop = self._on.loop
        try:
            return self._run(self.server.start(port))
        except BaseException:
            self._loop = None
            raise

    def stop(self) -> None:
        """Free the port; does nothing if it was not started."""
        if self._loop is not None:
            try:
                self._run(self.server.stop())
            finally:
                self._loop = None

    def hang(self) -> None:
        """From now on accept connections and say nothing at all, on the old ones, too."""
        self.behaviour.login = "silent"
        self.behaviour.read = "silent"

    def recover(self) -> None:
        """Answer again: new connections; what was asked meanwhile is never answered."""
        self.behaviour.login = "answer"
        self.behaviour.read = "answer"


class Fleet:
    """
    *count* servers named `NAME-01` and so on, each with the same *exchanges* declared.

    Enter it: it starts the servers, writes their access secrets and credentials into OpenBao, and
    their documents below the rig's folder.  With *proxied* each document names a `FaultProxy`
    before its server instead of the server itself.  *spec* adds to each document's `spec`; *ports*
    are tried one after the other, for servers that must find theirs free after they were away;
    *options* are those of `StandIn`; each gets its own copy of robots and behaviour.

    `servers`, `proxies` and `values` (what was written into OpenBao last, by server and exchange)
    are keyed by name.
    """

    def __init__(
        self,
        rig: Rig,
        count: int,
        *,
        exchanges: Sequence[str] = ("bybit",),
        name: str = "desk",
        proxied: bool = False,
        spec: Mapping[str, Any] | None = None,
        ports: Iterator[int] | None = None,
        **options: Any,
    ) -> None:
        self.names: Final = tuple(f"{name}-{number:02}" for number in range(1, count + 1))
        self.servers: Final[dict[str, FleetServer]] = {}
        self.proxies: Final[dict[str, FaultProxy]] = {}
        self.values: Final[dict[tuple[str, str], dict[str, str]]] = {}
        self._rig: Final = rig
        self._exchanges: Final = tuple(exchanges)
        self._proxied: Final = proxied
        self._spec: Final = dict(spec or {})
        self._ports: Final = ports
        self._options: Final = options
        self._stack: Final = ExitStack()
        self._on: Final = LoopThread("fleet")

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            stack.enter_context(self._on)
            stack.callback(self._stop)
            self._start()
            if self._proxied:
                for name, server in self.servers.items():
                    proxy = FaultProxy.of(server.url, on=self._on)
                    self.proxies[name] = stack.enter_context(proxy)
            self._stack.push(stack.pop_all())
        for name in self.names:
            for exchange in self._exchanges:
                self.rotate(name, exchange)
            self.document(name)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for name in self.names:
            self._rig.servers.pop(name, None)
        self._stack.close()

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """Where all of them live."""
        return self._on.loop

    @property
    def urls(self) -> dict[str, str]:
        """What each document names: the proxy where there is one, else the server."""
        return {name: self.url(name) for name in self.names}

    @property
    def records(self) -> dict[str, Record]:
        """What was really done to each server."""
        return {name: server.record for name, server in self.servers.items()}

    @property
    def behaviours(self) -> dict[str, Behaviour]:
        """How each server behaves; change what is in there."""
        return {name: server.behaviour for name, server in self.servers.items()}

    def url(self, name: str) -> str:
        """What this server's document names."""
        return self.proxies[name].url if name in self.proxies else self.servers[name].url

    def proxy(self, name: str) -> FaultProxy:
        """
        Return the proxy before this server, made now if there is none.

        A new one is used by nobody until its server's document is written anew, and then it is
        another address: jtr asks for approval unless it never saw the first one.
        """
        if name not in self.proxies:
            proxy = FaultProxy.of(self.servers[name].url, on=self._on)
            self.proxies[name] = self._stack.enter_context(proxy)
        return self.proxies[name]

    def rotate(self, name: str, exchange: str = "") -> dict[str, str]:
        """Write new made-up credentials into OpenBao (of the first exchange); return them."""
        exchange = exchange or self._exchanges[0]
        fields = ("apiKey", "secret", *FIELDS.get(exchange, ()))
        fresh = {field: self._rig.watch.secret(SECRET) for field in fields}
        self._rig.put(f"{name}/{exchange}", **fresh)
        self.values[name, exchange] = fresh
        return fresh

    def document(self, name: str, **spec: Any) -> None:
        """Write the document of a server anew; *spec* replaces keys of its `spec`."""
        address = {"url": self.url(name)}
        self._rig.document(name, *self._exchanges, rotate=False, **address | self._spec | spec)

    def stale(self, names: Iterable[str] = ()) -> list[str]:
        """Return what has not arrived: `SERVER/EXCHANGE` whose newest credentials are not there."""
        chosen = set(names or self.names)
        return [
            f"{name}/{exchange}"
            for (name, exchange), fresh in sorted(self.values.items())
            if name in chosen
            and not set(fresh.values()) <= set(self.servers[name].values().values())
        ]

    def fatal_paths(self) -> int:
        """How often any server ran its fatal path."""
        return sum(record.fatal_paths for record in self.records.values())

    def everywhere(self, act: Callable[[FleetServer], Coroutine[Any, Any, T]]) -> list[T]:
        """Do *act* with all servers at once, on their loop; return the results in their order."""
        return self._on.run(_together([act(server) for server in self.servers.values()]))

    def _start(self) -> None:
        for number, name in enumerate(self.names):
            access = self._rig.watch.secret(SECRET)
            self._rig.put(name, access_secret=access)
            # Each has its own: they change while it runs.
            own: dict[str, Any] = {"robots": ROBOTS, "behaviour": Behaviour()} | self._options
            own["robots"] = [copy.copy(robot) for robot in own["robots"]]
            own["behaviour"] = copy.copy(own["behaviour"])
            # Two that boot in the same millisecond with the same id would count as one server.
            server = FleetServer(self._on, access_secret=access, pid=1000 + number, **own)
            self._listen(server)
            self.servers[name] = self._rig.servers[name] = server

    def _listen(self, server: FleetServer) -> None:
        for port in self._ports or [0]:
            try:
                server.start(port)
                return
            except OSError:
                if not port:
                    raise
        raise AssertionError("no port is free")

    def _stop(self) -> None:
        failures: list[Exception] = []
        for server in self.servers.values():
            try:
                server.stop()
            except Exception as error:  # noqa: BLE001  - the others must be stopped, too
                failures.append(error)
        if failures:
            raise ExceptionGroup("some stand-ins failed", failures)


async def _together(work: Iterable[Coroutine[Any, Any, T]]) -> list[T]:
    return await asyncio.gather(*work)


__all__ = ["Fleet", "FleetServer"]
