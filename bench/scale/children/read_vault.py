"""
Read secrets as jtr does; print reads a second and the processor milliseconds of each.

The argument names a file with their paths below the mount `secret`.
"""

import os
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from reconciler.model.references import SecretPath
from reconciler.model.secret import Secret
from reconciler.secrets.vault.backend import TokenAuth, VaultBackend
from reconciler.system.timeouts import Timeouts

AT_ONCE = 16


def main(paths: list[str]) -> tuple[float, float]:
    """Return both figures."""
    backend = VaultBackend(
        address=os.environ["VAULT_ADDR"],
        auth=TokenAuth(Secret(os.environ["VAULT_TOKEN"])),
        timeouts=Timeouts(),
    )
    wanted = [SecretPath("secret", path) for path in paths]
    with ThreadPoolExecutor(AT_ONCE) as pool:
        facts = list(pool.map(backend.describe, wanted))
        began, busy = time.perf_counter(), time.process_time()
        read = pool.map(
            backend.read,
            wanted,
            [one.version for one in facts],
            [one.created for one in facts],
        )
        count = sum(1 for _ in read)
    took, used = time.perf_counter() - began, time.process_time() - busy
    backend.close()
    return count / took, 1000 * used / count


if __name__ == "__main__":
    print(*main(Path(sys.argv[1]).read_text().split()))
