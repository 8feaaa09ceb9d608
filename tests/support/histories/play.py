"""
What a history is, how it is carried out, and how it ends.

A history is a value.  Hypothesis draws it, prints it as the story that it is, and what it printed
can be pasted into a test.
"""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final, TypeVar

import pytest
from hypothesis import strategies as st

from reconciler.model.desired import DesiredState, Presence, RequestKind
from reconciler.model.plan import Plan, Standing
from reconciler.model.values import replace
from reconciler.plan.inputs import Consents
from reconciler.testing.virtual_time import VirtualClock
from tests.support.histories.documents import CODES, FIELDS, ROBOTS, URLS, Document, path_of
from tests.support.histories.environment import Beginning, Environment
from tests.support.histories.judge import Wrong
from tests.support.histories.processes import (
    Apply,
    Controller,
    PlanOnly,
    Process,
    Resume,
    SharedLoop,
)

PAUSES: Final = (0.0, 0.1, 0.5, 2.0, 7.0)
WAITS: Final = (0.0, 0.3, 1.0, 3.0, 9.0, 45.0, 250.0)
TINY: Final = 1e-6  # a step comes when all that takes no time has happened
DOWN: Final = 5.0  # seconds in which a supervisor starts a controller again
ROUNDS: Final = 8  # passes in which whatever was left is done
RESTS: Final = 2  # of them, at the end, that must not send anything
_P = TypeVar("_P", bound=Process)
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True, repr=False)
class Step:
    """
    After *wait* seconds *what* happens to *who*: a document, an address, or one of the processes.

    A process that begins with it dies at its moment *dies_at*.
    """

    what: str
    who: str = ""
    how: str = ""
    wait: float = 0.0
    dies_at: int | None = None

    def __repr__(self) -> str:
        words = [repr(word) for word in (self.what, self.who, self.how)]
        while words[-1] == "''":
            words.pop()
        words += [f"wait={self.wait}"] if self.wait else []
        words += [f"dies_at={self.dies_at}"] if self.dies_at is not None else []
        return f"Step({', '.join(words)})"


@dataclass(frozen=True, slots=True)
class History:
    """*processes* say what each of the two is, *pace* how long what they ask takes."""

    steps: Sequence[Step]
    processes: tuple[str, str] = ("apply", "apply")
    pace: Sequence[float] = ()


# ── what may happen ──────────────────────────────────────────────────────────────────────────

_EDITS: Final = (
    *(f"{how} {code}" for how in ("want", "delete", "drop") for code in CODES),
    *("suspend", "suspend", "free", "observe", "enforce", "restarts", "heals"),
    *("ask cache", "ask cache", "ask reboot", "ask reboot", "ask both", "ask and leave", "unask"),
)
_HANDS: Final = (
    *(f"{how} {code}" for how in ("type", "spoil", "remove") for code in CODES),
    *(f"{how} {robot}" for how in ("start", "stop") for robot in (1, 2)),
    "reboot",
)
_DOCUMENTS: Final = ("a", "b")
_SLOTS: Final = ("0", "1")


def _steps(
    what: str, who: Sequence[str], how: Sequence[str] = ("",), times: int = 1
) -> list[tuple[str, str, str]]:
    return [(what, one, way) for _ in range(times) for one in who for way in how]


_CALM: Final = (
    _steps("edit", _DOCUMENTS, _EDITS)
    + _steps("rotate", _DOCUMENTS, (*CODES, *CODES, *(f"rest of {code}" for code in CODES)), 2)
    + _steps("rename", _DOCUMENTS, ("a", "b", "c"), 2)
    + _steps("swap", ("addresses", "names"), times=3)
    + _steps("move", _DOCUMENTS, URLS)
    + _steps("remove", _DOCUMENTS, times=2)
    + _steps("hand", URLS, _HANDS)
    + _steps("crash", _SLOTS, times=4)
    + _steps("resume", _DOCUMENTS)
)
_PASSES: Final = _steps("go", _SLOTS, ("", "", "drift", "approve", "everything"))


def _step(chosen: tuple[str, str, str], wait: float, dies_at: int | None) -> Step:
    return Step(*chosen, wait=wait, dies_at=dies_at)


def histories(*, most: int = 9) -> st.SearchStrategy[History]:
    waits = st.sampled_from(WAITS)
    calm = st.builds(_step, st.sampled_from(_CALM), waits, st.none())
    deaths = st.none() | st.none() | st.integers(0, 40)
    step = st.one_of(calm, st.builds(_step, st.sampled_from(_PASSES), waits, deaths))
    kinds = st.sampled_from(("apply", "controller"))
    return st.builds(
        History,
        st.lists(step, min_size=3, max_size=most).map(tuple),
        st.tuples(kinds, kinds),
        st.lists(st.sampled_from(PAUSES), min_size=1, max_size=5).map(tuple),
    )


# ── carrying it out ──────────────────────────────────────────────────────────────────────────


class Player:
    """Carries out one history in its environment."""

    def __init__(self, environment: Environment, history: History) -> None:
        self.environment = environment
        self._history = history
        self._slots: dict[str, Process | None] = dict.fromkeys(_SLOTS)
        self._keepers: list[asyncio.Task[None]] = []
        self._ending = False
        self._removed: dict[str, Document] = {}

    async def play(self) -> None:
        for slot, kind in zip(_SLOTS, self._history.processes, strict=True):
            if kind == "controller":
                self._keepers.append(asyncio.create_task(self._keep(slot)))
        for step in self._history.steps:
            await asyncio.sleep(step.wait + TINY)
            self.environment.judge.note(repr(step))
            await getattr(self, f"_{step.what}")(step)
            self.environment.judge.check()
        await self._converge()

    async def _keep(self, slot: str) -> None:
        """Be the supervisor of a controller."""
        while not self._ending:
            process = self._slots[slot] = Controller(self.environment)
            await process.gone()
            self._fell(process)
            if not self._ending:
                await asyncio.sleep(DOWN)

    async def _done(self, process: _P) -> _P:
        await asyncio.wait_for(process.gone(), 7200.0)
        self._fell(process)
        return process

    def _fell(self, process: Process) -> None:
        if (error := process.failed()) is not None:
            raise error

    # ── steps ────────────────────────────────────────────────────────────────────────────────

    def _controllers(self) -> list[Controller]:
        return [one for one in self._slots.values() if isinstance(one, Controller) and one.alive]

    async def _wait(self, step: Step) -> None:
        """Nothing but time passes."""

    async def _go(self, step: Step) -> None:
        process = self._slots[step.who]
        if isinstance(process, Controller):
            process.kill_at(step.dies_at)
            process.wake()
        elif self._history.processes[int(step.who)] == "apply" and (
            process is None or process.done
        ):
            if process is not None:
                self._fell(process)
            names = frozenset(document.name for document in self.environment.docs.values())
            everything = step.how == "everything"
            consents = Consents(
                drift=everything or step.how == "drift",
                take_over=names if everything else frozenset(),
                targets=names if everything or step.how == "approve" else frozenset(),
            )
            self._slots[step.who] = Apply(self.environment, consents, step.dies_at)

    async def _crash(self, step: Step) -> None:
        process = self._slots[step.who]
        if process is not None and not process.done:
            process.die("by kill -9")

    async def _rotate(self, step: Step) -> None:
        code = step.how.rpartition(" ")[2]
        self.environment.rotate(step.who, code, rest=step.how.startswith("rest"))
        for controller in self._controllers():
            controller.wake()

    async def _edit(self, step: Step) -> None:
        document = self.environment.docs.get(step.who)
        if document is None:
            return
        how, _, what = step.how.partition(" ")
        exchanges = dict(document.exchanges)
        match how:
            case "want" | "delete":
                exchanges[what] = Presence.PRESENT if how == "want" else Presence.ABSENT
                document = replace(document, exchanges=exchanges)
            case "drop":
                exchanges.pop(what, None)
                document = replace(document, exchanges=exchanges)
            case "suspend" | "free":
                document = replace(document, suspended=how == "suspend")
            case "observe" | "enforce":
                document = replace(document, observed=how == "observe")
            case "restarts":
                document = replace(document, restarts=not document.restarts)
            case "heals":
                document = replace(document, heals=not document.heals)
            case "unask":
                document = replace(document, cache=None, reboot=None)
            case "ask":
                instant = self.environment.next_instant()
                document = replace(
                    document,
                    cache=instant if what in ("cache", "both") else document.cache,
                    reboot=document.reboot if what == "cache" else instant,
                    resumes=document.resumes if what == "cache" else what != "and leave",
                )
        self._write({**self.environment.docs, step.who: document})

    async def _rename(self, step: Step) -> None:
        """Call a document otherwise, unless the other one is called so."""
        self._change(step.who, "name", step.how)

    async def _move(self, step: Step) -> None:
        """Give a document another address, unless the other one has it."""
        self._change(step.who, "url", step.how)

    def _change(self, key: str, what: str, value: str) -> None:
        docs = self.environment.docs
        if key in docs and value not in {getattr(one, what) for one in docs.values()}:
            self._write({**docs, key: _changed(docs[key], what, value)})

    async def _swap(self, step: Step) -> None:
        """Let both documents exchange their addresses, or their names."""
        docs, what = self.environment.docs, "url" if step.who == "addresses" else "name"
        values = [getattr(one, what) for one in docs.values()]
        self._write(
            {
                key: _changed(one, what, value)
                for (key, one), value in zip(docs.items(), reversed(values), strict=True)
            }
        )

    async def _remove(self, step: Step) -> None:
        """Take a document away, or put it back to an address that is free."""
        docs = dict(self.environment.docs)
        if docs.pop(step.who, None) is None:
            back = self._removed[step.who]
            taken = {one.url for one in docs.values()} | {one.name for one in docs.values()}
            if taken & {back.url, back.name}:
                return
            docs[step.who] = back
        else:
            self._removed[step.who] = self.environment.docs[step.who]
        self._write(docs)

    def _write(self, docs: dict[str, Document]) -> None:
        self.environment.docs = docs
        for controller in self._controllers():
            controller.declare()

    async def _hand(self, step: Step) -> None:
        environment, url = self.environment, step.who
        how, _, what = step.how.partition(" ")
        if how == "reboot":
            await environment.reboot(url)
        elif how in ("start", "stop"):
            environment.turn(url, int(what), running=how == "start")
        else:
            names = list(FIELDS[what])
            for name in names[:1] if how == "spoil" else names:
                if how == "remove":
                    environment.delete(url, name)
                else:
                    environment.type_in(url, name)

    async def _resume(self, step: Step) -> None:
        """Let a person ask for the robots that are owed."""
        document = self.environment.docs.get(step.who)
        if document is not None:
            alone = replace(document.server(), exchanges=(), cache=None, reboot=None)
            await self._done(Resume(self.environment, state=DesiredState((alone,))))

    # ── the end ──────────────────────────────────────────────────────────────────────────────

    async def _converge(self) -> None:
        """Disturb nothing any more, see that robots left stopped are named, and let all be done."""
        environment = self.environment
        environment.judge.note("nothing disturbs any more")
        self._ending = True
        for process in self._slots.values():
            if isinstance(process, Controller):
                process.stop()
        if self._keepers:
            await asyncio.wait_for(asyncio.gather(*self._keepers), 7200.0)
        for process in self._slots.values():
            if process is not None:
                await self._done(process)
        self.environment.judge.check()
        environment.hurry()
        await asyncio.sleep(60.0)
        look = await self._done(PlanOnly(environment))
        if look.plan is None:
            raise AssertionError
        plan = look.plan
        for name in environment.judge.unnamed(plan, environment.store.documents()):
            environment.judge.blame(f"{name} was left stopped by us, and nobody says so")
        self.environment.judge.check()
        await self._come_to_rest(plan)
        environment.judge.check()

    async def _come_to_rest(self, plan: Plan) -> None:
        """Apply with every consent, and a person's help where one is asked for."""
        environment = self.environment
        names = frozenset(document.name for document in environment.docs.values())
        consents = Consents(drift=True, take_over=names, targets=names)
        rests = 0
        for _ in range(ROUNDS):
            self._help(plan)
            sent = environment.judge.sends
            done = await self._done(Apply(environment, consents))
            if done.plan is None:
                raise AssertionError
            plan = done.plan
            if not plan.actions and environment.judge.sends != sent:
                environment.judge.blame(f"what was sent stands in no plan: {told(plan)}")
            environment.judge.check()
            rests = 0 if plan.actions else rests + 1
            if rests == RESTS:
                break
            await asyncio.sleep(60.0)
        else:
            environment.judge.blame(f"it does not come to rest: {told(plan)}")
        self._judge_rows(plan)

    def _help(self, plan: Plan) -> None:
        """Do what only people can: release brakes, resolve what is in doubt, start robots."""
        environment = self.environment
        ledger = environment.ledger()
        while held := ledger.brakes():
            environment.judge.note(f"a person releases the brake: {held[0].brake.why}")
            ledger.release_brake(held[0].over, "the history goes on")
        for identity in ledger.servers():
            book = ledger.requests(identity.uid)
            request = book.load().open
            if request is not None and request.kind is RequestKind.CACHE:
                done = any(instant == request.instant for _, _, instant in environment.judge.done)
                book.resolve(request.kind, request.instant, done=done, because="I looked")
        for server in plan:
            for line in server.disruptions:
                if line.kind is None and line.standing is Standing.BLOCKED:
                    for robot in line.robots:
                        environment.turn(server.target.url, robot.id, running=True)

    def _judge_rows(self, plan: Plan) -> None:
        """Compare what the servers store with what the documents say."""
        environment = self.environment
        for document in environment.docs.values():
            server = next(one for one in plan if one.target.url == document.url)
            if server.failure is not None:
                environment.judge.blame(f"{server.server}: {server.failure}")
            if document.suspended or document.observed:
                continue
            stored = environment.servers[document.url].values()
            busy = {
                ROBOTS[robot][1] for robot in environment.servers[document.url].robots_running()
            }
            for code, presence in document.exchanges.items():
                wanted = {}
                if presence is Presence.PRESENT:
                    values = environment.newest[path_of(document.key, code)]
                    wanted = {name: values[field] for name, field in FIELDS[code].items()}
                found = {name: stored[name] for name in FIELDS[code] if name in stored}
                if found != wanted and not (presence is Presence.ABSENT and code in busy):
                    environment.judge.blame(
                        f"{code} of {server.server} is not as it shall be: {told(plan)}"
                    )


def _changed(document: Document, what: str, value: str) -> Document:
    return replace(document, name=value) if what == "name" else replace(document, url=value)


def told(plan: Plan) -> list[str]:
    """Say in words what a plan holds."""
    return [
        text
        for server in plan
        for text in (
            f"{server.server} at {server.target.url}: {server.held} {server.failure or ''}",
            *(f"  {line.exchange}: {line.status}, {line.why}" for line in server.lines),
            *(f"  {line.what}: {line.standing}, {line.why}" for line in server.disruptions),
        )
    ]


# ── one history ──────────────────────────────────────────────────────────────────────────────


def lived(history: History, begins: Beginning) -> Environment:
    """Carry out *history* and judge it; raises Wrong with its whole story."""
    return _on_a_loop(lambda clock: _played(history, begins, clock))


async def _played(history: History, begins: Beginning, clock: VirtualClock) -> Environment:
    environment = Environment(clock, history.pace, begins)
    await environment.begin(begins)
    player = Player(environment, history)
    try:
        await player.play()
    finally:
        for server in environment.servers.values():
            with suppress(Exception):
                await server.stop()
    return environment


def beginning() -> Beginning:
    """Return an environment in which everything was written, and an hour passed since."""

    async def begun(clock: VirtualClock) -> Beginning:
        environment = Environment(clock)
        for server in environment.servers.values():
            await server.start()
        await asyncio.sleep(10.0)
        first = Apply(environment)
        await first.gone()
        if (error := first.failed()) is not None:
            raise error
        await asyncio.sleep(3600.0)
        environment.judge.check()
        if not environment.judge.sends:
            raise Wrong("nothing was written to begin with")
        return environment.end()

    return _on_a_loop(begun)


def _on_a_loop(story: Callable[[VirtualClock], Coroutine[Any, Any, _T]]) -> _T:
    clock = VirtualClock()
    with (
        pytest.MonkeyPatch.context() as patch,
        asyncio.Runner(loop_factory=lambda: SharedLoop(clock)) as runner,
    ):
        patch.setattr("time.clock_gettime", lambda _which: clock.since_boot())
        # This process lives on: whose lease is whose tell the nonces alone.
        patch.setattr("reconciler.ledger.lease._state", lambda _pid: ("R", 1))
        patch.setattr("reconciler.ledger.lease._namespace", lambda: "history")
        patch.setattr("reconciler.ledger.lease.this_boot", lambda: "history")
        patch.setattr("reconciler.system.clocks.this_boot", lambda: "history")
        return runner.run(story(clock))
