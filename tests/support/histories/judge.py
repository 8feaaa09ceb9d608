"""
What must never happen to a server, judged at the very moment at which it gets or does something.

What is true is what the stand-ins record, and the documents that the sender had in force then.
"""

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final, Protocol

from reconciler.drivers.jt_trader.requests import DELETE, INVALIDATE, REBOOT, SAVE, START, STOP
from reconciler.ledger import Stored
from reconciler.model.desired import (
    Afterwards,
    DesiredExchange,
    DesiredServer,
    Mode,
    OnCredentialChange,
    Presence,
    RequestKind,
)
from reconciler.model.outcomes import Report
from reconciler.model.plan import Plan
from reconciler.model.target import Target
from reconciler.sandbox.jt_trader.record import Received, Record, Start
from reconciler.sandbox.jt_trader.server import StandIn
from tests.support.histories.documents import FIELDS, robot_name, short

WRITES: Final = {
    SAVE.event: "save",
    DELETE.event: "delete",
    STOP.event: "stop",
    START.event: "start",
    INVALIDATE.event: "invalidate",
    REBOOT.event: "reboot",
}
"""What changes a server."""

_KINDS: Final = {"invalidate": RequestKind.CACHE, "reboot": RequestKind.REBOOT}


class Wrong(AssertionError):
    """Something happened to a server that must never happen."""


class Sender(Protocol):
    """A process as the judge knows it: `in_force` are the documents that it goes by."""

    command: str
    alive: bool
    in_force: Mapping[Target, DesiredServer]


@dataclass(slots=True)
class _Robots:
    """
    What the judge knows of one server's robots.

    `stopped` are those that we stopped and that nobody touched since, with how much reports had
    said by then; `startable` those that we may start: that a hand started and stopped one of them
    in between, nobody could see.
    """

    stopped: dict[int, int] = field(default_factory=dict)
    startable: set[int] = field(default_factory=set)


class HistoryJudge:
    """
    Keeps the story and what is wrong in it.

    `origin` says of each value at which path of Vault it lies, or that a hand typed it; `done` how
    often each request was asked for, by address, kind and instant; `sends` counts what was sent.
    """

    def __init__(
        self, servers: Mapping[str, StandIn], seconds: Callable[[], float], who: Callable[[], Any]
    ) -> None:
        """*who* returns the `Sender` whose request a server is at, or None."""
        self.story: list[str] = []
        self.wrong: list[str] = []
        self.origin: dict[str, str] = {}
        self.done: Counter[tuple[str, str, datetime]] = Counter()
        self.sends = 0
        self._servers = servers
        self._seconds = seconds
        self._who: Callable[[], Sender | None] = who
        self._said: list[str] = []  # in reports
        self._robots: dict[str, _Robots] = {}

    # ── what is told ─────────────────────────────────────────────────────────────────────────

    def note(self, what: str) -> None:
        self.story.append(f"{self._seconds():10.2f}  {what}")

    def blame(self, what: str) -> None:
        self.wrong.append(what)
        self.note(f"WRONG: {what}")

    def check(self) -> None:
        """Raise Wrong, with the whole story, if anything was."""
        if self.wrong:
            raise Wrong("\n".join([*self.wrong, "", *self.story]))

    def reported(self, reports: Sequence[Report]) -> None:
        """Take note of what a process said to people."""
        for report in reports:
            name = report.plan.server
            for outcome in report.outcomes:
                self._said += [outcome.detail, *(robot.name for robot in outcome.stopped)]
                what = f"{type(outcome.action).__name__} {outcome.result}"
                self.note(f"    said of {name}: {what} {outcome.detail}")
            if report.failure is not None:
                self.note(f"    said of {name}: {report.failure}")

    def hand(self, url: str, robot: int) -> None:
        """Note that somebody else started or stopped a robot: from then on it is his."""
        self.robots(url).stopped.pop(robot, None)

    def robots(self, url: str) -> _Robots:
        return self._robots.setdefault(url, _Robots())

    # ── what servers get and do ──────────────────────────────────────────────────────────────

    def arrives(self, url: str, what: str) -> None:
        """HistoryJudge a request that changes the server, before anything was done."""
        sender = self._who()
        if sender is None:
            return
        self.sends += 1
        self.note(f"{sender.command}: {what} at {short(url)}")
        if not sender.alive:
            self.blame(f"{what} was sent by a process that is gone")
        if what == "start":  # of a robot that we stopped: no document has to ask for that
            return
        server = self._document(url)
        if server is None:
            self.blame(f"{what} was sent to {short(url)}, whose document is gone")
            return
        if server.suspend is not None:
            self.blame(f"{what} was sent to {short(url)}, which is suspended")
        if server.mode is Mode.OBSERVE:
            self.blame(f"{what} was sent to {short(url)}, which is only observed")
        if what in _KINDS:
            self._request(url, what, server)

    def asked_to_start(self, url: str, robot: Any) -> None:
        if self._who() is not None and robot not in self.robots(url).startable:
            self.blame(f"robot {robot} on {short(url)} was started that we had not stopped")

    def asked_to_stop(self, url: str, robot: Any) -> None:
        server = self._document(url)
        if server is not None and server.on_credential_change is OnCredentialChange.LEAVE:
            self.blame(f"robot {robot} on {short(url)} was stopped unasked")

    def did(self, url: str, what: str, *more: Any) -> None:
        """HistoryJudge what a server did."""
        match what:
            case "fatal":
                self.blame(f"a fatal path on {short(url)}")
            case "stop":
                self._stops(url, {more[0]})
            case "start":
                self.robots(url).stopped.pop(more[0], None)
                self.robots(url).startable.discard(more[0])
            case "save" | "delete":
                self._wrote(url, what, set(more[1:]))

    def _document(self, url: str) -> DesiredServer | None:
        sender = self._who()
        return None if sender is None else sender.in_force.get(Target(url, "0"))

    def _request(self, url: str, what: str, server: DesiredServer) -> None:
        wish = server.asked(_KINDS[what])
        if wish is None:
            self.blame(f"{what} was sent to {short(url)}, which nobody asks for")
            return
        self.done[url, what, wish.instant] += 1
        if self.done[url, what, wish.instant] > 1:
            self.blame(f"{what} of one instant was sent twice to {short(url)}")
        if what == "reboot":
            running = self._servers[url].robots_running()
            self._stops(url, running, owed=wish.robots is Afterwards.RESUME)

    def _stops(self, url: str, robots: set[int], *, owed: bool = True) -> None:
        if owed:
            known = self.robots(url)
            known.startable |= robots
            known.stopped.update(dict.fromkeys(robots, len(self._said)))

    def _wrote(self, url: str, what: str, names: set[str]) -> None:
        server = self._document(url)
        if server is None:
            return  # that was blamed when it arrived, or a hand did it
        for exchange in server.exchanges:
            if names & FIELDS[exchange.code].keys():
                names -= FIELDS[exchange.code].keys()
                if (exchange.presence is Presence.PRESENT) != (what == "save"):
                    self.blame(f"{what} of {exchange.code} on {short(url)}: nobody asks for it")
                self._whose(url, exchange)
        if names:
            self.blame(f"{what} of {sorted(names)} on {short(url)}: no document names them")

    def _whose(self, url: str, exchange: DesiredExchange) -> None:
        stored = self._servers[url].values()
        wanted = {str(ref.at) for ref in exchange.references}
        for name in FIELDS[exchange.code]:
            of = self.origin.get(stored.get(name, ""))
            if exchange.presence is Presence.PRESENT and of not in wanted:
                self.blame(f"a value of {of} was stored as {name} on {short(url)}")

    # ── at the end ───────────────────────────────────────────────────────────────────────────

    def unnamed(self, plan: Plan, ledger: Mapping[str, Stored]) -> list[str]:
        """
        Return the robots that we left stopped and that nobody names.

        They are to be named by a report since, by *plan*, or by what the ledger keeps for people.
        """
        lines = [line for server in plan for line in server.disruptions]
        said = [line.why for line in lines] + [r.name for line in lines for r in line.robots]
        for key, stored in ledger.items():
            if key.endswith("/requests"):
                said.append(json.dumps(json.loads(stored.text).get("halt")))
        return [
            name
            for url, known in self._robots.items()
            for robot, since in known.stopped.items()
            if robot not in self._servers[url].robots_running()
            if (name := robot_name(url, robot)) not in " ".join([*said, *self._said[since:]])
        ]


class ToldRecord(Record):
    """Tells the judge at once what arrives and what is done."""

    def __init__(self, judge: HistoryJudge, url: str) -> None:
        super().__init__()
        self._judge = judge
        self._url = url

    def add_received(self, received: Received) -> None:
        super().add_received(received)
        if received.event in WRITES:
            self._judge.arrives(self._url, WRITES[received.event])

    def add_start(self, start: Start) -> None:
        super().add_start(start)
        self._judge.asked_to_start(self._url, start.robot)

    def add_stop(self, robot: object, command: str) -> None:
        super().add_stop(robot, command)
        self._judge.asked_to_stop(self._url, robot)

    def add_done(self, *what: object) -> None:
        super().add_done(*what)
        self._judge.did(self._url, str(what[0]), *what[1:])
