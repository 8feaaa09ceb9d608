"""docs/testing.md is carried out as a reader would: in a folder with nothing of ours in it."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

PAGE = Path(__file__).parents[2] / "docs" / "testing.md"
BLOCKS = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text("utf-8"), re.DOTALL | re.MULTILINE)


@pytest.mark.volume
@pytest.mark.timeout(600)  # pytest begins anew
def test_the_examples_pass_where_nothing_of_ours_lies(tmp_path: Path) -> None:
    for number, block in enumerate(BLOCKS):
        (tmp_path / f"test_{number}.py").write_text(block, "utf-8")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-W", "error"],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
    )

    assert done.returncode == 0, done.stdout + done.stderr
    passed = re.search(r"(\d+) passed", done.stdout)
    assert passed is not None
    assert int(passed[1]) > 2 + 30, "two tests, and a suite"


def test_the_page_names_every_suite() -> None:
    named = re.findall(r"`reconciler\.testing\.(\w+)\.(\w+)`", PAGE.read_text("utf-8"))
    assert len(named) == 5, "one for each thing that people add"
    for name in named:
        module = __import__(f"reconciler.testing.{name[0]}", fromlist=[name[1]])
        assert isinstance(getattr(module, name[1]), type)
