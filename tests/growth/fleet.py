"""
A fleet in memory on which everything that a command asks for is counted.

The servers count for themselves, and so does the secret backend; the ledger's store is wrapped, and
the interpreter says which files are opened and, with `Fleet.lines` how often each line of ours
is run.  Nothing of it depends on the machine.
"""

import asyncio
import gc
import itertools
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any, Final

import pytest

import reconciler
from reconciler.apply.circuit_breaker import CircuitBreaker
from reconciler.bootstrap import REMEMBER_EVERY
from reconciler.controller.shared import SharedState, uses
from reconciler.controller.state_file import State
from reconciler.controller.status import ControllerStatus
from reconciler.controller.status_store import StatusStore
from reconciler.controller.workers import Workers
from reconciler.documents.load import load
from reconciler.ledger import Put, Store, Stored
from reconciler.ledger.ledger import Ledger
from reconciler.ledger.servers import known_servers
from reconciler.ledger.stores.memory import MemoryStore
from reconciler.ledger.unrecorded import UnrecordedOutcomes
from reconciler.model.desired import DesiredState
from reconciler.model.fingerprints import Fingerprints
from reconciler.model.outcomes import Report
from reconciler.model.plan import Plan
from reconciler.model.references import SecretPath
from reconciler.model.secret import Secret
from reconciler.observe.context import PassContext
from reconciler.observe.resolver import Resolver
from reconciler.plan.inputs import Consents
from reconciler.reconcile.apply import apply_all
from reconciler.reconcile.recall import recall
from reconciler.reconcile.survey import plan_of, survey
from reconciler.sandbox.jt_trader.memory import MemoryDriver, MemoryServer
from reconciler.sandbox.jt_trader.robots import Robot
from reconciler.secrets.memory import MemoryBackend
from reconciler.system.timeouts import Timeouts
from reconciler.testing.state import OPEN_POLICY
from reconciler.testing.virtual_time import VirtualClock

Work = Counter[str]

TIMEOUTS: Final = Timeouts(settle=0.0, lease_wait=60.0)
CODES: Final = ("bybit", "okx", "gateio", "kucoin", "mexc")
FILES: Final = "files opened"
_PACKAGE: Final = str(Path(reconciler.__file__).parent)
_OURS: Final = len(_PACKAGE) - len("reconciler")
_SECRET: Final = "made-up-access-secret"
_FIELDS: Final = {"okx": ("password",), "kucoin": ("password",), "gateio": ("uid",)}
_NOTHING: Final = Consents()


class CountedStore:
    """A ledger's store that notes in `work` what it is asked."""

    created = False
    at_hand = True

    def __init__(self, store: Store, work: Work) -> None:
        self._store = store
        self._work = work

    def get(self, key: str) -> Stored | None:
        self._work["ledger reads"] += 1
        return self._store.get(key)

    def put(self, key: str, text: str, *, expect: int) -> int:
        self._work["ledger commits"] += 1
        return self._store.put(key, text, expect=expect)

    def put_all(self, puts: Sequence[Put]) -> None:
        self._work["ledger commits"] += 1
        self._store.put_all(puts)

    def keys(self, prefix: str) -> list[str]:
        found = self._store.keys(prefix)
        self._work["ledger listings"] += 1
        self._work["ledger rows listed"] += len(found)
        return found

    def rows(self, prefix: str) -> dict[str, Stored]:
        found = self._store.rows(prefix)
        self._work["ledger listings"] += 1
        self._work["ledger rows listed"] += len(found)
        return found

    def sequence(self) -> int:
        self._work["ledger sequences"] += 1
        return self._store.sequence()

    def close(self) -> None:
        """Keep it: the next command needs it."""


class Fleet:
    """So many servers, their documents, secrets and ledger, on a clock of their own."""

    def __init__(self, folder: Path, servers: int, codes: Sequence[str] = CODES) -> None:
        self.names: Final = [f"tokyo-{number}" for number in range(1, servers + 1)]
        self.clock: Final = VirtualClock()
        self.store: Store = MemoryStore()
        self.work: Work = Counter()
        self.lines = False
        self._codes: Final = codes
        self._numbers: Final = itertools.count(100_000)
        self._unrecorded: Final = UnrecordedOutcomes(folder / "unrecorded")
        self._documents: Final = folder / "documents"
        self._documents.mkdir()
        self.backend: Final = MemoryBackend(keep=100, clock=lambda: 0.0)
        self.servers: Final[dict[str, MemoryServer]] = {}
        for number, name in enumerate(self.names, 1):
            self._add(name, number)
        self._ledger(begin=True).close()

    def _add(self, name: str, number: int) -> None:
        url = f"https://{name}.internal:8443"
        self.servers[url] = MemoryServer(
            url,
            access_secret=_SECRET,
            additional=("mexc", "kucoin"),
            robots=[Robot(1, "grid", "bybit", running=True), Robot(2, "dca", "okx", running=True)],
            pid=number,
            now=lambda: self.clock.wall().timestamp() + number / 1000,
        )
        self.backend.put(SecretPath("secret", f"jt/{name}"), {"access_secret": _SECRET})
        for code in self._codes:
            self.rotate(name, code)
        exchanges = "".join(
            f"    {code}: {{credentials: vault:secret/jt/{name}/{code}}}\n" for code in self._codes
        )
        (self._documents / f"{name}.yaml").write_text(
            "apiVersion: jtr/v1\n"
            "kind: TradingServer\n"
            f"metadata: {{name: {name}}}\n"
            "spec:\n"
            f"  url: {url}\n"
            f"  accessSecret: vault:secret/jt/{name}#access_secret\n"
            f"  exchanges:\n{exchanges}",
            "utf-8",
        )

    def rotate(self, name: str, code: str) -> None:
        """Write a new version of the secret; no mask of it is like one of an earlier version."""
        version = next(self._numbers)
        values = {
            field: f"{version:06}{field}{name}{code}".ljust(40, "x") + f"{version:06}"[::-1]
            for field in ("apiKey", "secret", *_FIELDS.get(code, ()))
        }
        self.backend.put(SecretPath("secret", f"jt/{name}/{code}"), values)

    # ── what is done ─────────────────────────────────────────────────────────────────────────

    def documents(self) -> DesiredState:
        return load((str(self._documents),)).state

    async def start(self) -> None:
        for server in self.servers.values():
            await server.start()
        self.clock.sleep(86_400.0)

    async def plan(self) -> Plan:
        state = self.documents()
        visits = await survey(state, _NOTHING, self._context("plan"), keep=False)
        return plan_of(visits, state, skip_unreachable=False)

    async def recorded(self) -> Plan:
        state = self.documents()
        visits = await recall(state, _NOTHING, self._context("plan"))
        return plan_of(visits, state, skip_unreachable=False)

    async def apply(self) -> list[Report]:
        state, context = self.documents(), self._context("apply")
        visits = await survey(state, _NOTHING, context)
        try:
            return await apply_all(visits, _NOTHING, context, CircuitBreaker())
        finally:
            await asyncio.gather(*(visit.close() for visit in visits))

    def forget(self) -> None:
        """Begin another ledger."""
        self.store = MemoryStore()
        self._ledger(begin=True).close()

    async def status(self) -> int:
        return len(known_servers(self._ledger(), self._unrecorded))

    async def rounds(self) -> Work:
        """Let a controller look at everybody first; return what two intervals cost then."""
        shared = SharedState(
            self._context("controller"),
            StatusStore(ControllerStatus("test", "controller 1@test", "now")),
            acting=lambda: True,
            looking=lambda: True,
            luck=lambda: 0.5,
        )
        workers = Workers(shared, State())
        workers.declare(self.documents(), "1")
        await asyncio.sleep(TIMEOUTS.interval / 2)
        for path in {path for server in shared.state.servers for path in uses(server)}:
            info = await self.backend.describe(path)  # as a sweep does
            shared.newest[path] = info.version, info.created
        with self.counting() as found:
            await asyncio.sleep(2 * TIMEOUTS.interval)
        shared.stopping = True
        await workers.stop(TIMEOUTS.stop)
        return found

    def _context(self, command: str) -> PassContext:
        driver = MemoryDriver(self.servers, command=command, timeouts=TIMEOUTS)
        return PassContext(
            driver=driver,
            resolver=Resolver(self.backend, driver, TIMEOUTS, lambda _text: None),
            fingerprints=Fingerprints(Secret("0" * 64)),
            timeouts=TIMEOUTS,
            ledger=self._ledger(),
            label=f"{command} 1@test",
            now=self.clock.wall,
            unrecorded=self._unrecorded,
            ledger_shared=True,
            policy=OPEN_POLICY,
            remember_every=REMEMBER_EVERY if command == "controller" else 0.0,
            reads_at_once=command != "controller",
        )

    def _ledger(self, *, begin: bool = False) -> Ledger:
        store = CountedStore(self.store, self.work)
        store.created = begin
        return Ledger(
            store,
            now=self.clock.wall,
            timeouts=TIMEOUTS,
            writer="apply 1@test",
            clock=self.clock,
            sleep=self.clock.sleep,
        )

    # ── what it cost ─────────────────────────────────────────────────────────────────────────

    @contextmanager
    def counting(self) -> Iterator[Work]:
        """Count what is done meanwhile; the result is there at the end."""
        found: Work = Counter()
        before = self._totals()
        self.clock.sleep(1.0)  # no two commands see the same moment
        with (
            _no_garbage(),
            _begun_threads() as threads,
            _opened_files(self._documents.parent) as files,
            _run_lines(wanted=self.lines) as lines,
        ):
            yield found
        found.update(self._totals() - before)
        found.update(lines)
        found.update(threads)
        found[FILES] = files[FILES]

    def _totals(self) -> Work:
        total = Counter(self.work)
        total["secrets described"] = len(self.backend.described)
        total["secrets read"] = len(self.backend.reads)
        for server in self.servers.values():
            total["handshakes"] += len(server.record.handshakes)
            for received in server.record.received:
                total["server requests"] += 1
                total[f"server: {received.event}"] += 1
        return total


@contextmanager
def _no_garbage() -> Iterator[None]:
    """Let no secret of an earlier command end within this one: when it does is left to chance."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


@contextmanager
def _begun_threads() -> Iterator[Work]:
    """Count what is handed to threads: beside a busy event loop that costs more than the work."""
    found: Work = Counter()
    to_thread = asyncio.to_thread

    def counted(*args: Any, **named: Any) -> Any:
        found["threads"] += 1
        return to_thread(*args, **named)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(asyncio, "to_thread", counted)
        yield found


@contextmanager
def _run_lines(*, wanted: bool) -> Iterator[Work]:
    """Count how often each line of reconciler/ is run."""
    found: Work = Counter()
    if not wanted:
        yield found
        return

    def line(frame: FrameType, event: str, _argument: Any) -> Any:
        if event == "line":
            found[f"{frame.f_code.co_filename[_OURS:]}:{frame.f_lineno}"] += 1
        return line

    def call(frame: FrameType, _event: str, _argument: Any) -> Any:
        return line if frame.f_code.co_filename.startswith(_PACKAGE) else None

    before = sys.gettrace()
    sys.settrace(call)
    try:
        yield found
    finally:
        sys.settrace(before)


_watched: list[tuple[str, Work]] = []


def _opened(event: str, arguments: tuple[Any, ...]) -> None:
    if not _watched or event not in {"open", "os.listdir", "os.scandir"}:
        return
    folder, found = _watched[-1]
    where = str(arguments[0])
    # From Python 3.13 on `Path.glob` looks into a folder that is not there.
    if event != "open" and not Path(where).exists():
        return
    if where.startswith((folder, "/proc/")):  # all else are modules, at their first use
        found[FILES] += 1


sys.addaudithook(_opened)


@contextmanager
def _opened_files(folder: Path) -> Iterator[Work]:
    found: Work = Counter()
    _watched.append((str(folder), found))
    try:
        yield found
    finally:
        _watched.pop()
