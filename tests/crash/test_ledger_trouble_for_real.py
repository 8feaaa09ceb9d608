"""
A ledger file that cannot be written, or that forgot: real processes, and the stand-in's own count.
"""

import resource
import shutil
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

import pytest

from reconciler.sandbox.jt_trader.server import Behaviour, StandInThread
from tests.crash.test_one_shot_kills import BRISK, FAST, spelled
from tests.support.rig import Rig

SERVER: Final = "tokyo-1"
ROOT: Final = Path(__file__).parents[2]


def database(rig: Rig) -> Path:
    return rig.home / "state" / "jtr" / "ledger.db"


@pytest.fixture
def server(rig: Rig) -> StandInThread:
    """A server that is known to a ledger, and a wish for both actions."""
    rig.settings(durations={**BRISK, "ledgerBusy": "100ms"}, soleWriter=True)
    server = rig.server(SERVER, behaviour=Behaviour(**FAST))
    rig.document(SERVER)
    rig.begin()
    assert rig.apply().code == 0
    wish(rig)
    return server


def wish(rig: Rig) -> None:
    """Ask for both actions, as of now."""
    now = datetime.now(UTC)
    now = now.replace(microsecond=now.microsecond // 1000 * 1000)
    rig.document(
        SERVER,
        rotate=False,
        supervised=True,
        cache={"invalidatedAfter": spelled(now), "reason": "made up"},
        reboot={"bootedAfter": spelled(now), "robots": "resume", "reason": "made up"},
    )


def done(server: StandInThread) -> tuple[int, int]:
    """How many requests to invalidate and to reboot arrived."""
    return server.record.invalidation_requests, server.record.reboot_requests


def limited(rig: Rig, limit: Callable[[], None]) -> subprocess.CompletedProcess[str]:
    """Apply in a process of its own that begins with *limit*."""
    return subprocess.run(
        [sys.executable, "-m", "reconciler", "apply", str(rig.docs), "--auto-approve"],
        # A cut byte code would stay for everybody who comes later.
        env={"PATH": "/usr/bin:/bin", "PYTHONDONTWRITEBYTECODE": "1", **rig.environment},
        cwd=ROOT,
        preexec_fn=limit,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Keep others from writing, as a backup that hangs does."""
    with sqlite3.connect(path, isolation_level=None, check_same_thread=False) as holder:
        holder.execute("BEGIN IMMEDIATE")
        try:
            yield
        finally:
            holder.execute("ROLLBACK")
    holder.close()


def test_nothing_is_sent_while_the_ledger_is_locked(rig: Rig, server: StandInThread) -> None:
    with locked(database(rig)):
        ran = rig.apply()

    assert ran.code == 1, ran.text
    assert done(server) == (0, 0)
    assert rig.apply().code == 0
    assert done(server) == (1, 1)


def test_nothing_is_sent_when_the_disk_is_full(rig: Rig, server: StandInThread) -> None:
    # No file may grow past what the ledger's files have now.
    largest = max(file.stat().st_size for file in database(rig).parent.glob("ledger.db*"))

    ran = limited(rig, lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (4096, largest)))

    assert ran.returncode == 1, ran.stdout + ran.stderr
    assert done(server) == (0, 0)
    assert rig.apply().code == 0
    assert done(server) == (1, 1)


def test_an_answer_that_the_ledger_could_not_take_is_picked_up(
    rig: Rig, server: StandInThread
) -> None:
    # From the moment the server was asked, nobody can write to the ledger.
    holding = threading.Event()
    holder = locked(database(rig))
    emptied = server.server.record.add_done

    def noted(*what: object) -> None:
        emptied(*what)
        if what == ("invalidate",) and not holding.is_set():
            holding.set()
            holder.__enter__()

    server.server.record.add_done = noted  # type: ignore[method-assign]  # for this test
    ran = rig.process("apply", str(rig.docs), "--auto-approve")
    holder.__exit__(None, None, None)

    assert ran.code == 1, ran.text
    assert done(server) == (1, 0)
    (file,) = (rig.home / "state" / "jtr" / "emergency").iterdir()
    assert str(file) in ran.text
    assert file.stat().st_mode & 0o777 == 0o600
    later = rig.apply()
    assert later.code == 0, later.text
    assert not file.exists()
    assert done(server) == (1, 1)
    assert "done" in rig.plan().text


@pytest.mark.parametrize("how", ["restored", "copied", "lost"])
def test_a_ledger_that_forgot_replays_nothing(rig: Rig, server: StandInThread, how: str) -> None:
    path = database(rig)
    backup = rig.home / "backup.db"
    with sqlite3.connect(path) as source, sqlite3.connect(backup) as target:
        source.backup(target)
    source.close()
    target.close()
    assert rig.apply().code == 0
    assert done(server) == (1, 1)
    files = list(path.parent.glob("ledger.db*"))
    if how == "copied":
        for file in files:
            moved = file.with_name(f"other-{file.name}")
            shutil.copy2(file, moved)
            moved.rename(file)
        wish(rig)  # one that neither copy has handled
    else:
        for file in files:
            file.unlink()
        if how == "restored":
            shutil.copy2(backup, path)
            path.chmod(0o600)
        else:
            rig.begin()

    for _ in range(2):
        ran = rig.apply()
        assert done(server) == (1, 1), ran.text

    if how != "lost":
        assert rig.jtr("ledger", "accept-restore", "--because", "I looked").code == 0
    rig.apply()
    assert done(server) == (1, 1), "what may have been done already was done again"
    wish(rig)
    assert rig.apply("--take-over", SERVER).code == 0
    assert done(server) == (2, 2)


def test_an_instant_before_the_ledger_is_never_run(rig: Rig, server: StandInThread) -> None:
    early = datetime.now(UTC) - timedelta(hours=1)
    rig.document(
        SERVER,
        rotate=False,
        supervised=True,
        reboot={"bootedAfter": spelled(early), "robots": "leave", "reason": "made up"},
    )

    ran = rig.apply()

    assert ran.code == 0, ran.text
    assert "baselined" in ran.text
    assert done(server) == (0, 0)
