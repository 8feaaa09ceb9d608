"""A person stops a robot just before a reboot is sent: we never start it again."""

from typing import Final

import pytest

from reconciler.ledger import Stored
from reconciler.ledger.stores.memory import MemoryStore
from reconciler.testing.virtual_time import VirtualClock, virtual_time
from tests.crash.request_scenarios import RUNNING, reboot, settled

STOPPED: Final = 1
MANY: Final = 40  # more readings of the ledger than there are before a reboot


async def rebooted(clock: VirtualClock, nth: int, monkeypatch: pytest.MonkeyPatch) -> bool:
    """
    Reboot, while a person stops a robot at the *nth* reading of the requests in the ledger.

    Return whether that was before the reboot was sent; then the robot must not run at the end.
    """
    harness = await settled(clock)
    harness.wish(reboot=reboot(harness))
    trader, real = harness.trader, MemoryStore.get
    readings, before = 0, False

    def get(store: MemoryStore, key: str) -> Stored | None:
        nonlocal readings, before
        if key.endswith("/requests"):
            readings += 1
            if readings == nth and not trader.server.record.reboot_requests:
                before = True
                trader.turn_by_hand(STOPPED, running=False)
        return real(store, key)

    with monkeypatch.context() as patch:
        patch.setattr(MemoryStore, "get", get)
        await harness.apply()
    assert trader.running() == RUNNING - {STOPPED} if before else RUNNING
    return before


def test_who_was_stopped_by_a_person_is_not_started(monkeypatch: pytest.MonkeyPatch) -> None:
    found = []
    for nth in range(1, MANY):
        clock = VirtualClock()
        with virtual_time(clock) as runner:
            found.append(runner.run(rebooted(clock, nth, monkeypatch)))

    assert sum(found) >= 3
    assert not found[-1], "it was stopped at each reading before the reboot"
