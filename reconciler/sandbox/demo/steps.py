"""
What the story of `jtr demo` is made of: steps, what a server counted, and what people do by hand.
"""

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import reconciler
from reconciler.model.wording import counted
from reconciler.sandbox.jt_trader.record import Record
from reconciler.sandbox.playground import DOCUMENTS, Playground

APPLY: Final = ("apply", DOCUMENTS, "--auto-approve")
PLAN: Final = ("plan", DOCUMENTS)
THAT_PLAN: Final = "PLANID"  # in a step's arguments: the id that the last plan had
RESTART: Final = "robots: {onCredentialChange: restart}"  # a line of a document
THAT_INSTANT: Final = "INSTANT"  # likewise: of the request that it said is in doubt
ROBOTS: Final = frozenset({1, 2})
READS: Final = frozenset(
    {
        *("exchange-config-request", "engine-config-request"),
        *("background-jobs-list-request", "logs-list-request"),
    }
)
CREDENTIALS: Final = frozenset({"exchange-config-save", "exchange-config-delete"})
STARTS: Final = frozenset({"run-background-job-request"})
RESTARTS: Final = frozenset({"stop-background-job-request"}) | STARTS
CACHE: Final = frozenset({"invalidate-cache-request"})
REBOOT: Final = frozenset({"reboot-system-request"})

_WORDS: Final = {
    "force-stop": "stopped by itself: robot",
    "invalidate": "cache invalidated",
    "reboot": "rebooted",
    "start": "started robot",
    "stop": "stopped robot",
}
_COUNTED: Final = frozenset({"save", "delete"})  # a tally has their numbers


@dataclass(frozen=True, slots=True)
class Tally:
    """
    What a server has counted; the difference of two tallies is what happened between them.

    `calls` are the requests that the exchanges have counted.
    """

    connections: int = 0
    events: int = 0
    saves: int = 0
    fields: int = 0
    deletes: int = 0
    asked: int = 0  # requests to reboot or to invalidate, whatever became of them
    calls: int = 0

    @classmethod
    def of(cls, record: Record, calls: int = 0) -> "Tally":
        """Return what *record* says now, and the exchanges' own count of *calls*."""
        return cls(
            len(record.handshakes),
            len(record.received),
            record.saves,
            record.rows_written,
            record.rows_deleted,
            record.reboot_requests + record.invalidation_requests,
            calls,
        )

    def since(self, earlier: "Tally") -> "Tally":
        """Return what happened since *earlier*."""
        return Tally(
            self.connections - earlier.connections,
            self.events - earlier.events,
            self.saves - earlier.saves,
            self.fields - earlier.fields,
            self.deletes - earlier.deletes,
            self.asked - earlier.asked,
            self.calls - earlier.calls,
        )

    def __str__(self) -> str:
        if not self.connections and not self.events:
            return "not contacted"
        if not self.events:
            return f"{counted(self.connections, 'connection')}, no event"
        said = []
        if self.saves or self.fields:
            said += [counted(self.saves, "save"), counted(self.fields, "field")]
        if self.deletes:
            said.append(f"{counted(self.deletes, 'field')} deleted")
        if self.asked:
            said.append(counted(self.asked, "request"))
        return ", ".join(said)


@dataclass(frozen=True, slots=True)
class Done:
    """What a server did to robots, cache and process, in its order; see `Record.history`."""

    deeds: tuple[tuple[Any, ...], ...] = ()

    @classmethod
    def of(cls, record: Record) -> "Done":
        """Return what *record* says now."""
        return cls(tuple(deed for deed in record.history if deed[0] not in _COUNTED))

    def since(self, earlier: "Done") -> "Done":
        """Return what was done since *earlier*."""
        return Done(self.deeds[len(earlier.deeds) :])

    def __str__(self) -> str:
        words = ((_WORDS.get(what, what), *rest) for what, *rest in self.deeds)
        return ", ".join(" ".join(map(str, deed)) for deed in words)


@dataclass(frozen=True, slots=True)
class Ran:
    """How a command ended; *code* is None when it did not, or not in time."""

    args: tuple[str, ...]
    code: int | None
    output: str


@dataclass(frozen=True, slots=True)
class Step:
    """
    One command and what must come of it.

    `planned` are the signs and exchanges of the plan's lines, `says` patterns in the output.
    `stores` are exchanges that the server then holds as Vault does, `removes` those it no longer
    holds; every other value must be as before.  `connections` are those that the server counts, and
    besides reads it receives no event but those that `sends` names, of which `asked` are one-shots.
    `calls` are the requests that the exchanges count.
    `did` is what it did to robots, cache and process.  `running` are the robots that run
    afterwards, and `trades` the exchanges whose robot then trades with what Vault holds (None: the
    same ones as before).  `held` connections are open afterwards.  With `kills` the command is
    killed as soon as that is true; with `runs` that runs it, and `code` is None when it goes on
    running.  While a controller is `watched` the server may be read without a new connection.
    `prepare` is called before the command, `afterwards` when it has ended.
    """

    what: str
    args: tuple[str, ...]
    came: str
    prepare: Callable[[], None] = lambda: None
    afterwards: Callable[[], None] = lambda: None
    kills: Callable[[], bool] | None = None
    runs: Callable[[tuple[str, ...]], Ran] | None = None
    code: int | None = 0
    planned: frozenset[tuple[str, str]] = frozenset()
    says: tuple[str, ...] = ()
    connections: int = 1
    held: int = 0
    watched: bool = False
    refused: bool = False
    sends: frozenset[str] = CREDENTIALS
    stores: tuple[str, ...] = ()
    removes: tuple[str, ...] = ()
    asked: int = 0
    calls: int = 0
    did: tuple[tuple[Any, ...], ...] = ()
    running: frozenset[int] = ROBOTS
    trades: frozenset[str] | None = None


@dataclass(slots=True)
class Hands:
    """What people do by hand, and what the server must store because of it."""

    ground: Playground
    expected: dict[str, str] = field(default_factory=dict)

    def type(self, row: str) -> None:
        """Change a value as somebody does on the server's Config page."""
        self.expected[row] = self.ground.made_up()
        self.ground.server.set_value(row, self.expected[row])


def invocation(ground: Playground, args: Sequence[str]) -> tuple[list[str], Mapping[str, str]]:
    """Return what runs `jtr` with *args*, and an environment with nothing of this process's."""
    environment = ground.environment() | {"HOME": str(ground.folder)}
    root = Path(reconciler.__file__).parent.parent
    if not root.name.endswith("-packages"):
        environment["PYTHONPATH"] = str(root)  # a source tree, which nobody installed
    return [sys.executable, "-m", "reconciler", *args], environment
