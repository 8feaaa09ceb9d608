"""Servers, secrets, documents and a ledger, and what people do to them."""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from reconciler.ledger import Stored
from reconciler.ledger.ledger import Ledger
from reconciler.ledger.stores.memory import MemoryStore
from reconciler.model.desired import DesiredState, Presence
from reconciler.model.references import SecretPath
from reconciler.sandbox.jt_trader.memory import MemoryNetwork, MemoryServer, calm
from reconciler.sandbox.jt_trader.robots import Robot
from reconciler.secrets.memory import MemoryBackend
from reconciler.testing.virtual_time import VirtualClock
from tests.support.histories.documents import (
    CODES,
    FIELDS,
    ROBOTS,
    RUNNING,
    URLS,
    Document,
    path_of,
    robot_name,
)
from tests.support.histories.judge import HistoryJudge, ToldRecord
from tests.support.histories.processes import TIMEOUTS, Network, sender

BY_HAND = "by hand"


@dataclass(frozen=True, slots=True)
class Beginning:
    """Where everything was written once: every history begins here, and nobody writes it anew."""

    ledger: Mapping[str, Stored]
    rows: Mapping[str, Mapping[str, str]]
    logs: Mapping[str, Sequence[Mapping[str, Any]]]
    at: float


class Environment:
    """
    Two documents, their two servers, and a spare server that no document names yet.

    *pace* are the pauses that requests and the ledger take, one after another, over and over.
    """

    def __init__(
        self, clock: VirtualClock, pace: Sequence[float] = (), begins: Beginning | None = None
    ) -> None:
        self.clock = clock
        self.numbers = itertools.count(1)
        self.docs: dict[str, Document] = {}
        self.newest: dict[SecretPath, dict[str, str]] = {}
        self.servers: dict[str, MemoryServer] = {}
        self.judge = HistoryJudge(self.servers, clock, sender.get)
        self.store = MemoryStore(begins.ledger if begins else None)
        self.vault = MemoryBackend(keep=100, clock=lambda: clock.truth().timestamp())
        self._pace: Iterator[float] = itertools.cycle(pace or (0.0,))
        self._instant = clock.truth()
        for url in URLS:
            self.servers[url] = _Server(self, url)
        for key, url in zip("ab", URLS, strict=False):
            for code in CODES:
                self.rotate(key, code)
            exchanges = dict.fromkeys(CODES, Presence.PRESENT)
            self.docs[key] = Document(
                key, key, url, exchanges, restarts=key == "a", heals=key == "b"
            )
        if begins is None:
            self.ledger().close()

    async def begin(self, begins: Beginning) -> None:
        """Be where *begins* was."""
        for url, server in self.servers.items():
            await server.start()
            for name, value in begins.rows[url].items():
                server.set_value(name, value)
            server.restore_log(begins.logs[url])
        self.clock.at = begins.at

    def end(self) -> Beginning:
        """Return where everything is now."""
        return Beginning(
            self.store.documents(),
            {url: server.values() for url, server in self.servers.items()},
            {url: server.log_entries() for url, server in self.servers.items()},
            self.clock.at,
        )

    def ledger(self) -> Ledger:
        """Return the ledger as a person opens it."""
        return Ledger(self.store, now=self.clock.wall, timeouts=TIMEOUTS, writer="a person")

    def forgive(self) -> None:
        """
        Let robots be started that a process noted it was about to stop when it died.

        Whether it did, nobody can know: if they do not run, they are started.
        """
        for identity in self.ledger().servers():
            halt = self.ledger().requests(identity.uid).load().halt
            for robot in halt.robots if halt is not None else ():
                self.judge.robots(identity.target.url).startable.add(robot.id)

    # ── time ─────────────────────────────────────────────────────────────────────────────────

    def pause(self) -> float:
        """Return how long the next thing takes."""
        return next(self._pace)

    def hurry(self) -> None:
        """Let nothing take its time any more."""
        self._pace = itertools.repeat(0.0)

    # ── what people do ───────────────────────────────────────────────────────────────────────

    def state(self) -> DesiredState:
        servers = (document.server() for document in self.docs.values())
        return DesiredState(tuple(sorted(servers, key=lambda server: server.name)))

    def rotate(self, key: str, code: str, *, rest: bool = False) -> None:
        """Write a new version; with *rest* the API key stays."""
        at = path_of(key, code)
        fresh = {name: self._value(str(at)) for name in FIELDS[code].values()}
        if rest:
            fresh["apiKey"] = self.newest[at]["apiKey"]
        self.newest[at] = fresh
        self.vault.put(at, fresh)

    def type_in(self, url: str, name: str) -> None:
        """Type a value into the web page."""
        self.servers[url].set_value(name, self._value(BY_HAND))

    def delete(self, url: str, name: str) -> None:
        """Delete a value on the web page."""
        if name in self.servers[url].values():
            self.servers[url].remove_value(name)

    def turn(self, url: str, robot: int, *, running: bool) -> None:
        """Start or stop a robot on the web page."""
        self.servers[url].set_running(robot, running)
        self.judge.hand(url, robot)

    async def reboot(self, url: str) -> None:
        """Let somebody else restart the process: that its robots stop is his doing."""
        server = self.servers[url]
        if server.open is None:
            return  # it is rebooting
        for robot in ROBOTS:
            self.turn(url, robot, running=False)
        await server.stop(for_good=False)
        await server.start()

    def next_instant(self) -> datetime:
        """Return an instant of its own for a request, about now."""
        self._instant = max(self._instant + timedelta(seconds=1), self.clock.truth())
        return self._instant

    def _value(self, of: str) -> str:
        """Make a value that never repeats, nor does its mask, and remember where it belongs."""
        number = f"{next(self.numbers):06d}"
        value = f"{number[::-1]}Made0Up1Value2Of3Nobody4{number}"
        self.judge.origin[value] = of
        return value


class _Server(MemoryServer):
    def __init__(self, environment: Environment, url: str) -> None:
        behaviour = calm()
        behaviour.reboot_drop, behaviour.reboot_down, behaviour.log_lag = 1.0, 2.0, 0.2
        super().__init__(
            url,
            robots=[
                Robot(number, robot_name(url, number), code, running=number in RUNNING)
                for number, (_, code) in ROBOTS.items()
            ],
            additional=("mexc",),
            behaviour=behaviour,
            record=ToldRecord(environment.judge, url),
            now=lambda: environment.clock.truth().timestamp(),
            pid=7 + URLS.index(url),  # or by their boot lines they would be one server
        )

    def _new_network(self) -> MemoryNetwork:
        return Network(self)
