"""
What the page costs a controller of ten thousand servers: the first paint, who only looks, a crowd.

Run it as a module: `python -m bench.page`.  Times are of this process's own CPU; the viewers are
sockets of a process of their own, so that their work is not counted.
"""

import argparse
import asyncio
import gc
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from functools import partial

from reconciler.controller.page.access import Access
from reconciler.controller.page.fleet import Fleet
from reconciler.controller.page.site import Site
from reconciler.controller.status import ServerStatus
from reconciler.model.values import replace
from tests.controller.page.sample_fleet import Made, mixed, well

SHOWN = "tokyo-3"  # a server that the first page shows: changes of others are told to nobody

CROWD = """
import socket, sys, threading
port, count = int(sys.argv[1]), int(sys.argv[2])
request = f"GET /events HTTP/1.1\\r\\nHost: 127.0.0.1:{port}\\r\\n\\r\\n".encode()
socks = []
for _ in range(count):
    one = socket.create_connection(("127.0.0.1", port))
    one.sendall(request)
    socks.append(one)
def drain(one):
    while one.recv(65536):
        pass
for one in socks:
    threading.Thread(target=drain, args=(one,), daemon=True).start()
print("there", flush=True)
sys.stdin.read()
"""


def fleet(count: int) -> list[ServerStatus]:
    known = mixed()
    return [*known, *(well(f"many-{n:05}", n) for n in range(count - len(known)))]


async def get(port: int, path: str) -> int:
    """Ask for a page, and return how many bytes came."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n\r\n".encode())
    data = await reader.read()
    writer.close()
    return len(data)


async def cost(work: Callable[[], Awaitable[object]]) -> tuple[float, float]:
    """Return the CPU seconds that *work* took, and the longest time the loop was held up."""
    worst = 0.0

    async def watch() -> None:
        nonlocal worst
        loop = asyncio.get_running_loop()
        while True:
            before = loop.time()
            await asyncio.sleep(0.001)
            worst = max(worst, loop.time() - before - 0.001)

    watching = asyncio.create_task(watch())
    await asyncio.sleep(0.01)
    began = time.process_time()
    await work()
    spent = time.process_time() - began
    watching.cancel()
    await asyncio.wait([watching])
    return spent, worst


async def measure(servers: int, viewers: int, seconds: float) -> None:
    source = Made(fleet(servers))
    gc.collect()
    site = Site(source, Access(None), listen="127.0.0.1:0")
    await site.start()
    began = time.process_time()
    await get(site.port, "/")
    print(f"first paint of {servers:,} servers: {time.process_time() - began:.3f} s")
    _, held = await cost(lambda: Fleet(source.store.servers).refresh())
    print(f"while they are taken over, the loop is held up {held * 1e3:.0f} ms at most")
    again = [(await cost(lambda: get(site.port, "/")))[0] for _ in range(9)]
    print(f"each later one: {statistics.median(again) * 1e3:.1f} ms")
    search = [
        (await cost(partial(get, site.port, f"/?q=many-{number:03}")))[0] for number in range(9)
    ]
    print(f"a search that nobody made before: {statistics.median(search) * 1e3:.1f} ms")

    began = time.process_time()
    await asyncio.sleep(seconds)
    nobody = (time.process_time() - began) / seconds
    for count in (1, viewers):
        crowd = subprocess.Popen(  # noqa: ASYNC220  - the crowd is not what is measured
            [sys.executable, "-c", CROWD, str(site.port), str(count)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        assert crowd.stdout is not None  # noqa: S101
        await asyncio.to_thread(crowd.stdout.readline)
        while site.hub.viewers < count:  # noqa: ASYNC110
            await asyncio.sleep(0.05)
        await asyncio.sleep(1)
        began = time.process_time()
        await asyncio.sleep(seconds)
        share = (time.process_time() - began) / seconds - nobody
        print(f"{count} idle: {share:.3%} of a core, {share / count:.4%} each")

        def change() -> None:
            one = source.store.servers[SHOWN]
            source.put(replace(one, reason=f"changed at {time.monotonic()}"))

        began = time.process_time()
        for _ in range(10):
            change()
            await asyncio.sleep(2.0)
        share = (time.process_time() - began) / 20.0 - nobody
        print(f"{count} while a server changes each 2 s: {share:.3%} of a core")
        await asyncio.to_thread(crowd.communicate)
        while site.hub.viewers:  # noqa: ASYNC110
            await asyncio.sleep(0.05)

    await leave_one_alone(source, site)
    await site.stop()


async def leave_one_alone(source: Made, site: Site) -> None:
    """Let one viewer take nothing, and see how long the loop is held up meanwhile."""
    dead = socket.create_connection(("127.0.0.1", site.port))
    dead.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1024)
    request = f"GET /events HTTP/1.1\r\nHost: 127.0.0.1:{site.port}\r\n\r\n"
    dead.sendall(request.encode())
    while not site.hub.viewers:  # noqa: ASYNC110
        await asyncio.sleep(0.05)

    async def push() -> None:
        while not site.hub.dropped:
            one = source.store.servers[SHOWN]
            source.put(replace(one, reason=f"{time.monotonic()} " * 2_000))
            await site.fleet.refresh()
            for channel in list(site.hub._channels.values()):  # noqa: SLF001
                if channel.viewers:  # as the hub does; those of earlier searches have none
                    await channel.update()

    _, held = await cost(push)
    print(f"a viewer that takes nothing: let go; the loop held up {held * 1e3:.0f} ms at most")
    dead.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--servers", type=int, default=10_000)
    parser.add_argument("--viewers", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=30.0, help="of each look at who is idle")
    chosen = parser.parse_args()
    asyncio.run(measure(chosen.servers, chosen.viewers, chosen.seconds))


if __name__ == "__main__":
    main()
