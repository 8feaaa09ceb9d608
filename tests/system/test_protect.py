"""No core, and no look into the memory, wherever a secret may be held."""

import subprocess
import sys

PROGRAM = """
import ctypes, resource
from reconciler.bootstrap import load_settings
dumpable = lambda: ctypes.CDLL(None).prctl(3, 0, 0, 0, 0)
before = dumpable()
load_settings(None, {"HOME": "/nonexistent"}, [])
print(before, dumpable(), resource.getrlimit(resource.RLIMIT_CORE))
"""


def test_whoever_has_read_the_settings_leaves_no_core() -> None:
    seen = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=60, check=True
    )

    assert seen.stdout == "1 0 (0, 0)\n"
