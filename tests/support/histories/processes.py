"""
Processes of ours that live on one virtual loop, and die there.

What a process asks of the ledger or of a server takes as long as the history says, so that two of
them meet each other in other places each time.  Of one that died nothing goes on, and nothing
reaches the ledger or a server any more; both stay.
"""

import asyncio
import contextvars
import functools
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from reconciler.apply.circuit_breaker import CircuitBreaker
from reconciler.controller.shared import SharedState
from reconciler.controller.state_file import State
from reconciler.controller.status import ControllerStatus
from reconciler.controller.status_store import StatusStore
from reconciler.controller.workers import Workers
from reconciler.drivers.jt_trader.driver import JtTraderDriver
from reconciler.drivers.jt_trader.requests import Request
from reconciler.ledger import Put, Stored, lease
from reconciler.ledger.codec.records import read
from reconciler.ledger.codec.rows import LeaseRow
from reconciler.ledger.ledger import Ledger
from reconciler.ledger.stores.memory import MemoryStore
from reconciler.model.actions import ResumeRobots
from reconciler.model.desired import DesiredServer, DesiredState
from reconciler.model.fingerprints import Fingerprints
from reconciler.model.outcomes import Report
from reconciler.model.plan import Disruption, Plan, Standing
from reconciler.model.secret import Secret
from reconciler.model.target import Target
from reconciler.model.values import replace
from reconciler.observe.context import PassContext
from reconciler.observe.resolver import Resolver
from reconciler.observe.visit import Visit
from reconciler.plan.inputs import Consents
from reconciler.reconcile.apply import apply_all
from reconciler.reconcile.survey import plan_of, survey
from reconciler.sandbox.jt_trader.memory import (
    MemoryConversation,
    MemoryDriver,
    MemoryNetwork,
    MemoryServer,
)
from reconciler.system.timeouts import Timeouts
from reconciler.testing.state import OPEN_POLICY
from reconciler.testing.virtual_time import VirtualClock, VirtualLoop
from tests.crash.crash_points import Killed
from tests.support.histories.judge import WRITES

if TYPE_CHECKING:
    from tests.support.histories.environment import Environment

TIMEOUTS: Final = Timeouts(
    settle=0.0, quiesce=0.001, interval=200.0, heal_cooldown=100.0, log_lag=1.0, ready=20.0
)
NO_CONSENT: Final = Consents()

owner: contextvars.ContextVar["Process | None"] = contextvars.ContextVar("owner", default=None)
"""Whose task this is; nobody's are those of servers, also where a client set them going."""

sender: contextvars.ContextVar["Process | None"] = contextvars.ContextVar("sender", default=None)
"""Whose request a server is at."""


class _NotYet(BaseException):
    """Whoever blocks would sleep now; on one loop it is asked again when that time has come."""

    def __init__(self, seconds: float) -> None:
        super().__init__()
        self.seconds = seconds


class SharedLoop(VirtualLoop):
    """What would run on a thread runs here, after a pause, and its sleep lets others work."""

    def __init__(self, clock: VirtualClock) -> None:
        super().__init__(clock)
        self.set_task_factory(_task)  # type: ignore[arg-type]

    def run_in_executor(  # type: ignore[override]
        self, executor: object, func: Callable[..., Any], *args: Any
    ) -> asyncio.Future[Any]:
        del executor
        future: asyncio.Future[Any] = self.create_future()
        process = owner.get()
        call = functools.partial(func, *args)
        if process is None:
            future.set_result(call())
            return future
        pause = process.environment.pause()
        if pause:
            self.call_later(pause, self._call, process, call, future, None)
        else:
            self._call(process, call, future, None)
        return future

    def _call(
        self,
        process: "Process",
        call: Callable[[], Any],
        future: asyncio.Future[Any],
        began: float | None,
    ) -> None:
        """Call it, also where nobody waits any more: a thread would go on as well."""
        if not process.alive:
            future.cancel()
            return
        process.began = began
        try:
            result = call()
        except _NotYet as wait:
            began = self.time() if began is None else began
            self.call_later(wait.seconds, self._call, process, call, future, began)
        except BaseException as error:  # noqa: BLE001  - a dead process counts as well
            if not future.done():
                future.set_exception(error)
        else:
            if not future.done():
                future.set_result(result)


def _task(
    loop: asyncio.AbstractEventLoop, coro: Coroutine[Any, Any, Any], **more: Any
) -> asyncio.Task[Any]:
    task = asyncio.Task(coro, loop=loop, **more)
    if (process := owner.get()) is not None:
        process.tasks.add(task)
        task.add_done_callback(process.ended)
    return task


class Network(MemoryNetwork):
    """What a server does is its own: no death of a client's process ends it."""

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        context = contextvars.copy_context()
        context.run(owner.set, None)
        context.run(super().spawn, work)


class _Conversation(MemoryConversation):
    """Requests take their time, and a process may die around each that changes the server."""

    def __init__(self, servers: Mapping[str, MemoryServer], **options: Any) -> None:
        super().__init__(servers, **options)
        self._process = owner.get()
        if self._process is not None:
            self._process.conversations.append(self)

    async def _emit(self, request: Request, body: Mapping[str, object]) -> None:
        process = self._process
        if process is None:
            await super()._emit(request, body)
            return
        if not request.writes:
            await _rest(process)
            await super()._emit(request, body)
            return
        what = WRITES[request.event]
        process.moment(f"before {what}")
        await super()._emit(request, body)
        process.moment(f"after {what}")
        await _rest(process)

    def vanish(self) -> None:
        self._cut()


class _Driver(MemoryDriver):
    def __init__(self, servers: Mapping[str, MemoryServer], command: str) -> None:
        converse = functools.partial(_Conversation, servers)
        JtTraderDriver.__init__(self, command=command, timeouts=TIMEOUTS, converse=converse)
        self._servers = servers


class _Store:
    """The ledger's store in the hands of one process."""

    def __init__(self, store: MemoryStore, process: "Process") -> None:
        self._store, self._process = store, process
        self.created = self.at_hand = False

    def get(self, key: str) -> Stored | None:
        self._process.live()
        return self._store.get(key)

    def put(self, key: str, text: str, *, expect: int) -> int:
        what = key.rpartition("/")[2]
        self._process.moment(f"before noting {what}")
        if what == "lease":
            self._process.leases.add(read(LeaseRow, key, text).holder.nonce)
        revision = self._store.put(key, text, expect=expect)
        self._process.moment(f"after noting {what}")
        return revision

    def put_all(self, puts: Sequence[Put]) -> None:
        for one in puts:  # whoever can die does so between any two
            self.put(one.key, one.text, expect=one.expect)

    def keys(self, prefix: str) -> list[str]:
        self._process.live()
        return self._store.keys(prefix)

    def rows(self, prefix: str) -> dict[str, Stored]:
        self._process.live()
        return self._store.rows(prefix)

    def sequence(self) -> int:
        return self._store.sequence()

    def close(self) -> None:
        """Keep it: others need it."""


class Process:
    """One process, from its start to its end or death; it dies at its moment *dies_at*."""

    def __init__(
        self, environment: "Environment", command: str, dies_at: int | None = None
    ) -> None:
        self.environment = environment
        self.command = command
        self.alive = True
        self.tasks: set[asyncio.Task[Any]] = set()
        self.conversations: list[_Conversation] = []
        self.leases: set[str] = set()
        self.began: float | None = None  # of what is asked again after its sleep
        self.in_force: Mapping[Target, DesiredServer] = {}
        self._left = dies_at
        with self.itself():
            self._main = asyncio.ensure_future(self._run())

    @contextmanager
    def itself(self) -> Iterator[None]:
        """Let what begins within be this process's own."""
        mine, sends = owner.set(self), sender.set(self)
        try:
            yield
        finally:
            owner.reset(mine)
            sender.reset(sends)

    def live(self) -> None:
        if not self.alive:
            raise Killed

    def moment(self, what: str) -> None:
        """Live on, or die here."""
        self.live()
        if self._left == 0:
            self.die(what)
            raise Killed
        if self._left is not None:
            self._left -= 1

    def die(self, where: str) -> None:
        """Be gone: connections end, nothing goes on; others see that its leases are nobody's."""
        if not self.alive:
            return
        self.alive = False
        self.environment.judge.note(f"{self.command} dies {where}")
        self.environment.forgive()
        for conversation in self.conversations:
            conversation.vanish()
        lease._living.difference_update(self.leases)
        for task in tuple(self.tasks):
            task.cancel()

    def kill_at(self, moments: int | None) -> None:
        """Die so many moments from now."""
        self._left = moments if moments is not None else self._left

    def ended(self, task: asyncio.Task[Any]) -> None:
        self.tasks.discard(task)
        if not task.cancelled() and not self.alive:
            task.exception()  # seen: nobody else asks a dead process

    async def gone(self) -> None:
        await asyncio.wait([self._main, *self.tasks])

    @property
    def done(self) -> bool:
        return self._main.done()

    async def main(self) -> None:
        raise NotImplementedError

    async def _run(self) -> None:
        try:
            await self.main()
        except Killed:
            pass
        except asyncio.CancelledError:
            if self.alive:
                raise
        finally:
            if self.alive and (rest := [t for t in self.tasks if t is not self._main]):
                await asyncio.wait(rest, timeout=60.0)

    def failed(self) -> BaseException | None:
        """Return what this process fell over, which is a mistake of ours."""
        if not self._main.done() or self._main.cancelled():
            return None
        return self._main.exception()

    def clock(self) -> float:
        began, self.began = self.began, None
        return began if began is not None else self.environment.clock()

    def context(self) -> PassContext:
        environment = self.environment
        label = f"{self.command} {next(environment.numbers)}@history"
        driver = _Driver(environment.servers, self.command)
        ledger = Ledger(
            _Store(environment.store, self),
            now=environment.clock.wall,
            timeouts=TIMEOUTS,
            writer=label,
            clock=self.clock,
            sleep=_sleep,
        )
        return PassContext(
            driver=driver,
            resolver=Resolver(environment.vault, driver, TIMEOUTS, lambda _text: None),
            fingerprints=Fingerprints(Secret("0" * 64)),
            timeouts=TIMEOUTS,
            ledger=ledger,
            label=label,
            now=environment.clock.wall,
            ledger_shared=True,
            policy=OPEN_POLICY,
        )


async def _rest(process: Process) -> None:
    if pause := process.environment.pause():
        await asyncio.sleep(pause)


def _sleep(seconds: float) -> None:
    raise _NotYet(seconds)


class Apply(Process):
    """One `jtr apply` of the documents as they are when it begins."""

    def __init__(
        self,
        environment: "Environment",
        consents: Consents = NO_CONSENT,
        dies_at: int | None = None,
        state: DesiredState | None = None,
    ) -> None:
        self.consents = consents
        self.state = state or environment.state()
        self.plan: Plan | None = None
        self.reports: Sequence[Report] = ()
        super().__init__(environment, "apply", dies_at)
        self.in_force = {server.target: server for server in self.state.servers}

    async def main(self) -> None:
        context = self.context()
        visits: Sequence[Visit] = ()
        try:
            visits = await survey(self.state, self.consents, context)
            self.reports = await self.act(visits, context)
            self.environment.judge.reported(self.reports)
        finally:
            for visit in visits:
                await visit.close()

    async def act(self, visits: Sequence[Visit], context: PassContext) -> Sequence[Report]:
        self.plan = plan_of(visits, self.state, skip_unreachable=False)
        return await apply_all(visits, self.consents, context, CircuitBreaker())


class PlanOnly(Apply):
    """One `jtr plan`."""

    async def act(self, visits: Sequence[Visit], context: PassContext) -> Sequence[Report]:
        del context
        self.plan = plan_of(visits, self.state, skip_unreachable=False)
        return ()


class Resume(Apply):
    """One `jtr request resume` for one server."""

    async def act(self, visits: Sequence[Visit], context: PassContext) -> Sequence[Report]:
        (visit,) = visits
        halt = visit.recorded.requests.halt
        if halt is None or visit.observed is None or visit.plan.held or visit.plan.failure:
            return ()
        running = {robot.id for robot in visit.plan.robots if robot.running}
        left = tuple(robot for robot in halt.robots if robot.id not in running)
        line = Disruption("robots owed a start", Standing.FOUND_OUT, robots=left)
        if left:
            action = ResumeRobots(left, halt.at, asked=True)
            line = replace(line, standing=Standing.DUE, action=action)
            known = self.environment.judge.robots(visit.desired.url)
            known.startable |= {robot.id for robot in left}
        visit.plan = replace(visit.plan, lines=(), disruptions=(line,))
        return await apply_all(visits, Consents(), context, CircuitBreaker())


class Controller(Process):
    """A controller's workers; documents are put into force when it is told of them."""

    def __init__(self, environment: "Environment", dies_at: int | None = None) -> None:
        self._stop = asyncio.Event()
        self._workers: Workers | None = None
        self._status = StatusStore(ControllerStatus("history", "controller", "now"))
        super().__init__(environment, "controller", dies_at)

    async def main(self) -> None:
        shared = SharedState(
            self.context(),
            self._status,
            acting=lambda: self.alive,
            looking=lambda: True,
            luck=lambda: 0.5,
        )
        self.in_force = shared.in_force
        self._shared, self._workers = shared, Workers(shared, State())
        self.declare()
        await self._stop.wait()
        shared.stopping = True
        await self._workers.stop(TIMEOUTS.ready * 10)

    def declare(self) -> None:
        """Put the newest documents into force."""
        if self._workers is None or self._stop.is_set():
            return
        with self.itself():
            self._workers.declare(self.environment.state(), str(next(self.environment.numbers)))
            self.in_force = self._shared.in_force

    def wake(self) -> None:
        if self._workers is not None and not self._stop.is_set():
            self._workers.hasten()

    def stop(self) -> None:
        self._stop.set()
