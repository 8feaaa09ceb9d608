"""Robots that were stopped are started again although Vault went away in between."""

import pytest

from reconciler.sandbox.jt_trader.server import Behaviour
from tests.controller.controller_harness import Harness
from tests.controller.test_controller import begin, play, synced
from tests.support.durations import BRISK
from tests.support.rig import Rig


@pytest.mark.silence
def test_stopped_robots_are_started_with_the_login_that_was_kept(rig: Rig) -> None:
    server = rig.server(behaviour=Behaviour(halt="late", effect_late=0.5))
    rig.document(robots={"onCredentialChange": "restart"})
    begin(rig, durations=BRISK | {"robot": "4s"})

    async def story(harness: Harness) -> None:
        await synced(harness)
        await harness.until(lambda: len(server.record.robot_starts) == 1, "the first restart")
        await harness.passed()
        for times in (2, 3):  # and what was learnt of Vault is forgotten
            rig.rotate()
            stops = server.record.robot_stops_asked
            await harness.until(
                lambda stops=stops: len(server.record.robot_stops_asked) > len(stops),  # type: ignore[misc]
                "asked to stop",
            )
            rig.bao.pause()
            try:
                await harness.until(
                    lambda times=times: len(server.record.robot_starts) == times,  # type: ignore[misc]
                    "started again",
                )
                await harness.until(
                    lambda: bool(harness.status_store.controller.secrets), "Vault is missed"
                )
            finally:
                rig.bao.resume()
            await harness.until(
                lambda: not harness.status_store.controller.secrets, "Vault is back"
            )
            await synced(harness)

    play(Harness(rig), story)
    assert server.robots_running() == {1, 2}
    assert all(start.registered for start in server.record.starts)
