"""
What may happen to a fleet, its network, its Vault and its documents, drawn by chance.
"""

import asyncio
import heapq
import random
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import yaml

from tests.controller.controller_harness import PATIENCE
from tests.support.fault_proxy import HALF_OPEN, Door, End, Faults, late, slow
from tests.support.fleet import Fleet
from tests.support.lasting_openbao import LastingOpenBao
from tests.support.rig import Rig

KINDS: Final = ("reboot", "cache")


@dataclass(order=True, slots=True)
class _Undo:
    """How something ends that befell *what*."""

    at: float
    number: int
    what: str = field(compare=False)
    act: Callable[[], object] = field(compare=False)


class Trouble:
    """
    Strikes once at a time, and undoes what it did when its time has come.

    `asked` counts the requests by server and kind, `unsure` those that something befell which may
    excuse that they were not done.
    """

    def __init__(
        self,
        rig: Rig,
        bao: LastingOpenBao,
        fleet: Fleet,
        chance: random.Random,
        counts: Counter[str],
    ) -> None:
        self.rig: Final = rig
        self.fleet: Final = fleet
        self.chance: Final = chance
        self.counts: Final = counts
        self.asked: Final[Counter[tuple[str, str]]] = Counter()
        self.unsure: Final[Counter[tuple[str, str]]] = Counter()
        self._bao: Final = bao
        self._specs: Final[dict[str, dict[str, Any]]] = {}
        self._asked_now: Final[set[tuple[str, str]]] = set()
        self._undos: Final[list[_Undo]] = []
        self._afflicted: Final[set[str]] = set()
        self._number = 0
        for number, name in enumerate(fleet.names):
            robots = {"onCredentialChange": "leave" if number % 4 else "restart"}
            self._specs[name] = {"supervised": True, "robots": robots}
            self.publish(name)

    def strike(self) -> None:
        """Do something."""
        self.chance.choice(self._troubles)()

    def forget_requests(self) -> None:
        """Allow every request once more."""
        self._asked_now.clear()

    def undo(self, *, everything: bool = False) -> None:
        """End what is due to end, or all of it."""
        while self._undos and (everything or self._undos[0].at <= time.monotonic()):
            undo = heapq.heappop(self._undos)
            self._afflicted.discard(undo.what)
            undo.act()

    def _until(self, what: str, seconds: float, act: Callable[[], object]) -> None:
        self._number += 1
        self._afflicted.add(what)
        at = time.monotonic() + seconds
        heapq.heappush(self._undos, _Undo(at, self._number, what, act))

    @property
    def _troubles(self) -> list[Callable[[], None]]:
        return [
            *([self._rotate] * 3),
            *([self._link] * 3),
            *([self._ask] * 2),
            *([self._crash] * 2),
            *([self._file] * 2),
            self._force_stop,
            self._tree,
            self._vault,
        ]

    def _server(self) -> str:
        return self.chance.choice(self.fleet.names)

    def _rotate(self) -> None:
        if "vault" not in self._afflicted:
            self.fleet.rotate(self._server())
            self.counts["rotated"] += 1

    def _link(self) -> None:
        name, chance = self._server(), self.chance
        proxy, key = self.fleet.proxies[name], f"link {name}"
        if key in self._afflicted:
            return
        kind = chance.choice(("cut", "silent", "refused", "reset", "half-open", "slow", "late"))
        self.counts[f"link {kind}"] += 1
        match kind:
            case "cut":
                proxy.cut(chance.choice((End.FIN, End.RST)))
                return
            case "silent":
                proxy.switch(Faults(door=Door.SILENT))
            case "refused":
                proxy.switch(Faults(door=Door.CLOSED))
            case "reset":
                proxy.switch(Faults(door=Door.RESET))
            case "half-open":
                proxy.switch(HALF_OPEN)
            case "slow":
                proxy.switch(slow(chance.uniform(2_000, 20_000)))
            case "late":
                proxy.switch(late(chance.uniform(0.01, 0.4)))
        self._until(key, chance.uniform(0.2, 4), proxy.heal)

    def _ask(self) -> None:
        """Write a request into a document; at most one of a kind for a server in a phase."""
        name, kind = self._server(), self.chance.choice(KINDS)
        if (name, kind) in self._asked_now:
            return
        self._asked_now.add((name, kind))
        self.asked[name, kind] += 1
        at = datetime.now(UTC) + timedelta(seconds=self.chance.uniform(0.1, 2))
        instant = at.isoformat(timespec="milliseconds").replace("+00:00", "Z")
        wish = {"reason": "soak"}
        if kind == "reboot":
            wish |= {"bootedAfter": instant, "robots": self.chance.choice(("resume", "leave"))}
        else:
            wish |= {"invalidatedAfter": instant}
        self._specs[name][kind] = wish
        self.publish(name)
        self.counts[f"asked {kind}"] += 1

    def _crash(self) -> None:
        name = self._server()
        server, key = self.fleet.servers[name], f"server {name}"
        if key in self._afflicted:
            return
        down = self.chance.uniform(0.02, 3)
        # In the background, and with its port kept for it.
        coming = asyncio.run_coroutine_threadsafe(server.server.crash(down), self.fleet.loop)
        self.counts["crashed"] += 1
        for kind in KINDS:  # what was on its way when it fell
            self.unsure[name, kind] += (name, kind) in self._asked_now

        def back() -> None:
            with suppress(RuntimeError):  # it was rebooting just then
                coming.result(PATIENCE)

        self._until(key, down + 0.1, back)

    def _force_stop(self) -> None:
        """Let a robot stop itself, only while somebody is registered: else it were the world's."""
        name = self._server()
        server = self.fleet.servers[name]

        async def stopped() -> bool:
            process = server.server._process
            if process is None or process.killed:
                return False
            if not process._gateway.clients.is_registered("0") or 1 not in server.robots_running():
                return False
            await process.force_stop(1)
            return True

        if f"server {name}" not in self._afflicted and server._run(stopped()):
            self.counts["force-stopped"] += 1
            self._until(
                f"robot {name}",
                self.chance.uniform(0.5, 4),
                lambda: server.set_running(1, running=True),
            )

    def _file(self) -> None:
        name = self._server()
        key = f"file {name}"
        if key in self._afflicted or "tree" in self._afflicted:
            return
        kind = self.chance.choice(("plain", "renamed", "invalid", "gone"))
        self.counts[f"file {kind}"] += 1
        path = self.rig.docs / f"{name}.yaml"
        match kind:
            case "plain":
                self._specs[name]["selfHeal"] = self.chance.random() < 0.5
                self.publish(name, atomic=False)
            case "renamed":
                self._specs[name]["selfHeal"] = self.chance.random() < 0.5
                self.publish(name, atomic=True)
            case "invalid":
                whole = path.read_bytes()
                path.write_bytes(whole[: self.chance.randrange(len(whole))] + b"\n\t: [")
                self._until(key, self.chance.uniform(0.1, 3), lambda: self.publish(name))
            case "gone":
                path.unlink()
                self._until(key, self.chance.uniform(0.1, 3), lambda: self.publish(name))

    def _tree(self) -> None:
        """Move the whole folder away for a while."""
        if "tree" in self._afflicted or self.chance.random() < 0.5:
            return
        docs, away = self.rig.docs, self.rig.home / "docs.away"
        docs.rename(away)
        self.counts["tree gone"] += 1

        def back() -> None:
            away.rename(docs)
            for name in self.fleet.names:
                if f"file {name}" not in self._afflicted:
                    self.publish(name)

        self._until("tree", self.chance.uniform(0.1, 2), back)

    def _vault(self) -> None:
        if "vault" in self._afflicted:
            return
        kind = self.chance.choice(("paused", "sealed", "restarted", "killed"))
        begin, end = {
            "paused": (self._bao.pause, self._bao.resume),
            "sealed": (self._bao.seal, self._unsealed),
            "restarted": (self._bao.stop, self._bao.start),
            "killed": (self._bao.kill, self._bao.start),
        }[kind]
        begin()
        self.counts[f"vault {kind}"] += 1
        self._until("vault", self.chance.uniform(0.1, 4), end)

    def _unsealed(self) -> None:
        self._bao.unseal()
        deadline = time.monotonic() + 20
        while not self._bao._answers():
            assert time.monotonic() < deadline
            time.sleep(0.02)

    def publish(self, name: str, *, atomic: bool | None = None) -> None:
        """Write a document, in place or by renaming, if it is not there as it should be."""
        if "tree" in self._afflicted or (f"file {name}" in self._afflicted):
            return
        spec = {
            "url": self.fleet.url(name),
            "accessSecret": f"{self.rig.reference(name)}#access_secret",
            "exchanges": {"bybit": {"credentials": self.rig.reference(f"{name}/bybit")}},
        }
        document = {
            "apiVersion": "jtr/v1",
            "kind": "TradingServer",
            "metadata": {"name": name},
            "spec": spec | self._specs[name],
        }
        text = yaml.safe_dump(document, sort_keys=False)
        path = self.rig.docs / f"{name}.yaml"
        with suppress(FileNotFoundError):
            if path.read_text("utf-8") == text:
                return
        if self.chance.random() < 0.5 if atomic is None else atomic:
            fresh = self.rig.docs / f".{name}.yaml.tmp"
            fresh.write_text(text, "utf-8")
            fresh.replace(path)
        else:
            path.write_text(text, "utf-8")
