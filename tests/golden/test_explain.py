"""Explanations look as the files say; `pytest tests/golden --rewrite-golden` writes them."""

import json
from pathlib import Path

import pytest

from reconciler.model.explanation import Check, Holds
from reconciler.render.explain import explanation_document, explanation_text
from reconciler.testing.renderers import is_safe
from tests.golden.explain_cases import CASES
from tests.golden.test_golden import check, rewrite

__all__ = ["rewrite"]
HERE = Path(__file__).parent / "explain"


@pytest.mark.parametrize("name", CASES)
def test_an_explanation(name: str, *, rewrite: bool) -> None:
    found = CASES[name]()
    text = explanation_text(found)

    assert is_safe(text)
    check(HERE / f"{name}.txt", text, rewrite=rewrite)
    document = json.dumps(explanation_document(found), indent=2, ensure_ascii=True) + "\n"
    check(HERE / f"{name}.json", document, rewrite=rewrite)


@pytest.mark.parametrize("name", CASES)
def test_text_and_json_say_the_same_of_every_condition(name: str) -> None:
    found = CASES[name]()
    signs = {Holds.YES: "✓", Holds.NO: "✗", Holds.UNKNOWN: "?"}
    text = explanation_text(found)

    def walk(checks: tuple[Check, ...], documents: list[dict[str, object]]) -> None:
        for one, document in zip(checks, documents, strict=True):
            assert f"{signs[one.holds]} {one.claim}" in text
            assert (document["claim"], document["holds"]) == (one.claim, str(one.holds))
            walk(one.below, document["below"])  # type: ignore[arg-type]

    walk(found.checks, explanation_document(found)["checks"])
    assert found.does or found.against


def test_every_file_is_a_case() -> None:
    assert {path.stem for path in HERE.iterdir()} == set(CASES)
