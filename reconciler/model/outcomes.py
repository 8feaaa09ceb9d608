"""What became of actions, and what the robots on the server say about it.  Pure."""

import enum

from msgspec import Struct

from reconciler.errors import Exit, JtrError, worst
from reconciler.model.actions import Action
from reconciler.model.observed import Mask, ObservedServer, Robot
from reconciler.model.plan import ServerPlan

SEVERAL = 2  # one robot that stopped may have stopped by itself; all of at least two did not


class Result(enum.StrEnum):
    DONE = "done"
    NOT_VERIFIABLE = "written, not verifiable"
    FAILED = "failed"
    UNKNOWN = "outcome unknown"
    IN_DOUBT = "in doubt"
    NOT_DONE = "NOT done"
    LEFT_STOPPED = "robots left stopped"
    HARM = "harm"
    NOT_ATTEMPTED = "not attempted"


class Outcome(Struct, frozen=True):
    """
    The end of one action, for people and for the exit code.

    `sent` says that something was sent for it, whatever became of that.
    """

    action: Action
    result: Result
    detail: str = ""
    remedy: str = ""
    code: Exit = Exit.DONE
    stopped: tuple[Robot, ...] = ()
    sent: bool = False

    @property
    def disturbed(self) -> bool:
        """
        Whether the server was left otherwise than it was meant to be, or may have been.

        Not where it failed before anything was sent: a pause, a closed window or a ledger that is
        away says nothing against the next server.
        """
        if not self.code or self.result in (Result.DONE, Result.NOT_ATTEMPTED):
            return False
        return self.sent or self.result is not Result.FAILED


class Report(Struct, frozen=True):
    plan: ServerPlan
    outcomes: tuple[Outcome, ...] = ()
    failure: JtrError | None = None

    @property
    def exit_code(self) -> Exit:
        """The code that this server alone would end `apply` with."""
        codes = [outcome.code for outcome in self.outcomes]
        if self.failure is not None:
            codes.append(self.failure.exit_code)
        return worst([self.plan.exit_code, *codes])


class Aftermath(Struct, frozen=True):
    """The server before a write and after it; `after` is None when it could not be read again."""

    before: ObservedServer
    after: ObservedServer | None
    answered: bool

    @property
    def stopped(self) -> tuple[Robot, ...]:
        if self.after is None:
            return ()
        still = {robot.id for robot in self.after.running()}
        return tuple(robot for robot in self.before.running() if robot.id not in still)

    @property
    def alarm(self) -> bool:
        """Whether the system log has a newer entry of the fatal path's handler."""
        if self.after is None or not (self.before.log.readable and self.after.log.readable):
            return False
        earlier, later = self.before.log.alarm, self.after.log.alarm
        return later is not None and (earlier is None or later > earlier)

    @property
    def harmed(self) -> bool:
        """Whether all of at least two robots stopped, or the server noted a fatal error."""
        ran = len(self.before.running())
        return self.alarm or (ran >= SEVERAL and len(self.stopped) == ran)

    @property
    def calm(self) -> bool:
        """
        Whether it is certain that a write without answer did no harm.

        All robots still run, and the log, readable before and after, has no newer alarm.
        """
        if self.answered:
            return True
        if self.after is None or self.stopped or self.harmed:
            return False
        return self.before.log.readable and self.after.log.readable


def face(observed: ObservedServer, code: str) -> dict[str, tuple[str, Mask]]:
    """Return what one exchange shows; empty when the server does not list it."""
    exchange = observed.exchange(code)
    if exchange is None:
        return {}
    return {f.name: (f.credential, f.mask) for f in exchange.fields}
