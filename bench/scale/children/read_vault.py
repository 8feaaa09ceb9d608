"""
Read secrets as jtr does; print reads a second and the processor milliseconds of each.

The argument names a file with their paths below the mount `secret`.
"""

import asyncio
import os
import sys
import time
from pathlib import Path

from reconciler.model.references import SecretPath
from reconciler.model.secret import Secret
from reconciler.secrets.vault.backend import TokenAuth, VaultBackend
from reconciler.system.timeouts import Timeouts

AT_ONCE = 16


async def main(paths: list[str]) -> tuple[float, float]:
    """Return both figures."""
    backend = VaultBackend(
        address=os.environ["VAULT_ADDR"],
        auth=TokenAuth(Secret(os.environ["VAULT_TOKEN"])),
        timeouts=Timeouts(),
    )
    wanted = [SecretPath("secret", path) for path in paths]
    left = [(path, await backend.describe(path)) for path in wanted]

    async def reader() -> None:
        while left:
            path, facts = left.pop()
            await backend.read(path, facts.version, facts.created)

    began, busy = time.perf_counter(), time.process_time()
    await asyncio.gather(*(reader() for _ in range(AT_ONCE)))
    took, used = time.perf_counter() - began, time.process_time() - busy
    backend.close()
    return len(wanted) / took, 1000 * used / len(wanted)


if __name__ == "__main__":
    print(*asyncio.run(main(Path(sys.argv[1]).read_text().split())))
