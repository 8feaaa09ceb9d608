"""The mutants of `make mutants` still fit the code that they break."""

import ast
from collections.abc import Iterator
from pathlib import Path

from tests.mutants.table import MUTANTS, Mutant

ROOT = Path(__file__).parent.parent.parent


def test_every_mutant_breaks_what_is_there() -> None:
    found = [wrong for mutant in MUTANTS for wrong in wrongs(mutant)]

    assert found == []


def wrongs(mutant: Mutant) -> Iterator[str]:
    """Say why a mutant would not be what it says."""
    try:
        broken = mutant.applied((ROOT / mutant.file).read_text("utf-8"))
        if mutant.file.endswith(".py"):
            ast.parse(broken)
    except (OSError, ValueError, SyntaxError, AssertionError) as error:
        yield f"{mutant.name}: {error}"
    for test in mutant.tests:
        if not (ROOT / test.partition("::")[0]).is_file():
            yield f"{mutant.name}: there is no {test}"
