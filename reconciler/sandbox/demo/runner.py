"""
The story of `jtr demo`: each step runs the real command and is judged by the server's own record.

The command runs as a process of its own with nothing of this process's environment, so the story
proves what a user gets.
"""

import re
import shlex
import subprocess
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from reconciler.model.wording import counted
from reconciler.sandbox.demo.controller import Beside
from reconciler.sandbox.demo.steps import (
    READS,
    THAT_INSTANT,
    THAT_PLAN,
    Ran,
    Seen,
    Step,
    Tally,
    deeds,
    started,
)
from reconciler.sandbox.demo.story import Hands, story
from reconciler.sandbox.playground import INTERVAL, ROWS, SETTLE, Playground

_PATIENCE: Final = 60.0  # seconds for one command, which takes about one
_POLL: Final = 0.005  # seconds between two looks whether it is time to kill a command
_GOODBYE: Final = 20.0  # seconds; the server notices the end of a process within milliseconds
_PLANNED: Final = re.compile(r"^    ([+~≠!-]) (\S+)  ", re.MULTILINE)
_FOUND: Final = {
    THAT_PLAN: re.compile(r"^Plan id: (sha256:[0-9a-f]+-[0-9a-f]+)$", re.MULTILINE),
    THAT_INSTANT: re.compile(r"jtr request resolve \S+ \S+ (\S+) "),
}
"""What a later command takes over from the output of an earlier one."""

Wrong = Iterator[tuple[str, str]]  # what was expected and what was seen


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
    _hands: Hands = field(init=False)
    _found: dict[str, str] = field(default_factory=dict, init=False)
    _trading: frozenset[str] = field(default=frozenset(), init=False)

    def __post_init__(self) -> None:
        self._hands = Hands(self.ground, Beside(self.ground))

    def run(self) -> bool:
        """Tell all of it; False when a step did not come out as it must."""
        with closing(self._hands.beside):
            return self._story()

    def _story(self) -> bool:
        began = time.monotonic()
        record = self.ground.server.record
        steps = self._steps()
        # Whatever is counted belongs to a step: a controller works between two of them, too.
        before, told = Tally(), 0
        for number, step in enumerate(steps, 1):
            self.check()
            step.prepare()
            ran = self._jtr(step) if step.runs is None else step.runs(step.args)
            self._let_go(step)
            after = Tally.of(record, self.ground.asked())
            sent = {one.event for one in record.received[before.events :]}
            seen = Seen(ran, after.since(before), deeds(record.history[told:]), sent)
            before, told = after, len(record.history)
            wrong = list(self._wrong(step, seen))
            self._tell(number, step, seen, wrong)
            if wrong:
                return False
            step.afterwards()
        took = time.monotonic() - began
        self.show(
            f"\nAll {len(steps)} steps held by the server's own record, in {took:.0f} s.\n"
            f"It counts {counted(record.reboots, 'reboot')} and "
            f"{counted(record.invalidations, 'invalidation')}; no robot stopped for another reason "
            "than these reboots, its restart, or by itself.\nPlay with it yourself: jtr sandbox\n"
        )
        return True

    def _steps(self) -> tuple[Step, ...]:
        return story(self._hands)

    # ── doing and judging ────────────────────────────────────────────────────────────────

    def _jtr(self, step: Step) -> Ran:
        args = tuple(self._found.get(arg, arg) for arg in step.args)
        with started(self.ground, args, subprocess.PIPE) as process:
            try:
                if step.kills is not None:
                    _kill(process, step.kills)
                output = process.communicate(timeout=_PATIENCE)[0].decode("utf-8", "replace")
            except subprocess.TimeoutExpired:
                process.kill()
                return Ran(args, None, "")
            except BaseException:
                process.kill()
                raise
        for name, pattern in _FOUND.items():
            if found := pattern.search(output):
                self._found[name] = found[1]
        return Ran(args, process.returncode, output)

    def _let_go(self, step: Step) -> None:
        """Wait until the server noticed which connections ended with the command."""
        deadline = time.monotonic() + _GOODBYE
        while self._open() != step.held and time.monotonic() < deadline:
            time.sleep(_POLL)

    def _open(self) -> int:
        return len(self.ground.server.connections())

    def _wrong(self, step: Step, seen: Seen) -> Wrong:
        """Give what was expected and what was seen, for everything that does not agree."""
        ran = seen.ran
        if self.ground.reveals(ran.output):
            yield "no secret in the output", "a trace of one"
        if ran.code != step.code:
            yield _ended(step.code), _ended(ran.code)
        lines = {f"{sign} {code}" for sign, code in _PLANNED.findall(ran.output)}
        if (planned := ", ".join(sorted(lines))) != step.planned:
            yield f"planned: {step.planned or 'nothing'}", planned or "nothing"
        for pattern in step.says:
            if not re.search(pattern, ran.output, re.MULTILINE):
                yield f"the output says {pattern!r}", "it does not"
        if seen.did != step.did:
            yield f"the server: {step.did or 'nothing'}", seen.did or "nothing"
        yield from self._wrong_counts(step, seen.tally, seen.sent)
        yield from self._wrong_values(step)
        yield from self._wrong_robots(step)

    def _wrong_counts(self, step: Step, tally: Tally, sent: Collection[str | None]) -> Wrong:
        silent = step.refused or not step.connections
        wanted = Tally(
            connections=step.connections,
            events=0 if silent and not step.watched else tally.events,
            saves=len(step.stores),
            fields=sum(len(ROWS[exchange]) for exchange in step.stores),
            deletes=sum(len(ROWS[exchange]) for exchange in step.removes),
            asked=step.asked,
            calls=step.calls,
        )
        if tally != wanted:
            yield f"server: {wanted!r}", repr(tally)
        if not silent and not tally.events:
            yield "events at the server", "none"
        if strange := set(sent) - READS - step.sends:
            names = ", ".join(map(str, sorted(strange, key=str)))
            yield f"only reads and {', '.join(sorted(step.sends))}", f"also {names}"
        if (opened := self._open()) != step.held:
            yield f"{counted(step.held, 'connection')} open afterwards", f"{opened}"

    def _wrong_values(self, step: Step) -> Wrong:
        server, expected = self.ground.server, self._hands.expected
        for exchange in step.stores:
            expected |= self.ground.in_vault[exchange]
        for exchange in step.removes:
            for row in ROWS[exchange].values():
                del expected[row]
        stored = server.values()
        names = stored.keys() | expected.keys()
        if off := sorted(n for n in names if stored.get(n) != expected.get(n)):
            yield "the server stores what it must", f"it differs in {', '.join(off)}"
        if len(server.rows()) != len(stored):
            yield "one row for each field", "duplicates"

    def _wrong_robots(self, step: Step) -> Wrong:
        server, record = self.ground.server, self.ground.server.record
        hazards = record.fatal_paths + record.crashes
        running = server.robots_running()
        if running != step.running or hazards:
            wanted = f"robots {sorted(step.running)} run, no hazard"
            yield wanted, f"{sorted(running)} run, {counted(hazards, 'hazard')}"
        if unfit := [start for start in record.starts if not start.registered]:
            yield "somebody is registered at every start", counted(len(unfit), "start") + " without"
        if step.trades is not None:
            self._trading = step.trades
        trading = {
            robot.exchange
            for robot in self.ground.robots
            if server.robot_credentials(robot.id) == self.ground.in_vault[robot.exchange]
        }
        if trading != self._trading:
            wanted = f"robots trade with what Vault holds: {sorted(self._trading)}"
            yield wanted, f"those on {sorted(trading)}"

    # ── telling ──────────────────────────────────────────────────────────────────────────

    def _tell(
        self, number: int, step: Step, seen: Seen, wrong: Collection[tuple[str, str]]
    ) -> None:
        ran, tally = seen.ran, seen.tally
        command = re.sub(r"(sha256:[0-9a-f]{6})[0-9a-f-]+", r"\1…", shlex.join(("jtr", *ran.args)))
        line = f"{number:2} {step.what}: {command}"
        if not wrong:
            counts = ", ".join(filter(None, (str(tally), seen.did))) or "nothing written"
            running = counted(len(self.ground.server.robots_running()), "robot")
            asked = f"; exchanges: {counted(tally.calls, 'request')}" if tally.calls else ""
            self.show(f"✓ {line} → {step.came}; server: {counts}, {running} running{asked}\n")
            if self.verbose:
                self._show_output(ran)
            return
        self.show(f"! {line}\n")
        for expected, found in wrong:
            self.show(f"     expected  {expected}\n     seen      {found}\n")
        self._show_output(ran)
        self.show(f"\nStep {number} did not come out as it must; the demo ends here.\n")

    def _show_output(self, ran: Ran) -> None:
        self.show(f"     $ {shlex.join(('jtr', *ran.args))}\n")
        if self.ground.reveals(ran.output):
            self.show("     (its output is withheld: a trace of a secret stands in it)\n")
            return
        self.show("".join(f"     {line}\n" if line else "\n" for line in ran.output.splitlines()))


def introduction(folder: Path) -> str:
    """Return what is said before the first step."""
    return (
        "A real OpenBao, a stand-in JT-Trader with two running robots and stand-ins of exchanges,\n"
        f"all on loopback, with made-up credentials, in {folder}.\n"
        "Nothing of yours is read or changed.\n"
        f"`settle` is {SETTLE} instead of 10s: nobody types secrets here.\n"
        f"The controller looks each {INTERVAL} instead of each minute: nobody waits here.\n\n"
    )


def _kill(process: subprocess.Popen[bytes], when: Callable[[], bool]) -> None:
    """Kill a command by its id as soon as *when* holds, unless it ended before."""
    deadline = time.monotonic() + _PATIENCE
    while process.poll() is None and time.monotonic() < deadline:
        if when():
            process.kill()
            return
        time.sleep(_POLL)


def _ended(code: int | None) -> str:
    return "no end" if code is None else f"exit code {code}"
