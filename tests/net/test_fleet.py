"""Many servers at once: what the helper `tests.support.fleet` promises, on the real command."""

import threading
import time

import pytest

from tests.support.fault_proxy import HALF_OPEN
from tests.support.fleet import Fleet
from tests.support.rig import Rig


@pytest.mark.parametrize("proxied", [False, True], ids=["direct", "proxied"])
def test_a_fleet_is_applied_to(rig: Rig, proxied: bool) -> None:  # noqa: FBT001  - a row
    with Fleet(rig, 5, exchanges=("bybit", "okx"), proxied=proxied) as fleet:
        rig.begin()
        assert len(fleet.stale()) == 10
        ran = rig.apply()
        assert ran.code == 0, ran.text
        assert fleet.stale() == []
        fleet.rotate("desk-03", "okx")
        assert fleet.stale() == ["desk-03/okx"]
        assert all(record.saves == 2 for record in fleet.records.values())
        assert fleet.fatal_paths() == 0
        assert all(proxy.counts.up for proxy in fleet.proxies.values())


def test_one_that_hangs_is_told_from_the_others(rig: Rig) -> None:
    with Fleet(rig, 4, proxied=True) as fleet:
        rig.begin()
        fleet.servers["desk-02"].hang()
        fleet.proxies["desk-03"].switch(HALF_OPEN)
        ran = rig.apply()
        assert ran.code == 6, ran.text
        assert fleet.stale() == ["desk-02/bybit", "desk-03/bybit"]
        fleet.servers["desk-02"].recover()
        fleet.proxies["desk-03"].heal()
        assert rig.apply().code == 0
        assert fleet.stale() == []
        assert all(record.saves == 1 for record in fleet.records.values())


def test_fifty_cost_little_and_leave_nothing(rig: Rig) -> None:
    began = time.monotonic()
    with Fleet(rig, 50, proxied=True) as fleet:
        assert len(set(fleet.urls.values())) == 50
        assert [thread.name for thread in threading.enumerate()].count("fleet") == 1
        assert len(list(rig.docs.iterdir())) == 50
    assert "fleet" not in [thread.name for thread in threading.enumerate()]
    assert time.monotonic() - began < 60


def test_everything_that_one_stand_in_can_do_each_of_them_can(rig: Rig) -> None:
    with Fleet(rig, 2) as fleet:
        one, other = (fleet.servers[name] for name in fleet.names)
        one.crash(0.01)
        one.restart()
        other.drop_connections()
        fleet.everywhere(lambda server: server.server.crash(0.01))

        assert (one.record.crashes, other.record.crashes) == (2, 1)
        one.set_running(1, running=False)
        assert (one.robots_running(), other.robots_running()) == ({2}, {1, 2})
        assert one.url == fleet.url("desk-01")
