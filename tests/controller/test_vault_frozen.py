"""
A Vault that is frozen or sealed: every worker looks again soon after its return.

The interval and the longest backoff are ten minutes: whoever looks before this test loses its
patience did so because Vault was there again, or because it had not failed often yet.
"""

import asyncio
import logging
import time
from collections.abc import Callable

import pytest

from reconciler.sandbox.openbao import OpenBao
from tests.controller.controller_harness import Harness
from tests.controller.test_controller import begin, play
from tests.support.durations import BRISK
from tests.support.fleet import Fleet
from tests.support.rig import Rig

LOG = logging.getLogger(__name__)
FAR = BRISK | {
    "interval": "600s",
    "backoffMost": "600s",
    # Who was kept waiting for as long as one request may take tells the others not to ask.
    "secretsRequest": "500ms",
    "secretsTotal": "1s",
}
SERVERS = 5
WAYS: dict[str, tuple[Callable[[OpenBao], None], Callable[[OpenBao], None]]] = {
    "frozen": (OpenBao.pause, OpenBao.resume),
    "sealed": (OpenBao.seal, OpenBao.unseal),
}


@pytest.mark.timeout(400)
@pytest.mark.parametrize(
    "seconds",
    [1.0, 5.0, *(pytest.param(long, marks=pytest.mark.long) for long in (20.0, 60.0, 120.0))],
)
@pytest.mark.parametrize("way", WAYS)
def test_every_worker_looks_again_when_it_is_back(rig: Rig, way: str, seconds: float) -> None:
    leave, come_back = WAYS[way]

    async def story(harness: Harness) -> None:
        controller = harness.controller
        assert controller is not None
        await harness.until(
            lambda: not fleet.stale() and all(harness.status(n).last_success for n in fleet.names),
            "the first keys",
        )
        leave(rig.bao)
        try:
            controller.look_again()
            await harness.until(
                lambda: all(harness.status(name).failures for name in fleet.names), "all failed"
            )
            await asyncio.sleep(seconds)
        finally:
            come_back(rig.bao)
        back, before = time.monotonic(), dict(harness.ended)
        await harness.until(
            lambda: all(
                harness.ended[name] > before[name] and not harness.status(name).failures
                for name in fleet.names
            ),
            "all looked again",
        )
        took = time.monotonic() - back
        LOG.info("%s for %g s, all looked again %.2f s after it", way, seconds, took)
        for name in fleet.names:
            fleet.rotate(name)
        controller.look_again()
        await harness.until(lambda: not fleet.stale(), "the new keys")
        assert not harness.status_store.stuck

    with Fleet(rig, SERVERS) as fleet:
        begin(rig, durations=FAR)
        play(Harness(rig), story)
