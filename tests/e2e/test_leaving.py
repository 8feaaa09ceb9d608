"""How a command leaves: at once, but not before another thread has done what it has in hand."""

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from reconciler.drivers.jt_trader.requests import START
from reconciler.sandbox.jt_trader.server import Behaviour
from tests.e2e.meanwhile import SAVE, when_asked
from tests.e2e.terminal import Command
from tests.e2e.test_request_ledger import left_stopped
from tests.support.rig import Rig

ROOT = Path(__file__).parents[2]
EXAMPLE = "examples/config.yaml"
JTR = f"{sys.executable} -m reconciler"
NOTES = """
import threading, sys, time
from pathlib import Path
from reconciler.cli import app, main

def note():
    time.sleep(0.5)
    Path(sys.argv[2]).write_text("all of it")

app.run = lambda _: threading.Thread(target=note).start() or 4
main()
"""
FAILS = NOTES.replace("lambda _: ", "lambda _: sys.stdout.write('said') and ")
LEAVES = """
import atexit, sys
from reconciler.cli import app, main

atexit.register(print, "taken down")
app.run = lambda _: sys.stdout.write("said") and 4
main()
"""
OPENS = """
import os; from reconciler.cli import app, main
app.run = lambda _: os.open(os.devnull, os.O_RDONLY)
main()
"""
STARTS = """
import subprocess; from reconciler.cli import app, main
held = [f'test -e /proc/self/fd/{n}' for n in range(3)]
app.run = lambda _: subprocess.run(['sh', '-c', ' && '.join(held)]).returncode
main()
"""


def ran(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command,
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
        env={"PATH": os.defpath},
        timeout=60,
    )


def test_what_another_thread_has_in_hand_is_done(tmp_path: Path) -> None:
    file = tmp_path / "noted"

    assert ran(sys.executable, "-c", NOTES, "plan", str(file)).returncode == 4
    assert file.read_text() == "all of it"


def test_else_it_leaves_at_once_and_all_that_it_said_is_out() -> None:
    done = ran(sys.executable, "-c", LEAVES, "plan")

    assert (done.returncode, done.stdout, done.stderr) == (4, "said", "")


def test_its_code_is_its_own_where_nothing_can_be_said(tmp_path: Path) -> None:
    command = shlex.join([sys.executable, "-c", FAILS, "plan", str(tmp_path / "noted")])
    done = ran("bash", "-c", f"{command} >/dev/full")

    assert (done.returncode, done.stderr) == (4, "")


@pytest.mark.parametrize("closed", ["0<&-", "1>&-", "2>&-", "0<&- 1>&- 2>&-"])
@pytest.mark.parametrize(
    ("words", "code"),
    [
        ("--version", 0),
        (f"validate {EXAMPLE}", 0),
        ("validate nothing-here.yaml", 64),
        ("explain in-doubt", 0),
        ("init", 64),  # has questions, and nobody to ask
    ],
)
def test_streams_that_were_closed_before_it_began(words: str, code: int, closed: str) -> None:
    done = ran("bash", "-c", f"{JTR} {words} {closed}")

    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    assert "internal error" not in done.stderr


def test_no_file_takes_the_place_of_a_closed_stream() -> None:
    done = ran("bash", "-c", f'{sys.executable} -c "{OPENS}" plan 0<&- 1>&- 2>&-')

    assert done.returncode > 2, "its exit code is the first descriptor that is free"


def test_nor_does_one_of_a_program_that_we_start() -> None:
    done = ran("bash", "-c", f'{sys.executable} -c "{STARTS}" plan 0<&- 1>&- 2>&-')

    assert done.returncode == 0


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (f"validate {EXAMPLE} >/dev/full", 1),
        ("--version >/dev/full", 1),
        ("schema >/dev/full", 1),
        ("explain in-doubt >/dev/full 2>/dev/full", 1),
        (f"validate {EXAMPLE} 2>/dev/full", 0),
        ("validate nothing-here.yaml 2>/dev/full", 64),
        ("validate nothing-here.yaml >/dev/full 2>/dev/full", 64),
    ],
)
def test_a_full_disk_where_it_prints(words: str, code: int) -> None:
    done = ran("bash", "-c", f"{JTR} {words}")

    said = "jtr: what there is to say could not be written: No space left on device\n"
    assert done.returncode == code, done.stderr
    assert done.stderr.startswith(said) is ("2>" not in words), done.stderr


@pytest.mark.fatal_paths(1)
@pytest.mark.parametrize("environment", [{}, {"FORCE_COLOR": "1"}], ids=["plain", "coloured"])
def test_harm_is_told_without_a_terminal(rig: Rig, environment: dict[str, str]) -> None:
    server = rig.server(behaviour=Behaviour(save="fatal"))
    rig.document()
    rig.begin()

    args = ("apply", str(rig.docs), "--auto-approve")
    with (
        Command(rig, *args, terminal=True, environment=environment) as command,
        when_asked(server, SAVE, command.lose_terminal),
    ):
        ended = command.ended()

    assert ended == 8


def test_harm_by_a_start_is_told_without_a_terminal(rig: Rig) -> None:
    server = left_stopped(rig)

    def gone() -> None:
        command.lose_terminal()
        for robot in (1, 3):
            server.set_running(robot, False)

    args = ("request", "resume", "tokyo-1", "--from", str(rig.docs), "--auto-approve")
    with Command(rig, *args, terminal=True) as command, when_asked(server, START.event, gone):
        ended = command.ended()

    assert ended == 8


def test_without_its_terminal_it_does_all_of_its_work(rig: Rig) -> None:
    one, two = rig.server("tokyo-1"), rig.server("tokyo-2")
    rig.document("tokyo-1", "bybit", "okx")
    rig.document("tokyo-2")
    rig.begin()

    args = ("apply", str(rig.docs), "--auto-approve")
    with (
        Command(rig, *args, terminal=True) as command,
        when_asked(one, SAVE, command.lose_terminal, two),
    ):
        ended = command.ended()
    told = rig.jtr("history", "-o", "json").out

    assert ended == 1, "what it did could not be printed"
    assert one.record.saves + two.record.saves == 3
    assert told.count('"result": "done"') == 3


def test_nobody_reads_what_is_valid() -> None:
    done = ran("bash", "-c", f"set -o pipefail; {{ sleep 0.2; {JTR} validate {EXAMPLE}; }} | true")

    assert (done.returncode, done.stderr) == (1, "")
