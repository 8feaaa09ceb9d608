"""
The requests of a server as a JSON document, and back; as strict as `codec.records`.
"""

from datetime import datetime
from enum import StrEnum
from typing import Any, TypeVar

from reconciler.ledger.codec.rows import stamp
from reconciler.ledger.codec.strict import Fields, Malformed, text_of
from reconciler.model.desired import Afterwards, Kind
from reconciler.model.observed import BootLine, Robot
from reconciler.model.recorded import Attempt, PendingStarts, Request, Requests, Stage

E = TypeVar("E", bound=StrEnum)


# ── writing ──────────────────────────────────────────────────────────────────────────────────


def requests_body(requests: Requests) -> dict[str, Any]:
    """Return the fields of the document."""
    return {
        "handled": {str(kind): stamp(at) for kind, at in sorted(requests.handled.items())},
        "open": request_body(requests.open) if requests.open else None,
        "past": [request_body(request) for request in requests.past],
        "halt": _halt(requests.halt) if requests.halt else None,
    }


def robot_body(robot: Robot) -> dict[str, Any]:
    """Return a robot as it lies in documents."""
    return {
        "id": robot.id,
        "name": robot.name,
        "exchange": robot.exchange,
        "running": robot.running,
    }


def request_body(request: Request) -> dict[str, Any]:
    """Return a request as it lies in documents."""
    return {
        "kind": str(request.kind),
        "instant": stamp(request.instant),
        "reason": request.reason,
        "stage": str(request.stage),
        "attempts": [_attempt(attempt) for attempt in request.attempts],
        "robots": str(request.robots),
        "resume_within": request.resume_within,
        "ran": [robot_body(robot) for robot in request.ran],
        "evidence": request.evidence,
        "boot": _boot(request.boot) if request.boot else None,
        "closed_at": request.closed_at,
        "closed_by": request.closed_by,
    }


def _attempt(attempt: Attempt) -> dict[str, Any]:
    return {
        "nonce": attempt.nonce,
        "at": attempt.at,
        "by": attempt.by,
        "boots": [_boot(line) for line in attempt.boots],
        "newest": attempt.newest,
        "host_boot": attempt.host_boot,
        "elapsed": attempt.elapsed,
    }


def _halt(halt: PendingStarts) -> dict[str, Any]:
    return {
        "origin": halt.origin,
        "robots": [robot_body(robot) for robot in halt.robots],
        "at": halt.at,
        "by": halt.by,
        "within": halt.within,
        "exchange": halt.exchange,
        "others": list(halt.others),
        "begun": list(halt.begun),
        "boot": _boot(halt.boot) if halt.boot else None,
        "finding": halt.finding,
        "host_boot": halt.host_boot,
        "elapsed": halt.elapsed,
    }


def _boot(line: BootLine) -> dict[str, int]:
    return {"time": line.time, "pid": line.pid}


# ── reading ──────────────────────────────────────────────────────────────────────────────────


def requests_from(fields: Fields) -> Requests:
    """Read what `requests_body` wrote.  Raises Malformed."""
    handled = fields.mapping("handled", read_moment)
    return Requests(
        handled={_word(Kind, kind, "handled"): at for kind, at in handled.items()},
        open=fields.maybe("open", read_request),
        past=fields.items("past", read_request),
        halt=fields.maybe("halt", _read_halt),
    )


def read_moment(value: Any, where: str) -> datetime:
    """Return the instant that a text says, with its zone."""
    try:
        moment = datetime.fromisoformat(text_of(value, where))
    except ValueError:
        raise Malformed(f"{where} is no instant") from None
    if moment.tzinfo is None:
        raise Malformed(f"{where} has no zone")
    return moment


def read_robot(value: Any, where: str) -> Robot:
    """Return a robot."""
    fields = Fields(value, where)
    robot = Robot(
        fields.integer("id"), fields.text("name"), fields.text("exchange"), fields.flag("running")
    )
    fields.end()
    return robot


def read_request(value: Any, where: str) -> Request:
    fields = Fields(value, where)
    request = Request(
        _word(Kind, fields.text("kind"), where),
        read_moment(fields.take("instant"), f"{where}.instant"),
        fields.text("reason"),
        _word(Stage, fields.text("stage"), where),
        attempts=fields.items("attempts", _read_attempt),
        robots=_word(Afterwards, fields.text("robots"), where),
        resume_within=fields.seconds("resume_within"),
        ran=fields.items("ran", read_robot),
        evidence=fields.text("evidence"),
        boot=fields.maybe("boot", _read_boot),
        closed_at=fields.text("closed_at"),
        closed_by=fields.text("closed_by"),
    )
    fields.end()
    return request


def _read_attempt(value: Any, where: str) -> Attempt:
    fields = Fields(value, where)
    attempt = Attempt(
        nonce=fields.text("nonce"),
        at=fields.text("at"),
        by=fields.text("by"),
        boots=fields.items("boots", _read_boot),
        newest=fields.maybe_integer("newest"),
        host_boot=fields.text("host_boot"),
        elapsed=fields.number("elapsed"),
    )
    fields.end()
    return attempt


def _read_halt(value: Any, where: str) -> PendingStarts:
    fields = Fields(value, where)
    halt = PendingStarts(
        origin=fields.text("origin"),
        robots=fields.items("robots", read_robot),
        at=fields.text("at"),
        by=fields.text("by"),
        within=fields.seconds("within"),
        exchange=fields.text("exchange"),
        others=fields.items("others", _read_id),
        begun=fields.items("begun", _read_id),
        boot=fields.maybe("boot", _read_boot),
        finding=fields.text("finding"),
        host_boot=fields.text("host_boot"),
        elapsed=fields.number("elapsed"),
    )
    fields.end()
    return halt


def _read_id(value: Any, where: str) -> int:
    if type(value) is not int:  # True is an int to isinstance
        raise Malformed(f"{where} is not a list of whole numbers")
    return value


def _read_boot(value: Any, where: str) -> BootLine:
    fields = Fields(value, where)
    line = BootLine(fields.integer("time"), fields.integer("pid"))
    fields.end()
    return line


def _word(kind: type[E], text: str, where: str) -> E:
    try:
        return kind(text)
    except ValueError:
        raise Malformed(f"{where} has a word that this version does not know") from None
