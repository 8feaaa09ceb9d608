"""Fleets for the page: statuses, documents and a ledger as a controller would have them."""

import asyncio
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

from reconciler.controller.dependencies import Answers
from reconciler.controller.page.access import Access
from reconciler.controller.page.site import Site
from reconciler.controller.page.sources import Deeds
from reconciler.controller.pauses import Noted, PauseChange
from reconciler.controller.pull_requests import PullRequests
from reconciler.controller.shared import SharedState
from reconciler.controller.status import ControllerStatus, Health, KeyStatus, ServerStatus, Sync
from reconciler.controller.status_store import Servers, StatusStore
from reconciler.errors import Exit, JtrError, UsageError
from reconciler.model.actions import Consequence, Need, Reason
from reconciler.model.conditions import Condition
from reconciler.model.desired import (
    DesiredExchange,
    DesiredServer,
    DesiredState,
    RequestKind,
    Suspension,
    Window,
    WindowKind,
)
from reconciler.model.key_audits import Light
from reconciler.model.key_policy import KeyFinding, Severity
from reconciler.model.observed import LogEntry, Robot
from reconciler.model.origin import Origin
from reconciler.model.outcomes import Report
from reconciler.model.plan import Category, Disruption, Line, ServerPlan, Standing, Status, Verdict
from reconciler.model.recorded import (
    Debt,
    ExchangeRecord,
    HistoryEntry,
    Observation,
    Owed,
    Recorded,
    Request,
    Requests,
    Stage,
    Write,
)
from reconciler.model.references import FrozenRef, SecretPath, SecretRef
from reconciler.model.source import SourceLine
from reconciler.model.target import Target
from reconciler.model.values import replace
from reconciler.settings.model import PageSettings
from tests.support.loops import LoopThread

MERGED = "3f2a9c1b7d604e553f2a9c1b7d604e553f2a9c1b"
EXCHANGES = ("binance", "bybit", "okx", "kraken", "kucoin")


def ago(minutes: float) -> str:
    """A time as the controller writes it, so long ago."""
    return (datetime.now(UTC) - timedelta(minutes=minutes)).isoformat(timespec="seconds")


def line(code: str, version: int = 3, **changes: Any) -> Line:
    """How an exchange stands: in sync, unless *changes* say otherwise."""
    sources = (f"secret/jt/{code}@{version}",)
    return replace(Line(code, Status.IN_SYNC, sources=sources), **changes)


def well(name: str, number: int = 0, codes: Iterable[str] = EXCHANGES[:3]) -> ServerStatus:
    """A server of which nobody has to think."""
    codes = tuple(codes)
    robots = tuple(
        Robot(place, f"{word}-{code}", code, running=True)
        for place, (word, code) in enumerate(zip(("grid", "arb", "maker"), codes, strict=False), 1)
    )
    return ServerStatus(
        name,
        f"https://{name}.internal:8443",
        "0",
        owner="desk-asia" if number % 2 else "desk-europe",
        labels={"env": "prod" if number % 4 else "test", "region": name.split("-", maxsplit=1)[0]},
        sync=Sync.SYNCED,
        health=Health.HEALTHY,
        version="0.24.1",
        robots=robots,
        connected=True,
        seen_at=ago(0.5),
        last_pass=ago(0.5),
        last_success=ago(0.5),
        next_pass=ago(-0.5),
        secret_ages={
            code: 86400.0 * (12 + number % 40 + place) for place, code in enumerate(codes)
        },
        keys={code: KeyStatus(Light.OK, (), ago(90)) for code in codes[:2]},
        lines=tuple(line(code, 3 + number % 4) for code in codes),
    )


def mixed() -> list[ServerStatus]:
    """A fleet with one of everything."""
    okx = Robot(7, "arb-okx", "okx", running=False)
    withdraw = KeyFinding(
        "PERM_WITHDRAW", Severity.CRITICAL, "it may withdraw funds", "take that right away"
    )
    expiring = KeyFinding("KEY_EXPIRES", Severity.WARNING, "it expires in 9 days", "rotate it")
    osaka = replace(
        well("osaka-1", 1),
        sync=Sync.OUT_OF_SYNC,
        health=Health.DEGRADED,
        reason="okx: another value was typed on the server three times; somebody works against it",
        drifting=("okx",),
        contested=("okx",),
        lines=(
            line("binance"),
            line("bybit"),
            line(
                "okx",
                status=Status.LEFT_ALONE,
                category=Category.DRIFT,
                verdict=Verdict.DIFFERENT,
                condition=Condition(
                    "drift",
                    "the server shows another value than we wrote",
                    "jtr apply --correct-drift",
                ),
            ),
        ),
    )
    seoul = replace(
        well("seoul-2", 2),
        health=Health.UNREACHABLE,
        sync=Sync.UNKNOWN,
        reason="no answer within 10 s; see that the tunnel is up",
        connected=False,
        seen_at=ago(47),
        failures=9,
    )
    tokyo = replace(
        well("tokyo-3", 3),
        sync=Sync.OUT_OF_SYNC,
        health=Health.DEGRADED,
        reason="reboot 2026-11-22T09:30:00Z: sent, and no boot line followed",
        in_doubt=1,
        owed_robots=(okx,),
        debts=(Debt(Owed.REBOOT, "okx", ago(300), 5),),
    )
    paris = replace(
        well("paris-1", 4),
        health=Health.DEGRADED,
        reason="bybit: it may withdraw funds; take that right away",
        keys={
            "binance": KeyStatus(Light.ATTENTION, (expiring,), ago(60), ago(-60 * 24 * 9)),
            "bybit": KeyStatus(Light.BLOCKED, (withdraw,), ago(60), ago(-60 * 24 * 80)),
        },
    )
    london = replace(
        well("london-1", 5),
        sync=Sync.OUT_OF_SYNC,
        health=Health.DEGRADED,
        reason="kraken: it holds a key that this ledger never wrote; consent with --take-over",
        changes=1,
        blocked=1,
        lines=(
            line("binance"),
            line(
                "kraken",
                status=Status.BLOCKED,
                verdict=Verdict.DIFFERENT,
                condition=Condition(
                    "foreign",
                    "it holds a key that this ledger never wrote",
                    "jtr apply --take-over london-1/kraken",
                    Exit.BLOCKED,
                ),
            ),
        ),
    )
    zurich = replace(
        well("zurich-1", 6),
        health=Health.SUSPENDED,
        reason="by ann until 2026-11-30T18:00:00Z: exchange maintenance",
        suspended="exchange maintenance",
        suspended_by="ann",
        suspended_until=ago(-300),
    )
    frankfurt = replace(
        well("frankfurt-1", 7),
        sync=Sync.OUT_OF_SYNC,
        health=Health.PROGRESSING,
        reason="what differs is written in the next pass",
        changes=1,
        window_open=False,
        window="opens at 18:00Z",
        lines=(
            line("binance"),
            line(
                "bybit",
                8,
                status=Status.WRITE,
                verdict=Verdict.DIFFERENT,
                reason=Reason.NEW_VERSION,
                condition=Condition("new-version", "new version in Vault: 7 -> 8"),
                consequence=Consequence((Robot(2, "arb-bybit", "bybit", True),), Need.RESTART),
            ),
            line("okx"),
        ),
        debts=(Debt(Owed.RESTART, "binance", ago(90), 5, 1, "grid-binance"),),
        deferred=("reboot: waits for its window, opens at 18:00Z",),
    )
    named = ("tokyo-1", "tokyo-2", "osaka-2", "seoul-1", "singapore-1", "sydney-1", "madrid-1")
    return [
        osaka,
        seoul,
        tokyo,
        paris,
        london,
        zurich,
        frankfurt,
        *(well(name, number) for number, name in enumerate(named)),
    ]


def report_of(status: ServerStatus) -> Report:
    """A last pass that fits a status."""
    wishes: tuple[Disruption, ...] = ()
    if status.in_doubt:
        wishes = (
            Disruption(
                "reboot 2026-11-22T09:30:00Z",
                Standing.IN_DOUBT,
                Condition(
                    "in-doubt",
                    "sent, and no boot line followed",
                    "find out on the server",
                    Exit.IN_DOUBT,
                ),
                robots=status.owed_robots,
                kind=RequestKind.REBOOT,
                instant=datetime(2026, 11, 22, 9, 30, tzinfo=UTC),
            ),
        )
    elif status.deferred:
        wishes = (
            Disruption(
                "reboot 2026-11-29T18:00:00Z",
                Standing.WAITING,
                Condition("window", "opens at 18:00Z"),
                kind=RequestKind.REBOOT,
                instant=datetime(2026, 11, 29, 18, tzinfo=UTC),
            ),
        )
    target = Target(status.url, status.account)
    plan = ServerPlan(
        status.server,
        target,
        status.owner,
        status.version,
        lines=status.lines,
        disruptions=wishes,
        debts=status.debts,
        robots=status.robots,
    )
    return Report(plan)


def document_of(status: ServerStatus) -> DesiredServer:
    """The document of a server as it would be."""
    source = SourceLine(f"servers/{status.server}.yaml", 1)
    windows: tuple[Window, ...] = ()
    if status.window_open is not None:
        windows = (
            Window(WindowKind.ALLOW, "0 18 * * 1-5", timedelta(hours=4), "Europe/Zurich", source),
        )
    return DesiredServer(
        status.server,
        status.url,
        source,
        owner=status.owner,
        labels=status.labels,
        windows=windows,
        exchanges=tuple(
            DesiredExchange(
                one.exchange,
                source,
                secret=SecretRef.parse(f"vault:secret/jt/{status.server}/{one.exchange}"),
            )
            for one in status.lines
        ),
    )


def written(name: str, code: str) -> ExchangeRecord:
    """What a ledger would know of one exchange."""
    ref = FrozenRef(SecretPath("secret", f"jt/{name}/{code}"), 3, "2026-11-10T08:00:00Z")
    write = Write({"": ref}, {"f": "v"}, {"f": "m"}, "k1", "2026-11-10T08:00:01Z")
    return ExchangeRecord(code, written=write, ever=True)


def past(name: str) -> tuple[Recorded, Deeds]:
    """What a ledger would know of a server."""
    done = Request(
        RequestKind.REBOOT,
        datetime(2026, 11, 12, 6, tzinfo=UTC),
        "new okx secret under the same API key",
        Stage.DONE,
        evidence="boot line 2026-11-12T06:00:41Z, pid 2114",
        closed_at="2026-11-12T06:00:52Z",
        closed_by="controller 1@desk",
    )
    deeds = (
        HistoryEntry(
            "2026-11-10T08:00:00Z", "apply ann@desk", "write okx", "done", "secret/jt/okx@6"
        ),
        HistoryEntry(
            "2026-11-19T14:21:07Z",
            "controller 1@desk",
            "write bybit",
            "done",
            "secret/jt/bybit@7",
            Origin(MERGED, "#12", "ann@a.test"),
        ),
    )
    codes = EXCHANGES[:3]
    seen = Observation(
        ago(1), "controller 1@desk", "0.24.1", {code: {"f": "m"} for code in codes}, {}, (), 5, "k1"
    )
    records = {code: written(name, code) for code in codes}
    known = Recorded(exchanges=records, observation=seen, requests=Requests(past=(done,)))
    return known, deeds


class Made:
    """A source that holds what a test puts into it; what an operator asks of it is noted."""

    def __init__(self, statuses: Iterable[ServerStatus] = (), **controller: Any) -> None:
        status = ControllerStatus(
            "1.2.3",
            "controller 1@desk",
            ago(600),
            acting=True,
            revision="3f2a9c1b7d604e55",
            token_seconds=2_700.0,
        )
        found = list(statuses)
        self.store = StatusStore(
            replace(status, **controller), Servers({one.server: one for one in found}), ready=True
        )
        self.store.reports = {one.server: report_of(one) for one in found}
        self.store.passes.update(healthy=8120, degraded=41)
        self.state = DesiredState(tuple(document_of(one) for one in found))
        self.paths: Sequence[str] = ("servers",)
        self.pulls: PullRequests | None = None
        self.log: tuple[LogEntry, ...] = ()
        self.running: Answers | None = self
        self.looked: list[str] = []
        self.logs_read: list[str] = []
        self.wishes: list[PauseChange] = []
        self.trouble: JtrError | None = None
        self.quiet = False  # whether the controller's loop gives no sign of life

    @property
    def shared(self) -> SharedState | None:
        return None

    def put(self, status: ServerStatus) -> None:
        """Let the controller know a server, or know it anew."""
        self.store.servers[status.server] = status
        self.store.reports[status.server] = report_of(status)

    async def refresh(self) -> None:
        if not self.quiet:
            self.store.tick = self.store.last_pass = asyncio.get_running_loop().time()

    def declared(self) -> DesiredState:
        return self.state

    async def recorded(self, name: str) -> tuple[Recorded, Deeds]:
        if self.trouble is not None:
            raise self.trouble
        return past(name)

    async def histories(self, names: Iterable[str]) -> list[tuple[str, HistoryEntry]]:
        if self.trouble is not None:
            raise self.trouble
        return [(name, deed) for name in names for deed in past(name)[1]]

    async def documents(self) -> Mapping[str, str]:
        return {}

    async def entries(self, name: str) -> tuple[LogEntry, ...] | None:
        self.logs_read.append(name)
        if self.trouble is not None:
            raise self.trouble
        return self.log

    def documents_moved(self) -> None:
        """Nothing: they stand in the test."""

    def look(self, name: str) -> None:
        if name not in self.store.servers:
            raise UsageError("no server is called so", "see: jtr status")
        self.looked.append(name)

    async def pause(self, wish: PauseChange) -> Noted:
        self.wishes.append(wish)
        servers, changed = [], wish.pause is not None
        for one in self.state.servers:
            if one.target == wish.target or one.name == wish.name:
                pause = wish.pause
                changed = changed or one.suspend is not None
                held = (
                    None if pause is None else Suspension(pause.reason, pause.by, pause.until, True)
                )
                servers.append(replace(one, suspend=held))
            else:
                servers.append(one)
        self.state = DesiredState(tuple(servers))
        return Noted(changed)


class Served:
    """A page that runs on a loop of its own."""

    def __init__(self, source: Made, settings: PageSettings | None = None, **options: Any) -> None:
        actions = options.pop("actions", False)
        self.source = source
        self.loop = LoopThread("page")
        self.access = Access(settings, actions=actions)
        listen = settings.listen if settings is not None else "127.0.0.1:0"
        self.site = Site(
            source, self.access, listen=listen, **({"period": 0.05, "pulse": 0.5} | options)
        )

    @property
    def url(self) -> str:
        return self.site.url

    def do(self, change: Any) -> None:
        """Call something on the page's own loop, where the status is written."""

        async def call() -> None:
            change()

        self.loop.run(call())


@contextmanager
def served(source: Made, settings: PageSettings | None = None, **options: Any) -> Iterator[Served]:
    """Serve a page for a while."""
    made = Served(source, settings, **options)
    with made.loop:
        made.loop.run(made.site.start())
        try:
            yield made
        finally:
            made.loop.run(made.site.stop())
