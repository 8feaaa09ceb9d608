"""
Two to eight processes apply the same reboot or invalidation to one server, on one ledger, and are
stopped and woken at random: the stand-in is asked exactly once.
"""

import os
import random
import signal
import time
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final

import pytest

from reconciler.sandbox.jt_trader.server import Behaviour, StandInThread
from tests.crash.forkserver import VOLUME, Forks
from tests.crash.test_one_shot_kills import BRISK, FAST, spelled
from tests.support.rig import LEDGERS, Rig

SERVER: Final = "tokyo-1"
MOST: Final = 8
REQUESTS: Final = {"cache": "invalidate-cache-request", "reboot": "reboot-system-request"}


@dataclass
class Races:
    """One rig; every race asks for one thing; `counts` says what came."""

    rig: Rig
    forks: Forks
    server: StandInThread
    chance: random.Random
    counts: Counter[str] = field(default_factory=Counter)
    wished: str = ""

    def ask(self, kind: str) -> None:
        """Write one new wish into the document."""
        now = datetime.now(UTC)
        now = now.replace(microsecond=now.microsecond // 1000 * 1000)
        self.wished = spelled(now)
        wish = (
            {"invalidatedAfter": spelled(now)}
            if kind == "cache"
            else {"bootedAfter": spelled(now), "robots": "leave"}
        )
        self.rig.document(
            SERVER, rotate=False, supervised=True, **{kind: {**wish, "reason": "made up"}}
        )

    def race(self, size: int, kind: str) -> None:
        """Let so many processes apply at once, and disturb them."""
        self.ask(kind)
        asked = self.asked(kind)
        args = ["apply", str(self.rig.docs), "--auto-approve"]
        environment = self.rig.environment
        running = [
            self.forks.run(args, environment, self.rig.home / f"apply-{number}.log")
            for number in range(size)
        ]
        self.disturb(running)
        codes = [self.forks.wait(pid) for pid in running]
        self.counts.update(f"exit {code}" for code in codes)
        texts = [self.text(number) for number in range(size)]
        assert set(codes) <= {0, 4, 6, 7}, texts
        for _ in range(10):
            code = self.rig.apply().code
            if code == 0:
                break
            if code == 7 and kind == "cache":
                self.resolve()
        assert code == 0, texts
        done = self.asked(kind) - asked
        assert done == 1, f"{kind} was sent {done} times: {texts}"
        for robot in (1, 2):
            self.server.set_running(robot, True)

    def resolve(self) -> None:
        """Say that it was done: its sender was stopped until nobody waited for the answer."""
        self.counts["went to a person"] += 1
        what = (SERVER, "invalidate-cache", self.wished, "--done", "--because", "I looked")
        assert self.rig.jtr("request", "resolve", *what).code == 0

    def disturb(self, pids: list[int]) -> None:
        """Stop and wake processes at random; in the end all are awake."""
        for _ in range(len(pids) * 2):
            pid = self.chance.choice(pids)
            time.sleep(self.chance.uniform(0, 0.06))  # the random moment is the point
            os.kill(pid, signal.SIGSTOP)
            time.sleep(self.chance.uniform(0, 0.06))
            os.kill(pid, signal.SIGCONT)

    def asked(self, kind: str) -> int:
        """How often the server received this request."""
        return self.server.record.events(REQUESTS[kind])

    def text(self, number: int) -> str:
        """What one of the processes printed."""
        return (self.rig.home / f"apply-{number}.log").read_text()


@pytest.fixture(params=LEDGERS)
def races(request: pytest.FixtureRequest, rig: Rig, forks: Forks) -> Races:
    seed = random.SystemRandom().randrange(2**32)
    print(f"REPRO: seed {seed}")  # noqa: T201  - shown when the test fails
    # Longer than a process is stopped: what is away for longer is another test's matter.
    patient = {"leaseWait": "20s", "request": "2s", "secretsRequest": "10s", "secretsTotal": "20s"}
    rig.settings(durations={**BRISK, **patient}, **rig.ledger(request.param))
    slower = {**FAST, "ping_interval": 1.0, "ping_timeout": 1.0}
    server = rig.server(SERVER, behaviour=Behaviour(**slower), seed=seed)
    rig.document(SERVER)
    rig.begin()
    assert rig.apply().code == 0
    return Races(rig, forks, server, random.Random(seed))


def raced(races: Races, rounds: int) -> None:
    for number in range(rounds):
        races.race(races.chance.randint(2, MOST), "reboot" if number % 2 else "cache")
    print(f"FIGURES: {rounds} races, {dict(sorted(races.counts.items()))}")  # noqa: T201  - shown with -rP
    ended = sum(count for what, count in races.counts.items() if what.startswith("exit"))
    assert ended >= 2 * rounds


@pytest.mark.timeout(VOLUME)
def test_whoever_wins_only_one_sends(races: Races) -> None:
    raced(races, 6)


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_whoever_wins_only_one_sends_for_long(races: Races) -> None:
    raced(races, 150)
