"""
Every file in cases/invalid states its problems, every one in cases/valid has none.

A line `#> 7:12: what; remedy` at the beginning of an invalid file is one problem in the order in
which they are printed; files that cannot begin with a comment are listed below.
"""

from pathlib import Path

import pytest

from reconciler.documents.load import load
from reconciler.errors import Exit, InvalidConfig

CASES = Path(__file__).parent / "cases"
INVALID = sorted((CASES / "invalid").glob("*.yaml"))
VALID = sorted((CASES / "valid").glob("*.yaml"))
EXAMPLES = sorted((Path(__file__).parents[2] / "examples").glob("*.yaml"))
WITHOUT_COMMENT = {
    "empty.yaml": ["1:1: the file is empty; write a document"],
    "utf16.yaml": ["1:1: the file is not UTF-8 text; save it as UTF-8"],
}


def expected(case: Path) -> list[str]:
    lines = case.read_bytes().decode("utf-8", "replace").splitlines()
    said = [line.removeprefix("#> ") for line in lines if line.startswith("#> ")]
    return WITHOUT_COMMENT.get(case.name, said)


@pytest.mark.parametrize("case", INVALID, ids=lambda case: case.stem)
def test_an_invalid_file_has_exactly_these_problems(
    case: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(
        case.parent
    )  # so that a message that names another place is the same anywhere

    with pytest.raises(InvalidConfig) as raised:
        load([case.name])

    found = [str(problem).removeprefix(f"{case.name}:") for problem in raised.value.problems]
    assert expected(case) == found
    assert found
    assert raised.value.exit_code is Exit.INVALID


@pytest.mark.parametrize("case", VALID, ids=lambda case: case.stem)
def test_a_valid_file_has_none(case: Path) -> None:
    assert load([str(case)]).state.servers


@pytest.mark.parametrize("name", ["config.yaml", "minimal.yaml"])
def test_the_examples_are_valid(name: str) -> None:
    example = next(path for path in EXAMPLES if path.name == name)

    assert load([str(example)]).state.servers


def test_the_corpus_is_there() -> None:
    assert len(INVALID) > 100
    assert len(VALID) > 10
