"""
Starting robots again: after a changed credential one by one, or after our own reboot.

With nobody registered a robot's failed start stops all others, and any other client's goodbye takes
our registration away (docs/protocol.md, 6).  So before every start the old connection is closed
and a new one opened, in this order.  What is about to be stopped or started is written down first:
no crash may forget a robot, and none is started twice.
"""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from msgspec import Struct

from reconciler.apply import send
from reconciler.apply.circuit_breaker import CircuitOpen
from reconciler.apply.execution import Execution
from reconciler.errors import (
    Blocked,
    DriverError,
    Exit,
    JtrError,
    NoAnswer,
)
from reconciler.model.actions import Action, RestartRobots, ResumeRobots
from reconciler.model.desired import DEFAULT_RESUME
from reconciler.model.observed import ObservedServer, Robot
from reconciler.model.outcomes import Aftermath, Outcome, Result
from reconciler.model.recorded import Owed, PendingStarts
from reconciler.model.values import replace
from reconciler.observe.terms import refusal
from reconciler.observe.visit import enter, see
from reconciler.plan.inputs import Terms
from reconciler.plan.robots import names, restored, unresumable
from reconciler.system.clocks import here, passed


class Woken(Struct, frozen=True):
    """What became of robots that were owed a start; `why` is empty when all of them run."""

    started: tuple[Robot, ...]
    left: tuple[Robot, ...] = ()
    why: str = ""
    harmed: bool = False


@dataclass(slots=True)
class _Starts:
    """
    Starts in progress: `halt` as the ledger has it, what this process began, and what failed.

    `resume` is the action that asks for them, None of those that this pass stopped.  `restored` are
    robots that ran at the first look without us: one of these that stops again was stopped by
    itself or by a person, and is not started.
    """

    halt: PendingStarts
    resume: ResumeRobots | None
    restored: frozenset[int]
    failed: dict[int, str] = field(default_factory=dict)
    began: set[int] = field(default_factory=set)

    @property
    def asked(self) -> bool:
        """Whether a person asked for them."""
        return self.resume is not None and self.resume.asked


class RobotStarter:
    def __init__(self, execution: Execution) -> None:
        self._execution = execution
        self._book = execution.ledger.requests(execution.visit.uid)
        self._harm = False

    # ── restarting ───────────────────────────────────────────────────────────────────────

    async def restart(self, action: RestartRobots) -> Outcome:
        """
        Restart, one by one, the robots that owe it to a credential of this exchange.

        However it ends, the outcome says which were restarted: nobody else could tell.
        """
        done: list[str] = []
        for robot in await self._in_debt(action.exchange):
            sends = self._execution.sends
            try:
                ended = await self._restart(action, robot, done)
            except (CircuitOpen, JtrError) as error:
                if not done:
                    raise
                return _broken_off(action, done, robot, error, self._execution.sends > sends)
            if ended is not None:
                return replace(ended, detail="; ".join([*_restarted(done), ended.detail]))
        return Outcome(action, Result.DONE, "".join(_restarted(done)))

    async def _restart(
        self, action: RestartRobots, robot: Robot, done: list[str]
    ) -> Outcome | None:
        """Restart one robot, and add it to *done*; how it ended where no other one may follow."""
        fresh = await self._execution.fresh()
        if robot.id not in {r.id for r in fresh.running(action.exchange)}:
            return None  # seen stopped: whoever starts it gives it the new key
        halt = self._halt(robot, action.exchange)
        await asyncio.to_thread(self._book.halt, halt)
        await self._stop(action, robot, halt)
        woken = await self.wake(halt)
        if woken.why:
            return self.told(action, woken)
        done.append(robot.name)
        await self.settle(halt)
        return None

    async def resume(self, action: ResumeRobots) -> Outcome:
        """Start the robots that an earlier process left stopped."""
        requests = await asyncio.to_thread(self._book.load)
        halt = requests.halt
        if halt is None:
            return Outcome(action, Result.DONE)
        if halt.at != action.halted:
            raise Blocked("other robots are owed a start than were planned", "look at a new plan")
        if not action.asked:
            await self._execution.baseline()
        await self._execution.heed_pauses()
        send.still_asked(self._execution, action)  # else it stays as it is: a finding, or owed
        if action.asked:
            await asyncio.to_thread(self._book.reopen)
            halt = await self._reread(halt)
        woken = await self.wake(halt, action)
        if woken.why:
            return self.told(action, woken)
        await self.settle(halt)
        return Outcome(action, Result.DONE, f"started {names(woken.started)}")

    async def settle(self, halt: PendingStarts) -> None:
        """Note that the robots of a restart run again: its debt is paid if we started them."""
        if halt.exchange:
            requests = await asyncio.to_thread(self._book.load)
            begun = requests.halt.begun if requests.halt else halt.begun
            for robot in halt.robots:
                if robot.id in begun:
                    await self._paid(halt.exchange, robot)
        await self.release()

    async def release(self) -> None:
        """Owe no robots any more, if any were owed."""
        requests = await asyncio.to_thread(self._book.load)
        if requests.halt is not None:
            await asyncio.to_thread(self._book.release)

    async def _in_debt(self, exchange: str) -> list[Robot]:
        desired = self._execution.desired
        found = await asyncio.to_thread(self._execution.ledger.look, desired.target, desired.name)
        record = found.exchanges.get(exchange)
        debts = record.debts if record else ()
        if any(debt.owed is Owed.REBOOT for debt in debts):
            return []  # a restart would not help, and would only stop them
        owing = {debt.robot_id for debt in debts if debt.owed is Owed.RESTART}
        return sorted(robot for robot in self._execution.seen.robots if robot.id in owing)

    def _halt(self, robot: Robot, exchange: str) -> PendingStarts:
        execution = self._execution
        boots = execution.seen.log.boots
        boot, seconds = here()
        return PendingStarts(
            f"restart on {exchange}",
            (robot,),
            at=execution.context.stamp(),
            by=execution.context.label,
            within=DEFAULT_RESUME.total_seconds(),
            exchange=exchange,
            others=tuple(sorted(r.id for r in execution.seen.running() if r.id != robot.id)),
            boot=boots[-1] if boots else None,
            host_boot=boot,
            elapsed=seconds,
        )

    async def _stop(self, action: RestartRobots, robot: Robot, halt: PendingStarts) -> None:
        """
        Stop one robot and see that it stopped.

        Raises DriverError when that cannot be seen; then the robot stays owed, and the next pass
        finds it running or starts it.
        """
        execution = self._execution
        try:
            await execution.last_look()
            self._as_noted(halt, robot)
            before = execution.seen
            await send.stop(execution, action, robot)
        except send.Unanswered as unanswered:
            if await execution.come_back() is None:
                raise NoAnswer(unanswered.what, "the next pass looks again") from unanswered
            told = unanswered.what
        except (CircuitOpen, JtrError):  # nothing was sent
            await asyncio.to_thread(self._book.release)
            raise
        else:
            told = "it was asked to stop"
            await see(execution.visit, execution.context)
        if robot.id in {r.id for r in execution.seen.running()}:
            raise NoAnswer(
                f"{robot.name} still runs: {told}", "it may stop later; the next pass looks again"
            )
        if await self._harmed(before, besides={robot.id}):
            await asyncio.to_thread(self._book.leave, "other robots stopped when it did")

    def _as_noted(self, halt: PendingStarts, robot: Robot) -> None:
        """
        Raise Blocked when others run than *halt* says, or another process.

        Nothing would be started then, because somebody else is at work: so nothing is stopped.
        """
        seen = self._execution.seen
        others = tuple(sorted(one.id for one in seen.running() if one.id != robot.id))
        boots = seen.log.boots
        if (others, boots[-1] if boots else None) != (halt.others, halt.boot):
            raise Blocked(
                "other robots started or stopped, or the server booted, while it was prepared",
                "look at a new plan",
            )

    async def _paid(self, exchange: str, robot: Robot) -> None:
        execution = self._execution
        desired = execution.desired
        found = await asyncio.to_thread(execution.ledger.load, desired.target, desired.name)
        record = found.exchanges.get(exchange)
        if record is None:
            return
        rest = tuple(
            debt for debt in record.debts if (debt.owed, debt.robot_id) != (Owed.RESTART, robot.id)
        )
        await asyncio.to_thread(execution.ledger.settle_debts, execution.visit.uid, exchange, rest)

    # ── starting ─────────────────────────────────────────────────────────────────────────

    async def wake(self, halt: PendingStarts, resume: ResumeRobots | None = None) -> Woken:
        """
        Start the robots of *halt* that do not run, one by one; *halt* is what the ledger holds.

        One that fails to start, or stops by itself, does not keep the others from theirs; a start
        without answer does: the server drops every later one in silence.  Whoever is left is named
        in a finding in the ledger.  Without *resume* this pass stopped them.  When a person asked
        for it, only what would endanger other robots keeps them stopped, or a pause.
        """
        starts = _Starts(halt, resume, restored(halt, self._execution.seen.robots))
        why = ""
        for robot in halt.robots:
            try:
                if starts.began:
                    starts.halt = await self._reread(halt)
                why = await self._objection_or_start(starts, robot)
            except CircuitOpen as opened:
                why = opened.why
            except JtrError as error:
                why = error.what
            if why:
                break
        return await self._woken(starts.halt, starts.failed, why)

    async def _objection_or_start(self, starts: _Starts, robot: Robot) -> str:
        """Start one robot if it is still owed; returns why no further one may be started."""
        execution = self._execution
        if not starts.asked:
            # A boot may have brought another version of JT-Trader, or another process a brake.
            held = await execution.context.asked(execution.ledger.brakes)
            seen = execution.seen.version
            refuses = refusal(execution.visit, seen, execution.context, held)
            if why := refuses.what if refuses is not None else self._objection(starts):
                return why
        elif robot.id not in {r.id for r in execution.seen.robots}:
            starts.failed[robot.id] = "it is not on the server any more"
            return ""
        if robot.id in self._running() or robot.id in {*starts.halt.begun, *starts.failed}:
            return ""
        await execution.brake.steady(finishing=True)
        if starts.resume is not None:
            await execution.heed_pauses()
        return await self._start(starts, robot)

    async def _start(self, starts: _Starts, robot: Robot) -> str:
        """
        Note it, register, look, start, in this order; returns why no further one may be started.

        Between the registration and the start another client may come and leave, and then a start
        that fails stops all robots: so nothing that takes time lies between them.
        """
        execution, failed = self._execution, starts.failed
        await asyncio.to_thread(self._book.begin, robot.id)
        why, sent = "", False
        try:
            await self._register()
            before = execution.seen
            why = self._objection(starts)
            if not why and robot.id not in self._running() | starts.failed.keys():
                await send.start(execution, robot, starts.resume)
                sent = True
                starts.began.add(robot.id)
        except send.Unanswered as unanswered:
            failed[robot.id] = f"its start was not answered ({unanswered.what})"
            await execution.come_back()
            await self._harmed(before, besides={robot.id, *failed})
            return "no further start is sent: the server would drop it in silence"
        except (CircuitOpen, JtrError):  # nothing was sent
            await asyncio.to_thread(self._book.not_begun, robot.id)
            raise
        if not sent:
            await asyncio.to_thread(self._book.not_begun, robot.id)
            return why
        await see(execution.visit, execution.context)
        if robot.id not in self._running():
            failed[robot.id] = "it did not start"
        if await self._harmed(before, besides={robot.id, *failed}):
            return "other robots stopped when it was started"
        return ""

    async def _register(self) -> None:
        """
        Close the old connection, then open a new one and read what a start depends on, no more.

        In the other order nobody would be registered afterwards.
        """
        visit = self._execution.visit
        await visit.close()
        try:
            await enter(visit, self._execution.context)
        except DriverError as error:
            if not error.transient:
                raise
            # Robots are stopped: one connection that fails must not leave them so.
            await enter(visit, self._execution.context)
        session = self._execution.session
        log, robots = await session.log(), await session.robots()
        visit.observed = replace(self._execution.seen, robots=robots, log=log)

    async def _reread(self, halt: PendingStarts) -> PendingStarts:
        requests = await asyncio.to_thread(self._book.load)
        if requests.halt is None or requests.halt.at != halt.at:
            raise Blocked("another process changed which robots are owed", "plan again")
        return requests.halt

    def _objection(self, starts: _Starts) -> str:
        """Say why no robot may be started, by what was seen last; note what stopped meanwhile."""
        for robot in (starts.began | starts.restored) - self._running() - starts.failed.keys():
            starts.failed[robot] = "it was started and stopped again"
        if starts.asked:
            return ""
        now, seen = self._execution.context.now(), self._execution.seen
        terms = Terms(now, log=seen.log, since_halt=passed(starts.halt, now))
        return unresumable(
            starts.halt,
            seen.robots,
            terms,
            restored=starts.restored,
            failed=starts.failed.keys(),
        )

    def _running(self) -> set[int]:
        return {robot.id for robot in self._execution.seen.running()}

    async def _harmed(self, before: ObservedServer, besides: set[int]) -> bool:
        """Whether robots stopped that we did not touch: all of several, or a newer alarm."""
        execution = self._execution
        untouched = tuple(r for r in before.robots if r.id not in besides)
        end = Aftermath(replace(before, robots=untouched), execution.seen, answered=True)
        if end.harmed:
            self._harm = True
            await execution.engage("robots stopped around a robot's start or stop", before.version)
        return end.harmed

    async def _woken(self, halt: PendingStarts, failed: Mapping[int, str], why: str) -> Woken:
        running = self._running()
        left = tuple(robot for robot in halt.robots if robot.id not in running)
        started = tuple(robot for robot in halt.robots if robot.id in running)
        if not left:
            return Woken(started, harmed=self._harm)
        told = [f"{robot.name}: {failed[robot.id]}" for robot in left if robot.id in failed]
        rest = [robot for robot in left if robot.id not in failed]
        if rest:
            told.append(f"{names(rest)}: {why or 'not started'}")
        finding = "; ".join(told)
        await asyncio.to_thread(self._book.load)
        await asyncio.to_thread(self._book.leave, finding)
        return Woken(started, left, finding, self._harm)

    def told(self, action: Action, woken: Woken) -> Outcome:
        name, harm = self._execution.desired.name, woken.harmed
        return Outcome(
            action,
            Result.HARM if harm else Result.LEFT_STOPPED,
            woken.why,
            f"`jtr request resume {name}` starts them, or start them on the server's page",
            Exit.HARM if harm else Exit.SERVER,
            woken.left,
        )


def _restarted(done: Sequence[str]) -> list[str]:
    return [f"restarted {', '.join(done)}"] if done else []


def _broken_off(
    action: RestartRobots,
    done: Sequence[str],
    robot: Robot,
    error: CircuitOpen | JtrError,
    sent: bool,  # noqa: FBT001
) -> Outcome:
    """
    Say which robots were restarted when *error* came, and at which one.

    What keeps us from the next one before anything is sent for it (a window, a pause, a brake)
    takes nothing from those that were done: they run.
    """
    well = not sent and isinstance(error, CircuitOpen | Blocked)
    told = "; ".join([*_restarted(done), f"{'at' if sent else 'before'} {robot.name} {error.what}"])
    return Outcome(
        action, Result.DONE if well else Result.FAILED, told, error.remedy, error.exit_code
    )
