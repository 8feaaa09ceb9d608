"""
Comments look as the files say, fit into a comment whatever there is to say, and are inert.

`pytest tests/golden --rewrite-golden` writes the files.
"""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from markdown_it.token import Token

from reconciler.errors import Exit, ServerUnreachable, worst
from reconciler.model.conditions import Code, Condition
from reconciler.model.observed import Robot
from reconciler.model.outcomes import Report
from reconciler.model.plan import Line, Plan, ServerPlan, Status
from reconciler.model.recipients import NewRecipient, Novelty
from reconciler.model.target import Target
from reconciler.render.escape import plain
from reconciler.render.markdown import code
from reconciler.render.plan_markdown import MARKER
from reconciler.render.registry import AuditPart, plan_renderer
from reconciler.render.verdicts import Level, level
from reconciler.testing.renderers import is_safe
from tests.golden import cases, markdown_cases
from tests.golden.markdown_cases import AT, FENCE, MARKUP, PLANS, REPORTS
from tests.golden.test_golden import PLANS as ALL_PLANS
from tests.golden.test_golden import REPORTS as ALL_REPORTS
from tests.golden.test_golden import check, rewrite

__all__ = ["rewrite"]
LIMIT = 60_000
HERE = Path(__file__).parent / "markdown"
RENDERER = plan_renderer("markdown")
GITHUB = MarkdownIt("gfm-like", {"html": True, "linkify": False})


def plan_of(name: str) -> str:
    shown = PLANS[name]()
    ends = worst(server.exit_code for server in shown.plan)
    return RENDERER.plan(shown.plan, ends, recorded=shown.recorded)


def report_of(reports: Sequence[Report]) -> str:
    plan = Plan(tuple(report.plan for report in reports))
    return RENDERER.done(plan, reports, worst(report.exit_code for report in reports), at=AT)


@pytest.mark.parametrize("name", PLANS)
def test_plan(name: str, *, rewrite: bool) -> None:
    check(HERE / f"plan-{name}.md", plan_of(name), rewrite=rewrite)


@pytest.mark.parametrize("name", REPORTS)
def test_report(name: str, *, rewrite: bool) -> None:
    check(HERE / f"apply-{name}.md", report_of(REPORTS[name]()), rewrite=rewrite)


def test_refused_and_already(*, rewrite: bool) -> None:
    moved, same = markdown_cases.refused().plan, cases.nothing_to_do().plan
    refused = RENDERER.refused(moved, Exit.BLOCKED, at=AT)
    check(HERE / "apply-refused.md", refused, rewrite=rewrite)
    check(HERE / "apply-already.md", RENDERER.already(same, Exit.DONE, at=AT), rewrite=rewrite)


def test_what_is_remembered_of_keys(*, rewrite: bool) -> None:
    plan = Plan((markdown_cases.rotated("osaka-1"),))
    said = markdown_cases.remembered_keys()
    text = RENDERER.plan(plan, Exit.DONE, recorded=True, audit=said)
    check(HERE / "plan-keys.md", text, rewrite=rewrite)


def test_every_file_is_a_case() -> None:
    known = {f"plan-{name}.md" for name in PLANS} | {f"apply-{name}.md" for name in REPORTS}
    assert {path.name for path in HERE.iterdir()} == known | {
        "plan-keys.md",
        "apply-refused.md",
        "apply-already.md",
    }


# ── inert ────────────────────────────────────────────────────────────────────────────────────

OURS = re.compile(
    rf"{re.escape(MARKER)}|<details><summary>[^<>`\n]*(?:<code>[^<>\n]*</code>)?[^<>\n]*</summary>"
    r"|</details>"
)


def leaves(tokens: Sequence[Token]) -> Iterator[Token]:
    for token in tokens:
        yield token
        yield from leaves(token.children or ())


def assert_inert(text: str) -> None:
    """Nothing but code holds foreign text, and no HTML is there but what folds the details."""
    assert is_safe(text)
    for token in leaves(GITHUB.parse(text)):
        assert token.type not in {"link_open", "image", "html_inline"}, token
        if token.type == "html_block":
            assert not OURS.sub("", token.content).strip(), token.content
        if token.type == "text":
            assert "evil" not in token.content, token.content
            assert "@" not in token.content, token.content
            assert "approved" not in token.content, token.content


@pytest.mark.parametrize("name", PLANS)
def test_a_plan_is_inert(name: str) -> None:
    assert_inert(plan_of(name))


@pytest.mark.parametrize("name", REPORTS)
def test_a_report_is_inert(name: str) -> None:
    assert_inert(report_of(REPORTS[name]()))


def test_folded_parts_are_as_many_as_we_made() -> None:
    text = plan_of("hostile")
    blocks = [t.content for t in GITHUB.parse(text) if t.type == "html_block"]
    opened = sum(block.count("<details>") for block in blocks)

    assert opened == sum(block.count("</details>") for block in blocks) == 3
    assert [t.tag for t in GITHUB.parse(text) if t.type == "heading_open"] == ["h3"]
    rows = [t for t in GITHUB.parse(text) if t.type == "td_open"]
    assert len(rows) == 4 * 4  # two servers, two that were not visited


@pytest.mark.parametrize("trap", [MARKUP, FENCE, "`", "``", "|", "\\", " ", "", "`a", "a`"])
def test_a_trap_stays_within_its_code(trap: str) -> None:
    text = f"| a | b |\n|---|---|\n| {code(trap, 400)} | {code('end')} |\n"
    found = [t.content for t in leaves(GITHUB.parse(text)) if t.type == "code_inline"]

    assert len(found) == 2
    assert found[1] == "end"


@pytest.mark.parametrize(
    "bad",
    ["[x](https://evil.test)", "<b>evil</b>", "<div>\n", "@acme/ops", "![p](https://evil.test)"],
)
def test_positive_control_live_markup_is_noticed(bad: str) -> None:
    with pytest.raises(AssertionError):
        assert_inert(f"{plan_of('one-rotation')}\n{bad}\n")


# ── short enough, and never silent ───────────────────────────────────────────────────────────

WORDS = ("x", "`" * 300, "|" * 900, "\u202e" * 500, "é" * 40, "<b>" * 200, MARKUP, FENCE)
FEW = settings(
    max_examples=10,
    deadline=None,
    phases=[Phase.explicit, Phase.generate],  # an example is a whole fleet: shrinking takes minutes
    suppress_health_check=[HealthCheck.too_slow],
)


class Recipe(NamedTuple):
    """What one server has to say: how much of what, in which words."""

    word: int
    lines: int
    statuses: list[Status]
    news: int
    notes: int
    held: bool
    failed: bool


RECIPES = st.builds(
    Recipe,
    st.integers(0, len(WORDS) - 1),
    st.sampled_from([0, 1, 30, 200]),
    st.lists(st.sampled_from(Status), min_size=1, max_size=3),
    st.sampled_from([0, 0, 1, 200]),
    st.sampled_from([0, 1, 90]),
    st.booleans(),
    st.booleans(),
)
FLEETS = st.tuples(
    st.lists(RECIPES, min_size=1, max_size=4),
    st.sampled_from([0, 1, 3, 60, 300]),
    st.sampled_from([0, 0, 1, 400]),
)


def fleet(recipes: Sequence[Recipe], number: int, away: int) -> Plan:
    """Few or very many servers, each with little or very much to say, in long words."""
    servers = tuple(_server(recipes[n % len(recipes)], n) for n in range(number))
    return Plan(servers, not_visited=(MARKUP * 3,) * away)


def _server(recipe: Recipe, number: int) -> ServerPlan:
    word, kinds = WORDS[recipe.word], recipe.statuses
    lines = (
        Line(f"{n}-{word}", kinds[n % len(kinds)], condition=Condition(Code.DUE, word, word))
        for n in range(recipe.lines)
    )
    return ServerPlan(
        f"s{number:04}",
        Target(f"https://{number}.test", "0"),
        word,
        new_recipient=(NewRecipient(Novelty.VALUES, word),) * recipe.news,
        lines=tuple(lines),
        robots=(Robot(1, word, "bybit", running=True),),
        notes=(word,) * recipe.notes,
        hold=Condition(Code.SUSPENDED, word) if recipe.held else None,
        failure=ServerUnreachable(word, word) if recipe.failed else None,
        observed_at="2026-11-22T09:00:00Z",
    )


@FEW
@given(made=FLEETS, recorded=st.booleans())
def test_any_plan_fits_and_says_what_it_left_out(
    made: tuple[list[Recipe], int, int], *, recorded: bool
) -> None:
    plan = fleet(*made)
    ends = worst(server.exit_code for server in plan)
    audit = AuditPart(Exit.DONE, f"{MARKUP}\n" * 900, {}) if recorded else None
    for text in (
        RENDERER.plan(plan, ends, recorded=recorded, audit=audit),
        RENDERER.refused(plan, Exit.BLOCKED, at=AT),
        RENDERER.already(plan, Exit.DONE, at=AT),
        RENDERER.done(plan, [Report(server) for server in plan], ends, at=AT),
    ):
        assert len(text) <= LIMIT
        assert is_safe(text)
        _assert_every_problem_is_told(plan, text)


def _assert_every_problem_is_told(plan: Plan, text: str) -> None:
    table = text.split("<details>", maxsplit=1)[0]
    told = sum(code(server.server) in table for server in plan if _is_a_problem(server))
    problems = sum(map(_is_a_problem, plan))
    if told < problems:
        (left,) = re.findall(r"\*\*(\d+) more servers? not in this table: ", table)
        assert int(left) >= problems - told
    if problems:
        assert "nothing to do on" not in table
    lines = text.split("\n")
    opened = sum(line.startswith("<details>") for line in lines)
    assert opened == lines.count("</details>")


def _is_a_problem(server: ServerPlan) -> bool:
    return level(server) not in {Level.NOTHING, Level.APPLIED}


def test_what_is_cut_is_the_least_important() -> None:
    (busy,) = cases.nobody_agreed().plan
    many = [markdown_cases.rotated(f"a{number:03}") for number in range(400)]
    down = cases.failed("zzz", ServerUnreachable("nobody answers", "see that it runs"))
    text = RENDERER.plan(Plan((*many, down, busy)), Exit.SERVER)
    rows = [line for line in text.split("\n") if line.startswith("| ") and "`" in line]

    assert "`zzz`" in rows[0]
    assert f"`{busy.server}`" in rows[1]
    (left,) = re.findall(
        r"\*\*(\d+) more servers not in this table: (\d+) with changes\.\*\*", text
    )
    assert int(left[0]) == int(left[1]) == 402 - len(rows)
    assert "sections had no room here" in text


def test_one_server_with_too_much_says_how_many_lines_went() -> None:
    notes = tuple(f"note {number}" for number in range(9000))
    server = ServerPlan("tokyo-1", Target("https://tokyo-1.test", "0"), notes=notes)
    text = RENDERER.plan(Plan((server,)), Exit.DONE)

    assert len(text) <= LIMIT
    shown = text.count("note: note")
    (left,) = re.findall(r"\.\.\. (\d+) of 9001 lines are left out here", text)
    assert int(left) == 9001 - shown - 1


# ── verdicts ─────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("name", ALL_PLANS)
def test_only_who_has_nothing_to_do_gets_the_green_sign(name: str) -> None:
    plan = ALL_PLANS[name]().plan
    for server in plan:
        if level(server) is Level.NOTHING:
            assert not server.differs
            assert server.exit_code is Exit.DONE
            assert not server.held
    ends = worst(server.exit_code for server in plan)
    assert ends is Exit.DONE or "✅" not in RENDERER.plan(plan, ends).split("\n")[1]


@pytest.mark.parametrize("name", ALL_REPORTS)
def test_only_what_went_well_was_applied(name: str) -> None:
    reports = ALL_REPORTS[name]()
    title = report_of(reports).split("\n")[1]
    ends = worst(report.exit_code for report in reports)

    assert ("✅" in title) == (ends is Exit.DONE)
    assert "2026-11-22T09:31:07Z" in title


def test_a_calm_plan_that_ends_badly_is_no_good_news() -> None:
    plan = cases.nothing_to_do().plan
    assert "✅" in RENDERER.plan(plan, Exit.DONE).split("\n")[1]
    assert "✅" not in RENDERER.plan(plan, Exit.BLOCKED).split("\n")[1]
    assert "✅" not in RENDERER.plan(plan, Exit.ERROR).split("\n")[1]


def test_nothing_compared_is_no_good_news() -> None:
    for plan in (Plan(()), Plan((markdown_cases.blank("osaka-1"),))):
        title = RENDERER.plan(plan, Exit.DONE, recorded=True).split("\n")[1]
        assert "✅" not in title
        assert "nothing to do" not in title
    assert "1 not compared" in RENDERER.plan(Plan((markdown_cases.blank("a"),)), Exit.DONE)


def test_robots_that_stop_are_named_above_the_details() -> None:
    text = plan_of("a-reboot").split("<details>")[0]
    assert "**stop:** `grid-btc`" in text
    assert plain("night-owl") not in text
