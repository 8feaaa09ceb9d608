"""
`plan(state) -> Plan` and `apply(state, plan) -> State` on plain values: no network, no waiting.

A `State` is everything that a pass can see: documents, servers, secrets, the ledger and the time.
Each call makes stand-ins in memory from it, runs on them what `jtr plan` or `jtr apply` runs, and
returns what came of it; a `State` itself is never changed.

    state = State(
        documents={"tokyo-1.yaml": TEXT},
        servers={"https://tokyo-1.internal:8443": ServerState("made-up")},
        secrets={"secret/jt/tokyo-1": [{"access_secret": "made-up"}]},
    )
    after = apply(state, plan(state))
    assert not plan(after).actions
"""

import os
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from reconciler.apply.circuit_breaker import CircuitBreaker
from reconciler.documents.load import load
from reconciler.errors import Blocked
from reconciler.ledger import Stored
from reconciler.ledger.ledger import Ledger
from reconciler.ledger.stores.memory import MemoryStore
from reconciler.model.desired import DesiredState
from reconciler.model.fingerprints import Fingerprints
from reconciler.model.observed import Robot
from reconciler.model.outcomes import Report
from reconciler.model.plan import Plan
from reconciler.model.references import SecretPath
from reconciler.model.secret import Secret
from reconciler.model.values import replace
from reconciler.observe.context import PassContext
from reconciler.observe.resolver import Resolver
from reconciler.observe.visit import Visit
from reconciler.plan.inputs import Consents
from reconciler.policy.model import ANYTHING, Policy
from reconciler.reconcile.apply import apply_all
from reconciler.reconcile.survey import plan_of, survey
from reconciler.sandbox.jt_trader import robots
from reconciler.sandbox.jt_trader.memory import MemoryDriver, MemoryServer
from reconciler.secrets.memory import MemoryBackend
from reconciler.system.timeouts import Timeouts
from reconciler.testing.virtual_time import VirtualClock, virtual_time

_TIMEOUTS: Final = Timeouts(settle=0.0, aftermath=0.0, lease=30.0, lease_wait=60.0)
_LABEL: Final = "apply 1@testing"
_EARLIER: Final = timedelta(days=1)
_NO_CONSENT: Final = Consents()

OPEN_POLICY: Final = replace(ANYTHING, source="a policy that allows everything")
"""A policy under which nobody is asked about new recipients."""


@dataclass(frozen=True, slots=True)
class ServerState:
    """
    One trading server: what it stores, by its own field names, and its robots.

    `additional` are exchange codes beside those that every server lists.  `log` are the entries of
    its system log; with none it booted a day before the state's time.
    """

    access_secret: str = field(repr=False)
    stored: Mapping[str, str] = field(default_factory=dict, repr=False)
    robots: Sequence[Robot] = ()
    additional: Sequence[str] = ("mexc", "kucoin", "kucoinfutures")
    account: str = "0"
    log: Sequence[Mapping[str, Any]] = field(default=(), repr=False)


@dataclass(frozen=True, slots=True)
class State:
    """
    Everything that a pass can see.

    `documents` go by file name and `servers` by URL; a URL that no server has leads nowhere.
    `secrets` go by mount and path (`secret/jt/tokyo-1`) and hold versions, oldest first, which may
    be added to.  `ledger` is what earlier passes remembered; an empty one was begun a day before
    `now`.  `policy` allows everything unless another is given.  `reports` say what became of each
    action of the last `apply`.
    """

    documents: Mapping[str, str]
    servers: Mapping[str, ServerState]
    secrets: Mapping[str, Sequence[Mapping[str, str]]] = field(default_factory=dict, repr=False)
    ledger: Mapping[str, Stored] = field(default_factory=dict, repr=False)
    policy: Policy = OPEN_POLICY
    now: datetime = datetime(2026, 11, 22, 9, tzinfo=UTC)
    reports: Sequence[Report] = ()


def plan(state: State, consents: Consents = _NO_CONSENT) -> Plan:
    """
    Return what `jtr plan` would show of *state*.

    Raises InvalidConfig for documents that are not valid.
    """

    async def story() -> Plan:
        async with _surveyed(fleet, consents) as visits:
            return plan_of(visits, fleet.desired, skip_unreachable=False)

    fleet = _Fleet(state)
    with virtual_time(fleet.clock) as runner:
        return runner.run(story())


def apply(state: State, plan: Plan, consents: Consents = _NO_CONSENT) -> State:
    """
    Return *state* as it is after `jtr apply --expect` of this plan.

    What a server or a secret refused stands in `reports`.  Raises InvalidConfig for documents that
    are not valid, and Blocked when *plan* is not what *state* asks for: nothing was done then.
    """

    async def story() -> State:
        async with _surveyed(fleet, consents) as visits:
            if plan_of(visits, fleet.desired, skip_unreachable=False).id != plan.id:
                raise Blocked("this is not the plan of this state", "plan again")
            reports = await apply_all(visits, consents, fleet.context, CircuitBreaker())
            return fleet.state(reports)

    fleet = _Fleet(state)
    with virtual_time(fleet.clock) as runner:
        return runner.run(story())


class _Fleet:
    """Stand-ins, secrets and a ledger as a state says, on a clock of their own."""

    def __init__(self, state: State) -> None:
        self._state: Final = state
        self.desired: Final = _loaded(state.documents)
        self.clock: Final = VirtualClock()
        self.clock.shift(state.now - _EARLIER)
        self.servers: Final = {url: self._server(url, one) for url, one in state.servers.items()}
        self._store: Final = MemoryStore(state.ledger)
        self._ledger().close()  # begun, so that the next one on it is not new
        driver = MemoryDriver(self.servers, command="apply", timeouts=_TIMEOUTS)
        self.context: Final = PassContext(
            driver=driver,
            resolver=Resolver(_secrets(state.secrets), driver, _TIMEOUTS, lambda _text: None),
            fingerprints=Fingerprints(Secret("0" * 64)),
            timeouts=_TIMEOUTS,
            ledger=self._ledger(),
            label=_LABEL,
            now=self.clock.wall,
            ledger_shared=True,
            policy=state.policy,
        )

    def _ledger(self) -> Ledger:
        return Ledger(
            self._store,
            now=self.clock.wall,
            timeouts=_TIMEOUTS,
            writer=_LABEL,
            clock=self.clock,
            sleep=self.clock.sleep,
        )

    def _server(self, url: str, state: ServerState) -> MemoryServer:
        server = MemoryServer(
            url,
            access_secret=state.access_secret,
            account=state.account,
            additional=state.additional,
            robots=[
                robots.Robot(one.id, one.name, one.exchange, one.running, account=state.account)
                for one in state.robots
            ],
            pid=1,
            now=lambda: self.clock.wall().timestamp(),
        )
        for name, value in state.stored.items():
            server.set_value(name, value, state.account)
        return server

    async def start(self) -> None:
        """Boot all servers a day ago, and let it be now."""
        for url, server in self.servers.items():
            await server.start()
            if log := self._state.servers[url].log:
                server.restore_log(log)
        self.clock.sleep(_EARLIER.total_seconds())

    def state(self, reports: Sequence[Report]) -> State:
        """Return what is true now."""
        return replace(
            self._state,
            servers={
                url: replace(
                    self._state.servers[url],
                    stored=server.values(self._state.servers[url].account),
                    robots=tuple(
                        replace(robot, running=robot.id in server.robots_running())
                        for robot in self._state.servers[url].robots
                    ),
                    log=server.log_entries(),
                )
                for url, server in self.servers.items()
            },
            ledger=self._store.documents(),
            now=self.clock.wall(),
            reports=tuple(reports),
        )


@asynccontextmanager
async def _surveyed(fleet: _Fleet, consents: Consents) -> AsyncIterator[Sequence[Visit]]:
    visits: Sequence[Visit] = ()
    try:
        await fleet.start()
        visits = await survey(fleet.desired, consents, fleet.context)
        yield visits
    finally:
        for visit in visits:
            await visit.close()
        for server in fleet.servers.values():
            await server.stop()


def _secrets(secrets: Mapping[str, Sequence[Mapping[str, str]]]) -> MemoryBackend:
    paths = {path: SecretPath(*path.split("/", 1)) for path in secrets}
    mounts = tuple({at.mount for at in paths.values()})
    backend = MemoryBackend(mounts, keep=1000, clock=lambda: 0.0)
    for path, versions in secrets.items():
        for fields in versions:
            backend.put(paths[path], fields)
    return backend


def _loaded(documents: Mapping[str, str]) -> DesiredState:
    instead = {os.path.realpath(name): text.encode() for name, text in documents.items()}
    return load(tuple(documents), instead).state
