"""
A fleet, its network, its Vault and its documents, to all of which things happen by chance.

The controller is a process of its own and is only looked at from outside: its pages, its log, what
`/proc` says of it, and what the servers count.  People are played, too: after every phase they
release brakes and say what became of requests in doubt.
"""

import json
import random
import time
import urllib.request
from collections import Counter, defaultdict
from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any, Final, Self

from reconciler.model.plan import Standing
from reconciler.sandbox.jt_trader.faults import Behaviour
from tests.controller.controller_harness import PATIENCE
from tests.controller.faults import KINDS, Trouble
from tests.controller.process_meter import Meter
from tests.e2e.test_controller import Running
from tests.support.durations import BRISK, SILENCE
from tests.support.fleet import Fleet, ports_of_nobody
from tests.support.lasting_openbao import LastingOpenBao
from tests.support.rig import Rig

INTERVAL, SETTLE = 1.0, 0.2
DURATIONS = (
    BRISK
    | SILENCE
    | {
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
)
# Judged by counts, for they are the same on every machine.  All servers are passed over by one
# process, each an interval after the last time: how many passes the others get meanwhile says how
# long one of them waits.
OWN: Final = 3  # passes: one that is under way, one while its secret settles, one that writes
OTHERS: Final = 10  # passes of most others; an attempt at a server that is away is worth three
NO_OUTCOME: Final = 50  # passes of most others without any request's outcome: reboots go one by one
ENDED: Final = {
    *(Standing.DONE, Standing.NOT_DONE, Standing.SATISFIED),
    *(Standing.EXPIRED, Standing.SUPERSEDED),
}


@dataclass(frozen=True, slots=True)
class Count:
    """How many passes over each server ended without a failure, and how many ended healthy."""

    ended: Counter[str]
    well: Counter[str]

    def others(self, earlier: "Count") -> int:
        """Return how many of the former most servers had since *earlier*."""
        return int(median(self.ended[name] - earlier.ended[name] for name in self.ended or "-"))


class Passes:
    """Reads from a controller's log which passes have ended."""

    def __init__(self, log: Path) -> None:
        self._log: Final = log.open("rb")
        self._rest = b""
        self._ended: Final[Counter[str]] = Counter()
        self._well: Final[Counter[str]] = Counter()

    def counted(self) -> Count:
        """Return the counts up to now."""
        *lines, self._rest = (self._rest + self._log.read()).split(b"\n")
        for line in lines:
            if b'"message": "pass ' in line:
                entry = json.loads(line)
                self._ended[entry["server"]] += entry["message"] != "pass failed"
                self._well[entry["server"]] += entry["message"] == "pass healthy"
        return Count(self._ended.copy(), self._well.copy())

    def close(self) -> None:
        self._log.close()


class Soak:
    """Everything of one run.  Enter it; `phase` is what is repeated."""

    def __init__(
        self, rig: Rig, bao: LastingOpenBao, seed: int, ledger: str, *, servers: int = 20
    ) -> None:
        """Keep the ledger in one of LEDGERS; what befalls Vault befalls one that lies there."""
        self.chance: Final = random.Random(seed)
        self.rig: Final = rig
        self.counts: Final[Counter[str]] = Counter()
        self.arrivals: Final[dict[str, list[float]]] = defaultdict(list)
        self._bao: Final = bao
        self._ledger: Final = ledger
        quick = Behaviour(ping_interval=1.0, ping_timeout=1.0, reboot_down=0.2)
        self.fleet: Final = Fleet(
            rig, servers, proxied=True, behaviour=quick, ports=ports_of_nobody()
        )
        self._stack: Final = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            stack.enter_context(self.fleet)
            self.trouble = Trouble(self.rig, self._bao, self.fleet, self.chance, self.counts)
            self.rig.settings(durations=DURATIONS, **self.rig.ledger(self._ledger))
            self.rig.begin()
            self.running = Running(self.rig, "--listen", "127.0.0.1:0")
            stack.callback(self._kill)
            stack.callback(self.running.stop)
            self._url = self.running.url
            self.meter = Meter(self.running.process.pid, self._url)
            self.passes = Passes(self.running.log)
            stack.callback(self.passes.close)
            self._recovered("at first")
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
        self.trouble.forget_requests()
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self.trouble.undo()
            self.trouble.strike()
            self.look()
            time.sleep(self.chance.uniform(0.05, 0.35))
        self.trouble.undo(everything=True)
        over = datetime.now(UTC)
        for name in self.fleet.names:
            self.trouble.publish(name)
        self._recovered("after trouble")
        self._requests_ended()
        self._start_robots(self.fleet.names)
        self._quiet(over)
        self._peace()
        self._judge()

    def look(self) -> None:
        """Look at the process: alive, well, how large."""
        assert self.running.process.poll() is None, self.running.log.read_text()[-3000:]
        with urllib.request.urlopen(f"{self._url}/healthz", timeout=PATIENCE) as answer:
            assert answer.status == 200
        self.counts["healthy"] += 1
        self.meter.sample()

    # ── after it ─────────────────────────────────────────────────────────────────────────────

    def _recovered(self, when: str) -> None:
        """Wait until every server has the newest keys, counted from when nobody hindered it."""
        since, count = time.monotonic(), self.passes.counted()
        while self._stale(count):
            self.look()
            if self._people():
                since, count = time.monotonic(), self.passes.counted()
            time.sleep(0.05)
        self.arrivals[when].append(time.monotonic() - since)

    def _stale(self, count: "Count") -> list[str]:
        """Return which keys are not there yet; fails when a server was passed over with others."""
        now = self.passes.counted()  # before looking: what ended by now has written
        stale = self.fleet.stale()
        for one in stale:
            own = now.well[one.partition("/")[0]] - count.well[one.partition("/")[0]]
            assert own <= OWN, f"{own} passes went well without {one}\n{self._why(stale)}"
        others = now.others(count)
        assert others <= OTHERS, f"{others} passes without {stale}\n{self._why(stale)}"
        return stale

    def _people(self) -> bool:
        """Do what only people may; whether there was anything to do."""
        brakes = self._status()["controller"]["brakes"]
        for over in {brake["version"] for brake in brakes if brake["wholeVersion"]} or {
            brake["over"] for brake in brakes
        }:
            self._jtr("ledger", "release-brake", over, "--because", "soak: looked")
            self.counts["brakes released"] += 1
        if brakes:
            deadline = time.monotonic() + PATIENCE
            while self._status()["controller"]["brakes"]:
                assert time.monotonic() < deadline, "a brake stays on"
                time.sleep(0.05)
        return bool(brakes)

    def _requests_ended(self) -> None:
        """Wait until every request has an outcome; say what became of those in doubt."""
        count, before = self.passes.counted(), 0
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
            if len(left) != before:
                count, before = self.passes.counted(), len(left)
            others = self.passes.counted().others(count)
            assert others <= NO_OUTCOME, f"{left}\n{self._why([one[0] for one in left])}"
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
        done = self._done(name, kind) >= self.trouble.asked[name, kind]
        word = "--done" if done else "--not-done"
        told = ("request", "resolve", name, line["kind"], line["instant"], word)
        self._jtr(*told, "--because", "soak: counted", anyway=True)  # it may be settled by now
        self.trouble.unsure[name, kind] += 1
        self.counts[f"resolved {kind} {word}"] += 1

    def _peace(self) -> None:
        """Rotate a few while nothing is wrong: their next passes write them."""
        names = self.chance.sample(self.fleet.names, 3)
        for name in names:
            self.fleet.rotate(name)
        since, count = time.monotonic(), self.passes.counted()
        while self._stale(count):
            time.sleep(0.02)
        self.arrivals["in peace"].append(time.monotonic() - since)

    def _quiet(self, over: datetime) -> None:
        """
        Wait until no server fails and each has ended a pass since the trouble was *over*.

        A pass that began in the trouble may only now see what that did, and pull the brake.
        """
        count = self.passes.counted()
        while failing := [
            one
            for one in self._status()["servers"]
            if one["failures"]
            or not one["lastPass"]
            or datetime.fromisoformat(one["lastPass"]) <= over
        ]:
            assert self.passes.counted().others(count) <= OTHERS, failing
            if self._people():
                count = self.passes.counted()
            self.look()
            time.sleep(0.1)
        self._people()

    def _judge(self) -> None:
        assert self.fleet.fatal_paths() == 0
        assert '"level": "error"' not in self.running.log.read_text("utf-8"), self._worst()
        for name in self.fleet.names:
            for kind in KINDS:
                done, asked = self._done(name, kind), self.trouble.asked[name, kind]
                assert done <= asked, f"{name}: {done} times {kind} for {asked} requests"
                assert done >= asked - self.trouble.unsure[name, kind], f"{name}: {kind} is missing"

    def _worst(self) -> list[str]:
        lines = self.running.log.read_text("utf-8").splitlines()
        return [line for line in lines if '"level": "error"' in line]

    def _done(self, name: str, kind: str) -> int:
        record = self.fleet.records[name]
        return record.reboots if kind == "reboot" else record.invalidations

    # ── asking ───────────────────────────────────────────────────────────────────────────────

    def _status(self) -> dict[str, Any]:
        with urllib.request.urlopen(f"{self._url}/v1/status", timeout=PATIENCE) as answer:
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
        ran = self.rig.jtr(*args)
        assert anyway or ran.code in {0, 4, 7}, (args, ran)
        return ran.out

    def end(self) -> None:
        """Stop the controller; its log is judged, and its code says whether it was in time."""
        assert self.running.stop() == 0, self.running.log.read_text()[-3000:]
        text = Path(self.running.log).read_text("utf-8")
        assert "Traceback" not in text
        assert not self._worst()
        levels = Counter(line["level"] for line in self.running.lines())
        self.counts.update({f"log {level}": count for level, count in levels.items()})
