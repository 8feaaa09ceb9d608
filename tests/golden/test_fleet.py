"""
The plan of a fleet fits one screen, and hides nothing that matters.

`pytest tests/golden --rewrite-golden` writes the files.
"""

import random
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from reconciler.errors import Exit, ServerUnreachable
from reconciler.model.actions import (
    Action,
    Consequence,
    DeleteExchange,
    Disruptive,
    Need,
    Reason,
    RebootServer,
    RestartRobots,
    WriteExchange,
)
from reconciler.model.conditions import Code, Condition
from reconciler.model.desired import Afterwards
from reconciler.model.observed import Robot
from reconciler.model.plan import Category, Disruption, Line, Plan, ServerPlan, Standing, Status
from reconciler.model.policy import PolicyAction, Violation
from reconciler.model.recipients import NewRecipient, Novelty
from reconciler.model.recorded import Debt, Owed, Purpose
from reconciler.model.target import Target
from reconciler.model.values import replace
from reconciler.render.fleet import FEW
from reconciler.render.items import items
from reconciler.render.layout import View, columns, folded, ranges
from reconciler.render.plan_text import PlanText, plan_text
from reconciler.render.server_text import FINISHED
from reconciler.render.verdicts import Level, level
from reconciler.testing.renderers import is_safe
from tests.golden import cases, fleet_cases
from tests.golden.test_golden import PLANS as ALL_PLANS
from tests.golden.test_golden import check, rewrite
from tests.support.counts import drawn

__all__ = ["rewrite"]
HERE = Path(__file__).parent / "fleet"
BRIEF = View(wide=False)
SCREEN = 50
WIDTHS = [40, 80, 120]


def seen(plan: Plan, **view: object) -> str:
    return plan_text(plan, view=BRIEF._replace(**view))  # type: ignore[arg-type]


def screen_rows(text: str, width: int) -> int:
    """Rows of a terminal; one that is too wide takes several."""
    return sum(max(1, -(-columns(row) // width)) for row in text.removesuffix("\n").split("\n"))


# ── five hundred servers ─────────────────────────────────────────────────────────────────────


def test_the_fleet_is_what_it_says() -> None:
    plan = fleet_cases.fleet()
    levels = [level(server) for server in plan]

    assert len(levels) == 500
    assert levels.count(Level.NOTHING) == 477


@pytest.mark.parametrize("width", WIDTHS)
def test_a_plan(width: int, *, rewrite: bool) -> None:
    check(HERE / f"plan-{width}.txt", seen(fleet_cases.fleet(), width=width), rewrite=rewrite)


@pytest.mark.parametrize("width", [80, 100, 120, 200])
def test_a_plan_fits_one_screen(width: int) -> None:
    assert screen_rows(seen(fleet_cases.fleet(), width=width), width) <= SCREEN


def test_robots_that_stop_are_named_with_their_servers() -> None:
    text = seen(fleet_cases.fleet())

    for name in fleet_cases.RESTARTED:
        number = name[-1]
        assert f"grid-{number}, arb-{number} on {name}" in text
    assert "robots that stop and are started again: grid-2, arb-2;" in text


def stopping(number: int) -> ServerPlan:
    """A server whose one robot, which has a name of its own, is restarted."""
    robot = (Robot(1, f"robot-of-{number}", "okx", running=True),)
    restart = Disruption(
        "restart robots on okx",
        Standing.DUE,
        Condition(Code.DUE, f"robot-of-{number}"),
        action=RestartRobots("okx", robot),
        robots=robot,
    )
    return ServerPlan(
        f"a-{number}", Target(f"https://a-{number}.test", "0"), disruptions=(restart,)
    )


def test_however_many_robots_stop_all_are_named() -> None:
    plan = Plan(tuple(stopping(number) for number in range(40)))
    text = seen(plan, width=80)

    assert "a-0 .. a-39 (40 servers): restart robots on okx  due" in text
    assert all(f"robot-of-{number} on" in " ".join(text.split()) for number in range(40))


def test_a_server_that_nobody_looked_at_is_named() -> None:
    unseen = [ServerPlan(f"b-{n}", Target(f"https://b-{n}.test", "0")) for n in range(5)]

    assert "! b-0 .. b-4 (5 servers): not compared; see --wide" in seen(Plan(tuple(unseen)))


def test_wide_and_the_default_of_the_form_show_every_server() -> None:
    plan = fleet_cases.fleet()
    for text in (seen(plan, wide=True), PlanText().plan(plan, Exit.DONE)):
        assert text.count("= in sync: bybit") >= 477
        assert all(f"\n{name}  https://" in f"\n{text}" for name in fleet_cases.NAMES)


def test_only_changes_and_nothing_of_what_is_in_sync() -> None:
    whole = seen(fleet_cases.fleet()).split("\n")
    changes = seen(fleet_cases.fleet(), changes_only=True).split("\n")

    assert [row for row in whole if row not in changes and row[:2] != "= "] == []
    assert not any(row.startswith("= ") for row in changes)


def test_quiet_is_silent_only_where_there_is_nothing_to_do() -> None:
    assert seen(cases.nothing_to_do().plan, quiet=True, changes_only=True) == ""
    text = seen(fleet_cases.fleet(), quiet=True, changes_only=True)
    assert "tokyo-50" in text
    assert "has a cost" not in text


# ── few servers ──────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("name", [name for name in ALL_PLANS if "handled" not in name])
def test_few_servers_are_told_as_one_by_one(name: str) -> None:
    """Worst first, and otherwise as they were; only finished requests are shorter."""
    plan = ALL_PLANS[name]().plan
    whole, brief = plan_text(plan), seen(plan)
    blocks = set(whole.split("\n\n"))

    for block in brief.split("\n\n"):
        assert block in blocks or level(next(iter(plan))) is Level.NOTHING


def test_finished_requests_take_one_line() -> None:
    found = seen(ALL_PLANS["027-handled"]().plan)

    assert "= finished requests: invalidate-cache 2026-11-22T08:00:00Z superseded\n" in found
    assert "! reboot 2026-11-22T09:00:00Z  NOT done\n" in found


def test_calm_servers_beside_few_others_are_one_line() -> None:
    (quiet,) = cases.nothing_to_do().plan
    (owing,) = cases.debts().plan
    calm = [replace(quiet, server=f"a-{n}") for n in range(1, 30)]
    text = seen(Plan((*calm, owing)))

    assert text.startswith("tokyo-1  https://")
    assert "= 29 servers in sync: a-1 .. a-29\n" in text


# ── any plan: nothing that matters is hidden ─────────────────────────────────────────────────

NAMES = st.sampled_from([f"{region}-{n}" for region in ("tokyo", "osaka") for n in range(1, 14)])
WORDS = st.sampled_from(("because", "key of tokyo-2", "\x1b[2J\u202e", "bybit {server}"))
CODES = st.sampled_from(("bybit", "okx"))
ROBOTS = st.lists(
    st.builds(
        Robot, st.integers(1, 3), st.sampled_from(("grid", "arb", "mm")), CODES, st.just(True)
    ),
    unique_by=lambda robot: robot.name,
    max_size=2,
).map(tuple)
SOME = settings(
    deadline=None,
    max_examples=drawn(40),
    phases=[Phase.explicit, Phase.generate],  # an example is a whole fleet: shrinking takes minutes
)
INSTANT = fleet_cases.NOW
CALM = ServerPlan("tokyo-1", Target("https://a.test", "0"), observed_at="2026-11-22T09:00:00Z")


@st.composite
def lines(draw: st.DrawFn, name: str) -> Line:
    code, status = draw(CODES), draw(st.sampled_from(list(Status)))
    write = WriteExchange(code, (("api_key", "apiKey"),), (), Purpose.CHANGE)
    actions: dict[Status, Action] = {
        Status.WRITE: write,
        Status.LEFT_ALONE: write,
        Status.DELETE: DeleteExchange(code, ("api_key",)),
    }
    action = actions.get(status)
    robots = draw(ROBOTS)
    return Line(
        code,
        status,
        category=draw(st.sampled_from(Category)),
        reason=draw(st.sampled_from((Reason.ABSENT, Reason.NEW_VERSION))),
        condition=Condition(
            Code.IN_SYNC,
            draw(WORDS),
            draw(st.sampled_from(("", f"jtr do {name}/{code}"))),
            Exit.BLOCKED if status in (Status.BLOCKED, Status.FAILED) else Exit.DONE,
        ),
        action=action,
        asks="--correct-drift" if status is Status.LEFT_ALONE else "",
        consequence=Consequence(robots, draw(st.sampled_from(Need))) if action else None,
        sources=(f"vault:secret/{name}/{code}@{draw(st.integers(1, 2))}",) if action else (),
        note=draw(st.sampled_from(("", "ignored: x"))),
    )


@st.composite
def disruptions(draw: st.DrawFn) -> Disruption:
    robots, standing = draw(ROBOTS), draw(st.sampled_from(Standing))
    listed = ", ".join(robot.name for robot in robots)
    reboot = RebootServer(INSTANT, "r", Afterwards.RESUME, 600.0)
    action: Disruptive = reboot if draw(st.booleans()) else RestartRobots("okx", robots)
    return Disruption(
        draw(st.sampled_from(("reboot 1", "restart robots on okx"))),
        standing,
        Condition(
            Code.DUE,
            draw(st.sampled_from(("", listed, f"they stop: {listed}; and others"))),
            draw(st.sampled_from(("", "jtr request resolve SERVER"))),
            Exit.BLOCKED if standing is Standing.BLOCKED else Exit.DONE,
        ),
        action=action if standing in (Standing.DUE, Standing.SCHEDULED) else None,
        robots=robots,
    )


@st.composite
def servers(draw: st.DrawFn, name: str) -> ServerPlan:
    some = st.sampled_from((0, 0, 0, 1, 2))

    def few(strategy: st.SearchStrategy[object]) -> tuple[object, ...]:
        return tuple(draw(st.lists(strategy, max_size=draw(some))))

    word = draw(WORDS)
    code = draw(st.sampled_from((Exit.DONE, Exit.BLOCKED)))
    hold = Condition(Code.SUSPENDED, word, word, code)
    fails = draw(st.sampled_from((False, False, False, True)))
    return ServerPlan(
        name,
        Target(f"https://{name}.test", "0"),
        new_recipient=few(  # type: ignore[arg-type]
            st.builds(NewRecipient, st.sampled_from(Novelty), st.just(f"vault:secret/{name}/okx"))
        ),
        violations=few(  # type: ignore[arg-type]
            st.builds(Violation, st.just(PolicyAction.WRITE), CODES, WORDS, WORDS, WORDS)
        ),
        lines=few(lines(name)),  # type: ignore[arg-type]
        disruptions=few(disruptions()),  # type: ignore[arg-type]
        debts=few(  # type: ignore[arg-type]
            st.builds(
                Debt, st.sampled_from(Owed), CODES, WORDS, st.just(1), st.just(1), st.just("grid")
            )
        ),
        notes=few(WORDS),  # type: ignore[arg-type]
        hold=draw(st.sampled_from((None, None, None, hold))) if word else None,
        failure=ServerUnreachable(f"{name} is away", word) if fails else None,
        observed_at=draw(st.sampled_from(("2026-11-22T09:00:00Z", "2026-11-22T09:00:00Z", ""))),
    )


@st.composite
def plans(draw: st.DrawFn) -> Plan:
    names = draw(st.lists(NAMES, unique=True, min_size=1, max_size=14))
    away = draw(st.lists(st.integers(1, 9), unique=True, max_size=2))
    return Plan(
        tuple(draw(servers(name)) for name in names),
        not_visited=tuple(f"kyoto-{n}: nobody answers" for n in away),
    )


@dataclass(frozen=True)
class Block:
    """A line with its sign, and the lines that belong to it."""

    head: str
    below: str

    @property
    def servers(self) -> set[str]:
        return named(self.head)

    def says(self, word: str, server: str) -> bool:
        """Whether it says *word* of this server, in so many words or of several."""
        text = f"{self.head}\n{self.below}"
        return safe(word) in text or safe(word).replace(server, "{server}") in text


def safe(word: str) -> str:
    return word.replace("\x1b", "\\u001b").replace("\u202e", "\\u202e")


def named(text: str) -> set[str]:
    """All servers that *text* names, also those in the midst of a range."""
    found = set(re.findall(r"[a-z]+-[0-9]+", text))
    for region, first, last in re.findall(r"([a-z]+-)([0-9]+) \.\. \1([0-9]+)", text):
        found |= {f"{region}{n}" for n in range(int(first), int(last) + 1)}
    return found


def blocks(text: str) -> list[Block]:
    """What stands in the sections."""
    rows = text.split("\n")
    heads = [n for n, row in enumerate(rows) if re.match("  [^ ] ", row)]
    ends = [*heads[1:], len(rows)]
    return [
        Block(rows[n], "\n".join(rows[n + 1 : end])) for n, end in zip(heads, ends, strict=True)
    ]


def said(server: ServerPlan) -> Iterator[tuple[str, ...]]:
    """What nobody may miss of a server: words that stand together."""
    for new in server.new_recipient:
        yield ("»", new.what)
    if server.failure is not None:
        yield ("!", server.failure.what, server.failure.remedy)
    else:
        yield from (("!", one.what, one.remedy) for one in server.violations)
        yield from _compared(server)
    for line in server.disruptions:
        if line.standing not in FINISHED or server.failure is not None:
            yield (line.what,) if server.held else (line.what, line.standing, *_names(line.robots))


def _compared(server: ServerPlan) -> Iterator[tuple[str, ...]]:
    if server.held:
        yield (f"nothing is applied: {server.held}",)
    for line in server.lines:
        if line.status in (Status.BLOCKED, Status.FAILED):
            yield ("!", line.exchange, line.status, line.why, line.remedy)
        elif line.action is not None and server.held:
            yield (line.exchange, *(source.rpartition("@")[2] for source in line.sources))
        elif isinstance(line.action, DeleteExchange):
            yield ("delete", line.exchange)
        elif line.action is not None:
            (source,) = line.sources
            path, _, version = source.rpartition("@")
            robots = line.consequence.robots if line.consequence and line.ready else ()
            restarts = any(isinstance(one.ready, RestartRobots) for one in server.disruptions)
            yield (line.exchange, path, f"@{version}", *(() if restarts else _names(robots)))
    for debt in server.debts:
        yield (debt.exchange, *(["grid"] if debt.owed is Owed.RESTART else []))


def _names(robots: tuple[Robot, ...]) -> tuple[str, ...]:
    return tuple(robot.name for robot in robots)


def assert_all_is_said(plan: Plan, text: str) -> None:
    there = blocks(text)
    for server in plan:
        mine = [block for block in there if server.server in block.servers]
        for words in said(server):
            found = [
                block for block in mine if all(block.says(word, server.server) for word in words)
            ]
            assert found, (server.server, words, text)
        if level(server) is not Level.NOTHING:
            assert mine, (server.server, text)
    for away in plan.not_visited:
        name, _, why = away.partition(": ")
        assert any(name in block.servers and block.says(why, name) for block in there)


@SOME
@given(plan=plans())
def test_every_change_problem_recipient_and_robot_is_told_with_its_server(plan: Plan) -> None:
    loud = [server for server in plan if level(server) is not Level.NOTHING]
    text = seen(plan)

    assert is_safe(text)
    assert plan.id in text or not (plan.actions or any(one.new_recipient for one in plan))
    if len(loud) + len(plan.not_visited) > FEW:
        assert_all_is_said(plan, text)
    else:
        assert all(f"\n{server.server}  https://" in f"\n{text}" for server in loud)
    calm = len(plan.servers) - len(loud)
    if calm > 1:
        assert f"= {calm} servers in sync" in text


@pytest.mark.parametrize("status", Status)
def test_an_exchange_of_which_something_is_said_is_no_calm_one(status: Status) -> None:
    write = WriteExchange("okx", (("api_key", "apiKey"),), (), Purpose.CHANGE)
    acts = status in (Status.WRITE, Status.LEFT_ALONE, Status.DELETE)
    line = Line("okx", status, action=write if acts else None)

    assert_calm_is_what_nothing_is_said_of(replace(CALM, lines=(line,)))


@pytest.mark.parametrize("standing", Standing)
def test_a_request_of_which_something_is_said_is_no_calm_one(standing: Standing) -> None:
    reboot = RebootServer(INSTANT, "r", Afterwards.RESUME, 600.0)
    action = reboot if standing in (Standing.DUE, Standing.SCHEDULED) else None
    line = Disruption("reboot 1", standing, action=action)

    assert_calm_is_what_nothing_is_said_of(replace(CALM, disruptions=(line,)))


def assert_calm_is_what_nothing_is_said_of(server: ServerPlan) -> None:
    """Two rooms decide it: the verdict counts it, and the items tell it."""
    assert (level(server) is Level.NOTHING) == (not list(items(server)))


@SOME
@given(plan=plans(), seed=st.integers(0, 9))
def test_neither_order_nor_grouping_changes_the_plan(plan: Plan, seed: int) -> None:
    turned = list(plan.servers)
    random.Random(seed).shuffle(turned)
    other = replace(plan, servers=tuple(turned))

    assert seen(other) == seen(plan)
    assert other.id == plan.id


def test_positive_control_a_hidden_line_is_noticed() -> None:
    plan = fleet_cases.fleet()
    text = seen(plan)
    assert_all_is_said(plan, text)

    for hidden in (
        "tokyo-50",
        " -> london-1",
        "tokyo-1 .. ",
        "grid-3, arb-3",
        "take-over",
        "okx@1",
    ):
        assert hidden in text
        with pytest.raises(AssertionError):
            assert_all_is_said(plan, text.replace(hidden, ""))


# ── any width ────────────────────────────────────────────────────────────────────────────────

ROWS = st.lists(
    st.lists(st.text("ab≠漢é", max_size=30) | st.just("x" * 90), max_size=12).map(" ".join),
    max_size=6,
).map("\n".join)


def assert_folds(text: str, width: int) -> None:
    found = folded(text, width)
    assert found.split() == text.split()
    for row in found.split("\n"):
        if columns(row) > width and not row.lstrip().startswith(("jtr ", "bao kv ")):
            # Only a word that fits into no line may stick out, and nothing comes behind it.
            assert columns(row.split(" ")[-1]) > width - len(row) + len(row.lstrip()) - 6


@SOME
@given(plan=plans(), width=st.integers(40, 130))
def test_no_word_is_broken_and_nothing_but_a_long_word_is_too_wide(plan: Plan, width: int) -> None:
    assert_folds(seen(plan), width)
    assert_folds(plan_text(plan), width)


@SOME
@given(text=ROWS, sign=st.sampled_from(("", "  ! ", "    ~ ", "      ")), width=st.integers(40, 99))
def test_any_text_folds(text: str, sign: str, width: int) -> None:
    assert_folds("\n".join(f"{sign}{row}" for row in text.split("\n")), width)


def test_a_command_that_stands_alone_stays_whole() -> None:
    command = "      jtr request resume tokyo-1 --leave --because TEXT --from servers"

    assert folded(command, 40) == command
    assert "\n" in folded(f"  say {command.lstrip()}", 40)


def test_what_fits_is_left_as_it_is() -> None:
    assert folded("  ! a  b\n\nc", 40) == "  ! a  b\n\nc"
    assert folded("word " * 30, None) == "word " * 30


@given(st.sets(NAMES | st.sampled_from(("a", "a-01", "a-02", "a-03", "a-3", "7", "8", "9", "10"))))
def test_ranges_are_exactly_the_names(names: set[str]) -> None:
    found: list[str] = []
    for part in ranges(names):
        first, dots, last = part.partition(" .. ")
        if not dots:
            found.append(part)
            continue
        stem = first.rstrip("0123456789")
        digits = len(first) - len(stem)
        numbers = range(int(first[len(stem) :]), int(last[len(stem) :]) + 1)
        found += [f"{stem}{str(n).zfill(digits)}" for n in numbers]
    assert sorted(found) == sorted(names)
