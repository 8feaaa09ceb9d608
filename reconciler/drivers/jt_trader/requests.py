"""
What may be sent to JT-Trader, and the proof that it cannot fail there.

Pure.  A request that fails inside the server is answered by silence and stops every robot
(docs/protocol.md, 4), so each payload is made from, and checked against, the server's own list.
"""

from collections.abc import Collection, Iterable, Mapping
from typing import Final

from msgspec import Struct

from reconciler.drivers.jt_trader.masks import refusal
from reconciler.drivers.jt_trader.responses import WRITABLE_TYPE
from reconciler.errors import ServerRefused
from reconciler.model.observed import ObservedExchange, Robot
from reconciler.model.secret import Secret


class Request(Struct, frozen=True):
    """
    An event that we send, the event that answers it (none: empty), whether it changes the server.

    *takes* is the one type that its payload has; None means that it must not have any.
    """

    event: str
    answer: str
    writes: bool = False
    takes: type | None = None


EXCHANGES: Final = Request("exchange-config-request", "exchange-config-response")
ENGINE: Final = Request("engine-config-request", "engine-config-response")
ROBOTS: Final = Request("background-jobs-list-request", "background-jobs-list-response")
LOG: Final = Request("logs-list-request", "logs-list-response", takes=str)
SAVE: Final = Request("exchange-config-save", "exchange-config-response", writes=True, takes=list)
DELETE: Final = Request(
    "exchange-config-delete", "exchange-config-response", writes=True, takes=list
)
START: Final = Request("run-background-job-request", ROBOTS.answer, writes=True, takes=int)
STOP: Final = Request("stop-background-job-request", ROBOTS.answer, writes=True, takes=int)
INVALIDATE: Final = Request("invalidate-cache-request", "invalidate-cache-response", writes=True)
REBOOT: Final = Request("reboot-system-request", "", writes=True)

ALL: Final = frozenset(
    (EXCHANGES, ENGINE, ROBOTS, LOG, SAVE, DELETE, START, STOP, INVALIDATE, REBOOT)
)
"""Everything that can be sent at all."""

ONLY_ASKED: Final = frozenset(request.answer for request in (EXCHANGES, ENGINE, LOG, INVALIDATE))
"""Answers that only who asked ever gets; a robot list is also sent to others (protocol, 3)."""

TESTED: Final = frozenset({"0.24.19"})
"""The versions of JT-Trader that the protocol was observed on."""

_READ: Final = frozenset(request.event for request in (EXCHANGES, ENGINE, ROBOTS, LOG))
_ALL: Final = frozenset(request.event for request in ALL)

MAY_SEND: Final[Mapping[str, frozenset[str]]] = {
    "plan": _READ,
    "status": _READ,
    "doctor": _READ,
    "audit": _READ,
    "adopt": _READ,
    "explain": _READ,
    "logs": _READ,
    "request": _READ | {START.event},
    "controller": _ALL,
    "apply": _ALL,
}
"""Which command may send which events; nothing else can be sent."""


def accepts(accepted: Collection[str], version: str) -> bool:
    """Whether *version* is among *accepted*: exact ones, or lines such as `0.25.*`."""
    lines = tuple(pattern[:-1] for pattern in accepted if pattern.endswith(".*"))
    return version in accepted or version.startswith(lines)


def refuse_payload(request: Request, payload: object) -> None:
    """
    Raise ServerRefused unless *payload* is what *request* takes.

    With a payload a reboot deletes the robot of that number, and a robot's number that is no
    integer (a truth value, a text) stops all robots.
    """
    if request not in ALL:
        raise _refused(f"{request.event} is not among the requests that jtr knows")
    if request.takes is None and payload is not None:
        raise _refused(f"{request.event} must not have a payload")
    if request.takes is not None and type(payload) is not request.takes:
        raise _refused(f"the payload of {request.event} has another type than it must have")


def start_id(listed: Iterable[Robot] | None, robot: int) -> int:
    """
    Return the payload that starts the robot with the id *robot*, listed as stopped.

    Raises ServerRefused.
    """
    if _robot(listed, robot).running:
        raise _refused(f"robot {robot} runs already")
    return robot


def stop_id(listed: Iterable[Robot] | None, robot: int) -> int:
    """
    Return the payload that stops the robot with the id *robot*, listed as running.

    Raises ServerRefused.
    """
    if not _robot(listed, robot).running:
        raise _refused(f"robot {robot} does not run")
    return robot


def save_rows(
    listed: Iterable[ObservedExchange] | None, code: str, values: Mapping[str, Secret]
) -> list[dict[str, str]]:
    """
    Return the payload that writes all fields of the exchange *code* as the server lists them.

    Raises ServerRefused, without quoting any value, when it could fail or leave the exchange
    partly stored.
    """
    exchange = _listed(listed, code)
    if exchange.trouble:
        raise _refused(f"{code} cannot be written safely: {exchange.trouble}")
    if not exchange.fields:
        raise _refused(f"{code} has no fields to write on this server")
    names = [field.name for field in exchange.fields]
    if missing := [name for name in names if name not in values]:
        raise _refused(f"{code} must be written whole; no value for {', '.join(missing)}")
    if len(values) != len(names):
        raise _refused(f"{code} has no field for some of the values given")
    rows = []
    for field in exchange.fields:
        if field.type != WRITABLE_TYPE:
            raise _refused(f"field {field.name} of {code} is of another type than text")
        text = values[field.name].reveal()
        if type(text) is not str:  # whatever the types promise: a null stops all robots
            raise _refused(f"the value for {field.name} must not be sent: it is no text")
        if reason := refusal(text):
            raise _refused(f"the value for {field.name} must not be sent: {reason}")
        # The label, which the web page sends too, is ignored by the server.
        rows.append({"name": field.name, "type": field.type, "value": text})
    return rows


def delete_names(
    known: Iterable[ObservedExchange] | None,
    fresh: Iterable[ObservedExchange],
    code: str,
    name: str,
) -> list[str]:
    """
    Return the payload that deletes the field *name*: one name, seen stored a moment ago.

    *known* is what the caller decided on, *fresh* what the server lists now.  Deleting what is
    not stored is fatal there; deleting what changed meanwhile would destroy another hand's value.
    Raises ServerRefused.
    """
    before = {field.name: field.mask for field in _listed(known, code).fields}
    now = {field.name: field.mask for field in _listed(fresh, code).fields}
    if name not in before or name not in now:
        raise _refused(f"{code} has no such field on this server")
    if not before[name] or not now[name]:
        raise _refused(f"field {name} of {code} shows nothing stored")
    if before[name] != now[name]:
        raise _refused(f"field {name} of {code} was changed by another hand since it was read")
    return [name]


def _robot(listed: Iterable[Robot] | None, number: int) -> Robot:
    if type(number) is not int:  # whatever the types promise: `True` would stop all robots
        raise _refused("the id of a robot must be a whole number")
    if listed is None:
        raise _refused("the robots were not read on this connection yet")
    for robot in listed:
        if robot.id == number:
            return robot
    raise _refused(f"the server lists no robot {number}")


def _listed(listed: Iterable[ObservedExchange] | None, code: str) -> ObservedExchange:
    if listed is None:
        raise _refused("the exchanges were not read on this connection yet")
    for exchange in listed:
        if exchange.code == code:
            return exchange
    raise ServerRefused(
        f"exchange {code} is not in the server's exchanges.conf, so nothing was sent",
        "add its ccxt code there and restart the server, or remove it from the document",
    )


def _refused(what: str) -> ServerRefused:
    return ServerRefused(f"{what}; nothing was sent", "look at a new plan")
