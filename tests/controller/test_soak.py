"""
A controller for minutes, in a world where nothing lasts: what it must not do, and what it must.

Judged by the other side's count; see `soak_harness`.  The seed is printed and can be set, to draw
the same things again (not at the same moments): `JTR_SOAK_SEED=...`.
"""

import os
import secrets
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.controller.soak_harness import Soak
from tests.support.lasting_openbao import LastingOpenBao
from tests.support.leaks import Watch
from tests.support.rig import LEDGERS, Rig

SERVERS = 20
# Read before a rig takes them out of the environment.
SEED = int(os.environ.get("JTR_SOAK_SEED", "") or secrets.randbits(32))
SECONDS = float(os.environ.get("JTR_SOAK_SECONDS", "") or 1800)


@pytest.fixture
def lasting(
    tmp_path: Path, watch: Watch, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[Rig, LastingOpenBao]]:
    """A world with an OpenBao of its own, which may be restarted."""
    with LastingOpenBao() as bao, Rig(tmp_path, bao, watch, monkeypatch) as rig:
        yield rig, bao


def soak(
    rig: Rig,
    bao: LastingOpenBao,
    ledger: str,
    *,
    phases: int,
    each: float,
    growth: float,
    spare: float,
    seconds: float = 0.0,
) -> None:
    """
    Soak through so many *phases* of *each* seconds of trouble, and for so long at least.

    *growth* in MiB is allowed.  *spare* is by how much the least of what else is counted may grow:
    pools still fill up.
    """
    print(f"seed {SEED}")  # noqa: T201  - shown when it fails, and with -rP
    end = time.monotonic() + seconds
    with Soak(rig, bao, SEED, ledger, servers=SERVERS) as it:
        done = 0
        while done < phases or time.monotonic() < end:
            it.phase(each)
            done += 1
            left = end - time.monotonic()
            print(f"phase {done}, {left:.0f} s left: {dict(it.counts)}", flush=True)  # noqa: T201
        it.end()
        figures = {name: f"{max(all_):.1f} s" for name, all_ in it.arrivals.items()}
        print(  # noqa: T201  - the slopes are what it is for
            f"FIGURES: seed {SEED}, {done} phases; changes arrived at most after {figures}\n"
            f"{dict(sorted(it.counts.items()))}\n{it.meter.table()}"
        )
        # Pools fill up in the first minutes: 32 threads for files and ledger, 8 for Vault; each
        # that asks Vault may have a timer and a connection; the loop, the watcher, the pages.
        asking = 8 if ledger == "sqlite" else 8 + 32
        assert max(it.meter.column("threads")) <= 32 + 8 + asking + 12, it.meter.table()
        assert max(it.meter.column("descriptors")) <= 2 * SERVERS + 32 + 20, it.meter.table()
        for name in ("descriptors", "threads", "tasks"):
            first, last = it.meter.floors(name)
            assert last <= first + spare, f"{name} grow:\n{it.meter.table()}"
        _, warm, last = it.meter.thirds("RSS MiB")
        assert last - warm < growth, it.meter.table()


@pytest.mark.volume
@pytest.mark.timeout(900)
def test_a_minute(lasting: tuple[Rig, LastingOpenBao]) -> None:
    soak(*lasting, "sqlite", phases=4, each=6, growth=8.0, spare=20.0)


@pytest.mark.long
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("ledger", LEDGERS)
def test_half_an_hour(lasting: tuple[Rig, LastingOpenBao], ledger: str) -> None:
    soak(*lasting, ledger, phases=3, seconds=SECONDS, each=25, growth=8.0, spare=10.0)
