"""
`kill -9` at any moment of an apply, then apply again: the server is as the documents say.

Real processes, a real ledger on the disk or in Vault, a real OpenBao and a stand-in, which is the
judge.  Every round rotates credentials, writes an exchange that is not there yet or deletes one,
kills the apply of it, and applies again.
"""

import os
import random
import signal
import threading
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Self

import pytest

from reconciler.sandbox.jt_trader import record
from reconciler.sandbox.jt_trader.server import Behaviour, StandInThread
from tests.crash.forkserver import MANY, PATIENCE, VOLUME, Forks
from tests.crash.harness import FIELDS, SPELLED, Forge
from tests.crash.test_one_shot_kills import check
from tests.support.durations import DURATIONS
from tests.support.rig import LEDGERS, Rig

SERVER = "tokyo-1"
LASTING = ("bybit", "okx", "gateio")
COMING_AND_GOING = "kucoin"
WRITES = ("exchange-config-save", "exchange-config-delete")


@dataclass
class Rounds:
    """One rig in which round after round is killed; `counts` says what the kills met."""

    rig: Rig
    forks: Forks
    server: StandInThread
    chance: random.Random
    forge: Forge = field(default_factory=Forge)
    truth: dict[str, dict[str, str]] = field(default_factory=dict)
    number: int = 0
    counts: Counter[str] = field(default_factory=Counter)

    def change(self, *codes: str) -> None:
        """Rotate *codes*, or some exchanges, and let one come (odd rounds) or go (even ones)."""
        self.number += 1
        for code in codes or self.chance.sample(LASTING, self.chance.randint(1, 2)):
            self.rotate(code)
        gone = self.number % 2 == 0
        if not gone:
            self.rotate(COMING_AND_GOING)
        exchanges = {COMING_AND_GOING: {"state": "absent"}} if gone else {}
        present = LASTING if gone else (*LASTING, COMING_AND_GOING)
        self.rig.document(SERVER, *present, rotate=False, exchanges=exchanges)
        if gone:
            self.truth.pop(COMING_AND_GOING, None)

    def rotate(self, code: str) -> None:
        """Write a new version, now and then with the same API key."""
        new = {name: self.forge.value() for name in FIELDS[code]}
        if code in self.truth and self.chance.random() < 1 / 3:
            key = next(iter(FIELDS[code]))
            new[key] = self.truth[code][key]
        self.truth[code] = new
        self.rig.put(
            f"{SERVER}/{code}", **{SPELLED[code][FIELDS[code][n]]: v for n, v in new.items()}
        )

    def start(self, moment: int | None = None) -> int:
        """Start an apply of its own process; return its id."""
        args = ["apply", str(self.rig.docs), "--auto-approve"]
        output = self.rig.home / "apply.log"
        return self.forks.run(args, self.rig.environment, output, moment=moment)

    def judge(self) -> None:
        """Apply again; ask the stand-in whether all is well."""
        done = self.rig.apply()
        if done.code == 4 and "changed on the server" in done.text:
            # What the dead process had sent arrived while we were already at work.
            self.counts["late arrivals"] += 1
            done = self.rig.apply()
        assert done.code == 0, done.text
        plan = self.rig.plan("--detailed-exitcode")
        assert plan.code == 0, plan.text
        expected = {name: value for values in self.truth.values() for name, value in values.items()}
        stored = self.server.values()
        assert {n for n in stored if stored[n] != expected.get(n)} == set()
        assert stored.keys() == expected.keys()
        self.counts["doubled rows"] += len(self.server.rows()) - len(stored)
        assert self.server.record.fatal_paths == 0
        assert self.server.record.robot_stops == 0
        assert self.server.robots_running() == {1, 2}
        check(self.rig)


@pytest.fixture
def rounds(rig: Rig, forks: Forks, ledger: str) -> Rounds:
    """A server with three exchanges written and two robots that run."""
    seed = random.SystemRandom().randrange(2**32)
    print(f"REPRO: seed {seed}")  # noqa: T201  - shown when the test fails
    rig.settings(durations=DURATIONS | {"quiesce": "1ms"}, **rig.ledger(ledger))
    server = rig.server(SERVER, behaviour=Behaviour(row_delay=(0.0, 0.001)), seed=seed)
    rounds = Rounds(rig, forks, server, random.Random(seed))
    for code in LASTING:
        rounds.rotate(code)
    rig.document(SERVER, *LASTING, rotate=False)
    rig.begin()
    rounds.judge()
    return rounds


def whole(rounds: Rounds) -> float:
    """Let one round go through undisturbed; return how long it took."""
    rounds.change()
    began = time.monotonic()
    assert rounds.forks.wait(rounds.start()) == 0
    took = time.monotonic() - began
    rounds.judge()
    return took


WHEN = ("before the first write was sent", "after the first write was sent")


def killed_at_random(rounds: Rounds, kills: int) -> None:
    """
    Kill so many applies at moments drawn by chance, and as many more as it takes to hit both sides
    of the first write; those that came too late do not count.
    """
    took = min(whole(rounds), whole(rounds))
    hits, counts = 0, rounds.counts
    while hits < kills or not all(counts[when] for when in WHEN):
        rounds.change()
        sent = rounds.server.record.saves + rounds.server.record.deletes
        pid = rounds.start()
        time.sleep(rounds.chance.uniform(0, took))  # the random moment is the point
        os.kill(pid, signal.SIGKILL)
        hit = rounds.forks.wait(pid) == -signal.SIGKILL
        hits += hit
        # The machine is now busy, now idle: aim so that one in four comes too late.
        took *= 1.01 if hit else 0.97
        if not hit:
            counts["too late"] += 1
        elif rounds.server.record.saves + rounds.server.record.deletes == sent:
            counts[WHEN[0]] += 1
        else:
            counts[WHEN[1]] += 1
        rounds.judge()
    print(f"FIGURES: {kills} kills, one apply {took:.2f} s: {dict(counts)}")  # noqa: T201  - shown with -rP


@pytest.mark.volume
@pytest.mark.timeout(VOLUME)
@pytest.mark.parametrize(("ledger", "kills"), [("sqlite", 25), ("vault", 10)])
def test_killed_at_random_moments(rounds: Rounds, kills: int) -> None:
    killed_at_random(rounds, kills)


@pytest.mark.long
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("ledger", LEDGERS)
def test_killed_at_random_moments_for_long(rounds: Rounds) -> None:
    killed_at_random(rounds, MANY)


# ── at every event that the server receives ──────────────────────────────────────────────────


class Assassin:
    """
    Kills a process when the server receives its event number *number*, counted from 0.

    On arrival, before anything is done; or once it is done, before the answer is sent; or once the
    answer is sent.  `events` are all that came.
    """

    def __init__(self, server: StandInThread, number: int, when: str) -> None:
        self.events: list[str] = []
        self.struck = False
        self._server = server.server
        self._number = number
        self._when = when
        self._pid = 0
        self._known = threading.Event()

    def aim(self, pid: int) -> None:
        """Say whom to kill; until then the server waits."""
        self._pid = pid
        self._known.set()

    def __enter__(self) -> Self:
        self._sink, record.SINK = record.SINK, self._received
        self._send = self._server.send
        self._server.send = self._sending  # type: ignore[method-assign]  # for one round
        return self

    def __exit__(self, *_: object) -> None:
        record.SINK = self._sink
        self._server.send = self._send  # type: ignore[method-assign]

    def _received(self, command: str, event: str) -> None:
        if self._sink is not None:
            self._sink(command, event)
        self.events.append(event)
        if self._when == "arrives":
            self._strike()

    async def _sending(self, connection: str | None, message: Mapping[str, object]) -> None:
        answers = message.get("event") == "exchange-config-response"
        if answers and self._when == "done":
            self._strike()
        await self._send(connection, message)
        if answers and self._when == "answered":
            self._strike()

    def _strike(self) -> None:
        if len(self.events) == self._number + 1 and not self.struck:
            self.struck = True
            assert self._known.wait(PATIENCE)
            os.kill(self._pid, signal.SIGKILL)


def round_killed_at_event(rounds: Rounds, number: int, when: str) -> Assassin:
    """One round, killed at one event if it has so many."""
    rounds.change("bybit" if rounds.number % 2 else "okx")
    with Assassin(rounds.server, number, when) as assassin:
        pid = rounds.start()
        assassin.aim(pid)
        code = rounds.forks.wait(pid)
    assert code == (-signal.SIGKILL if assassin.struck else 0)
    rounds.judge()
    return assassin


@pytest.mark.timeout(VOLUME)
@pytest.mark.parametrize("times", [1, pytest.param(2, marks=pytest.mark.long)])
def test_killed_at_every_event(rounds: Rounds, times: int) -> None:
    """Writes and deletes take turns; whether one or both of them die at an event is `times`."""
    writes: list[set[int]] = []
    lengths = []
    for _ in range(2):
        events = round_killed_at_event(rounds, 10_000, "arrives").events
        writes.append({n for n, event in enumerate(events) if event in WRITES})
        assert len(writes[-1]) >= 2
        lengths.append(len(events))
    if rounds.chance.random() < 0.5:
        round_killed_at_event(rounds, 10_000, "arrives")
    kills = 0
    assert min(lengths) > 8
    for number in range(max(lengths)):
        struck = sum(round_killed_at_event(rounds, number, "arrives").struck for _ in range(times))
        tries = 0
        while not struck and tries < 10:
            # A round in which the log is read once less, or a delete, has fewer events.
            struck = round_killed_at_event(rounds, number, "arrives").struck
            tries += 1
        kills += struck
        assert struck or number >= min(lengths), f"nobody died at event {number} of {lengths}"
    for number in sorted(writes[0] | writes[1]):
        for when in ("done", "answered"):
            kills += sum(round_killed_at_event(rounds, number, when).struck for _ in range(times))
    print(f"FIGURES: {kills} kills, {dict(rounds.counts)}")  # noqa: T201  - shown with -rP


@pytest.mark.timeout(VOLUME)
@pytest.mark.parametrize("ledger", ["sqlite", pytest.param("vault", marks=pytest.mark.long)])
def test_killed_at_every_write_to_the_ledger(rounds: Rounds) -> None:
    moment, kills, killed = 0, 0, True
    while killed:
        killed = False
        for code in ("okx", "bybit"):
            rounds.change(code)
            ended = rounds.forks.wait(rounds.start(moment))
            assert ended in (0, -signal.SIGKILL)
            killed |= ended != 0
            kills += ended != 0
            rounds.judge()
        moment += 1
    print(f"FIGURES: {kills} kills, {dict(rounds.counts)}")  # noqa: T201  - shown with -rP
    assert kills > 15  # three commits where the store can write several rows at once
