"""
One server in one pass, as the deeds work on it: looking, counting robots, braking, noting.
"""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from functools import partial

from reconciler.apply.circuit_breaker import CircuitBreaker
from reconciler.drivers import Session
from reconciler.errors import Blocked, DriverError, Exit, JtrError, LedgerError
from reconciler.ledger.ledger import Ledger
from reconciler.model.actions import Action
from reconciler.model.desired import DesiredServer
from reconciler.model.observed import ObservedExchange, ObservedServer
from reconciler.model.outcomes import Aftermath, Outcome, Result
from reconciler.observe.context import PassContext
from reconciler.observe.terms import refusal
from reconciler.observe.visit import Visit, see
from reconciler.system.clocks import elapsed


class Execution:
    """
    What the deeds of one server share.

    `planned` is the server as it was planned on.  `check_lease` raises once the lease was lost.
    `unrecorded` is a failure of the ledger that a worse thing covered.
    """

    def __init__(
        self, visit: Visit, context: PassContext, brake: CircuitBreaker, ledger: Ledger
    ) -> None:
        self.visit = visit
        self.context = context
        self.brake = brake
        self.ledger = ledger
        self.planned = self.seen
        self.check_lease: Callable[[], None] = lambda: None
        self.unrecorded: LedgerError | None = None

    @property
    def desired(self) -> DesiredServer:
        return self.visit.desired

    @property
    def session(self) -> Session:
        if self.visit.session is None:
            raise AssertionError
        return self.visit.session

    @property
    def seen(self) -> ObservedServer:
        if self.visit.observed is None:
            raise AssertionError
        return self.visit.observed

    # ── looking ──────────────────────────────────────────────────────────────────────────

    async def fresh(self) -> ObservedServer:
        """
        Read the server just before an action; raise Blocked when another one seems to answer.

        A connection that went away meanwhile is opened once more; nothing was asked on it.
        """
        try:
            await see(self.visit, self.context)
        except DriverError as error:
            if not error.transient:
                raise
            await self.visit.close()
            await see(self.visit, self.context)
        planned, fresh = self.planned, self.seen
        known = {robot.id for robot in planned.robots}
        if known and not any(robot.id in known for robot in fresh.robots):
            raise Blocked(
                "none of the robots is there that were there when it was planned",
                "see whether another server answers at this address",
            )
        if fresh.version != planned.version:
            raise Blocked("its version changed since it was planned", "look at a new plan")
        # Once more: another process may have engaged the brake since it was planned.
        why, remedy = await refusal(fresh.version, self.context)
        if why:
            raise Blocked(why, remedy)
        return fresh

    async def aftermath(self, before: ObservedServer, *, answered: bool) -> Aftermath:
        """Read everything after a write; engage the brake when the robots did not like it."""
        if answered:
            await asyncio.sleep(self.context.timeouts.quiesce)
            with suppress(DriverError):
                await see(self.visit, self.context)
                end = Aftermath(before, self.seen, answered=True)
                if end.harmed:
                    await self.engage("robots stopped around a write", before.version)
                return end
        async with self.brake.doubt():
            end = Aftermath(before, await self.come_back(), answered=False)
            if not end.calm:
                why = "robots stopped around a write" if end.harmed else "a write was not answered"
                await self.engage(why, before.version)
        return end

    async def come_back(self) -> ObservedServer | None:
        """Leave the server and knock for as long as a boot may take; None when nobody answers."""
        timeouts = self.context.timeouts
        until = elapsed() + timeouts.ready
        while True:
            await self.visit.close()
            with suppress(JtrError):  # Vault, too, may be away: its access secret cannot be read
                await see(self.visit, self.context)
                return self.seen
            if (left := until - elapsed()) <= 0:
                return None
            await asyncio.sleep(min(timeouts.reconnect, left))

    # ── braking and noting ───────────────────────────────────────────────────────────────

    async def last_look(self, *, anew: bool = True) -> None:
        """
        Wait until nothing is in doubt anywhere, then read what the next send depends on.

        Comes after everything else that takes time; then `apply.send` compares what was seen with
        what was planned on.  With *anew* a connection that went away is opened once more.  Raises
        CircuitOpen, LeaseHeld or DriverError: nothing was sent.
        """
        while True:
            await self.brake.steady()
            self.check_lease()
            try:
                exchanges, robots = await self.session.exchanges(), await self.session.robots()
                self.visit.observed = replace(self.seen, exchanges=exchanges, robots=robots)
            except DriverError as error:
                if not (error.transient and anew):
                    raise
                await self.visit.close()
                await see(self.visit, self.context)
            if not self.brake.doubtful:
                return

    async def engage(self, why: str, version: str) -> None:
        name = self.desired.name
        await self.brake.engage(f"{why} on {name} (JT-Trader {version})")
        await self.note(partial(self.ledger.engage_brake, version, name, why), beside=True)

    async def note(self, note: Callable[[], None], *, beside: bool) -> None:
        """Write into the ledger; *beside* a worse thing a failure must not cover that one."""
        try:
            await asyncio.to_thread(note)
        except LedgerError as error:
            if not beside:
                raise
            self.unrecorded = error

    def verdict(self, action: Action, end: Aftermath) -> Outcome | None:
        """Return the outcome when the robots or the silence decide it; else note a good write."""
        name, version = self.desired.name, end.before.version
        if end.harmed:
            robots = ", ".join(r.name for r in end.stopped) or "the list shows none stopped"
            return Outcome(
                action,
                Result.HARM,
                f"robots stopped on {name}: {robots}",
                f"start them on the server's page; the brake stays on for JT-Trader {version}",
                Exit.HARM,
                end.stopped,
            )
        if not end.calm:
            return Outcome(
                action,
                Result.UNKNOWN,
                "the server did not answer and it is not known whether its robots still run",
                f"look at {name}; then `jtr ledger release-brake {version} --because TEXT`",
                Exit.SERVER,
                end.stopped,
            )
        if end.answered:
            self.brake.prove(version)
        return None


def listed(observed: ObservedServer, code: str) -> ObservedExchange:
    """Return an exchange that must be on the server; Blocked when it is not any more."""
    exchange = observed.exchange(code)
    if exchange is None:
        raise Blocked(f"the server no longer lists {code}", "look at a new plan")
    return exchange
