"""Every form of `-o` keeps the contract of a plan's renderer; a new file is found by itself."""

from collections.abc import Callable
from pathlib import Path
from typing import get_args

import pytest

from reconciler.cli import options
from reconciler.model.actions import Action, WriteExchange
from reconciler.model.evidence import Evidence
from reconciler.model.observed import Mask
from reconciler.model.secret import Secret
from reconciler.render.json_values import _KINDS, to_json
from reconciler.render.registry import PlanRenderer, plan_forms, plan_renderer
from reconciler.testing.renderers import EVERYTHING, Cases, RendererContract
from tests.golden.test_golden import PLANS, REPORTS
from tests.support.additions import put, shown, spoilt

SHORT = "reconciler/render/plan_short.py"
GOLDEN = Cases(
    [*EVERYTHING.plans, *(case().plan for case in PLANS.values())],
    [*EVERYTHING.reports, *(case() for case in REPORTS.values())],
)


class TestRenderers(RendererContract):
    @pytest.fixture(params=[*plan_forms(), "short"])
    def renderer(
        self, request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> PlanRenderer:
        if request.param == "short":
            put(SHORT, shown(SHORT), tmp_path / "more", monkeypatch)
        return plan_renderer(request.param)

    @pytest.fixture
    def cases(self) -> Cases:
        return GOLDEN


CALL = "super().plan(plan, code, recorded=recorded, audit=audit)"
Check = Callable[[RendererContract, Cases, PlanRenderer], None]


def test_a_new_file_is_a_form(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert plan_forms() == ["text", "github", "json", "markdown"]
    put(SHORT, shown(SHORT), tmp_path / "more", monkeypatch)

    assert plan_forms() == ["text", "github", "json", "markdown", "short"]


@pytest.mark.parametrize(
    ("body", "check"),
    [
        (
            f'{CALL} + "".join(server.owner for server in plan)',
            RendererContract.test_nothing_drives_a_terminal,
        ),
        (
            f'{CALL}.replace("not managed", "") and "nothing\\n"',
            RendererContract.test_nothing_is_lost,
        ),
        (
            '"\\n".join(f"{s.failure.what} {s.failure.__cause__}" for s in plan)',
            lambda suite, _, renderer: suite.test_errors_are_told_in_our_own_words(renderer),
        ),
    ],
    ids=["raw", "lossy", "talkative"],
)
@pytest.mark.parametrize("cases", [GOLDEN, EVERYTHING], ids=["golden", "built in"])
def test_positive_control_a_careless_form_is_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, body: str, check: Check, cases: Cases
) -> None:
    put(SHORT, spoilt(shown(SHORT), CALL, body), tmp_path / "more", monkeypatch)

    with pytest.raises(AssertionError):
        check(RendererContract(), cases, plan_renderer("short"))


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
