"""`make test-quick` finds out itself what is quick."""

from pathlib import Path

import pytest

from tests.support.quick import is_quick


@pytest.mark.parametrize(
    ("line", "quick"),
    [
        ("import json", True),
        ("from reconciler.plan.server import plan_server", True),
        ("from tests.support.strategies_config import fleets", True),
        ("import subprocess", False),
        ("import asyncio, socket", False),
        ("from socket import create_server", False),
        ("from reconciler import sandbox", False),
        ("from reconciler.testing.documented_answers import mangled", True),
        ("from reconciler.testing.adapters import errors", False),
        ("from reconciler.sandbox.openbao import OpenBao", False),
        ("import tests.support.rig", False),
        ("from tests.support import rig", False),
        ("from tests.support.rig import Rig", False),
        ("if True:\n    from tests.support.rig import World", False),
    ],
)
def test_what_a_module_imports_tells(tmp_path: Path, line: str, quick: bool) -> None:  # noqa: FBT001  - a column of the table
    module = tmp_path / "test_it.py"
    module.write_text(line, "ascii")

    assert is_quick(module) is quick
