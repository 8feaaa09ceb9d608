"""
What one hostile server costs: memory, the passes over twenty good ones, and `/healthz`.

The controller, the stand-ins, the hostile server and OpenBao are processes of their own on this
machine; only the stand-ins share one.  Each way of being hostile follows a stretch without it, on
the same controller.  Run it from the repository's root: `python -m bench.evil`.
"""

import argparse
import asyncio
import json
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import pytest

from reconciler.sandbox.openbao import OpenBao
from tests.drivers.scripted import Peer, scripted
from tests.e2e.test_controller import ROOT, Running
from tests.support.durations import BRISK
from tests.support.fleet import Fleet
from tests.support.leaks import Watch
from tests.support.rig import Rig

GOOD: Final = 20
EVIL: Final = "evil"
MOST_RSS, MOST_RATIO, MOST_HEALTH = 256.0, 1.2, 1.0
REAL: Final = BRISK | {
    "interval": "1s",
    "connect": "10s",
    "authenticate": "30s",
    "request": "15s",
    "lease": "30s",
    "backoff": "1s",  # 5 s by default: what hung up is not asked again at once
    "backoffMost": "2s",
}
ENGINE: Final = {"version": "0.24.19", "testerDefaults": {}}
ANSWERS: Final = {
    "exchange-config-request": ("exchange-config-response", {"main": [], "additional": []}),
    "engine-config-request": ("engine-config-response", ENGINE),
    "background-jobs-list-request": ("background-jobs-list-response", []),
    "logs-list-request": ("logs-list-response", {"artifacts": "system", "data": []}),
}


# ── the hostile server, in a process of its own ──────────────────────────────────────────────


async def _flood(peer: Peer) -> None:
    """Say something that nobody asked for, as fast as it is taken."""
    text = "42" + json.dumps(["message", {"event": "update-report", "payload": "x" * 200}])
    while True:
        await peer.send(text)


async def _frames(peer: Peer) -> None:
    """Send sixty megabytes in one message, again and again."""
    text = "42" + json.dumps(["message", {"event": "realtime-ticker", "payload": "x" * 60_000_000}])
    while True:
        await peer.send(text)


async def _deep(peer: Peer) -> None:
    """Send brackets within brackets."""
    while True:
        await peer.send('42["message",' + "[" * 900_000)


async def _list(peer: Peer) -> None:
    """Answer with four hundred thousand exchanges."""
    field = {"name": "x_api_key", "type": "string", "label": "API Key", "value": ""}
    main = [
        {"code": f"x{n}", "name": "x", "disabled": False, "sandbox": False, "fields": [field]}
        for n in range(400_000)
    ]
    while (asked := await peer.request()) is not None:
        event, payload = ANSWERS[asked["event"]]
        huge = {"main": main, "additional": []}
        await peer.message(event, huge if event == "exchange-config-response" else payload)


async def _drip(peer: Peer) -> None:
    """Begin a long message and send a byte of it now and then."""
    transport = peer.raw.transport
    if transport is None:
        return
    transport.write(b"\x81\x7f" + (1_000_000).to_bytes(8, "big"))
    while not transport.is_closing():
        transport.write(b"4")
        await asyncio.sleep(0.05)


async def _good(peer: Peer) -> None:
    """Answer as a server without anything does."""
    while (asked := await peer.request()) is not None:
        await peer.message(*ANSWERS[asked["event"]])


WAYS: Final[Mapping[str, Callable[[Peer], Awaitable[None]]]] = {
    "a flood of messages": _flood,
    "messages of 60 MB": _frames,
    "deep JSON": _deep,
    "a list of 400,000": _list,
    "a drip": _drip,
}


async def serve() -> None:
    """Be good, or evil in the way that is read from the standard input, until it ends."""
    way: Callable[[Peer], Awaitable[None]] = _good

    async def script(peer: Peer) -> None:
        try:
            await peer.admit()
            await way(peer)
        except AssertionError:
            return  # it was gone before it had said a word

    async with scripted(script) as (url, peers):
        print(url, flush=True)
        while line := (await asyncio.to_thread(sys.stdin.readline)).strip():
            way = WAYS.get(line, _good)
            for peer in peers:
                if peer.raw.transport is not None:
                    peer.raw.transport.abort()
            peers.clear()


# ── what is measured ─────────────────────────────────────────────────────────────────────────


@dataclass(slots=True)
class Figures:
    """What was seen: seconds of passes over good servers and of `/healthz`, MiB at most."""

    took: list[float] = field(default_factory=list)
    health: list[float] = field(default_factory=list)
    memory: float = 0.0

    def __str__(self) -> str:
        took, worst = statistics.median(self.took), max(self.health)
        return f"{took * 1000:.0f} ms | {self.memory:.0f} MiB | {worst * 1000:.0f} ms"


def stretch(running: Running, seconds: float, figures: Figures) -> None:
    """Watch the controller from outside for so long."""
    lines, url, place = len(running.lines()), running.url, f"/proc/{running.process.pid}/status"
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        began = time.perf_counter()
        with urllib.request.urlopen(f"{url}/healthz", timeout=60) as answer:  # noqa: S310  - ours
            answer.read()
        figures.health.append(time.perf_counter() - began)
        rows = dict(row.split(":", 1) for row in Path(place).read_text().splitlines() if ":" in row)
        figures.memory = max(figures.memory, int(rows["VmRSS"].split()[0]) / 1024)
        time.sleep(0.05)
    figures.took += [
        line["seconds"]
        for line in running.lines()[lines:]
        if line["message"].startswith("pass ") and line["server"] != EVIL
    ]


@contextmanager
def evil() -> Iterator["subprocess.Popen[str]"]:
    """Start the hostile server; it is good until it is told otherwise."""
    with subprocess.Popen(
        [sys.executable, "-m", "bench.evil", "--serve"],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def told(process: "subprocess.Popen[str]", way: str) -> None:
    if process.stdin is None:
        raise AssertionError
    process.stdin.write(f"{way}\n")
    process.stdin.flush()


def measure(
    bao: OpenBao, ways: Sequence[str], rounds: int, seconds: float
) -> dict[str, tuple[Figures, Figures]]:
    """Return, for each way, the figures without it and with it, stretch about stretch."""
    found = {way: (Figures(), Figures()) for way in ways}
    with ExitStack() as stack:
        home = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="jtr-bench-")))
        patch = stack.enter_context(pytest.MonkeyPatch.context())
        rig = stack.enter_context(Rig(home, bao, Watch("bench"), patch))
        stack.enter_context(Fleet(rig, GOOD))
        process = stack.enter_context(evil())
        if process.stdout is None:
            raise AssertionError
        rig.put(EVIL, access_secret=rig.watch.secret("base62"))
        spec: dict[str, Any] = {"url": process.stdout.readline().strip()}
        rig.document(EVIL, "bybit", **spec)
        rig.settings(soleWriter=True, durations=REAL)
        rig.begin()
        running = Running(rig, "--listen", "127.0.0.1:0")
        stack.callback(running.stop)
        stretch(running, seconds, Figures())  # the first keys, and all caches
        for _ in range(rounds):
            for way, (without, beside) in found.items():
                told(process, "good")
                stretch(running, seconds, without)
                told(process, way)
                stretch(running, seconds, beside)
    return found


def main() -> int:
    """Measure, print a table, return 1 when something is over its limit."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--serve", action="store_true", help="be the hostile server")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=4.0, help="of each stretch")
    parser.add_argument("--no-limit", action="store_true", help="only show the table")
    parser.add_argument("ways", nargs="*", default=list(WAYS), metavar="WAY")
    options = parser.parse_args()
    if options.serve:
        asyncio.run(serve())
        return 0
    with OpenBao() as bao:
        found = measure(bao, options.ways, options.rounds, options.seconds)
    print(f"| beside {GOOD} good servers | without: a pass, RSS, /healthz | with | ratio |")
    print("| --- | --- | --- | --- |")
    over = False
    for way, (without, beside) in found.items():
        ratio = statistics.median(beside.took) / statistics.median(without.took)
        over |= ratio > MOST_RATIO or beside.memory > MOST_RSS or max(beside.health) > MOST_HEALTH
        columns = [str(one).replace(" |", ",") for one in (without, beside)]
        print(f"| {way} | {columns[0]} | {columns[1]} | {ratio:.2f} |")
    print(f"| limit | | {MOST_RSS:.0f} MiB, {MOST_HEALTH:.0f} s | {MOST_RATIO} |")
    return int(over and not options.no_limit)


if __name__ == "__main__":
    sys.exit(main())
