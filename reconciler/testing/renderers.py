"""
What every form of a plan is held to, as a suite that whoever writes one can import.

    class TestTable(RendererContract):
        @pytest.fixture
        def renderer(self) -> PlanRenderer:
            return plan_renderer("table")  # reconciler/render/plan_table.py
"""

import json
import unicodedata
from collections.abc import Iterator, Sequence
from secrets import token_hex
from typing import Final

import pytest
from msgspec import Struct

from reconciler.errors import Exit, ServerUnreachable, worst
from reconciler.model.actions import Consequence, Need, RestartRobots, WriteExchange
from reconciler.model.conditions import Code, Condition
from reconciler.model.observed import Robot
from reconciler.model.outcomes import Outcome, Report, Result
from reconciler.model.plan import Disruption, Line, Plan, ServerPlan, Standing, Status
from reconciler.model.policy import PolicyAction, Violation
from reconciler.model.recipients import NewRecipient, Novelty
from reconciler.model.recorded import Debt, Owed, Purpose
from reconciler.model.target import Target
from reconciler.render.escape import plain
from reconciler.render.registry import PlanRenderer

TARGET: Final = Target("https://tokyo-1.internal:8443", "0")


class Cases(Struct, frozen=True):
    """Plans, and what became of some: one sequence of reports for every pass."""

    plans: Sequence[Plan]
    reports: Sequence[Sequence[Report]]


_SAID_ELSEWHERE: Final = (Status.BLOCKED, Status.FAILED)  # words of servers and documents in it


def foreign(word: str) -> str:
    """Return *word* as somebody names a robot who wants to drive the terminal of who reads it."""
    return f"{word}\x1b[2J\u202e\r\n{word}"


def _everything() -> Cases:
    """One server with every kind of line there is, and some of which nothing is applied."""
    robot = Robot(7, foreign("grid"), "bybit", running=True)
    write = WriteExchange("bybit", (("bybit_api_key", "apiKey"),), (), Purpose.CHANGE)
    restart = RestartRobots("bybit", (robot,))
    lines = (
        Line(
            f"exchange-{number}",
            status,
            condition=Condition(
                Code.IN_SYNC,
                foreign(f"because of {status}") if status in _SAID_ELSEWHERE else "as we say",
                f"do something about {status}",
            ),
            action=write if status is Status.WRITE else None,
            consequence=Consequence((robot,), Need.RESTART) if status is Status.WRITE else None,
        )
        for number, status in enumerate(Status)
        if status is not Status.SETTLING  # a controller's, which shows no plan
    )
    disruptions = (
        Disruption(
            f"a restart {number}",
            standing,
            Condition(Code.DUE, foreign(f"for {standing.name.lower()}")),
            action=restart if standing is Standing.DUE else None,
            robots=(robot,),
        )
        for number, standing in enumerate(Standing)
    )
    busy = ServerPlan(
        "tokyo-1",
        TARGET,
        foreign("desk"),
        new_recipient=(NewRecipient(Novelty.VALUES, foreign("a secret")),),
        violations=(
            Violation(
                PolicyAction.REBOOT, "", foreign("denied by rule 3"), "3 calm", foreign("ask less")
            ),
        ),
        lines=tuple(lines),
        disruptions=tuple(disruptions),
        debts=(Debt(Owed.RESTART, "okx", "2026-11-22T09:01:00Z", 1, 8, foreign("arb")),),
        robots=(robot,),
        notes=(foreign("a note"),),
    )
    why = Condition(Code.SUSPENDED, foreign("suspended"), foreign("wait"))
    held = ServerPlan("tokyo-2", TARGET, hold=why)
    error = ServerUnreachable(foreign("nobody answers"), foreign("see that it runs"))
    failed = ServerPlan("tokyo-3", TARGET, failure=error)
    outcomes = (
        Outcome(write, result, foreign(f"it was {result}"), foreign(f"look at {result}"))
        for result in Result
    )
    return Cases(
        [Plan((busy, held, failed), not_visited=("tokyo-4",)), Plan((busy,)), Plan(())],
        [[Report(busy, tuple(outcomes)), Report(held)], [Report(failed, failure=error)]],
    )


EVERYTHING: Final = _everything()


def shows(text: str, word: str) -> bool:
    """Whether *word* stands there, escaped for a terminal or JSON, wherever lines break."""
    return _unfolded(plain(word, 400)) in _unfolded(text) or json.dumps(word)[1:-1] in text


def _unfolded(text: str) -> str:
    return " ".join(text.split())


def words_of(server: ServerPlan) -> Iterator[str]:
    """What nobody may miss of one server."""
    yield from (server.server, server.target.url, server.held)
    if server.failure is not None:
        yield from (server.failure.what, server.failure.remedy)
        return  # nothing was compared
    yield from server.notes
    yield from (one.what for one in server.new_recipient)
    for violation in server.violations:
        yield from (violation.what, violation.remedy)
    for line in server.lines:
        yield line.exchange
        if line.status in (Status.BLOCKED, Status.FAILED):
            yield from (line.why, line.remedy)
        if line.ready is not None and line.consequence is not None:
            yield from (robot.name for robot in line.consequence.robots)
    for disruption in server.disruptions:
        yield from (disruption.what, str(disruption.standing), disruption.why)
    for debt in server.debts:
        yield from (debt.exchange, debt.since[:19], debt.robot_name)  # to the second


def is_safe(text: str) -> bool:
    """Whether nothing in *text* drives a terminal or hides."""
    return all(character == "\n" or unicodedata.category(character)[0] != "C" for character in text)


class RendererContract:
    """
    The promises of `reconciler.render.registry.PlanRenderer`.

    A subclass gives `renderer`, and `cases` where it has more to show than `EVERYTHING`.
    """

    @pytest.fixture
    def renderer(self) -> PlanRenderer:
        """Return what is held to the contract."""
        raise NotImplementedError

    @pytest.fixture
    def cases(self) -> Cases:
        """Return the plans and reports of the suite."""
        return EVERYTHING

    def test_nothing_is_lost(self, cases: Cases, renderer: PlanRenderer) -> None:
        for plan in cases.plans:
            text = renderer.plan(plan, worst(server.exit_code for server in plan))
            for word in (
                *plan.not_visited,
                *(word for server in plan for word in words_of(server)),
            ):
                assert shows(text, word), word
            assert not plan.actions or plan.id in text
        for reports in cases.reports:
            text = renderer.done(Plan(tuple(report.plan for report in reports)), reports, Exit.DONE)
            by_name = {
                report.plan.server: report for report in reports
            }  # of a pass there is one each
            for outcome in (outcome for report in by_name.values() for outcome in report.outcomes):
                assert shows(text, outcome.result)
                assert shows(text, outcome.detail)
                assert shows(text, outcome.remedy)

    def test_nothing_drives_a_terminal(self, cases: Cases, renderer: PlanRenderer) -> None:
        for plan in cases.plans:
            for text in (renderer.plan(plan, Exit.DONE), renderer.already(plan, Exit.DONE)):
                assert is_safe(text)
                assert text.endswith("\n")
        for reports in cases.reports:
            plan = Plan(tuple(report.plan for report in reports))
            assert is_safe(renderer.done(plan, reports, Exit.DONE))

    def test_errors_are_told_in_our_own_words(self, renderer: PlanRenderer) -> None:
        secret = token_hex()
        error = ServerUnreachable("nobody answers", "see that it runs")
        error.__cause__ = OSError(f"GET https://x.test/?token={secret}")
        error.add_note(secret)
        server = ServerPlan("tokyo-1", TARGET, failure=error)
        text = renderer.plan(Plan((server,)), Exit.ERROR)

        assert "nobody answers" in text
        assert secret not in text
