"""
What never happens, whatever the documents, secrets and servers look like and whoever dies.

No robot is stopped, no one-shot is planned, nothing is deleted that was not declared absent, what
another hand made stays without consent, what cannot be read is left alone, and no debt is lost.
"""

import asyncio
import itertools
from collections.abc import Iterator
from datetime import timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reconciler.errors import JtrError
from reconciler.model.actions import (
    DeleteExchange,
    InvalidateCache,
    RebootServer,
    RestartRobots,
    ResumeRobots,
    WriteExchange,
)
from reconciler.model.desired import (
    Afterwards,
    Mode,
    OnCredentialChange,
    OneShot,
    Presence,
    RequestKind,
)
from reconciler.model.evidence import Evidence
from reconciler.model.observed import BootLine
from reconciler.model.plan import Status
from reconciler.model.recorded import ExchangeRecord, Request
from reconciler.model.values import replace
from reconciler.plan.compare import is_ours
from reconciler.plan.inputs import Consents, Terms
from reconciler.plan.server import plan_server, wanted_values
from reconciler.sandbox.jt_trader.faults import Write
from reconciler.sandbox.openbao import OpenBao
from reconciler.secrets.memory import MemoryBackend
from reconciler.testing.virtual_time import Clock, VirtualLoop
from tests.crash.handles import OnLoopback, three_robots
from tests.crash.harness import CODES, FIELDS, Harness
from tests.crash.loopback import desk_on_loopback
from tests.crash.scenarios import act, begin, converges, desk_in_memory
from tests.support import quiet_time
from tests.support.counts import drawn
from tests.support.strategies import (
    QUICK,
    SERVERS,
    PlannerInput,
    Step,
    Story,
    planner_inputs,
    stories,
)


@pytest.fixture(scope="module")
def loop() -> Iterator[asyncio.Runner]:
    """One loop for all examples; in memory nothing needs a thread, or time."""
    with asyncio.Runner(loop_factory=lambda: VirtualLoop(Clock())) as runner:
        yield runner


# ── planning alone ───────────────────────────────────────────────────────────────────────────


def new_boots(request: Request, terms: Terms) -> list[BootLine]:
    """
    The boot lines that an open reboot had not seen, if the log ends with one: then it is done.

    That is noted before anything else is.
    """
    if request.kind is not RequestKind.REBOOT or not request.attempts or terms.log is None:
        return []
    before, boots = request.attempts[-1].boots, terms.log.boots
    newer = bool(boots) and (not before or boots[-1].time > before[-1].time)
    if not terms.log.readable or not newer or boots[-1] in before:
        return []
    return [line for line in boots if line not in before]


@settings(QUICK, max_examples=drawn(200))
@given(given_=planner_inputs())
def test_a_plan_only_writes_and_deletes_and_only_what_it_may(given_: PlannerInput) -> None:
    desired, seen, facts = given_.desired, given_.observation, given_.facts
    consents = given_.consents
    wanted_values(desired, seen, given_.recorded, facts, consents)

    plan = plan_server(desired, seen, given_.recorded, facts, consents)

    wishes = {exchange.code: exchange for exchange in desired.exchanges}
    for action in plan.actions:
        if isinstance(action, RestartRobots):  # the most that a credential may lead to
            assert desired.on_credential_change is OnCredentialChange.RESTART
            assert all(robot.running for robot in action.robots)
            continue
        if isinstance(action, ResumeRobots):
            halt, doubt = given_.recorded.requests.halt, given_.recorded.requests.open
            if halt is not None:
                assert not halt.finding
                assert set(action.robots) <= set(halt.robots)
                continue
            assert doubt is not None
            assert len(new_boots(doubt, facts.terms)) == 1
            assert doubt.robots is Afterwards.RESUME
            assert set(action.robots) <= set(doubt.ran)
            continue
        assert isinstance(action, (WriteExchange, DeleteExchange))
        wish = wishes[action.exchange]
        record = given_.recorded.exchanges.get(wish.code, ExchangeRecord(wish.code))
        shown = seen.masks[wish.code]
        if isinstance(action, DeleteExchange):
            assert wish.presence is Presence.ABSENT
            assert set(action.fields) == {name for name, mask in shown.items() if mask}
            assert not any(r.running and r.exchange == wish.code for r in seen.robots)
        else:
            assert wish.presence is Presence.PRESENT
            assert {name for name, _ in action.fields} == set(shown)
            assert not isinstance(facts.sources[wish.code], JtrError)
            assert not isinstance(facts.evidence.get(wish.code), JtrError)
            assert wish.code not in seen.troubles
        if any(shown.values()) and not is_ours(record):
            evidence = facts.evidence.get(wish.code)
            looks_right = isinstance(evidence, Evidence) and evidence.matches >= set(shown)
            assert (
                consents.covers(consents.take_over, desired.name, wish.code)
                or (wish.take_over and not record.ever)
                # What shows the very value may be written again when that is asked for by name.
                or (looks_right and consents.covers(consents.rewrite, desired.name, wish.code))
            )
    if plan.actions:
        assert desired.mode is Mode.ENFORCE
        assert facts.refuses is None
        assert desired.suspend is None or not facts.suspended


@settings(QUICK, max_examples=drawn(100))
@given(given_=planner_inputs())
def test_what_no_document_asks_for_is_never_planned(given_: PlannerInput) -> None:
    """No credential, drift, error or memory of an earlier request leads to a one-shot."""
    assert given_.desired.one_shots == ()

    plan = plan_server(
        given_.desired, given_.observation, given_.recorded, given_.facts, given_.consents
    )

    assert not any(isinstance(a, (InvalidateCache, RebootServer)) for a in plan.promised)
    for line in plan.disruptions:
        assert not isinstance(line.action, (InvalidateCache, RebootServer))


@settings(QUICK, max_examples=drawn(100))
@given(
    given_=planner_inputs(),
    wished=st.sets(st.sampled_from(RequestKind)),
    hours=st.integers(-60, 60),
)
def test_a_one_shot_is_planned_only_for_a_newer_instant_and_alone(
    given_: PlannerInput, wished: set[RequestKind], hours: int
) -> None:
    at = given_.facts.terms.now + timedelta(hours=hours)
    shots = {kind: OneShot(kind, at, "asked", given_.desired.source) for kind in wished}
    desired = replace(
        given_.desired,
        supervised=True,
        cache=shots.get(RequestKind.CACHE),
        reboot=shots.get(RequestKind.REBOOT),
    )
    known, terms = given_.recorded.requests, given_.facts.terms

    plan = plan_server(desired, given_.observation, given_.recorded, given_.facts, given_.consents)

    planned = [a for a in plan.actions if isinstance(a, (InvalidateCache, RebootServer))]
    for action in planned:
        kind = RequestKind.CACHE if isinstance(action, InvalidateCache) else RequestKind.REBOOT
        again = isinstance(action, RebootServer) and action.again
        assert kind in wished
        assert action.instant == at <= terms.now
        assert not terms.unsteady
        assert terms.refused is None
        assert given_.facts.refuses is None
        assert again or known.open is None or new_boots(known.open, terms)
        assert again or at > known.handled.get(kind, at - timedelta(hours=1))
        assert again or terms.baseline is None or at >= terms.baseline
        assert known.closed(kind, at) is None or again


@settings(QUICK, max_examples=drawn(80))
@given(given_=planner_inputs())
def test_the_order_of_documents_changes_no_plan(given_: PlannerInput) -> None:
    turned = replace(given_.desired, exchanges=given_.desired.exchanges[::-1])
    rest = (given_.observation, given_.recorded, given_.facts, given_.consents)

    assert plan_server(given_.desired, *rest) == plan_server(turned, *rest)


# ── whole passes in memory ───────────────────────────────────────────────────────────────────

ROBOTS = {robot.id: robot.exchange for robot in three_robots()}
ANYTHING = st.sets(st.sampled_from((*SERVERS, *(f"{SERVERS[0]}/{code}" for code in CODES))))


@settings(QUICK, max_examples=drawn(100))
@given(
    story=stories(),
    kept=st.sets(st.sampled_from(CODES), min_size=1, max_size=3),
    parts=st.booleans(),
    rewrite=ANYTHING.map(frozenset),
)
def test_what_another_hand_stored_stays_without_being_asked(
    loop: asyncio.Runner, story: Story, kept: set[str], *, parts: bool, rewrite: frozenset[str]
) -> None:
    """Exchanges that were there from the start, whole or in part, whatever is declared of them."""

    async def lived() -> None:
        harness = await desk_in_memory(story.servers)
        handles = harness.handles.values()
        for handle, code in itertools.product(handles, kept):
            for name in list(FIELDS[code])[: 1 if parts else None]:
                handle.set_value(name, harness.forge.value())
        begin(harness, story)
        before = [{c: harness.stored(s, c) for c in kept} for s in harness.handles]
        for step in story.steps:
            if step.deed not in ("edit", "remove"):
                await act(harness, step)
        await harness.apply(Consents(drift=True, rewrite=rewrite, targets=frozenset(SERVERS)))
        assert [{c: harness.stored(s, c) for c in kept} for s in harness.handles] == before

    loop.run(lived())


@settings(QUICK, max_examples=drawn(60))
@given(story=stories(deaths=False, faults=()), reachable=st.booleans())
def test_what_cannot_be_read_is_left_alone(
    loop: asyncio.Runner, story: Story, *, reachable: bool
) -> None:
    async def lived() -> None:
        harness = await desk_in_memory(story.servers)
        begin(harness, story)
        for step in story.steps:
            await act(harness, step)
        server, code = story.declared[0][:2]
        # One secret is destroyed whole, and another server does not open.
        backend = harness.backend
        assert isinstance(backend, MemoryBackend)
        at = harness.path(server, code)
        backend.destroy(at, *range(1, len(harness.versions[at]) + 1))
        closed = next((name for name in harness.handles if name != server), None)
        if closed is not None:
            handle = harness.handles[closed]
            handle.server.behaviour.login = "silent"
            if not reachable:
                await handle.server.stop()
        wish = harness.wishes[server].get(code)
        before = harness.stored(server, code)
        writes = {name: handle.writes() for name, handle in harness.handles.items()}

        done = await harness.apply(
            Consents(
                drift=True,
                take_over=frozenset(SERVERS),
                rewrite=frozenset(SERVERS),
                targets=frozenset(SERVERS),
            )
        )

        assert done.plan is not None
        for plan in done.plan:
            if plan.server == closed:
                assert plan.actions == ()
                assert plan.failure is not None
                assert harness.handles[closed].writes() == writes[closed]
        if wish is not None and wish.form != "absent":
            assert harness.stored(server, code) == before
            line = next(
                line
                for plan in done.plan
                for line in plan.lines
                if (plan.server, line.exchange) == (server, code)
            )
            assert line.action is None
            assert line.status is Status.FAILED

    loop.run(lived())


class Dues:
    """
    What is owed on one desk, by what its servers really stored: our own little model.

    A robot must restart when the values of its exchange changed while it ran.  The process must
    reboot when it may hold an API key with other companions than are stored now.
    """

    def __init__(self, harness: Harness) -> None:
        self._harness = harness
        self._now = self._stored()
        self._pairs: dict[tuple[str, str], set[tuple[str, frozenset[str]]]] = {}
        self.restarts: set[tuple[str, str, int]] = set()
        self.reboots: set[tuple[str, str]] = set()

    def after(self, step: Step | None) -> None:
        """Take note of what a step did."""
        before, self._now = self._now, self._stored()
        if step is not None and step.deed == "boot":
            self.restarts = {due for due in self.restarts if due[0] != step.server}
            self.reboots = {due for due in self.reboots if due[0] != step.server}
            for place in [place for place in self._pairs if place[0] == step.server]:
                del self._pairs[place]
        for place, values in self._now.items():
            if len(values) < len(FIELDS[place[1]]):
                continue  # deleted, or being deleted
            key, *rest = (values[name] for name in FIELDS[place[1]])
            pair = key, frozenset(rest)
            held = self._pairs.setdefault(place, set())
            if values != before[place]:
                running = self._harness.handles[place[0]].running()
                robots = {robot for robot in running if ROBOTS.get(robot) == place[1]}
                self.restarts |= {(*place, robot) for robot in robots}
                if any(known == key and others != pair[1] for known, others in held):
                    self.reboots.add(place)
            held.add(pair)
        self.restarts = {
            due for due in self.restarts if due[2] in self._harness.handles[due[0]].running()
        }

    def _stored(self) -> dict[tuple[str, str], dict[str, str]]:
        return {
            (server, code): self._harness.stored(server, code)
            for server in self._harness.handles
            for code in CODES
        }


@settings(QUICK, max_examples=drawn(200))
@given(story=stories(by_hand=False, most_servers=1))
def test_no_debt_is_lost(loop: asyncio.Runner, story: Story) -> None:
    async def lived() -> None:
        harness = await desk_in_memory(story.servers)
        begin(harness, story)
        dues = Dues(harness)
        for step in story.steps:
            await act(harness, step)
            dues.after(step)
        await harness.apply()
        dues.after(None)
        plan = await harness.plan()
        known = {(s.server, debt.exchange, debt.robot_id) for s in plan for debt in s.debts}
        assert dues.restarts <= known
        assert {(*due, None) for due in dues.reboots} <= known

    loop.run(lived())


# ── on the wire ──────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("fault", ["drop-before", "silent-before", "drop-after", "silent-after"])
def test_a_delete_without_answer_is_not_repeated_in_the_same_pass(
    bao: OpenBao, fault: Write
) -> None:
    # The server may still be at it: deleting what is gone stops every robot there.
    async def story() -> None:
        async with desk_on_loopback(bao, 1) as harness:
            harness.rotate("tokyo-1", "kucoin")
            harness.declare("tokyo-1", "kucoin")
            await harness.apply()
            harness.declare("tokyo-1", "kucoin", "absent")
            handle = harness.handles["tokyo-1"]
            assert isinstance(handle, OnLoopback)
            handle.server.behaviour.delete = fault
            await harness.apply()
            handle.server.behaviour.delete = "answer"
            received = [r.event for r in handle.server.record.received]
            assert received.count("exchange-config-delete") == (
                1 if fault.endswith("before") else 3
            )
            await converges(harness, Consents())

    quiet_time.told(story)
