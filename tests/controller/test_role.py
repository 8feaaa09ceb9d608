"""CI and a controller on one ledger: drift and requests are the controller's alone."""

import asyncio
import json
import uuid
from typing import Any

from tests.controller.desk import Desk
from tests.controller.test_loop import BRISK, KEY, begin, converged, moment, play
from tests.world import Ran, World


async def aside(world: World, *args: str) -> Ran:
    """Run a command of its own process while the controller goes on."""
    return await asyncio.to_thread(world.process, *args)


def test_beside_a_controller_apply_leaves_drift_and_requests_to_it(world: World) -> None:
    server = converged(world, selfHeal=True)
    found: dict[str, Any] = {}

    async def story(desk: Desk) -> None:
        await desk.passed()
        wish = {"bootedAfter": moment(), "robots": "leave", "reason": "new okx"}
        # A controller that only reports, so that what apply leaves stays there to be seen.
        world.document(
            "tokyo-1", "bybit", rotate=False, selfHeal=True, supervised=True, reboot=wish
        )
        found["apply"] = await aside(world, "apply", str(world.docs), "--auto-approve")
        found["plan"] = await aside(world, "plan", str(world.docs), "-o", "json", "--recorded")

    play(Desk(world, quiet="a test"), story)
    assert found["apply"].code == 0, found["apply"].text
    assert (
        "is the controller of this ledger: drift and requests are left to it" in found["apply"].err
    )
    lines = json.loads(found["plan"].out)["servers"][0]["disruptions"]
    assert [line["standing"] for line in lines] == ["held back"]
    assert "left to the controller" in lines[0]["why"]
    assert server.record.reboot_requests == 0


def test_a_controller_that_is_gone_leaves_everything_to_apply(world: World) -> None:
    server = converged(world, selfHeal=True)

    async def story(desk: Desk) -> None:
        await desk.passed()

    play(Desk(world), story)
    server.set_value(KEY, world.watch.secret("hex"))
    ran = world.apply()

    assert (ran.code, server.record.saves) == (0, 2)
    assert "is the controller" not in ran.err


def test_a_controller_refuses_the_role_of_ci(world: World) -> None:
    world.server()
    world.document()
    begin(world, role="ci")

    ran = world.process("controller", str(world.docs))

    assert ran.code == 64
    assert "`role: controller`" in ran.err


def test_without_vault_a_ledger_in_vault_is_waited_for(world: World) -> None:
    mount = f"jtr-{uuid.uuid4().hex[:8]}"
    world.bao.request("POST", f"sys/mounts/{mount}", {"type": "kv", "options": {"version": "2"}})
    server = world.server()
    world.document()
    world.settings(
        durations=BRISK,
        ledger=f"vault:{mount}/ledger",
        fingerprintKey=f"{world.reference('fingerprint')}#key",
    )
    world.begin()

    async def story(desk: Desk) -> None:
        await desk.until(lambda: "Vault" in desk.status_store.controller.waiting, "it waits")
        assert (desk.status_store.ready, bool(desk.status_store.controller.revision)) == (
            False,
            True,
        )
        world.bao.resume()
        await desk.until(lambda: server.record.saves == 1, "it goes on")
        await desk.passed()
        assert desk.status_store.ready
        assert not desk.status_store.controller.waiting

    world.bao.pause()
    try:
        play(Desk(world), story)
    finally:
        world.bao.resume()
