"""
What no transcript shows whole: entries by cause, marks that survive a stop, a log that lags.

The cases speak the protocol only, so a real server can be asked as well: one with the robots of
`NEEDED`, found by their names, and nobody else's.  `JTR_CONFORMANCE_ROBOTS=1` says that it has
them, besides what `test_transcripts` wants; every robot of it is stopped.
Source: the protocol reference, sections 4, 5 and 8b.
"""

import asyncio
import contextlib
import os
import secrets
from collections.abc import AsyncIterator, Callable, Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest
from socketio.exceptions import ConnectionError as Refused

from reconciler.sandbox.jt_trader.server import Behaviour, Robot, StandIn
from tests.conformance.naive import NaiveClient
from tests.conformance.test_transcripts import DESTRUCTIVE, SECRET_FILE, URL
from tests.support import quiet_time

JOBS, LISTED = "background-jobs-list-request", "background-jobs-list-response"
LOG, LOGGED = "logs-list-request", "logs-list-response"
RUN, STOP, REBOOT = (
    "run-background-job-request",
    "stop-background-job-request",
    "reboot-system-request",
)
HARMLESS: Final = {
    *("user-script", "bundler-error", "runtime-script-limit"),
    *("script-already-registered", "tester-data-failed"),
}
NEEDED: Final[dict[str, dict[str, Any]]] = {
    "dummy1": {},
    "dummy2": {},
    "throwstop3": {"stop": "throws"},
    "throwinit4": {"start": "fails"},
    "throwinit5": {"start": "fails"},
    "throwtick6": {"tick": "throws"},
}
"""Names of robots and what their strategies do; none runs at the beginning."""
LATEST: Final = 5.0
"""Seconds: `durations.logLag`, on whose word an old boot line counts as the newest."""
AWAY: Final = 120.0
"""Seconds in which a server must be back."""

pytestmark = [
    pytest.mark.naive,
    pytest.mark.timeout(0 if URL else 120),
    pytest.mark.skipif(
        bool(URL) and not (DESTRUCTIVE and os.environ.get("JTR_CONFORMANCE_ROBOTS") == "1"),
        reason="it needs a server with certain robots, and stops them",
    ),
]


@dataclass(slots=True)
class Visitor:
    """One connection to the server under test, opened anew when it ends."""

    url: str
    auth: dict[str, object]
    client: NaiveClient

    async def jobs(self) -> dict[str, Any]:
        answer = await self.client.ask(JOBS, answer=LISTED)
        assert answer is not None
        return {job["name"]: job for job in answer["payload"]}

    async def running(self) -> set[str]:
        return {name for name, job in (await self.jobs()).items() if job["isEnabled"]}

    async def act(self, event: str, name: str) -> None:
        number = (await self.jobs())[name]["id"]
        assert await self.client.ask(event, number, answer=LISTED, patience=60)

    async def log(self) -> list[dict[str, Any]]:
        answer = await self.client.ask(LOG, "system", answer=LOGGED, patience=15)
        assert answer is not None
        entries: list[dict[str, Any]] = answer["payload"]["data"]
        return entries

    async def handled(self) -> list[dict[str, Any]]:
        return [e for e in await self.log() if e["class"] == "MainProcessExceptionHandler"]

    async def boots(self) -> int:
        return sum(e["class"] == "NestApplication" for e in await self.log())

    async def late(self, count: Callable[[], Coroutine[Any, Any, int]], before: int) -> float:
        """Return how long it took until the log showed more than *before*."""
        clock = asyncio.get_running_loop().time
        began = clock()
        while await count() <= before:
            assert clock() - began < LATEST
            await asyncio.sleep(0.01)
        return clock() - began

    async def rebooted(self) -> None:
        """Ask for a reboot and come back."""
        await self.client.request(REBOOT)
        async with asyncio.timeout(AWAY):
            await self.client.ended.wait()
            await self.client.close()
            while True:
                self.client = NaiveClient(self.url, self.auth)
                try:
                    await self.client.open()
                    break
                except Refused:
                    await self.client.close()
                    await asyncio.sleep(0.02)
            assert await self.client.wait_for("authenticated", patience=30)


def told(story: Callable[[Visitor], Coroutine[Any, Any, None]]) -> None:
    """Run *story*; a stand-in is as slow as the real server, on a clock that does not wait."""

    async def whole() -> None:
        async with target() as (url, secret):
            auth: dict[str, object] = {"accessSecret": secret}
            visitor = Visitor(url, auth, NaiveClient(url, auth))
            await visitor.client.open()
            try:
                assert await visitor.client.wait_for("authenticated", patience=30)
                assert await visitor.running() == set()
                await story(visitor)
            finally:
                await visitor.client.close()

    if URL:
        asyncio.run(whole())
    else:
        quiet_time.told(whole)


@contextlib.asynccontextmanager
async def target() -> AsyncIterator[tuple[str, str]]:
    if URL:
        yield URL, (await asyncio.to_thread(Path(SECRET_FILE).read_text)).strip()
        return
    usual, clock = Behaviour(sprinkle=False), asyncio.get_running_loop().time
    secret = secrets.token_hex(8)
    robots = [
        Robot(number, name, "gateio", running=False, keeps_state=False, **does)
        for number, (name, does) in enumerate(NEEDED.items(), 1)
    ]
    server = StandIn(access_secret=secret, robots=robots, now=lambda: 1_795_000_000.0 + clock())
    for name in ("reboot_drop", "reboot_down", "log_lag"):  # not as quick as for other tests
        setattr(server.behaviour, name, getattr(usual, name))
    try:
        yield await server.start(), secret
    finally:
        await server.stop()


def of_a_script(entry: dict[str, Any]) -> bool:
    stack = [line for line in entry["stack"] if isinstance(line, str)]
    return entry.get("cause") in HARMLESS or (
        "cause" not in entry and any("(vm.js:" in line for line in stack)
    )


@pytest.mark.parametrize("robot", ["throwinit4", "throwinit5"])
def test_a_failed_start_leaves_an_entry_of_a_script_and_stops_nobody(robot: str) -> None:
    async def story(visitor: Visitor) -> None:
        await visitor.act(RUN, "dummy1")
        before = len(await visitor.handled())
        await visitor.act(RUN, robot)
        await asyncio.sleep(LATEST)
        new = (await visitor.handled())[before:]
        assert [of_a_script(entry) for entry in new] == [True]
        assert await visitor.running() == {"dummy1"}
        await visitor.act(STOP, "dummy1")

    told(story)


def test_a_throwing_tick_leaves_one_each_second_and_stops_nobody() -> None:
    async def story(visitor: Visitor) -> None:
        await visitor.act(RUN, "dummy1")
        before = len(await visitor.handled())
        await visitor.act(RUN, "throwtick6")
        await asyncio.sleep(2 * LATEST)
        new = (await visitor.handled())[before:]
        assert len(new) > LATEST
        assert all(of_a_script(entry) for entry in new)
        assert await visitor.running() == {"dummy1", "throwtick6"}
        for robot in ("dummy1", "throwtick6"):
            await visitor.act(STOP, robot)

    told(story)


def test_what_does_not_run_already_started_is_harmless() -> None:
    async def story(visitor: Visitor) -> None:
        await visitor.act(RUN, "dummy1")
        before = len(await visitor.handled())
        number = (await visitor.jobs())["dummy1"]["id"]
        assert await visitor.client.ask(RUN, number, answer="exception")
        await asyncio.sleep(LATEST)
        (entry,) = (await visitor.handled())[before:]
        assert entry["cause"] == "script-already-registered"
        assert await visitor.running() == {"dummy1"}
        await visitor.act(STOP, "dummy1")

    told(story)


def test_after_a_stop_that_threw_the_next_boot_starts_the_others() -> None:
    """Source: section 4; transcript 19 has the same with nobody else running."""

    async def story(visitor: Visitor) -> None:
        for robot in ("dummy1", "throwstop3", "dummy2"):
            await visitor.act(RUN, robot)
        before = len(await visitor.handled())
        await visitor.client.request(REBOOT)
        await asyncio.sleep(2 * LATEST)
        assert not visitor.client.ended.is_set()
        assert await visitor.running() == set()
        assert sum(of_a_script(entry) for entry in (await visitor.handled())[before:]) == 1
        await visitor.rebooted()
        assert await visitor.running() == {"dummy1", "dummy2"}, "before anybody was let in"
        for robot in ("dummy1", "dummy2"):
            await visitor.act(STOP, robot)
        await visitor.rebooted()
        assert await visitor.running() == set(), "the marks are gone"

    told(story)


def test_the_log_shows_a_boot_and_an_error_later_and_never_after_our_patience() -> None:
    async def story(visitor: Visitor) -> None:
        lags = []
        for _ in range(3):
            boots = await visitor.boots()
            await visitor.rebooted()
            lags.append(await visitor.late(visitor.boots, boots))
            errors = len(await visitor.handled())
            await visitor.act(RUN, "throwinit4")
            lags.append(await visitor.late(lambda: count(visitor), errors))
        if not URL:  # a real one may be quick
            assert min(lags) > 0.04

    async def count(visitor: Visitor) -> int:
        return len(await visitor.handled())

    told(story)
