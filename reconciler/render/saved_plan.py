"""
A plan as its JSON has it, as a value again: to be shown, never to be applied.

What no form shows is not there: where in a file a line comes from, and when a secret was made.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final, NamedTuple

from msgspec import field

from reconciler import errors
from reconciler.errors import Exit, JtrError
from reconciler.model.actions import (
    Action,
    Consequence,
    DeleteExchange,
    InvalidateCache,
    Need,
    Reason,
    RebootServer,
    RestartRobots,
    ResumeRobots,
    WriteExchange,
)
from reconciler.model.codec import Malformed
from reconciler.model.conditions import Condition
from reconciler.model.desired import Afterwards, RequestKind
from reconciler.model.observed import Robot
from reconciler.model.outcomes import Outcome, Report, Result
from reconciler.model.plan import (
    Category,
    Disruption,
    Line,
    Plan,
    ServerPlan,
    Standing,
    Status,
    Verdict,
)
from reconciler.model.policy import PolicyAction, Violation
from reconciler.model.recipients import NewRecipient, Novelty
from reconciler.model.recorded import Debt, Owed, Purpose
from reconciler.model.references import FrozenRef, SecretRef
from reconciler.model.target import Target
from reconciler.model.values import replace

Data = Mapping[str, Any]


class SavedPlan(Plan, frozen=True):
    """A plan whose id is the one that was printed, because not all that it covers is there."""

    saved_id: str = field(default="")

    @property
    def id(self) -> str:
        return self.saved_id


class Saved(NamedTuple):
    """What a file holds: a plan, and what became of it where `apply` wrote the file."""

    plan: Plan
    reports: tuple[Report, ...]
    code: Exit
    recorded: bool
    at: datetime | None


def saved_plan(document: Data) -> Saved:
    """Return what a document that fits its schema tells.  Raises Malformed."""
    try:
        rows = [(_server(data), data) for data in document["servers"]]
        at = document.get("appliedAt")
        return Saved(
            SavedPlan(
                tuple(server for server, _ in rows),
                skipped=document["summary"]["skippedDocuments"],
                not_visited=tuple(document["notVisited"]),
                saved_id=document["planId"],
            ),
            tuple(_report(server, data) for server, data in rows if "outcomes" in data),
            Exit(document["exitCode"]),
            document["recorded"],
            None if at is None else datetime.fromisoformat(at),
        )
    except (KeyError, TypeError, ValueError):
        raise Malformed("it says what no version of jtr would") from None


def _server(data: Data) -> ServerPlan:
    server = ServerPlan(
        data["server"],
        Target(data["url"], data["account"]),
        data["owner"],
        data["version"],
        new_recipient=tuple(
            NewRecipient(Novelty(one["kind"]), one["what"]) for one in data["newRecipient"]
        ),
        violations=tuple(map(_violation, data["violations"])),
        lines=tuple(map(_line, data["lines"])),
        disruptions=tuple(map(_disruption, data["disruptions"])),
        debts=tuple(map(_debt, data["debts"])),
        robots=_robots(data["robots"]),
        notes=tuple(data["notes"]),
        hold=Condition(data["code"], data["held"], data["remedy"]) if data["held"] else None,
        failure=None if _failed_applying(data) else _error(data["failure"]),
        observed_at=data["observedAt"],
        age=data["ageSeconds"],
    )
    return _with_code(server, Exit(data["exitCode"]))


def _failed_applying(data: Data) -> bool:
    """Whether what failed is the apply: what could not be compared has no lines."""
    return "outcomes" in data and bool(data["outcomes"] or data["lines"])


def _with_code(server: ServerPlan, code: Exit) -> ServerPlan:
    """Return *server* with what its being held ends a command with, which is not told apart."""
    if server.hold is None or server.exit_code is code:
        return server
    return replace(server, hold=replace(server.hold, exit=code))


def _violation(data: Data) -> Violation:
    action = None if data["action"] is None else PolicyAction(data["action"])
    return Violation(action, data["exchange"], data["what"], data["rule"], data["remedy"])


def _line(data: Data) -> Line:
    means = data["consequence"]
    return Line(
        data["exchange"],
        Status(data["status"]),
        Verdict(data["verdict"]),
        Category(data["category"]),
        Reason(data["reason"]),
        _condition(data),
        None if data["action"] is None else _action(data["action"]),
        data["asks"],
        None if means is None else Consequence(_robots(means["robots"]), Need(means["need"])),
        tuple(data["sources"]),
        note=data["note"],
        since=data["since"],
    )


def _condition(data: Data) -> Condition:
    return Condition(data["code"], data["why"], data["remedy"], Exit(data["exitCode"]))


def _disruption(data: Data) -> Disruption:
    return Disruption(
        data["what"],
        Standing(data["standing"]),
        _condition(data),
        None if data["action"] is None else _action(data["action"]),  # type: ignore[arg-type]
        _robots(data["robots"]),
        None if data["kind"] is None else RequestKind(data["kind"]),
        None if data["instant"] is None else datetime.fromisoformat(data["instant"]),
    )


def _debt(data: Data) -> Debt:
    return Debt(
        Owed(data["owed"]),
        data["exchange"],
        data["since"],
        None,
        data["robotId"],
        data["robotName"],
    )


def _robots(found: list[Data]) -> tuple[Robot, ...]:
    return tuple(Robot(one["id"], one["name"], one["exchange"], one["running"]) for one in found)


def _report(server: ServerPlan, data: Data) -> Report:
    outcomes = tuple(
        Outcome(
            _action(one["action"]),
            Result(one["result"]),
            one["detail"],
            one["remedy"],
            Exit(one["exitCode"]),
            _robots(one["robotsStopped"]),
        )
        for one in data["outcomes"]
    )
    return Report(server, outcomes, _error(data["failure"]) if _failed_applying(data) else None)


def _error(data: Data | None) -> JtrError | None:
    if data is None:
        return None
    kind = getattr(errors, data["kind"], JtrError)
    if not (isinstance(kind, type) and issubclass(kind, JtrError)):
        kind = JtrError
    error: JtrError = kind.__new__(kind)  # some are made from other things than words
    JtrError.__init__(error, data["what"], data["remedy"])
    return error


def _action(data: Data) -> Action:
    match data["kind"]:
        case "write":
            return WriteExchange(
                data["exchange"],
                tuple((name, name) for name in data["fields"]),
                tuple((str(n), _reference(text)) for n, text in enumerate(data["sources"])),
                Purpose(data["purpose"]),
            )
        case "delete":
            return DeleteExchange(data["exchange"], tuple(data["fields"]))
        case "resume":
            return ResumeRobots(_robots(data["robots"]))
        case "restart":
            return RestartRobots(data["exchange"], _robots(data["robots"]))
        case "invalidate-cache":
            return InvalidateCache(datetime.fromisoformat(data["instant"]), data["reason"])
        case "reboot":
            return RebootServer(
                datetime.fromisoformat(data["instant"]),
                data["reason"],
                Afterwards(data["robots"]),
                _UNTOLD,
                data["again"],
            )
    raise Malformed("it has an action that this version of jtr does not know")


_UNTOLD: Final = 0.0  # how long robots may be started again is in no plan


def _reference(text: str) -> FrozenRef:
    found = SecretRef.parse(text)
    if found is None:
        raise Malformed("it has a reference that none is")
    return FrozenRef(found.at, found.version or 0, "", found.field)
