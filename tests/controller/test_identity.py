"""
A server is its address and account, never its name: documents change while passes go on.
"""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
import yaml

from reconciler.drivers.jt_trader.driver import JtTraderSession
from reconciler.model.observed import ObservedServer
from tests.controller.controller_harness import Harness
from tests.controller.test_controller import begin, converged, play, synced
from tests.support.durations import BRISK
from tests.support.rig import Rig


@contextmanager
def slow(monkeypatch: pytest.MonkeyPatch) -> Iterator[asyncio.Event]:
    """Let every look take until the event that this yields is set; it is set at the end."""
    go, real = asyncio.Event(), JtTraderSession.observe

    async def observe(self: JtTraderSession) -> ObservedServer:
        seen = await real(self)
        await go.wait()
        return seen

    with monkeypatch.context() as patch:
        patch.setattr(JtTraderSession, "observe", observe)
        yield go
        go.set()


def fleet(rig: Rig, **servers: tuple[str, str]) -> None:
    """Write all documents at once: by name the server it is on, and whose keys it has."""
    rig.write(
        "tokyo-1.yaml",
        yaml.safe_dump_all(
            {
                "apiVersion": "jtr/v1",
                "kind": "TradingServer",
                "metadata": {"name": name.replace("_", "-")},
                "spec": {
                    "url": rig.servers[server].url,
                    "accessSecret": f"{rig.reference(server)}#access_secret",
                    "exchanges": {"bybit": {"credentials": rig.reference(f"{keys}/bybit")}},
                },
            }
            for name, (server, keys) in servers.items()
        ),
    )


def test_a_new_machine_that_takes_a_name_gets_its_own_keys_only(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The old machine's connection went on serving the name, and got the new one's keys."""
    old = converged(rig)
    new = rig.server("tokyo-2")
    kept, fresh = dict(old.values()), rig.rotate("fresh")

    async def story(harness: Harness) -> None:
        await synced(harness)
        with slow(monkeypatch) as go:
            await harness.until(lambda: harness.looking("tokyo-1"), "a pass is under way")
            revision = harness.status_store.controller.revision
            fleet(rig, tokyo_old=("tokyo-1", "tokyo-1"), tokyo_1=("tokyo-2", "fresh"))
            await harness.until(
                lambda: harness.status_store.controller.revision != revision, "both are in force"
            )
            go.set()
        await harness.passed("tokyo-1", times=2)
        await synced(harness, "tokyo-old", "tokyo-1")

    play(Harness(rig), story)
    assert set(new.values().values()) == set(fresh.values())
    assert old.values() == kept


def test_a_server_that_is_renamed_in_a_slow_pass_keeps_its_worker_and_its_connection(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two workers left nobody registered, and the old name stayed on the board."""
    server = converged(rig, calm=True)

    async def story(harness: Harness) -> None:
        await synced(harness)
        await harness.passed()
        connections = server.connections()
        with slow(monkeypatch) as go:
            await harness.until(lambda: harness.looking("tokyo-1"), "a pass is under way")
            revision = harness.status_store.controller.revision
            fleet(rig, osaka_1=("tokyo-1", "tokyo-1"))
            await harness.until(
                lambda: harness.status_store.controller.revision != revision, "it is in force"
            )
            go.set()
        await harness.passed("osaka-1", times=2)
        await synced(harness, "osaka-1")
        assert list(harness.status_store.servers) == ["osaka-1"]
        assert harness.status("osaka-1").server == "osaka-1"
        assert server.connections() == connections, "nobody else came, and nobody left"

    play(Harness(rig), story)


def test_a_server_that_is_dropped_and_added_in_a_slow_pass_has_one_worker(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = converged(rig, calm=True)
    begin(rig, durations=BRISK | {"resync": "1ms"})  # no pass is but a glance
    other = rig.server("tokyo-2")
    text = (rig.docs / "tokyo-1.yaml").read_text()
    rig.rotate("tokyo-2")

    async def story(harness: Harness) -> None:
        async def in_force(change: Callable[[], object]) -> None:
            revision = harness.status_store.controller.revision
            change()
            await harness.until(
                lambda: harness.status_store.controller.revision != revision, "it is in force"
            )

        await synced(harness)
        await harness.passed()
        connections = server.connections()
        with slow(monkeypatch) as go:
            await harness.until(lambda: harness.looking("tokyo-1"), "a pass is under way")
            await in_force(lambda: fleet(rig, tokyo_2=("tokyo-2", "tokyo-2")))
            assert "tokyo-1" not in harness.status_store.servers
            await in_force(lambda: rig.write("tokyo-1.yaml", text))
            go.set()
        await harness.passed(times=2)
        await synced(harness)
        assert list(harness.status_store.servers) == ["tokyo-1"]
        assert server.connections() == connections, "nobody else came, and nobody left"
        await harness.until(lambda: not other.connections(), "and the one that is gone is left")

    play(Harness(rig), story)
