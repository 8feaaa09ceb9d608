"""
The story of `jtr demo`: each step runs the real command and is judged by the server's own record.

The command runs as a process of its own with nothing of this process's environment, so the story
proves what a user gets.
"""

import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import reconciler
from reconciler.formats import counted
from reconciler.sandbox.playground import DECLARED, DOCUMENTS, ROWS, SERVER, SETTLE, Playground
from reconciler.sandbox.record import Record

_PATIENCE: Final = 60.0  # seconds for one command, which takes about one
_ROBOTS: Final = frozenset({1, 2})
_PLANNED: Final = re.compile(r"^    ([+~≠!-]) (\S+)  ", re.MULTILINE)
_PLAN_ID: Final = re.compile(r"^Plan id: (sha256:[0-9a-f]{64})$", re.MULTILINE)
_THAT_PLAN: Final = "PLANID"  # in a step's arguments: the id that the last plan had
_CREDENTIALS: Final = frozenset({"exchange-config-save", "exchange-config-delete"})
_READS: Final = frozenset(
    {
        *("exchange-config-request", "engine-config-request"),
        *("background-jobs-list-request", "logs-list-request"),
    }
)
_APPLY: Final = ("apply", DOCUMENTS, "--auto-approve")
_PLAN: Final = ("plan", DOCUMENTS)
_OWED: Final = (
    r"owed: restart of robot grid-btc \(1\): it holds the bybit key",
    r"owed: restart of robot arb \(2\): it holds the okx key",
)


@dataclass(frozen=True, slots=True)
class Tally:
    """What a server has counted; the difference of two tallies is what happened between them."""

    connections: int = 0
    events: int = 0
    saves: int = 0
    fields: int = 0
    deletes: int = 0

    @classmethod
    def of(cls, record: Record) -> "Tally":
        """Return what *record* says now."""
        return cls(
            len(record.handshakes),
            len(record.received),
            record.saves,
            record.rows_written,
            record.rows_deleted,
        )

    def since(self, earlier: "Tally") -> "Tally":
        """Return what happened since *earlier*."""
        return Tally(
            self.connections - earlier.connections,
            self.events - earlier.events,
            self.saves - earlier.saves,
            self.fields - earlier.fields,
            self.deletes - earlier.deletes,
        )

    def __str__(self) -> str:
        if not self.connections:
            return "not contacted"
        if not self.events:
            return f"{counted(self.connections, 'connection')}, no event"
        said = []
        if self.saves or self.fields:
            said += [counted(self.saves, "save"), counted(self.fields, "field")]
        if self.deletes:
            said.append(f"{counted(self.deletes, 'field')} deleted")
        return ", ".join(said) or "nothing written"


@dataclass(frozen=True, slots=True)
class Step:
    """
    One command and what must come of it.

    `planned` are the signs and exchanges of the plan's lines, `says` patterns in the output.
    `stores` are exchanges that the server then holds as Vault does, `removes` those it no longer
    holds; every other value must be as before.
    """

    what: str
    args: tuple[str, ...]
    came: str
    prepare: Callable[[], None] = lambda: None
    code: int = 0
    planned: frozenset[tuple[str, str]] = frozenset()
    says: tuple[str, ...] = ()
    visits: bool = True
    refused: bool = False
    stores: tuple[str, ...] = ()
    removes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Ran:
    """How a command ended; *code* is None when it did not end in time."""

    args: tuple[str, ...]
    code: int | None
    output: str


@dataclass(slots=True)
class Demo:
    """
    Tells the story on a playground that has been entered.

    *show* prints; *check* is called between commands and raises when a person wants to stop.
    """

    ground: Playground
    show: Callable[[str], None]
    check: Callable[[], None] = lambda: None
    verbose: bool = False
    _expected: dict[str, str] = field(default_factory=dict)
    _plan_id: str = ""

    def run(self) -> bool:
        """Tell all of it; False when a step did not come out as it must."""
        began = time.monotonic()
        steps = self._steps()
        for number, step in enumerate(steps, 1):
            self.check()
            step.prepare()
            before = Tally.of(self.ground.server.record)
            ran = self._jtr(step.args)
            done = Tally.of(self.ground.server.record).since(before)
            wrong = list(self._wrong(step, ran, done))
            self._tell(number, step, ran, done, failed=bool(wrong))
            if wrong:
                self._explain(number, ran, wrong)
                return False
        took = time.monotonic() - began
        self.show(
            f"\nAll {len(steps)} steps held by the server's own record, in {took:.0f} s; both "
            "robots ran all the time.\nPlay with it yourself: jtr sandbox\n"
        )
        return True

    # ── the story ────────────────────────────────────────────────────────────────────────

    def _steps(self) -> tuple[Step, ...]:
        new = frozenset(("+", code) for code in DECLARED)
        drift, okx = frozenset({("≠", "okx")}), (r"okx  write .*somebody changed it",)
        kucoin = f"{SERVER}/kucoin"
        return (
            Step(
                "check the documents",
                ("validate", DOCUMENTS),
                "valid",
                says=("^valid: 1 server, 3 exchanges",),
                visits=False,
            ),
            Step(
                "plan",
                _PLAN,
                "3 exchanges to write",
                planned=new,
                says=("^Blast radius: 1 server, 3 exchanges, 2 robots",),
            ),
            Step("begin a ledger", ("ledger", "init"), "begun", visits=False),
            Step("apply", _APPLY, "3 done", planned=new, stores=DECLARED),
            Step("plan again", _PLAN, "no action; both robots are owed a restart", says=_OWED),
            Step("apply again", _APPLY, "no action", says=("^Nothing to do",)),
            Step(
                "bybit rotated in Vault; plan",
                _PLAN,
                "exactly bybit; robot grid-btc keeps the old key",
                prepare=lambda: self._rotate("bybit"),
                planned=frozenset({("~", "bybit")}),
                says=(r"robot grid-btc \(1\) keeps the old key until restarted$",),
            ),
            Step(
                "apply that plan and no other",
                ("apply", DOCUMENTS, "--expect", _THAT_PLAN),
                "1 done",
                planned=frozenset({("~", "bybit")}),
                stores=("bybit",),
            ),
            Step(
                "okx changed by hand on the server; plan",
                _PLAN,
                "shown as drift",
                prepare=lambda: self._type("okx_api_secret"),
                planned=drift,
                says=okx,
            ),
            Step("apply", _APPLY, "drift left alone", planned=drift, says=("left alone",)),
            Step(
                "correct it",
                (*_APPLY, "--correct-drift"),
                "1 done",
                planned=drift,
                says=okx,
                stores=("okx",),
            ),
            Step(
                "kucoin connected by hand, declared with another key; apply",
                _APPLY,
                "blocked",
                prepare=self._connect_kucoin,
                code=4,
                planned=frozenset({("!", "kucoin")}),
                says=("blocked: somebody else connected it with another key",),
            ),
            Step(
                "take it over",
                (*_APPLY, "--take-over", kucoin),
                "1 done",
                planned=frozenset({("~", "kucoin")}),
                stores=("kucoin",),
            ),
            Step(
                "kucoin `state: absent`; apply",
                _APPLY,
                "deleted, nothing else touched",
                prepare=lambda: self.ground.declare(*DECLARED, absent=["kucoin"]),
                planned=frozenset({("-", "kucoin")}),
                removes=("kucoin",),
            ),
            Step(
                "a wrong access secret; plan",
                _PLAN,
                "a clear error",
                prepare=self.ground.spoil_access,
                code=6,
                says=("the server did not accept the access secret", "spec.accessSecret"),
                refused=True,
            ),
            Step(
                "broken YAML and a pasted key; apply",
                _APPLY,
                "refused, with positions",
                prepare=self._break_documents,
                code=3,
                says=(
                    rf"^{DOCUMENTS}/broken\.yaml:6:3: .*line 5, column 3",
                    rf"^{DOCUMENTS}/broken\.yaml:8:\d+: ",
                ),
                visits=False,
            ),
        )

    def _rotate(self, exchange: str) -> None:
        self.ground.rotate(exchange)

    def _type(self, row: str) -> None:
        """Change a value as somebody does on the server's Config page."""
        self._expected[row] = self.ground.made_up()
        self.ground.server.set_value(row, self._expected[row])

    def _connect_kucoin(self) -> None:
        for row in ROWS["kucoin"].values():
            self._type(row)
        self.ground.rotate("kucoin")
        self.ground.declare(*DECLARED, "kucoin")

    def _break_documents(self) -> None:
        self.ground.spoil_access(back=True)
        (self.ground.documents / "broken.yaml").write_text(
            "apiVersion: jtr/v1\n"
            "kind: TradingServer\n"
            "metadata: {name: osaka-1}\n"
            "spec:\n"
            "  url: https://osaka-1.internal\n"
            "  url: https://osaka-2.internal\n"
            "  exchanges:\n"
            f"    bybit: {{credentials: {self.ground.made_up()}}}\n",
            "utf-8",
        )

    # ── doing and judging ────────────────────────────────────────────────────────────────

    def _jtr(self, args: tuple[str, ...]) -> Ran:
        args = tuple(self._plan_id if arg == _THAT_PLAN else arg for arg in args)
        environment = self.ground.environment() | {"HOME": str(self.ground.folder)}
        root = Path(reconciler.__file__).parent.parent
        if not root.name.endswith("-packages"):
            environment["PYTHONPATH"] = str(root)  # a source tree, which nobody installed
        try:
            done = subprocess.run(  # noqa: S603  - our own interpreter and package
                [sys.executable, "-m", "reconciler", *args],
                env=environment,
                cwd=self.ground.folder,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                encoding="utf-8",
                errors="replace",
                timeout=_PATIENCE,
                check=False,
                start_new_session=True,  # Ctrl-C is ours to handle: this one ends first
            )
        except subprocess.TimeoutExpired:
            return Ran(args, None, "")
        if found := _PLAN_ID.search(done.stdout):
            self._plan_id = found[1]
        return Ran(args, done.returncode, done.stdout)

    def _wrong(self, step: Step, ran: Ran, done: Tally) -> Iterator[tuple[str, str]]:
        """Give what was expected and what was seen, for everything that does not agree."""
        if self.ground.reveals(ran.output):
            yield "no secret in the output", "a trace of one"
        if ran.code != step.code:
            ended = "no end in time" if ran.code is None else f"exit code {ran.code}"
            yield f"exit code {step.code}", ended
        planned = frozenset(_PLANNED.findall(ran.output))
        if planned != step.planned:
            yield f"planned: {_listed(step.planned)}", _listed(planned)
        for pattern in step.says:
            if not re.search(pattern, ran.output, re.MULTILINE):
                yield f"the output says {pattern!r}", "it does not"
        yield from self._wrong_counts(step, done)
        yield from self._wrong_server(step)

    def _wrong_counts(self, step: Step, done: Tally) -> Iterator[tuple[str, str]]:
        wanted = Tally(
            connections=int(step.visits),
            events=0 if step.refused or not step.visits else done.events,
            saves=len(step.stores),
            fields=sum(len(ROWS[exchange]) for exchange in step.stores),
            deletes=sum(len(ROWS[exchange]) for exchange in step.removes),
        )
        if done != wanted:
            yield f"server: {wanted!r}", repr(done)
        if step.visits and not step.refused and not done.events:
            yield "events at the server", "none"

    def _wrong_server(self, step: Step) -> Iterator[tuple[str, str]]:
        server, record = self.ground.server, self.ground.server.record
        for exchange in step.stores:
            self._expected |= self.ground.in_vault[exchange]
        for exchange in step.removes:
            for row in ROWS[exchange].values():
                del self._expected[row]
        stored = server.values()
        names = stored.keys() | self._expected.keys()
        if off := sorted(n for n in names if stored.get(n) != self._expected.get(n)):
            yield "the server stores what it must", f"it differs in {', '.join(off)}"
        if len(server.rows()) != len(stored):
            yield "one row for each field", "duplicates"
        sent = {received.event for received in record.received}
        if strange := sent - _READS - _CREDENTIALS:
            yield (
                "only reads, saves and deletes",
                f"also {', '.join(map(str, sorted(strange, key=str)))}",
            )
        stops = record.robot_stops + record.reboots + record.invalidations + record.fatal_paths
        if server.robots_running() != _ROBOTS or stops:
            running = sorted(server.robots_running())
            yield "robots 1 and 2 run, never stopped", f"{running} run, {stops} stops or hazards"

    # ── telling ──────────────────────────────────────────────────────────────────────────

    def _tell(self, number: int, step: Step, ran: Ran, done: Tally, *, failed: bool) -> None:
        command = re.sub(r"(sha256:[0-9a-f]{6})[0-9a-f]+", r"\1…", " ".join(("jtr", *ran.args)))
        line = f"{'!' if failed else '✓'} {number:2} {step.what}: {command}"
        if not failed:
            running = counted(len(self.ground.server.robots_running()), "robot")
            line += f" → {step.came}; server: {done}, {running} running"
        self.show(f"{line}\n")
        if self.verbose and not failed:
            self._show_output(ran)

    def _explain(self, number: int, ran: Ran, wrong: list[tuple[str, str]]) -> None:
        for expected, seen in wrong:
            self.show(f"     expected  {expected}\n     seen      {seen}\n")
        self._show_output(ran)
        self.show(f"\nStep {number} did not come out as it must; the demo ends here.\n")

    def _show_output(self, ran: Ran) -> None:
        self.show(f"     $ {' '.join(('jtr', *ran.args))}\n")
        if self.ground.reveals(ran.output):
            self.show("     (its output is withheld: a trace of a secret stands in it)\n")
            return
        self.show("".join(f"     {line}\n" if line else "\n" for line in ran.output.splitlines()))


def introduction(folder: Path) -> str:
    """Return what is said before the first step."""
    return (
        "A real OpenBao and a stand-in JT-Trader with two running robots, both on loopback, with\n"
        f"made-up credentials, in {folder}.  Nothing of yours is read or changed.\n"
        f"`settle` is {SETTLE} instead of 10s: nobody types secrets here.\n\n"
    )


def _listed(planned: frozenset[tuple[str, str]]) -> str:
    return ", ".join(f"{sign} {code}" for sign, code in sorted(planned)) or "nothing"
