"""A process that may open few files says so before it connects, and asks for more where it can."""

import os
import resource
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.support.rig import Rig

PROGRAM = """
import resource, sys
from reconciler.errors import JtrError
from reconciler.system.descriptors import make_room_for
try:
    make_room_for(int(sys.argv[1]))
except JtrError as error:
    print(error)
print(resource.getrlimit(resource.RLIMIT_NOFILE))
"""


def limited(soft: int, hard: int, *command: str) -> str:
    """Run a program of ours that may have so many files open."""
    return subprocess.run(
        [sys.executable, *command],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard)),
    ).stdout


READING = """
import sys
from reconciler.controller.document_source import Source, take
reading = Source(sys.argv[1:]).read(take(sys.argv[1:]))
print(reading.state, reading.trouble)
"""


def test_a_controller_that_has_too_few_puts_no_document_into_force(rig: Rig) -> None:
    rig.server()
    rig.document()

    said = limited(90, 90, "-c", READING, str(rig.docs))

    assert said.startswith("None 1 connection at once need about 101 open files"), said


@pytest.mark.parametrize(
    ("servers", "said"),
    [
        (20, "(128, 1024)\n"),
        (28, "(128, 1024)\n"),
        (900, "(1000, 1024)\n"),
        (
            1000,
            (
                "1000 connections at once need about 1100 open files, and the limit of this "
                "process is 1024; raise it (ulimit -n 1100; for a service: LimitNOFILE=1100), or "
                "name fewer servers (--selector)\n(1024, 1024)\n"
            ),
        ),
    ],
)
def test_the_limit_is_raised_as_far_as_needed_or_it_is_said(servers: int, said: str) -> None:
    assert limited(128, 1024, "-c", PROGRAM, str(servers)) == said


def test_an_apply_that_has_too_few_contacts_nobody(rig: Rig) -> None:
    server = rig.server()
    rig.document()
    rig.settings()
    rig.begin()

    done = subprocess.run(
        [
            "/bin/sh",
            "-c",
            'ulimit -n 90; exec "$@"',
            "sh",
            sys.executable,
            "-m",
            "reconciler",
            "apply",
            str(rig.docs),
            "--auto-approve",
        ],
        env={"PATH": os.defpath, **rig.environment},
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert done.returncode == 1, done
    assert "1 connection at once need about 101 open files" in done.stderr
    assert not server.record.handshakes


def test_a_plan_lets_go_of_each_server_as_soon_as_it_is_planned(rig: Rig) -> None:
    servers = [rig.server(name) for name in ("a-1", "b-1", "c-1")]
    for name in ("a-1", "b-1", "c-1"):
        rig.document(name)
    rig.settings()
    rig.begin()
    servers[2].behaviour.login_delay = 0.5  # long enough to look at the others

    with ThreadPoolExecutor(1) as pool:
        done = pool.submit(rig.process, "plan", str(rig.docs), "--parallelism", "1")
        while not (servers[2].record.handshakes or done.done()):
            time.sleep(0.01)
        held = [server.connections() for server in servers]
        assert done.result().code in (0, 2), done.result()

    assert held[:2] == [[], []]
