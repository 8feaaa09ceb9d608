"""
A new exchange is one file and one suite: both are found by themselves, and held to the contract.

Those of docs/extending.md are written to a temporary folder, and pytest runs the suite there in a
process of its own: no other test sees the exchange, and the suite sees nothing of ours.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from reconciler.exchanges.registry import discovered
from tests.exchanges.contract import collected, unmatched
from tests.support.additions import put, shown, spoilt

ADAPTER = shown("reconciler/exchanges/adapters/gemini.py")
SUITE = shown("tests/exchanges/adapters/test_gemini.py")

PLUGIN = """\
from pathlib import Path

from reconciler.exchanges import adapters

adapters.__path__.append(str(Path(__file__).parent / "adapters"))
"""


def suite_alone(folder: Path, adapter: str, wanted: str = "") -> tuple[int, str]:
    """Return what the *wanted* part of the suite makes of an exchange: exit code and output."""
    for name, text in (
        ("adapters/gemini.py", adapter),
        ("test_gemini.py", SUITE),
        ("new_exchange.py", PLUGIN),
    ):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text, "utf-8")
    done = subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "new_exchange"),
            *("-W", "error", "test_gemini.py", "-k", wanted),
        ],
        capture_output=True,
        text=True,
        check=False,
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(folder)},
    )
    return done.returncode, done.stdout + done.stderr


@pytest.mark.timeout(600)  # pytest begins anew
def test_a_new_exchange_is_found_and_held_to_the_contract(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code, told = suite_alone(tmp_path, ADAPTER)

    assert code == 0, told
    assert int(told.rpartition(" passed")[0].split()[-1]) > 30
    found = discovered.__wrapped__  # what this finds is not kept
    put("reconciler/exchanges/adapters/gemini.py", ADAPTER, tmp_path / "found", monkeypatch)
    assert unmatched(found(), collected()) == {"gemini"}
    put("tests/exchanges/adapters/test_gemini.py", SUITE, tmp_path / "held", monkeypatch)
    assert unmatched(found(), collected()) == set()


@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    ("right", "wrong", "red"),
    [
        (
            'roles, _CAPS, reads=("isAuditor",)',
            'roles, {**_CAPS, "isNovel": {Cap.SPOT}}',
            "test_a_documented_answer_means_exactly_this[excess]",
        ),
        (
            '"InvalidNonce": Status.CLOCK',
            '"InvalidNonce": Status.REJECTED',
            "test_an_error_code_has_its_status[InvalidNonce]",
        ),
    ],
    ids=["an unknown name is let through", "a clock is taken for a wrong key"],
)
def test_one_that_does_wrong_is_red(tmp_path: Path, right: str, wrong: str, red: str) -> None:
    code, told = suite_alone(
        tmp_path, spoilt(ADAPTER, right, wrong), red.partition("[")[2].removesuffix("]")
    )

    assert code == 1, told
    assert f"FAILED test_gemini.py::TestGemini::{red}" in told
