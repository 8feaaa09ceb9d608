"""Every form of `-o` keeps the contract of a plan's renderer; a new file is found by itself."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final, get_args

import pytest

from reconciler.cli import options
from reconciler.errors import Exit, ServerUnreachable, worst
from reconciler.model.actions import Action, WriteExchange
from reconciler.model.evidence import Evidence
from reconciler.model.observed import Mask
from reconciler.model.plan import Plan, ServerPlan, Status
from reconciler.model.secret import Secret
from reconciler.render.escape import plain
from reconciler.render.json_values import _KINDS, to_json
from reconciler.render.registry import PlanRenderer, plan_forms, plan_renderer
from tests.golden.test_golden import PLANS, REPORTS, is_safe
from tests.support.additions import put, shown, spoilt
from tests.support.factories import TARGET
from tests.support.leaks import Watch


def shows(text: str, word: str) -> bool:
    """Whether *word* stands there, escaped as a terminal or as JSON needs it."""
    return plain(word, 400) in text or json.dumps(word)[1:-1] in text


def words_of(server: ServerPlan) -> Iterator[str]:
    """What nobody may miss of one server."""
    yield from (server.server, server.target.url, server.held)
    if server.failure is not None:
        yield from (server.failure.what, server.failure.remedy)
        return  # nothing was compared
    yield from server.notes
    for line in server.lines:
        yield line.exchange
        if line.status in (Status.BLOCKED, Status.FAILED):
            yield from (line.why, line.remedy)
        if line.ready is not None and line.consequence is not None:
            yield from (robot.name for robot in line.consequence.robots)
    for disruption in server.disruptions:
        yield from (disruption.what, str(disruption.standing), disruption.why)
    for debt in server.debts:
        yield from (debt.exchange, debt.since, debt.robot_name)


# ── the contract ─────────────────────────────────────────────────────────────────────────────


def nothing_is_lost(renderer: PlanRenderer, watch: Watch) -> None:
    del watch
    for case in PLANS.values():
        plan = case().plan
        text = renderer.plan(plan, worst(server.exit_code for server in plan))
        for word in (*plan.not_visited, *(word for server in plan for word in words_of(server))):
            assert shows(text, word), word
        assert not plan.actions or plan.id in text
    for reports in (case() for case in REPORTS.values()):
        text = renderer.done(Plan(tuple(report.plan for report in reports)), reports, Exit.DONE)
        by_name = {report.plan.server: report for report in reports}  # of a pass there is one each
        for outcome in (outcome for report in by_name.values() for outcome in report.outcomes):
            assert shows(text, outcome.result)
            assert shows(text, outcome.detail)
            assert shows(text, outcome.remedy)


def nothing_drives_a_terminal(renderer: PlanRenderer, watch: Watch) -> None:
    del watch
    for case in PLANS.values():
        plan = case().plan
        for text in (renderer.plan(plan, Exit.DONE), renderer.already(plan, Exit.DONE)):
            assert is_safe(text)
            assert text.endswith("\n")
    for reports in (case() for case in REPORTS.values()):
        plan = Plan(tuple(report.plan for report in reports))
        assert is_safe(renderer.done(plan, reports, Exit.DONE))


def errors_are_told_in_our_own_words(renderer: PlanRenderer, watch: Watch) -> None:
    secret = watch.secret()
    error = ServerUnreachable("nobody answers", "see that it runs")
    error.__cause__ = OSError(f"GET https://x.test/?token={secret}")
    error.add_note(secret)
    server = ServerPlan("tokyo-1", TARGET, failure=error)
    text = renderer.plan(Plan((server,)), Exit.ERROR)

    assert "nobody answers" in text
    assert secret not in text


Check = Callable[[PlanRenderer, Watch], None]
CONTRACT: Final[tuple[Check, ...]] = (
    nothing_is_lost,
    nothing_drives_a_terminal,
    errors_are_told_in_our_own_words,
)


@pytest.mark.parametrize("form", plan_forms())
@pytest.mark.parametrize("check", CONTRACT, ids=lambda check: str(check.__name__))
def test_the_contract(form: str, check: Check, watch: Watch) -> None:
    check(plan_renderer(form), watch)


SHORT = "reconciler/render/plan_short.py"
CALL = "super().plan(plan, code, recorded=recorded, audit=audit)"


def test_a_new_file_is_a_form_and_is_held_to_the_contract(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, watch: Watch
) -> None:
    assert plan_forms() == ["text", "json"]
    put(SHORT, shown(SHORT), tmp_path / "more", monkeypatch)

    assert plan_forms() == ["text", "json", "short"]
    for check in CONTRACT:
        check(plan_renderer("short"), watch)


@pytest.mark.parametrize(
    ("body", "check"),
    [
        (f'{CALL} + "".join(server.owner for server in plan)', nothing_drives_a_terminal),
        (f'{CALL}.replace("not managed", "") and "nothing\\n"', nothing_is_lost),
        (
            '"\\n".join(f"{s.failure.what} {s.failure.__cause__}" for s in plan)',
            errors_are_told_in_our_own_words,
        ),
    ],
    ids=["raw", "lossy", "talkative"],
)
def test_positive_control_a_careless_form_is_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, watch: Watch, body: str, check: Check
) -> None:
    put(SHORT, spoilt(shown(SHORT), CALL, body), tmp_path / "more", monkeypatch)

    with pytest.raises(AssertionError):
        check(plan_renderer("short"), Watch(watch.name))


def test_plan_and_apply_offer_what_there_is() -> None:
    def command() -> None: ...

    options.plan_output(command)
    (option,) = command.__click_params__  # type: ignore[attr-defined]
    assert list(option.type.choices) == plan_forms()


# ── JSON values ──────────────────────────────────────────────────────────────────────────────


def test_every_action_has_a_kind() -> None:
    assert {*_KINDS, WriteExchange} == {*get_args(Action)}


@pytest.mark.parametrize(
    "value", [Secret("abcdefghij"), Mask("abc***xyz"), Evidence, object(), {"a": [Mask("abc")]}]
)
def test_what_is_not_in_the_table_is_refused(value: object) -> None:
    with pytest.raises(TypeError, match="is not to be shown"):
        to_json(value)
