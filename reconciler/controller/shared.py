"""
What the workers of all servers share.  Event loop only.
"""

import asyncio
import logging
import random
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Final

from reconciler.apply.circuit_breaker import CircuitBreaker, Place
from reconciler.apply.disruption_budget import DisruptionBudget
from reconciler.controller.status_store import StatusStore
from reconciler.errors import Blocked
from reconciler.model.conditions import Condition
from reconciler.model.desired import DesiredServer, DesiredState
from reconciler.model.origin import NO_ORIGIN, Origin
from reconciler.model.recorded import HeldBrake
from reconciler.model.references import SecretPath
from reconciler.model.target import Target
from reconciler.model.values import replace
from reconciler.notifications.events import News
from reconciler.observe.context import PassContext
from reconciler.observe.resolver import ResolverCache
from reconciler.observe.visit import Visit
from reconciler.plan.fleet import (
    UNSEEN,
    BootLines,
    counts,
    hold_twin,
    limit_actions,
    limit_unverified,
)

LOG: Final = logging.getLogger("reconciler.controller")
LOOKS: Final = 16  # servers that are looked at, at once, besides those that failed last time
SICK: Final = 4  # of those that failed: they may hang until a deadline, and delay nobody else
DAY: Final = 86_400.0
Versions = dict[SecretPath, tuple[int, str] | None]
"""Version and time of creation, of the newest version; None where the secret cannot be had."""


def _nothing(_news: Iterable[News]) -> None:
    return


@dataclass(slots=True)
class SharedState:
    """
    One for each run of the controller.

    `acting` says whether this process may act: it holds the leadership and is not stopping;
    `looking` whether it may look: no other controller is known to have the leadership.
    `quiet` says why no robots are restarted and no requests done at all.  `in_force` are the
    documents by target, `boots` their boot lines, `unseen` the servers that were not looked at
    since they were declared.
    `secrets` are those of all servers whose newest version is wanted.
    `newest` is what Vault last said of the secrets whose newest version is wanted.
    `keys_moved` wakes the audit: what it says of keys may be otherwise now.
    """

    context: PassContext
    status_store: StatusStore
    acting: Callable[[], bool]
    looking: Callable[[], bool]
    quiet: Condition | None = None
    tell: Callable[[Iterable[News]], None] = _nothing
    dirty: Callable[[], None] = lambda: None
    luck: Callable[[], float] = random.random
    state: DesiredState = field(default_factory=lambda: DesiredState(()))
    revision: str = ""
    meaning: str = ""
    origin: Origin = NO_ORIGIN
    brake: CircuitBreaker = field(default_factory=CircuitBreaker)
    disruption_budget: DisruptionBudget = field(default_factory=DisruptionBudget)
    stopping: bool = False
    in_force: dict[Target, DesiredServer] = field(default_factory=dict)
    boots: BootLines = field(default_factory=BootLines)
    unseen: set[Target] = field(default_factory=set)
    cache: ResolverCache = field(default_factory=ResolverCache)
    secrets: frozenset[SecretPath] = frozenset()
    newest: Versions = field(default_factory=dict)
    keys_moved: asyncio.Event = field(default_factory=asyncio.Event)
    healthy: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(LOOKS))
    sick: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(SICK))
    gate: asyncio.Semaphore = field(init=False)
    _unverified: dict[Target, float] = field(default_factory=dict)
    _counted: dict[Target, tuple[float, Counter[str]]] = field(default_factory=dict)
    _total: Counter[str] = field(default_factory=Counter)
    _began: float | None = None

    def __post_init__(self) -> None:
        self.gate = asyncio.Semaphore(self.context.parallelism)

    def seconds(self) -> float:
        """Return the present moment as seconds since the epoch, by the wall clock."""
        return self.context.now().timestamp()

    def moment(self, wait: float) -> str:
        """Return when *wait* more seconds are over, as people read it."""
        now = self.context.now()
        return (now + timedelta(seconds=wait)).isoformat(timespec="seconds")

    def pass_context(self) -> PassContext:
        """Return the context of one pass: it does not know yet whether Vault is away."""
        return replace(
            self.context,
            resolver=self.context.resolver.anew(self.cache),
            in_force=self.still_declared,
            origin=self.origin,
        )

    def still_declared(self, planned: DesiredServer) -> DesiredServer | None:
        """Return the newest document of a server; Blocked where others may know a newer one."""
        if not self.acting():
            raise Blocked("this controller does not act any more", "the one that acts does it")
        return self.in_force.get(planned.target)

    # ── what holds for several servers together ──────────────────────────────────────────────

    def declare(
        self, state: DesiredState, revision: str, meaning: str = "", origin: Origin = NO_ORIGIN
    ) -> None:
        """Put other documents into force; *meaning* is of what they say, without pauses."""
        if meaning != self.meaning:  # a revision moves with every commit, whatever that is about
            self._counted.clear()
            self._total.clear()
        self.state, self.revision, self.meaning, self.origin = state, revision, meaning, origin
        self.secrets = frozenset(path for server in state.servers for path in uses(server))
        known, self.in_force = self.in_force, {server.target: server for server in state.servers}
        self.unseen = (self.unseen & self.in_force.keys()) | (self.in_force.keys() - known.keys())
        for gone in self.boots.targets() - self.in_force.keys():
            self.boots.drop(gone)
        for gone in self.disruption_budget.shut_by - self.in_force.keys():
            self.disruption_budget.reopen(gone)
        self._began = asyncio.get_running_loop().time()

    def hush(self, target: Target) -> Condition | None:
        """
        Say why a server's robots and requests must wait; None when they need not.

        Two documents may name one server, which only their boot lines tell: so every server is
        looked at once before any is disturbed, as long as that does not take for ever.
        """
        patience = self.context.timeouts.connect
        waited = asyncio.get_running_loop().time() - (self._began or 0.0)
        others = len(self.unseen) > (target in self.unseen)
        if self.quiet or (others and waited < patience):
            return self.quiet or UNSEEN
        return None

    def judge(self, visit: Visit) -> None:
        """Take from a plan what the other servers' plans and boot lines forbid."""
        target = visit.desired.target
        if visit.observed is not None and target in self.in_force:
            self.boots.see(target, visit.boots)
        self.unseen.discard(target)
        if self.boots.twin(target):
            visit.plan = hold_twin(visit.plan)
        now = asyncio.get_running_loop().time()
        for old in [key for key, at in self._unverified.items() if now - at > DAY]:
            del self._unverified[old]
        before = len(self._unverified.keys() - {target})
        most = self.context.max_unknown_writes
        visit.plan = limit_unverified([visit.plan], most, before=before)[0]
        if any(getattr(action, "unverified", False) for action in visit.plan.actions):
            self._unverified[target] = now
        self._limit(visit, now)

    def _limit(self, visit: Visit, now: float) -> None:
        """
        Hold back what is over the policy's limits, by all plans since documents said otherwise.

        A day's at most: keys rotate for months under the same documents.
        """
        target, limits = visit.desired.target, self.context.policy.limits
        while self._counted:  # oldest first, so that nobody looks at all of them
            oldest, (at, gone) = next(iter(self._counted.items()))
            if now - at <= DAY:
                break
            del self._counted[oldest]
            self._total -= gone
        _, done = self._counted.get(target, (now, Counter()))
        others = self._total - done
        fleet = len(self.state.servers)
        visit.plan = limit_actions([visit.plan], limits, fleet, before=others)[0]
        if planned := counts(visit.plan):
            # The most that was planned for it: what was done is in no later plan.
            self._counted.pop(target, None)
            self._counted[target] = now, done | planned
            self._total = others + (done | planned)

    # ── brake and disruption budget: months of one process, not one run ──────────────────────

    async def look_at_brakes(self, brakes: Sequence[HeldBrake]) -> None:
        """Show the brakes of the ledger; let go of ours that people released there."""
        self.status_store.note(brakes=tuple(brakes))
        await self.brake.follow({held.scope for held in brakes})

    def heed_clock(self) -> None:
        """Say that our clock jumped; else only what waits because of it would say so."""
        trouble = self.context.unsteady()
        if bool(trouble) is bool(self.status_store.controller.clock):
            return
        if trouble:
            LOG.warning("%s; no request and no restart begins, and none expires", trouble)
        else:
            LOG.info("our own clock is believed again")
        self.status_store.note(clock=trouble)

    def disturbed(self, server: DesiredServer, left: str, *, well: bool) -> None:
        """
        Note how a server that may be disturbed is now, and what is *left* of a disruption.

        One that failed keeps the disruption budget shut for all others until it is well again; and
        also one at which an earlier process, or another one, left something.
        """
        left = left or self.brake.why(Place("", server.target.url))
        if left:
            self.disruption_budget.shut(f"{server.name}: {left}", server.target)
        elif well:
            self.disruption_budget.reopen(server.target)


def uses(server: DesiredServer) -> set[SecretPath]:
    """Return the secrets of a server's exchanges whose newest version is wanted."""
    return {
        ref.at
        for exchange in server.exchanges
        for ref in exchange.references
        if ref.version is None
    }
