"""A clock that jumps is said by the controller itself, also while nothing waits because of it."""

import asyncio
import logging
from datetime import UTC, datetime, timedelta

import pytest

from reconciler import bootstrap
from reconciler.controller.pauses import PauseChange
from reconciler.model.recorded import Pause
from reconciler.model.target import Target
from reconciler.model.timestamps import stamp
from tests.controller.controller_harness import Harness
from tests.controller.test_controller import begin, converged, play, synced
from tests.support.durations import BRISK
from tests.support.rig import Rig

HOUR = timedelta(hours=1)


class Wall:
    """The host's clock, and how far it was set."""

    def __init__(self) -> None:
        self.ahead = timedelta()

    def __call__(self) -> datetime:
        return datetime.now(UTC) + self.ahead


@pytest.mark.parametrize("hours", [2, -2])
def test_a_jump_is_said_and_over_when_the_clock_is_right_again(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, hours: int
) -> None:
    wall = Wall()
    monkeypatch.setattr(bootstrap, "now", wall)
    rig.server()
    rig.document()
    rig.begin()
    rig.settings(soleWriter=True)
    caplog.set_level(logging.INFO, "reconciler.controller")
    said = asyncio.run(_jumped(rig, wall, timedelta(hours=hours)))

    assert said == f"our own clock jumped by {hours * 3600} s"
    told = [record.getMessage() for record in caplog.records]
    assert sum("no request and no restart begins" in line for line in told) == 1
    assert told.count("our own clock is believed again") == 1


def test_a_server_that_is_paused_stays_so_when_the_clock_jumps_over_its_end(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    wall = Wall()
    monkeypatch.setattr(bootstrap, "now", wall)
    server = converged(rig, calm=True)
    begin(rig, durations=BRISK)
    saves = server.record.saves
    now = wall()
    pause = Pause(Target(server.url, "0"), "maintenance", "ann", stamp(now), now + HOUR)

    async def story(harness: Harness) -> None:
        await synced(harness)
        assert harness.controller is not None
        await harness.controller.pause(PauseChange(pause.target, "tokyo-1", "ann", pause))
        wall.ahead = 24 * HOUR
        await harness.until(lambda: harness.status_store.controller.clock != "", "it is said")
        rig.rotate()
        await harness.passed(times=2)
        assert harness.status().health == "suspended"
        assert server.record.saves == saves

    play(Harness(rig), story)


async def _jumped(rig: Rig, wall: Wall, jump: timedelta) -> str:
    async with Harness(rig).running() as harness:
        await harness.until(lambda: harness.status().health == "healthy", "it is looked after")
        store = harness.status_store
        assert store.controller.clock == ""

        wall.ahead = jump
        await harness.until(lambda: store.controller.clock != "", "it is said")
        said = store.controller.clock
        await harness.until(
            lambda: any(news.state == "clock" for news in harness.ear.heard), "and told"
        )
        wall.ahead = timedelta()
        await harness.until(lambda: store.controller.clock == "", "it is over")
    return said
