"""
What the story of `jtr demo` is made of: steps, and what a server counted.
"""

import operator
import shlex
import subprocess
import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import IO, Final, NamedTuple

from msgspec import Struct

import reconciler
from reconciler.model.wording import counted
from reconciler.sandbox.jt_trader.record import Record
from reconciler.sandbox.playground import DOCUMENTS, Playground

APPLY: Final = f"apply {DOCUMENTS} --auto-approve"
THAT_PLAN: Final = "PLANID"  # in a step's command: the id that the last plan had
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
_COUNTED: Final = ("save", "delete")  # a tally has their numbers


class Tally(NamedTuple):
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
        return Tally(*map(operator.sub, self, earlier))

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


def deeds(history: Sequence[tuple[object, ...]]) -> str:
    """Say what a server did to robots, cache and process, in its order; see `Record.history`."""
    done = [deed for deed in history if deed[0] not in _COUNTED]
    return ", ".join(
        " ".join(map(str, (_WORDS.get(str(what), what), *rest))) for what, *rest in done
    )


class Ran(NamedTuple):
    """How a command ended; *code* is None when it did not, or not in time."""

    args: tuple[str, ...]
    code: int | None
    output: str


class Seen(NamedTuple):
    """What became of one step: the command's end, and what the server noted meanwhile."""

    ran: Ran
    tally: Tally
    did: str = ""
    sent: Collection[str | None] = ()


class Step(Struct, frozen=True):
    """
    One command, and in words what it is for and what came of it.

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
    came: str
    command: str = APPLY
    prepare: Callable[[], object] = lambda: None
    afterwards: Callable[[], object] = lambda: None
    kills: Callable[[], bool] | None = None
    runs: Callable[[tuple[str, ...]], Ran] | None = None
    code: int | None = 0
    planned: str = ""
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
    did: str = ""
    running: frozenset[int] = ROBOTS
    trades: frozenset[str] | None = None

    @property
    def args(self) -> tuple[str, ...]:
        return tuple(shlex.split(self.command))


def started(
    ground: Playground, args: Sequence[str], output: int | IO[bytes]
) -> subprocess.Popen[bytes]:
    """Start `jtr` with *args* in a session of its own: Ctrl-C is for us to handle."""
    command, environment = invocation(ground, args)
    return subprocess.Popen(  # noqa: S603  - our own interpreter and package
        command,
        env=environment,
        cwd=ground.repository,
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )


def invocation(ground: Playground, args: Sequence[str]) -> tuple[list[str], Mapping[str, str]]:
    """Return what runs `jtr` with *args*, and an environment with nothing of this process's."""
    environment = ground.environment() | {"HOME": str(ground.folder)}
    root = Path(reconciler.__file__).parent.parent
    if not root.name.endswith("-packages"):
        environment["PYTHONPATH"] = str(root)  # a source tree, which nobody installed
    return [sys.executable, "-m", "reconciler", *args], environment
