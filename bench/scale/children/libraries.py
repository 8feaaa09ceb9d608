"""
What a plan of servers at which nothing is to be done asks, by `aiohttp` and `json` alone.

One connection, a login and four requests to each server, its login read from Vault, one listing of
the versions of all secrets; every answer is decoded.  Nothing is compared, checked, kept or shown:
what this costs is left of a plan when all of jtr's own work is taken away.
"""

import asyncio
import gc
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import aiohttp

from bench.scale.limit import IN_FLIGHT, READS, UNSOLICITED, VAULT_CONNECTIONS

LISTING = "/v1/secret/detailed-metadata/jt?scan=true"
QUIET = tuple(prefix.decode() for prefix in UNSOLICITED)


async def read(vault: aiohttp.ClientSession, path: str) -> None:
    """Read and decode what lies there."""
    async with vault.get(path) as answer:
        json.loads(await answer.read())


async def talk(servers: aiohttp.ClientSession, host: str, port: int, secret: str) -> None:
    """Log in, ask everything, hang up."""
    url = f"http://{host}:{port}/socket.io/?EIO=4&transport=websocket"
    left: Iterator[bytes] = iter(READS)
    async with servers.ws_connect(url, autoping=False) as connection:
        async for message in connection:
            text = message.data
            if text.startswith("42"):
                json.loads(text[2:])
                if text.startswith(QUIET):
                    continue
                if (ask := next(left, None)) is None:
                    return
                await connection.send_str(ask.decode())
            elif text.startswith("0"):
                login = json.dumps({"accessToken": "", "accessSecret": secret})
                await connection.send_str(f"40{login}")
            elif text.startswith("2"):
                await connection.send_str("3")


async def main(path: str) -> None:
    """Do a job of `bench.scale.fleet`."""
    job = json.loads(Path(path).read_text("utf-8"))  # noqa: ASYNC240  - nothing waits yet
    host, port, token = job["vault"]
    places: Sequence[tuple[str, int, str]] = job["servers"]
    logins = job["reads"][:: len(job["reads"]) // len(places)]
    gate = asyncio.Semaphore(IN_FLIGHT)
    async with (
        aiohttp.ClientSession(
            f"http://{host}:{port}",
            headers={"X-Vault-Token": token},
            connector=aiohttp.TCPConnector(limit=VAULT_CONNECTIONS),
        ) as vault,
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as servers,
    ):

        async def visit(place: tuple[str, int, str], login: str) -> None:
            async with gate:
                await read(vault, login)
                await talk(servers, *place)

        await read(vault, LISTING)
        await asyncio.gather(*map(visit, places, logins))


if __name__ == "__main__":
    gc.disable()
    asyncio.run(main(sys.argv[1]))
