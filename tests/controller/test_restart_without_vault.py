"""Robots that were stopped are started again although Vault went away in between."""

from reconciler.sandbox.jt_trader.server import Behaviour
from tests.controller.desk import Desk
from tests.controller.test_loop import BRISK, begin, play, synced
from tests.world import World


def test_stopped_robots_are_started_with_the_login_that_was_kept(world: World) -> None:
    server = world.server(behaviour=Behaviour(halt="late", effect_late=0.5))
    world.document(robots={"onCredentialChange": "restart"})
    begin(world, durations=BRISK | {"robot": "4s"})

    async def story(desk: Desk) -> None:
        await synced(desk)
        await desk.until(lambda: len(server.record.robot_starts) == 1, "the first restart")
        await desk.passed()
        for times in (2, 3):  # and what was learnt of Vault is forgotten
            world.rotate()
            stops = server.record.robot_stops_asked
            await desk.until(
                lambda stops=stops: len(server.record.robot_stops_asked) > len(stops),  # type: ignore[misc]
                "asked to stop",
            )
            world.bao.pause()
            try:
                await desk.until(
                    lambda times=times: len(server.record.robot_starts) == times,  # type: ignore[misc]
                    "started again",
                )
                await desk.until(
                    lambda: bool(desk.status_store.controller.secrets), "Vault is missed"
                )
            finally:
                world.bao.resume()
            await desk.until(lambda: not desk.status_store.controller.secrets, "Vault is back")
            await synced(desk)

    play(Desk(world), story)
    assert server.robots_running() == {1, 2}
    assert all(start.registered for start in server.record.starts)
