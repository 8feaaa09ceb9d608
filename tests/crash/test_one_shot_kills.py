"""
`kill -9` at random moments of passes that invalidate and reboot, then apply again.

Real processes, a real ledger on the disk or in Vault, a real OpenBao and a stand-in, which is the
judge: it counts the processes that ended and the caches that were emptied.  Where only a person can
tell, the person looks at the stand-in.
"""

import contextlib
import os
import random
import signal
import sqlite3
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

import pytest

from reconciler.bootstrap import load_settings, open_ledger
from reconciler.ledger.ledger import Ledger
from reconciler.ledger.requests import RequestLog
from reconciler.model.desired import RequestKind
from reconciler.model.recorded import Request, Requests, Stage
from reconciler.model.values import replace
from reconciler.sandbox.jt_trader.server import Behaviour, StandInThread
from reconciler.system.timeouts import Timeouts
from tests.crash.forkserver import MANY, VOLUME, Forks
from tests.support.durations import DURATIONS
from tests.support.rig import LEDGERS, Rig

SERVER: Final = "tokyo-1"
BRISK: Final = {
    **DURATIONS,
    "quiesce": "1ms",
    "reconnect": "10ms",
    "leaseWait": "5s",
}
FAST: Final[Mapping[str, Any]] = {
    "ping_interval": 0.2,
    "ping_timeout": 0.2,
    "reboot_drop": 0.01,
    "reboot_down": 0.03,
    "row_delay": (0.0, 0.001),
}
RUNNING: Final = {1, 2}
MOST_LOST: Final = 100  # connections in one round
PARTS: Final = 2  # of the long test, a worker each


def opened(rig: Rig) -> Ledger:
    """The ledger as another process opens it."""
    settings = load_settings(None, rig.environment, [])
    return open_ledger(replace(settings, timeouts=Timeouts()), "a person")


def check(rig: Rig) -> None:
    """See that a ledger on the disk is whole."""
    file = rig.home / "state" / "jtr" / "ledger.db"
    if file.exists():
        with closing(sqlite3.connect(file)) as ledger:
            assert ledger.execute("PRAGMA quick_check").fetchall() == [("ok",)]


@contextlib.contextmanager
def book(rig: Rig) -> Iterator[RequestLog]:
    """The requests of the server."""
    ledger = opened(rig)
    try:
        yield ledger.requests(ledger.servers()[0].uid)
    finally:
        ledger.close()


def spelled(at: datetime) -> str:
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")


@dataclass
class Rounds:
    """One rig; every round asks for an invalidation and a reboot; `counts` says what came."""

    rig: Rig
    forks: Forks
    server: StandInThread
    chance: random.Random
    counts: Counter[str] = field(default_factory=Counter)
    wished: dict[RequestKind, datetime] = field(default_factory=dict)
    before: dict[RequestKind, int] = field(default_factory=dict)
    starts: int = 0

    def ask(self) -> None:
        """Write new wishes into the document."""
        # To the millisecond, as documents have it, and never in the future.
        now = datetime.now(UTC)
        now = now.replace(microsecond=now.microsecond // 1000 * 1000)
        self.wished = dict.fromkeys(RequestKind, now)
        self.before = self.happened()
        self.starts = len(self.server.record.starts)
        self.rig.document(
            SERVER,
            rotate=False,
            supervised=True,
            soleAccount=True,
            cache={"invalidatedAfter": spelled(now), "reason": "made up"},
            reboot={"bootedAfter": spelled(now), "robots": "resume", "reason": "made up"},
        )

    def happened(self) -> dict[RequestKind, int]:
        """What really happened to the server so far."""
        record = self.server.record
        return {RequestKind.CACHE: record.invalidations, RequestKind.REBOOT: record.reboots}

    def did(self, kind: RequestKind) -> int:
        """How often it happened in this round."""
        return self.happened()[kind] - self.before[kind]

    def start(self) -> int:
        """Start an apply of its own process; return its id."""
        args = ["apply", str(self.rig.docs), "--auto-approve"]
        return self.forks.run(args, self.rig.environment, self.rig.home / "apply.log")

    def no_request_is_open(self) -> bool:
        """Whether every request has its outcome."""
        with book(self.rig) as requests:
            return requests.load().open is None

    def apply(self) -> int:
        """Apply undisturbed; return the exit code."""
        return self.forks.wait(self.start())

    @property
    def lost(self) -> bool:
        """Whether the newest apply lost its connection."""
        text = self.text()
        return any(f"connection {how}" in text for how in ("was lost", "ended before", "is over"))

    def text(self) -> str:
        """What the newest apply printed."""
        return (self.rig.home / "apply.log").read_text()

    def judge(self) -> None:
        """Apply until nothing is left to do, as a person does; ask the stand-in what was done."""
        with book(self.rig) as requests:
            self.counts["left open"] += requests.load().open is not None
        applies = lost = 0
        while applies < 6:
            code = self.apply()
            assert code in (0, 4, 6, 7), self.text()
            # A busy machine lets a connection with such short pings lapse; that says nothing of us.
            lost += self.lost
            applies += not self.lost
            assert lost < MOST_LOST, self.text()
            with book(self.rig) as requests:
                known = requests.load()
                if known.open is not None:
                    # A reboot leaves evidence: nobody is ever asked about one, at most it is away.
                    if known.open.kind is RequestKind.CACHE:
                        self.resolve(requests, known.open)
                elif known.halt is not None:
                    # A server that is just booting is only looked at once more.  What stands in the
                    # ledger for people stays there, a lost connection in its words or not.
                    if known.halt.finding or (code != 0 and not self.lost):
                        self.start_by_hand(requests, known)
                elif all(known.handled.get(k) == at for k, at in self.wished.items()):
                    break
        self._judge_ledger(known)
        assert {kind: n for kind in RequestKind if (n := self.did(kind)) > 1} == {}, "done twice"
        started = [s.robot for s in self.server.record.starts[self.starts :]]
        assert len(started) == len(set(started)), "a robot was started twice"
        assert self.server.robots_running() == RUNNING, self.text()
        check(self.rig)

    def _judge_ledger(self, known: Requests) -> None:
        assert known.open is None, self.text()
        for kind, at in self.wished.items():
            request = known.closed(kind, at)
            assert request is not None, f"{kind} was forgotten: {self.text()}"
            assert request.stage in (Stage.DONE, Stage.NOT_DONE)
            assert self.did(kind) == (request.stage is Stage.DONE), request
            self.counts[f"{kind} {request.stage}"] += 1

    def resolve(self, requests: RequestLog, doubt: Request) -> None:
        """Look at the server, and say what became of a request."""
        self.counts[f"{doubt.kind} went to a person"] += 1
        done = self.did(doubt.kind) > 0
        requests.resolve(doubt.kind, doubt.instant, done=done, because="I looked at the server")

    def start_by_hand(self, requests: RequestLog, known: Requests) -> None:
        """Start the robots that a finding names; those of no finding must run."""
        assert known.halt is not None
        named = {robot.id for robot in known.halt.robots}
        left = RUNNING - self.server.robots_running()
        assert left <= named, self.text()
        names = {robot.name for robot in known.halt.robots if robot.id in left}
        assert all(name in self.text() for name in names), self.text()
        self.counts["robots went to a person"] += 1
        for robot in left:
            self.server.set_running(robot, True)
        requests.release()


@pytest.fixture
def rounds(rig: Rig, forks: Forks, ledger: str) -> Rounds:
    seed = random.SystemRandom().randrange(2**32)
    print(f"REPRO: seed {seed}")  # noqa: T201  - shown when the test fails
    rig.settings(durations=BRISK, **rig.ledger(ledger))
    # Where each apply loses its connection because the machine is busy, none comes to its end.
    slower = {**FAST, "ping_timeout": 0.8}
    server = rig.server(SERVER, behaviour=Behaviour(**slower), seed=seed)
    rig.document(SERVER)
    rig.begin()
    assert rig.apply().code == 0
    return Rounds(rig, forks, server, random.Random(seed))


def killed_at_random(rounds: Rounds, kills: int) -> None:
    """Kill so many applies at moments drawn by chance; those that came too late do not count."""
    took, undisturbed = 0.0, 0
    while undisturbed < 2:
        rounds.ask()
        began = time.monotonic()
        code = rounds.apply()
        took = time.monotonic() - began
        assert code == 0 or rounds.lost, rounds.text()
        undisturbed += not rounds.lost
        assert rounds.lost or rounds.no_request_is_open(), rounds.text()
        rounds.judge()
    rounds.counts.clear()
    hits, whole = 0, took
    while hits < kills or not rounds.counts["left open"]:
        rounds.ask()
        pid = rounds.start()
        time.sleep(rounds.chance.uniform(0, took))  # the random moment is the point
        os.kill(pid, signal.SIGKILL)
        hit = rounds.forks.wait(pid) == -signal.SIGKILL
        hits += hit
        took *= 1.01 if hit else 0.97
        rounds.counts["too late"] += not hit
        rounds.judge()
    asked = rounds.counts["invalidate-cache went to a person"]
    rounds.counts["resolved by evidence"] = rounds.counts["left open"] - asked
    counts = dict(sorted(rounds.counts.items()))
    print(f"FIGURES: {kills} kills, one apply {whole:.2f} s: {counts}")  # noqa: T201  - shown with -rP


@pytest.mark.timeout(VOLUME)
@pytest.mark.parametrize("ledger", ["sqlite", pytest.param("vault", marks=pytest.mark.volume)])
def test_killed_at_random_moments(rounds: Rounds) -> None:
    killed_at_random(rounds, 10)


@pytest.mark.long
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("part", range(PARTS))
@pytest.mark.parametrize("ledger", LEDGERS)
def test_killed_at_random_moments_for_long(rounds: Rounds, part: int) -> None:  # noqa: ARG001  - one of several
    killed_at_random(rounds, MANY // PARTS)

    assert rounds.counts["left open"] > MANY // PARTS // 25
