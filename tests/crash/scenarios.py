"""
Stories carried out on a harness, and the judgement at their end: what must be true of the servers.
"""

import asyncio
import itertools
import random

from reconciler.model.desired import DesiredState
from reconciler.model.outcomes import Result
from reconciler.model.plan import Category, Plan, Status
from reconciler.model.values import replace
from reconciler.plan.inputs import Consents
from reconciler.sandbox.jt_trader.memory import MemoryDriver, MemoryServer
from reconciler.secrets.memory import MemoryBackend
from tests.crash.handles import Handle, three_robots
from tests.crash.harness import EVERYTHING_ELSE, PATIENT, Harness
from tests.support.strategies import SERVERS, TUNINGS, Step, Story

RECOVERY = Consents(drift=True, targets=frozenset(SERVERS))


async def desk_in_memory(servers: int) -> Harness:
    """A harness with servers and secrets in memory."""
    backend = MemoryBackend(keep=100)
    made, handles = {}, {}
    for name in SERVERS[:servers]:
        url = f"https://{name}.test"
        moments = itertools.count(2_000)  # of its own clock, in ms: no two of its entries are alike
        made[url] = MemoryServer(
            url, robots=three_robots(), now=lambda moments=moments: next(moments) / 1000
        )
        await made[url].start()
        handles[name] = Handle(url, made[url])
    return Harness(
        handles,
        lambda command: MemoryDriver(made, command=command, timeouts=PATIENT),
        backend,
        backend.put,
    )


def begin(harness: Harness, story: Story) -> None:
    """Write the documents and the secrets that they name."""
    for server, code, form, shape in story.declared:
        harness.rotate(server, code, shape=shape)
        harness.declare(server, code, form)


async def act(harness: Harness, step: Step) -> None:
    """Carry out one step of a story."""
    if step.deed == "apply":
        await one_pass(harness, step)
    else:
        _people(harness, step)
        await _machines(harness, step)


def _people(harness: Harness, step: Step) -> None:
    server, code = step.server, step.code
    match step.deed:
        case "rotate":
            harness.rotate(server, code, step.how, step.shape)
        case "declare" if step.how == "undeclared":
            harness.undeclare(server, code)
        case "declare":
            if harness.path(server, code) not in harness.versions:
                harness.rotate(server, code)
            harness.declare(server, code, step.how, step.back)
        case "edit":
            harness.edit(server, code, step.how)
        case "remove":
            harness.remove(server, code, step.how)
        case "tune":
            harness.changes[server] = dict(TUNINGS[step.how])
        case "new key":
            harness.new_key()


async def _machines(harness: Harness, step: Step) -> None:
    handle = harness.handles[step.server]
    match step.deed:
        case "robot":
            for number in (1, 2, 3):
                handle.set_running(number, step.how == "start")
        case "boot":
            await handle.boot()
            await asyncio.sleep(0.2)  # longer than its log lags: what comes sooner is another story
            for number in (1, 2):
                handle.set_running(number, running=True)


async def one_pass(harness: Harness, step: Step) -> None:
    """Apply, with the step's faults and death; whatever happens, no robot stops by it."""
    before = {name: handle.running() for name, handle in harness.handles.items()}
    deletes = {name: handle.deletes() for name, handle in harness.handles.items()}
    harness.handles[step.server].misbehave(step.faults)
    await harness.apply(Consents(drift=step.drift), dies_at=step.dies_at)
    harness.handles[step.server].misbehave(())
    for name, other in harness.handles.items():
        assert other.running() == before[name]
        assert other.fatal_paths() == 0
        if all(wish.form != "absent" for wish in harness.wishes[name].values()):
            assert other.deletes() == deletes[name]


async def converges(harness: Harness, consents: Consents = RECOVERY) -> None:
    """Apply once and see that nothing is left to do, and that the servers are as they shall be."""
    for name, wishes in harness.wishes.items():
        if any(wish.form == "absent" for wish in wishes.values()):
            for number in (1, 2, 3):
                harness.handles[name].set_running(number, running=False)
    while held := harness.ledger().brakes():
        harness.ledger().release_brake(held[0].over, "the test goes on")
    planned = await harness.plan(consents)
    assert planned.id == (await harness.plan(consents, shuffled(harness.state()))).id

    done = await harness.apply(consents)

    assert done.plan is not None
    assert done.plan.id == planned.id
    for report in done.reports:
        assert report.failure is None, report.failure
        for outcome in report.outcomes:
            assert outcome.result in (Result.DONE, Result.NOT_VERIFIABLE), outcome.detail
    for later in (RECOVERY, EVERYTHING_ELSE, Consents()):
        after = await harness.plan(later)
        assert after.actions == (), told(after)
    judge(harness, after)
    writes = {name: handle.writes() for name, handle in harness.handles.items()}
    again = await harness.apply(RECOVERY)
    assert again.plan is not None
    assert again.plan.actions == (), told(again.plan)
    assert {name: handle.writes() for name, handle in harness.handles.items()} == writes


def told(plan: Plan) -> list[str]:
    """Say in words what a plan holds, for the message of a failed assertion."""
    return [
        f"{server.server}: {server.held} {server.failure or ''} {line.exchange}: "
        f"{line.status}, {line.reason}, {line.why}"
        for server in plan
        for line in server.lines
    ]


def judge(harness: Harness, plan: Plan) -> None:
    """Compare what the servers really store with what the documents say."""
    for server in plan:
        assert server.failure is None, server.failure
        if {"mode", "suspend"} & harness.changes[server.server].keys():
            continue  # nothing is applied there, so nothing converges
        assert not server.held, server.held
        for line in server.lines:
            if line.status in (Status.NOT_MANAGED, Status.LEFT_ON_SERVER):
                continue
            if line.status is Status.BLOCKED:
                assert line.asks == "--take-over", told(plan)  # typed in after we had deleted it
            else:
                assert line.status in (Status.IN_SYNC, Status.FOUND), line.why
                assert line.category is Category.CHANGE
                stored = harness.stored(server.server, line.exchange)
                assert stored == harness.desired(server.server, line.exchange), told(plan)


def shuffled(state: DesiredState) -> DesiredState:
    """The same documents in another order."""
    servers = [
        replace(server, exchanges=tuple(reversed(server.exchanges))) for server in state.servers
    ]
    random.Random(1).shuffle(servers)
    return replace(state, servers=tuple(servers))
