"""
A ledger that hangs, fails or comes back: nobody is left alone, and nothing is done without it.
"""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from reconciler.controller.worker import ServerWorker
from reconciler.errors import LedgerError
from reconciler.ledger.stores.sqlite import SqliteStore
from reconciler.notifications.events import Topic
from tests.controller.controller_harness import Harness
from tests.controller.test_controller import KEY, begin, converged, play, synced
from tests.support.durations import BRISK
from tests.support.rig import Rig

SHORT = BRISK | {"lease": "600ms"}


@contextmanager
def hanging(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let the ledger answer nothing until the block ends; then everything that was asked."""
    flows = threading.Event()
    with monkeypatch.context() as patch:
        for method in ("get", "put_all", "keys"):  # `put` is one of them
            real = getattr(SqliteStore, method)

            def slow(
                self: SqliteStore, *args: object, _real: object = real, **more: object
            ) -> object:
                flows.wait(60)
                return _real(self, *args, **more)  # type: ignore[operator]

            patch.setattr(SqliteStore, method, slow)
        try:
            yield
        finally:
            flows.set()


@contextmanager
def failing(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let every call of the ledger fail until the block ends."""

    def fail(*_: object, **__: object) -> object:
        raise LedgerError("502", "wait")

    with monkeypatch.context() as patch:
        for method in ("get", "put_all", "keys"):  # `put` is one of them
            patch.setattr(SqliteStore, method, fail)
        yield


def test_a_ledger_that_hangs_ends_no_worker(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """For longer than a lease: every worker asked a lease that was on its way out, and ended."""
    server = converged(rig)
    begin(rig, durations=SHORT)

    async def story(harness: Harness) -> None:
        await synced(harness)
        with hanging(monkeypatch):
            await harness.until(lambda: not harness.status_store.controller.acting, "it lost it")
            await asyncio.sleep(1.0)
        await harness.until(lambda: harness.status_store.controller.acting, "it has it again")
        fresh = rig.rotate()
        await harness.until(lambda: server.values()[KEY] == fresh["apiKey"], "it is worked on")
        assert not harness.status_store.stuck

    play(Harness(rig), story)


def test_without_its_ledger_it_still_notices_robots_that_stop(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = converged(rig, calm=True)
    begin(rig, durations=SHORT)

    async def story(harness: Harness) -> None:
        await synced(harness)
        await harness.passed()
        connections = server.connections()
        with failing(monkeypatch):
            await harness.until(lambda: not harness.status_store.controller.acting, "it lost it")
            saves = server.record.saves
            rig.rotate()
            server.set_running(1, False)
            await harness.heard(Topic.ROBOTS)
            assert server.record.saves == saves, "nothing is done without the ledger"
            assert server.connections() == connections, "and nobody is left"
        await harness.until(lambda: server.record.saves > saves, "afterwards it is")

    play(Harness(rig), story)


@pytest.mark.parametrize("error", [asyncio.CancelledError(), RuntimeError("a mistake")])
def test_a_worker_that_ends_is_an_error_and_begins_again(
    rig: Rig,
    monkeypatch: pytest.MonkeyPatch,
    error: BaseException,
    caplog: pytest.LogCaptureFixture,
) -> None:
    converged(rig)

    async def story(harness: Harness) -> None:
        await synced(harness)
        with monkeypatch.context() as patch:

            async def fall(_: ServerWorker) -> bool:
                raise error

            patch.setattr(ServerWorker, "_turn", fall)
            await harness.until(lambda: bool(harness.status_store.stuck), "/healthz says so")
            assert "tokyo-1: its worker failed" in harness.status_store.stuck
        await harness.passed()
        await harness.until(lambda: not harness.status_store.stuck, "and it is well again")

    play(Harness(rig), story)
    assert "a worker failed" in caplog.text


def test_passes_that_no_longer_begin_are_noticed(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    converged(rig)
    monkeypatch.setattr("reconciler.controller.workers.LATE", 1.0)

    async def story(harness: Harness) -> None:
        await synced(harness)
        with monkeypatch.context() as patch:

            async def hang(_: ServerWorker) -> bool:
                await asyncio.Event().wait()
                return False

            patch.setattr(ServerWorker, "_turn", hang)
            await harness.until(lambda: "no pass" in harness.status_store.stuck, "/healthz")

    with monkeypatch.context() as patch:
        patch.setitem(BRISK, "stop", "100ms")
        begin(rig)
        harness = Harness(rig)

        async def run() -> None:
            async with harness.running():
                await story(harness)

        asyncio.run(run())


def test_a_ledger_that_is_refused_at_the_start_is_waited_for(rig: Rig) -> None:
    """Only a person can mend it; a process that ended would tell nobody, and start again."""
    converged(rig, calm=True)
    begin(rig, durations=SHORT)
    file = rig.home / "state" / "jtr" / "ledger.db"
    file.chmod(0o644)

    async def story(harness: Harness) -> None:
        await harness.until(lambda: bool(harness.status_store.controller.ledger), "it says so")
        controller = harness.status_store.controller
        assert "others can open" in controller.ledger
        assert controller.waiting == controller.ledger
        assert not controller.secrets
        await harness.heard(Topic.CONTROLLER)
        file.chmod(0o600)
        await synced(harness)
        assert not harness.status_store.controller.ledger

    play(Harness(rig), story)


def test_without_any_ledger_it_ends(rig: Rig) -> None:
    rig.server()
    rig.document()
    rig.settings(soleWriter=True, durations=BRISK)

    ran = rig.process("controller", str(rig.docs), "--listen", "127.0.0.1:0")

    assert ran.code == 4
    assert "there is no ledger" in ran.err
