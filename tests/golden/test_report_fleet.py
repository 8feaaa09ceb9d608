"""
What was done on many servers fits one screen, and hides neither harm nor a robot.

`pytest tests/golden --rewrite-golden` writes the files.
"""

from collections.abc import Iterable
from pathlib import Path

import pytest

from reconciler.errors import Exit, ServerUnreachable
from reconciler.model.actions import WriteExchange
from reconciler.model.observed import Robot
from reconciler.model.outcomes import Outcome, Report, Result
from reconciler.model.plan import Plan, ServerPlan
from reconciler.model.recorded import Purpose
from reconciler.model.references import FrozenRef, SecretPath
from reconciler.model.target import Target
from reconciler.model.values import replace
from reconciler.render.layout import View
from reconciler.render.plan_text import PlanText, report_text
from reconciler.testing.renderers import EVERYTHING, is_safe, shows
from tests.golden.test_fleet import SCREEN, WIDTHS, screen_rows
from tests.golden.test_golden import check, rewrite

__all__ = ["rewrite"]
HERE = Path(__file__).parent / "fleet"
BRIEF = View(wide=False)


def write(name: str, version: int = 6) -> WriteExchange:
    """A write of bybit, from the server's own path."""
    ref = FrozenRef(SecretPath("secret", f"jt/{name}/bybit"), version, "", None)
    return WriteExchange("bybit", (("apiKey", "bybit_api_key"),), (("", ref),), Purpose.CHANGE)


def report(name: str, *outcomes: Outcome, failure: Exception | None = None) -> Report:
    server = ServerPlan(name, Target(f"https://{name}.test", "0"))
    return Report(server, outcomes, failure)  # type: ignore[arg-type]


def done(name: str, version: int = 6) -> Report:
    return report(name, Outcome(write(name, version), Result.DONE))


def harmed(name: str) -> Report:
    robots = (Robot(1, "grid-btc", "bybit", running=True), Robot(2, "arb", "okx", running=True))
    said = f"robots stopped on {name}: grid-btc, arb"
    remedy = "start them on the server's page; the brake stays on"
    return report(name, Outcome(write(name), Result.HARM, said, remedy, Exit.HARM, robots))


def fleet() -> list[Report]:
    """Forty-eight alike, two that are older, and all that can go wrong."""
    stopped = Robot(7, "grid-of-osaka-2", "okx", running=True)
    held = "stopped: robots stopped around a write on osaka-8"
    return [
        *(done(f"tokyo-{n}") for n in range(1, 49)),
        *(done(f"kyoto-{n}", version=2) for n in range(1, 3)),
        report("osaka-1", Outcome(write("osaka-1"), Result.NOT_VERIFIABLE)),
        report("osaka-2", Outcome(write("osaka-2"), Result.DONE, stopped=(stopped,))),
        report(
            "osaka-3",
            Outcome(
                write("osaka-3"), Result.UNKNOWN, "osaka-3 did not answer", "look", Exit.SERVER
            ),
        ),
        *(
            report(name, failure=ServerUnreachable(f"no connection to {name}", "check it"))
            for name in ("osaka-4", "osaka-5")
        ),
        *(
            report(name, Outcome(write(name), Result.NOT_ATTEMPTED, held, code=Exit.BLOCKED))
            for name in ("osaka-6", "osaka-7")
        ),
        harmed("osaka-8"),
        harmed("osaka-9"),
        report("osaka-10"),
    ]


@pytest.mark.parametrize("width", WIDTHS)
def test_a_report(width: int, *, rewrite: bool) -> None:
    text = report_text(fleet(), BRIEF._replace(width=width))

    assert screen_rows(text, width) <= SCREEN
    check(HERE / f"report-{width}.txt", text, rewrite=rewrite)


def test_what_is_alike_is_one_line_and_harm_comes_first_and_alone() -> None:
    rows = report_text(fleet(), BRIEF).split("\n")

    assert "  ✓ write bybit -> 50 servers: @2 kyoto-1, kyoto-2; @6 tokyo-1 .. tokyo-48" in rows
    assert rows[0] == "HARM"
    assert [row.split("  start")[0] for row in rows if "harm:" in row] == [
        f"  ! {name}: write bybit: harm: robots stopped on {name}: grid-btc, arb"
        for name in ("osaka-8", "osaka-9")
    ]
    assert rows.index("Problems") < rows.index("Done")
    assert rows[-2].startswith("Applied: 52 done, ")


def test_every_server_of_which_there_is_something_is_named_with_its_robots() -> None:
    text = report_text([report for report in fleet() if "o-" not in report.plan.server], BRIEF)

    assert all(f"osaka-{n}" in text for n in range(2, 10))
    assert "warning: stopped meanwhile: grid-of-osaka-2 (7)" in text
    assert "osaka-10" not in text  # nothing was to be done there


def test_few_servers_and_who_wants_all_see_each_by_itself() -> None:
    few = fleet()[:3]

    assert report_text(few, BRIEF) == report_text(few)
    assert report_text(fleet(), View()).count("✓ write bybit: done") == 51


def test_a_quiet_apply_says_nothing_of_nothing() -> None:
    quiet = PlanText().seen(View(wide=False, changes_only=True, quiet=True))
    idle = [report("tokyo-1")]
    plan = Plan(tuple(one.plan for one in idle))

    assert quiet.done(plan, idle, Exit.DONE) == ""
    assert quiet.done(plan, idle, Exit.BLOCKED) != ""
    assert "tokyo-1" in quiet.done(plan, [done("tokyo-1")], Exit.DONE)


def test_all_that_can_become_of_an_action_is_told_of_many_servers_too() -> None:
    reports = list(many(EVERYTHING.reports[0][:1]))
    text = report_text(reports, BRIEF)

    assert is_safe(text)
    for outcome in reports[0].outcomes:
        assert outcome.result is Result.DONE or str(outcome.result) in text
        assert all(shows(text, word) for word in (outcome.detail, outcome.remedy))


def many(reports: Iterable[Report]) -> Iterable[Report]:
    for one in reports:
        for number in range(5):
            yield replace(one, plan=replace(one.plan, server=f"tokyo-{number}"))
