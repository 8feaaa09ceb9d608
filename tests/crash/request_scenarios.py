"""
Stories of robots, reboots and invalidations whose processes die, and the judgement at their end.

What is true is asked of the watched servers only.  A person appears at the end who looks at the
server and resolves what is in doubt; then nothing may be left, and nothing done twice.
"""

import asyncio
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Final

from reconciler.ledger.requests import RequestLog
from reconciler.model.desired import Afterwards, OnCredentialChange, OneShot, RequestKind
from reconciler.model.observed import Robot as SeenRobot
from reconciler.model.plan import Disruption, Plan, Standing
from reconciler.model.recorded import Request, Requests, Stage
from reconciler.sandbox.jt_trader.memory import MemoryDriver, MemoryServer, calm
from reconciler.sandbox.jt_trader.robots import Robot
from reconciler.secrets.memory import MemoryBackend
from reconciler.system.timeouts import Timeouts
from reconciler.testing.virtual_time import VirtualClock
from tests.crash.harness import SOURCE, Harness, Passed
from tests.crash.server_models import Act, Trader, WatchedRecord

SERVER: Final = "tokyo-1"
URL: Final = "https://tokyo-1.test"
ROBOTS: Final = {1: ("grid", "bybit"), 2: ("arb", "okx"), 3: ("old", "mexc"), 4: ("maker", "bybit")}
RUNNING: Final = frozenset({1, 2, 4})
# All others as they are: time costs nothing.  But a look after a write changes nothing, and a death
# there is no other death.
OURS: Final = Timeouts(settle=0.0, quiesce=0.001, aftermath=0.0)
SAID: Final = frozenset({Standing.IN_DOUBT, Standing.BLOCKED, Standing.NOT_DONE})
ENDED: Final = frozenset(
    {Standing.DONE, Standing.NOT_DONE, Standing.EXPIRED, Standing.SUPERSEDED, Standing.SATISFIED}
)


class Trading(Harness):
    """A harness with one watched server, on virtual time; built by `settled`."""

    def __init__(self, clock: VirtualClock, **options: Any) -> None:
        self.time = clock
        self.sent_unrecorded: list[str] = []
        server = _server(clock)
        self.trader = Trader(URL, server)
        backend = MemoryBackend(keep=100)
        super().__init__(
            {SERVER: self.trader},
            lambda command: MemoryDriver({URL: server}, command=command, timeouts=OURS),
            backend,
            backend.put,
            timeouts=OURS,
            clock=clock,
            now=clock.wall,
            **options,
        )
        self.trader.before = self._check

    @property
    def uid(self) -> str:
        """The ledger's name for the server."""
        identity = self.ledger().servers()[0]
        return identity.uid

    def book(self) -> RequestLog:
        """The server's requests, as another process opens them."""
        return self.ledger().requests(self.uid)

    def requests(self) -> Requests:
        """What the ledger says of them."""
        return self.book().load()

    def _check(self, act: Act) -> None:
        """See, when a request arrives, that the ledger told of it before."""
        known = self.requests()
        robots = {robot.id for robot in known.halt.robots} if known.halt else set()
        open_kind = known.open.kind if known.open and known.open.attempts else None
        recorded = {
            "reboot": open_kind is RequestKind.REBOOT,
            "invalidate": open_kind is RequestKind.CACHE,
            "stop": act.robot in robots,
            "start": known.halt is not None and act.robot in known.halt.begun,
        }
        if not recorded[act.what]:
            self.sent_unrecorded.append(f"{act.what} {act.robot or ''} was sent and not recorded")

    def wish(self, **changes: Any) -> None:
        """Write into the document what is wished."""
        self.changes[SERVER] = {**self.changes[SERVER], **changes}


def _server(clock: VirtualClock) -> MemoryServer:
    behaviour = calm()
    behaviour.reboot_drop, behaviour.reboot_down = 1.0, 2.0  # as observed
    return MemoryServer(
        URL,
        robots=[Robot(n, *told, running=n in RUNNING) for n, told in ROBOTS.items()],
        behaviour=behaviour,
        record=WatchedRecord(),
        now=lambda: clock.truth().timestamp(),
    )


def cache(harness: Trading, minutes_ago: float = 10, **more: Any) -> OneShot:
    """A wish for an invalidation."""
    at = harness.time.truth() - timedelta(minutes=minutes_ago)
    return OneShot(RequestKind.CACHE, at, "stale", SOURCE, **more)


def reboot(
    harness: Trading,
    minutes_ago: float = 5,
    robots: Afterwards = Afterwards.RESUME,
    **more: Any,
) -> OneShot:
    """A wish for a reboot."""
    at = harness.time.truth() - timedelta(minutes=minutes_ago)
    return OneShot(RequestKind.REBOOT, at, "new secret", SOURCE, robots=robots, **more)


async def settled(clock: VirtualClock) -> Trading:
    """A server on which bybit and kucoin are written and three robots run, and an hour passes."""
    harness = Trading(clock)
    behaviour = harness.trader.server.behaviour
    behaviour.clock_offset = -3 * 86400.0  # it booted three days ago
    await harness.trader.server.start()
    behaviour.clock_offset = 0.0
    for code in ("bybit", "kucoin"):
        harness.rotate(SERVER, code)
        harness.declare(SERVER, code)
    harness.wish(supervised=True, sole_account=True)
    await harness.apply()
    await asyncio.sleep(3600)
    harness.trader.acts.clear()
    return harness


def everything(harness: Trading) -> None:
    """Ask for new credentials, for others to be deleted, an invalidation and a reboot."""
    harness.rotate(SERVER, "bybit")
    harness.declare(SERVER, "kucoin", "absent")
    harness.wish(cache=cache(harness), reboot=reboot(harness))


def restarts(harness: Trading) -> None:
    """Ask for new credentials, restarts of the robots that use them, and an invalidation."""
    harness.rotate(SERVER, "bybit")
    harness.wish(cache=cache(harness), on_credential_change=OnCredentialChange.RESTART)


def a_reboot(harness: Trading) -> None:
    """Ask for a reboot and nothing else."""
    harness.wish(reboot=reboot(harness))


# ── the judgement ────────────────────────────────────────────────────────────────────────────


@dataclass(slots=True)
class Judgement:
    """What was found at the end of a story; `wrong` must stay empty."""

    wrong: list[str] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)

    def holds(self, fact: object, otherwise: str) -> None:
        """Note that something is wrong unless *fact*."""
        if not fact:
            self.wrong.append(otherwise)


async def judged(harness: Trading, passes: Sequence[Passed], *, readable: bool = True) -> Judgement:
    """Judge a story, then let a person resolve what is in doubt, and judge it again."""
    verdict = Judgement()
    plan = await harness.plan()
    _judge_server(harness, verdict)
    _judge_ledger(harness, verdict)
    _judge_robots(harness, plan, verdict)
    while (doubt := harness.requests().open) is not None:
        _judge_doubt(doubt, passes, verdict, readable=readable)
        done = (
            harness.trader.count("invalidated" if doubt.kind is RequestKind.CACHE else "rebooted")
            > 0
        )
        book = harness.book()
        book.resolve(doubt.kind, doubt.instant, done=done, because="I looked at the server")
        for _ in range(2):
            await asyncio.sleep(20)
            await harness.apply()
        plan = await harness.plan()
        _judge_server(harness, verdict)
        _judge_ledger(harness, verdict)
    halt = harness.requests().halt
    if halt is not None:
        verdict.counts["robots went to a person"] += 1
        verdict.holds(halt.finding or _says(plan, halt.robots), "robots are owed, and nobody says")
    _judge_ends(plan, verdict, blocked=halt is not None or not readable)
    return verdict


def _judge_server(harness: Trading, verdict: Judgement) -> None:
    """Nothing happened twice, and nothing out of turn."""
    trader = harness.trader
    told = [f"{act.what} {act.robot or ''}@{act.process}" for act in trader.acts]
    verdict.holds(trader.count("rebooted") <= 1, f"rebooted twice: {told}")
    verdict.holds(trader.count("invalidated") <= 1, f"invalidated twice: {told}")
    verdict.holds(trader.count("invalidate") <= 1, f"asked twice to invalidate: {told}")
    asked = {act.process for act in trader.acts if act.what == "reboot"}
    verdict.holds(len(asked) <= 1, f"two processes were asked to reboot: {told}")
    verdict.holds(trader.count("reboot") <= 2, f"asked more than twice to reboot: {told}")
    whats = [act.what for act in trader.acts]
    if "rebooted" in whats and "invalidate" in whats:
        verdict.holds(
            whats.index("invalidate") < whats.index("rebooted"), f"invalidated later: {told}"
        )
    verdict.wrong += harness.sent_unrecorded
    verdict.holds(harness.trader.fatal_paths() == 0, f"a fatal path: {told}")
    verdict.wrong += [f"{wrong}: {told}" for wrong in whereabouts(trader.acts).wrong]


@dataclass(slots=True)
class Whereabouts:
    """Which robots run, which we stopped, and which were started that we had not stopped."""

    alive: set[int] = field(default_factory=lambda: set(RUNNING))
    asked: set[int] = field(default_factory=set)  # to stop, by us, and not to start again since
    down: set[int] = field(default_factory=set)  # stopped by us, and not started again since
    wrong: list[str] = field(default_factory=list)


def whereabouts(acts: Sequence[Act]) -> Whereabouts:
    """Follow the robots through everything that happened to the server."""
    now = Whereabouts()
    for act in acts:
        _follow(now, act)
    return now


def _follow(now: Whereabouts, act: Act) -> None:
    robot = {act.robot}
    match act.what:
        case "stop":
            now.asked |= robot & now.alive
        case "reboot":
            now.asked |= now.alive  # it may stop them all and go on without ending
        case "stopped":
            now.alive -= robot
            now.down |= robot
        case "rebooted" | "boot taken for ours":
            now.asked |= now.alive
            now.down |= now.alive
            now.alive = set()
        case "foreign boot":
            now.asked, now.alive = set(), set()
        case "foreign start":
            now.asked -= robot
            now.down -= robot
            now.alive |= robot
        case "start":
            if act.robot not in now.asked:
                now.wrong.append(f"robot {act.robot} was started that we had not stopped")
            now.asked -= robot
        case "started":
            now.alive |= robot
            now.down -= robot


def _judge_ledger(harness: Trading, verdict: Judgement) -> None:
    """What the ledger calls done was done, and what it calls not done was not."""
    for request in harness.requests().past:
        happened = harness.trader.count(
            "invalidated" if request.kind is RequestKind.CACHE else "rebooted"
        )
        if request.kind is RequestKind.REBOOT:
            happened += harness.trader.count("foreign boot")
            happened += harness.trader.count("boot taken for ours")
        if request.stage is Stage.DONE:
            verdict.holds(happened, f"{request.kind} is called done: {request.evidence}")
        if request.stage is Stage.NOT_DONE:
            verdict.holds(not happened, f"{request.kind} is called not done: {request.evidence}")
        if request.stage is Stage.SATISFIED:
            verdict.holds(harness.trader.count("foreign boot"), "satisfied by nobody's boot")


def _judge_robots(harness: Trading, plan: Plan, verdict: Judgement) -> None:
    """Every robot that ran, and that somebody else did not stop, runs or is named to people."""
    left = RUNNING - harness.trader.running()
    if harness.trader.count("foreign boot"):
        left &= whereabouts(harness.trader.acts).down
    for robot in left:
        said = any(_names(line, robot, ROBOTS[robot][0]) for line in _disruptions(plan))
        verdict.holds(said, f"robot {robot} is stopped and nobody says so: {told(plan)}")


def _judge_doubt(
    doubt: Request,
    passes: Sequence[Passed],
    verdict: Judgement,
    *,
    readable: bool,
) -> None:
    """A person is asked only where evidence is truly missing."""
    verdict.counts[f"{doubt.kind} went to a person"] += 1
    if doubt.kind is RequestKind.REBOOT:
        verdict.holds(not readable, "a reboot is in doubt though the log can be read")
        return
    noted = any(answered_and_noted(passed) for passed in passes)
    verdict.holds(not noted, "an invalidation is in doubt though its answer was noted")


def answered_and_noted(passed: Passed) -> bool:
    """Whether a process lived until it had noted what became of its invalidation."""
    trace = passed.life.trace
    if "after invalidate" not in trace:
        return False
    return "after noting requests" in trace[trace.index("after invalidate") :]


def _judge_ends(plan: Plan, verdict: Judgement, *, blocked: bool) -> None:
    """No request is forgotten."""
    allowed = ENDED | ({Standing.BLOCKED, Standing.HELD} if blocked else frozenset())
    for line in _disruptions(plan):
        if line.kind is not None:
            verdict.holds(line.standing in allowed, f"not ended: {told(plan)}")
            verdict.counts[f"{line.kind} {line.standing}"] += 1


def _disruptions(plan: Plan) -> tuple[Disruption, ...]:
    return plan.servers[0].disruptions


def _says(plan: Plan, robots: Sequence[SeenRobot]) -> bool:
    return any(_names(line, r.id, r.name) for r in robots for line in _disruptions(plan))


def _names(line: Disruption, robot: int, name: str) -> bool:
    if line.standing not in SAID or not line.error:
        return False
    return robot in {r.id for r in line.robots} or name in line.why


def told(plan: Plan | None) -> list[str]:
    """Say in words what a plan holds of robots and requests."""
    if plan is None:
        return ["no plan was made"]
    server = plan.servers[0]
    failure = [f"{server.failure}{server.held}"] if server.failure or server.held else []
    return failure + [f"{line.what}: {line.standing}, {line.why}" for line in server.disruptions]
