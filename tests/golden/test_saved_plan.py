"""What was saved is shown as it was printed when it was made."""

import json

import pytest

from reconciler.errors import Exit, worst
from reconciler.model.codec import Malformed
from reconciler.model.plan import Plan
from reconciler.render.plan_json import plan_document, read_sealed
from reconciler.render.registry import plan_renderer
from reconciler.render.saved_plan import Saved, saved_plan
from reconciler.testing.renderers import EVERYTHING
from tests.golden.markdown_cases import AT
from tests.golden.markdown_cases import PLANS as COMMENTS
from tests.golden.test_golden import PLANS as GOLDEN
from tests.golden.test_golden import REPORTS

PLANS = GOLDEN | COMMENTS
JSON = plan_renderer("json")


def read(text: str) -> Saved:
    """Return what a file of this text tells."""
    return saved_plan(read_sealed(text.encode()))


@pytest.mark.parametrize("form", ["text", "markdown"])
@pytest.mark.parametrize("name", PLANS)
def test_a_plan(name: str, form: str) -> None:
    shown = PLANS[name]()
    code = worst(server.exit_code for server in shown.plan)
    saved = read(JSON.plan(shown.plan, code, recorded=shown.recorded))
    renderer = plan_renderer(form)

    assert saved.reports == ()
    expected = renderer.plan(shown.plan, code, recorded=shown.recorded)
    assert renderer.plan(saved.plan, saved.code, recorded=saved.recorded) == expected


@pytest.mark.parametrize("form", ["text", "markdown"])
@pytest.mark.parametrize("name", REPORTS)
def test_what_was_applied(name: str, form: str) -> None:
    # Of a pass there is one report for each server; a case may tell of two passes.
    reports = list({report.plan.server: report for report in REPORTS[name]()}.values())
    plan = Plan(tuple(report.plan for report in reports))
    code = worst(report.exit_code for report in reports)
    saved = read(JSON.done(plan, reports, code, at=AT))
    renderer = plan_renderer(form)

    expected = renderer.done(plan, reports, code, at=AT)
    assert renderer.done(saved.plan, saved.reports, saved.code, at=saved.at) == expected


@pytest.mark.parametrize("plan", EVERYTHING.plans)
def test_everything(plan: Plan) -> None:
    saved = read(JSON.plan(plan, Exit.DONE))
    text = plan_renderer("text")

    assert text.plan(saved.plan, saved.code) == text.plan(plan, Exit.DONE)


def test_what_no_version_wrote_is_malformed() -> None:
    document = plan_document(EVERYTHING.plans[0], Exit.DONE)
    document["servers"][0]["lines"][0]["exitCode"] = 99

    with pytest.raises(Malformed):
        saved_plan(json.loads(json.dumps(document)))
