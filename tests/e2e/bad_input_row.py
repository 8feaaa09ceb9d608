"""One row of the table of bad input: what goes wrong, and how it must end."""

import enum
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from reconciler.errors import Exit
from tests.e2e.bad_input_setup import Setup

VALIDATE = "validate {docs}"
PLAN = "plan {docs}"
APPLY = "apply {docs} --auto-approve"
LENIENT_PLAN = "plan {docs} --on-unreachable skip"
LENIENT_APPLY = "apply {docs} --auto-approve --on-unreachable skip"
REMEMBERED = "bybit: written from {path}/tokyo-1/bybit@1"


class Scope(enum.Enum):
    """How far a bad thing reaches; what is outside of it must go on."""

    NOTHING = "nothing is written to any server, though all are looked at"
    ALL = "nothing is done to any server, and none is even contacted"
    SERVER = "nothing is written to tokyo-1, everything is to osaka-1"
    EXCHANGE = "nothing is written to bybit of tokyo-1, everything else is"
    WRITE = "the write itself goes wrong at tokyo-1"


@dataclass(frozen=True, slots=True)
class Row:
    """
    *ends* gives the exit code of each command line; the messages of all must say *what* is wrong
    and the *remedy*, both as fragments separated by ` … `.

    *connections* is how many connections one visiting command may open to tokyo-1, *asks* whether
    it may send anything on them.  For Scope.WRITE: *saves* and *rows* that reached the server.
    """

    name: str
    spoil: Callable[[Setup], object]
    ends: Mapping[str, Exit]
    what: str
    remedy: str
    scope: Scope = Scope.SERVER
    connections: int = 1
    asks: bool = True
    tls: bool = False
    saves: int = 0
    rows: int = 0
    remembers: str = REMEMBERED
    environment: Mapping[str, str] = field(default_factory=dict)


def offline(code: Exit) -> dict[str, Exit]:
    """Return how the commands end on a bad document."""
    return dict.fromkeys((VALIDATE, PLAN, APPLY), code)


def visiting(code: Exit) -> dict[str, Exit]:
    """Return how the commands end that need more than documents."""
    return dict.fromkeys((PLAN, APPLY), code)


def unreachable() -> dict[str, Exit]:
    """Return how the commands end for a server that may be back soon, and when told to skip it."""
    return {
        LENIENT_PLAN: Exit.DONE,
        PLAN: Exit.SERVER,
        APPLY: Exit.SERVER,
        LENIENT_APPLY: Exit.DONE,
    }
