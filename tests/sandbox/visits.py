"""How the tests of the stand-in run it and visit it."""

import asyncio
import contextlib
import functools
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

from socketio.exceptions import ConnectionError as Refused

from reconciler.sandbox.jt_trader.server import StandIn
from tests.conformance.naive import WAIT, NaiveClient
from tests.support import quiet_time

Test = Callable[..., Coroutine[Any, Any, None]]


def looped(test: Test) -> Callable[..., None]:
    """
    Run an asynchronous test on a loop of its own, which must be left without tasks.

    What does not come in some time comes never, however busy this machine is.
    """
    return _looped(test, quiet_time.told)


def really_looped(test: Test) -> Callable[..., None]:
    """Do so in real time: for what threads bring about."""
    return _looped(test, lambda story: asyncio.run(story()))


def _looped(
    test: Test, run_story: Callable[[Callable[[], Coroutine[Any, Any, None]]], None]
) -> Callable[..., None]:
    @functools.wraps(test)
    def run(*arguments: Any, **options: Any) -> None:
        async def whole() -> None:
            await test(*arguments, **options)
            left = asyncio.all_tasks() - {asyncio.current_task()}
            # A client's tasks end one turn of the loop after it was closed.
            await asyncio.wait_for(asyncio.gather(*left), WAIT)

        run_story(whole)

    return run


@contextlib.asynccontextmanager
async def running(server: StandIn) -> AsyncIterator[str]:
    try:
        yield await server.start()
    finally:
        await server.stop()


@contextlib.asynccontextmanager
async def visited(server: StandIn, secret: str) -> AsyncIterator[NaiveClient]:
    """Run the server and one authorised client."""
    async with running(server) as url, NaiveClient(url, {"accessSecret": secret}) as client:
        assert await client.wait_for("authenticated")
        yield client


async def until(condition: Callable[[], bool]) -> None:
    """Wait until the condition holds; the stand-in offers no event for what it has counted."""
    async with asyncio.timeout(WAIT):
        while not condition():  # noqa: ASYNC110  - there is no event
            await asyncio.sleep(0.002)


async def back(server: StandIn, boots: int = 2) -> None:
    """Wait until the server booted so many times and takes connections."""
    await until(lambda: len(boot_lines(server)) == boots)
    async with asyncio.timeout(WAIT):
        while not await reachable(server.url):  # noqa: ASYNC110  - there is no event
            await asyncio.sleep(0.005)


async def reachable(url: str) -> bool:
    """Tell whether somebody takes connections there."""
    client = NaiveClient(url, None)
    try:
        await client.open()
    except Refused:
        return False
    finally:
        await client.close()
    return True


def boot_lines(server: StandIn) -> list[dict[str, Any]]:
    """Return the log's last line of each boot, written just before the port opens."""
    done = "Nest application successfully started"
    return [entry for entry in server.log_entries() if entry["msg"] == done]
