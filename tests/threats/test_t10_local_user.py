"""T10: another user of the same machine, and the core that a crash leaves."""

import ctypes
import os
import resource
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from reconciler.bootstrap import load_settings
from tests.support.rig import Rig

ROOT = Path(__file__).parents[2]
OTHER_USER = 54_321
TOKEN = "hvs.ATokenThatNobodyElseMaySee"
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can be another user")

# Prints the names of what it could read.
READER = 'for name; do head -c 1 "$name" >/dev/null 2>&1 && echo "$name"; done; true'


def readable(*names: Path | str) -> list[str]:
    """Return which of these files a process of another user can read."""
    done = subprocess.run(
        ["/bin/sh", "-c", READER, "sh", *map(str, names)],
        user=OTHER_USER,
        group=OTHER_USER,
        extra_groups=[],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
        cwd="/",
    )
    return done.stdout.splitlines()


@pytest.fixture
def place() -> Iterator[Path]:
    """A folder that everybody may enter: what is in it protects itself."""
    with tempfile.TemporaryDirectory(prefix="jtr-threat-") as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


@as_root
def test_t10_another_user_reads_no_file_of_ours(rig: Rig, place: Path) -> None:
    rig.server()
    rig.document("tokyo-1", "bybit")
    where = {"XDG_STATE_HOME": str(place / "state"), "XDG_CONFIG_HOME": str(place / "config")}
    before = os.umask(0)
    try:
        assert rig.jtr("ledger", "init", environment=where).code == 0
        assert rig.apply(environment=where).code == 0
    finally:
        os.umask(before)
    files = [path for path in place.rglob("*") if path.is_file()]
    control = place / "control"
    control.write_text("x")
    control.chmod(0o644)

    assert "ledger.db" in {path.name for path in files}
    assert len(files) >= 3, "the mark of this host and the fingerprint key"
    assert readable(control, *files) == [str(control)]
    assert not [path for path in place.rglob("*") if path != control and path.stat().st_mode & 0o77]


@as_root
@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere nothing prevents it")
def test_t10_no_process_of_the_same_user_looks_into_ours() -> None:
    """Not even one with the same rights: a stranger's program that the operator runs."""
    names = {}
    for how in ("open", "private"):
        with waiting(how) as process:
            inside = [f"/proc/{process}/{name}" for name in ("environ", "maps")]
            names[how] = [Path(name).name for name in readable(*inside)]

    assert names == {"open": ["environ", "maps"], "private": []}


@contextmanager
def waiting(how: str) -> Iterator[int]:
    """Fork a process of the other user that waits; the interpreter may lie where he cannot go."""
    ready, tell = os.pipe()
    process = os.fork()
    if not process:
        os.setgroups([])
        os.setgid(OTHER_USER)
        os.setuid(OTHER_USER)
        ctypes.CDLL(None).prctl(4, 1, 0, 0, 0)  # who changes his user is not dumpable
        if how == "private":
            load_settings(None, {"HOME": "/nonexistent"}, [])
        os.write(tell, b"r")
        signal.pause()
        os._exit(1)
    try:
        assert os.read(ready, 1) == b"r"
        yield process
    finally:
        os.kill(process, signal.SIGKILL)
        os.waitpid(process, 0)
        os.close(ready)
        os.close(tell)


@pytest.fixture
def cores() -> Iterator[None]:
    """Let processes leave cores, if this one may."""
    soft, hard = resource.getrlimit(resource.RLIMIT_CORE)
    most = resource.RLIM_INFINITY if os.geteuid() == 0 else hard
    try:
        resource.setrlimit(resource.RLIMIT_CORE, (most, most))
    except (OSError, ValueError):
        most = hard
    if most == 0:
        pytest.skip("no process leaves a core here")
    yield
    resource.setrlimit(resource.RLIMIT_CORE, (soft, hard))


@pytest.mark.usefixtures("cores")
@pytest.mark.parametrize("how", ["open", "private"])
def test_t10_a_crash_leaves_no_core(how: str, place: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "tests.threats.process", how],
        env={"VAULT_TOKEN": TOKEN, "PYTHONPATH": str(ROOT), "PATH": os.defpath},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=place,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        os.kill(process.pid, signal.SIGABRT)
        _, status = os.waitpid(process.pid, 0)
        process.returncode = -os.WTERMSIG(status)

    if how == "open" and not os.WCOREDUMP(status):
        pytest.skip("this system takes no cores: there is nothing to see")
    assert os.WCOREDUMP(status) == (how == "open")
    assert how == "open" or list(place.iterdir()) == []
