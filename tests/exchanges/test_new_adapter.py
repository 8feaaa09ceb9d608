"""
A new exchange is one file and one suite: both are found by themselves, and held to the contract.

Those of docs/extending.md are written to a temporary folder, and pytest runs the contract suite in
a process of its own, so that no other test sees the exchange.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from reconciler.exchanges.registry import discovered
from tests.exchanges.contract import unmatched
from tests.exchanges.test_contract import CONTRACTS
from tests.support.additions import shown, spoilt

ROOT = Path(__file__).parents[2]

ADAPTER = shown("reconciler/exchanges/adapters/gemini.py")
SUITE = shown("tests/exchanges/adapters/test_gemini.py")

PLUGIN = """\
from pathlib import Path

from reconciler.exchanges import adapters
from tests.exchanges import adapters as suites

adapters.__path__.append(str(Path(__file__).parent / "adapters"))
suites.__path__.append(str(Path(__file__).parent / "suites"))
"""


def contract_suite(folder: Path, adapter: str, wanted: str) -> tuple[int, str]:
    """Return what the *wanted* part of the suite makes of an exchange: exit code and output."""
    for name, text in (
        ("adapters/gemini.py", adapter),
        ("suites/test_gemini.py", SUITE),
        ("new_exchange.py", PLUGIN),
    ):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text, "utf-8")
    done = subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "new_exchange"),
            *("tests/exchanges/test_contract.py", "-k", wanted),
        ],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": f"{folder}{os.pathsep}{ROOT}"},
    )
    return done.returncode, done.stdout + done.stderr


@pytest.mark.timeout(600)  # pytest begins anew
def test_a_new_exchange_is_found_and_held_to_the_contract(tmp_path: Path) -> None:
    code, told = contract_suite(tmp_path, ADAPTER, "gemini or and_the_reverse")

    assert code == 0, told
    assert int(told.rpartition(" passed")[0].split()[-1]) > 30


@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    ("right", "wrong", "red"),
    [
        (
            'roles, _CAPS, reads=("isAuditor",)',
            'roles, {**_CAPS, "isNovel": {Cap.SPOT}}',
            "test_a_documented_answer_means_exactly_this[gemini-excess]",
        ),
        (
            '"InvalidNonce": Status.CLOCK',
            '"InvalidNonce": Status.REJECTED',
            "test_an_error_code_has_its_status[gemini-InvalidNonce]",
        ),
    ],
    ids=["an unknown name is let through", "a clock is taken for a wrong key"],
)
def test_one_that_does_wrong_is_red(tmp_path: Path, right: str, wrong: str, red: str) -> None:
    code, told = contract_suite(
        tmp_path, spoilt(ADAPTER, right, wrong), red.partition("[")[2].removesuffix("]")
    )

    assert code == 1, told
    assert f"FAILED tests/exchanges/test_contract.py::{red}" in told


def test_neither_an_adapter_nor_a_contract_may_stand_alone() -> None:
    assert unmatched(discovered(), CONTRACTS) == set()
    lost = CONTRACTS[0].adapter.ccxt_id
    missing = {name: one for name, one in discovered().items() if name != lost}
    assert unmatched(missing, CONTRACTS) == {lost}
    ours = {one.ccxt_id for one in CONTRACTS[0].adapters}
    assert unmatched(discovered(), CONTRACTS[1:]) == ours
