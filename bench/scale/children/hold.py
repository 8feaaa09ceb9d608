"""
Open a session with every server and hold them all; print the KiB that each adds.

The argument names a file with host, port and access secret of each.
"""

import asyncio
import gc
import json
import os
import sys
from pathlib import Path

from bench.scale.measure import resident
from reconciler.drivers import Login, Trust
from reconciler.drivers.jt_trader.driver import JtTraderDriver, JtTraderSession
from reconciler.model.secret import Secret
from reconciler.model.target import Target
from reconciler.system.timeouts import Timeouts

WARM = 20  # sessions before the count: they load modules and fill caches


async def main(places: list[tuple[str, int, str]]) -> float:
    """Return the KiB of each."""
    driver = JtTraderDriver(command="controller", timeouts=Timeouts())
    few = asyncio.Semaphore(64)

    async def opened(host: str, port: int, secret: str) -> JtTraderSession:
        async with few:
            target = Target(f"http://{host}:{port}", "0")
            session = await driver.open(target, Login(Secret(secret)), Trust())
            await session.observe()
            return session

    for session in await asyncio.gather(*(opened(*place) for place in places[:WARM])):
        await session.close()
    gc.collect()
    before = resident(os.getpid())
    held = await asyncio.gather(*(opened(*place) for place in places))
    gc.collect()
    await asyncio.sleep(1)
    each = 1024 * (resident(os.getpid()) - before) / len(held)
    for session in held:
        await session.close()
    return each


if __name__ == "__main__":
    print(asyncio.run(main(json.loads(Path(sys.argv[1]).read_text()))))
