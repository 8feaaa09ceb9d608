"""aiohttp without the TLS contexts that it makes for those who bring none."""

import json
import subprocess
import sys
from typing import Final

PROGRAM: Final = """
import json, ssl
from reconciler.system.http import aiohttp
from aiohttp import connector
verified = connector._SSL_CONTEXT_VERIFIED
inherited = ssl._ssl._SSLContext.set_default_verify_paths
print(json.dumps([
    ssl.SSLContext.set_default_verify_paths is inherited,
    verified.cert_store_stats()["x509_ca"],
    verified.verify_mode == ssl.CERT_REQUIRED,
]))
"""


def test_a_session_without_a_context_of_its_own_trusts_nobody() -> None:
    """And whoever makes one gets the system's certificates, as ever."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True, timeout=60
    )

    assert json.loads(done.stdout) == [True, 0, True]
