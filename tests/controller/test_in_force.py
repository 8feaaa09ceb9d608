"""Documents change under a controller that runs: what counts from then on, and what goes on."""

import asyncio
from typing import Any

import pytest

from tests.controller.controller_harness import Harness
from tests.controller.test_controller import begin, moment, play, synced
from tests.support.durations import BRISK
from tests.support.rig import Rig

SUSPENDED = {"suspend": {"reason": "maintenance", "by": "desk"}}


@pytest.mark.parametrize("now", [SUSPENDED, {}], ids=["suspended", "removed"])
def test_a_reboot_that_waits_is_not_sent_when_its_document_says_otherwise(
    rig: Rig, now: dict[str, Any]
) -> None:
    names = ("kyoto-1", "tokyo-1")
    servers = {name: rig.server(name) for name in names}
    for name in names:
        rig.document(name, supervised=True)
    begin(rig)
    assert rig.apply().code == 0
    begin(rig, durations=BRISK | {"ready": "60s"})
    for server in servers.values():
        server.behaviour.reboot = "never comes back"

    def down() -> list[str]:
        return [name for name, server in servers.items() if server.record.reboot_requests]

    async def story(harness: Harness) -> None:
        await synced(harness, *names)
        reboot = {"bootedAfter": moment(), "robots": "leave", "reason": "quarterly"}
        for name in names:
            rig.document(name, rotate=False, supervised=True, reboot=reboot)
        await harness.until(lambda: bool(down()), "one goes down")
        (first,) = down()
        (waiting,) = set(names) - {first}
        revision = harness.status_store.controller.revision
        rig.document(waiting, rotate=False, supervised=True, **now)
        await harness.until(
            lambda: harness.status_store.controller.revision != revision, "it is in force"
        )
        assert not harness.status_store.servers[waiting].judged
        await harness.until(lambda: servers[first].record.reboots == 1, "it is down")
        await asyncio.to_thread(servers[first].come_back)
        await synced(harness, first)
        await harness.passed(waiting, times=3)
        assert servers[waiting].record.reboot_requests == 0
        assert harness.status_store.servers[waiting].judged

    play(Harness(rig), story)


def test_a_policys_limits_outlast_documents_that_say_the_same_in_other_words(rig: Rig) -> None:
    names = ("kyoto-1", "tokyo-1")
    servers = [rig.server(name, robots=[]) for name in names]
    for name in names:
        rig.document(name)
    begin(rig)
    assert rig.apply().code == 0
    begin(rig, policy=rig.policy(limits={"deletes": 1}))
    for name in names:
        rig.document(name, rotate=False, exchanges={"bybit": {"state": "absent"}})

    def left() -> int:
        return sum(bool(server.values()) for server in servers)

    async def story(harness: Harness) -> None:
        await harness.until(lambda: left() == 1, "one is deleted")
        before = harness.status_store.controller.revision
        file = rig.docs / "tokyo-1.yaml"
        file.write_text(f"# The desk knows.\n{file.read_text('utf-8')}", "utf-8")
        await harness.until(
            lambda: harness.status_store.controller.revision != before, "it is in force"
        )
        for name in names:
            await harness.passed(name)
        assert left() == 1

        for name in names:
            absent = {"bybit": {"state": "absent"}}
            rig.document(name, rotate=False, supervised=True, exchanges=absent)
        await harness.until(lambda: left() == 0, "the other one, by documents that people changed")

    play(Harness(rig), story)
