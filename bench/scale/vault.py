"""
Reads from Vault: as many as jtr can have a second, against `wrk` on the same server.
"""

import asyncio
import shutil
import subprocess
import time
from collections.abc import Iterator
from typing import Final

import aiohttp

from bench.scale.bench import Bench, Row, Unfinished, say
from bench.scale.fleet import Fleet
from bench.scale.measure import child, median

READS: Final = 5000
CONNECTIONS: Final = 16
SECONDS: Final = 2
SCRIPT: Final = """
local paths, at = {{}}, 0
for line in io.lines("{paths}") do paths[#paths + 1] = line end
request = function()
  at = at % #paths + 1
  return wrk.format("GET", paths[at], {{["X-Vault-Token"] = "{token}"}})
end
"""


def vault_reads(bench: Bench) -> Iterator[Row]:
    """Read secrets as jtr does, and as fast as the server gives them."""
    fleet = bench.fleet(bench.servers)
    paths = [f"jt/{name}/{code}" for name in fleet.names for code in fleet.codes][:READS]
    (fleet.home / "paths").write_text("".join(f"/v1/secret/data/{path}\n" for path in paths))
    job = fleet.home / "job"
    job.write_text("\n".join(paths))
    wrk = shutil.which("wrk")
    best, ours, busy = [], [], []
    for _ in range(min(bench.rounds, 3)):
        best.append(_wrk(fleet, wrk) if wrk else asyncio.run(_aiohttp(fleet, paths)))
        done = child("read_vault", str(job), bound=bench.bound, environment=fleet.environment)
        rate, processor = done.out.split()
        ours.append(float(rate))
        busy.append(float(processor))
        say(f"{best[-1]:,.0f} reads/s, jtr {ours[-1]:,.0f}")
    ratio = median([own / most for own, most in zip(ours, best, strict=True)])
    name = "wrk" if wrk else "a bare aiohttp loop (wrk is not installed)"
    more = (
        f"{median(ours):,.0f} reads/s, {median(busy):.2f} ms of processor each;"
        f" {name}: {median(best):,.0f} reads/s"
    )
    yield Row("Vault reads", ratio, 0.5, "x " + ("wrk" if wrk else "aiohttp"), more, least=True)


def _wrk(fleet: Fleet, wrk: str) -> float:
    script = fleet.home / "read.lua"
    token = fleet.bao.root_token.reveal()
    script.write_text(SCRIPT.format(paths=fleet.home / "paths", token=token))
    command = [wrk, "-t1", f"-c{CONNECTIONS}", f"-d{SECONDS}s", "-s", str(script)]
    done = subprocess.run(
        [*command, fleet.bao.address], capture_output=True, text=True, check=True, timeout=60
    )
    if "Non-2xx" in done.stdout:
        raise Unfinished(done.stdout)
    return float(done.stdout.partition("Requests/sec:")[2].split()[0])


async def _aiohttp(fleet: Fleet, paths: list[str]) -> float:
    left = iter(paths)
    headers = {"X-Vault-Token": fleet.bao.root_token.reveal()}
    connector = aiohttp.TCPConnector(limit=CONNECTIONS)
    async with aiohttp.ClientSession(
        fleet.bao.address, headers=headers, connector=connector
    ) as http:

        async def some() -> None:
            for path in left:
                async with http.get(f"/v1/secret/data/{path}") as answer:
                    await answer.read()

        began = time.perf_counter()
        await asyncio.gather(*(some() for _ in range(CONNECTIONS)))
        return len(paths) / (time.perf_counter() - began)
