"""The mutants of `make mutants` still fit the code that they break."""

from pathlib import Path

import pytest

from tests.mutants.table import MUTANTS, Mutant

ROOT = Path(__file__).parent.parent.parent


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_a_mutant_breaks_what_is_there(mutant: Mutant) -> None:
    text = (ROOT / mutant.file).read_text("utf-8")

    broken = mutant.applied(text)

    if mutant.file.endswith(".py"):
        compile(broken, mutant.file, "exec")
    for test in mutant.tests:
        assert (ROOT / test.partition("::")[0]).is_file(), test
