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
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from reconciler.model.wording import counted
from reconciler.sandbox.demo.audit import audit_steps
from reconciler.sandbox.demo.controller import Beside, controller_steps
from reconciler.sandbox.demo.credentials import credential_steps, mistake_steps
from reconciler.sandbox.demo.requests import request_steps
from reconciler.sandbox.demo.steps import (
    READS,
    THAT_INSTANT,
    THAT_PLAN,
    Done,
    Hands,
    Ran,
    Step,
    Tally,
    invocation,
)
from reconciler.sandbox.playground import INTERVAL, ROWS, SETTLE, Playground

_PATIENCE: Final = 60.0  # seconds for one command, which takes about one
_POLL: Final = 0.005  # seconds between two looks whether it is time to kill a command
_GOODBYE: Final = 2.0  # seconds; the server notices the end of a process within milliseconds
_PLANNED: Final = re.compile(r"^    ([+~≠!-]) (\S+)  ", re.MULTILINE)
_FOUND: Final = {
    THAT_PLAN: re.compile(r"^Plan id: (sha256:[0-9a-f]{64})$", re.MULTILINE),
    THAT_INSTANT: re.compile(r"jtr request resolve \S+ \S+ (\S+) "),
}
"""What a later command takes over from the output of an earlier one."""


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
    _beside: Beside = field(init=False)
    _found: dict[str, str] = field(default_factory=dict, init=False)
    _trading: frozenset[str] = field(default=frozenset(), init=False)

    def __post_init__(self) -> None:
        self._hands = Hands(self.ground)
        self._beside = Beside(self.ground)

    def run(self) -> bool:
        """Tell all of it; False when a step did not come out as it must."""
        with self._beside:
            return self._story()

    def _story(self) -> bool:
        began = time.monotonic()
        record = self.ground.server.record
        steps = self._steps()
        # Whatever is counted belongs to a step: a controller works between two of them, too.
        before, done_before = Tally(), Done()
        for number, step in enumerate(steps, 1):
            self.check()
            step.prepare()
            ran = self._jtr(step) if step.runs is None else step.runs(step.args)
            self._let_go(step)
            after, done_after = Tally.of(record, self.ground.asked()), Done.of(record)
            tally, done = after.since(before), done_after.since(done_before)
            sent = {one.event for one in record.received[before.events :]}
            before, done_before = after, done_after
            wrong = list(self._wrong(step, ran, tally, done, sent))
            self._tell(number, step, ran, self._counts(tally, done), failed=bool(wrong))
            if wrong:
                self._explain(number, ran, wrong)
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
        hands = self._hands
        return (
            *credential_steps(hands),
            *audit_steps(hands),
            *request_steps(hands),
            *controller_steps(hands, self._beside),
            *mistake_steps(hands),
        )

    # ── doing and judging ────────────────────────────────────────────────────────────────

    def _jtr(self, step: Step) -> Ran:
        args = tuple(self._found.get(arg, arg) for arg in step.args)
        command, environment = invocation(self.ground, args)
        with subprocess.Popen(  # noqa: S603  - our own interpreter and package
            command,
            env=environment,
            cwd=self.ground.folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            errors="replace",
            start_new_session=True,  # Ctrl-C is ours to handle: this one ends first
        ) as process:
            try:
                if step.kills is not None:
                    _kill(process, step.kills)
                output, _ = process.communicate(timeout=_PATIENCE)
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

    def _wrong(
        self, step: Step, ran: Ran, tally: Tally, done: Done, sent: Collection[str | None]
    ) -> Iterator[tuple[str, str]]:
        """Give what was expected and what was seen, for everything that does not agree."""
        if self.ground.reveals(ran.output):
            yield "no secret in the output", "a trace of one"
        if ran.code != step.code:
            yield _ended(step.code), _ended(ran.code)
        planned = frozenset(_PLANNED.findall(ran.output))
        if planned != step.planned:
            yield f"planned: {_listed(step.planned)}", _listed(planned)
        for pattern in step.says:
            if not re.search(pattern, ran.output, re.MULTILINE):
                yield f"the output says {pattern!r}", "it does not"
        yield from self._wrong_counts(step, tally, done, sent)
        yield from self._wrong_values(step)
        yield from self._wrong_robots(step)

    def _wrong_counts(
        self, step: Step, tally: Tally, done: Done, sent: Collection[str | None]
    ) -> Iterator[tuple[str, str]]:
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
        if done != Done(step.did):
            wanted_done = str(Done(step.did)) or "nothing"
            yield f"the server: {wanted_done}", str(done) or "nothing"
        if strange := set(sent) - READS - step.sends:
            yield (
                f"only reads and {', '.join(sorted(step.sends))}",
                f"also {', '.join(map(str, sorted(strange, key=str)))}",
            )
        if (opened := self._open()) != step.held:
            yield f"{counted(step.held, 'connection')} open afterwards", f"{opened}"

    def _wrong_values(self, step: Step) -> Iterator[tuple[str, str]]:
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

    def _wrong_robots(self, step: Step) -> Iterator[tuple[str, str]]:
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
            yield (
                f"robots trade with what Vault holds: {sorted(self._trading)}",
                f"those on {sorted(trading)}",
            )

    # ── telling ──────────────────────────────────────────────────────────────────────────

    def _tell(self, number: int, step: Step, ran: Ran, counts: str, *, failed: bool) -> None:
        command = re.sub(r"(sha256:[0-9a-f]{6})[0-9a-f]+", r"\1…", shlex.join(("jtr", *ran.args)))
        line = f"{'!' if failed else '✓'} {number:2} {step.what}: {command}"
        if not failed:
            line += f" → {step.came}; {counts}"
        self.show(f"{line}\n")
        if self.verbose and not failed:
            self._show_output(ran)

    def _counts(self, tally: Tally, done: Done) -> str:
        counts = ", ".join(filter(None, (str(tally), str(done)))) or "nothing written"
        running = counted(len(self.ground.server.robots_running()), "robot")
        asked = f"; exchanges: {counted(tally.calls, 'request')}" if tally.calls else ""
        return f"server: {counts}, {running} running{asked}"

    def _explain(self, number: int, ran: Ran, wrong: list[tuple[str, str]]) -> None:
        for expected, seen in wrong:
            self.show(f"     expected  {expected}\n     seen      {seen}\n")
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


def _kill(process: subprocess.Popen[str], when: Callable[[], bool]) -> None:
    """Kill a command by its id as soon as *when* holds, unless it ended before."""
    deadline = time.monotonic() + _PATIENCE
    while process.poll() is None and time.monotonic() < deadline:
        if when():
            process.kill()
            return
        time.sleep(_POLL)


def _ended(code: int | None) -> str:
    return "no end" if code is None else f"exit code {code}"


def _listed(planned: frozenset[tuple[str, str]]) -> str:
    return ", ".join(f"{sign} {code}" for sign, code in sorted(planned)) or "nothing"
