"""
One server in one pass, as the deeds work on it: looking, counting robots, braking, noting.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Final

from reconciler.apply.circuit_breaker import CircuitBreaker, CircuitOpen
from reconciler.drivers import Session
from reconciler.errors import Blocked, DriverError, Exit, JtrError, LedgerError
from reconciler.ledger.ledger import Ledger
from reconciler.model.actions import Action
from reconciler.model.desired import DesiredServer
from reconciler.model.observed import ObservedExchange, ObservedServer, Robot
from reconciler.model.outcomes import Aftermath, Outcome, Result
from reconciler.model.recorded import HeldBrake, Identity, Pause
from reconciler.model.values import replace
from reconciler.observe.context import PassContext
from reconciler.observe.terms import refusal
from reconciler.observe.visit import Visit, see
from reconciler.system.clocks import elapsed

HARM: Final = "robots stopped around a write"
SOON: Final = 0.2  # of the time in which harm shows: 54 to 390 ms were seen
_INSTANT: Final = 0.001  # seconds: what is less is over
MISTAKE: Final = "a mistake of jt-reconciler after something was sent"
Governing = tuple[tuple[Pause, ...], Blocked | None]


class Execution:
    """
    What the deeds of one server share.

    `planned` is the server as it was planned on.  `check_lease` raises once the lease was lost.
    `unrecorded` is a failure of the ledger that a worse thing covered.  `to_stop` are the robots
    that ran when a reboot was noted: it may stop no others, and no fewer.  `sends` counts what was
    sent that changes a server.  `read_back` is whether what a write may have changed was read
    since the last send.  `refused` is why, by the ledger, no further write may be sent.
    `pauses` are what operators paused, as it was when it was looked at last, and `outrun` is why
    something newer than this is applied by then.
    """

    def __init__(
        self, visit: Visit, context: PassContext, breaker: CircuitBreaker, ledger: Ledger
    ) -> None:
        self.visit = visit
        self.context = context
        self.ledger = ledger
        self.planned = self.seen
        self._breaker = breaker
        self.brake = breaker.at(self.planned.version, visit.desired.target.url)
        self._braked_all = True  # the whole version, as far as the brake was engaged here
        self._unwatched: ObservedServer | None = None  # before the writes not watched to the end
        self._watch_until = 0.0
        self.check_lease: Callable[[], None] = lambda: None
        self.unrecorded: LedgerError | None = None
        self.to_stop: tuple[Robot, ...] = ()
        self.sends = 0
        self.read_back = False
        self._read_at = 0.0  # when that was, on this machine's clock since its boot
        self._looked: ObservedServer | None = None  # by the last look before the next send
        self.refused: JtrError | None = None
        self.pauses: tuple[Pause, ...] = ()
        self.outrun: Blocked | None = None

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

    async def fresh(self, *, anew: bool = True) -> ObservedServer:
        """
        Read the server just before an action; raise Blocked when another one seems to answer.

        A connection that went away meanwhile is opened once more; nothing was asked on it.  Without
        *anew* what was read after the last write is enough, as long as it is no older than the log
        may lag: whoever sends looks once more in any case.
        """
        if anew or not self.lately_read:
            try:
                await see(self.visit, self.context)
            except DriverError as error:
                if not error.transient:
                    raise
                await self.visit.close()
                await see(self.visit, self.context)
        self._check_same()
        await self.allowed()
        return self.seen

    async def allowed(self) -> None:
        """
        Raise Blocked when this version is not written to, or the brake is on.

        Another process may have engaged it since the plan was made.
        """
        self.refused = await self._refusal()
        self.check_allowed()

    async def _refusal(self) -> Blocked | None:
        def read() -> tuple[Governing, list[HeldBrake]]:
            return self._governing(), self.ledger.brakes()

        # In one thread: each costs more than what is read in it.
        (self.pauses, self.outrun), held = await self.context.asked(read)
        found = refusal(self.visit, self.seen.version, self.context, held)
        return None if found is None else Blocked(found.what, found.remedy)

    async def heed_pauses(self) -> None:
        """
        Read what operators paused up to now, and whether something newer is applied.

        `apply.send` goes by it.  Raises LedgerError.
        """
        self.pauses, self.outrun = await self.context.asked(self._governing)

    def _governing(self) -> Governing:
        outrun = self.context.outrun
        return self.ledger.pauses.all(), outrun() if outrun is not None else None

    def check_allowed(self) -> None:
        """Do as `allowed` does, by what was found last; nothing is awaited."""
        if self.refused is not None:
            raise self.refused

    @property
    def lately_read(self) -> bool:
        """Whether it was read after the last send, no longer ago than the log may lag."""
        return self.read_back and elapsed() - self._read_at <= self.context.timeouts.log_lag

    def _check_same(self) -> None:
        """Raise Blocked unless what was seen last may be the server that was planned."""
        planned, seen = self.planned, self.seen
        known = {robot.id for robot in planned.robots}
        if known and not any(robot.id in known for robot in seen.robots):
            raise Blocked(
                "none of the robots is there that were there when it was planned",
                "see whether another server answers at this address",
            )
        if seen.version != planned.version:
            raise Blocked("its version changed since it was planned", "look at a new plan")

    async def baseline(self) -> ObservedServer:
        """
        Read the server as `fresh` does, on a connection that is as old as the log may lag.

        So its log has the boot line of the process that answers: one that came later would be taken
        for a boot since, and an earlier one for the process on which robots were stopped.
        """
        while True:
            seen = await self.fresh()
            left = self.visit.opened_at + self.context.timeouts.log_lag - elapsed()
            if left <= 0:
                return seen
            await asyncio.sleep(left)

    async def aftermath(
        self, before: ObservedServer, *, answered: bool, more: bool = False
    ) -> Aftermath:
        """
        Read the server back after a write; engage the brake when the robots did not like it.

        What a write that went wrong leaves in the log shows late, so nothing that is seen at once
        proves that it did no harm.  With *more* one `late_harm` is to serve all writes of this
        server, once nobody waits for the first one to prove the version; until then harm that the
        robots show is found, no more.  What was read is then the last look before the next write,
        as long as nothing else is awaited in between: see `looked`.
        """
        if not answered:
            return await self._unanswered(before)
        await asyncio.sleep(self.context.timeouts.quiesce)
        self._watch_until = elapsed() + self.context.timeouts.aftermath
        if more:
            try:
                self.refused = await self._refusal()
            except LedgerError as error:  # first of all, what became of this write
                self.refused = error
        try:
            await self._look()
        except DriverError:
            return await self._unanswered(before)
        end = Aftermath(before, self.seen, answered=True)
        if more and self.brake.proven and not end.harmed:
            self._unwatched = self._unwatched or before
            return end
        return await self._answered(before)

    async def late_harm(self) -> Aftermath | None:
        """Watch the server after its last write; return what came of them if that was harm."""
        before, self._unwatched = self._unwatched, None
        if before is None:
            return None
        end = await self._answered(before)
        return None if end.calm and not end.harmed else end

    async def _answered(self, before: ObservedServer) -> Aftermath:
        try:
            await self._watch(before, self._watch_until)
        except DriverError:
            return await self._unanswered(before)
        end = Aftermath(before, self.seen, answered=True)
        if end.harmed:
            await self.engage(HARM, before.version)
        else:
            self.brake.prove()
            with suppress(LedgerError):  # an unproven version is the safe side
                await asyncio.to_thread(self.ledger.prove, before.version, self._identity)
        return end

    async def _unanswered(self, before: ObservedServer) -> Aftermath:
        until = elapsed() + self.context.timeouts.ready
        async with self.brake.doubt():
            after = await self.come_back(until)
            if after is not None:
                try:
                    await self._watch(before, elapsed() + self.context.timeouts.aftermath)
                    after = self.seen
                except DriverError:
                    after = await self.come_back(until)
            end = Aftermath(before, after, answered=False)
            if not end.calm:
                why = HARM if end.harmed else "a write was not answered"
                await self.engage(why, before.version)
        return end

    async def _watch(self, before: ObservedServer, until: float) -> None:
        """
        Look at the log until it shows whatever happened, or a fatal error already.

        Early, when nearly every entry is there, and at the end.  Robots that seem stopped may be on
        their way up, so they are no reason to end.  Nor is it one that none runs: those of other
        accounts are stopped as well, and only the log tells.
        """
        early = until - (1 - SOON) * self.context.timeouts.aftermath
        for moment in (early, until):
            left = moment - elapsed()
            if left < _INSTANT and moment is not until:
                continue
            await asyncio.sleep(max(left, 0.0))
            self.visit.observed = replace(self.seen, log=await self.session.log())
            if Aftermath(before, self.seen, answered=True).alarm:
                break
        robots = await self.session.robots()
        self.visit.observed = replace(self.seen, robots=robots)

    async def landed(self, before: ObservedServer, sent_at: float, patience: float) -> Aftermath:
        """
        Look again once nothing that was sent at *sent_at* can be under way any more.

        *patience* is that of the session on which it was sent.
        """
        if (left := sent_at + patience - elapsed()) > 0:
            await asyncio.sleep(left)
        try:
            await see(self.visit, self.context)
        except DriverError:
            return await self._unanswered(before)
        end = Aftermath(before, self.seen, answered=False)
        if not end.calm:
            return await self._unanswered(before)
        return end

    async def come_back(self, until: float | None = None) -> ObservedServer | None:
        """
        Leave the server and knock; None when nobody answers.

        For as long as a boot may take, or until a moment of this machine's clock.
        """
        timeouts = self.context.timeouts
        until = elapsed() + timeouts.ready if until is None else until
        while True:
            await self.visit.close()
            with suppress(JtrError):  # Vault, too, may be away: its access secret cannot be read
                await see(self.visit, self.context)
                return self.seen
            if (left := until - elapsed()) <= 0:
                return None
            await asyncio.sleep(min(timeouts.reconnect, left))

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """
        Be the one that writes, if only one may; see `CircuitBreaker`.

        After a mistake of ours nobody judges what was sent: the brake is engaged before others
        have their turn.
        """
        async with self.brake.turn():
            before = self.sends
            try:
                yield
            except (CircuitOpen, JtrError):
                raise
            except Exception:
                if self.sends > before:
                    await self.engage(MISTAKE, self.planned.version)
                raise

    # ── braking and noting ───────────────────────────────────────────────────────────────

    async def last_look(self, *, anew: bool = True, log: bool = False) -> None:
        """
        Wait until nothing is in doubt anywhere, then read what the next send depends on.

        Comes after everything else that takes time; then `apply.send` compares what was seen with
        what was planned on.  With *anew* a connection that went away is opened once more; with
        *log* the log is read, too, against which harm is judged.  Raises Blocked, CircuitOpen,
        LeaseHeld, LedgerError or DriverError: nothing was sent.
        """
        while True:
            await self.brake.steady()
            await self.heed_pauses()
            self.check_lease()
            try:
                if log:
                    self.visit.observed = replace(self.seen, log=await self.session.log())
                await self._look()
            except DriverError as error:
                if not (error.transient and anew):
                    raise
                await self.visit.close()
                await see(self.visit, self.context)
                self._looked = self.seen
            self._check_same()
            if not self.brake.doubtful:
                return

    async def _look(self) -> None:
        exchanges, robots = await self.session.exchanges(), await self.session.robots()
        self._looked = self.visit.observed = replace(self.seen, exchanges=exchanges, robots=robots)
        self.read_back, self._read_at = True, elapsed()

    @property
    def looked(self) -> bool:
        """
        Whether what was read last is all that the next send depends on, and nothing is in doubt.

        Whoever asks has awaited nothing since.
        """
        return self.read_back and self._looked is self.visit.observed and not self.brake.doubtful

    async def engage(self, why: str, version: str) -> None:
        """
        Brake this server, and its version where that one is to blame; others wait to be told.

        A ledger that cannot say is no reason to go on with the others.
        """
        brake = self._breaker.at(version, self.desired.target.url)
        told = f"{why} on {self.desired.name} (JT-Trader {version})"
        self._braked_all = True
        self._unwatched = None  # whichever write it was, harm is found
        async with brake.doubt():
            await brake.engage(told, whole=False)
            try:
                self._braked_all = await asyncio.to_thread(
                    self.ledger.engage_brake, version, self._identity, why
                )
            except LedgerError as error:
                self.unrecorded = error
            await brake.engage(told, whole=self._braked_all)

    @property
    def _identity(self) -> Identity:
        if self.visit.recorded.identity is None:
            raise AssertionError
        return self.visit.recorded.identity

    async def note(self, note: Callable[[], None], *, beside: bool) -> None:
        """Write into the ledger; *beside* a worse thing a failure must not cover that one."""
        try:
            await asyncio.to_thread(note)
        except LedgerError as error:
            if not beside:
                raise
            self.unrecorded = error

    def verdict(self, action: Action, end: Aftermath) -> Outcome | None:
        """Return the outcome when the robots or the silence decide it."""
        name, version = self.desired.name, end.before.version
        over = version if self._braked_all else name
        if end.harmed:
            robots = ", ".join(r.name for r in end.stopped) or "the list shows none stopped"
            return Outcome(
                action,
                Result.HARM,
                f"robots stopped on {name}: {robots}",
                "start them on the server's page; the brake stays on for "
                + (f"JT-Trader {version}" if self._braked_all else name),
                Exit.HARM,
                end.stopped,
            )
        if not end.calm:
            return Outcome(
                action,
                Result.UNKNOWN,
                "the server did not answer and it is not known whether its robots still run",
                f"look at {name}; then `jtr ledger release-brake {over} --because TEXT`",
                Exit.SERVER,
                end.stopped,
            )
        return None


def listed(observed: ObservedServer, code: str) -> ObservedExchange:
    """Return an exchange that must be on the server; Blocked when it is not any more."""
    exchange = observed.exchange(code)
    if exchange is None:
        raise Blocked(f"the server no longer lists {code}", "look at a new plan")
    return exchange
