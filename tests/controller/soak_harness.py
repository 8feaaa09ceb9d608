"""
A fleet, its network, its Vault and its documents, to all of which things happen by chance.

The controller is a process of its own and is only looked at from outside: its pages, its log, what
`/proc` says of it, and what the servers count.  People are played, too: after every phase they
release brakes and say what became of requests in doubt.
"""

import json
import os
import random
import subprocess
import sys
import time
import urllib.request
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, Self

from reconciler.model.plan import Standing
from reconciler.sandbox.jt_trader.faults import Behaviour
from tests.controller.faults import KINDS, Mischief
from tests.controller.process_meter import Meter
from tests.controller.test_controller import BRISK
from tests.e2e.test_controller import ROOT, Running
from tests.support.fleet import Fleet
from tests.support.lasting_openbao import LastingOpenBao
from tests.support.rig import Rig

INTERVAL, SETTLE = 1.0, 0.2
DURATIONS = BRISK | {
    "interval": f"{INTERVAL * 1000:.0f}ms",
    "settle": f"{SETTLE * 1000:.0f}ms",
    "settleTotal": "5s",
    "rescan": "500ms",
    "connect": "1s",
    "authenticate": "1500ms",
    "request": "1500ms",
    "secretsRequest": "1s",
    "secretsTotal": "2s",
    "ready": "3s",
    "robot": "2s",
    "drop": "1s",
    "stop": "4s",
}
# What is under way when everything recovers ends by its deadline: one attempt at a server (2.5 s
# and a question of 1.5 s), one at Vault (2 s), and the longest backoff (0.3 s).
UNDER_WAY: Final = 1.0 + 1.5 + 1.5 + 2.0 + 0.3
BUSY: Final = 2.0  # two cores run all of it: twenty servers, proxies, OpenBao, controller, test
AFTER_TROUBLE: Final = INTERVAL * 1.1 + SETTLE + UNDER_WAY + BUSY
IN_PEACE: Final = INTERVAL * 1.1 + SETTLE + BUSY
ASKED_BY: Final = 60.0  # until every request has its outcome: reboots go one by one
ENDED: Final = {
    *(Standing.DONE, Standing.NOT_DONE, Standing.SATISFIED),
    *(Standing.EXPIRED, Standing.SUPERSEDED),
}


def _ports() -> Iterator[int]:
    """
    Give ports that the system gives to nobody who connects.

    A server that is away finds its port taken otherwise, by any connection on this machine.
    """
    least = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    while True:
        yield random.randrange(10_000, least)


class Soak:
    """Everything of one run.  Enter it; `phase` is what is repeated."""

    def __init__(self, rig: Rig, bao: LastingOpenBao, seed: int, *, servers: int = 20) -> None:
        self.chance: Final = random.Random(seed)
        self.rig: Final = rig
        self.counts: Final[Counter[str]] = Counter()
        self.arrivals: Final[dict[str, list[float]]] = {"after trouble": [], "in peace": []}
        self._bao: Final = bao
        quick = Behaviour(ping_interval=1.0, ping_timeout=1.0, reboot_down=0.2)
        self.fleet: Final = Fleet(rig, servers, proxied=True, behaviour=quick, ports=_ports())
        self._stack: Final = ExitStack()
        self.said: Final[list[str]] = []

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            stack.enter_context(self.fleet)
            self.mischief = Mischief(self.rig, self._bao, self.fleet, self.chance, self.counts)
            self.rig.settings(soleWriter=True, durations=DURATIONS)
            self.rig.begin()
            self.running = Running(self.rig, "--listen", "127.0.0.1:0")
            stack.callback(self._kill)
            stack.callback(self.running.stop)
            self._url = self.running.url
            self.meter = Meter(self.running.process.pid, self._url)
            self._recovered(AFTER_TROUBLE * 3)  # nothing is in the ledger yet
            self.arrivals["after trouble"].clear()
            self.meter.samples.clear()  # it was still unfolding
            self._stack.push(stack.pop_all())
        return self

    def __exit__(self, *_error: object) -> None:
        self._stack.close()

    def _kill(self) -> None:
        """Leave no process behind, also where it did not end as it should."""
        if self.running.process.poll() is None:
            self.running.process.kill()
            self.running.process.wait()

    # ── a phase ──────────────────────────────────────────────────────────────────────────────

    def phase(self, seconds: float) -> None:
        """Let things happen for so long; then everything recovers, and is judged."""
        self.mischief.forget_requests()
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self.mischief.undo()
            self.mischief.strike()
            self.look()
            time.sleep(self.chance.uniform(0.05, 0.35))
        self.mischief.undo(everything=True)
        over = datetime.now(UTC)
        for name in self.fleet.names:
            self.mischief.publish(name)
        self._recovered(AFTER_TROUBLE)
        self._requests_ended()
        self._start_robots(self.fleet.names)
        self._quiet(over)
        self._peace()
        self._judge()

    def look(self) -> None:
        """Look at the process: alive, well, how large."""
        assert self.running.process.poll() is None, self.running.log.read_text()[-3000:]
        with urllib.request.urlopen(f"{self._url}/healthz", timeout=5) as answer:
            assert answer.status == 200
        self.counts["healthy"] += 1
        self.meter.sample()

    # ── after it ─────────────────────────────────────────────────────────────────────────────

    def _recovered(self, within: float) -> None:
        """Wait until every server has the newest keys, counted from when nobody hindered it."""
        since = time.monotonic()
        while stale := self.fleet.stale():
            self.look()
            if self._people():
                since = time.monotonic()
            waited = time.monotonic() - since
            assert waited < within, f"after {waited:.1f} s not there: {stale}\n{self._why(stale)}"
            time.sleep(0.05)
        self.arrivals["after trouble"].append(time.monotonic() - since)

    def _people(self) -> bool:
        """Do what only people may; whether there was anything to do."""
        brakes = self._status()["controller"]["brakes"]
        for brake in brakes:
            self._jtr("ledger", "release-brake", brake["version"], "--because", "soak: looked")
            self.counts["brakes released"] += 1
        if brakes:
            deadline = time.monotonic() + 10
            while self._status()["controller"]["brakes"]:
                assert time.monotonic() < deadline, "a brake stays on"
                time.sleep(0.05)
        return bool(brakes)

    def _requests_ended(self) -> None:
        """Wait until every request has an outcome; say what became of those in doubt."""
        deadline = time.monotonic() + ASKED_BY
        while True:
            self._people()
            listed = json.loads(self._jtr("request", "list", str(self.rig.docs), "-o", "json"))
            left = []
            for server in listed["servers"]:
                for line in server["requests"]:
                    if line["standing"] == Standing.IN_DOUBT:
                        self._resolve(server["server"], line)
                    elif line["kind"] and line["standing"] not in ENDED:
                        left.append((server["server"], line["what"], line["standing"], line["why"]))
            if not left:
                return
            # One whose robots stay stopped lets no other be disturbed: somebody starts them.
            self._start_robots(
                one["server"]
                for one in self._status()["servers"]
                if one["reason"].startswith("robots owed")
            )
            assert time.monotonic() < deadline, f"{left}\n{self._why([one[0] for one in left])}"
            self.look()
            time.sleep(0.2)

    def _start_robots(self, names: Iterable[str]) -> None:
        """Start what does not run, as people do on the servers' pages."""
        for name in names:
            server = self.fleet.servers[name]
            for robot in {1, 2} - server.robots_running():
                server.set_running(robot, running=True)
                self.counts["robots started by people"] += 1

    def _resolve(self, name: str, line: dict[str, Any]) -> None:
        kind = "reboot" if line["kind"] == "reboot" else "cache"
        done = self._done(name, kind) >= self.mischief.asked[name, kind]
        word = "--done" if done else "--not-done"
        told = ("request", "resolve", name, line["kind"], line["instant"], word)
        self._jtr(*told, "--because", "soak: counted", anyway=True)  # it may be settled by now
        self.mischief.unsure[name, kind] += 1
        self.counts[f"resolved {kind} {word}"] += 1

    def _peace(self) -> None:
        """Rotate a few while nothing is wrong: within an interval they are there."""
        names = self.chance.sample(self.fleet.names, 3)
        for name in names:
            self.fleet.rotate(name)
        since = time.monotonic()
        while stale := self.fleet.stale():
            waited = time.monotonic() - since
            assert waited < IN_PEACE, f"{waited:.1f} s, in peace: {stale}\n{self._why(stale)}"
            time.sleep(0.02)
        self.arrivals["in peace"].append(time.monotonic() - since)

    def _quiet(self, over: datetime) -> None:
        """
        Wait until no server fails and each has ended a pass since the trouble was *over*.

        A pass that began in the trouble may only now see what that did, and pull the brake.
        """
        deadline = time.monotonic() + AFTER_TROUBLE
        while failing := [
            one
            for one in self._status()["servers"]
            if one["failures"] or datetime.fromisoformat(one["lastPass"]) <= over
        ]:
            assert time.monotonic() < deadline, failing
            if self._people():
                deadline = time.monotonic() + AFTER_TROUBLE
            self.look()
            time.sleep(0.1)
        self._people()

    def _judge(self) -> None:
        assert self.fleet.fatal_paths() == 0
        assert '"level": "error"' not in self.running.log.read_text("utf-8"), self._worst()
        for name in self.fleet.names:
            for kind in KINDS:
                done, asked = self._done(name, kind), self.mischief.asked[name, kind]
                assert done <= asked, f"{name}: {done} times {kind} for {asked} requests"
                assert done >= asked - self.mischief.unsure[name, kind], (
                    f"{name}: {kind} is missing"
                )

    def _worst(self) -> list[str]:
        lines = self.running.log.read_text("utf-8").splitlines()
        return [line for line in lines if '"level": "error"' in line]

    def _done(self, name: str, kind: str) -> int:
        record = self.fleet.records[name]
        return record.reboots if kind == "reboot" else record.invalidations

    # ── asking ───────────────────────────────────────────────────────────────────────────────

    def _status(self) -> dict[str, Any]:
        with urllib.request.urlopen(f"{self._url}/v1/status", timeout=5) as answer:
            found: dict[str, Any] = json.load(answer)
        return found

    def _why(self, stale: list[str]) -> str:
        names = {one.partition("/")[0] for one in stale}
        status = self._status()
        servers = [one for one in status["servers"] if one["server"] in names]
        lines = self.running.log.read_text().splitlines()
        told = [line for line in lines if any(name in line for name in names)][-30:]
        return "\n".join([json.dumps(status["controller"]), *map(json.dumps, servers), *told])

    def _jtr(self, *args: str, anyway: bool = False) -> str:
        ran = subprocess.run(
            [sys.executable, "-m", "reconciler", *args],
            env={"PATH": os.defpath, **self.rig.environment},
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        self.said.extend((ran.stdout, ran.stderr))
        assert anyway or ran.returncode in {0, 4, 7}, (args, ran.stdout, ran.stderr)
        return ran.stdout

    def end(self) -> float:
        """Stop the controller; return the seconds that it took.  Its log is judged."""
        began = time.monotonic()
        assert self.running.stop() == 0, self.running.log.read_text()[-3000:]
        took = time.monotonic() - began
        text = Path(self.running.log).read_text("utf-8")
        assert "Traceback" not in text
        assert not self._worst()
        levels = Counter(line["level"] for line in self.running.lines())
        self.counts.update({f"log {level}": count for level, count in levels.items()})
        self.rig.watch.search("what jtr said", "".join(self.said))
        return took
