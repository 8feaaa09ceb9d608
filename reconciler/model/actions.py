"""What can be done to a server: a closed set, so that a new action is noticed everywhere."""

import enum
from collections.abc import Sequence
from datetime import datetime
from typing import Final

from msgspec import Struct

from reconciler.model.desired import Afterwards, RequestKind
from reconciler.model.observed import Robot
from reconciler.model.recorded import Purpose
from reconciler.model.references import FrozenRef
from reconciler.model.timestamps import spelled


class Reason(enum.StrEnum):
    ABSENT = "absent on the server"
    NEW_VERSION = "new version in Vault"
    PIN_MOVED = "the pin moved"
    PATH_MOVED = "another path"
    DIFFERS = "differs on the server"
    NOT_VERIFIABLE = "not verifiable"
    UNFINISHED = "an earlier write did not finish"
    ASKED = "asked"
    NONE = ""


class Need(enum.StrEnum):
    """What it takes until robots use a new credential."""

    NOTHING = "nothing"
    RESTART = "restart"
    REBOOT = "reboot"
    EITHER = "restart or reboot"  # the values were not read


class Consequence(Struct, frozen=True):
    """What a write means for trading: robots that keep the old key, and what they need."""

    robots: tuple[Robot, ...]
    need: Need


class WriteExchange(Struct, frozen=True):
    """
    Write all fields of one exchange in one message.

    `fields` pairs the server's field name with ccxt's credential name; `sources` holds the frozen
    reference of each credential, or one under the empty name when a single secret holds them all.
    """

    exchange: str
    fields: tuple[tuple[str, str], ...]
    sources: tuple[tuple[str, FrozenRef], ...]
    purpose: Purpose
    unverified: bool = False  # its verdict was unknown: counted against maxUnknownWrites


class DeleteExchange(Struct, frozen=True):
    """Delete the fields of one exchange that are not empty, one request each."""

    exchange: str
    fields: tuple[str, ...]


class ResumeRobots(Struct, frozen=True):
    """
    Start the robots again that a restart or a reboot of ours left stopped.

    `halted` is the `at` of the `PendingStarts` that was planned on: others are never meant.
    `asked` says that a person asked for it: then neither the time that passed nor what somebody
    else did meanwhile stands against it, and no finding either.
    """

    robots: tuple[Robot, ...]
    halted: str = ""
    asked: bool = False


class RestartRobots(Struct, frozen=True):
    """Stop and start, one by one, the robots of an exchange that still hold an old credential."""

    exchange: str
    robots: tuple[Robot, ...]


class InvalidateCache(Struct, frozen=True):
    """Invalidate the server's cache, once for this instant."""

    instant: datetime
    reason: str


class RebootServer(Struct, frozen=True):
    """
    Restart the JT-Trader process, once for this instant.

    `again` says that this is the second and last try of a request that provably did not happen.
    """

    instant: datetime
    reason: str
    robots: Afterwards
    resume_within: float  # seconds
    again: bool = False


Disruptive = ResumeRobots | RestartRobots | InvalidateCache | RebootServer
Action = WriteExchange | DeleteExchange | Disruptive

ORDER: Final = (
    ResumeRobots,  # what an earlier pass owes comes first
    WriteExchange,
    DeleteExchange,
    RestartRobots,
    InvalidateCache,  # never after the reboot: robots save their state while they stop
    RebootServer,
)
"""In which order the actions of one server happen; a failure stops the later ones."""


def identity(action: Action, windows: Sequence[str] = ()) -> list[object]:
    """
    Return what *action* contributes to a plan's id, on a server with these *windows*.

    What documents wish about robots counts.  Which robots run differs between minutes, so none is
    named; nor are a server's own names of what is written, which only a visit tells: an exchange is
    written whole.  Windows count where something stops robots or loses what they stored, whether
    they are open or not.
    """
    match action:
        case WriteExchange():
            return ["write", action.exchange, [], [str(ref) for _, ref in action.sources]]
        case DeleteExchange():
            return ["delete", action.exchange, sorted(action.fields), []]
        case InvalidateCache(instant):
            return [str(RequestKind.CACHE), "", [*windows], [spelled(instant)]]
        case RebootServer(instant, _, robots, within):
            after = [robots, within] if robots is Afterwards.RESUME else [robots]
            return [str(RequestKind.REBOOT), "", [*windows], [spelled(instant), *after]]
        case ResumeRobots():
            return ["resume", "", [], []]
        case RestartRobots(exchange):
            return ["restart", exchange, [*windows], []]


def told(action: Action) -> str:
    match action:
        case WriteExchange(exchange):
            return f"write {exchange}"
        case DeleteExchange(exchange):
            return f"delete {exchange}"
        case ResumeRobots():
            return "start robots again"
        case RestartRobots(exchange):
            return f"restart robots on {exchange}"
        case InvalidateCache(instant):
            return f"{RequestKind.CACHE} {spelled(instant)}"
        case RebootServer(instant):
            return f"{RequestKind.REBOOT} {spelled(instant)}"
