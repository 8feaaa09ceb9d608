"""
The promises of `reconciler.drivers` on what acts on trading: robots, the cache, reboots.
"""

import asyncio
import contextlib
from typing import Any

import pytest

from reconciler.errors import ConnectionLost, NoAnswer, ServerRefused
from reconciler.testing.drivers_rig import HASTY, Action, DriverStories, Opened


class RobotStories(DriverStories):
    """A part of `reconciler.testing.drivers.DriverContract`."""

    # ── robots ───────────────────────────────────────────────────────────────────────────────────

    def test_a_robot_is_stopped_and_started_again_on_a_new_connection(self, opened: Opened) -> None:
        async def story() -> None:
            async with opened() as rig:
                session = await rig.fresh()
                listed = await session.stop(1)
                assert {robot.id for robot in listed if robot.running} == {2} == rig.running()
                with pytest.raises(ServerRefused, match="does not run"):
                    await session.stop(1)
                await session.close()
                session = await rig.fresh()
                listed = await session.start(1)
                assert {robot.id for robot in listed if robot.running} == {1, 2} == rig.running()
                assert listed == await session.robots()
                await session.close()
                assert rig.acted() == (1, 1, 0, 0)
                assert rig.done() == (0, 0, 0)

        self.tell(story)

    @pytest.mark.parametrize("number", [1, 4, 0, -1, True, "3", 3.0, None, [3]])
    def test_only_a_robot_that_was_seen_stopped_is_started(
        self, opened: Opened, number: Any
    ) -> None:
        async def story() -> None:
            async with opened() as rig:
                session = await rig.session()
                for known in (False, True):
                    if known:
                        await session.robots()
                    with pytest.raises(ServerRefused):
                        await session.start(number)
                await session.start(3)  # what was refused took nothing away
                await session.close()
                assert rig.acted() == (1, 0, 0, 0)
                assert rig.running() == {1, 2, 3}

        self.tell(story)

    @pytest.mark.parametrize("number", [3, 4, 0, True, "1", 1.0, None])
    def test_only_a_robot_that_was_seen_running_is_stopped(
        self, opened: Opened, number: Any
    ) -> None:
        async def story() -> None:
            async with opened() as rig:
                session = await rig.session()
                for known in (False, True):
                    if known:
                        await session.robots()
                    with pytest.raises(ServerRefused):
                        await session.stop(number)
                assert len(await session.robots()) == 3
                await session.close()
                assert rig.acted() == (0, 0, 0, 0)
                assert rig.running() == {1, 2}

        self.tell(story)

    @pytest.mark.parametrize(
        ("before", "number"),
        [
            (lambda s, _: s.start(3), 3),  # it failed, and is not tried again
            (lambda s, _: s.stop(1), 1),
            (lambda s, rig: rig.save(s), 3),
            (lambda s, _: s.invalidate(), 3),
        ],
    )
    def test_a_start_is_the_first_change_on_its_connection_and_the_only_one(
        self, opened: Opened, before: Action, number: int
    ) -> None:
        async def story() -> None:
            async with opened() as rig:
                rig.misbehave("3 fails to start")
                session = await rig.session()
                await session.observe()
                await before(session, rig)
                await session.robots()
                with pytest.raises(ServerRefused, match="new connection"):
                    await session.start(number)
                await session.close()
                assert rig.acted()[0] == 0
                assert rig.done()[2] == 0

        self.tell(story)

    def test_a_start_that_fails_harms_nobody_while_we_are_registered(self, opened: Opened) -> None:
        async def story() -> None:
            async with opened() as rig:
                rig.misbehave("3 fails to start")
                session = await rig.fresh()
                listed = await session.start(3)
                assert [robot.running for robot in listed if robot.id == 3] == [False]
                assert {robot.id for robot in await session.robots() if robot.running} == {1, 2}
                await session.close()
                assert rig.acted() == (0, 0, 0, 0)
                assert rig.done() == (0, 0, 0)

        self.tell(story)

    @pytest.mark.parametrize(
        ("fault", "deed", "acted"),
        [
            ("start silent", lambda s, _: s.start(3), (1, 0, 0, 0)),
            ("start lost before", lambda s, _: s.start(3), (0, 0, 0, 0)),
            ("3 hangs in its start", lambda s, _: s.start(3), (0, 0, 0, 0)),
            ("stop silent", lambda s, _: s.stop(1), (0, 1, 0, 0)),
            ("stop lost before", lambda s, _: s.stop(1), (0, 0, 0, 0)),
            ("1 hangs in its stop", lambda s, _: s.stop(1), (0, 1, 0, 0)),
            ("cache silent", lambda s, _: s.invalidate(), (0, 0, 1, 0)),
            ("cache lost before", lambda s, _: s.invalidate(), (0, 0, 0, 0)),
            ("cache lost after", lambda s, _: s.invalidate(), (0, 0, 1, 0)),
        ],
    )
    def test_a_deed_without_an_answer_is_not_known_and_ends_the_session(
        self, opened: Opened, fault: str, deed: Action, acted: tuple[int, int, int, int]
    ) -> None:
        async def story() -> None:
            async with opened(timeouts=HASTY) as rig:
                rig.misbehave(fault)
                session = await rig.fresh()
                with pytest.raises(NoAnswer):
                    await deed(session, rig)
                assert await session.ended(0)
                for again in (session.robots(), session.log(), session.entries()):
                    with pytest.raises(ConnectionLost):
                        await again
                with pytest.raises((ConnectionLost, ServerRefused)):
                    await deed(session, rig)
                await session.close()
                assert rig.acted() == acted
                assert rig.done() == (0, 0, 0)

        self.tell(story)

    # ── cache and reboot ─────────────────────────────────────────────────────────────────────────

    def test_invalidation_is_answered_and_leaves_everything_else(self, opened: Opened) -> None:
        async def story() -> None:
            async with opened() as rig:
                session = await rig.session()
                before = await session.observe()
                await session.invalidate()
                after = await session.observe()
                await session.close()
                assert (after.robots, after.exchanges) == (before.robots, before.exchanges)
                assert after.log.boots == before.log.boots
                assert rig.acted() == (0, 0, 1, 0)

        self.tell(story)

    def test_a_reboot_ends_the_connection_and_leaves_a_boot_line(self, opened: Opened) -> None:
        async def story() -> None:
            async with opened() as rig:
                session = await rig.session()
                before = (await session.observe()).log
                assert not await session.ended(0)
                await session.reboot()
                assert await session.ended(5)
                with pytest.raises(ConnectionLost):
                    await session.robots()
                await session.close()
                session = await rig.returned()
                async with asyncio.timeout(5):
                    # Its log may be late.
                    while (after := await session.observe()).log.boots == before.boots:  # noqa: ASYNC110
                        await asyncio.sleep(0.01)
                await session.close()
                assert after.log.boots[:-1] == before.boots
                assert after.log.boot == after.log.boots[-1].time > (before.boot or 0)
                assert not after.log.strangers
                assert after.running() == ()
                assert rig.acted() == (0, 0, 0, 1)

        self.tell(story)

    def test_a_reboot_that_does_not_happen_leaves_a_session_that_reads_and_only_reads(
        self, opened: Opened
    ) -> None:
        async def story() -> None:
            async with opened() as rig:
                rig.misbehave("reboot ignored")
                session = await rig.session()
                before = await session.observe()
                await session.reboot()
                assert not await session.ended(0.1)
                assert (await session.log()).boots == before.log.boots
                assert await session.robots() == before.robots
                for deed in (
                    session.reboot(),
                    rig.save(session),
                    session.stop(1),
                    session.start(3),
                    session.invalidate(),
                ):
                    with pytest.raises(ServerRefused, match="reboot"):
                        await deed
                assert await session.robots() == before.robots
                await session.close()
                assert rig.acted() == (0, 0, 0, 0)

        self.tell(story)

    def test_a_late_reboot_takes_the_readers_connection_along(self, opened: Opened) -> None:
        async def story() -> None:
            async with opened() as rig:
                rig.misbehave("reboot late")
                session = await rig.session()
                await session.reboot()
                assert not await session.ended(0.02)
                async with asyncio.timeout(5):
                    with contextlib.suppress(ConnectionLost):
                        while True:
                            await session.robots()
                            await asyncio.sleep(0.01)
                assert await session.ended(0)
                await session.close()
                assert rig.acted() == (0, 0, 0, 1)

        self.tell(story)

    def test_nothing_is_asked_on_a_connection_that_is_over(self, opened: Opened) -> None:
        async def story() -> None:
            async with opened() as rig:
                session = await rig.fresh()
                await session.close()
                assert await session.ended(0)
                for deed in (session.stop(1), session.invalidate(), session.reboot()):
                    with pytest.raises((ConnectionLost, ServerRefused)):
                        await deed
                session = await rig.fresh()
                await session.close()
                with pytest.raises(ConnectionLost, match="nothing was sent"):
                    await session.reboot()
                assert rig.acted() == (0, 0, 0, 0)

        self.tell(story)

    @pytest.mark.parametrize(
        ("command", "allowed"), [("plan", set()), ("logs", set()), ("request", {"start"})]
    )
    def test_who_may_act(self, opened: Opened, command: str, allowed: set[str]) -> None:
        async def story() -> None:
            async with opened(command=command) as rig:
                deeds: dict[str, Action] = {
                    "start": lambda s, _: s.start(3),
                    "stop": lambda s, _: s.stop(1),
                    "invalidate": lambda s, _: s.invalidate(),
                    "reboot": lambda s, _: s.reboot(),
                }
                for name, deed in deeds.items():
                    session = await rig.fresh()
                    if name in allowed:
                        await deed(session, rig)
                    else:
                        with pytest.raises(ServerRefused, match="must not send"):
                            await deed(session, rig)
                    await session.close()
                assert rig.acted() == (len(allowed), 0, 0, 0)

        self.tell(story)
