"""CI and a controller on one ledger: drift and requests are the controller's alone."""

import asyncio
import json
import uuid
from typing import Any

import pytest

from reconciler.model.conditions import Code, Condition
from tests.controller.controller_harness import Harness
from tests.controller.test_controller import KEY, begin, converged, moment, play
from tests.support.durations import BRISK
from tests.support.rig import Ran, Rig


async def aside(rig: Rig, *args: str) -> Ran:
    """Run a command of its own process while the controller goes on."""
    return await asyncio.to_thread(rig.process, *args)


def test_beside_a_controller_apply_leaves_drift_and_requests_to_it(rig: Rig) -> None:
    server = converged(rig, selfHeal=True)
    found: dict[str, Any] = {}

    async def story(harness: Harness) -> None:
        await harness.passed()
        wish = {"bootedAfter": moment(), "robots": "leave", "reason": "new okx"}
        # A controller that only reports, so that what apply leaves stays there to be seen.
        rig.document("tokyo-1", "bybit", rotate=False, selfHeal=True, supervised=True, reboot=wish)
        found["apply"] = await aside(rig, "apply", str(rig.docs), "--auto-approve")
        found["plan"] = await aside(rig, "plan", str(rig.docs), "-o", "json", "--recorded")

    play(Harness(rig, quiet=Condition(Code.NO_DISRUPTIVE, "a test")), story)
    assert found["apply"].code == 0, found["apply"].text
    assert (
        "is the controller of this ledger: drift and requests are left to it" in found["apply"].err
    )
    lines = json.loads(found["plan"].out)["servers"][0]["disruptions"]
    assert [line["standing"] for line in lines] == ["held back"]
    assert "left to the controller" in lines[0]["why"]
    assert server.record.reboot_requests == 0


def test_a_controller_that_is_gone_leaves_everything_to_apply(rig: Rig) -> None:
    server = converged(rig, selfHeal=True)

    async def story(harness: Harness) -> None:
        await harness.passed()

    play(Harness(rig), story)
    server.set_value(KEY, rig.watch.secret("hex"))
    ran = rig.apply()

    assert (ran.code, server.record.saves) == (0, 2)
    assert "is the controller" not in ran.err


def test_a_controller_refuses_the_role_of_ci(rig: Rig) -> None:
    rig.server()
    rig.document()
    begin(rig, role="ci")

    ran = rig.process("controller", str(rig.docs))

    assert ran.code == 64
    assert "`role: controller`" in ran.err


@pytest.mark.silence
def test_without_vault_a_ledger_in_vault_is_waited_for(rig: Rig) -> None:
    mount = f"jtr-{uuid.uuid4().hex[:8]}"
    rig.bao.request("POST", f"sys/mounts/{mount}", {"type": "kv", "options": {"version": "2"}})
    server = rig.server()
    rig.document()
    rig.settings(
        durations=BRISK,
        ledger=f"vault:{mount}/ledger",
        fingerprintKey=f"{rig.reference('fingerprint')}#key",
    )
    rig.begin()

    async def story(harness: Harness) -> None:
        await harness.until(lambda: "Vault" in harness.status_store.controller.waiting, "it waits")
        assert (harness.status_store.ready, bool(harness.status_store.controller.revision)) == (
            False,
            True,
        )
        rig.bao.resume()
        await harness.until(lambda: server.record.saves == 1, "it goes on")
        await harness.passed()
        assert harness.status_store.ready
        assert not harness.status_store.controller.waiting

    rig.bao.pause()
    try:
        play(Harness(rig), story)
    finally:
        rig.bao.resume()
