"""
Two controllers follow one branch: who takes the place acts on what is in force by the ledger.

The stand-in counts what was written to it.
"""

import asyncio
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

from reconciler.controller.git_source import GitSource
from reconciler.controller.state_file import StateFile
from reconciler.model.values import replace
from reconciler.system.git_mirror import Mirror, Remote
from reconciler.system.timeouts import Timeouts
from tests.controller.controller_harness import Harness
from tests.controller.test_controller import begin, synced
from tests.support.durations import BRISK
from tests.support.repository import Repository
from tests.support.rig import Rig

SELDOM = 3600.0  # seconds


def follower(rig: Rig, repository: Repository, host: str, interval: float) -> Harness:
    """A controller of a host of its own, which looks at the branch so often."""
    harness, home = Harness(rig), Path(rig.home) / host
    parts = harness.dependencies
    parts.state_file = StateFile(home / "controller.json")

    def source() -> Any:
        mirror = Mirror(Remote(f"file://{repository.hub}", "main"), home / "git" / "mirror", None)
        timeouts: Timeouts = replace(parts.timeouts, interval=interval)
        return GitSource(mirror, "here#main", "servers", timeouts)

    parts.documents = source
    return harness


def test_who_takes_the_place_begins_with_what_the_other_put_into_force(rig: Rig) -> None:
    repository = Repository(rig.home)
    rig.docs = repository.work / "servers"
    rig.docs.mkdir()
    server = rig.server()
    path = rig.reference("tokyo-1/bybit")

    def push(version: int) -> str:
        pinned = {"bybit": {"credentials": f"{path}@{version}"}}
        rig.document("tokyo-1", "bybit", rotate=False, exchanges=pinned)
        return repository.commit(f"Use version {version}")

    rig.rotate("tokyo-1", "bybit")
    rig.rotate("tokyo-1", "bybit")
    before = push(1)
    begin(rig, durations=BRISK | {"lease": "1s"})
    assert rig.apply().code == 0
    first = follower(rig, repository, "one", interval=0.2)
    second = follower(rig, repository, "two", SELDOM)

    async def run() -> None:
        async with AsyncExitStack() as one, AsyncExitStack() as two:
            await one.enter_async_context(first.running())
            await first.until(lambda: first.status_store.controller.acting, "the first one acts")
            await two.enter_async_context(second.running())
            beside = second.status_store
            await synced(first)
            await second.until(lambda: bool(beside.controller.rival), "the second one waits")
            await second.until(lambda: beside.controller.revision == before, "it has looked")
            after = push(2)
            await first.until(lambda: server.record.saves == 2, "the newer commit is written")
            assert beside.controller.revision == before
            await one.aclose()
            # The second one acts from here on; its own next look at the branch is an hour away.
            await second.until(lambda: beside.controller.acting, "it takes the place")
            await second.passed()
            assert server.record.saves == 2
            assert beside.controller.revision == after

    asyncio.run(run())
    assert (first.left, second.left) == ([], [])
