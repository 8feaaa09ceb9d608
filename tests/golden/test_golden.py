"""Plans and reports look as the files say; `pytest tests/golden --rewrite-golden` writes them."""

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from reconciler.errors import Exit, worst
from reconciler.model.plan import Plan
from reconciler.render.plan_json import plan_document, reports_document, sealed
from reconciler.render.plan_text import plan_text, report_text
from reconciler.render.requests import requests_document, requests_text
from reconciler.testing.renderers import is_safe
from tests.golden import cases, request_cases

PLANS = cases.PLANS | request_cases.PLANS
REPORTS = cases.REPORTS | request_cases.REPORTS
HERE = Path(__file__).parent
SCHEMA = json.loads((HERE.parent.parent / "schemas" / "plan.schema.json").read_text("utf-8"))


@pytest.fixture
def rewrite(request: pytest.FixtureRequest) -> bool:
    """Whether files are written instead of compared."""
    return bool(request.config.getoption("--rewrite-golden"))


def check(path: Path, text: str, *, rewrite: bool) -> None:
    """Compare *text* with a file, or write it."""
    if rewrite:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, "utf-8")
    assert path.exists(), f"no {path.name} yet: pytest {HERE.name} --rewrite-golden"
    assert text == path.read_text("utf-8")


def as_json(document: dict[str, Any]) -> str:
    """Return a document as it is printed, once it fits its schema."""
    jsonschema.Draft202012Validator(SCHEMA).validate(sealed(document))
    text = json.dumps(document, indent=2, ensure_ascii=True)
    assert text.isascii()
    return text + "\n"


@pytest.mark.parametrize("name", PLANS)
def test_plan(name: str, *, rewrite: bool) -> None:
    shown = PLANS[name]()
    text = plan_text(shown.plan, recorded=shown.recorded)
    code = worst(server.exit_code for server in shown.plan)

    assert is_safe(text)
    check(HERE / "plan" / name / "plan.txt", text, rewrite=rewrite)
    document = as_json(plan_document(shown.plan, code, recorded=shown.recorded))
    check(HERE / "plan" / name / "plan.json", document, rewrite=rewrite)


@pytest.mark.parametrize("name", REPORTS)
def test_report(name: str, *, rewrite: bool) -> None:
    reports = REPORTS[name]()
    text = report_text(reports)
    plan = Plan(tuple(report.plan for report in reports))

    assert is_safe(text)
    check(HERE / "report" / name / "report.txt", text, rewrite=rewrite)
    code = worst(report.exit_code for report in reports)
    document = as_json(reports_document(plan, reports, code))
    check(HERE / "report" / name / "report.json", document, rewrite=rewrite)


@pytest.mark.parametrize("name", request_cases.LISTS)
def test_list(name: str, *, rewrite: bool) -> None:
    listed = request_cases.LISTS[name]()
    text = requests_text(listed)
    code = worst(one.exit_code for one in listed)

    assert is_safe(text)
    check(HERE / "list" / name / "requests.txt", text, rewrite=rewrite)
    document = json.dumps(requests_document(listed, code), indent=2, ensure_ascii=True) + "\n"
    check(HERE / "list" / name / "requests.json", document, rewrite=rewrite)


def test_every_folder_is_a_case() -> None:
    for kind, known in (("plan", PLANS), ("report", REPORTS), ("list", request_cases.LISTS)):
        assert {path.name for path in (HERE / kind).iterdir()} == set(known)


def test_positive_control_a_changed_word_and_a_surplus_key_are_seen(tmp_path: Path) -> None:
    name, case = next(iter(PLANS.items()))
    (tmp_path / "plan.txt").write_bytes((HERE / "plan" / name / "plan.txt").read_bytes())
    text = plan_text(case().plan)
    check(tmp_path / "plan.txt", text, rewrite=False)

    with pytest.raises(AssertionError):
        check(tmp_path / "plan.txt", text.replace("robot", "Robot"), rewrite=False)
    with pytest.raises(jsonschema.ValidationError):
        as_json(plan_document(case().plan, Exit.DONE) | {"mask": "abc"})
    assert not is_safe("\x1b[2J")
    assert not is_safe("a\u202eb")
