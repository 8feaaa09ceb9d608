"""
Invalidating a cache and rebooting a server: each at most once for its instant.

An intent becomes durable, is read again, and is sent once, within a short window.  A reboot's
outcome is what the server's own log proves: a boot line that was not there before.  It is sent only
on a connection on which that log was read, so it can reach no other process than the one that was
to end, and a process ends once.  An invalidation leaves no evidence: without its answer it stays in
doubt, and is never repeated.
"""

import asyncio
import uuid
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from typing import TypeVar

from reconciler.apply import send
from reconciler.apply.circuit_breaker import CircuitOpen
from reconciler.apply.credentials import MEANWHILE
from reconciler.apply.execution import Execution
from reconciler.apply.robots import RobotStarter
from reconciler.errors import (
    Blocked,
    DriverError,
    Exit,
    JtrError,
    LedgerError,
)
from reconciler.model.actions import InvalidateCache, RebootServer
from reconciler.model.desired import RequestKind
from reconciler.model.observed import ObservedServer, Robot
from reconciler.model.outcomes import Outcome, Result
from reconciler.model.recorded import MOST_ATTEMPTS, Attempt, PendingStarts, Request, Stage
from reconciler.model.timestamps import spelled
from reconciler.model.values import replace
from reconciler.observe.visit import see
from reconciler.plan.boot_proof import Proof, new_boots, proof
from reconciler.plan.requests import BOOTED_TWICE, as_wished, stopped_since
from reconciler.plan.robots import names
from reconciler.system.clocks import elapsed, here, passed

OneShotAction = InvalidateCache | RebootServer
_OneShot = TypeVar("_OneShot", InvalidateCache, RebootServer)


class RequestRunner:
    def __init__(self, execution: Execution, robots: RobotStarter) -> None:
        self._execution = execution
        self._robots = robots
        self._book = execution.ledger.requests(execution.visit.uid)
        self._asked = False  # this very process sent it before

    async def done_meanwhile(self, action: OneShotAction) -> Outcome | None:
        """Return what became of a request that another process handled since it was planned."""
        kind = RequestKind.CACHE if isinstance(action, InvalidateCache) else RequestKind.REBOOT
        found = (await asyncio.to_thread(self._book.load)).closed(kind, action.instant)
        if found is None:
            return None
        if found.stage is Stage.NOT_DONE:
            return Outcome(
                action, Result.NOT_DONE, f"{MEANWHILE}: {found.evidence}", code=Exit.SERVER
            )
        return Outcome(action, Result.DONE, f"{MEANWHILE}: {found.evidence}")

    # ── the cache ────────────────────────────────────────────────────────────────────────

    async def invalidate(self, action: InvalidateCache) -> Outcome:
        """Invalidate the cache once; done only when the server answered on our own connection."""
        execution = self._execution
        async with execution.turn():
            before = await execution.fresh()
            request = Request(RequestKind.CACHE, action.instant, action.reason, Stage.OPEN)
            request = await self._intend(request, before)
            answered = await self._send(request, before, action, send.invalidate)
            end = await execution.aftermath(before, answered=answered)
            bad = execution.verdict(action, end)
            if answered:
                done = replace(request, stage=Stage.DONE, evidence="the server answered")
                await self._close(done, beside=bad is not None)
        if answered:
            return bad or Outcome(action, Result.DONE)
        if end.harmed and bad is not None:
            return bad
        return self._in_doubt(action, request, "the server did not answer", end.after)

    # ── the process ──────────────────────────────────────────────────────────────────────

    async def reboot(self, action: RebootServer) -> Outcome:
        """Reboot once, prove it by the log, and start again the robots that are to be resumed."""
        if action.again:
            return await self._again(action)
        execution = self._execution
        before = await execution.baseline()
        self._provable(before)
        if before.log.boots[-1:] != execution.planned.log.boots[-1:]:
            raise Blocked("it booted since this was planned", "look at a new plan")
        request = Request(
            RequestKind.REBOOT,
            action.instant,
            action.reason,
            Stage.OPEN,
            robots=action.robots,
            resume_within=action.resume_within,
            ran=before.running(),
        )
        return await self._reboot(action, await self._intend(request, before), before)

    async def _again(self, action: RebootServer) -> Outcome:
        """Find out what became of an earlier process's reboot; try once more if it was nothing."""
        request = (await asyncio.to_thread(self._book.load)).open
        if request is None or (request.kind, request.instant) != (
            RequestKind.REBOOT,
            action.instant,
        ):
            raise Blocked("another process worked on this request", "plan again")
        await self._execution.fresh()
        await self._proof(request, after=self._rest(request, self._execution.session.patience))
        return await self._judge(action, request)

    async def settle(self, request: Request) -> Outcome | None:
        """
        Note what the log proves of a request that an earlier process left open; nothing is sent.

        Its robots are started by an action of the plan, which names them.
        """
        if request.kind is not RequestKind.REBOOT or not request.attempts:
            return None
        action = RebootServer(
            request.instant, request.reason, request.robots, request.resume_within
        )
        after = self._rest(request, self._execution.session.patience)
        match await self._proof(request, after=after):
            case Proof.BOOTED:
                done, halt = await self._done(request)
                return self._left(action, done, owed=halt is not None)
            case Proof.ALIVE:
                return await self._not_done(action, request)
        return None

    async def _reboot(
        self, action: RebootServer, request: Request, before: ObservedServer
    ) -> Outcome:
        await self._send(request, before, action, send.reboot)
        return await self._became(action, request)

    async def _became(self, action: RebootServer, request: Request) -> Outcome:
        """Find out what became of a request that was sent."""
        try:
            if not await self._back(request):
                return self._in_doubt(action, request, "it did not come back", None)
            return await self._judge(action, request)
        except LedgerError:  # what became of it may be known; it says so itself
            raise
        except (CircuitOpen, JtrError) as error:
            return self._in_doubt(action, request, error.what, None)

    async def _judge(self, action: RebootServer, request: Request) -> Outcome:
        """Decide by the log as it was seen last."""
        attempt = request.attempts[-1]
        match proof(attempt, self._execution.seen.log):
            case Proof.BOOTED:
                return await self._booted(action, request)
            case Proof.ALIVE if len(request.attempts) < MOST_ATTEMPTS and (
                # It is certain who stopped robots: our own try, without getting through.
                self._asked or not self._stopped(request)
            ):
                return await self._second(action, request)
            case Proof.ALIVE:
                return await self._not_done(action, request)
        why = "its log does not tell whether it booted"
        return self._in_doubt(action, request, why, self._execution.seen)

    async def _second(self, action: RebootServer, request: Request) -> Outcome:
        """
        Try once more, on a connection on which the log shows the process from before.

        What keeps it from that is told together with what the first try left: it stopped robots.  A
        server that is away by then may have ended after all, when the stop that hung was over.
        """
        execution, once = self._execution, request
        try:
            await execution.visit.close()
            seen = await execution.baseline()
            if (found := proof(request.attempts[-1], seen.log)) is Proof.ALIVE:
                second = self._attempt(seen)
                # Somebody may have started others since the first try: this one stops them as well.
                known = {robot.id for robot in request.ran}
                ran = (*request.ran, *(robot for robot in seen.running() if robot.id not in known))
                request = replace(request, attempts=(*request.attempts, second), ran=ran)
                await self._promised(request, partial(self._book.retry, second, ran))
                await self._send(request, seen, action, send.reboot)
        except DriverError as error:
            return self._in_doubt(action, once, error.what, None)
        except (CircuitOpen, JtrError) as error:  # nothing more was sent
            return self._asked_once(action, once, error)
        if found is not Proof.ALIVE:
            return await self._judge(action, request)
        return await self._became(action, request)

    def _asked_once(
        self, action: RebootServer, request: Request, error: CircuitOpen | JtrError
    ) -> Outcome:
        stopped = self._stopped(request)
        left = f"; it stopped robots that do not run any more: {names(stopped)}" if stopped else ""
        why = f"asked once, and provably not done{left}; the second try was not sent: {error.what}"
        outcome = Outcome(action, Result.FAILED, why, error.remedy, error.exit_code, stopped)
        return replace(outcome, sent=True)

    def _stopped(self, request: Request) -> tuple[Robot, ...]:
        return stopped_since(request, self._execution.seen.robots)

    async def _booted(self, action: RebootServer, request: Request) -> Outcome:
        done, halt = await self._done(request)
        if halt is None:
            return self._left(action, done, owed=halt is not None)
        woken = await self._robots.wake(halt)
        if woken.why:
            return self._robots.told(action, woken)
        await self._robots.release()
        again = names(woken.started)
        return Outcome(action, Result.DONE, f"{done.evidence}; started again: {again}")

    async def _done(self, request: Request) -> tuple[Request, PendingStarts | None]:
        """Close a reboot that its log proves; return it, and the robots that it leaves owed."""
        execution = self._execution
        with suppress(Blocked):  # this controller acts no more, and others may know a newer one
            request = as_wished(request, execution.context.in_force(execution.desired))
        lines = new_boots(request.attempts[-1], self._execution.seen.log)
        done = replace(
            request,
            stage=Stage.DONE,
            boot=lines[-1],
            evidence=f"boot line {lines[-1].time} of process {lines[-1].pid}",
        )
        await self._close(done)
        halt = (await asyncio.to_thread(self._book.load)).halt
        if halt is not None and len(lines) > 1:
            await asyncio.to_thread(self._book.leave, BOOTED_TWICE)
            halt = (await asyncio.to_thread(self._book.load)).halt
        return done, halt

    def _left(self, action: RebootServer, done: Request, *, owed: bool) -> Outcome:
        """
        Say which robots are left as they are, and which run.

        Where the first try stopped them and did not get through, the server itself starts some at
        the boot of the second.  If they were to stay stopped, people have to know.
        """
        stopped = self._stopped(done)
        again = [robot for robot in done.ran if robot not in stopped]
        state = "owed a start" if owed else "stopped and left so"
        why = f"{done.evidence}; {state}: {names(stopped)}" if stopped else done.evidence
        if again:
            why = f"{why}; run again, and not by us: {names(again)}"
        if owed or not again or len(done.attempts) < MOST_ATTEMPTS:
            return Outcome(action, Result.DONE, why)
        remedy = "stop them on the server's page if they are to stay stopped"
        return Outcome(action, Result.DONE, why, remedy, Exit.BLOCKED)

    async def _not_done(self, action: RebootServer, request: Request) -> Outcome:
        stopped = self._stopped(request)
        left = f"; robots that ran then do not run any more: {names(stopped)}" if stopped else ""
        tries = len(request.attempts)
        evidence = f"asked {tries} x, and the process from before still runs{left}"
        await self._close(replace(request, stage=Stage.NOT_DONE, evidence=evidence))
        return Outcome(
            action,
            Result.NOT_DONE,
            evidence,
            "a robot's stop may hang: see the server's log; start the robots on its page",
            Exit.SERVER,
            stopped,
        )

    # ── sending ──────────────────────────────────────────────────────────────────────────

    def _provable(self, seen: ObservedServer) -> None:
        """Raise Blocked when nobody could tell afterwards whether the server rebooted."""
        if not seen.log.readable or seen.log.strangers:
            raise Blocked(
                "its system log proves nothing: nobody could tell whether it rebooted",
                "see its Config page (System logs)",
            )

    async def _intend(self, request: Request, before: ObservedServer) -> Request:
        request = replace(request, attempts=(self._attempt(before),))
        await self._promised(request, partial(self._book.ask, request))
        return request

    async def _promised(self, request: Request, note: Callable[[], None]) -> None:
        """Note an intent; one that was not noted for certain is taken back: nothing was sent."""
        try:
            await asyncio.to_thread(note)
        except LedgerError:
            with suppress(JtrError):
                await asyncio.to_thread(self._book.load)
                await asyncio.to_thread(self._book.unsend, request.attempts[-1].nonce)
            raise

    def _attempt(self, before: ObservedServer) -> Attempt:
        boot, seconds = here()
        context = self._execution.context
        return Attempt(
            uuid.uuid4().hex,
            context.stamp(),
            context.label,
            boots=before.log.boots,
            newest=before.log.newest,
            host_boot=boot,
            elapsed=seconds,
        )

    async def _send(
        self,
        request: Request,
        before: ObservedServer,
        action: _OneShot,
        send_it: Callable[[Execution, _OneShot], Awaitable[None]],
    ) -> bool:
        """
        Send once, if nothing speaks against it any more; whether the server answered.

        *before* is what was seen before the intent: the robots that ran then are to run still.
        Whatever this raises, nothing was sent, and the intent was taken back.
        """
        execution, attempt = self._execution, request.attempts[-1]
        execution.to_stop = before.running()
        try:
            await execution.brake.steady()
            # This process may have been stopped, and a person resolved it meanwhile.
            await asyncio.to_thread(self._book.confirm, attempt.nonce)
            # Last of all: a robot that a person stops after it would be started again by us.
            # Not on another connection: it might lead to a process that booted meanwhile.
            await execution.last_look(anew=False)
            self._in_time(attempt)
            await send_it(execution, action)
        except send.Unanswered:
            self._asked = True
            return False
        except (CircuitOpen, JtrError):
            await asyncio.to_thread(self._book.unsend, attempt.nonce)
            raise
        self._asked = True
        return True

    def _in_time(self, attempt: Attempt) -> None:
        """Raise Blocked once the send window is over: this process may have been stopped."""
        if elapsed() - attempt.elapsed > self._execution.context.timeouts.send_window:
            raise Blocked("it took too long to send it: nothing was sent", "apply again")

    async def _back(self, request: Request) -> bool:
        """Wait until the server can be asked again after a reboot was sent; whether it can."""
        execution, timeouts = self._execution, self._execution.context.timeouts
        patience = execution.session.patience
        dropped = await execution.session.ended(timeouts.drop)
        if not dropped:
            dropped = await execution.session.ended(self._rest(request, patience))
        if not dropped:
            try:
                await see(execution.visit, execution.context)
            except DriverError:
                dropped = True
        if dropped and await execution.come_back() is None:
            return False
        # If only the connection ended, what was sent on it may still be under way.
        await self._proof(request, after=self._rest(request, patience) if dropped else 0.0)
        return True

    async def _proof(self, request: Request, *, after: float) -> Proof:
        """
        Look each second until the log proves a boot; if it never does, the process still lives.

        That takes as long as the log may lag behind what happened, and at least *after* seconds: by
        then nothing that was sent is still under way.
        """
        execution, timeouts = self._execution, self._execution.context.timeouts
        until = elapsed() + max(after, timeouts.log_lag)
        while True:
            found = proof(request.attempts[-1], execution.seen.log)
            left = until - elapsed()
            if found is not Proof.ALIVE or left <= 0:
                return found
            await asyncio.sleep(min(max(timeouts.log_lag / 5, 0.01), left))
            try:
                await see(execution.visit, execution.context)
            except DriverError:
                if await execution.come_back() is None:
                    return Proof.NOTHING

    def _rest(self, request: Request, patience: float) -> float:
        since = passed(request.attempts[-1], self._execution.context.now())
        # On another machine's word alone we would trust its clock: wait the whole time.
        ours = request.attempts[-1].host_boot == here()[0]
        return max(0.0, patience - since) if since is not None and ours else patience

    # ── noting ───────────────────────────────────────────────────────────────────────────

    async def _close(self, request: Request, *, beside: bool = False) -> None:
        """Note what became of a request; where the ledger cannot take it, leave a file."""
        execution = self._execution
        try:
            await asyncio.to_thread(self._book.close, request)
        except LedgerError as error:
            told = await asyncio.to_thread(self._left_behind, request)
            better = LedgerError(
                f"{request.kind} of {execution.desired.name} is {request.stage}, but the ledger "
                f"could not take it: {error.what}",
                told,
            )
            if not beside:
                raise better from error
            execution.unrecorded = better

    def _left_behind(self, request: Request) -> str:
        execution = self._execution
        if execution.context.unrecorded is None:
            return "find out on the server, then `jtr request resolve`"
        try:
            path = execution.context.unrecorded.leave(
                execution.ledger.ledger_uid, execution.visit.uid, request
            )
        except OSError:
            return "a file could not be written either: note it, then `jtr request resolve`"
        return f"it stands in {path}; the next `jtr apply` on this machine picks it up"

    def _in_doubt(
        self,
        action: OneShotAction,
        request: Request,
        why: str,
        seen: ObservedServer | None,
    ) -> Outcome:
        name, instant = self._execution.desired.name, spelled(request.instant)
        return Outcome(
            action,
            Result.IN_DOUBT,
            f"{why}: it is not known whether it took effect, and it is not repeated",
            f"find out on the server, then `jtr request resolve {name} {request.kind} {instant} "
            "--done|--not-done --because TEXT`",
            Exit.IN_DOUBT,
            stopped_since(request, seen.robots if seen else ()),
        )
